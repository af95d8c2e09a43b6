//! Checks of the BPF object.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::shell::{cargo, find, output, workspace};

const LLVM_NM: [&str; 2] = ["/usr/lib/llvm-22/bin/llvm-nm", "llvm-nm"];

/// Clippy for the BPF target, in a target directory of its own.
pub(crate) fn clippy() -> Result<Command> {
    let mut clippy = cargo([
        "clippy",
        "--package=vtep-ebpf",
        "--target=bpfel-unknown-none",
    ])?;
    clippy
        .args(["-Zbuild-std=core", "--target-dir=target/ebpf-clippy"])
        .args(["--", "-D", "warnings"])
        // aya-ebpf needs unstable inline assembly.
        .env("RUSTC_BOOTSTRAP", "1");
    Ok(clippy)
}

/// Fails if the object contains a panic: such a program could not be loaded on any path that
/// reaches it, and the symbol says where it comes from.
pub(crate) fn check_panics() -> Result<()> {
    let object = workspace()?.join("target/ebpf/bpfel-unknown-none/release/vtep");
    let llvm_nm = LLVM_NM
        .iter()
        .find_map(|name| find(name))
        .context("llvm-nm is missing: run `cargo xtask setup`")?;
    let symbols = output(Command::new(llvm_nm).arg(&object))?;
    ensure!(
        symbols
            .lines()
            .any(|line| line.contains(" T ") || line.contains(" R ")),
        "{} has no symbols to check",
        object.display()
    );
    let panics: Vec<_> = symbols
        .lines()
        .filter(|line| line.contains("panic"))
        .collect();
    let handler_only = panics
        .iter()
        .all(|line| line.ends_with("rust_begin_unwind"));
    ensure!(
        panics.is_empty() || handler_only,
        "the BPF object can panic:\n{}",
        panics.join("\n")
    );
    eprintln!("no panics in {}", object.display());
    Ok(())
}
