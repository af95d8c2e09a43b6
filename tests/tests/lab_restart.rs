//! Restart, crash and upgrade of an agent under traffic: no frame is lost, and nobody is forgotten
//! (RFC 4724 §4.1).

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_common::abi::ABI_VERSION;
use vtep_tests::{
    Agent, AgentConfig, Iperf, IperfStream, Lab, PacketSocket, Pair, Ping, Pinging, Underlay, Vm,
    VmSpec, eventually, wait_flood,
};

/// Between two echo requests.
const INTERVAL: Duration = Duration::from_millis(5);
/// Retransmission timeouts of TCP (RFC 6298).
const TIMEOUTS: &str = "TCPTimeouts";

/// Two agents that keep their datapath, a VM that has spoken once, and traffic both ways.
struct Traffic {
    pings: Vec<Pinging>,
    streams: IperfStream,
    timeouts: [u64; 2],
    pair: Pair,
    quiet: Vm,
}

/// What the peer has to know of the silent VM, whatever becomes of the agent that it is behind.
const QUIET: (&str, &str) = ("02:00:00:00:00:33", "10.0.0.51");

impl Traffic {
    fn start(
        lab: &Lab,
        underlay: &Underlay,
        seconds: u32,
        adjust: impl Fn(AgentConfig) -> AgentConfig,
    ) -> Result<Self> {
        let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
        let vms = [
            h1.vm("vm1", &VmSpec::new(1))?,
            h2.vm("vm2", &VmSpec::new(2))?,
        ];
        let quiet = h1.vm("quiet", &VmSpec::new(0x33).silent())?;
        let pair = Pair::join(lab, [h1, h2], vms, |config| {
            adjust(config.vtep("on_stop = \"keep\""))
        })?;
        wait_flood(&pair.a1, "blue", 1)?;
        wait_flood(&pair.a2, "blue", 1)?;
        // A gratuitous ARP request (RFC 5227 §3), and never a word again.
        let (mac, ip) = ([2, 0, 0, 0, 0, 0x33], [10, 0, 0, 51]);
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        let arp = [
            &[0xff; 6][..],
            &mac,
            &[8, 6],
            &head,
            &mac,
            &ip,
            &[0; 6],
            &ip,
            &[0; 18],
        ]
        .concat();
        PacketSocket::open(quiet.ns(), Vm::NIC)?.send(&arp)?;
        knows_quiet(&pair.a2)?;
        let (vm1, vm2) = (pair.vm1.ns(), pair.vm2.ns());
        Ping::to("10.0.0.2").until_answered(vm1)?;
        Ping::to("fd00::1").until_answered(vm2)?;
        let timeouts = [vm1.tcp_counter(TIMEOUTS)?, vm2.tcp_counter(TIMEOUTS)?];
        let pings = vec![
            Ping::to("10.0.0.2").start(lab, vm1, INTERVAL)?,
            Ping::to("10.0.0.1").start(lab, vm2, INTERVAL)?,
            Ping::to("fd00::2").start(lab, vm1, INTERVAL)?,
        ];
        let streams = Iperf::both_ways(seconds, lab, vm1, vm2, "10.0.0.2")?;
        Ok(Self {
            pings,
            streams,
            timeouts,
            pair,
            quiet,
        })
    }

    /// The agent is back: established, settled, and all that it had is known to the other one.
    fn wait_back(&self) -> Result<()> {
        self.pair.a1.wait_established()?;
        wait_flood(&self.pair.a1, "blue", 1)?;
        wait_flood(&self.pair.a2, "blue", 1)?;
        self.wait_announced()?;
        knows_quiet(&self.pair.a2)
    }

    /// Each agent knows the other one's MACs.
    fn wait_announced(&self) -> Result<()> {
        announces_quiet(&self.pair.a2)?;
        let mac = [
            ("mac", json!("02:00:00:00:00:02")),
            ("origin", json!("remote")),
        ];
        self.pair.a1.wait_row("macs", &mac)?;
        Ok(())
    }

    /// Nothing was lost; what was sent.
    fn finish(self) -> Result<String> {
        let mut figures = String::new();
        for pinging in self.pings {
            writeln!(figures, "{:?}", pinging.all_answered()?)?;
        }
        let streams = self.streams.finish()?;
        writeln!(figures, "{streams:?}")?;
        println!("{figures}");
        for (vm, before) in [&self.pair.vm1, &self.pair.vm2].iter().zip(self.timeouts) {
            let after = vm.ns().tcp_counter(TIMEOUTS)?;
            ensure!(
                after == before,
                "{}: {} timeouts",
                vm.name(),
                after - before
            );
        }
        ensure!(
            streams.iter().all(|way| way.bits_per_second > 1e6),
            "{streams:?}"
        );
        // It has been silent all the time, and can be reached.
        self.quiet
            .ns()
            .ip(&format!("addr add {}/24 dev {}\n", QUIET.1, Vm::NIC))?;
        Ping::to(QUIET.1)
            .count(3)
            .all_answered(self.pair.vm2.ns())?;
        Ok(figures)
    }
}

/// The silent VM is announced, with the sequence number that it has always had.
fn announces_quiet(agent: &Agent) -> Result<()> {
    let at = [("mac", json!(QUIET.0)), ("origin", json!("remote"))];
    eventually(Duration::from_secs(60), || {
        let row = agent.row("macs", &at)?;
        ensure!(row["seq"] == 0, "{row}");
        Ok(())
    })
}

/// As above, with its address.
fn knows_quiet(agent: &Agent) -> Result<()> {
    announces_quiet(agent)?;
    let at = [("ip", json!(QUIET.1)), ("mac", json!(QUIET.0))];
    eventually(Duration::from_secs(60), || {
        agent.row("neighbors", &at).map(drop)
    })
}

/// What it was like, in figures.
fn crashes(name: &str, times: u32, xdp: &str) -> Result<String> {
    let lab = Lab::new(name)?;
    let underlay = lab.underlay()?;
    let xdp = format!("xdp = \"{xdp}\"");
    let mut traffic = Traffic::start(&lab, &underlay, 10 + 6 * times, |config| config.vtep(&xdp))?;
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        traffic.pair.a1.daemon().kill()?;
        sleep(Duration::from_millis(300));
        let start = Instant::now();
        traffic.pair.restart_a1()?;
        traffic.wait_back()?;
        slowest = slowest.max(start.elapsed());
    }
    // An orderly end is no different.
    let status = traffic.pair.a1.stop()?;
    ensure!(status.success(), "{status}");
    sleep(Duration::from_millis(300));
    traffic.pair.restart_a1()?;
    traffic.wait_back()?;
    let figures = traffic.finish()?;
    Ok(format!(
        "{times} crashes; after each all was known again within {slowest:.1?}\n{figures}"
    ))
}

/// GR-006 (RFC 4724 §4.1).
#[test]
fn gr_006_crashes_lose_no_frame() -> Result<()> {
    crashes("crash", 5, "auto").map(drop)
}

/// GR-006, with everything in TC and inner TCP through the vxlan device.
#[test]
fn gr_006_crashes_lose_no_frame_without_xdp() -> Result<()> {
    crashes("crash-tc", 2, "off").map(drop)
}

/// A panic is said in the log, and is otherwise as a crash.
#[test]
fn a_panic_loses_no_frame() -> Result<()> {
    let lab = Lab::new("panic")?;
    let underlay = lab.underlay()?;
    let mut traffic = Traffic::start(&lab, &underlay, 20, |config| config)?;
    // In builds like the one under test, which have this for the purpose.
    traffic.pair.a1.daemon().signal(libc::SIGUSR2)?;
    let status = traffic.pair.a1.daemon().wait(Duration::from_secs(30))?;
    let log = traffic.pair.a1.daemon().log();
    ensure!(status.and_then(|status| status.code()) == Some(1), "{log}");
    for expected in [
        "SIGUSR2 asks for a panic",
        "the agent ends, and forwarding goes on",
    ] {
        ensure!(log.contains(expected), "not {expected:?}: {log}");
    }
    traffic.pair.restart_a1()?;
    traffic.wait_back()?;
    traffic.finish().map(drop)
}

/// GR-006, for longer than a test run has time.
#[test]
#[ignore = "takes many minutes: cargo xtask chaos"]
fn gr_006_fifty_crashes_lose_no_frame() -> Result<()> {
    let figures = crashes("crash-50", 50, "auto")?;
    // Not captured: the figures are shown without the logs, of which there are many.
    io::stderr().write_all(figures.as_bytes())?;
    Ok(())
}

/// What is as it was is not written again: the first round of a new agent is a difference.
#[test]
fn the_first_round_is_a_difference() -> Result<()> {
    let lab = Lab::new("adopt")?;
    let underlay = lab.underlay()?;
    let mut traffic = Traffic::start(&lab, &underlay, 20, |config| config)?;
    // Two ports and a VTEP; parts that earlier lists were in have been given back.
    eventually(Duration::from_secs(30), || {
        let metrics = traffic.pair.a1.metrics()?;
        let members = metrics.value("vtep_map_entries", &["map=\"flood\""])?;
        ensure!(members == 3.0, "{members} members");
        Ok(())
    })?;
    traffic.pair.a1.daemon().kill()?;
    traffic.pair.restart_a1()?;
    traffic.wait_back()?;
    let metrics = traffic.pair.a1.metrics()?;
    for op in ["update", "delete"] {
        let count = metrics.value(
            "vtep_reconcile_operations_total",
            &[&format!("op=\"{op}\"")],
        )?;
        ensure!(count <= 2.0, "{count} × {op}");
    }
    traffic.finish().map(drop)
}

/// Another size of the tables: new ones are filled beside the old ones.
#[test]
fn another_size_of_the_tables_loses_no_frame() -> Result<()> {
    let lab = Lab::new("resize")?;
    let underlay = lab.underlay()?;
    let mut traffic = Traffic::start(&lab, &underlay, 20, |config| config)?;
    traffic.pair.a1.daemon().kill()?;
    let config = traffic.pair.config1().vtep("max_macs = 5000");
    traffic.pair.a1 = Agent::start(&traffic.pair.h1, &config)?;
    traffic.wait_back()?;
    traffic.finish().map(drop)
}

/// Pins of another version of the tables' layout: the old programs forward until peers have sent
/// everything. MACs come back at once, their addresses with the next ARP.
#[test]
fn an_upgrade_to_another_layout_loses_no_frame() -> Result<()> {
    let lab = Lab::new("upgrade")?;
    let underlay = lab.underlay()?;
    let mut traffic = Traffic::start(&lab, &underlay, 25, |config| config)?;
    traffic.pair.a1.daemon().kill()?;
    let pins = lab.bpffs().join("h1");
    fs::rename(pins.join(format!("v{ABI_VERSION}")), pins.join("v0"))?;
    traffic.pair.restart_a1()?;
    traffic.wait_announced()?;
    eventually(Duration::from_secs(60), || {
        ensure!(!pins.join("v0").exists(), "the old datapath is still there");
        Ok(())
    })?;
    traffic.finish().map(drop)
}

/// To the binary of another version, with programs and maybe tables of its own, and back: each takes
/// over what the other one left.
#[test]
#[ignore = "needs a binary of another version in VTEP_OTHER_AGENT: cargo xtask chaos"]
fn versions_take_over_from_each_other() -> Result<()> {
    let other = env::var_os("VTEP_OTHER_AGENT").context("VTEP_OTHER_AGENT is not set")?;
    let lab = Lab::new("versions")?;
    let underlay = lab.underlay()?;
    let mut traffic = Traffic::start(&lab, &underlay, 45, |config| config)?;
    let config = traffic.pair.config1();
    for config in [config.clone().binary(Path::new(&other)), config] {
        traffic.pair.a1.daemon().kill()?;
        traffic.pair.a1 = Agent::start(&traffic.pair.h1, &config)?;
        traffic.pair.a1.wait_established()?;
        traffic.wait_announced()?;
        let log = traffic.pair.a1.daemon().log();
        let found = log
            .lines()
            .rfind(|line| line.contains("an earlier run's programs"));
        println!("{}", found.context("nothing was found of the earlier run")?);
    }
    traffic.finish().map(drop)
}

/// An agent that cannot start leaves the datapath alone.
#[test]
fn a_failed_start_changes_nothing() -> Result<()> {
    let lab = Lab::new("failed")?;
    let underlay = lab.underlay()?;
    let mut traffic = Traffic::start(&lab, &underlay, 20, |config| config)?;
    traffic.pair.a1.daemon().kill()?;
    let programs = || traffic.pair.h1.ns().run("bpftool --json net show");
    let before = programs()?;
    let broken = [
        traffic.pair.config1().vtep("address = \"198.18.0.77\""),
        // Somebody else has the address.
        traffic
            .pair
            .config1()
            .vtep("metrics = \"203.0.113.1:9473\""),
        traffic
            .pair
            .config1()
            .vtep("max_macs = 5000")
            .vtep("metrics = \"203.0.113.1:9473\""),
    ];
    for config in broken {
        ensure!(Agent::start(&traffic.pair.h1, &config).is_err());
        let after = programs()?;
        ensure!(after == before, "before: {before}\nafter: {after}");
        ensure!(
            !lab.bpffs().join(format!("h1/v{ABI_VERSION}/next")).exists(),
            "new maps are left"
        );
    }
    traffic.pair.restart_a1()?;
    traffic.wait_back()?;
    traffic.finish().map(drop)
}

/// A second agent on one pin directory, or on one uplink, says whom it found.
#[test]
fn a_second_agent_refuses() -> Result<()> {
    let lab = Lab::new("second")?;
    let underlay = lab.underlay()?;
    let host = underlay.host("h1")?;
    let config = AgentConfig::new(&host, Pair::ASN).bd("blue", 100, &["vnet-*"]);
    let mut first = Agent::start(&host, &config)?;
    let pid = first.daemon().pid();
    let other = lab.bpffs().join("other");
    for (config, expected) in [
        (
            config.clone(),
            format!("another agent (process {pid}) runs with pin_dir"),
        ),
        (
            config
                .clone()
                .vtep(&format!("pin_dir = \"{}\"", other.display())),
            format!("another agent (process {pid}) has the uplink eth0"),
        ),
    ] {
        let mut second = Agent::spawn(&host, &config)?;
        let status = second.daemon().wait(Duration::from_secs(30))?;
        let log = second.daemon().log();
        ensure!(
            status.is_some_and(|status| status.code() == Some(1)),
            "{status:?}"
        );
        ensure!(log.contains(&expected), "not {expected:?}: {log}");
        first.daemon().check()?;
    }
    first.show("bgp").map(drop)
}
