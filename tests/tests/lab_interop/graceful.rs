//! Graceful restart with GoBGP, in both roles (RFC 4724), under traffic.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{Ping, Pinging, VmSpec, Witness, eventually, stays};

use crate::{
    ASN, PATIENCE, has_capability, peer_row,
    reflected::{GRACEFUL, Reflected},
    speak, wait_established, wait_mac, wait_no_mac,
};

/// Between two echo requests.
const INTERVAL: Duration = Duration::from_millis(10);

/// Requests from either VM, which go on.
fn pings(lab: &Reflected) -> Result<Vec<Pinging>> {
    let targets = ["10.0.0.2", "10.0.0.1"];
    let pairs = targets.into_iter().zip(&lab.vms);
    pairs
        .map(|(target, vm)| Ping::to(target).start(&lab.lab, vm.ns(), INTERVAL))
        .collect()
}

fn none_lost(pings: Vec<Pinging>) -> Result<()> {
    for pinging in pings {
        println!("{:?}", pinging.all_answered()?);
    }
    Ok(())
}

/// Paths that GoBGP marks as stale.
fn stale_paths(rib: &Value) -> usize {
    let prefixes = rib.as_object().into_iter().flat_map(|rib| rib.values());
    let paths = prefixes.filter_map(Value::as_array).flatten();
    paths.filter(|path| path["stale"] == true).count()
}

/// GR-006 (RFC 4724 §4.1): GoBGP keeps the routes of an agent that is killed, or that ends while its
/// forwarding goes on, until it is back and has said everything again. Others are told of no
/// withdrawal, and no frame is lost. The first session had F=0 (GR-007), the later ones F=1.
#[test]
fn gobgp_reflector_keeps_routes_of_a_restarting_agent() -> Result<()> {
    let mut lab = Reflected::witnessed("gobgpus", GRACEFUL, |_, config| {
        config.vtep("on_stop = \"keep\"")
    })?;
    let host = lab.witness.as_ref().context("no witness")?;
    let mut witness = Witness::start(host, lab.reflector.host().address(), ASN)?;
    eventually(PATIENCE, || {
        let [announced, withdrawn] = witness.heard()?;
        ensure!(announced >= 4 && withdrawn == 0, "{announced} {withdrawn}");
        Ok(())
    })?;
    let pings = pings(&lab)?;
    for kill in [true, false, true] {
        match kill {
            true => lab.agents[0].daemon().kill()?,
            false => drop(lab.agents[0].stop()?),
        }
        let kept = |lab: &Reflected| {
            let vtep = json!(lab.hosts[0].address().to_string());
            let row = [("mac", json!(lab.vms[0].mac())), ("vtep", vtep)];
            lab.agents[1].row("macs", &row).map(drop)
        };
        eventually(PATIENCE, || {
            let rib = lab.reflector.gobgp("global rib -a evpn")?;
            ensure!(stale_paths(&rib) > 0, "no stale path: {rib}");
            Ok(())
        })?;
        stays(Duration::from_secs(2), || kept(&lab))?;
        lab.restart_a1()?;
        wait_established(&lab.agents[0])?;
        eventually(PATIENCE, || {
            kept(&lab)?;
            let rib = lab.reflector.gobgp("global rib -a evpn")?;
            ensure!(stale_paths(&rib) == 0, "{rib}");
            Ok(())
        })?;
        let [_, withdrawn] = witness.heard()?;
        ensure!(withdrawn == 0, "killed: {kill}: {withdrawn} withdrawals");
    }
    none_lost(pings)?;
    // What it does hear.
    let port = lab.vms[0].port();
    lab.hosts[0].ns().ip(&format!("link del {port}\n"))?;
    eventually(PATIENCE, || {
        let [_, withdrawn] = witness.heard()?;
        ensure!(withdrawn > 0, "{withdrawn} withdrawals");
        Ok(())
    })
}

/// GR-001 (RFC 4724 §4.2): what a killed reflector had told us is stale, and used: no frame is lost. What
/// it doesn't tell again goes with its End-of-RIB, and then nothing is stale any more.
#[test]
fn gobgp_reflector_restarts_gracefully() -> Result<()> {
    let mut lab = Reflected::start("gobgpgr", GRACEFUL, |_, config| config)?;
    let gone = lab.hosts[1].vm("gone", &VmSpec::new(0x66).silent())?;
    speak(&lab.agents[1], &gone, 0x66)?;
    wait_mac(&lab.agents[0], gone.mac(), &lab.hosts[1])?;
    ensure!(has_capability(&lab.agents[0], "graceful_restart")?);
    let pings = pings(&lab)?;
    lab.reflector.daemon().kill()?;
    for agent in &lab.agents {
        eventually(PATIENCE, || {
            let peer = peer_row(agent)?;
            ensure!(peer["state"] != "established", "{peer}");
            ensure!(peer["routes_received"] == peer["routes_stale"], "{peer}");
            ensure!(peer["routes_stale"] != 0, "{peer}");
            Ok(())
        })?;
    }
    // Nobody can tell the first agent.
    lab.hosts[1]
        .ns()
        .ip(&format!("link del {}\n", gone.port()))?;
    wait_no_mac(&lab.agents[1], gone.mac())?;
    wait_mac(&lab.agents[0], gone.mac(), &lab.hosts[1])?;
    lab.reflector.restart()?;
    wait_no_mac(&lab.agents[0], gone.mac())?;
    for agent in &lab.agents {
        wait_established(agent)?;
        eventually(PATIENCE, || {
            let peer = peer_row(agent)?;
            ensure!(peer["routes_stale"] == 0, "{peer}");
            ensure!(peer["routes_received"] != 0, "{peer}");
            Ok(())
        })?;
    }
    lab.wait_known()?;
    none_lost(pings)
}
