//! What commands add and take away at run time, and what is left after a stop.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{Agent, AgentConfig, Host, Lab, Pair, Ping, VmSpec, eventually, stays};

use crate::ASN;

/// `port add` waits for a device; `attach` and `detach` work at run time.
#[test]
fn objects_of_the_cli_forward() -> Result<()> {
    let lab = Lab::new("cli")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
    let config = |here: &Host, there: &Host| {
        AgentConfig::new(here, ASN)
            .vtep("uplinks = []")
            .peer(there.address(), ASN)
    };
    let a1 = Agent::start(&h1, &config(&h1, &h2))?;
    let a2 = Agent::start(&h2, &config(&h2, &h1))?;
    for agent in [&a1, &a2] {
        agent.cli("attach eth0")?.done()?;
        agent.cli("bd add blue --vni 100")?.done()?;
    }
    a1.cli("port add vnet-vm1 --bd blue")?.done()?;
    a2.cli("port add vnet-vm2 --bd blue --mac 02:00:00:00:00:02 --ip 10.0.0.2 --ip fd00::2")?
        .done()?;
    a2.row(
        "ports",
        &[("name", json!("vnet-vm2")), ("state", json!("waiting"))],
    )?;
    let _vm2 = h2.vm("vm2", &VmSpec::new(2))?;
    a2.wait_row(
        "ports",
        &[("name", json!("vnet-vm2")), ("state", json!("up"))],
    )?;
    // Declared: known before the VM says a word.
    a1.wait_row(
        "neighbors",
        &[
            ("ip", json!("10.0.0.2")),
            ("mac", json!("02:00:00:00:00:02")),
        ],
    )?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    Ping::to("10.0.0.2").count(20).all_answered(vm1.ns())?;

    a1.cli("detach eth0")?.done()?;
    let links = h1.ns().run("ip -details link show")?;
    ensure!(!links.contains("prog/xdp"), "{links}");
    Ping::to("10.0.0.2").count(2).never_answered(vm1.ns())?;
    a1.cli("attach eth0")?.done()?;
    Ping::to("10.0.0.2").until_answered(vm1.ns())
}

/// SIGTERM with `on_stop = "clean"`: routes withdrawn, programs detached, pins gone, no interface,
/// address or route of ours left.
#[test]
fn a_clean_stop_leaves_nothing() -> Result<()> {
    let lab = Lab::new("stop")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
    let vm2 = h2.vm("vm2", &VmSpec::new(2))?;
    let state = |host: &Host| -> Result<[String; 4]> {
        Ok([
            host.ns().links()?.join(" "),
            host.ns().run("ip -brief address show")?,
            host.ns().run("ip route show table all")?,
            host.ns().attached()?,
        ])
    };
    // Links come up at their own pace, and bring an address and routes.
    eventually(Duration::from_secs(30), || {
        let [_, addresses, routes, _] = state(&h1)?;
        ensure!(!addresses.contains("DOWN") && addresses.matches("fe80::").count() == 2);
        ensure!(routes.matches("local fe80::").count() == 2, "{routes}");
        Ok(())
    })?;
    let before = state(&h1)?;
    let mut pair = Pair::join(&lab, [h1, h2], [vm1, vm2], |config| config)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    ensure!(state(&pair.h1)?[3] != before[3], "nothing is attached");

    let status = pair.a1.stop()?;
    ensure!(status.success(), "{status}");
    let after = state(&pair.h1)?;
    ensure!(after == before, "before: {before:#?}\nafter: {after:#?}");
    let pins = lab.bpffs().join("h1");
    ensure!(!has_files(&pins), "pins are left in {}", pins.display());
    // Withdrawn at the peer.
    eventually(Duration::from_secs(10), || {
        let row = pair.a2.row("macs", &[("origin", json!("remote"))]);
        ensure!(row.is_err(), "{row:?}");
        Ok(())
    })?;
    stays(Duration::from_millis(500), || {
        ensure!(pair.a2.show("vteps")?.as_array().is_some_and(Vec::is_empty));
        Ok(())
    })?;

    // And it starts again from nothing.
    pair.restart_a1()?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())
}

/// Whether there is any file below a directory.
fn has_files(directory: &Path) -> bool {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| !entry.path().is_dir() || has_files(&entry.path()))
}
