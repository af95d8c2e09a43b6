//! GoBGP 3.10 as a peer with routes of its own, and as a route reflector between two agents.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{Agent, GoBgpOptions, RouteReflector, eventually, stays, wait_flood};

use crate::{
    ASN, KEY, PATIENCE, Wire, has_capability, peer_row,
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
