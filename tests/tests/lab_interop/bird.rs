//! BIRD 2.0, which has no EVPN: a session with the IPv4 unicast family alone, as with a router of the
//! underlay.

use std::time::Duration;

use anyhow::{Result, ensure};
use vtep_tests::{Agent, Bird, eventually, stays};

use crate::{ASN, KEY, PATIENCE, Wire, has_capability, peer_row, wait_established, wait_routes};

const BIRD_ASN: u32 = 65001;
const IPV4: &str = "families = [\"ipv4\"]";
const TWO: [&str; 2] = ["192.0.2.0/24", "203.0.113.0/24"];

/// BIRD with some routes for the agent.
fn protocols(wire: &Wire, lines: &str, prefixes: &[&str]) -> String {
    let (dut, peer) = (wire.dut.address(), wire.peer.address());
    let routes: String = prefixes
        .iter()
        .map(|prefix| format!("route {prefix} blackhole; "))
        .collect();
    format!(
        "protocol static announced {{ ipv4; {routes} }}\n\
         protocol bgp agent {{\n local {peer} as {BIRD_ASN};\n neighbor {dut} as {ASN};\n \
         connect delay time 1;\n connect retry time 1;\n error wait time 1, 2;\n \
         graceful restart on;\n {lines}\n ipv4 {{ import all; export where source = RTS_STATIC; }};\n}}\n"
    )
}

fn start(name: &str) -> Result<(Wire, Bird, Agent)> {
    let wire = Wire::new(name)?;
    let bird = Bird::start(&wire.peer, &protocols(&wire, "", &TWO))?;
    let agent = wire.agent(BIRD_ASN, IPV4)?;
    wait_established(&agent)?;
    wait_routes(&agent, 2, 0)?;
    Ok((wire, bird, agent))
}

/// RFC 4760 and RFC 4271: our VTEP's address and BIRD's prefixes, and BIRD names us as their origin.
#[test]
fn bird_lists_what_the_agent_announces() -> Result<()> {
    let (wire, bird, agent) = start("birdlist")?;
    let dut = wire.dut.address();
    eventually(PATIENCE, || {
        let routes = bird.birdc("show route protocol agent all")?;
        for text in [
            format!("{dut}/32"),
            format!("BGP.next_hop: {dut}"),
            format!("BGP.as_path: {ASN}"),
            "BGP.origin: IGP".to_owned(),
        ] {
            ensure!(routes.contains(&text), "no {text}: {routes}");
        }
        Ok(())
    })?;
    let peer = peer_row(&agent)?;
    ensure!(peer["routes_sent"] == 1, "{peer}");
    Ok(())
}

/// RR-001 (RFC 7313), both ways: what is asked for comes between BoRR and EoRR, and what was said again
/// stays.
#[test]
fn bird_enhanced_refresh() -> Result<()> {
    let (wire, bird, agent) = start("birdrefresh")?;
    ensure!(has_capability(&agent, "enhanced_route_refresh")?);
    let messages = |direction: &'static str, expected: f64| {
        eventually(PATIENCE, || {
            let seen = wire.messages(&agent, direction, "route_refresh")?;
            ensure!(seen == expected, "{direction}: {seen}, not {expected}");
            Ok(())
        })
    };
    // A request of BIRD's; our BoRR and EoRR.
    bird.birdc("reload in agent")?;
    messages("received", 1.0)?;
    messages("sent", 2.0)?;
    // BIRD's BoRR and EoRR.
    bird.birdc("reload out agent")?;
    messages("received", 3.0)?;
    wait_routes(&agent, 2, 0)?;
    wait_established(&agent)
}

#[test]
fn bgp_025_bird_md5() -> Result<()> {
    let wire = Wire::new("birdmd5")?;
    let key = format!("password \"{KEY}\";");
    let _bird = Bird::start(&wire.peer, &protocols(&wire, &key, &TWO))?;
    wire.keys_are_compared(BIRD_ASN, IPV4, true)
}

/// BGP-026 (RFC 5082): with `ttl security` on both sides there is a session; where BIRD has none, the
/// kernel drops what it sends and the agent says so.
#[test]
fn bgp_026_bird_ttl_security() -> Result<()> {
    let wire = Wire::new("birdttl")?;
    let lines = format!("ttl_security = 1\n{IPV4}");
    let mut bird = Bird::start(&wire.peer, &protocols(&wire, "", &TWO))?;
    let agent = wire.agent(BIRD_ASN, &lines)?;
    eventually(PATIENCE, || {
        let peer = peer_row(&agent)?;
        let why = peer["last_error"].as_str().unwrap_or_default();
        ensure!(peer["state"] != "established", "{peer}");
        ensure!(why.contains("with a TTL that is too low"), "{peer}");
        Ok(())
    })?;
    bird.daemon().kill()?;
    bird.restart(&protocols(&wire, "ttl security on;", &TWO))?;
    wait_established(&agent)?;
    wait_routes(&agent, 2, 0)
}

/// RFC 4271 §4.2: the smaller hold time counts, and is shown.
#[test]
fn bird_negotiates_the_hold_time() -> Result<()> {
    let wire = Wire::new("birdhold")?;
    let _bird = Bird::start(&wire.peer, &protocols(&wire, "hold time 33;", &TWO))?;
    let agent = wire.agent(BIRD_ASN, IPV4)?;
    wait_established(&agent)?;
    let peer = peer_row(&agent)?;
    ensure!(peer["hold_time_s"] == 33, "{peer}");
    ensure!(
        peer["router_id"] == wire.peer.address().to_string(),
        "{peer}"
    );
    Ok(())
}

/// Graceful restart of the agent is for EVPN: routes of the unicast families go with the session (RFC
/// 4724 §4.2 for families that are not listed), and BIRD's are back with BIRD.
#[test]
fn unicast_routes_go_with_bird() -> Result<()> {
    let (wire, mut bird, agent) = start("birdgr")?;
    bird.daemon().kill()?;
    eventually(PATIENCE, || {
        let peer = peer_row(&agent)?;
        ensure!(peer["state"] != "established", "{peer}");
        Ok(())
    })?;
    wait_routes(&agent, 0, 0)?;
    bird.restart(&protocols(&wire, "", &TWO[..1]))?;
    wait_established(&agent)?;
    wait_routes(&agent, 1, 0)?;
    eventually(PATIENCE, || {
        let routes = bird.birdc("show route protocol agent")?;
        ensure!(routes.contains("198.18.0.1/32"), "{routes}");
        Ok(())
    })
}

/// BIRD keeps our unicast routes while we are away if it is asked to (RFC 4724 §3, §4.2). Otherwise they
/// go with the session. It has them again afterwards.
#[test]
fn unicast_routes_of_a_restarting_agent() -> Result<()> {
    for kept in [false, true] {
        let (wire, bird, agent) = start(&format!("birdus{}", u8::from(kept)))?;
        drop(agent);
        let lines = format!("{IPV4}\nunicast_graceful_restart = {kept}");
        let mut agent = wire.agent(BIRD_ASN, &lines)?;
        let route = format!("{}/32", wire.dut.address());
        let listed = |expected: bool| {
            let routes = bird.birdc("show route protocol agent")?;
            ensure!(routes.contains(&route) == expected, "{routes}");
            Ok(())
        };
        eventually(PATIENCE, || listed(true))?;
        wait_routes(&agent, 2, 0)?;
        agent.daemon().kill()?;
        match kept {
            true => stays(Duration::from_secs(3), || listed(true))?,
            false => eventually(PATIENCE, || listed(false))?,
        }
        let agent = wire.agent(BIRD_ASN, &lines)?;
        let back = || {
            if kept {
                listed(true)?;
            }
            let peer = peer_row(&agent)?;
            ensure!(peer["state"] == "established", "{peer}");
            Ok(())
        };
        eventually(PATIENCE, back)?;
        wait_routes(&agent, 2, 0)?;
        eventually(PATIENCE, || listed(true))?;
    }
    Ok(())
}
