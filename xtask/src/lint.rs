//! `cargo xtask lint`: what is checked without running anything.

use anyhow::Result;

use crate::{
    ebpf, setup,
    shell::{self, cargo},
};

/// Formatting, clippy on both targets, and no panic in the BPF object.
pub(crate) fn run() -> Result<()> {
    setup::run(false)?;
    shell::run(&mut cargo(["fmt", "--all", "--check"])?)?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    shell::run(&mut cargo(clippy)?)?;
    shell::run(&mut ebpf::clippy()?)?;
    shell::run(&mut cargo(["build", "--package=vtep-agent"])?)?;
    ebpf::check_panics()
}
