//! To an agent whose tables have another version and another layout, and back, and starts of it that
//! come to nothing.

use std::{fs, thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_common::abi::ABI_VERSION;
use vtep_tests::{Agent, Lab, Pair, Ping, Random, eventually, wait_flood};

use crate::fabric::{End, Fabric, INTERVAL, PATIENCE, Version};

/// Of the tables of the other agent.
const NEXT_VERSION: u32 = ABI_VERSION + 1;
/// The latest moment at which a start is cut short, ms after it began. Most have attached by then.
const LATEST: u64 = 1500;
/// How long an agent is watched while it waits.
const WATCHED: Duration = Duration::from_secs(3);

/// New maps are made beside the old ones, and old programs forward until peers have said everything: no
/// ping at 1 ms is lost, up and down, and of the old version nothing is left.
#[test]
fn another_layout_and_back() -> Result<()> {
    let mut fabric = Fabric::start("layout")?;
    fabric.lab.hide_logs();
    let traffic = fabric.traffic()?;
    for (version, from) in [(Version::Next, ABI_VERSION), (Version::This, NEXT_VERSION)] {
        fabric.end(End::Killed)?;
        let before = fabric.versions()?;
        ensure!(before == [format!("v{from}")], "{before:?}");
        fabric.begin(version)?;
        let found = fabric.found()?;
        // Only endpoints and addresses are read.
        ensure!(found.contains("maps=Endpoints"), "{found}");
        fabric.check_not_withdrawn()?;
    }
    println!("{}", fabric.finish(traffic)?);
    Ok(())
}

/// While peers have not said everything, the new agent waits. Until then nothing that forwards has
/// changed, and when it is killed, the old version finds all as it was, or the new one tries again.
#[test]
fn an_upgrade_that_fails_half_way() -> Result<()> {
    let mut fabric = Fabric::start("halfway")?;
    fabric.lab.hide_logs();
    let traffic = fabric.traffic()?;
    fabric.end(End::Killed)?;
    let before = fabric.attached()?;

    // It ends before it has loaded anything: somebody else has the address.
    let refused = fabric
        .config_of(Version::Next)?
        .vtep("metrics = \"203.0.113.1:9473\"");
    ensure!(Agent::start(fabric.host(), &refused).is_err());
    ensure!(fabric.attached()? == before, "programs have changed");

    // It has loaded its programs on maps of its own, and waits for peers, of which one never comes.
    let waiting = fabric
        .config_of(Version::Next)?
        .peer_with("198.18.0.99".parse()?, 65000, "");
    for next in [Version::This, Version::Next] {
        let before = fabric.attached()?;
        fabric.agent = Agent::start(fabric.host(), &waiting)?;
        eventually(PATIENCE, || {
            let new = fabric.pins().join(format!("v{NEXT_VERSION}/next"));
            ensure!(new.join("fdb").exists(), "{} is not there", new.display());
            Ok(())
        })?;
        sleep(WATCHED);
        ensure!(fabric.attached()? == before, "programs have changed");
        fabric.end(End::Killed)?;
        ensure!(fabric.attached()? == before, "programs have changed");
        if next == Version::This {
            fabric.begin(next)?;
            fabric.end(End::Killed)?;
        }
    }
    fabric.begin(Version::Next)?;
    fabric.check_not_withdrawn()?;
    println!("{}", fabric.finish(traffic)?);
    Ok(())
}

/// Agents of either version are killed at any moment of their start, in the exchange of programs too: the
/// next one, whichever it is, finds what it needs. The peer is an agent, since one that does not know
/// RFC 8538 forgets what it is not told again between two restarts (RFC 4724 §4.2).
#[test]
fn starts_are_cut_short() -> Result<()> {
    let lab = Lab::new("cut")?;
    lab.hide_logs();
    let underlay = lab.underlay()?;
    let mut pair = Pair::start_with(&lab, &underlay, |config| config.vtep("on_stop = \"keep\""))?;
    let (vm1, vm2) = (pair.vm1.ns(), pair.vm2.ns());
    Ping::to("10.0.0.2").until_answered(vm1)?;
    Ping::to("10.0.0.1").until_answered(vm2)?;
    let known = |agent: &Agent| {
        let row = [
            ("ip", json!("10.0.0.1")),
            ("mac", json!("02:00:00:00:00:01")),
        ];
        eventually(PATIENCE, || agent.row("neighbors", &row).map(drop))
    };
    known(&pair.a2)?;
    let pings = [
        Ping::to("10.0.0.2").start(&lab, vm1, INTERVAL)?,
        Ping::to("10.0.0.1").start(&lab, vm2, INTERVAL)?,
    ];
    pair.a1.daemon().kill()?;
    let (mut random, mut version) = (Random::new(7), Version::This);
    for _ in 0..10 {
        version = [Version::This, Version::Next][random.below(2)];
        let config = pair.config1().binary(&version.binary()?);
        pair.a1 = Agent::spawn(&pair.h1, &config)?;
        let moment = random.number() % LATEST;
        sleep(Duration::from_millis(moment));
        println!("{version:?} killed after {moment} ms");
        pair.a1.daemon().kill()?;
    }
    let config = pair.config1().binary(&version.other().binary()?);
    pair.a1 = Agent::start(&pair.h1, &config)?;
    pair.a1.wait_established()?;
    for agent in [&pair.a1, &pair.a2] {
        wait_flood(agent, "blue", 1)?;
        known(agent)?;
    }
    let pins = lab.bpffs().join("h1");
    eventually(PATIENCE, || {
        let versions = fs::read_dir(&pins)?.count();
        ensure!(versions == 1, "{versions} versions in {}", pins.display());
        Ok(())
    })?;
    for pinging in pings {
        println!("{:?}", pinging.all_answered()?);
    }
    Ok(())
}
