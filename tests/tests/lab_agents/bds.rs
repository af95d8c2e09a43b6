//! Bridge domains and their ports: kept apart, switched locally, tagged, plugged in late.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Frame, Host, Iperf, Lab, PacketSocket, Pair, Ping, Vm, VmSpec,
    count, eventually, test_frame, wait_flood,
};

use crate::ASN;

/// Three bridge domains whose VMs have the same MACs and addresses.
#[test]
fn bridge_domains_with_the_same_addresses_stay_apart() -> Result<()> {
    let lab = Lab::new("overlap")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let bds = [("red", 100), ("green", 200), ("blue", 300)];
    let mut vms = Vec::new();
    for (name, _) in bds {
        let short = &name[..1];
        vms.push((
            h1.vm(&format!("{short}1"), &VmSpec::new(1))?,
            h2.vm(&format!("{short}2"), &VmSpec::new(2))?,
        ));
    }
    let config = |here: &Host, there: &Host| {
        let config = AgentConfig::new(here, ASN).peer(there.address(), ASN);
        bds.iter().fold(config, |config, (name, vni)| {
            config.bd(name, *vni, &[&format!("vnet-{}*", &name[..1])])
        })
    };
    let a1 = Agent::start(&h1, &config(&h1, &h2))?;
    let a2 = Agent::start(&h2, &config(&h2, &h1))?;
    a1.wait_established()?;
    for (vm1, _) in &vms {
        Ping::to("10.0.0.2").until_answered(vm1.ns())?;
        Ping::to("fd00::2").until_answered(vm1.ns())?;
    }
    // Every request is answered once, by the VM of the same bridge domain.
    for (index, (vm1, _)) in vms.iter().enumerate() {
        let captures = vms
            .iter()
            .map(|(_, vm2)| Capture::start_received(&lab, vm2.ns(), Vm::NIC, "icmp"))
            .collect::<Result<Vec<_>>>()?;
        Ping::to("10.0.0.2").count(10).all_answered(vm1.ns())?;
        for (other, capture) in captures.into_iter().enumerate() {
            let seen = capture.stop()?.len();
            let expected = if other == index { 10 } else { 0 };
            ensure!(
                seen == expected,
                "{seen} requests from BD {index} in BD {other}"
            );
        }
    }
    for (name, _) in bds {
        for agent in [&a1, &a2] {
            for mac in ["02:00:00:00:00:01", "02:00:00:00:00:02"] {
                agent.row("macs", &[("bd", json!(name)), ("mac", json!(mac))])?;
            }
        }
    }
    // Without its peer, a bridge domain must not borrow another's.
    vms[0].1.unplug()?;
    eventually(Duration::from_secs(10), || {
        Ping::to("10.0.0.2").count(2).never_answered(vms[0].0.ns())
    })?;
    Ping::to("10.0.0.2").all_answered(vms[1].0.ns())
}

/// Two VMs of one host talk without the underlay, with no other VTEP at all.
#[test]
fn ports_of_one_host_are_switched_locally() -> Result<()> {
    let lab = Lab::new("local")?;
    let underlay = lab.underlay()?;
    let host = underlay.host("h1")?;
    let vm1 = host.vm("vm1", &VmSpec::new(1))?;
    let vm2 = host.vm("vm2", &VmSpec::new(2))?;
    let _agent = Agent::start(
        &host,
        &AgentConfig::new(&host, ASN).bd("blue", 100, &["vnet-*"]),
    )?;
    let capture = Capture::start(&lab, underlay.ns(), "to-h1", "udp port 4789")?;
    for target in ["10.0.0.2", "fd00::2"] {
        Ping::to(target).until_answered(vm1.ns())?;
        Ping::to(target).count(20).all_answered(vm1.ns())?;
    }
    let tcp = Iperf::tcp(1).run(&lab, vm1.ns(), vm2.ns(), "10.0.0.2")?;
    ensure!(tcp.bits_per_second > 1e7, "{tcp:?}");
    let frames = capture.stop()?;
    ensure!(frames.is_empty(), "{} frames on the underlay", frames.len());
    Ok(())
}

/// A tagged port: the tag is its place in the bridge domain, and ends there.
#[test]
fn vlan_of_a_port_is_taken_off_and_put_on() -> Result<()> {
    let lab = Lab::new("vlan")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm1 = h1.vm("vm1", &VmSpec::new(1).silent())?;
    let vm2 = h2.vm("vm2", &VmSpec::new(2).silent())?;
    let a1 = Agent::start(
        &h1,
        &AgentConfig::new(&h1, ASN).peer(h2.address(), ASN).bd_with(
            "blue",
            100,
            "ports = [{ name = \"vnet-vm1\", vlan = 10 }]",
        ),
    )?;
    let a2 = Agent::start(
        &h2,
        &AgentConfig::new(&h2, ASN)
            .peer(h1.address(), ASN)
            .bd("blue", 100, &["vnet-vm2"]),
    )?;
    for agent in [&a1, &a2] {
        wait_flood(agent, "blue", 1)?;
    }
    let (source, other) = ([0x02, 0, 0, 0, 0, 0x01], [0x02, 0, 0, 0, 0, 0x02]);
    let plain = test_frame([0xff; 6], source);
    let tag = |frame: &[u8], vlan: u8| -> Vec<u8> {
        [&frame[..12], &[0x81, 0x00, 0x00, vlan], &frame[12..]].concat()
    };

    // Out: VLAN 10 arrives untagged at the other host, VLAN 20 and untagged frames don't.
    let capture = Capture::start_received(&lab, vm2.ns(), Vm::NIC, "")?;
    let socket = PacketSocket::open(vm1.ns(), Vm::NIC)?;
    socket.send(&tag(&plain, 20))?;
    socket.send(&plain)?;
    socket.send(&tag(&plain, 10))?;
    let frames = capture.stop()?;
    ensure!(count(&frames, &plain) == 1, "{frames:02x?}");
    ensure!(
        frames
            .iter()
            .all(|frame| frame.bytes.get(12..14) != Some(&[0x81, 0x00]))
    );

    // In: it arrives with VLAN 10, broadcast and unicast alike.
    for destination in [[0xff; 6], source] {
        let frame = test_frame(destination, other);
        let capture = Capture::start_received(&lab, vm1.ns(), Vm::NIC, "")?;
        PacketSocket::open(vm2.ns(), Vm::NIC)?.send(&frame)?;
        let frames = capture.stop()?;
        ensure!(count(&frames, &tag(&frame, 10)) == 1, "{frames:02x?}");
        ensure!(count(&frames, &frame) == 0, "{frames:02x?}");
    }
    Ok(())
}

/// Ports are attached when they appear and released when they go, with their MACs.
#[test]
fn ports_of_a_glob_come_and_go() -> Result<()> {
    let lab = Lab::new("glob")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;

    let late = pair.h2.vm("late", &VmSpec::new(9))?;
    pair.a2.wait_row(
        "ports",
        &[("name", json!(late.port())), ("state", json!("up"))],
    )?;
    Ping::to("10.0.0.9").until_answered(pair.vm1.ns())?;
    Ping::to("10.0.0.9").count(20).all_answered(pair.vm1.ns())?;
    pair.a1.wait_row(
        "macs",
        &[("mac", json!(late.mac())), ("origin", json!("remote"))],
    )?;

    late.unplug()?;
    for agent in [&pair.a1, &pair.a2] {
        eventually(Duration::from_secs(10), || {
            let row = agent.row("macs", &[("mac", json!(late.mac()))]);
            ensure!(row.is_err(), "still there: {row:?}");
            Ok(())
        })?;
    }
    ensure!(
        pair.a2
            .row(
                "ports",
                &[("name", json!(late.port())), ("state", json!("up"))]
            )
            .is_err()
    );

    // The same name with another ifindex.
    late.plug()?;
    Ping::to("10.0.0.9").until_answered(pair.vm1.ns())?;
    Ping::to("10.0.0.2").count(20).all_answered(pair.vm1.ns())
}

/// MAC-010 (RFC 8365 §5.1.3): a bridge domain that has another VNI on each host. Broadcasts and unicast
/// arrive, and each frame carries the VNI of the host that receives it.
#[test]
fn mac_010_downstream_assigned_vnis() -> Result<()> {
    let lab = Lab::new("downstream")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let (vm1, vm2) = (
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    );
    let config = |here: &Host, there: &Host, vni| {
        let lines = "ports = [\"vnet-*\"]\nrt_import = [\"65000:7\"]\nrt_export = [\"65000:7\"]\n\
                     downstream_vni = true";
        AgentConfig::new(here, ASN)
            .peer(there.address(), ASN)
            .bd_with("blue", vni, lines)
    };
    let a1 = Agent::start(&h1, &config(&h1, &h2, 100))?;
    let a2 = Agent::start(&h2, &config(&h2, &h1, 200))?;
    a1.wait_established()?;
    for agent in [&a1, &a2] {
        wait_flood(agent, "blue", 1)?;
    }
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    Ping::to("fd00::1").until_answered(vm2.ns())?;
    let capture = Capture::start_received(&lab, underlay.ns(), "to-h1", "udp port 4789")?;
    Ping::to("10.0.0.2").count(10).all_answered(vm1.ns())?;
    let frames = capture.stop()?;
    // Behind Ethernet, IPv4 and UDP, and the flags of VXLAN.
    let vni = |frame: &Frame| frame.bytes.get(46..49).map(<[u8]>::to_vec);
    let others: Vec<_> = frames
        .iter()
        .map(vni)
        .filter(|vni| vni.as_deref() != Some(&[0, 0, 200]))
        .collect();
    ensure!(frames.len() >= 10 && others.is_empty(), "{others:?}");
    Ok(())
}
