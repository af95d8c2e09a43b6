//! A crash with a large table: what is lost of a VM's frames, and how long until the tables are in step
//! with the reflector's again.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vtep_tests::{Fabric, Station};

use super::{
    Row, Speaker, median,
    traffic::{Counts, Traffic},
    trial::Trial,
};

/// How long there is traffic before the crash.
const BEFORE: Duration = Duration::from_millis(300);

/// What one crash cost.
struct Sample {
    frames: Counts,
    /// From the kill to the session that is established again.
    session: Duration,
    /// From the kill to tables that are what the reflector says.
    whole: Duration,
}

/// Crashes each side in turn; prints the table and returns it for the file.
pub(super) fn run(quick: bool) -> Result<Value> {
    let row = Row::Restart.number();
    let (macs, rounds) = if quick { (64, 1) } else { (4096, 3) };
    let fabric = Fabric {
        vteps: 64,
        bds: 1,
        macs,
    };
    let routes = fabric.routes();
    let mut samples = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (speaker, samples) in Speaker::ALL.into_iter().zip(&mut samples) {
            // It needs a minute or more.
            if speaker == Speaker::Frr && round > 1 {
                continue;
            }
            let name = speaker.name();
            eprintln!("row {row}, {name}: {round} of {rounds}");
            let sample = measure(speaker, fabric).with_context(|| format!("row {row}, {name}"))?;
            samples.push(sample);
        }
    }
    println!(
        "\n{:<4}{:>10} {:<8}{:>14}{:>14}{:>16}{:>16}",
        "row", "MACs", "", "frames lost", "flooded", "session, s", "in step, s"
    );
    let line = |(speaker, samples): (Speaker, &Vec<Sample>)| {
        let name = speaker.name();
        let list = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<_>>();
        let lists = [
            ("frames_lost", list(|sample| sample.frames.lost as f64)),
            (
                "frames_flooded",
                list(|sample| sample.frames.flooded as f64),
            ),
            ("session_s", list(|sample| sample.session.as_secs_f64())),
            ("in_step_s", list(|sample| sample.whole.as_secs_f64())),
        ];
        let [lost, flooded, session, whole] = lists.each_ref().map(|(_, list)| list.iter());
        println!(
            "{row:<4}{routes:>10} {name:<8}{:>14.0}{:>14.0}{:>16.2}{:>16.2}",
            median(lost.copied()),
            median(flooded.copied()),
            median(session.copied()),
            median(whole.copied())
        );
        (name.to_owned(), json!(BTreeMap::from(lists)))
    };
    let sides = Speaker::ALL.into_iter().zip(&samples).map(line);
    let sides = sides.collect::<serde_json::Map<_, _>>();
    Ok(json!({ "row": row, "routes": routes, "sides": sides }))
}

fn measure(speaker: Speaker, fabric: Fabric) -> Result<Sample> {
    let mut trial = Trial::with_vm(speaker, fabric)?;
    let table = fabric.announcements();
    trial.peer.send_raw(&table)?;
    trial.until(Instant::now(), fabric.last(), fabric.routes())?;

    let vm = trial.vm.as_ref().context("no VM")?;
    let traffic = Traffic::start(vm, &trial.reflector)?;
    thread::sleep(BEFORE);
    let killed = Instant::now();
    trial.crash()?;
    let session = killed.elapsed();
    // One MAC is new, since all others may be in the tables all the time.
    let new = Station {
        number: fabric.macs + 1,
        ..fabric.last()
    };
    trial.peer.send_raw(&table)?;
    trial.peer.send_raw(&new.announcement(new.vtep, 0))?;
    let whole = trial.until(killed, new, fabric.routes() + 1)?;
    Ok(Sample {
        frames: traffic.stop()?,
        session,
        whole,
    })
}
