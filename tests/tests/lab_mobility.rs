//! VMs that move between agents and FRR, and speakers that come and go.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Frr, Host, Lab, LinuxBd, PacketSocket, Pair, Ping, RouteReflector,
    Vm, VmSpec, count, eventually, test_frame, wait_flood,
};

const ASN: u32 = Pair::ASN;
const VNI: u32 = 100;
/// How long a VM may be unreachable after a move: a lost echo request costs a second.
const OUTAGE: Duration = Duration::from_secs(3);

fn agent(host: &Host, peers: &[Ipv4Addr]) -> Result<Agent> {
    let config = AgentConfig::new(host, ASN).bd("blue", VNI, &["vnet-*"]);
    let config = peers
        .iter()
        .fold(config, |config, peer| config.peer(*peer, ASN));
    Agent::start(host, &config)
}

/// An agent on one host and FRR on another, as iBGP peers, and a VM on each that stays there.
struct Fabric {
    agent: Agent,
    frr: Frr,
    bd: LinuxBd,
    vm1: Vm,
    vm2: Vm,
    h1: Host,
    h2: Host,
}

impl Fabric {
    fn start(lab: &Lab) -> Result<Self> {
        let underlay = lab.underlay()?;
        let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
        let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
        let vm2 = h2.vm("vm2", &VmSpec::new(2))?;
        let bd = LinuxBd::create(&h2, VNI)?;
        bd.plug(&vm2)?;
        let frr = Frr::start(&h2, ASN, &[(h1.address(), ASN)])?;
        let agent = agent(&h1, &[h2.address()])?;
        agent.wait_established()?;
        frr.wait_established(h1.address())?;
        Ping::to("10.0.0.2").until_answered(vm1.ns())?;
        Ok(Self {
            agent,
            frr,
            bd,
            vm1,
            vm2,
            h1,
            h2,
        })
    }

    /// What FRR's BGP table says of a type 2 route of ours: the text of its extended communities.
    fn communities(&self, key: &str) -> Result<String> {
        let rd = format!("{}:1", self.h1.address());
        let table = self
            .frr
            .show(&format!("show bgp l2vpn evpn route rd {rd} json"))?;
        table[&rd][key]["paths"][0][0]["extendedCommunity"]["string"]
            .as_str()
            .map(ToOwned::to_owned)
            .with_context(|| format!("FRR has no {key}: {table}"))
    }
}

/// A VM that can run on two hosts, one at a time.
struct Mover {
    here: Vm,
    there: Vm,
}

impl Mover {
    /// Runs on `here`, as VM number 9.
    fn new(here: &Host, there: &Host) -> Result<Self> {
        let mover = Self {
            here: here.vm("vm9a", &VmSpec::new(9))?,
            there: there.vm("vm9b", &VmSpec::new(9))?,
        };
        mover.there.unplug()?;
        Ok(mover)
    }

    fn mac(&self) -> &str {
        self.here.mac()
    }
}

/// Until its link is plugged in again it says nothing, not even that its addresses are gone: QEMU pauses
/// a VM before it runs elsewhere.
fn pause(vm: &Vm) -> Result<()> {
    vm.ns().run("tc qdisc replace dev eth0 root blackhole")?;
    Ok(())
}

/// What QEMU does at the end of a live migration: several announcements, since the first ones may come
/// before the network is ready for them.
fn announce(vm: &Vm) -> Result<()> {
    const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x09];
    let ip = [10, 0, 0, 9];
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &MAC, &ip, &[0xff; 6], &ip].concat();
    let frame = [&[0xff; 6][..], &MAC, &[0x08, 0x06], &arp, &[0; 18]].concat();
    let socket = PacketSocket::open(vm.ns(), Vm::NIC)?;
    for pause in [0, 50, 150, 250, 350] {
        thread::sleep(Duration::from_millis(pause));
        socket.send(&frame)?;
    }
    Ok(())
}

/// Fails when the VM is not reached soon.
fn reached(from: &Vm, what: &str) -> Result<()> {
    let start = Instant::now();
    Ping::to("10.0.0.9").until_answered(from.ns())?;
    let outage = start.elapsed();
    ensure!(
        outage < OUTAGE,
        "{} reached it after {outage:?}, {what}",
        from.name()
    );
    Ping::to("10.0.0.9").all_answered(from.ns())
}

/// From the agent to FRR and back, several times: RFC 7432 §15.
#[test]
fn mob_001_002_a_vm_moves_between_an_agent_and_frr() -> Result<()> {
    let lab = Lab::new("move")?;
    let fabric = Fabric::start(&lab)?;
    let mover = Mover::new(&fabric.h1, &fabric.h2)?;
    announce(&mover.here)?;
    for from in [&fabric.vm1, &fabric.vm2] {
        reached(from, "before it moved")?;
    }
    let mac = mover.mac();
    let mut last = -1;
    for round in 0..3 {
        // To FRR: it is gone here before it is there.
        mover.here.unplug()?;
        mover.there.plug()?;
        fabric.bd.plug(&mover.there)?;
        announce(&mover.there)?;
        for from in [&fabric.vm1, &fabric.vm2] {
            reached(from, "at FRR")?;
        }
        let vtep = json!(fabric.h2.address().to_string());
        fabric
            .agent
            .wait_row("macs", &[("mac", json!(mac)), ("vtep", vtep)])?;
        let entry = fabric.frr.mac(VNI, mac)?;
        ensure!(entry["type"] == "local", "round {round}: {entry}");

        // And back: it is here while it is still there, as after a live migration.
        pause(&mover.there)?;
        mover.here.plug()?;
        announce(&mover.here)?;
        for from in [&fabric.vm1, &fabric.vm2] {
            reached(from, "back at the agent")?;
        }
        mover.there.unplug()?;
        for from in [&fabric.vm1, &fabric.vm2] {
            reached(from, "after the old port went")?;
        }
        let row = fabric.agent.wait_row(
            "macs",
            &[
                ("mac", json!(mac)),
                ("origin", json!("learned")),
                ("port", json!(mover.here.port())),
            ],
        )?;
        let sequence = row["seq"].as_i64().context("no sequence")?;
        // What was withdrawn before it moved may begin anew at FRR; what we said last is remembered.
        ensure!(sequence >= last.max(1), "round {round}: {last}, then {row}");
        last = sequence;
        let vtep = fabric.h1.address().to_string();
        eventually(Duration::from_secs(5), || {
            let entry = fabric.frr.mac(VNI, mac)?;
            ensure!(
                entry["type"] == "remote" && entry["remoteVtep"] == vtep,
                "{entry}"
            );
            let key = format!("[2]:[0]:[48]:[{mac}]");
            let communities = fabric.communities(&key)?;
            ensure!(
                communities.contains(&format!("MM:{sequence}")),
                "{communities}"
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// FRR sees the routes as they are meant, and loses them when the VM goes.
#[test]
fn frr_shows_our_attributes_and_forgets_at_once() -> Result<()> {
    let lab = Lab::new("attrs")?;
    let fabric = Fabric::start(&lab)?;
    let mac = fabric.vm1.mac();
    let keys = [
        format!("[3]:[0]:[32]:[{}]", fabric.h1.address()),
        format!("[2]:[0]:[48]:[{mac}]"),
        format!("[2]:[0]:[48]:[{mac}]:[32]:[10.0.0.1]"),
        format!("[2]:[0]:[48]:[{mac}]:[128]:[fd00::1]"),
    ];
    fabric.vm2.ns().run("ndisc6 -1 -q fd00::1 eth0")?;
    for key in &keys {
        let communities = eventually(Duration::from_secs(5), || fabric.communities(key))?;
        ensure!(
            communities.contains("RT:65000:100") && communities.contains("ET:8"),
            "{key}: {communities}"
        );
        ensure!(!communities.contains("MM:"), "{key}: {communities}");
    }
    fabric.vm1.unplug()?;
    let start = Instant::now();
    eventually(Duration::from_secs(5), || {
        for key in &keys[1..] {
            ensure!(fabric.communities(key).is_err(), "{key} is still there");
        }
        ensure!(fabric.frr.mac(VNI, mac).is_err(), "zebra still has {mac}");
        Ok(())
    })?;
    // Asking FRR takes its time as well.
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(2), "{took:?}");
    fabric.communities(&keys[0]).map(drop)
}

/// bgpd is killed and starts again.
#[test]
fn frr_comes_back() -> Result<()> {
    let lab = Lab::new("back")?;
    let mut fabric = Fabric::start(&lab)?;
    for _ in 0..2 {
        fabric.frr.bgpd().kill()?;
        wait_flood(&fabric.agent, "blue", 0)?;
        fabric.frr.restart_bgpd()?;
        fabric.frr.wait_established(fabric.h1.address())?;
        wait_flood(&fabric.agent, "blue", 1)?;
        for (from, to) in [(&fabric.vm1, "10.0.0.2"), (&fabric.vm2, "10.0.0.1")] {
            Ping::to(to).until_answered(from.ns())?;
            Ping::to(to).all_answered(from.ns())?;
        }
    }
    Ok(())
}

/// Whoever is late finds the other one waiting.
#[test]
fn late_starters() -> Result<()> {
    let lab = Lab::new("late")?;
    let underlay = lab.underlay()?;
    let hosts = [
        underlay.host("h1")?,
        underlay.host("h2")?,
        underlay.host("h3")?,
    ];
    let [h1, h2, h3] = &hosts;
    let vms = [
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
        h3.vm("vm3", &VmSpec::new(3))?,
    ];
    LinuxBd::create(h2, VNI)?.plug(&vms[1])?;
    let a1 = agent(h1, &[h2.address(), h3.address()])?;
    // Long enough for several attempts in vain.
    thread::sleep(Duration::from_secs(5));
    let frr = Frr::start(h2, ASN, &[h1, h3].map(|peer| (peer.address(), ASN)))?;
    let start = Instant::now();
    frr.wait_established(h1.address())?;
    ensure!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    thread::sleep(Duration::from_secs(3));
    let a3 = agent(h3, &[h1.address(), h2.address()])?;
    for agent in [&a1, &a3] {
        agent.wait_established()?;
        wait_flood(agent, "blue", 2)?;
    }
    all_reach_all(&vms)
}

/// The reflector is killed and starts again: everything is as it was.
#[test]
fn the_reflector_comes_back() -> Result<()> {
    let lab = Lab::new("rrback")?;
    let underlay = lab.underlay()?;
    let (h1, h2, h3) = (
        underlay.host("h1")?,
        underlay.host("h2")?,
        underlay.host("h3")?,
    );
    let rr = underlay.host("rr")?;
    let clients = [&h1, &h2, &h3].map(Host::address);
    let mut reflector = RouteReflector::start(&rr, ASN, &clients)?;
    let vms = [
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
        h3.vm("vm3", &VmSpec::new(3))?,
    ];
    LinuxBd::create(&h3, VNI)?.plug(&vms[2])?;
    let frr = Frr::start(&h3, ASN, &[(rr.address(), ASN)])?;
    let agents = [agent(&h1, &[rr.address()])?, agent(&h2, &[rr.address()])?];
    for _ in 0..2 {
        for agent in &agents {
            agent.wait_established()?;
            wait_flood(agent, "blue", 2)?;
        }
        frr.wait_established(rr.address())?;
        all_reach_all(&vms)?;
        reflector.daemon().kill()?;
        for agent in &agents {
            wait_flood(agent, "blue", 0)?;
        }
        reflector.restart()?;
    }
    for agent in &agents {
        agent.wait_established()?;
        wait_flood(agent, "blue", 2)?;
    }
    all_reach_all(&vms)
}

/// Three agents, each a peer of the others; a VM moves around, and one agent is killed.
#[test]
fn three_agents_in_a_full_mesh() -> Result<()> {
    let lab = Lab::new("mesh")?;
    let underlay = lab.underlay()?;
    let hosts = [
        underlay.host("h1")?,
        underlay.host("h2")?,
        underlay.host("h3")?,
    ];
    let vms = [
        hosts[0].vm("vm1", &VmSpec::new(1))?,
        hosts[1].vm("vm2", &VmSpec::new(2))?,
        hosts[2].vm("vm3", &VmSpec::new(3))?,
    ];
    let mut agents = Vec::new();
    for host in &hosts {
        let others = hosts.iter().map(Host::address);
        let others: Vec<_> = others.filter(|other| *other != host.address()).collect();
        agents.push(agent(host, &others)?);
    }
    for agent in &agents {
        agent.wait_established()?;
        wait_flood(agent, "blue", 2)?;
    }
    all_reach_all(&vms)?;
    let frame = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, 0x01]);
    let captures = [&vms[1], &vms[2]].map(|vm| Capture::start_received(&lab, vm.ns(), Vm::NIC, ""));
    PacketSocket::open(vms[0].ns(), Vm::NIC)?.send(&frame)?;
    for capture in captures {
        let seen = count(&capture?.stop()?, &frame);
        ensure!(seen == 1, "{seen} copies of one broadcast");
    }

    let mover = Mover::new(&hosts[0], &hosts[1])?;
    announce(&mover.here)?;
    reached(&vms[2], "before it moved")?;
    for _ in 0..3 {
        pause(&mover.here)?;
        mover.there.plug()?;
        announce(&mover.there)?;
        for from in &vms {
            reached(from, "at the second host")?;
        }
        mover.here.unplug()?;
        mover.here.plug()?;
        announce(&mover.here)?;
        mover.there.unplug()?;
        for from in &vms {
            reached(from, "back at the first host")?;
        }
    }

    // A crash would leave it in the lists: its datapath goes on.
    agents[2].stop()?;
    for agent in &agents[..2] {
        wait_flood(agent, "blue", 1)?;
    }
    Ping::to("10.0.0.2").all_answered(vms[0].ns())
}

fn all_reach_all(vms: &[Vm]) -> Result<()> {
    for (number, from) in (1..).zip(vms) {
        for target in (1..=vms.len()).filter(|target| *target != number) {
            let ping = Ping::to(&format!("10.0.0.{target}"));
            ping.until_answered(from.ns())?;
            ping.all_answered(from.ns())?;
        }
    }
    Ok(())
}
