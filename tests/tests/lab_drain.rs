//! `drain`: a host leaves the fabric without a frame lost that a peer still sends.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{Host, Lab, Metrics, Pair, Ping, eventually, stays};

/// A loaded machine needs time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything is withdrawn at once. A peer that is slow to hear of it loses nothing until the time is
/// over, in neither direction; then no device has a program, and a stop leaves nothing although
/// `on_stop` says `keep`.
#[test]
fn a_slow_peer_loses_nothing() -> Result<()> {
    let lab = Lab::new("drain")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start_with(&lab, &underlay, |config| {
        config.vtep("on_stop = \"keep\"").vtep("drain_time = 8")
    })?;
    let before = pair.h1.ns().links()?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    Ping::to("10.0.0.1").until_answered(pair.vm2.ns())?;
    let interval = Duration::from_millis(10);
    let pings = [
        Ping::to("10.0.0.2").start(&lab, pair.vm1.ns(), interval)?,
        Ping::to("10.0.0.1").start(&lab, pair.vm2.ns(), interval)?,
    ];

    // The peer's agent stands still: its datapath knows nothing of the withdrawals.
    pair.a2.daemon().signal(libc::SIGSTOP)?;
    let begun = Instant::now();
    pair.a1.cli("drain --no-wait")?.done()?;
    let status = pair.a1.show("status")?;
    ensure!(
        status["state"] == "draining" && status["ready"] == false,
        "{status}"
    );
    let message = pair.a1.cli("drain")?.failed(1)?;
    ensure!(message.contains("draining already"), "{message}");
    let message = pair.a1.cli("bd add red --vni 200")?.failed(1)?;
    ensure!(message.contains("leaving"), "{message}");
    let (code, reasons) = Metrics::get(pair.h1.ns(), "/readyz")?;
    ensure!(code == 503 && reasons.contains("draining"), "{reasons}");
    let draining = ["state=\"draining\""];
    ensure!(pair.a1.metrics()?.value("vtep_state", &draining)? == 1.0);
    let bgp = pair.a1.show("bgp")?;
    ensure!(bgp["peers"][0]["routes_sent"] == 0, "{bgp}");
    ensure!(!programs(&pair.h1)?.is_empty(), "detached too early");

    // Some time before the end.
    sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
    let answered = pings.into_iter().map(|pinging| pinging.all_answered());
    let answered = answered.collect::<Result<Vec<_>>>()?;
    let status = pair.a1.show("status")?;
    ensure!(status["state"] == "draining", "too slow to tell: {status}");
    println!("{answered:?}, then {status}");

    // The peer hears of it: the VM that is still there cannot be reached any more.
    pair.a2.daemon().signal(libc::SIGCONT)?;
    eventually(PATIENCE, || {
        let row = pair.a2.row("macs", &[("origin", json!("remote"))]);
        ensure!(row.is_err(), "{row:?}");
        let vteps = pair.a2.show("vteps")?;
        ensure!(vteps.as_array().is_some_and(Vec::is_empty), "{vteps}");
        Ok(())
    })?;
    eventually(PATIENCE, || {
        let status = pair.a1.show("status")?;
        ensure!(status["state"] == "drained", "{status}");
        Ok(())
    })?;
    ensure!(begun.elapsed() >= Duration::from_secs(8), "too early");
    let left = programs(&pair.h1)?;
    ensure!(left.is_empty(), "{left:?}");
    let message = pair.a1.cli("drain")?.failed(1)?;
    ensure!(message.contains("drained already"), "{message}");
    // Nothing comes back by itself, and peers stay.
    stays(Duration::from_secs(2), || {
        let bgp = pair.a1.show("bgp")?;
        ensure!(
            bgp["peers"][0]["state"] == "established" && bgp["peers"][0]["routes_sent"] == 0,
            "{bgp}"
        );
        Ok(())
    })?;

    let status = pair.a1.stop()?;
    ensure!(status.success(), "{status}");
    ensure!(pair.h1.ns().links()? == before, "an interface is left");
    ensure!(
        fs::read_dir(lab.bpffs().join("h1")).is_err(),
        "pins are left"
    );
    // Started again it takes part again.
    pair.restart_a1()?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())
}

/// An agent that is killed while it drains goes on with that, and takes part again after an orderly
/// stop.
#[test]
fn a_crash_is_no_way_back() -> Result<()> {
    let lab = Lab::new("drain-crash")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start_with(&lab, &underlay, |config| {
        config.vtep("on_stop = \"keep\"").vtep("drain_time = 3600")
    })?;
    pair.pings()?;
    pair.a1.cli("drain --no-wait")?.done()?;
    let at = [("mac", json!(pair.vm1.mac()))];
    eventually(PATIENCE, || {
        ensure!(pair.a2.row("macs", &at).is_err(), "it is still there");
        Ok(())
    })?;
    pair.a1.daemon().kill()?;
    pair.restart_a1()?;
    let status = pair.a1.show("status")?;
    ensure!(status["state"] == "draining", "{status}");
    ensure!(!programs(&pair.h1)?.is_empty(), "detached too early");
    pair.a1
        .daemon()
        .wait_for_log("the last run ended while draining", PATIENCE)?;
    let bgp = pair.a1.show("bgp")?;
    ensure!(bgp["peers"][0]["routes_sent"] == 0, "{bgp}");
    ensure!(pair.a2.row("macs", &at).is_err(), "it is announced again");
    ensure!(pair.a1.stop()?.success());
    pair.restart_a1()?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    let status = pair.a1.show("status")?;
    ensure!(status["state"] == "running", "{status}");
    Ok(())
}

/// Without `--no-wait` the command returns when nothing is attached, and `--time` goes before
/// `drain_time`. A stop in the middle of it leaves nothing either.
#[test]
fn the_command_waits() -> Result<()> {
    let lab = Lab::new("drain-wait")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start_with(&lab, &underlay, |config| {
        config
            .vtep("on_stop = \"keep\"")
            .vtep("drain_time = 3600")
            .vtep("xdp = \"off\"")
    })?;
    let begun = Instant::now();
    pair.a1.cli("drain --time 2")?.done()?;
    ensure!(begun.elapsed() >= Duration::from_secs(2), "too early");
    let status = pair.a1.show("status")?;
    ensure!(status["state"] == "drained", "{status}");
    let left = programs(&pair.h1)?;
    ensure!(left.is_empty(), "{left:?}");

    pair.a2.cli("drain --no-wait")?.done()?;
    ensure!(!programs(&pair.h2)?.is_empty(), "detached too early");
    let status = pair.a2.stop()?;
    ensure!(status.success(), "{status}");
    ensure!(!lab.bpffs().join("h2").exists(), "pins are left");
    Ok(())
}

/// The programs on a host's devices: what bpftool sees, and the links that keep programs attached,
/// which it does not see where they are tcx.
fn programs(host: &Host) -> Result<Vec<String>> {
    let attached = host.ns().attached()?;
    let mut programs: Vec<_> = [attached].into_iter().filter(|a| a != "[] []").collect();
    let pins = host.lab().bpffs().join(host.name());
    // One directory for each version of the layout.
    for version in fs::read_dir(pins)? {
        for link in fs::read_dir(version?.path().join("links"))? {
            programs.push(link?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(programs)
}
