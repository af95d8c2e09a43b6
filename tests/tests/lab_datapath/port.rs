//! What a port can take, and what was on it before.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Host, Iperf, Lab, PacketSocket, Pair, Ping, UnderlayOptions, Vm,
    VmSpec, count, eventually, test_frame, wait_flood,
};

use crate::{
    datagrams_arrive,
    foreign::{Foreign, Place},
    received, tc_programs,
};

/// A veth whose other end has no NAPI loses every frame that XDP redirects to it: it gets none
/// until its other end says that it can take them.
#[test]
fn xdp_redirects_only_to_ports_that_can_take_it() -> Result<()> {
    let lab = Lab::new("napi")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start_with(&lab, &underlay, |config| config.vtep("xdp = \"native\""))?;
    let (vm1, vm2) = (pair.vm1.ns(), pair.vm2.ns());
    Ping::to("10.0.0.2").until_answered(vm1)?;
    Ping::to("10.0.0.2").count(20).all_answered(vm1)?;
    ensure!(received(&pair.a2, "xdp_redirect")? == 0.0);
    ensure!(received(&pair.a2, "xdp_pass")? >= 20.0);

    vm2.run("ethtool -K eth0 gro on")?;
    eventually(Duration::from_secs(5), || {
        let before = received(&pair.a2, "xdp_redirect")?;
        Ping::to("10.0.0.2").count(20).all_answered(vm1)?;
        ensure!(received(&pair.a2, "xdp_redirect")? - before >= 20.0);
        Ok(())
    })?;
    for address in ["10.0.0.2", "fd00::2"] {
        Ping::to(address).until_answered(vm1)?;
        let tcp = Iperf::tcp(1).run(&lab, vm1, vm2, address)?;
        ensure!(tcp.bits_per_second > 1e7, "{address}: {tcp:?}");
        let arrived = datagrams_arrive(&pair, address, "20M")?;
        ensure!(arrived > 0.999, "{address}: {arrived}");
    }

    vm2.run("ethtool -K eth0 gro off")?;
    eventually(Duration::from_secs(5), || {
        let before = received(&pair.a2, "xdp_redirect")?;
        Ping::to("10.0.0.2").count(20).all_answered(vm1)?;
        ensure!(received(&pair.a2, "xdp_redirect")? == before);
        Ok(())
    })
}

/// Partial checksums of a sender on the same machine: XDP must not redirect what only the socket
/// buffer knows how to finish.
#[test]
fn partial_checksums_survive_where_xdp_redirects() -> Result<()> {
    let lab = Lab::new("partial")?;
    let underlay = lab.underlay_with(&UnderlayOptions {
        tx_checksum: true,
        ..UnderlayOptions::default()
    })?;
    let pair = Pair::start_with(&lab, &underlay, |config| config.vtep("xdp = \"native\""))?;
    let (vm1, vm2) = (pair.vm1.ns(), pair.vm2.ns());
    vm2.run("ethtool -K eth0 gro on")?;
    vm2.run("ethtool -K eth0 rx off")?; // verifies what it gets
    for address in ["10.0.0.2", "fd00::2"] {
        Ping::to(address).until_answered(vm1)?;
        let udp = Iperf::udp(1, "5M").run(&lab, vm1, vm2, address)?;
        ensure!(
            udp.loss < 0.1 && udp.bits_per_second > 2e6,
            "{address}: {udp:?}"
        );
    }
    Ok(())
}

/// A port with a qdisc is shaped whatever brings the frames.
#[test]
fn shaping_of_a_port_still_shapes() -> Result<()> {
    let lab = Lab::new("shape")?;
    let underlay = lab.underlay()?;
    for xdp in ["native", "off"] {
        let (h1, h2) = (
            underlay.host(&format!("{xdp}1"))?,
            underlay.host(&format!("{xdp}2"))?,
        );
        let vms = [
            h1.vm(&format!("vm1{xdp}"), &VmSpec::new(1))?,
            h2.vm(&format!("vm2{xdp}"), &VmSpec::new(2))?,
        ];
        // Before the agent starts, and later.
        let shape = |vm: &Vm, host: &Host, rate: u32| {
            host.ns().run(&format!(
                "tc qdisc replace dev {} root tbf rate {rate}mbit burst 64kb latency 100ms",
                vm.port()
            ))
        };
        shape(&vms[1], &h2, 20)?;
        vms[1].ns().run("ethtool -K eth0 gro on")?;
        let line = format!("xdp = \"{xdp}\"");
        let pair = Pair::join(&lab, [h1, h2], vms, |config| config.vtep(&line))?;
        let (vm1, vm2) = (pair.vm1.ns(), pair.vm2.ns());
        Ping::to("10.0.0.2").until_answered(vm1)?;
        for rate in [20, 40] {
            shape(&pair.vm2, &pair.h2, rate)?;
            let limit = f64::from(rate) * 1e6;
            let tcp = Iperf::tcp(2).run(&lab, vm1, vm2, "10.0.0.2")?;
            let udp = Iperf::udp(2, "100M").run(&lab, vm1, vm2, "10.0.0.2")?;
            for result in [tcp, udp] {
                ensure!(
                    (0.5 * limit..1.2 * limit).contains(&result.bits_per_second),
                    "xdp {xdp}, {rate} Mbit/s: {result:?}"
                );
            }
        }
        pair.h2
            .ns()
            .run(&format!("tc qdisc del dev {} root", pair.vm2.port()))?;
        eventually(Duration::from_secs(10), || {
            let udp = Iperf::udp(1, "100M").run(&lab, vm1, vm2, "10.0.0.2")?;
            ensure!(udp.bits_per_second > 5e7, "still shaped: {udp:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Programs and filters that were on a port before run before ours.
#[test]
fn programs_on_a_port_run_first() -> Result<()> {
    let lab = Lab::new("before")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vms = [
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    ];
    let port = vms[0].port().to_owned();
    let foreign = Foreign::attach(h1.ns(), &port, Place::Tcx)?;
    let mut pair = Pair::join(&lab, [h1, h2], vms, |config| config)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    Ping::to("10.0.0.2").count(20).all_answered(pair.vm1.ns())?;
    pair.a1
        .daemon()
        .wait_for_log("another TC program is attached", Duration::from_secs(5))?;
    ensure!(tc_programs(pair.h1.ns(), &port)? == ["", "access_tc"]);
    drop(foreign);

    // A filter that hands everything to the host gets nothing to hand over, and stays.
    let port = pair.vm1.port();
    let host = pair.h1.ns();
    host.run(&format!("tc qdisc add dev {port} clsact"))?;
    let filter = host
        .command("tc")
        .args(["filter", "add", "dev", port, "ingress", "bpf"])
        .args(["bytecode", "1,6 0 0 4294967295"])
        .status()?;
    ensure!(filter.success());
    let filters = host.run(&format!("tc filter show dev {port} ingress"))?;
    Ping::to("10.0.0.2").count(20).all_answered(pair.vm1.ns())?;
    let stopped = pair.a1.stop()?;
    ensure!(stopped.success(), "{stopped}");
    ensure!(host.run(&format!("tc filter show dev {port} ingress"))? == filters);
    pair.restart_a1()?;
    pair.a1
        .daemon()
        .wait_for_log("ingress filters of others", Duration::from_secs(5))?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())
}

/// One device, two VLANs, two bridge domains: a trunk.
#[test]
fn a_trunk_serves_two_bridge_domains() -> Result<()> {
    let lab = Lab::new("trunk")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let trunk = h1.vm("trunk", &VmSpec::new(1).silent())?;
    let red = h2.vm("red", &VmSpec::new(2).silent())?;
    let blue = h2.vm("blue", &VmSpec::new(2).silent())?;
    let on_trunk = |vlan| format!("ports = [{{ name = \"vnet-trunk\", vlan = {vlan} }}]");
    let a1 = Agent::start(
        &h1,
        &AgentConfig::new(&h1, Pair::ASN)
            .peer(h2.address(), Pair::ASN)
            .bd_with("red", 100, &on_trunk(10))
            .bd_with("blue", 200, &on_trunk(20)),
    )?;
    let a2 = Agent::start(
        &h2,
        &AgentConfig::new(&h2, Pair::ASN)
            .peer(h1.address(), Pair::ASN)
            .bd("red", 100, &["vnet-red"])
            .bd("blue", 200, &["vnet-blue"]),
    )?;
    for agent in [&a1, &a2] {
        for bd in ["red", "blue"] {
            wait_flood(agent, bd, 1)?;
        }
    }
    let tag = |frame: &[u8], vlan: u8| -> Vec<u8> {
        [&frame[..12], &[0x81, 0x00, 0x00, vlan], &frame[12..]].concat()
    };
    let mac = |last| [0x02, 0, 0, 0, 0, last];
    // To the far side: broadcast, by the tag.
    let plain = test_frame([0xff; 6], mac(1));
    for (vlan, there, elsewhere) in [(10, &red, &blue), (20, &blue, &red)] {
        let wanted = Capture::start_received(&lab, there.ns(), Vm::NIC, "")?;
        let unwanted = Capture::start_received(&lab, elsewhere.ns(), Vm::NIC, "")?;
        PacketSocket::open(trunk.ns(), Vm::NIC)?.send(&tag(&plain, vlan))?;
        ensure!(count(&wanted.stop()?, &plain) == 1, "VLAN {vlan}");
        ensure!(count(&unwanted.stop()?, &plain) == 0, "VLAN {vlan}");
    }
    // The same MAC was learned in both.
    for bd in ["red", "blue"] {
        a2.wait_row(
            "macs",
            &[("bd", json!(bd)), ("mac", json!("02:00:00:00:00:01"))],
        )?;
    }
    // To the trunk: known unicast, with the tag of its bridge domain.
    let frame = test_frame(mac(1), mac(2));
    for (vlan, from) in [(10, &red), (20, &blue)] {
        let capture = Capture::start_received(&lab, trunk.ns(), Vm::NIC, "")?;
        PacketSocket::open(from.ns(), Vm::NIC)?.send(&frame)?;
        let frames = capture.stop()?;
        ensure!(count(&frames, &tag(&frame, vlan)) == 1, "{frames:02x?}");
        ensure!(count(&frames, &frame) == 0, "{frames:02x?}");
    }
    // From one VLAN to the other: never, though the MAC is known there.
    let capture = Capture::start(&lab, underlay.ns(), "to-h1", "udp port 4789")?;
    let inside = test_frame(mac(1), mac(9));
    PacketSocket::open(trunk.ns(), Vm::NIC)?.send(&tag(&inside, 30))?;
    let frames = capture.stop()?;
    ensure!(frames.is_empty(), "{frames:02x?}");
    Ok(())
}
