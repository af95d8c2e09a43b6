//! Row 6: the control plane, against FRR. A speaker sends the table of a large fabric to either; what
//! is timed is how long until all of it forwards, and until none of it does.

mod side;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{BgpMessage, Fabric, Host, Lab, ScriptedPeer, UnderlayOptions};

use self::side::Side;
pub(crate) use self::side::Speaker;

/// Number of the row on the command line.
pub(crate) const ROW: usize = 6;
/// How long one table may take; FRR needs minutes for the large ones.
const PATIENCE: Duration = Duration::from_secs(900);
/// Largest table that FRR gets: with a million routes it takes many minutes.
const FRR_MAX: usize = 200_000;
/// Long enough for a peer that is busy with the table.
const HOLD_TIME: u16 = 240;

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
pub(crate) fn run(quick: bool) -> Result<Value> {
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
    println!("medians; FRR is bgpd + zebra with the kernel's bridge and vxlan devices");
    Ok(lines.into())
}

fn measure(speaker: Speaker, fabric: &Fabric) -> Result<Sample> {
    let lab = Lab::new("control")?;
    lab.hide_logs();
    let [host, reflector] = lab.cable(["h1", "rr"], &UnderlayOptions::default())?;
    host.ns().ip(&format!(
        "route add {} via {}\n",
        Fabric::PREFIX,
        reflector.address()
    ))?;
    let (table, withdrawals) = (fabric.announcements(), fabric.withdrawals());
    let mut side = Side::start(speaker, &host, &reflector, fabric)?;
    let mut peer = establish(&reflector)?;

    let start = Instant::now();
    peer.send_raw(&table)?;
    let forwarding = wait(&mut peer, &mut side, start, fabric, fabric.routes())?;
    let memory = side.memory()?.peak;

    let start = Instant::now();
    peer.send_raw(&withdrawals)?;
    let withdrawn = match wait(&mut peer, &mut side, start, fabric, 0) {
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

fn establish(reflector: &Host) -> Result<ScriptedPeer> {
    let mut peer = ScriptedPeer::accept(reflector)?;
    let open = BgpMessage::open(Fabric::ASN, HOLD_TIME, reflector.address());
    peer.establish(&open)?;
    Ok(peer)
}

/// Waits until a number of MACs are in the tables that forward, and returns how long that took: until
/// the beginning of the look that found them. Both sides are looked at alike, and little: whoever counts
/// all the time slows down what is measured.
fn wait(
    peer: &mut ScriptedPeer,
    side: &mut Side,
    start: Instant,
    fabric: &Fabric,
    macs: usize,
) -> Result<Duration> {
    let mut alive = Instant::now();
    loop {
        side.check()?;
        let look = Instant::now();
        if side.has_last(fabric)? == (macs > 0) {
            let installed = side.installed()?;
            if installed == macs {
                return Ok(look - start);
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "{installed} MACs instead of {macs} after {PATIENCE:?}"
            );
        }
        ensure!(start.elapsed() < PATIENCE, "not done after {PATIENCE:?}");
        thread::sleep(look.elapsed().max(Duration::from_millis(5)));
        if alive.elapsed() > Duration::from_secs(20) {
            peer.send(&BgpMessage::keepalive())?;
            alive = Instant::now();
        }
    }
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
            let of = |what: fn(&Sample) -> f64| median(samples, what);
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
        let [vtep, frr] = self.samples.each_ref().map(|samples| median(samples, of));
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

/// Of the rounds that came to an end.
fn median(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let values: Vec<f64> = samples
        .iter()
        .map(of)
        .filter(|value| !value.is_nan())
        .collect();
    crate::report::quantile(&values, 0.5).unwrap_or(f64::NAN)
}
