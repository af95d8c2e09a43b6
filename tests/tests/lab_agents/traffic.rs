//! Traffic in every mode of attachment, and the headers that it has on the underlay.

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Host, Lab, Pair, Ping, Underlay, UnderlayOptions, VmSpec, Vxlan,
};

use crate::ASN;

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
