//! `cargo xtask bench`: builds and starts the benchmark, which lives beside the labs that it uses.

use std::{env, os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    setup,
    shell::{self, cargo, is_root},
};

/// What to measure, and where to leave it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Three short rounds: whether it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Only this row; may be repeated
    #[arg(long, value_name = "N")]
    row: Vec<u32>,
    /// Also writes all samples to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also writes the ratios as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also prints how ratios changed since a file of --json
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// Becomes the benchmark, release build against release build.
pub(crate) fn run(options: &Options) -> Result<()> {
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
    bench.args(options.quick.then_some("--quick"));
    for row in &options.row {
        bench.args(["--row", &row.to_string()]);
    }
    for (flag, file) in [
        ("--json", &options.json),
        ("--svg", &options.svg),
        ("--compare", &options.compare),
    ] {
        if let Some(file) = file {
            // Relative to where we were called, not to the source tree.
            bench.arg(flag).arg(env::current_dir()?.join(file));
        }
    }
    Err(bench.exec()).context("cannot run the benchmark")
}
