//! `cargo xtask test`: every test.

use anyhow::{Result, ensure};

use crate::{
    setup,
    shell::{self, cargo, is_root},
};

/// Builds everything and runs the tests; the runner's closing lines come last.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    ensure!(
        is_root(),
        "the labs make network namespaces and load BPF programs: run this as root"
    );
    setup::run(false)?;
    // The labs run the binaries that `cargo test` alone would not build.
    shell::run(&mut cargo(["build", "--workspace"])?)?;
    let mut test = cargo(["test", "--no-fail-fast"])?;
    if !arguments
        .iter()
        .any(|argument| argument.starts_with("-p") || argument == "--package")
    {
        test.arg("--workspace");
    }
    shell::run(test.args(arguments))
}
