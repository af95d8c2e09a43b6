//! Budgets and sizes: flood lists, BUM, learning.

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, BgpMessage, Capture, Imet, Lab, PacketSocket, Pair, Ping, ScriptedPeer, Vm,
    VmSpec, Vxlan, eventually, test_frame, wait_flood,
};

use crate::{datagrams_arrive, dropped, wait_dropped};

/// VTEPs that the scripted peer announces.
const VTEPS: u16 = 1000;
/// Frames that a port may flood in a second, and learning events that it may cause (docs).
const BUM_RATE: f64 = 20_000.0;
const LEARN_RATE: f64 = 1000.0;

fn vtep(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(203, 0, high, low)
}

/// A flood list of a thousand VTEPs: each gets one copy of each frame.
#[test]
fn a_thousand_vteps_get_a_copy_each() -> Result<()> {
    let lab = Lab::new("thousand")?;
    let underlay = lab.underlay()?;
    let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
    let vm = dut.vm("vm1", &VmSpec::new(1).silent())?;
    dut.ns()
        .ip(&format!("route add 203.0.0.0/16 via {}\n", peer.address()))?;
    let config = AgentConfig::new(&dut, Pair::ASN)
        .peer(peer.address(), Pair::ASN)
        .bd("blue", 100, &["vnet-*"]);
    let agent = Agent::start(&dut, &config)?;
    let mut session = ScriptedPeer::connect(&peer, dut.address())?;
    session.establish(&BgpMessage::open(Pair::ASN, 90, peer.address()))?;
    for number in 1..=VTEPS {
        session.send(&Imet::new(vtep(number)).announce())?;
    }
    wait_flood(&agent, "blue", VTEPS.into())?;
    eventually(Duration::from_secs(20), || {
        let vteps = agent.show("vteps")?;
        let reachable = vteps
            .as_array()
            .into_iter()
            .flatten()
            .filter(|row| row["reachable"] == json!(true))
            .count();
        ensure!(reachable == usize::from(VTEPS), "{reachable} reachable");
        Ok(())
    })?;

    let socket = PacketSocket::open(vm.ns(), Vm::NIC)?;
    let frame = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, 0x01]);
    let copies = || -> Result<f64> { agent.metrics()?.value("vtep_flood_copies_total", &[]) };
    let before = copies()?;
    let capture = Capture::start_burst(&lab, underlay.ns(), "to-dut", "udp port 4789")?;
    const FRAMES: u16 = 5;
    for _ in 0..FRAMES {
        socket.send(&frame)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let frames = capture.stop()?;
    let seen: Vec<_> = frames.iter().filter_map(Vxlan::parse).collect();
    let destinations: HashSet<_> = seen.iter().map(|vxlan| vxlan.destination).collect();
    ensure!(
        destinations == (1..=VTEPS).map(vtep).collect(),
        "{} destinations",
        destinations.len()
    );
    ensure!(seen.iter().all(|vxlan| vxlan.inner == frame));
    let expected = usize::from(VTEPS * FRAMES);
    ensure!(
        seen.len() == expected,
        "{} frames, not {expected}",
        seen.len()
    );
    ensure!(copies()? - before == f64::from(VTEPS * FRAMES));
    ensure!(dropped(&agent, "no_path")? == 0.0);
    // The list shrinks with the session.
    drop(session);
    wait_flood(&agent, "blue", 0)
}

/// A port floods no more than its budget, and what is over it is counted.
#[test]
fn broadcasts_are_limited() -> Result<()> {
    let lab = Lab::new("bum")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    let socket = PacketSocket::open(pair.vm1.ns(), Vm::NIC)?;
    let frame = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, 0x01]);
    let flooded = || -> Result<f64> {
        pair.a1.metrics()?.value(
            "vtep_packets_total",
            &["direction=\"tx\"", "path=\"flood\""],
        )
    };
    let before = (flooded()?, dropped(&pair.a1, "bum_rate")?);
    let start = Instant::now();
    const FRAMES: u32 = 150_000;
    for _ in 0..FRAMES {
        socket.send(&frame)?;
    }
    let elapsed = start.elapsed().as_secs_f64();
    let passed = flooded()? - before.0;
    let refused = dropped(&pair.a1, "bum_rate")? - before.1;
    // The bucket holds a second's worth.
    let allowed = BUM_RATE * (elapsed + 1.0);
    ensure!(
        passed <= allowed * 1.05 && passed >= 0.5 * BUM_RATE,
        "{passed} flooded and {refused} refused in {elapsed} s"
    );
    ensure!(
        passed + refused >= f64::from(FRAMES),
        "{passed} flooded, {refused} refused"
    );
    // Unicast goes on; BUM again after a while.
    Ping::to("10.0.0.2").count(10).all_answered(pair.vm1.ns())?;
    std::thread::sleep(Duration::from_millis(500));
    let before = flooded()?;
    socket.send(&frame)?;
    eventually(Duration::from_secs(2), || {
        ensure!(flooded()? > before, "still refused");
        Ok(())
    })
}

/// A port causes no more learning than its budget; its frames are forwarded all the same, and what
/// goes on talking is learned in the end. Beyond the port's number of MACs nothing is.
#[test]
fn learning_is_limited() -> Result<()> {
    let lab = Lab::new("learn")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vms = [
        h1.vm("vm1", &VmSpec::new(1).silent())?,
        h2.vm("vm2", &VmSpec::new(2))?,
    ];
    let config = |host: &vtep_tests::Host, other: &vtep_tests::Host| {
        AgentConfig::new(host, Pair::ASN)
            .peer(other.address(), Pair::ASN)
            .bd_with(
                "blue",
                100,
                "ports = [\"vnet-*\"]\nmax_macs_per_port = 3000",
            )
    };
    let a1 = Agent::start(&h1, &config(&h1, &h2))?;
    let _a2 = Agent::start(&h2, &config(&h2, &h1))?;
    wait_flood(&a1, "blue", 1)?;
    let socket = PacketSocket::open(vms[0].ns(), Vm::NIC)?;
    let learned = || -> Result<f64> {
        a1.metrics()?
            .value("vtep_macs", &["bd=\"blue\"", "origin=\"learned\""])
    };
    let talk = |macs: u16| -> Result<()> {
        for number in 0..macs {
            let [high, low] = number.to_be_bytes();
            socket.send(&test_frame(
                [0x02, 0, 0, 0, 0, 0x02],
                [0x02, 0, 0x0f, 0, high, low],
            ))?;
        }
        Ok(())
    };
    let start = Instant::now();
    for _ in 0..3 {
        talk(4000)?;
    }
    let elapsed = start.elapsed().as_secs_f64();
    let first = learned()?;
    ensure!(
        first <= LEARN_RATE * (elapsed + 1.0) * 1.2,
        "{first} learned in {elapsed} s"
    );
    let before = dropped(&a1, "mac_limit")?;
    eventually(Duration::from_secs(20), || {
        talk(4000)?;
        let count = learned()?;
        ensure!(count == 3000.0, "{count} learned");
        Ok(())
    })?;
    talk(4000)?;
    wait_dropped(&a1, "mac_limit", before, 1000.0)?;
    ensure!(learned()? == 3000.0);
    Ok(())
}

/// Datagrams at a rate that overflows the receiver's socket now and then: all of them get there, and
/// the datapath drops none.
#[test]
fn no_datagram_is_lost_on_the_way() -> Result<()> {
    for xdp in ["native", "off"] {
        let lab = Lab::new(&format!("udp-{xdp}"))?;
        let underlay = lab.underlay()?;
        let line = format!("xdp = \"{xdp}\"");
        let pair = Pair::start_with(&lab, &underlay, |config| config.vtep(&line))?;
        for address in ["10.0.0.2", "fd00::2"] {
            Ping::to(address).until_answered(pair.vm1.ns())?;
            let arrived = datagrams_arrive(&pair, address, "200M")?;
            ensure!(arrived > 0.999, "xdp {xdp}, {address}: {arrived}");
        }
    }
    Ok(())
}
