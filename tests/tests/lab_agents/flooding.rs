//! What goes to everybody, what goes to nobody, and what need not be asked.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Lab, PacketSocket, Pair, Ping, Vm, VmSpec, Vxlan, count,
    eventually, test_frame,
};

use crate::ASN;

/// MAC-007, MAC-008: broadcast, multicast and unknown unicast reach every VM of the bridge domain
/// exactly once, and neither the sender nor another bridge domain.
#[test]
fn flooding_reaches_every_vm_of_the_bd_once() -> Result<()> {
    let lab = Lab::new("flood")?;
    let underlay = lab.underlay()?;
    let hosts = [
        underlay.host("h1")?,
        underlay.host("h2")?,
        underlay.host("h3")?,
    ];
    // Two VMs of the bridge domain and one of another on each host.
    let mut blue = Vec::new();
    let mut red = Vec::new();
    for (index, host) in (1..).zip(&hosts) {
        for side in ["a", "b"] {
            let number = if side == "a" { index } else { index + 0x10 };
            blue.push(host.vm(&format!("b{index}{side}"), &VmSpec::new(number).silent())?);
        }
        red.push(host.vm(&format!("r{index}"), &VmSpec::new(index).silent())?);
    }
    let mut agents = Vec::new();
    for host in &hosts {
        let mut config = AgentConfig::new(host, ASN)
            .bd("blue", 100, &["vnet-b*"])
            .bd("red", 200, &["vnet-r*"]);
        for other in hosts.iter().filter(|other| other.name() != host.name()) {
            config = config.peer(other.address(), ASN);
        }
        agents.push(Agent::start(host, &config)?);
    }
    for agent in &agents {
        eventually(Duration::from_secs(30), || {
            let row = agent.row("flood", &[("bd", json!("blue"))])?;
            ensure!(
                row["vteps"]
                    .as_array()
                    .is_some_and(|vteps| vteps.len() == 2),
                "{row}"
            );
            ensure!(
                row["ports"]
                    .as_array()
                    .is_some_and(|ports| ports.len() == 2),
                "{row}"
            );
            Ok(())
        })?;
    }

    for destination in [
        [0xff; 6],
        [0x01, 0x00, 0x5e, 0x01, 0x02, 0x03],
        [0x33, 0x33, 0x00, 0x01, 0x02, 0x03],
        [0x02, 0x00, 0x00, 0x00, 0x77, 0x77],
    ] {
        let frame = test_frame(destination, [0x02, 0, 0, 0, 0, 0x01]);
        let start = |vm: &Vm| Capture::start_received(&lab, vm.ns(), Vm::NIC, "");
        let blues = blue.iter().map(start).collect::<Result<Vec<_>>>()?;
        let reds = red.iter().map(start).collect::<Result<Vec<_>>>()?;
        let socket = PacketSocket::open(blue[0].ns(), Vm::NIC)?;
        for _ in 0..5 {
            socket.send(&frame)?;
        }
        for (vm, capture) in blue.iter().zip(blues) {
            let expected = if vm.name() == blue[0].name() { 0 } else { 5 };
            let seen = count(&capture.stop()?, &frame);
            ensure!(
                seen == expected,
                "{}: {seen} of {destination:02x?}",
                vm.name()
            );
        }
        for (vm, capture) in red.iter().zip(reds) {
            let seen = count(&capture.stop()?, &frame);
            ensure!(seen == 0, "{}: {seen} of {destination:02x?}", vm.name());
        }
    }
    Ok(())
}

/// Link-local control frames (IEEE 802.1Q §8.6.3) stay on their link.
#[test]
fn link_local_control_frames_are_not_tunnelled() -> Result<()> {
    let lab = Lab::new("control")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    let capture = Capture::start_received(&lab, pair.vm2.ns(), Vm::NIC, "")?;
    let socket = PacketSocket::open(pair.vm1.ns(), Vm::NIC)?;
    let control = test_frame([0x01, 0x80, 0xc2, 0, 0, 0x0e], [0x02, 0, 0, 0, 0, 0x01]);
    let witness = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, 0x01]);
    socket.send(&control)?;
    socket.send(&witness)?;
    let frames = capture.stop()?;
    ensure!(count(&frames, &witness) == 1, "{frames:02x?}");
    ensure!(count(&frames, &control) == 0, "{frames:02x?}");
    Ok(())
}

/// Requests for what is known are answered on the spot: nothing on the underlay (RFC 9161 §3).
#[test]
fn arp_and_nd_are_suppressed() -> Result<()> {
    let lab = Lab::new("suppress")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    let vm1 = pair.vm1.ns();
    Ping::to("10.0.0.2").until_answered(vm1)?;
    Ping::to("fd00::2").until_answered(vm1)?;
    for ip in ["10.0.0.2", "fd00::2"] {
        pair.a1.wait_row(
            "neighbors",
            &[("ip", json!(ip)), ("origin", json!("remote"))],
        )?;
    }
    let before = pair.a1.show("counters")?;

    let capture = Capture::start(&lab, underlay.ns(), "to-h1", "udp port 4789")?;
    vm1.run("ip neigh flush dev eth0")?;
    let arping = vm1.run("arping -c 3 -w 3 -I eth0 10.0.0.2")?;
    ensure!(arping.contains(&pair.vm2.mac().to_uppercase()), "{arping}");
    let ndisc = vm1.run("ndisc6 -1 -q fd00::2 eth0")?;
    ensure!(ndisc.trim().eq_ignore_ascii_case(pair.vm2.mac()), "{ndisc}");
    let asked: Vec<_> = capture
        .stop()?
        .iter()
        .filter_map(Vxlan::parse)
        .filter(|vxlan| is_request(&vxlan.inner))
        .collect();
    ensure!(asked.is_empty(), "requests on the underlay: {asked:02x?}");

    eventually(Duration::from_secs(5), || {
        let now = pair.a1.show("counters")?;
        for protocol in ["arp", "nd"] {
            let read = |counters: &serde_json::Value| counters["suppressed"][protocol].as_u64();
            ensure!(read(&now) > read(&before), "{protocol}: {now}");
        }
        Ok(())
    })?;

    // An unknown address is still asked for everywhere.
    let capture = Capture::start(&lab, underlay.ns(), "to-h1", "udp port 4789")?;
    Ping::to("10.0.0.77").count(1).never_answered(vm1)?;
    let frames = capture.stop()?;
    let asked = frames
        .iter()
        .filter_map(Vxlan::parse)
        .any(|vxlan| is_request(&vxlan.inner));
    ensure!(asked, "no request for an unknown address on the underlay");
    Ok(())
}

/// Whether a frame is a broadcast ARP request or a multicast neighbour solicitation.
fn is_request(frame: &[u8]) -> bool {
    let group = frame.first().is_some_and(|first| first & 1 == 1);
    let arp = frame.get(12..14) == Some(&[0x08, 0x06]) && frame.get(20..22) == Some(&[0, 1]);
    // IPv6, next header ICMPv6, type 135.
    let nd = frame.get(12..14) == Some(&[0x86, 0xdd])
        && frame.get(20) == Some(&58)
        && frame.get(54) == Some(&135);
    group && (arp || nd)
}
