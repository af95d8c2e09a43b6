//! ExaBGP 4.2: it can say anything, and forwards nothing.
//!
//! Its API has no words for EVPN routes, so the lab brings some: the routes are put together and sent
//! by ExaBGP's own classes.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{Agent, ExaBgp, VmSpec, eventually, stays, wait_flood};

use crate::{
    ASN, KEY, PATIENCE, Wire, has_capability, peer_row, speak, wait_established, wait_mac,
    wait_no_mac, wait_routes,
};

const ROUTE: &str = "rd 198.18.0.2:1 vni 100 target 65000:100 next-hop 198.18.0.2";
const IMET: &str = "multicast 198.18.0.2";
const MACS: [&str; 2] = ["02:00:00:00:0e:01", "02:00:00:00:0e:02"];

fn commands(exabgp: &ExaBgp, verb: &str) -> Result<()> {
    for route in [
        format!("mac {} ip 10.0.0.9", MACS[0]),
        format!("mac {}", MACS[1]),
        IMET.to_owned(),
    ] {
        exabgp.command(&format!("{verb} evpn {route} {ROUTE}"))?;
    }
    Ok(())
}

/// EVPN routes that ExaBGP received in UPDATEs, announced or withdrawn, those again that came again.
fn received(exabgp: &ExaBgp, what: &str) -> Result<Vec<Value>> {
    let events = exabgp.events()?;
    let updates = events
        .iter()
        .map(|event| &event["neighbor"]["message"]["update"][what]["l2vpn evpn"]);
    let mut routes = Vec::new();
    for update in updates {
        // Those announced are sorted by next hop.
        match (update.as_object(), update.as_array()) {
            (Some(hops), _) => {
                routes.extend(hops.values().filter_map(Value::as_array).flatten().cloned());
            }
            (_, Some(list)) => routes.extend(list.iter().cloned()),
            _ => {}
        }
    }
    Ok(routes)
}

fn imets(exabgp: &ExaBgp) -> Result<usize> {
    let routes = received(exabgp, "announce")?;
    Ok(routes.iter().filter(|route| route["code"] == 3).count())
}

/// RFC 7432 §7.2, §7.3 and RFC 4760, both ways; withdrawn, too.
#[test]
fn exabgp_routes_come_and_go() -> Result<()> {
    let wire = Wire::new("exaroutes")?;
    let vm = wire.dut.vm("vm1", &VmSpec::new(1))?;
    let exabgp = ExaBgp::start(&wire.peer, ASN, wire.dut.address(), "")?;
    let agent = wire.agent(ASN, "")?;
    wait_established(&agent)?;

    commands(&exabgp, "announce")?;
    for mac in MACS {
        wait_mac(&agent, mac, &wire.peer)?;
    }
    wait_flood(&agent, "blue", 1)?;
    let neighbor = [("ip", json!("10.0.0.9")), ("mac", json!(MACS[0]))];
    agent.wait_row("neighbors", &neighbor)?;
    for kind in [2, 3] {
        let route = agent.wait_row(
            "routes",
            &[("type", json!(kind)), ("rd", json!("198.18.0.2:1"))],
        )?;
        ensure!(
            route["best"] == true && route["installed"] == true,
            "{route}"
        );
        ensure!(
            route["attributes"]["route_targets"] == json!(["65000:100"])
                && route["attributes"]["encapsulations"] == json!(["vxlan"])
                && route["attributes"]["vni"] == 100,
            "{route}"
        );
    }

    // And what the agent says.
    speak(&agent, &vm, 1)?;
    eventually(PATIENCE, || {
        let routes = received(&exabgp, "announce")?;
        let has_mac = routes.iter().any(|route| {
            let mac = route["mac"].as_str().unwrap_or_default();
            route["code"] == 2 && mac.eq_ignore_ascii_case(vm.mac())
        });
        ensure!(has_mac && imets(&exabgp)? == 1, "{routes:?}");
        Ok(())
    })?;
    vm.unplug()?;
    eventually(PATIENCE, || {
        let routes = received(&exabgp, "withdraw")?;
        ensure!(
            routes.iter().any(|route| route["code"] == 2),
            "{routes:?}; {:?}",
            exabgp.events()?.last()
        );
        Ok(())
    })?;

    commands(&exabgp, "withdraw")?;
    for mac in MACS {
        wait_no_mac(&agent, mac)?;
    }
    wait_flood(&agent, "blue", 0)?;
    let peer = peer_row(&agent)?;
    ensure!(peer["routes_received"] == 0, "{peer}");
    Ok(())
}

/// RR-001 (RFC 2918): what ExaBGP asks for again it gets again, and nothing flaps.
#[test]
fn exabgp_asks_for_a_refresh() -> Result<()> {
    let wire = Wire::new("exarefresh")?;
    let exabgp = ExaBgp::start(&wire.peer, ASN, wire.dut.address(), "")?;
    let agent = wire.agent(ASN, "")?;
    wait_established(&agent)?;
    let before = eventually(PATIENCE, || {
        let before = imets(&exabgp)?;
        ensure!(before > 0);
        Ok(before)
    })?;
    exabgp.command("announce route-refresh l2vpn evpn")?;
    eventually(PATIENCE, || {
        let after = imets(&exabgp)?;
        ensure!(after > before, "{after} IMET routes, {before} before");
        Ok(())
    })?;
    ensure!(wire.messages(&agent, "received", "route_refresh")? >= 1.0);
    wait_established(&agent)
}

#[test]
fn bgp_025_exabgp_md5() -> Result<()> {
    let wire = Wire::new("examd5")?;
    let key = format!("md5-password \"{KEY}\";");
    let _exabgp = ExaBgp::start(&wire.peer, ASN, wire.dut.address(), &key)?;
    wire.keys_are_compared(ASN, "", true)
}

/// GR-001 (RFC 4724 §4.2): routes of an ExaBGP that was killed stay, stale, and go at its End-of-RIB,
/// which it sends before it is told of any routes.
#[test]
fn exabgp_restarts() -> Result<()> {
    let wire = Wire::new("exagr")?;
    let mut exabgp = ExaBgp::start(&wire.peer, ASN, wire.dut.address(), "")?;
    let agent = wire.agent(ASN, "")?;
    wait_established(&agent)?;
    commands(&exabgp, "announce")?;
    wait_routes(&agent, 3, 0)?;
    ensure!(has_capability(&agent, "graceful_restart")?);
    exabgp.daemon().kill()?;
    wait_routes(&agent, 3, 3)?;
    let peer = peer_row(&agent)?;
    ensure!(peer["state"] != "established", "{peer}");
    for mac in MACS {
        wait_mac(&agent, mac, &wire.peer)?;
    }
    exabgp.restart()?;
    wait_established(&agent)?;
    wait_routes(&agent, 0, 0)?;
    commands(&exabgp, "announce")?;
    wait_routes(&agent, 3, 0)
}

/// RTC-001, RTC-004 (RFC 4684): ExaBGP gets what it asks for, as long as it does, and hears what we ask
/// for.
#[test]
fn exabgp_asks_for_one_target() -> Result<()> {
    let wire = Wire::new("exartc")?;
    let families = "l2vpn evpn; ipv4 rtc;";
    let exabgp = ExaBgp::start_with(&wire.peer, ASN, wire.dut.address(), "", families)?;
    let config = wire
        .config(ASN, "")
        .bgp("auto_rt_import = \"own-as\"")
        .bd("red", 200, &[]);
    let agent = Agent::start(&wire.dut, &config)?;
    wait_established(&agent)?;
    ensure!(has_capability(&agent, "rt_constraint")?);
    eventually(PATIENCE, || {
        let asked = format!("{:?}", exabgp.events()?);
        for target in ["65000:100", "65000:200"] {
            ensure!(asked.contains(target), "{asked}");
        }
        Ok(())
    })?;
    ensure!(imets(&exabgp)? == 0, "it has asked for nothing yet");
    let membership = format!(
        "membership origin {ASN} target {ASN}:100 next-hop {}",
        wire.peer.address()
    );
    exabgp.command(&format!("announce {membership}"))?;
    eventually(PATIENCE, || {
        ensure!(imets(&exabgp)? > 0);
        Ok(())
    })?;
    stays(Duration::from_secs(3), || {
        let imets = imets(&exabgp)?;
        ensure!(imets == 1, "{imets} IMET routes");
        Ok(())
    })?;
    exabgp.command(&format!("withdraw {membership}"))?;
    eventually(PATIENCE, || {
        ensure!(!received(&exabgp, "withdraw")?.is_empty());
        Ok(())
    })
}
