//! The lab itself: peers that nobody here wrote talk to each other in it, and it cleans up.

use std::{net::Ipv4Addr, path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};
use vtep_tests::{
    BgpMessage, Capture, Daemon, Frr, Host, Iperf, Lab, LinuxBd, PacketSocket, Ping,
    RouteReflector, ScriptedPeer, UnderlayOptions, VmSpec, Vxlan, eventually,
};

const ASN: u32 = 65000;

/// FRR to FRR through GoBGP: the network that the agent joins in other tests.
#[test]
fn frr_reaches_frr_through_the_route_reflector() -> Result<()> {
    let lab = Lab::new("frr")?;
    let underlay = lab.underlay()?;
    let (h1, h2, rr) = (
        underlay.host("h1")?,
        underlay.host("h2")?,
        underlay.host("rr")?,
    );
    let (vm1, vm2) = (
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    );
    for (host, vm) in [(&h1, &vm1), (&h2, &vm2)] {
        LinuxBd::create(host, 100)?.plug(vm)?;
    }
    let reflector = RouteReflector::start(&rr, ASN, &[h1.address(), h2.address()])?;
    let f1 = Frr::start(&h1, ASN, &[(rr.address(), ASN)])?;
    let f2 = Frr::start(&h2, ASN, &[(rr.address(), ASN)])?;
    reflector.wait_established(2)?;
    f1.wait_established(rr.address())?;

    for target in ["10.0.0.2", "fd00::2"] {
        Ping::to(target).until_answered(vm1.ns())?;
        Ping::to(target).count(20).all_answered(vm1.ns())?;
    }
    Ping::to("10.0.0.2")
        .size(1472)
        .dont_fragment()
        .all_answered(vm1.ns())?;
    Ping::to("10.0.0.99").count(2).never_answered(vm1.ns())?;

    eventually(Duration::from_secs(10), || f1.mac(100, vm2.mac()))?;
    eventually(Duration::from_secs(10), || f2.mac(100, vm1.mac()))?;
    let entry = f1.mac(100, vm2.mac())?;
    ensure!(entry["remoteVtep"] == h2.address().to_string(), "{entry}");
    ensure!(f1.mac(100, "02:00:00:00:00:99").is_err());

    let tcp = Iperf::tcp(1).run(&lab, vm1.ns(), vm2.ns(), "10.0.0.2")?;
    ensure!(tcp.bits_per_second > 1e6, "{tcp:?}");
    let udp = Iperf::udp(1, "10M")
        .reverse()
        .run(&lab, vm1.ns(), vm2.ns(), "10.0.0.2")?;
    ensure!(udp.bits_per_second > 5e6 && udp.loss < 0.5, "{udp:?}");
    Ok(())
}

/// Two kernel VTEPs without a control plane, and what their frames look like on the underlay.
fn capture_of_static_vteps(options: &UnderlayOptions) -> Result<Vec<Vxlan>> {
    let lab = Lab::new("static")?;
    let underlay = lab.underlay_with(options)?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let (vm1, vm2) = (
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    );
    for (here, vm, there, remote) in [(&h1, &vm1, &h2, &vm2), (&h2, &vm2, &h1, &vm1)] {
        let bd = LinuxBd::create(here, 100)?;
        bd.plug(vm)?;
        bd.add_mac(remote.mac(), there)?;
        bd.add_flood(there)?;
    }
    let capture = Capture::start(&lab, underlay.ns(), "to-h1", "udp port 4789")?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    Ping::to("fd00::2").until_answered(vm1.ns())?;
    let tcp = Iperf::tcp(1).run(&lab, vm1.ns(), vm2.ns(), "10.0.0.2")?;
    ensure!(tcp.bits_per_second > 1e6, "{tcp:?}");
    Ok(capture.stop()?.iter().filter_map(Vxlan::parse).collect())
}

#[test]
fn frames_of_static_vteps_are_captured() -> Result<()> {
    let frames = capture_of_static_vteps(&UnderlayOptions::default())?;
    let first = frames.first().map(|frame| (frame.source, frame.vni));
    ensure!(
        first == Some((Ipv4Addr::new(198, 18, 0, 1), 100)),
        "{first:?}"
    );
    ensure!(
        frames
            .iter()
            .all(|frame| frame.flags == 0x08 && frame.ttl > 0)
    );
    // Both ways, and no frame larger than the underlay takes.
    ensure!(
        frames
            .iter()
            .any(|frame| frame.source == Ipv4Addr::new(198, 18, 0, 2))
    );
    ensure!(frames.iter().all(|frame| frame.inner.len() + 36 <= 1600));
    Ok(())
}

/// With checksums left to the uplink, segments too, as between a VM and its hypervisor.
#[test]
fn offloaded_frames_are_larger_than_the_mtu() -> Result<()> {
    let options = UnderlayOptions {
        tx_checksum: true,
        ..UnderlayOptions::default()
    };
    let frames = capture_of_static_vteps(&options)?;
    ensure!(frames.iter().any(|frame| frame.inner.len() > 1600));
    Ok(())
}

/// A frame from a packet socket arrives byte by byte, and unplugging stops it.
#[test]
fn raw_frames_arrive_unchanged() -> Result<()> {
    let lab = Lab::new("raw")?;
    let host = lab.underlay()?.host("h1")?;
    let vm1 = host.vm("vm1", &VmSpec::new(1).silent())?;
    let vm2 = host.vm("vm2", &VmSpec::new(2).silent())?;
    let bd = LinuxBd::create(&host, 100)?;
    bd.plug(&vm1)?;
    bd.plug(&vm2)?;
    let capture = Capture::start_received(&lab, vm2.ns(), "eth0", "")?;
    // With a VLAN tag, which the kernel takes off and tcpdump puts back.
    let mut frame = vec![0xff; 6];
    frame.extend([0x02, 0, 0, 0, 0, 0x01, 0x81, 0x00, 0x00, 0x0a, 0x88, 0xb5]);
    frame.extend([0x5a; 50]);
    let socket = PacketSocket::open(vm1.ns(), "eth0")?;
    for _ in 0..3 {
        socket.send(&frame)?;
    }
    let captured = capture.stop()?;
    let same = captured.iter().filter(|seen| seen.bytes == frame).count();
    ensure!(same == 3, "{captured:02x?}");

    vm2.unplug()?;
    ensure!(!host.ns().links()?.iter().any(|link| link == vm2.port()));
    vm2.plug()?;
    ensure!(host.ns().links()?.iter().any(|link| link == vm2.port()));
    Ok(())
}

/// A VM behind a tap talks to one behind a veth, full frames included, and its port comes and goes.
#[test]
fn taps_carry_frames() -> Result<()> {
    let lab = Lab::new("tap")?;
    let host = lab.underlay()?.host("h1")?;
    let vm1 = host.tap_vm("vm1", &VmSpec::new(1))?;
    let vm2 = host.vm("vm2", &VmSpec::new(2))?;
    let bd = LinuxBd::create(&host, 100)?;
    bd.plug(&vm1)?;
    bd.plug(&vm2)?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    Ping::to("fd00::1").until_answered(vm2.ns())?;
    Ping::to("10.0.0.2")
        .size(1472)
        .dont_fragment()
        .all_answered(vm1.ns())?;
    let tcp = Iperf::tcp(1).run(&lab, vm1.ns(), vm2.ns(), "10.0.0.2")?;
    ensure!(tcp.bits_per_second > 1e6, "{tcp:?}");

    vm1.unplug()?;
    ensure!(!host.ns().links()?.iter().any(|link| link == vm1.port()));
    vm1.plug()?;
    bd.plug(&vm1)?;
    Ping::to("10.0.0.1").until_answered(vm2.ns())
}

/// The scripted peer opens a session with FRR, both ways, and is told about its mistakes.
#[test]
fn scripted_peer_talks_to_frr() -> Result<()> {
    let lab = Lab::new("scripted")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
    LinuxBd::create(&h1, 100)?.plug(&vm1)?;
    let frr = Frr::start(&h1, ASN, &[(h2.address(), ASN)])?;

    // FRR connects to us. An IMET route for its VNI must come, then the bytes are ours to spoil.
    let mut peer = ScriptedPeer::accept(&h2)?;
    let open = BgpMessage::open(ASN, 90, h2.address());
    let theirs = peer.establish(&open)?;
    // Version 4, and the AS in two octets (RFC 4271 §4.2).
    ensure!(theirs.body.starts_with(&[4, 0xfd, 0xe8]), "{theirs:02x?}");
    frr.wait_established(h2.address())?;
    peer.expect(BgpMessage::UPDATE, Duration::from_secs(10))?;
    peer.send_raw(&[0; 19])?;
    peer.expect_close(Duration::from_secs(10))?;
    // Connection Not Synchronized: RFC 4271 §6.1.
    let notification = peer.received().last().and_then(BgpMessage::notification);
    ensure!(notification == Some((1, 1)), "{:?}", peer.received());

    let mut peer = ScriptedPeer::connect(&h2, h1.address())?;
    // A hold time of one second is forbidden: RFC 4271 §4.2, answered as §6.2 says.
    peer.send(&BgpMessage::open(ASN, 1, h2.address()))?;
    peer.expect_close(Duration::from_secs(10))?;
    let notification = peer.received().iter().find_map(BgpMessage::notification);
    ensure!(notification == Some((2, 6)), "{:?}", peer.received());
    Ok(())
}

#[test]
fn a_dropped_lab_leaves_nothing() -> Result<()> {
    let lab = Lab::new("drop")?;
    let (directory, bpffs) = (lab.directory().to_owned(), lab.bpffs());
    let mounts = || std::fs::read_to_string("/proc/mounts");
    let underlay = lab.underlay()?;
    let host: Host = underlay.host("h1")?;
    let vm = host.vm("vm1", &VmSpec::new(1))?;
    let frr = Frr::start(&host, ASN, &[])?;
    let names = [underlay.ns(), host.ns(), vm.ns()].map(|ns| format!("/run/netns/{}", ns.name()));
    ensure!(names.iter().all(|name| Path::new(name).exists()));
    ensure!(mounts()?.contains(&*bpffs.to_string_lossy()));
    let pid = { frr }.bgpd().pid();

    drop((lab, underlay, host, vm));
    ensure!(!names.iter().any(|name| Path::new(name).exists()));
    ensure!(!mounts()?.contains(&*bpffs.to_string_lossy()));
    ensure!(!directory.exists());
    ensure!(!Path::new(&format!("/proc/{pid}")).exists());
    Ok(())
}

/// A kept lab outlives its owner, daemons included, until its script removes it.
#[test]
fn a_kept_lab_is_removed_by_its_script() -> Result<()> {
    let lab = Lab::kept("self")?;
    let directory = lab.directory().to_owned();
    let ns = lab.namespace("ns")?;
    let mut sleep = ns.command("sleep");
    sleep.arg("600");
    let (pid, alive) = {
        let daemon = Daemon::spawn(&lab, "sleep", sleep)?;
        (daemon.pid(), format!("/proc/{}/exe", daemon.pid()))
    };
    let (script, name) = (lab.removal_script(), format!("/run/netns/{}", ns.name()));
    drop((ns, lab));
    ensure!(Path::new(&name).exists() && Path::new(&alive).exists());

    let status = Command::new("sh").arg("-ec").arg(&script).status()?;
    ensure!(status.success(), "{script}");
    ensure!(!Path::new(&name).exists() && !directory.exists());
    // Nobody waits for the child any more, so that it may remain as a zombie, without a program.
    ensure!(
        std::fs::read_link(&alive).is_err(),
        "process {pid} still runs"
    );
    Ok(())
}

#[test]
fn a_missing_program_is_named() -> Result<()> {
    let lab = Lab::new("missing")?;
    let outcome = lab.namespace("ns")?.run("no-such-program --help");
    let message = outcome.unwrap_or_else(|error| format!("{error:#}"));
    ensure!(message.contains("needs `no-such-program`"), "{message}");
    ensure!(message.contains("cargo xtask setup"), "{message}");
    Ok(())
}

/// The demo removes what it made, also when all went well.
#[test]
fn the_demo_leaves_nothing() -> Result<()> {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_vtep-demo"))
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let prefix = format!("vtl{}.", demo.id());
    let status = demo.wait()?;
    ensure!(status.success(), "{status}");
    for entry in std::fs::read_dir("/run/netns")? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        ensure!(!name.starts_with(&prefix), "{name} is still there");
    }
    Ok(())
}
