//! What a VM must not do to others.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Host, Lab, PacketSocket, Pair, Ping, VmSpec, eventually,
    wait_flood,
};

/// A host for each name, and on each an agent with `blue`, peers of each other. `bd` is more lines of
/// configuration.
fn agents(hosts: &[Host], bd: &str) -> Result<Vec<Agent>> {
    let start = |host: &Host| {
        let mut config = AgentConfig::new(host, Pair::ASN);
        for other in hosts.iter().filter(|other| other.name() != host.name()) {
            config = config.peer(other.address(), Pair::ASN);
        }
        let lines = format!("ports = [\"vnet-*\"]\n{bd}");
        Agent::start(host, &config.bd_with("blue", 100, &lines))
    };
    let agents = hosts.iter().map(start).collect::<Result<Vec<_>>>()?;
    for agent in &agents {
        agent.wait_established()?;
        wait_flood(agent, "blue", hosts.len() - 1)?;
    }
    Ok(agents)
}

/// An ARP request in a frame of its own.
fn arp(source: [u8; 6], sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(source);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(sender.0);
    frame.extend(sender.1.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// RFC 7432 §15.2 and RFC 9161 §7: a VM whose endpoints are declared can be nobody else, neither
/// towards another VM of its host nor across the underlay; what it may send goes on.
#[test]
fn declared_endpoints_are_a_source_filter() -> Result<()> {
    let lab = Lab::new("filter")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    let vm1 = hosts[0].vm("vm1", &VmSpec::new(1))?;
    let vm2 = hosts[1].vm("vm2", &VmSpec::new(2))?;
    let agents = agents(&hosts, "")?;
    let port = |filter: bool| {
        agents[0].wait_row(
            "ports",
            &[
                ("name", json!("vnet-vm1")),
                ("source_filter", json!(filter)),
            ],
        )
    };
    port(false)?;
    agents[0]
        .cli("port add vnet-vm1 --bd blue --mac 02:00:00:00:00:01 --ip 10.0.0.1 --ip fd00::1")?;
    port(true)?;
    for target in ["10.0.0.2", "fd00::2"] {
        Ping::to(target).until_answered(vm1.ns())?;
    }

    // Whatever arrives at the other VM in somebody else's name.
    let capture = Capture::start_received(
        &lab,
        vm2.ns(),
        "eth0",
        "ether src 02:00:00:00:00:99 or (arp and arp[14:4] = 0x0a000063)",
    )?;
    let socket = PacketSocket::open(vm1.ns(), "eth0")?;
    let (own, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0x99]);
    let (ip1, ip2) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let stolen = Ipv4Addr::new(10, 0, 0, 0x63);
    for _ in 0..10 {
        socket.send(&arp(other, (other, ip1), ip2))?;
        socket.send(&arp(own, (own, stolen), ip2))?;
        socket.send(&arp(own, (other, ip1), ip2))?;
    }
    eventually(Duration::from_secs(60), || {
        let drops = agents[0].show("counters")?;
        let count = |reason: &str| drops["drops"][reason].as_u64().unwrap_or(0);
        ensure!(
            count("source_spoofed") >= 10 && count("arp_spoofed") >= 20,
            "{drops}"
        );
        Ok(())
    })?;
    // Behind those, in order, what may pass.
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    let strange = capture.stop()?;
    ensure!(strange.is_empty(), "{} frames got through", strange.len());
    for agent in &agents {
        let known = agent.show("macs")?.to_string();
        ensure!(!known.contains("02:00:00:00:00:99"), "{known}");
    }

    // Not declared any more: as free as any other port.
    agents[0].cli("port del vnet-vm1 --mac 02:00:00:00:00:01")?;
    port(false)?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    socket.send(&arp(other, (other, ip1), ip2))?;
    agents[1].wait_row("macs", &[("mac", json!("02:00:00:00:00:99"))])?;
    Ok(())
}
