//! A large table: how long until all of it forwards, and until none of it does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vtep_tests::Fabric;

use super::{Speaker, median, trial::Trial};

/// Number of the row on the command line.
const ROW: usize = 6;
/// Largest table that FRR gets: with a million routes it takes many minutes.
const FRR_MAX: usize = 200_000;

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// From the established session to the last MAC in the tables that forward.
    forwarding: Duration,
    /// From the first withdrawal to the last MAC out of them. `None`: its process ended over it.
    withdrawn: Option<Duration>,
    /// Most resident memory of the processes until all was forwarding, bytes.
    memory: u64,
}

/// Measures all sizes, each side in turn; prints the table and returns it for the file.
///
/// # Errors
///
/// When a side does not get to the end.
pub(super) fn run(quick: bool) -> Result<Vec<Value>> {
    let table = |bds, macs| Fabric {
        vteps: 100,
        bds,
        macs,
    };
    let sizes = if quick {
        vec![(table(10, 2), 1)]
    } else {
        vec![
            (table(100, 2), 3),
            (table(100, 20), 3),
            (table(100, 100), 1),
        ]
    };
    let mut lines = Vec::new();
    println!(
        "\n{:<4}{:>10} {:<8}{:>16}{:>16}{:>14}",
        "row", "RT-2", "", "forwarding, s", "withdrawn, s", "memory, MiB"
    );
    for (fabric, rounds) in sizes {
        let mut samples = [Vec::new(), Vec::new()];
        for round in 1..=rounds {
            for (speaker, samples) in Speaker::ALL.into_iter().zip(&mut samples) {
                let (routes, name) = (fabric.routes(), speaker.name());
                if speaker == Speaker::Frr && routes > FRR_MAX {
                    continue;
                }
                eprintln!("row {ROW}, {routes} routes, {name}: {round} of {rounds}");
                let sample = measure(speaker, &fabric)
                    .with_context(|| format!("row {ROW}, {routes} routes, {name}"))?;
                eprintln!("{sample:.2?}");
                samples.push(sample);
            }
        }
        let line = Line { fabric, samples };
        line.print();
        lines.push(line.json());
    }
    Ok(lines)
}

fn measure(speaker: Speaker, fabric: &Fabric) -> Result<Sample> {
    let (table, withdrawals) = (fabric.announcements(), fabric.withdrawals());
    let mut trial = Trial::start(speaker, *fabric)?;
    let last = fabric.last();

    let start = Instant::now();
    trial.peer.send_raw(&table)?;
    let forwarding = trial.until(start, last, fabric.routes())?;
    let memory = trial.side.memory()?.peak;

    let start = Instant::now();
    trial.peer.send_raw(&withdrawals)?;
    let withdrawn = match trial.until(start, last, 0) {
        Err(error) if speaker == Speaker::Frr => {
            eprintln!("FRR did not withdraw the table: {error:#}");
            None
        }
        withdrawn => Some(withdrawn?),
    };
    Ok(Sample {
        forwarding,
        withdrawn,
        memory,
    })
}

/// One size of the table, and a list for each of [`Speaker::ALL`].
struct Line {
    fabric: Fabric,
    samples: [Vec<Sample>; 2],
}

impl Line {
    fn print(&self) {
        let sides = Speaker::ALL.into_iter().zip(&self.samples);
        for (speaker, samples) in sides.filter(|(_, samples)| !samples.is_empty()) {
            let of = |what: fn(&Sample) -> f64| median(samples.iter().map(what));
            println!(
                "{ROW:<4}{:>10} {:<8}{:>16.2}{:>16.2}{:>14.0}",
                self.fabric.routes(),
                speaker.name(),
                of(forwarding),
                of(withdrawn),
                of(memory) / f64::from(1 << 20),
            );
        }
        if self.samples.iter().any(Vec::is_empty) {
            return;
        }
        let [faster, gone, smaller] = [forwarding, withdrawn, memory].map(|of| self.ratio(of));
        println!(
            "{:<23}{:>16}{:>16}{:>14}",
            "    FRR / vtep",
            format!("{faster:.1}x"),
            format!("{gone:.1}x"),
            format!("{smaller:.1}x")
        );
    }

    /// How many times more FRR needs.
    fn ratio(&self, of: fn(&Sample) -> f64) -> f64 {
        let [vtep, frr] = self
            .samples
            .each_ref()
            .map(|samples| median(samples.iter().map(of)));
        frr / vtep
    }

    fn json(&self) -> Value {
        let sides = Speaker::ALL.into_iter().zip(&self.samples);
        let sides = sides.map(|(speaker, samples)| {
            let list = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<_>>();
            let value = json!({
                "forwarding_s": list(forwarding),
                "withdrawn_s": list(withdrawn),
                "memory_bytes": list(memory),
            });
            (speaker.name().to_owned(), value)
        });
        json!({
            "row": ROW,
            "routes": self.fabric.routes(),
            "sides": sides.collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn forwarding(sample: &Sample) -> f64 {
    sample.forwarding.as_secs_f64()
}

fn withdrawn(sample: &Sample) -> f64 {
    sample.withdrawn.map_or(f64::NAN, |time| time.as_secs_f64())
}

fn memory(sample: &Sample) -> f64 {
    sample.memory as f64
}
