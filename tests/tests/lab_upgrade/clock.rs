//! An agent whose clock has nothing to do with that of the one before it, nor with the kernel's.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{PacketSocket, Vm, agent_binary, test_frame};

use crate::fabric::{End, Fabric, Version};

/// Ten years, s.
const AHEAD: u32 = 315_360_000;

/// The monotonic clock jumps ten years ahead and back again between runs, as it does between boots and
/// hosts: what the maps say of times is in the agent's own seconds, so that nobody ages, no session and
/// no frame is lost, and new VMs are learned.
#[test]
fn the_clock_of_another_boot() -> Result<()> {
    let mut fabric = Fabric::start("clock")?;
    fabric.lab.hide_logs();
    let wrapper = fabric.lab.directory().join("ahead");
    let script = format!(
        "#!/bin/sh\nexec unshare --time --monotonic {AHEAD} --boottime {AHEAD} {} \"$@\"\n",
        agent_binary()?.display()
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let traffic = fabric.traffic()?;
    let here = fabric.config_of(Version::This)?;
    let ahead = here.clone().binary(&wrapper);
    for (number, config) in (0x71..).zip([ahead, here]) {
        fabric.end(End::Killed)?;
        fabric.begin_with(&config)?;
        let mac = json!(fabric.vm().mac());
        let row = fabric.agent.row("macs", &[("mac", mac)])?;
        let age = row["age_s"].as_u64().context("no age")?;
        ensure!(age < 300, "{row}");
        let frame = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, number]);
        PacketSocket::open(fabric.vm().ns(), Vm::NIC)?.send(&frame)?;
        let mac = json!(format!("02:00:00:00:00:{number:02x}"));
        fabric.agent.wait_row("macs", &[("mac", mac)])?;
        fabric.check_not_withdrawn()?;
    }
    println!("{}", fabric.finish(traffic)?);
    Ok(())
}
