//! GoBGP 3.10 as a peer with routes of its own, and as a route reflector between two agents.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, BgpMessage, GoBgpOptions, Host, Lab, RouteReflector, ScriptedPeer,
    eventually, stays, wait_flood,
};

use crate::{
    ASN, KEY, PATIENCE, VNI, Wire, has_capability, peer_row,
    reflected::{GRACEFUL, Reflected},
    wait_established, wait_mac, wait_no_mac,
};

const MAC: &str = "02:00:00:00:0e:01";

#[test]
fn bgp_025_gobgp_md5() -> Result<()> {
    let wire = Wire::new("gobgpmd5")?;
    let options = GoBgpOptions {
        password: Some(KEY),
        ..GoBgpOptions::default()
    };
    let _gobgp = RouteReflector::start_with(&wire.peer, ASN, &[wire.dut.address()], options)?;
    wire.keys_are_compared(ASN, "", false)
}

/// RT-2 and RT-3 of GoBGP's own, sent again, and withdrawn. GoBGP keeps what it received and never asks
/// for a refresh: `softresetin` is its own affair.
#[test]
fn gobgp_as_a_peer() -> Result<()> {
    let wire = Wire::new("gobgppeer")?;
    let (dut, peer) = (wire.dut.address(), wire.peer.address());
    let gobgp = RouteReflector::start(&wire.peer, ASN, &[dut])?;
    let agent = wire.agent(ASN, "")?;
    wait_established(&agent)?;
    let route =
        |verb: &str, route: &str| gobgp.command(&format!("global rib {verb} -a evpn {route}"));
    let mac =
        format!("macadv {MAC} 10.0.0.9 etag 0 label 100 rd {peer}:1 rt 65000:100 encap vxlan");
    let imet = format!(
        "multicast {peer} etag 0 rd {peer}:1 rt 65000:100 encap vxlan pmsi ingress-repl 100 {peer}"
    );
    route("add", &mac)?;
    route("add", &imet)?;
    wait_mac(&agent, MAC, &wire.peer)?;
    wait_flood(&agent, "blue", 1)?;
    agent.wait_row(
        "neighbors",
        &[("ip", json!("10.0.0.9")), ("mac", json!(MAC))],
    )?;

    let received = wire.messages(&agent, "received", "update")?;
    gobgp.command(&format!("neighbor {dut} softresetout"))?;
    eventually(PATIENCE, || {
        let now = wire.messages(&agent, "received", "update")?;
        ensure!(now > received, "{now} updates, {received} before");
        Ok(())
    })?;
    wait_mac(&agent, MAC, &wire.peer)?;
    wait_established(&agent)?;

    route("del", &mac)?;
    wait_no_mac(&agent, MAC)?;
    route("del", &imet)?;
    wait_flood(&agent, "blue", 0)
}

/// RTC-001, RTC-004, RTC-005 (RFC 4684) with a reflector: an agent is told of what it imports and of
/// nothing else, and of more as soon as it imports more, in the same session (RR-003).
///
/// Without graceful restart GoBGP sends no End-of-RIB, and the agent waits the 60 seconds of §6 for more
/// memberships before it announces anything.
#[test]
fn gobgp_reflector_with_route_target_constraint() -> Result<()> {
    let options = GoBgpOptions {
        rt_constraint: true,
        ..GRACEFUL
    };
    let lab = Reflected::start("gobgprtc", options, |number, config| {
        let config = config.bgp("auto_rt_import = \"own-as\"");
        match number {
            0 => config,
            _ => config.bd("red", 200, &[]),
        }
    })?;
    let [a1, _] = &lab.agents;
    ensure!(has_capability(a1, "rt_constraint")?, "{}", peer_row(a1)?);
    let red = |agent: &Agent| -> Result<usize> {
        let routes = agent.show("routes")?;
        let routes = routes.as_array().context("no list")?;
        let targets = routes
            .iter()
            .map(|route| &route["attributes"]["route_targets"]);
        Ok(targets
            .filter(|list| **list == json!(["65000:200"]))
            .count())
    };
    stays(Duration::from_secs(3), || {
        ensure!(red(a1)? == 0, "routes of a bridge domain that is not here");
        Ok(())
    })?;
    let sessions = opens(a1)?;
    a1.cli("bd add red --vni 200")?.done()?;
    wait_flood(a1, "red", 1)?;
    ensure!(opens(a1)? == sessions, "the session flapped");
    a1.cli("bd del red")?.done()?;
    eventually(PATIENCE, || {
        let count = red(a1)?;
        ensure!(count == 0, "{count} routes are left");
        Ok(())
    })?;
    ensure!(opens(a1)? == sessions, "the session flapped");
    lab.all_answered()
}

/// OPEN messages that an agent has sent to its peer.
fn opens(agent: &Agent) -> Result<f64> {
    let peer = peer_row(agent)?;
    let peer = peer["address"].as_str().context("no address")?;
    agent
        .metrics()?
        .value("vtep_bgp_messages_total", &[peer, "sent", "open"])
}

/// RFC 7911: two VTEPs announce a MAC under one RD, as the two of a pair with one identity do. The
/// reflector tells both paths, and when one goes the other is used without another UPDATE.
#[test]
fn gobgp_reflector_sends_several_paths() -> Result<()> {
    let lab = Lab::new("gobgppaths")?;
    let underlay = lab.underlay()?;
    let host = |name| underlay.host(name);
    let (dut, reflector, vteps) = (host("dut")?, host("rr")?, [host("v1")?, host("v2")?]);
    let [v1, v2] = &vteps;
    let options = GoBgpOptions {
        paths: 2,
        ..GoBgpOptions::default()
    };
    let clients = [dut.address(), v1.address(), v2.address()];
    let _gobgp = RouteReflector::start_with(&reflector, ASN, &clients, options)?;
    let config = AgentConfig::new(&dut, ASN)
        .peer_with(reflector.address(), ASN, "add_path = true")
        .bd("blue", VNI, &["vnet-*"]);
    let agent = Agent::start(&dut, &config)?;
    wait_established(&agent)?;
    ensure!(has_capability(&agent, "add_path")?, "{}", peer_row(&agent)?);

    let announce = |vtep: &Host| -> Result<ScriptedPeer> {
        let mut speaker = ScriptedPeer::connect(vtep, reflector.address())?;
        // Our words are few: the session has to live without keepalives of ours for a while.
        speaker.establish(&BgpMessage::open(ASN, 600, vtep.address()))?;
        speaker.send(&shared_route(vtep))?;
        Ok(speaker)
    };
    let (first, second) = (announce(v1)?, announce(v2)?);
    let paths = |count: usize| {
        eventually(PATIENCE, || {
            let routes = agent.show("routes")?;
            let routes = routes.as_array().context("no list")?;
            let ids: BTreeSet<_> = routes
                .iter()
                .filter_map(|route| route["path_id"].as_u64())
                .collect();
            ensure!(ids.len() == count, "not {count} paths: {routes:?}");
            Ok(())
        })
    };
    paths(2)?;
    let best = agent.wait_row("macs", &[("mac", json!(MAC))])?["vtep"].clone();
    // Whichever it is, the other one is used when it goes.
    let (goes, stays) = match best == json!(v2.address()) {
        true => (second, v1),
        false => (first, v2),
    };
    drop(goes);
    paths(1)?;
    wait_mac(&agent, MAC, stays)
}

/// RT-2 of [`MAC`] behind a VTEP, with an RD that is not its own.
fn shared_route(vtep: &Host) -> BgpMessage {
    let mut reach = vec![0, 25, 70, 4];
    reach.extend(vtep.address().octets());
    reach.extend([0, 2, 33, 0, 0, 0xfd, 0xe8, 0, 0, 0, 7]);
    reach.extend([0; 10 + 4]);
    reach.extend([48, 0x02, 0, 0, 0, 0x0e, 0x01, 0, 0, 0, 100]);
    let mut attributes = vec![0x80, BgpMessage::MP_REACH_NLRI, reach.len() as u8];
    attributes.extend(reach);
    // ORIGIN, AS_PATH, LOCAL_PREF, target 65000:100 and VXLAN.
    attributes.extend([0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100]);
    attributes.extend([0xc0, 16, 16, 0, 2, 0xfd, 0xe8, 0, 0, 0, 100]);
    attributes.extend([3, 0x0c, 0, 0, 0, 0, 0, 8]);
    BgpMessage::update(&attributes)
}
