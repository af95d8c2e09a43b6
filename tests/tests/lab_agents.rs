//! Agent to agent: two hypervisors, the whole chain on real traffic.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Host, Iperf, Lab, PacketSocket, Pair, Ping, Underlay,
    UnderlayOptions, Vm, VmSpec, Vxlan, count, eventually, stays, test_frame, wait_flood,
};

const ASN: u32 = Pair::ASN;

fn traffic_with(mode: &str, options: &UnderlayOptions) -> Result<()> {
    let lab = Lab::new(&format!("xdp-{mode}"))?;
    let underlay = lab.underlay_with(options)?;
    let xdp = format!("xdp = \"{mode}\"");
    let pair = Pair::start_with(&lab, &underlay, |config| config.vtep(&xdp))?;
    let attached = if mode == "auto" { "native" } else { mode };
    for agent in [&pair.a1, &pair.a2] {
        agent.row(
            "uplinks",
            &[("name", json!(Host::UPLINK)), ("xdp", json!(attached))],
        )?;
    }
    pair.traffic()
}

#[test]
fn traffic_with_xdp_auto() -> Result<()> {
    traffic_with("auto", &UnderlayOptions::default())
}

#[test]
fn traffic_with_xdp_native() -> Result<()> {
    traffic_with("native", &UnderlayOptions::default())
}

#[test]
fn traffic_with_xdp_generic() -> Result<()> {
    traffic_with("generic", &UnderlayOptions::default())
}

#[test]
fn traffic_with_xdp_off() -> Result<()> {
    traffic_with("off", &UnderlayOptions::default())
}

/// Veths that leave checksums to the other end: partial checksums and GSO frames cross the
/// underlay as such.
#[test]
fn traffic_with_checksum_offload() -> Result<()> {
    let options = UnderlayOptions {
        tx_checksum: true,
        ..UnderlayOptions::default()
    };
    traffic_with("off", &options)
}

/// VMs behind taps: frames enter and leave through a program, as with QEMU.
#[test]
fn traffic_of_tap_ports() -> Result<()> {
    let lab = Lab::new("taps")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vms = [
        h1.tap_vm("vm1", &VmSpec::new(1))?,
        h2.tap_vm("vm2", &VmSpec::new(2))?,
    ];
    let pair = Pair::join(&lab, [h1, h2], vms, |config| {
        config.bd_with("taps", 200, "ports = [\"tap-*\"]")
    })?;
    pair.traffic()
}

/// What the outer headers promise: RFC 7348 §5, RFC 6935 §5 (no UDP checksum over IPv4), and
/// entropy that is constant for a flow.
#[test]
fn outer_headers() -> Result<()> {
    let lab = Lab::new("outer")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    let capture = Capture::start(&lab, underlay.ns(), "to-h1", "udp port 4789")?;
    Ping::to("10.0.0.2").count(5).all_answered(pair.vm1.ns())?;
    let frames = capture.stop()?;
    let sent: Vec<Vxlan> = frames
        .iter()
        .filter_map(Vxlan::parse)
        // IPv4 from VM 1 only: ARP and ND are flows of their own.
        .filter(|vxlan| vxlan.source == pair.h1.address())
        .filter(|vxlan| vxlan.inner.get(12..14) == Some(&[0x08, 0x00]))
        .collect();
    ensure!(
        sent.len() == 5,
        "{} echo requests on the underlay",
        sent.len()
    );
    for vxlan in &sent {
        ensure!(vxlan.destination == pair.h2.address(), "{vxlan:?}");
        ensure!((vxlan.flags, vxlan.vni) == (0x08, 100), "{vxlan:?}");
        ensure!(vxlan.ttl == 64 && vxlan.dont_fragment, "{vxlan:?}");
        ensure!(vxlan.udp_checksum == 0, "{vxlan:?}");
        ensure!(vxlan.source_port >= 49152, "{vxlan:?}");
        ensure!(vxlan.source_port == sent[0].source_port, "{sent:?}");
    }
    Ok(())
}

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

/// `port add` waits for a device; `attach` and `detach` work at run time.
#[test]
fn objects_of_the_cli_forward() -> Result<()> {
    let lab = Lab::new("cli")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
    let config = |here: &Host, there: &Host| {
        AgentConfig::new(here, ASN)
            .vtep("uplinks = []")
            .peer(there.address(), ASN)
    };
    let a1 = Agent::start(&h1, &config(&h1, &h2))?;
    let a2 = Agent::start(&h2, &config(&h2, &h1))?;
    for agent in [&a1, &a2] {
        agent.cli("attach eth0")?.done()?;
        agent.cli("bd add blue --vni 100")?.done()?;
    }
    a1.cli("port add vnet-vm1 --bd blue")?.done()?;
    a2.cli("port add vnet-vm2 --bd blue --mac 02:00:00:00:00:02 --ip 10.0.0.2 --ip fd00::2")?
        .done()?;
    a2.row(
        "ports",
        &[("name", json!("vnet-vm2")), ("state", json!("waiting"))],
    )?;
    let _vm2 = h2.vm("vm2", &VmSpec::new(2))?;
    a2.wait_row(
        "ports",
        &[("name", json!("vnet-vm2")), ("state", json!("up"))],
    )?;
    // Declared: known before the VM says a word.
    a1.wait_row(
        "neighbors",
        &[
            ("ip", json!("10.0.0.2")),
            ("mac", json!("02:00:00:00:00:02")),
        ],
    )?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    Ping::to("10.0.0.2").count(20).all_answered(vm1.ns())?;

    a1.cli("detach eth0")?.done()?;
    let links = h1.ns().run("ip -details link show")?;
    ensure!(!links.contains("prog/xdp"), "{links}");
    Ping::to("10.0.0.2").count(2).never_answered(vm1.ns())?;
    a1.cli("attach eth0")?.done()?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())
}

/// SIGTERM with `on_stop = "clean"`: routes withdrawn, programs detached, pins gone, no interface,
/// address or route of ours left.
#[test]
fn a_clean_stop_leaves_nothing() -> Result<()> {
    let lab = Lab::new("stop")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
    let vm2 = h2.vm("vm2", &VmSpec::new(2))?;
    let state = |host: &Host| -> Result<[String; 4]> {
        Ok([
            host.ns().links()?.join(" "),
            host.ns().run("ip -brief address show")?,
            host.ns().run("ip route show table all")?,
            attached(host)?,
        ])
    };
    let before = state(&h1)?;
    let mut pair = Pair::join(&lab, [h1, h2], [vm1, vm2], |config| config)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    ensure!(state(&pair.h1)?[3] != before[3], "nothing is attached");

    let status = pair.a1.stop()?;
    ensure!(status.success(), "{status}");
    let after = state(&pair.h1)?;
    ensure!(after == before, "before: {before:#?}\nafter: {after:#?}");
    let pins = lab.bpffs().join("h1");
    ensure!(!has_files(&pins), "pins are left in {}", pins.display());
    // Withdrawn at the peer.
    eventually(Duration::from_secs(10), || {
        let row = pair.a2.row("macs", &[("origin", json!("remote"))]);
        ensure!(row.is_err(), "{row:?}");
        Ok(())
    })?;
    stays(Duration::from_millis(500), || {
        ensure!(pair.a2.show("vteps")?.as_array().is_some_and(Vec::is_empty));
        Ok(())
    })?;

    // And it starts again from nothing.
    pair.restart_a1()?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())
}

/// Programs on a host's devices.
fn attached(host: &Host) -> Result<String> {
    let net = host.ns().run("bpftool --json net show")?;
    let net: serde_json::Value = serde_json::from_str(&net)?;
    Ok(format!("{} {}", net[0]["xdp"], net[0]["tc"]))
}

/// Whether there is any file below a directory.
fn has_files(directory: &std::path::Path) -> bool {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| !entry.path().is_dir() || has_files(&entry.path()))
}

/// Routed underlay: the VTEP addresses are on loopback, behind a router.
#[test]
fn vtep_addresses_behind_a_router() -> Result<()> {
    let lab = Lab::new("routed")?;
    let west: Underlay = lab.underlay()?;
    let (h1, h2) = (west.host("h1")?, west.host("h2")?);
    // The second host hears of the first only through the switch's own address.
    west.ns().ip("addr add 198.18.0.254/24 dev br0\n")?;
    west.ns().sysctl("net/ipv4/ip_forward", "1")?;
    let loopbacks = ["203.0.113.1", "203.0.113.2"];
    for (host, own) in [&h1, &h2].into_iter().zip(loopbacks) {
        host.ns().ip(&format!("addr add {own}/32 dev lo\n"))?;
        host.ns()
            .ip("route add 203.0.113.0/24 via 198.18.0.254\n")?;
        west.ns()
            .ip(&format!("route add {own}/32 via {}\n", host.address()))?;
    }
    // A redirect would teach the hosts the short way.
    for scope in ["all", "br0"] {
        west.ns()
            .sysctl(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
    }
    let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
    let _vm2 = h2.vm("vm2", &VmSpec::new(2))?;
    let config = |here: &Host, own: &str, peer: &str| -> Result<AgentConfig> {
        Ok(AgentConfig::new(here, ASN)
            .vtep(&format!("address = \"{own}\""))
            .peer(peer.parse()?, ASN)
            .bd("blue", 100, &["vnet-*"]))
    };
    let a1 = Agent::start(&h1, &config(&h1, loopbacks[0], loopbacks[1])?)?;
    let _a2 = Agent::start(&h2, &config(&h2, loopbacks[1], loopbacks[0])?)?;
    a1.wait_established()?;
    a1.wait_row(
        "vteps",
        &[("address", json!(loopbacks[1])), ("reachable", json!(true))],
    )?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    Ping::to("10.0.0.2").count(20).all_answered(vm1.ns())
}
