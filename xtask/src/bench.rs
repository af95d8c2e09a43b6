//! `cargo xtask bench`: builds and starts the benchmark, which lives beside the labs that it uses.

use std::{env, os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    setup,
    shell::{self, cargo, is_root},
};

/// Becomes the benchmark, release build against release build.
pub(crate) fn run(quick: bool, rows: &[u32], json: Option<PathBuf>) -> Result<()> {
    ensure!(
        is_root(),
        "the benchmark makes network namespaces and loads BPF programs: run this as root"
    );
    setup::run(false)?;
    shell::run(&mut cargo([
        "build",
        "--release",
        "--package=vtep-agent",
        "--package=vtep-tests",
    ])?)?;
    let mut bench = cargo([
        "run",
        "--release",
        "--quiet",
        "--package=vtep-tests",
        "--bin=vtep-bench",
        "--",
    ])?;
    bench.args(quick.then_some("--quick"));
    for row in rows {
        bench.args(["--row", &row.to_string()]);
    }
    if let Some(file) = json {
        // Relative to where we were called, not to the source tree.
        bench.arg("--json").arg(env::current_dir()?.join(file));
    }
    Err(bench.exec()).context("cannot run the benchmark")
}
