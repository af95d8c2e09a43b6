//! GSO, checksums, and the vxlan device that inner TCP goes through where XDP is off.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Host, Iperf, Lab, Pair, Ping, UnderlayOptions, Vm, VmSpec, eventually,
};

use crate::{datagrams_arrive, received};

/// The agent's vxlan device.
const DEVICE: &str = "vtep-vx4789";

/// How VMs are joined to their hosts.
#[derive(Clone, Copy, Debug)]
enum Ports {
    Veth,
    /// With a qdisc: no `bpf_redirect_peer`.
    ShapedVeth,
    Tap,
    OffloadingTap,
}

fn pair(name: &str, ports: Ports, tx_checksum: bool, lines: [&str; 2]) -> Result<Pair> {
    let lab = Lab::new(name)?;
    let underlay = lab.underlay_with(&UnderlayOptions {
        tx_checksum,
        ..UnderlayOptions::default()
    })?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm = |host: &Host, name: &str, number| -> Result<Vm> {
        let spec = VmSpec::new(number);
        match ports {
            Ports::Veth => host.vm(name, &spec),
            Ports::ShapedVeth => {
                let vm = host.vm(name, &spec)?;
                let qdisc = format!("tc qdisc replace dev {} root pfifo limit 1000", vm.port());
                host.ns().run(&qdisc)?;
                Ok(vm)
            }
            Ports::Tap => host.tap_vm(name, &spec),
            Ports::OffloadingTap => host.tap_vm(name, &spec.offload()),
        }
    };
    let vms = [vm(&h1, "vm1", 1)?, vm(&h2, "vm2", 2)?];
    let pair = Pair::join(&lab, [h1, h2], vms, |config| {
        let config = lines.iter().fold(config, |config, line| config.vtep(line));
        config.bd_with("taps", 200, "ports = [\"tap-*\"]")
    })?;
    for (from, target) in [
        (&pair.vm1, "10.0.0.2"),
        (&pair.vm1, "fd00::2"),
        (&pair.vm2, "fd00::1"),
    ] {
        Ping::to(target).until_answered(from.ns())?;
    }
    Ok(pair)
}

/// TCP and UDP with segmentation and checksums left to devices, over IPv4 and IPv6, both ways.
fn streams(pair: &Pair) -> Result<()> {
    for address in ["10.0.0.2", "fd00::2"] {
        for iperf in [Iperf::tcp(1), Iperf::tcp(1).reverse()] {
            let tcp = iperf.run(&pair.lab, pair.vm1.ns(), pair.vm2.ns(), address)?;
            ensure!(tcp.bits_per_second > 1e7, "{address} {iperf:?}: {tcp:?}");
        }
        let arrived = datagrams_arrive(pair, address, "20M")?;
        // A tap's queue is short, too.
        ensure!(arrived > 0.9, "{address}: {arrived}");
    }
    Ok(())
}

fn streams_everywhere(name: &str, ports: Ports) -> Result<()> {
    for tx_checksum in [false, true] {
        // The device takes TCP; `pass` leaves the UDP port to the host, and TCP to the TC half.
        for (unknown, path) in [("drop", "device"), ("pass", "tc")] {
            let line = format!("unknown_vni = \"{unknown}\"");
            let name = format!("{name}-{unknown}");
            let pair = pair(&name, ports, tx_checksum, ["xdp = \"off\"", &line])?;
            let before = received(&pair.a2, path)?;
            streams(&pair)
                .map_err(|error| error.context(format!("{ports:?} {tx_checksum} {path}")))?;
            let after = received(&pair.a2, path)?;
            ensure!(after - before > 1000.0, "{path}: {before}, then {after}");
        }
    }
    Ok(())
}

#[test]
fn streams_of_veth_ports() -> Result<()> {
    streams_everywhere("veth", Ports::Veth)
}

#[test]
fn streams_of_veth_ports_with_a_qdisc() -> Result<()> {
    streams_everywhere("qdisc", Ports::ShapedVeth)
}

#[test]
fn streams_of_tap_ports() -> Result<()> {
    streams_everywhere("tap", Ports::Tap)
}

#[test]
fn streams_of_offloading_tap_ports() -> Result<()> {
    streams_everywhere("tapo", Ports::OffloadingTap)
}

/// Two ports of one host, of every kind.
#[test]
fn streams_between_ports_of_one_host() -> Result<()> {
    let lab = Lab::new("local")?;
    let underlay = lab.underlay()?;
    let host = underlay.host("h1")?;
    let veths = [
        host.vm("v1", &VmSpec::new(1))?,
        host.vm("v2", &VmSpec::new(2))?,
    ];
    let taps = [
        host.tap_vm("t3", &VmSpec::new(3))?,
        host.tap_vm("t4", &VmSpec::new(4).offload())?,
    ];
    let config = AgentConfig::new(&host, Pair::ASN).bd("blue", 100, &["vnet-*", "tap-*"]);
    let _agent = Agent::start(&host, &config)?;
    let client = veths[0].ns();
    for (server, number) in [(&veths[1], 2), (&taps[0], 3), (&taps[1], 4)] {
        for address in [format!("10.0.0.{number}"), format!("fd00::{number}")] {
            Ping::to(&address).until_answered(client)?;
            for iperf in [Iperf::tcp(1), Iperf::tcp(1).reverse()] {
                let tcp = iperf.run(&lab, client, server.ns(), &address)?;
                ensure!(tcp.bits_per_second > 1e7, "{address} {iperf:?}: {tcp:?}");
            }
        }
    }
    Ok(())
}

fn has_device(host: &Host) -> Result<bool> {
    Ok(host.ns().links()?.iter().any(|name| name == DEVICE))
}

fn ifindex(host: &Host) -> Result<String> {
    let line = host.ns().run(&format!("ip -oneline link show {DEVICE}"))?;
    Ok(line.split(':').next().unwrap_or_default().to_owned())
}

/// The device is there while an uplink has no XDP half, is taken over after `keep`, and goes with a
/// clean stop.
#[test]
fn the_vxlan_device_comes_and_goes() -> Result<()> {
    let mut pair = pair(
        "device",
        Ports::Veth,
        false,
        ["xdp = \"off\"", "on_stop = \"keep\""],
    )?;
    let stream = |pair: &Pair| -> Result<()> {
        let tcp = Iperf::tcp(1).run(&pair.lab, pair.vm2.ns(), pair.vm1.ns(), "10.0.0.1")?;
        ensure!(tcp.bits_per_second > 1e7, "{tcp:?}");
        Ok(())
    };
    let first = ifindex(&pair.h1)?;
    let addresses = pair.h1.ns().run(&format!("ip address show dev {DEVICE}"))?;
    ensure!(!addresses.contains("inet"), "{addresses}");

    pair.a1.stop()?;
    ensure!(ifindex(&pair.h1)? == first, "not kept");
    pair.restart_a1()?;
    ensure!(ifindex(&pair.h1)? == first, "another device");
    Ping::to("10.0.0.1").until_answered(pair.vm2.ns())?;
    let before = received(&pair.a1, "device")?;
    stream(&pair)?;
    ensure!(received(&pair.a1, "device")? > before);

    // Removed, or down, under the agent: TCP flows all the same.
    pair.h1.ns().ip(&format!("link del {DEVICE}\n"))?;
    eventually(Duration::from_secs(5), || {
        ensure!(has_device(&pair.h1)?, "not made again");
        Ok(())
    })?;
    stream(&pair)?;
    pair.h1.ns().ip(&format!("link set {DEVICE} down\n"))?;
    eventually(Duration::from_secs(5), || stream(&pair))?;
    let before = received(&pair.a1, "tc")?;
    stream(&pair)?;
    ensure!(received(&pair.a1, "tc")? - before > 1000.0);
    pair.h1.ns().ip(&format!("link set {DEVICE} up\n"))?;
    let before = received(&pair.a1, "device")?;
    eventually(Duration::from_secs(5), || {
        stream(&pair)?;
        ensure!(received(&pair.a1, "device")? - before > 1000.0);
        Ok(())
    })?;

    // Not needed with XDP in the driver, needed again without.
    pair.a1
        .reload(&pair.config1().vtep("xdp = \"native\""))?
        .done()?;
    ensure!(!has_device(&pair.h1)?, "still there");
    stream(&pair)?;
    pair.a1.reload(&pair.config1())?.done()?;
    ensure!(has_device(&pair.h1)?, "not there");
    pair.a1.stop()?;
    ensure!(has_device(&pair.h1)?, "not kept");

    // What an earlier run kept goes when it is not needed, and at a clean stop.
    pair.a1 = Agent::start(&pair.h1, &pair.config1().vtep("xdp = \"native\""))?;
    ensure!(!has_device(&pair.h1)?, "left by an earlier run");
    pair.a1.stop()?;
    let config = pair.config1().vtep("on_stop = \"clean\"");
    pair.a1 = Agent::start(&pair.h1, &config)?;
    ensure!(has_device(&pair.h1)?, "not there");
    pair.a1.stop()?;
    ensure!(!has_device(&pair.h1)?, "left by a clean stop");
    Ok(())
}

/// A VXLAN device of the host's own on the UDP port: the agent says so and does without.
#[test]
fn a_taken_udp_port_leaves_tcp_to_the_tc_half() -> Result<()> {
    let lab = Lab::new("taken")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    h1.ns().ip(
        "link add other type vxlan id 999 local 198.18.0.1 dstport 4789\nlink set other up\n",
    )?;
    let vms = [
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    ];
    let mut pair = Pair::join(&lab, [h1, h2], vms, |config| config.vtep("xdp = \"off\""))?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    pair.a1
        .daemon()
        .wait_for_log("no vxlan device for inner TCP", Duration::from_secs(5))?;
    ensure!(!has_device(&pair.h1)?, "half a device is left");
    let before = received(&pair.a1, "tc")?;
    let tcp = Iperf::tcp(1).run(&lab, pair.vm2.ns(), pair.vm1.ns(), "10.0.0.1")?;
    ensure!(tcp.bits_per_second > 1e7, "{tcp:?}");
    ensure!(received(&pair.a1, "tc")? - before > 1000.0);
    pair.a1.row("uplinks", &[("xdp", json!("off"))]).map(drop)
}
