//! Devices and programs that come and go by the thousand.

use std::fs;

use anyhow::{Context as _, Result};

/// Whether the kernel hurries readers of RCU instead of waiting for them.
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// While this is there, the kernel attaches programs at once. Otherwise each tcx program waits for a
/// grace period, 12 ms or so, and so does each device that goes with one: minutes for thousands. For the
/// time in which nothing is measured.
pub(crate) struct Expedited {
    before: String,
}

impl Expedited {
    pub(crate) fn begin() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("no {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            eprintln!("cannot write {SWITCH}: {error}");
        }
    }
}
