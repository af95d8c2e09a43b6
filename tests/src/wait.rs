//! Waiting for what happens elsewhere.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

const PAUSE: Duration = Duration::from_millis(20);

/// Repeats a check until it succeeds and returns its value, or its last error when the time is up.
///
/// # Errors
///
/// The last error of the check.
pub fn eventually<T>(timeout: Duration, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > timeout => {
                return Err(error).with_context(|| format!("still so after {timeout:?}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Repeats a check for a while, and fails as soon as it does.
///
/// # Errors
///
/// The first error of the check.
pub fn stays(duration: Duration, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < duration {
        check().with_context(|| format!("after {:?}", start.elapsed()))?;
        thread::sleep(PAUSE);
    }
    Ok(())
}
