//! What is recorded comes back; what is damaged is named.

mod files;
mod round_trip;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    Recorded, Recording, Replay, Step, Turn,
    file::{DEFAULT_LIMIT, RecordError},
};
use crate::{config::Config, core::State};

const PASSWORD: &str = "correct-horse-battery";
const AO_KEY: &str = "staple-of-tcp-ao";

/// Two peers with secrets, one bridge domain.
fn config(password: &str) -> Config {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("vtep.toml");
    let text = format!(
        "[vtep]\naddress = \"198.18.0.1\"\nuplinks = [\"eth0\"]\n\
         [bgp]\nasn = 65000\n\
         [[bgp.peer]]\naddress = \"198.18.0.100\"\nasn = 65000\npassword = \"{password}\"\n\
         [[bgp.peer]]\naddress = \"198.18.0.101\"\nasn = 65000\n\
         tcp_ao = [{{ send_id = 1, key = \"{AO_KEY}\" }}]\n\
         [[bd]]\nname = \"blue\"\nvni = 100\nports = [\"tap*\"]\n"
    );
    fs::write(&file, text).unwrap();
    Config::load(&file).unwrap().0
}

/// Records these turns, a second after each other.
fn record(directory: &Path, turns: &[Turn]) -> PathBuf {
    record_with(directory, turns, DEFAULT_LIMIT).unwrap()
}

fn record_with(directory: &Path, turns: &[Turn], limit: u64) -> Result<PathBuf, RecordError> {
    let path = directory.join("recording");
    let recording = Recording::create(&path, limit)?;
    let start = Instant::now();
    let (mut core, _) = Recorded::begin(
        Some(recording),
        config(PASSWORD),
        State::default(),
        None,
        start,
    );
    for (second, turn) in (1..).zip(turns) {
        let now = start + Duration::from_secs(second);
        match turn.clone() {
            Turn::Input(input) => drop(core.handle(input, now)),
            Turn::Command(command) => drop(core.command(command, now)),
            Turn::DevicesRead => core.devices_read(now),
            Turn::Shutdown => drop(core.shutdown(now)),
        }
    }
    Ok(path)
}

fn replay(path: &Path) -> (Vec<Step>, Replay) {
    let mut replay = Replay::open(path, false, Instant::now()).unwrap();
    let steps = std::iter::from_fn(|| replay.step()).collect();
    (steps, replay)
}
