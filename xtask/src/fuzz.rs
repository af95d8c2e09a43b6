//! `cargo xtask fuzz`: libFuzzer against the properties of `tests/fuzz`.
//!
//! Without a sanitizer, which would need a nightly compiler: what is attacked has no unsafe code, and
//! overflow checks and debug assertions are on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    setup,
    shell::{self, cargo, find, output, workspace},
};

const CARGO_FUZZ: &str = "0.13.1";

/// Targets, in the order in which they run.
const TARGETS: [&str; 4] = ["message", "update", "fsm", "frame"];

/// An UPDATE of the usual length; more only makes it slower.
const LONGEST_INPUT: u32 = 4096;

/// Largest resident size, in MB: what a peer sends must not fill memory.
const MEMORY: u32 = 512;

/// Runs each target for some minutes, one after the other, and adds what it finds to its corpus if
/// asked to.
pub(crate) fn run(targets: &[String], minutes: u64, keep: bool) -> Result<()> {
    for target in targets {
        ensure!(
            TARGETS.contains(&target.as_str()),
            "no target {target}; there are {}",
            TARGETS.join(", ")
        );
    }
    setup::run(false)?;
    install()?;
    // The object is not attacked, and built once.
    shell::run(&mut cargo(["build", "--package=vtep-agent"])?)?;
    let chosen = |target: &&str| targets.is_empty() || targets.iter().any(|name| name == target);
    for target in TARGETS.into_iter().filter(chosen) {
        Target::new(target)?.attack(minutes, keep)?;
    }
    Ok(())
}

fn install() -> Result<()> {
    let installed = output(Command::new("cargo-fuzz").arg("--version"));
    let is_wanted = |version: String| version.split_whitespace().any(|word| word == CARGO_FUZZ);
    if find("cargo-fuzz").is_some() && installed.is_ok_and(is_wanted) {
        return Ok(());
    }
    shell::run(&mut cargo([
        "install",
        "cargo-fuzz",
        "--version",
        CARGO_FUZZ,
        "--locked",
    ])?)
}

/// A target and its directories.
struct Target {
    name: &'static str,
    /// Inputs in the tree, which `cargo test` replays.
    corpus: PathBuf,
    /// Inputs of this machine's runs.
    found: PathBuf,
    /// Inputs that broke a property.
    broken: PathBuf,
}

impl Target {
    fn new(name: &'static str) -> Result<Self> {
        let root = workspace()?;
        let made = |kind: &str| -> Result<PathBuf> {
            let path = root.join("target/fuzz").join(kind).join(name);
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
            Ok(path)
        };
        Ok(Self {
            name,
            corpus: root.join("tests/fuzz/corpus").join(name),
            found: made("found")?,
            broken: made("broken")?,
        })
    }

    fn attack(&self, minutes: u64, keep: bool) -> Result<()> {
        let mut fuzz = self.libfuzzer(&[&self.found, &self.corpus])?;
        fuzz.arg(format!("-max_total_time={}", minutes * 60))
            .arg("-print_final_stats=1");
        shell::run(&mut fuzz).with_context(|| {
            format!(
                "the input is in {}; once it is mended, it belongs into {}",
                self.broken.display(),
                self.corpus.display()
            )
        })?;
        if keep {
            // Only what reaches something new, the shortest inputs first.
            let mut merge = self.libfuzzer(&[&self.corpus, &self.found])?;
            shell::run(merge.arg("-set_cover_merge=1"))?;
        }
        Ok(())
    }

    fn libfuzzer(&self, corpora: &[&Path]) -> Result<Command> {
        let root = workspace()?;
        let object = root.join("target/ebpf/bpfel-unknown-none/release/vtep");
        ensure!(object.is_file(), "no {}", object.display());
        let mut fuzz = cargo(["fuzz", "run", "--fuzz-dir=tests/fuzz"])?;
        fuzz.env("VTEP_EBPF_OBJECT", object)
            .args(["--sanitizer=none", "--features=libfuzzer"])
            .args(["--target-dir=target/fuzz", "--codegen-units=16"])
            .arg(self.name)
            .args(corpora)
            .arg("--")
            .arg(format!("-artifact_prefix={}/", self.broken.display()))
            .arg(format!("-max_len={LONGEST_INPUT}"))
            .arg(format!("-rss_limit_mb={MEMORY}"));
        Ok(fuzz)
    }
}
