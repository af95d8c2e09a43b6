//! vtep, and the speaker that tells it of everything.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, BgpMessage, Host, RouteReflector, ScriptedPeer, Vm, eventually, wait_flood,
};

use super::{Domains, FAR, FAR6, Flooder, Table, VNI, tables};

const ASN: u32 = 65000;
/// How long large tables may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The agent with all it has to know.
pub(super) fn start(
    host: &Host,
    far_host: &Host,
    far: &Vm,
    flooders: &[Flooder],
    domains: Option<&Domains>,
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
    for domain in domains.iter().flat_map(|_| Domains::all()) {
        let lines = format!("ports = [{:?}]\nageing = 0", domain.port());
        config = config.bd_with(&domain.name(), domain.vni(), &lines);
    }
    let agent = Agent::start(host, &config)?;
    agent.wait_established()?;
    agent.wait_row("macs", &[("mac", json!(far.mac()))])?;
    wait_flood(&agent, "blue", 1)?;
    for flooder in flooders {
        wait_flood(&agent, &flooder.bd(), usize::from(flooder.size.vteps))?;
    }
    if let Some(domains) = domains {
        eventually(PATIENCE, || {
            domains.speak()?;
            has_macs(&agent, Domains::all().count())
        })?;
    }
    Ok(agent)
}

/// The agent with the tables, which a speaker made for the purpose tells it. Nothing need be heard of
/// the session after that: its hold time is 0.
pub(super) fn with_tables(
    host: &Host,
    far_host: &Host,
    tables: &[Table],
    xdp: &str,
) -> Result<(Agent, ScriptedPeer)> {
    let mut config = AgentConfig::new(host, ASN)
        .vtep(&format!("xdp = \"{xdp}\""))
        .vtep(&format!("max_macs = {}", tables::ROOM))
        .peer(far_host.address(), ASN);
    for table in tables {
        let lines = format!("ports = [{:?}]\nageing = 0", table.vm.port());
        config = config.bd_with(&table.name(), table.vni(), &lines);
    }
    let agent = Agent::start(host, &config)?;
    let mut peer = ScriptedPeer::accept(far_host)?;
    peer.establish(&BgpMessage::open(ASN, 0, far_host.address()))?;
    peer.send_raw(&tables::announcements(tables))?;
    let wanted: usize = tables.iter().map(Table::len).sum();
    eventually(PATIENCE, || has_macs(&agent, wanted))?;
    Ok((agent, peer))
}

/// Whether so many MACs are in the map that forwards.
fn has_macs(agent: &Agent, wanted: usize) -> Result<()> {
    let entries = agent
        .metrics()?
        .value("vtep_map_entries", &["map=\"fdb\""])? as usize;
    ensure!(entries >= wanted, "{entries} of {wanted} MACs");
    Ok(())
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
