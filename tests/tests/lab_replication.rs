//! An agent as AR-LEAF of a replicator that is scripted (RFC 9574 §5.2), seen on the wire.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{
    Agent, AgentConfig, BgpMessage, Capture, Imet, Lab, PacketSocket, Pair, ScriptedPeer, Vm,
    VmSpec, Vxlan, eventually, test_frame, wait_flood,
};

const V1: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const V2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const IR_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 32);
const AR_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 31);
const VM1: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// A link with the agent's host, what is sent over it, and the VM that sends.
struct Wire<'a> {
    lab: &'a Lab,
    underlay: &'a vtep_tests::Underlay,
    vm: PacketSocket,
}

impl Wire<'_> {
    /// Who gets a copy of a frame of the VM's.
    fn receivers(&self, frame: &[u8], count: usize) -> Result<BTreeSet<Ipv4Addr>> {
        let ns = self.underlay.ns();
        let mut capture = Capture::start(self.lab, ns, "to-dut", "udp port 4789")?;
        self.vm.send(frame)?;
        let copies = |frames: &[vtep_tests::Frame]| -> Vec<_> {
            let seen = frames.iter().filter_map(Vxlan::parse);
            seen.filter(|vxlan| vxlan.inner == frame)
                .map(|vxlan| vxlan.destination)
                .collect()
        };
        eventually(Duration::from_secs(30), || {
            let seen = copies(&capture.so_far()?).len();
            ensure!(seen >= count, "{seen} copies, not {count}");
            Ok(())
        })?;
        let copies = copies(&capture.stop()?);
        let receivers: BTreeSet<_> = copies.iter().copied().collect();
        ensure!(copies.len() == receivers.len(), "twice: {copies:?}");
        Ok(receivers)
    }
}

fn wait_replicator(agent: &Agent, state: Value) -> Result<()> {
    eventually(Duration::from_secs(30), || {
        let row = agent.row("flood", &[("bd", json!("blue"))])?;
        let found = &row["replicators"][0]["state"];
        ensure!(*found == state, "{row}");
        Ok(())
    })
}

/// AR-001 to AR-003: while the replicator is there, broadcast goes to it alone, and what it must not
/// copy to everybody; when it is gone, everything to everybody again.
#[test]
fn ar_001_to_003_a_replicator_comes_and_goes() -> Result<()> {
    let lab = Lab::new("ar")?;
    let underlay = lab.underlay()?;
    let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
    let vm = dut.vm("vm1", &VmSpec::new(1).silent())?;
    dut.ns().ip(&format!(
        "route add 203.0.113.0/24 via {}\n",
        peer.address()
    ))?;
    let config = AgentConfig::new(&dut, Pair::ASN)
        .peer(peer.address(), Pair::ASN)
        .bd_with(
            "blue",
            100,
            "ports = [\"vnet-*\"]\nreplication = \"ar-leaf\"",
        );
    let agent = Agent::start(&dut, &config)?;
    let mut session = ScriptedPeer::connect(&peer, dut.address())?;
    session.establish(&BgpMessage::open(Pair::ASN, 90, peer.address()))?;
    for address in [V1, V2, IR_IP] {
        session.send(&Imet::new(address).announce())?;
    }
    wait_flood(&agent, "blue", 3)?;
    let wire = Wire {
        lab: &lab,
        underlay: &underlay,
        vm: PacketSocket::open(vm.ns(), Vm::NIC)?,
    };
    let everybody = BTreeSet::from([V1, V2, IR_IP]);
    let broadcast = test_frame([0xff; 6], VM1);
    let unknown = test_frame([0x02, 0x77, 0, 0, 0, 0x77], VM1);
    let mdns = multicast_dns()?;
    ensure!(wire.receivers(&broadcast, 3)? == everybody);

    let replicator = Imet {
        tunnel: 10,
        flags: 0x08,
        ..Imet::new(AR_IP)
    };
    session.send(&replicator.announce())?;
    let announced = Instant::now();
    wait_replicator(&agent, json!("active"))?;
    ensure!(announced.elapsed() >= Duration::from_secs(3), "too early");
    ensure!(wire.receivers(&broadcast, 1)? == BTreeSet::from([AR_IP]));
    ensure!(wire.receivers(&unknown, 3)? == everybody);
    ensure!(wire.receivers(&mdns, 3)? == everybody);
    let assisted = agent
        .metrics()?
        .value("vtep_assisted_replication", &["bd=\"blue\""])?;
    ensure!(assisted == 1.0);

    session.send(&replicator.withdraw())?;
    wait_replicator(&agent, Value::Null)?;
    ensure!(wire.receivers(&broadcast, 3)? == everybody);
    // PFL-001: who asks for no unknown unicast gets none.
    session.send(
        &Imet {
            flags: 0x02,
            ..Imet::new(V2)
        }
        .announce(),
    )?;
    eventually(Duration::from_secs(30), || {
        let row = agent.row("flood", &[("bd", json!("blue"))])?;
        ensure!(row["vteps"][1]["pruned"] == json!(["unknown"]), "{row}");
        Ok(())
    })?;
    ensure!(wire.receivers(&unknown, 2)? == BTreeSet::from([V1, IR_IP]));
    ensure!(wire.receivers(&broadcast, 3)? == everybody);
    Ok(())
}

/// A question to 224.0.0.251.
fn multicast_dns() -> Result<Vec<u8>> {
    let builder = etherparse::PacketBuilder::ethernet2(VM1, [0x01, 0, 0x5e, 0, 0, 0xfb])
        .ipv4([10, 0, 0, 1], [224, 0, 0, 251], 255)
        .udp(5353, 5353);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0; 40])?;
    Ok(frame)
}
