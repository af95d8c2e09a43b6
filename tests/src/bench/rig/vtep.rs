//! vtep, and the speaker that tells it of everything.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Result;
use serde_json::json;
use vtep_tests::{Agent, AgentConfig, Host, RouteReflector, Vm, eventually, wait_flood};

use super::{FAR, FAR6, Flooder, VNI};

const ASN: u32 = 65000;

/// The agent with all it has to know.
pub(super) fn start(
    host: &Host,
    far_host: &Host,
    far: &Vm,
    flooders: &[Flooder],
    xdp: &str,
) -> Result<Agent> {
    let ports = "ports = [\"vnet-vm*\", \"tap-vm*\"]\nageing = 0";
    let mut config = AgentConfig::new(host, ASN)
        .vtep(&format!("xdp = \"{xdp}\""))
        .peer(far_host.address(), ASN)
        .bd_with("blue", VNI, ports);
    for flooder in flooders {
        let lines = format!("ports = [{:?}]\nageing = 0", flooder.vm.port());
        config = config.bd_with(&flooder.bd(), flooder.vni, &lines);
    }
    let agent = Agent::start(host, &config)?;
    agent.wait_established()?;
    agent.wait_row("macs", &[("mac", json!(far.mac()))])?;
    wait_flood(&agent, "blue", 1)?;
    for flooder in flooders {
        wait_flood(&agent, &flooder.bd(), flooder.size.vteps as usize)?;
    }
    Ok(agent)
}

/// A BGP speaker on the far host, which announces its VM, and all VTEPs that take floods.
pub(super) fn announce(
    far_host: &Host,
    host: &Host,
    far: &Vm,
    flooders: &[Flooder],
) -> Result<RouteReflector> {
    let speaker = RouteReflector::start(far_host, ASN, &[host.address()])?;
    let own = far_host.address();
    let add = |route: &str, vni: u32, vtep: Ipv4Addr, tunnel: &str| {
        far_host.ns().run(&format!(
            "gobgp global rib add -a evpn {route} rd {vtep}:{vni} rt {ASN}:{vni} encap vxlan \
             {tunnel} nexthop {vtep}"
        ))
    };
    let imet = |vni: u32, vtep: Ipv4Addr| {
        let tunnel = format!("pmsi ingress-repl {vni} {vtep}");
        add(&format!("multicast {vtep} etag 0"), vni, vtep, &tunnel)
    };
    let mac = far.mac();
    eventually(Duration::from_secs(5), || imet(VNI, own))?;
    for address in [FAR.to_string(), FAR6.to_string()] {
        let route = format!("macadv {mac} {address} etag 0 label {VNI}");
        add(&route, VNI, own, "")?;
    }
    for flooder in flooders {
        for vtep in flooder.vteps() {
            imet(flooder.vni, vtep)?;
        }
    }
    Ok(speaker)
}
