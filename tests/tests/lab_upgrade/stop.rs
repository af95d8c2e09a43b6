//! How long an agent takes to end.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use vtep_tests::{
    Agent, AgentConfig, BgpMessage, Fabric, Lab, ScriptedPeer, UnderlayOptions, eventually,
};

/// Whatever it knows. A loaded machine needs time.
const LIMIT: Duration = Duration::from_secs(5);
/// For the tables to be filled.
const PATIENCE: Duration = Duration::from_secs(300);

/// From SIGTERM to the end of an agent that has heard of a fabric, and has it in its maps: how long the
/// process took. With the peer, or just after it was lost.
fn stop(name: &str, fabric: Fabric, on_stop: &str, lost: bool) -> Result<Duration> {
    let lab = Lab::new(name)?;
    lab.hide_logs();
    let [host, reflector] = lab.cable(["h1", "rr"], &UnderlayOptions::default())?;
    Fabric::route(&host, &reflector)?;
    let mut config = AgentConfig::new(&host, Fabric::ASN)
        .vtep(&format!("on_stop = \"{on_stop}\""))
        .vtep("max_macs = 1048576")
        .peer(reflector.address(), Fabric::ASN);
    for vni in fabric.vnis() {
        config = config.bd_with(&format!("bd{vni}"), vni, "");
    }
    let mut agent = Agent::start(&host, &config)?;
    let mut peer = ScriptedPeer::accept(&reflector)?;
    peer.establish(&BgpMessage::open(Fabric::ASN, 180, reflector.address()))?;
    peer.send_raw(&fabric.announcements())?;
    eventually(PATIENCE, || {
        let known = agent
            .metrics()?
            .value("vtep_map_entries", &["map=\"fdb\""])?;
        ensure!(known as usize == fabric.routes(), "{known} MACs");
        Ok(())
    })?;
    if lost {
        // The agent is busy with that then.
        drop(peer);
        eventually(PATIENCE, || {
            let bgp = agent.show("bgp")?;
            ensure!(bgp["peers"][0]["state"] != "established", "{bgp}");
            Ok(())
        })?;
    }
    let begun = Instant::now();
    agent.daemon().signal(libc::SIGTERM)?;
    let status = agent.daemon().wait(PATIENCE)?.context("it runs for ever")?;
    let took = begun.elapsed();
    ensure!(status.success(), "{status}");
    if on_stop == "clean" {
        let attached = host.ns().attached()?;
        ensure!(!attached.contains("underlay"), "{attached}");
        let pins = lab.bpffs().join(host.name());
        ensure!(!pins.exists(), "{} is left", pins.display());
    }
    Ok(took)
}

fn stops(macs: u16) -> Result<String> {
    let mut figures = String::new();
    let fabric = Fabric {
        vteps: 100,
        bds: 4,
        macs,
    };
    for (on_stop, lost) in [("clean", false), ("clean", true), ("keep", true)] {
        let took = stop("stop", fabric, on_stop, lost)?;
        let routes = fabric.routes();
        writeln!(
            figures,
            "{on_stop}, {routes} routes, lost: {lost}: {took:.2?}"
        )?;
        ensure!(took < LIMIT, "{figures}");
    }
    Ok(figures)
}

/// The end does not wait for the tables to be taken apart, nor for routes of a peer that was lost.
#[test]
fn the_end_takes_no_longer_with_large_tables() -> Result<()> {
    println!("{}", stops(100)?);
    Ok(())
}

/// As above, with a million.
#[test]
#[ignore = "takes minutes: cargo xtask chaos"]
fn the_end_takes_no_longer_with_a_million_routes() -> Result<()> {
    // Not captured: the figures are shown without the logs.
    io::stderr().write_all(stops(2500)?.as_bytes())?;
    Ok(())
}
