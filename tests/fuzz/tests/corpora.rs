//! The inputs that the fuzzer found worth keeping, checked again: each reaches code that none of the
//! others does, or broke a property once.

use std::{fs, panic, path::Path};

use anyhow::{Context as _, Result, ensure};

/// Replays the corpus of one target.
fn replay(target: &str) -> Result<()> {
    let (_, check) = vtep_fuzz::TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .context("no such target")?;
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files = Vec::new();
    for entry in fs::read_dir(corpora.join(target))? {
        files.push(entry?.path());
    }
    files.sort();
    ensure!(files.len() >= 20, "{target} has lost its inputs");
    for file in files {
        let input = fs::read(&file)?;
        let outcome = panic::catch_unwind(|| check(&input));
        ensure!(outcome.is_ok(), "{} breaks a property", file.display());
    }
    Ok(())
}

/// ERR-021, with BGP's other messages and framing.
#[test]
fn messages() -> Result<()> {
    replay("message")
}

/// ERR-021 with the outcome of RFC 7606.
#[test]
fn updates() -> Result<()> {
    replay("update")
}

#[test]
fn session_events() -> Result<()> {
    replay("fsm")
}

#[test]
fn frames() -> Result<()> {
    replay("frame")
}
