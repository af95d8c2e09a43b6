//! Fail closed: nothing of a VM reaches its host, nothing foreign is taken for ours.

use anyhow::{Result, ensure};
use vtep_tests::{
    Agent, AgentConfig, Capture, Lab, PacketSocket, Pair, Ping, Vm, VmSpec, Vxlan, count,
    eventually, mac_text, parse_mac, test_frame, wait_flood,
};

use crate::{dropped, protocol_counter, wait_dropped};

/// Selects test frames, tagged or not, and leaves out what VMs say of their own accord.
const TEST_FRAMES: &str = "ether proto 0x88b5 or vlan";
const VM1: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const VM2: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// A VM that puts itself into a network with its host gets no answer, whatever it asks; and nothing
/// it says configures the host.
#[test]
fn a_vm_cannot_talk_to_its_host() -> Result<()> {
    let lab = Lab::new("host")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    let (vm, host) = (pair.vm1.ns(), pair.h1.ns());
    Ping::to("10.0.0.2").until_answered(vm)?;
    let port = pair.vm1.port();
    let json = host.run(&format!("ip -json link show {port}"))?;
    let links: serde_json::Value = serde_json::from_str(&json)?;
    let port_mac = links[0]["address"].as_str().unwrap_or_default().to_owned();

    // Addresses on the port itself and on the uplink, with the VM's neighbour entries made right.
    host.ip(&format!("addr add 10.0.0.254/24 dev {port}\n"))?;
    vm.ip(&format!(
        "neigh replace 10.0.0.254 lladdr {port_mac} dev eth0\n\
         route add {}/32 dev eth0\n\
         neigh replace {} lladdr {port_mac} dev eth0\n",
        pair.h1.address(),
        pair.h1.address()
    ))?;
    let capture = Capture::start_received(&lab, vm, Vm::NIC, "arp or icmp or icmp6")?;
    Ping::to("10.0.0.254").count(3).never_answered(vm)?;
    Ping::to(&pair.h1.address().to_string())
        .count(3)
        .never_answered(vm)?;
    vm.run("ip neigh del 10.0.0.254 dev eth0")?;
    Ping::to("10.0.0.254").count(2).never_answered(vm)?;

    // Router solicitations and advertisements, as a VM may send them.
    let mut hop_limits = Vec::new();
    for (kind, body) in [
        (133_u8, &[0; 4][..]),
        (
            134,
            // Hop limit 64, router lifetime 1800 s, a prefix for address configuration.
            &[
                64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0,
                0, 0, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
    ] {
        let frame = icmp6_frame(VM1, kind, body);
        hop_limits.push(frame[21]);
        PacketSocket::open(vm, Vm::NIC)?.send(&frame)?;
    }
    ensure!(hop_limits == [255, 255]);
    Ping::to("10.0.0.2").count(5).all_answered(vm)?;
    let addresses = host.run(&format!("ip -6 address show dev {port}"))?;
    ensure!(addresses.trim().is_empty(), "{addresses}");
    let routes = host.run("ip -6 route show")?;
    ensure!(!routes.contains("default"), "{routes}");
    let source = parse_mac(&port_mac)?;
    let own: Vec<_> = capture
        .stop()?
        .into_iter()
        .filter(|frame| frame.bytes.get(6..12) == Some(&source))
        .collect();
    ensure!(own.is_empty(), "the host answered: {own:02x?}");
    Ok(())
}

/// All-nodes multicast from a link-local address, hop limit 255.
fn icmp6_frame(source: [u8; 6], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut address = vec![0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    address.push(source[5]);
    let to: [u8; 16] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let payload = [&[kind, 0, 0, 0][..], body].concat();
    let pseudo = [
        &address[..],
        &to,
        &(payload.len() as u32).to_be_bytes(),
        &[0, 0, 0, 58],
        &payload,
    ]
    .concat();
    let mut sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let check = (!(sum as u16)).to_be_bytes();
    [
        &[0x33, 0x33, 0, 0, 0, 1][..],
        &source,
        &[0x86, 0xdd, 0x60, 0, 0, 0],
        &(payload.len() as u16).to_be_bytes(),
        &[58, 255],
        &address,
        &to,
        &[kind, 0],
        &check,
        body,
    ]
    .concat()
}

/// A frame for the MAC of the host's own uplink, from a VM or from the overlay, is a frame like any
/// other: the host's stack does not see it, in no mode.
#[test]
fn frames_for_the_hosts_own_mac_stay_in_the_overlay() -> Result<()> {
    for xdp in ["native", "generic", "off"] {
        let lab = Lab::new(&format!("own-{xdp}"))?;
        let underlay = lab.underlay()?;
        let line = format!("xdp = \"{xdp}\"");
        let pair = Pair::start_with(&lab, &underlay, |config| config.vtep(&line))?;
        Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
        let uplink = pair.h2.mac()?;
        // A VM that claims the MAC of its host's uplink.
        let twin = pair.h2.vm("twin", &VmSpec::new(7).mac(&mac_text(uplink)))?;
        Ping::to("10.0.0.7").until_answered(pair.vm1.ns())?;
        Ping::to("10.0.0.7").count(20).all_answered(pair.vm1.ns())?;
        // With nobody there: flooded or dropped, but not answered by the host, which has the address.
        twin.unplug()?;
        pair.h2.ns().ip("addr add 10.0.0.7/32 dev lo\n")?;
        let vm1 = pair.vm1.ns();
        vm1.ip(&format!(
            "neigh replace 10.0.0.7 lladdr {} dev eth0\n",
            mac_text(uplink)
        ))?;
        let echoes = || protocol_counter(pair.h2.ns(), "Icmp InEchos");
        let before = echoes()?;
        Ping::to("10.0.0.7").count(5).never_answered(vm1)?;
        ensure!(
            echoes()? == before,
            "xdp {xdp}: the host saw the echo requests"
        );
    }
    Ok(())
}

/// Outer fragments: the first, which has our port, is dropped and counted; later ones, which have
/// none, are the host's, which never completes them (RFC 7348 §4.3).
#[test]
fn outer_fragments_deliver_nothing() -> Result<()> {
    for xdp in ["native", "off"] {
        let lab = Lab::new(&format!("frag-{xdp}"))?;
        let underlay = lab.underlay()?;
        let line = format!("xdp = \"{xdp}\"");
        let pair = Pair::start_with(&lab, &underlay, |config| config.vtep(&line))?;
        Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
        let inner = test_frame(VM2, VM1);
        let whole = Vxlan::frame(&pair.h1, &pair.h2, 100, &inner)?;
        let capture = Capture::start_received(&lab, pair.vm2.ns(), Vm::NIC, "")?;
        let before = dropped(&pair.a2, "outer_fragment")?;
        let socket = PacketSocket::open(pair.h1.ns(), "eth0")?;
        for fragment in fragments(&whole) {
            socket.send(&fragment)?;
        }
        socket.send(&whole)?;
        wait_dropped(&pair.a2, "outer_fragment", before, 1.0)?;
        let frames = capture.stop()?;
        ensure!(count(&frames, &inner) == 1, "xdp {xdp}: {frames:02x?}");
    }
    Ok(())
}

/// An IPv4 frame in two fragments.
fn fragments(frame: &[u8]) -> [Vec<u8>; 2] {
    let cut = |range: std::ops::Range<usize>, flags: u16| {
        let length = (20 + range.len()) as u16;
        let mut part = [&frame[..34], &frame[range]].concat();
        part[16..18].copy_from_slice(&length.to_be_bytes());
        part[20..22].copy_from_slice(&flags.to_be_bytes());
        part[24..26].fill(0);
        let mut sum: u32 = part[14..34]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        part[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        part
    };
    [cut(34..34 + 48, 0x2000), cut(34 + 48..frame.len(), 48 / 8)]
}

/// Inner tags from the overlay, in every mode: VID 0 goes, another one is no frame for us; and the
/// tag of the wire around it all is not ours either.
#[test]
fn tagged_frames_from_the_underlay() -> Result<()> {
    for xdp in ["native", "generic", "off"] {
        let lab = Lab::new(&format!("tag-{xdp}"))?;
        let underlay = lab.underlay()?;
        let line = format!("xdp = \"{xdp}\"");
        let pair = Pair::start_with(&lab, &underlay, |config| config.vtep(&line))?;
        Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
        let plain = test_frame(VM2, VM1);
        let tag = |frame: &[u8], vlan: u8| {
            [&frame[..12], &[0x81, 0x00, 0x00, vlan], &frame[12..]].concat()
        };
        let capture = Capture::start_received(&lab, pair.vm2.ns(), Vm::NIC, TEST_FRAMES)?;
        let before = dropped(&pair.a2, "inner_vlan")?;
        let socket = PacketSocket::open(pair.h1.ns(), "eth0")?;
        for inner in [tag(&plain, 0), tag(&plain, 5)] {
            socket.send(&Vxlan::frame(&pair.h1, &pair.h2, 100, &inner)?)?;
        }
        socket.send(&tag(&Vxlan::frame(&pair.h1, &pair.h2, 100, &plain)?, 5))?;
        wait_dropped(&pair.a2, "inner_vlan", before, 1.0)?;
        let frames = capture.stop()?;
        ensure!(frames.len() == 1, "xdp {xdp}: {frames:02x?}");
        ensure!(count(&frames, &plain) == 1, "xdp {xdp}: {frames:02x?}");
    }
    Ok(())
}

/// A VM's priority tag (VID 0) is as good as none; a second tag is refused.
#[test]
fn tagged_frames_from_a_vm() -> Result<()> {
    let lab = Lab::new("vmtag")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm1 = h1.vm("vm1", &VmSpec::new(1).silent())?;
    let vm2 = h2.vm("vm2", &VmSpec::new(2).silent())?;
    let config = |here: &vtep_tests::Host, there: &vtep_tests::Host| {
        AgentConfig::new(here, Pair::ASN)
            .peer(there.address(), Pair::ASN)
            .bd("blue", 100, &["vnet-*"])
    };
    let a1 = Agent::start(&h1, &config(&h1, &h2))?;
    let _a2 = Agent::start(&h2, &config(&h2, &h1))?;
    wait_flood(&a1, "blue", 1)?;
    let plain = test_frame([0xff; 6], VM1);
    let tag = |frame: &[u8], tpid: [u8; 2], vlan: u8| {
        [&frame[..12], &tpid, &[0x00, vlan], &frame[12..]].concat()
    };
    let capture = Capture::start_received(&lab, vm2.ns(), Vm::NIC, TEST_FRAMES)?;
    let before = [dropped(&a1, "inner_vlan")?, dropped(&a1, "port_vlan")?];
    let socket = PacketSocket::open(vm1.ns(), Vm::NIC)?;
    socket.send(&tag(&plain, [0x81, 0x00], 0))?;
    socket.send(&tag(&tag(&plain, [0x81, 0x00], 7), [0x81, 0x00], 0))?;
    socket.send(&tag(&plain, [0x88, 0xa8], 7))?;
    socket.send(&tag(&plain, [0x81, 0x00], 7))?;
    wait_dropped(&a1, "inner_vlan", before[0], 1.0)?;
    wait_dropped(&a1, "port_vlan", before[1], 2.0)?;
    let frames = capture.stop()?;
    ensure!(
        frames.len() == 1 && count(&frames, &plain) == 1,
        "{frames:02x?}"
    );
    eventually(std::time::Duration::from_secs(1), || Ok(()))
}
