//! `cargo xtask chaos`: the labs that take too long for `cargo xtask test`.

use std::env;

use anyhow::{Result, ensure};

use crate::{
    setup,
    shell::{self, cargo, is_root},
};

/// Kills, starts and upgrades an agent under traffic, again and again, leaves a VM silent for minutes,
/// migrates VMs a thousand times, and lets all kinds of faults happen for 20 minutes, and in a simulated
/// fabric for a day.
pub(crate) fn run() -> Result<()> {
    ensure!(
        is_root(),
        "the labs make network namespaces and load BPF programs: run this as root"
    );
    setup::run(false)?;
    shell::build_for_labs()?;
    let labs = [
        "--test=lab_restart",
        "--test=lab_endpoints",
        "--test=lab_faults",
        "--test=lab_migration",
        "--test=lab_upgrade",
    ];
    let mut test = cargo(["test", "--package=vtep-tests"])?;
    test.args(labs).args(["--", "--ignored"]);
    if env::var_os("VTEP_OTHER_AGENT").is_none() {
        eprintln!("VTEP_OTHER_AGENT is not set: no upgrade from another version's binary");
        test.args(["--skip", "versions_take_over_from_each_other"]);
    }
    shell::run(&mut test)?;
    let mut day = cargo(["test", "--package=vtep-agent", "--lib"])?;
    day.args(["--", "--ignored", "--nocapture", "a_day_of_faults"]);
    shell::run(&mut day)
}
