//! The inputs that the fuzzer found worth keeping, checked again: each reaches code that none of the
//! others does, or broke a property once.

use std::{fs, panic, path::Path};

/// Replays the corpus of one target.
fn replay(target: &str) {
    let (_, check) = vtep_fuzz::TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .expect("a target");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .expect("a corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 20,
        "{} has lost its inputs",
        directory.display()
    );
    for file in files {
        let input = fs::read(&file).expect("an input");
        if panic::catch_unwind(|| check(&input)).is_err() {
            panic!("{} breaks a property", file.display());
        }
    }
}

#[test]
fn messages() {
    replay("message");
}

#[test]
fn updates() {
    replay("update");
}

#[test]
fn session_events() {
    replay("fsm");
}

#[test]
fn frames() {
    replay("frame");
}
