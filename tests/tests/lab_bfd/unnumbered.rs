//! Peers that are known by an interface: single hop BFD between link-local addresses (RFC 5881 §4).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vtep_tests::{Agent, AgentConfig, Frr, Host, eventually};

use crate::{PATIENCE, Wire, bgp_down, peer_row, wait_up};

fn agent(host: &Host, asn: u32) -> Result<Agent> {
    let config = AgentConfig::new(host, asn).unnumbered(Host::UPLINK, "bfd = true\n");
    Agent::start(host, &config)
}

/// BGP and BFD are up, over the link-local address of the neighbour, and packets are counted under the
/// interface's name.
fn wait_single_hop(agent: &Agent) -> Result<()> {
    agent.wait_established()?;
    let bfd = wait_up(agent)?;
    ensure!(bfd["multihop"] == false, "{bfd}");
    let peer = peer_row(agent)?;
    let address = peer["address"].as_str().unwrap_or_default();
    ensure!(address.starts_with("fe80::"), "{peer}");
    let metrics = agent.metrics()?;
    ensure!(metrics.value("vtep_bfd_up", &[Host::UPLINK])? == 1.0);
    ensure!(metrics.value("vtep_bfd_packets_total", &[Host::UPLINK, "received"])? >= 2.0);
    Ok(())
}

/// BGP-028 for a peer without an address of its own: a cut is noticed, and over when it is mended.
fn survives_a_cut(wire: &Wire, agents: &[&Agent]) -> Result<()> {
    let cut = wire.cut()?;
    for agent in agents {
        let after = bgp_down(agent, cut)?;
        println!("unnumbered: BGP down {after:?} after the cut");
        ensure!(after < Duration::from_secs(10), "{after:?}");
        let peer = peer_row(agent)?;
        let why = peer["last_error"].as_str().unwrap_or_default();
        ensure!(why.contains("BFD"), "{peer}");
    }
    wire.mend()?;
    agents.iter().try_for_each(|agent| wait_single_hop(agent))
}

#[test]
fn bgp_028_unnumbered_agents_notice_a_cut() -> Result<()> {
    let wire = Wire::new("unnum")?;
    let dut = agent(&wire.dut, 65001)?;
    let peer = agent(&wire.peer, 65002)?;
    let both = [&dut, &peer];
    both.iter().try_for_each(|agent| wait_single_hop(agent))?;
    survives_a_cut(&wire, &both)?;

    // Another address is another session, for BFD too.
    let moved = "fe80::2:2";
    wire.peer.ns().ip(&format!(
        "addr flush dev {0} scope link\naddr add {moved}/64 dev {0} scope link\n",
        Host::UPLINK
    ))?;
    eventually(PATIENCE, || {
        let row = peer_row(&dut)?;
        ensure!(row["address"] == moved, "{row}");
        wait_single_hop(&dut)
    })
}

#[test]
fn bgp_028_unnumbered_with_frr() -> Result<()> {
    let wire = Wire::new("unnumfrr")?;
    let uplink = Host::UPLINK;
    let frr = Frr::start_with_bfd(
        &wire.peer,
        &format!(
            "router bgp 65002\n bgp router-id {}\n no bgp ebgp-requires-policy\n \
             no bgp default ipv4-unicast\n neighbor {uplink} interface remote-as external\n \
             neighbor {uplink} timers connect 1\n neighbor {uplink} bfd\n \
             address-family l2vpn evpn\n  neighbor {uplink} activate\n exit-address-family\n",
            wire.peer.address()
        ),
    )?;
    let agent = agent(&wire.dut, 65001)?;
    wait_single_hop(&agent)?;
    let frr_says = |expected: &str| {
        eventually(PATIENCE, || {
            let table = frr.show("show bfd peers json")?;
            let sessions = table.as_array().context("not a list")?;
            let on_uplink = |session: &&Value| session["interface"] == uplink;
            let session = sessions.iter().find(on_uplink);
            let session = session.with_context(|| format!("no session: {table}"))?;
            ensure!(
                session["status"] == expected && session["multihop"] == false,
                "{session}"
            );
            Ok(())
        })
    };
    frr_says("up")?;
    survives_a_cut(&wire, &[&agent])?;
    frr_says("up")
}
