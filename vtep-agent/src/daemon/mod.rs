//! The only wiring: every part, joined.

use std::path::PathBuf;

use crate::config::Config;

/// Runs until SIGTERM or SIGINT. `file` is read again at `reload`.
///
/// # Errors
///
/// What keeps the agent from starting, or ended it.
pub fn run(_config: Config, _file: PathBuf) -> anyhow::Result<()> {
    anyhow::bail!("this build has no daemon")
}
