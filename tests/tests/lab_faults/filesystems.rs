//! A disk that is full, and a bpffs that is gone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{Agent, Lab, Pair, Ping, VmSpec, eventually};

/// A loaded machine needs time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file system of a test's own, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, options: &str, at: &Path) -> Result<Self> {
        let mount = ["-t", kind, "-o", options, kind];
        let status = Command::new("mount").args(mount).arg(at).status()?;
        ensure!(status.success(), "mount: {status}");
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever still uses it may do so.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What cannot be saved is done, said, and saved when there is room again; what was saved before stays
/// whole meanwhile, and nothing that forwards is concerned.
#[test]
fn a_full_disk() -> Result<()> {
    let lab = Lab::new("disk")?;
    let underlay = lab.underlay()?;
    let directory = lab.directory().join("small");
    fs::create_dir(&directory)?;
    let _disk = Mounted::new("tmpfs", "size=64k", &directory)?;
    let mut pair = Pair::start_with(&lab, &underlay, |config| {
        config.vtep(&format!("state_dir = \"{}\"", directory.display()))
    })?;
    let config = pair.config1().vtep("on_stop = \"keep\"").vtep(&format!(
        "state_dir = \"{}\"",
        directory.join("h1").display()
    ));
    // Each agent has its own.
    ensure!(pair.a1.stop()?.success());
    pair.a1 = Agent::start(&pair.h1, &config)?;
    pair.a1.wait_established()?;
    pair.a1.cli("bd add red --vni 200")?.done()?;
    let state = directory.join("h1/state.json");
    let saved = fs::read(&state)?;

    let filler = directory.join("filler");
    // As much as there is room for.
    ensure!(fs::write(&filler, vec![1_u8; 1 << 20]).is_err());
    let pings = Ping::to("10.0.0.2").start(&lab, pair.vm1.ns(), Duration::from_millis(10))?;
    let message = pair.a1.cli("bd add green --vni 300")?.failed(1)?;
    ensure!(message.contains("will not survive a restart"), "{message}");
    ensure!(message.contains("state.json"), "{message}");
    pair.a1.row("bds", &[("name", json!("green"))])?;
    let status = pair.a1.show("status")?;
    ensure!(status["ready"] == false, "{status}");
    ensure!(fs::read(&state)? == saved, "what was saved is not any more");
    let parsed: Value = serde_json::from_slice(&saved)?;
    ensure!(parsed.is_object(), "{parsed}");
    pings.all_answered()?;

    fs::remove_file(&filler)?;
    eventually(PATIENCE, || {
        let status = pair.a1.show("status")?;
        ensure!(status["ready"] == true, "{status}");
        Ok(())
    })?;
    pair.a1.daemon().kill()?;
    pair.a1 = Agent::start(&pair.h1, &config)?;
    for bd in ["red", "green"] {
        pair.a1.row("bds", &[("name", json!(bd))])?;
    }
    Ok(())
}

/// Forwarding and the agent go on without the pins; what needs a new one is refused with a reason. With
/// a bpffs again and a new start all is well.
#[test]
fn bpffs_is_unmounted() -> Result<()> {
    let lab = Lab::new("unmounted")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start_with(&lab, &underlay, |config| config.vtep("on_stop = \"keep\""))?;
    pair.pings()?;
    let bpffs = lab.bpffs();
    let interval = Duration::from_millis(10);
    let pings = [
        Ping::to("10.0.0.2").start(&lab, pair.vm1.ns(), interval)?,
        Ping::to("10.0.0.1").start(&lab, pair.vm2.ns(), interval)?,
    ];
    ensure!(
        Command::new("umount")
            .arg("-l")
            .arg(&bpffs)
            .status()?
            .success()
    );
    pair.pings()?;
    let vm3 = pair.h1.vm("vm3", &VmSpec::new(3))?;
    let port = [("name", json!(vm3.port())), ("state", json!("down"))];
    pair.a1.wait_row("ports", &port)?;
    let status = pair.a1.show("status")?;
    let reasons = status["reasons"].to_string();
    ensure!(
        status["ready"] == false && reasons.contains(vm3.port()),
        "{status}"
    );
    for pinging in pings {
        println!("{:?}", pinging.all_answered()?);
    }

    let mounted = Command::new("mount")
        .args(["-t", "bpf", "bpf"])
        .arg(&bpffs)
        .status()?;
    ensure!(mounted.success(), "{mounted}");
    pair.a1.daemon().kill()?;
    pair.restart_a1()?;
    pair.pings()?;
    Ping::to("10.0.0.2").until_answered(vm3.ns())?;
    let status = pair.a1.show("status")?;
    ensure!(status["ready"] == true, "{status}");
    Ok(())
}
