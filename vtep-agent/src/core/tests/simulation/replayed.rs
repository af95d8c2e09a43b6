//! A schedule of the simulation, recorded, and replayed by another process.

use std::process::Command as Process;

use tempfile::TempDir;

use super::*;
use crate::recording::{DEFAULT_LIMIT, Recorded, Recording, Replay};

/// Where the recording is, for the process that replays.
const FILE: &str = "VTEP_REPLAY_IN_TEST";

/// Moves, lost sessions and messages as they come, at a node of a fabric: what it did, recorded, is the
/// same again, and the same in a process with another seed, elsewhere in memory.
#[test]
fn a_schedule_is_replayed_in_another_process() {
    let mut fabric = Fabric::new(Plan { vteps: 4, ..SMALL }, 7);
    let config = fabric.plan.config(0);
    let start = Instant::now();
    let mut fixture = Fixture::start_at(config.clone(), State::default(), Start::default(), start);
    fixture.turns = Some(Vec::new());
    fixture.link(TAP1, "tap1");
    fixture.link(TAP2, "tap2");
    fabric.nodes[0].fixture = fixture;
    fabric.nodes[0].up = vec![false; 4];
    for other in 1..4 {
        fabric.disconnect(0, other);
        fabric.connect(0, other);
    }
    churn(&mut fabric, 3000);
    let node = &mut fabric.nodes[0].fixture;
    let turns = node.turns.take().unwrap();
    assert!(turns.len() > 500, "{}", turns.len());

    let directory = TempDir::new().unwrap();
    let file = directory.path().join("recording");
    let recording = Recording::create(&file, DEFAULT_LIMIT).unwrap();
    let state = State::default();
    let (mut recorded, _) = Recorded::begin(Some(recording), config, state, None, start);
    for (now, turn) in turns {
        match turn {
            Turn::Input(input) => drop(recorded.handle(input, now)),
            Turn::Command(command) => drop(recorded.command(command, now)),
            Turn::DevicesRead => recorded.devices_read(now),
            Turn::Shutdown => drop(recorded.shutdown(now)),
        }
    }
    assert!(
        format!("{:?}", *recorded) == format!("{:?}", node.core),
        "recording changes what is recorded"
    );
    drop(recorded);

    let output = Process::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("core::tests::simulation::replayed::by_another_process")
        .env(FILE, &file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{output:?}"
    );
}

#[test]
#[ignore = "is started by the test above"]
fn by_another_process() {
    let Some(file) = env::var_os(FILE) else {
        return;
    };
    let mut replay = Replay::open(file.as_ref(), false, Instant::now()).unwrap();
    let mut turns = 0;
    while let Some(step) = replay.step() {
        assert!(step.expected.is_some() && !step.differs(), "{step:?}");
        turns += 1;
    }
    assert!(turns > 500, "{turns}");
}
