//! An agent and FRR with a VM each behind GoBGP, traffic between the VMs, and everybody who would notice.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Daemon, Frr, GoBgpOptions, Host, Iperf, IperfStream, Lab, LinuxBd, Pair,
    Ping, Pinging, RouteReflector, Vm, VmSpec, Witness, agent_binary, eventually,
    next_agent_binary,
};

const ASN: u32 = Pair::ASN;
const VNI: u32 = 100;
/// A loaded machine needs time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two echo requests.
pub(crate) const INTERVAL: Duration = Duration::from_millis(1);
/// Longer than any test takes: the streams end with it.
const LONG: u32 = 7200;
/// Counters of TCP that are looked at: retransmission timeouts (RFC 6298), and what is no loss of the
/// network's but printed.
const TIMEOUTS: &str = "TCPTimeouts";
const PROBES: &str = "TCPLossProbes";

/// Which agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one under test.
    This,
    /// The one with other tables.
    Next,
}

/// How an agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGKILL.
    Killed,
    /// SIGTERM, with `on_stop = "keep"`.
    Stopped,
}

pub(crate) struct Fabric {
    // Dropped in this order: agents before what they are attached to.
    pub(crate) agent: Agent,
    frr: Frr,
    reflector: RouteReflector,
    witness: Witness,
    vms: [Vm; 2],
    hosts: [Host; 2],
    config: AgentConfig,
    _bd: LinuxBd,
    pub(crate) lab: Lab,
}

/// Traffic between the VMs, and ears at FRR's kernel.
pub(crate) struct Traffic {
    pings: Vec<Pinging>,
    streams: IperfStream,
    /// By VM: timeouts and probes before.
    before: [[u64; 2]; 2],
    /// What FRR's kernel is told of MACs and of addresses.
    monitors: [Daemon; 2],
}

impl Version {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::This => Self::Next,
            Self::Next => Self::This,
        }
    }

    pub(crate) fn binary(self) -> Result<PathBuf> {
        match self {
            Self::This => agent_binary(),
            Self::Next => next_agent_binary(),
        }
    }
}

impl Fabric {
    /// Everybody knows everybody.
    pub(crate) fn start(name: &str) -> Result<Self> {
        // First of all, since it is the one that may be missing.
        Version::Next.binary()?;
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let hosts = [underlay.host("h1")?, underlay.host("h2")?];
        let [rr, listener] = [underlay.host("rr")?, underlay.host("witness")?];
        let vms = [
            hosts[0].vm("vm1", &VmSpec::new(1))?,
            hosts[1].vm("vm2", &VmSpec::new(2))?,
        ];
        let bd = LinuxBd::create(&hosts[1], VNI)?;
        bd.plug(&vms[1])?;
        let clients = [&hosts[0], &hosts[1], &listener].map(Host::address);
        let options = GoBgpOptions {
            graceful_restart: true,
            ..GoBgpOptions::default()
        };
        let reflector = RouteReflector::start_with(&rr, ASN, &clients, options)?;
        let frr = Frr::start(&hosts[1], ASN, &[(rr.address(), ASN)])?;
        let config = AgentConfig::new(&hosts[0], ASN)
            .vtep("on_stop = \"keep\"")
            // GoBGP 3.10 drops routes with the community of RFC 9047.
            .bgp("arp_nd_flags = false")
            .peer(rr.address(), ASN)
            .bd("blue", VNI, &["vnet-*"]);
        let fabric = Self {
            agent: Agent::start(&hosts[0], &config)?,
            witness: Witness::start(&listener, rr.address(), ASN)?,
            frr,
            reflector,
            vms,
            hosts,
            config,
            _bd: bd,
            lab,
        };
        fabric.frr.wait_established(rr.address())?;
        fabric.agent.wait_established()?;
        for (vm, to) in [(0, "10.0.0.2"), (1, "10.0.0.1"), (1, "fd00::1")] {
            Ping::to(to).until_answered(fabric.vms[vm].ns())?;
        }
        fabric.wait_known()?;
        Ok(fabric)
    }

    /// What goes on from now on, until [`Fabric::finish`].
    pub(crate) fn traffic(&self) -> Result<Traffic> {
        let [vm1, vm2] = [self.vms[0].ns(), self.vms[1].ns()];
        let kernel = self.hosts[1].ns();
        let monitor = |program: &str, name: &str| {
            let mut command = kernel.command(program);
            command.args(["monitor", name]);
            Daemon::spawn(&self.lab, &format!("monitor-{name}"), command)
        };
        Ok(Traffic {
            monitors: [monitor("bridge", "fdb")?, monitor("ip", "neigh")?],
            before: [counters(&self.vms[0])?, counters(&self.vms[1])?],
            pings: vec![
                Ping::to("10.0.0.2").start(&self.lab, vm1, INTERVAL)?,
                Ping::to("10.0.0.1").start(&self.lab, vm2, INTERVAL)?,
            ],
            streams: Iperf::both_ways(LONG, &self.lab, vm1, vm2, "10.0.0.2")?,
        })
    }

    /// The agent ends.
    pub(crate) fn end(&mut self, end: End) -> Result<()> {
        match end {
            End::Killed => self.agent.daemon().kill(),
            End::Stopped => {
                let status = self.agent.stop()?;
                ensure!(status.success(), "{status}");
                Ok(())
            }
        }
    }

    /// An agent of this version takes its place; how long it took until all was as before.
    pub(crate) fn begin(&mut self, version: Version) -> Result<Duration> {
        self.begin_with(&self.config_of(version)?)
    }

    /// As above, with any configuration.
    pub(crate) fn begin_with(&mut self, config: &AgentConfig) -> Result<Duration> {
        let begun = Instant::now();
        self.agent = Agent::start(&self.hosts[0], config)?;
        self.wait_known()?;
        self.wait_alone()?;
        Ok(begun.elapsed())
    }

    /// The configuration, to be run by an agent of this version.
    pub(crate) fn config_of(&self, version: Version) -> Result<AgentConfig> {
        Ok(self.config.clone().binary(&version.binary()?))
    }

    /// Each end knows the other one's VM, by its addresses too.
    pub(crate) fn wait_known(&self) -> Result<()> {
        let [h1, h2] = &self.hosts;
        let [vm1, vm2] = &self.vms;
        eventually(PATIENCE, || {
            let status = self.agent.show("status")?;
            ensure!(status["ready"] == true, "{status}");
            let vtep = json!(h2.address().to_string());
            let mac = [("mac", json!(vm2.mac())), ("vtep", vtep.clone())];
            self.agent.row("macs", &mac)?;
            let flood = self.agent.row("flood", &[("bd", json!("blue"))])?;
            ensure!(flood["vteps"][0]["address"] == vtep, "{flood}");
            let entry = self.frr.mac(VNI, vm1.mac())?;
            ensure!(
                entry["remoteVtep"] == json!(h1.address().to_string()),
                "{entry}"
            );
            for address in ["10.0.0.1", "fd00::1"] {
                let entry = self.frr.neighbor(VNI, address)?;
                ensure!(entry["mac"] == json!(vm1.mac()), "{entry}");
            }
            self.stale().and_then(|stale| {
                ensure!(stale == 0, "{stale} stale paths");
                Ok(())
            })
        })
    }

    /// Nothing is left of another version's datapath, nor of maps that were to be.
    fn wait_alone(&self) -> Result<()> {
        eventually(PATIENCE, || {
            let versions = self.versions()?;
            ensure!(versions.len() == 1, "{versions:?}");
            for version in versions {
                let next = self.pins().join(version).join("next");
                ensure!(!next.exists(), "{} is there", next.display());
            }
            Ok(())
        })
    }

    /// Paths that the reflector keeps for somebody who is away.
    pub(crate) fn stale(&self) -> Result<usize> {
        let rib = self.reflector.gobgp("global rib -a evpn")?;
        let prefixes = rib.as_object().into_iter().flat_map(|rib| rib.values());
        let paths = prefixes.filter_map(|prefix| prefix.as_array()).flatten();
        Ok(paths.filter(|path| path["stale"] == true).count())
    }

    /// The reflector has told its clients of no withdrawal by our agent.
    pub(crate) fn check_not_withdrawn(&mut self) -> Result<()> {
        let withdrawn = self.witness.withdrawn_by(self.hosts[0].address())?;
        ensure!(withdrawn.is_empty(), "withdrawn: {withdrawn:02x?}");
        Ok(())
    }

    /// Nothing was lost, and FRR's kernel was never told to forget us: figures.
    pub(crate) fn finish(&self, traffic: Traffic) -> Result<String> {
        let Traffic {
            pings,
            streams,
            before,
            monitors,
        } = traffic;
        let mut figures = String::new();
        for pinging in pings {
            writeln!(figures, "{:?}", pinging.all_answered()?)?;
        }
        let streams = streams.stop()?;
        writeln!(figures, "{streams:?}")?;
        for (vm, before) in self.vms.iter().zip(before) {
            let after = counters(vm)?;
            let [timeouts, probes] = [after[0] - before[0], after[1] - before[1]];
            writeln!(
                figures,
                "{}: {timeouts} timeouts, {probes} probes",
                vm.name()
            )?;
            ensure!(timeouts == 0, "{}: {timeouts} timeouts", vm.name());
        }
        ensure!(
            streams.iter().all(|way| way.bits_per_second > 1e6),
            "{streams:?}"
        );
        let (mac, vtep) = (self.vms[0].mac(), self.hosts[0].address().to_string());
        for mut monitor in monitors {
            monitor.check()?;
            let log = monitor.log();
            let of_ours = |line: &&str| line.contains(mac) || line.contains(&vtep);
            let deleted: Vec<_> = log
                .lines()
                .filter(|line| line.starts_with("Deleted "))
                .filter(of_ours)
                .collect();
            ensure!(deleted.is_empty(), "FRR removed {deleted:?}");
        }
        Ok(figures)
    }

    /// What the agent found of the one before it.
    pub(crate) fn found(&mut self) -> Result<String> {
        let log = self.agent.daemon().log();
        let line = log
            .lines()
            .rfind(|line| line.contains("an earlier run's programs"))
            .context("nothing was found of the earlier run")?;
        Ok(line.to_owned())
    }

    /// Programs on the devices of our host.
    pub(crate) fn attached(&self) -> Result<String> {
        self.hosts[0].ns().attached()
    }

    /// Where the agent's pins are.
    pub(crate) fn pins(&self) -> PathBuf {
        self.lab.bpffs().join(self.hosts[0].name())
    }

    /// Versions of tables that are pinned.
    pub(crate) fn versions(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.pins())?.collect::<Result<Vec<_>, _>>()?;
        let names = entries.iter().map(|entry| entry.file_name());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    /// The VM behind the agent.
    pub(crate) fn vm(&self) -> &Vm {
        &self.vms[0]
    }

    /// The agent's host.
    pub(crate) fn host(&self) -> &Host {
        &self.hosts[0]
    }
}

fn counters(vm: &Vm) -> Result<[u64; 2]> {
    Ok([vm.ns().tcp_counter(TIMEOUTS)?, vm.ns().tcp_counter(PROBES)?])
}
