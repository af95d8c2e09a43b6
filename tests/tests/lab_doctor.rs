//! `vtep-agent doctor`: quiet when all is well, and to the point when it is not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{Agent, Lab, Pair, Ping, eventually};

/// Exit status and findings.
fn doctor(agent: &Agent) -> Result<(Option<i32>, Vec<Value>)> {
    let output = agent.cli("doctor --json")?;
    let findings = serde_json::from_str(&output.stdout)
        .with_context(|| format!("doctor printed {output:?}"))?;
    Ok((output.status, findings))
}

/// The finding of a check about a subject.
fn find<'a>(findings: &'a [Value], check: &str, subject: &str) -> Result<&'a Value> {
    findings
        .iter()
        .find(|finding| finding["check"] == check && finding["subject"] == subject)
        .with_context(|| format!("no finding of {check} about {subject}: {findings:?}"))
}

#[test]
fn problems_are_found_and_said() -> Result<()> {
    let lab = Lab::new("doctor")?;
    let mut pair = Pair::start(&lab, &lab.underlay()?)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    let agent = &pair.a1;
    let (status, findings) = doctor(agent)?;
    let errors: Vec<_> = findings
        .iter()
        .filter(|finding| finding["severity"] == "error")
        .collect();
    ensure!(status == Some(0) && errors.is_empty(), "{findings:?}");
    ensure!(find(&findings, "mtu", pair.vm1.port()).is_err());

    // Room for 1400 bytes and the outer headers: a VM's 1500 do not fit any more.
    pair.h1.ns().ip("link set eth0 mtu 1450\n")?;
    pair.h1.ns().run("ethtool -K eth0 gro off")?;
    let (_, findings) = doctor(agent)?;
    let mtu = find(&findings, "mtu", pair.vm1.port())?;
    ensure!(mtu["severity"] == "warning", "{mtu}");
    let remedy = mtu["remedy"].as_str().unwrap_or_default();
    ensure!(remedy.contains("1550") && remedy.contains("1400"), "{mtu}");
    let gro = find(&findings, "gro", "eth0")?;
    ensure!(gro["remedy"] == "ethtool -K eth0 gro on", "{gro}");

    // The other agent goes.
    let peer = pair.h2.address().to_string();
    pair.a2.stop()?;
    let agent = &pair.a1;
    eventually(Duration::from_secs(30), || {
        let (status, findings) = doctor(agent)?;
        let session = find(&findings, "bgp", &peer)?;
        ensure!(
            session["severity"] == "error" && status == Some(1),
            "{session}"
        );
        Ok(())
    })?;
    let output = agent.cli("doctor")?;
    ensure!(output.stdout.starts_with("error: "), "{output:?}");
    ensure!(output.stdout.contains("\n  -> "), "{output:?}");
    output.failed(1)?;

    // And this one.
    pair.a1.stop()?;
    let (status, findings) = doctor(&pair.a1)?;
    ensure!(status == Some(1), "{status:?}");
    ensure!(findings[0]["check"] == json!("agent"), "{findings:?}");
    Ok(())
}
