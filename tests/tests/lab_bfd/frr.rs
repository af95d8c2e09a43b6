//! FRR's bfdd, single hop and multihop.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vtep_tests::{Frr, Host, eventually, stays};

use crate::{ASN, PATIENCE, Wire, bgp_down, peer_row, wait_up};

fn frr_conf(wire: &Wire, neighbor: &str) -> String {
    let (dut, peer) = (wire.dut.address(), wire.peer.address());
    let mut conf = format!(
        "router bgp 65001\n bgp router-id {peer}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n neighbor {dut} remote-as {ASN}\n \
         neighbor {dut} timers connect 1\n"
    );
    for line in neighbor.lines() {
        conf += &format!(" neighbor {dut} {line}\n");
    }
    conf + &format!(
        " address-family l2vpn evpn\n  neighbor {dut} activate\n  advertise-all-vni\n \
         exit-address-family\n"
    )
}

/// What FRR says of its BFD session with a peer.
fn frr_session(frr: &Frr, peer: Ipv4Addr) -> Result<Value> {
    let table = frr.show("show bfd peers json")?;
    let sessions = table.as_array().context("not a list")?;
    let of_peer = |session: &&Value| session["peer"] == peer.to_string();
    sessions
        .iter()
        .find(of_peer)
        .cloned()
        .with_context(|| format!("FRR has no session with {peer}: {table}"))
}

fn with_frr(name: &str, neighbor: &str, agent_lines: &str, multihop: bool) -> Result<()> {
    let wire = Wire::new(name)?;
    let dut = wire.dut.address();
    let frr = Frr::start_with_bfd(&wire.peer, &frr_conf(&wire, neighbor))?;
    let mut agent = wire.agent(65001, agent_lines)?;
    agent.wait_established()?;
    let bfd = wait_up(&agent)?;
    ensure!(bfd["multihop"] == multihop, "{bfd}");
    let session = eventually(PATIENCE, || {
        let session = frr_session(&frr, dut)?;
        ensure!(session["status"] == "up", "{session}");
        Ok(session)
    })?;
    ensure!(session["multihop"] == multihop, "{session}");

    // AdminDown of FRR: BGP stays.
    let shut = match multihop {
        true => format!("peer {dut} multihop local-address {}", wire.peer.address()),
        false => format!(
            "peer {dut} local-address {} interface {}",
            wire.peer.address(),
            Host::UPLINK
        ),
    };
    let shutdown = |word: &str| {
        frr.vtysh(&format!("configure terminal\nbfd\n{shut}\n{word}"))
            .map(drop)
    };
    shutdown("shutdown")?;
    let admin = eventually(PATIENCE, || {
        let bfd = peer_row(&agent)?["bfd"].clone();
        ensure!(
            bfd["remote_state"] == "admin_down",
            "{bfd}; {}",
            frr.vtysh("show bfd peers")?
        );
        Ok(bfd)
    });
    admin?;
    stays(Duration::from_secs(3), || {
        let row = peer_row(&agent)?;
        ensure!(row["state"] == "established", "{row}");
        Ok(())
    })?;
    shutdown("no shutdown")?;
    wait_up(&agent)?;
    agent.wait_established()?;

    // A cut.
    let cut = wire.cut()?;
    let ours = bgp_down(&agent, cut)?;
    let theirs = eventually(PATIENCE, || {
        let session = frr_session(&frr, dut)?;
        ensure!(session["status"] == "down", "{session}");
        Ok(cut.elapsed())
    })?;
    println!("{name}: BGP down {ours:?} after the cut, FRR's BFD within {theirs:?}");
    ensure!(ours < Duration::from_secs(10), "{ours:?}");
    wire.mend()?;
    wait_up(&agent)?;
    agent.wait_established()?;

    // A clean stop: FRR hears AdminDown.
    agent.stop()?;
    eventually(PATIENCE, || {
        let session = frr_session(&frr, dut)?;
        let ok =
            session["status"] == "down" && session["remote-diagnostic"] == "administratively down";
        ensure!(ok, "{session}");
        Ok(())
    })
}

#[test]
fn frr_single_hop() -> Result<()> {
    with_frr("frr1", "bfd", "bfd = true", false)
}

#[test]
fn frr_multihop() -> Result<()> {
    let neighbor = "ebgp-multihop 5\nupdate-source 198.18.0.2\nbfd";
    with_frr("frrm", neighbor, "multihop = 5\nbfd = true", true)
}
