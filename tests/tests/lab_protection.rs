//! What a VM must not do to others.

use std::{
    fs,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use vtep_tests::{Capture, Lab, PacketSocket, Ping, Vm, VmSpec, eventually, mesh};

/// Share of a core that an agent may take during a storm: a tenth. Without optimization it is no figure,
/// only far from what an agent takes that hears of every request.
const LIMIT: f64 = if cfg!(debug_assertions) { 0.5 } else { 0.1 };
/// How long a storm lasts.
const STORM: Duration = Duration::from_secs(5);

/// An ARP request in a frame of its own.
fn arp(source: [u8; 6], sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(source);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(sender.0);
    frame.extend(sender.1.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// The only endpoint of a port is declared and not declared any more, again and again while its VM
/// talks: at no moment is the port judged by endpoints that are not there yet, or not any more, nor is
/// it full when nobody is behind it.
#[test]
fn a_declaration_that_comes_and_goes_costs_nothing() -> Result<()> {
    let lab = Lab::new("declared")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    let vm1 = hosts[0].vm("vm1", &VmSpec::new(1))?;
    let _vm2 = hosts[1].vm("vm2", &VmSpec::new(2))?;
    let agents = mesh(&hosts, "max_macs_per_port = 1", |config| config)?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    let socket = PacketSocket::open(vm1.ns(), "eth0")?;
    // Of an EtherType for experiments (IEEE 802): nothing but its source is judged.
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(60, 0);
    let frames = vec![frame; 64];
    let endpoint = "vnet-vm1 --mac 02:00:00:00:00:01";
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let talk = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                socket.send_all(&frames)?;
            }
            anyhow::Ok(())
        });
        let cycles = (0..30).try_for_each(|_| {
            let addresses = "--ip 10.0.0.1 --ip fd00::1";
            agents[0]
                .cli(&format!("port add {endpoint} --bd blue {addresses}"))?
                .done()?;
            agents[0]
                .cli(&format!("port del {endpoint}"))?
                .done()
                .map(drop)
        });
        done.store(true, Ordering::Relaxed);
        talk.join().map_err(|_| anyhow!("the sender died"))??;
        cycles
    })?;
    let drops = agents[0].show("counters")?["drops"].clone();
    for reason in [
        "source_spoofed",
        "ip_spoofed",
        "arp_spoofed",
        "nd_spoofed",
        "mac_limit",
    ] {
        ensure!(drops[reason].as_u64().unwrap_or(0) == 0, "{drops}");
    }
    Ok(())
}

/// RFC 7432 §15.2 and RFC 9161 §7: a VM whose endpoints are declared can be nobody else, neither
/// towards another VM of its host nor across the underlay; what it may send goes on.
#[test]
fn declared_endpoints_are_a_source_filter() -> Result<()> {
    let lab = Lab::new("filter")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    let vm1 = hosts[0].vm("vm1", &VmSpec::new(1))?;
    let vm2 = hosts[1].vm("vm2", &VmSpec::new(2))?;
    let agents = mesh(&hosts, "", |config| config)?;
    let port = |filter: bool| {
        agents[0].wait_row(
            "ports",
            &[
                ("name", json!("vnet-vm1")),
                ("source_filter", json!(filter)),
            ],
        )
    };
    port(false)?;
    agents[0]
        .cli("port add vnet-vm1 --bd blue --mac 02:00:00:00:00:01 --ip 10.0.0.1 --ip fd00::1")?;
    port(true)?;
    for target in ["10.0.0.2", "fd00::2"] {
        Ping::to(target).until_answered(vm1.ns())?;
    }

    // Whatever arrives at the other VM in somebody else's name.
    let capture = Capture::start_received(
        &lab,
        vm2.ns(),
        "eth0",
        "ether src 02:00:00:00:00:99 or (arp and arp[14:4] = 0x0a000063)",
    )?;
    let socket = PacketSocket::open(vm1.ns(), "eth0")?;
    let (own, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0x99]);
    let (ip1, ip2) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let stolen = Ipv4Addr::new(10, 0, 0, 0x63);
    for _ in 0..10 {
        socket.send(&arp(other, (other, ip1), ip2))?;
        socket.send(&arp(own, (own, stolen), ip2))?;
        socket.send(&arp(own, (other, ip1), ip2))?;
    }
    eventually(Duration::from_secs(60), || {
        let drops = agents[0].show("counters")?;
        let count = |reason: &str| drops["drops"][reason].as_u64().unwrap_or(0);
        ensure!(
            count("source_spoofed") >= 10 && count("arp_spoofed") >= 20,
            "{drops}"
        );
        Ok(())
    })?;
    // Behind those, in order, what may pass.
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    let strange = capture.stop()?;
    ensure!(strange.is_empty(), "{} frames got through", strange.len());
    for agent in &agents {
        let known = agent.show("macs")?.to_string();
        ensure!(!known.contains("02:00:00:00:00:99"), "{known}");
    }

    // Not declared any more: as free as any other port.
    agents[0].cli("port del vnet-vm1 --mac 02:00:00:00:00:01")?;
    port(false)?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    socket.send(&arp(other, (other, ip1), ip2))?;
    agents[1].wait_row("macs", &[("mac", json!("02:00:00:00:00:99"))])?;
    Ok(())
}

/// A storm of ARP requests from one VM, each with another sender and target.
struct Storm {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<u64>>,
    since: Instant,
}

impl Storm {
    /// Requests per second that are to be sent.
    const RATE: u64 = 100_000;
    /// Requests that are sent at once.
    const BATCH: u64 = 64;

    fn start(vm: &Vm) -> Result<Self> {
        let socket = PacketSocket::open(vm.ns(), Vm::NIC)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, since) = (Arc::clone(&stop), Instant::now());
        let thread = thread::spawn(move || {
            let mac = [2, 0, 0, 0, 0, 1];
            let mut sent: u64 = 0;
            while !flag.load(Ordering::Relaxed) {
                let due = u64::try_from(since.elapsed().as_micros())? * Self::RATE / 1_000_000;
                if sent >= due {
                    thread::sleep(Duration::from_micros(200));
                }
                while sent < due {
                    let batch = sent..due.min(sent + Self::BATCH);
                    let request = |number: u64| {
                        let [.., a, b, c] = number.to_be_bytes();
                        let sender = Ipv4Addr::new(10, 1, b, c);
                        arp(mac, (mac, sender), Ipv4Addr::new(11, a, b, c))
                    };
                    sent = batch.end;
                    socket.send_all(&batch.map(request).collect::<Vec<_>>())?;
                }
            }
            Ok(sent)
        });
        Ok(Self {
            stop,
            thread,
            since,
        })
    }

    /// Ends it. Requests per second that were sent.
    fn stop(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self
            .thread
            .join()
            .map_err(|_| anyhow!("the sender died"))??;
        Ok(sent as f64 / self.since.elapsed().as_secs_f64())
    }
}

/// Processor time of a process, all threads.
fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no command in stat")?;
    let fields = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields
        .map(|field| field.parse::<u64>())
        .sum::<Result<_, _>>()?;
    // USER_HZ, which is 100 on every architecture that we build for.
    Ok(Duration::from_millis(ticks * 10))
}

/// What a storm of `seconds` from `from` does to pings between two others: the share that was lost.
fn lost(lab: &Lab, from: &Vm, pinger: &Vm, target: &str) -> Result<(f64, f64)> {
    Ping::to(target).until_answered(pinger.ns())?;
    let pings = Ping::to(target).start(lab, pinger.ns(), Duration::from_millis(5))?;
    let storm = Storm::start(from)?;
    thread::sleep(STORM);
    let rate = storm.stop()?;
    // An answer behind the storm: what was lost before counts.
    Ping::to(target).until_answered(pinger.ns())?;
    thread::sleep(Duration::from_millis(100));
    let pings = pings.stop()?;
    let lost = f64::from(pings.sent - pings.received) / f64::from(pings.sent.max(1));
    Ok((rate, lost))
}

/// An ARP storm of one VM: the agent stays under a tenth of a core (optimized), what it does not hear of is
/// counted, and the other VMs lose no more pings than behind the kernel's bridge in the same run.
#[test]
fn an_arp_storm_of_one_vm() -> Result<()> {
    let lab = Lab::new("storm")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    let vm1 = hosts[0].vm("vm1", &VmSpec::new(1))?;
    let vm2 = hosts[0].vm("vm2", &VmSpec::new(2))?;
    let _vm3 = hosts[0].vm("vm3", &VmSpec::new(3))?;
    let _vm4 = hosts[1].vm("vm4", &VmSpec::new(4))?;
    let mut agents = mesh(&hosts, "", |config| config)?;
    let bridged = underlay.host("bridge")?;
    let twins = [1, 2, 3].map(|n| bridged.vm(&format!("k{n}"), &VmSpec::new(n)));
    let [twin1, twin2, twin3] = twins;
    let (twin1, twin2, twin3) = (twin1?, twin2?, twin3?);
    let mut batch = "link add br0 type bridge\nlink set br0 up\n".to_owned();
    for vm in [&twin1, &twin2, &twin3] {
        batch += &format!("link set {} master br0\n", vm.port());
    }
    bridged.ns().ip(&batch)?;

    let (rate, baseline) = lost(&lab, &twin1, &twin2, "10.0.0.3")?;
    println!(
        "bridge: {rate:.0} requests/s, {:.2} % lost",
        baseline * 100.0
    );
    for (target, what) in [("10.0.0.3", "same host"), ("10.0.0.4", "other host")] {
        let before = cpu(agents[0].daemon().pid())?;
        let since = Instant::now();
        let (rate, lost) = lost(&lab, &vm1, &vm2, target)?;
        let used = cpu(agents[0].daemon().pid())? - before;
        let share = used.as_secs_f64() / since.elapsed().as_secs_f64();
        println!(
            "{what}: {rate:.0} requests/s, {:.2} % lost, agent {:.1} % of a core",
            lost * 100.0,
            share * 100.0
        );
        ensure!(share < LIMIT, "the agent took {share:.3} of a core");
        // A lost ping or two is the machine's own noise.
        ensure!(
            lost <= baseline + 0.005,
            "{what}: {lost:.4} lost, {baseline:.4} behind the bridge"
        );
    }
    let metrics = agents[0].metrics()?;
    let limited = metrics.value("vtep_events_limited_total", &[])?;
    ensure!(limited > 0.0, "no event was withheld");
    println!("events withheld: {limited}");
    Ok(())
}

/// MAC-012 (RFC 4271 §9.1.2): a VTEP whose next hop is unreachable gets no copy any more, at once and
/// not when its session times out; it gets them again as soon as there is a way.
#[test]
fn an_unreachable_vtep_leaves_the_flood_list() -> Result<()> {
    let lab = Lab::new("unreach")?;
    let underlay = lab.underlay()?;
    let hosts = [
        underlay.host("h1")?,
        underlay.host("h2")?,
        underlay.host("h3")?,
    ];
    let vm1 = hosts[0].vm("vm1", &VmSpec::new(1))?;
    let _vm3 = hosts[2].vm("vm3", &VmSpec::new(3))?;
    let agents = mesh(&hosts, "", |config| config)?;
    Ping::to("10.0.0.3").until_answered(vm1.ns())?;
    let gone = hosts[1].address();
    let listed = |count: usize| {
        eventually(Duration::from_secs(10), || {
            let flood = agents[0].show("flood")?;
            let listed = flood.to_string().contains(&format!("\"{gone}\""));
            let vteps = flood[0]["vteps"].as_array().map_or(0, Vec::len);
            ensure!(vteps == count && listed == (count == 2), "{flood}");
            Ok(())
        })
    };
    listed(2)?;
    hosts[0]
        .ns()
        .ip(&format!("route add unreachable {gone}/32\n"))?;
    listed(1)?;
    agents[0].wait_row(
        "vteps",
        &[("address", json!(gone)), ("reachable", json!(false))],
    )?;
    Ping::to("10.0.0.3").all_answered(vm1.ns())?;
    hosts[0]
        .ns()
        .ip(&format!("route del unreachable {gone}/32\n"))?;
    listed(2)
}
