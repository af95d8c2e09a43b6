//! `cargo xtask demo`: builds and starts the demo, which lives beside the labs that it uses.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};

use crate::{
    setup,
    shell::{self, cargo, is_root},
};

/// Becomes the demo, so that Ctrl-C reaches it alone.
pub(crate) fn run(keep: bool, frr: bool) -> Result<()> {
    ensure!(
        is_root(),
        "the demo makes network namespaces and loads BPF programs: run this as root"
    );
    setup::run(false)?;
    shell::run(&mut cargo([
        "build",
        "--package=vtep-agent",
        "--package=vtep-tests",
    ])?)?;
    let mut demo = cargo([
        "run",
        "--quiet",
        "--package=vtep-tests",
        "--bin=vtep-demo",
        "--",
    ])?;
    demo.args(keep.then_some("--keep"));
    demo.args(frr.then_some("--frr"));
    Err(demo.exec()).context("cannot run the demo")
}
