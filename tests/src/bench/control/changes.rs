//! Changes of a table that is there: single MACs that move while other routes come and go, and a session
//! that is lost with everything and comes again.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{Fabric, ScriptedPeer, Station};

use super::{Speaker, median, quantile, trial::Trial};

/// Number of the row on the command line.
const ROW: usize = 6;
/// How often routes are withdrawn and others announced: those of one VTEP in one bridge domain.
const CHURN: Duration = Duration::from_millis(10);
/// Between two moves, so that they fall anywhere into the time between two of these.
const PAUSE: Duration = Duration::from_millis(17);
/// Between two looks.
const LOOK: Duration = Duration::from_micros(100);
/// How long a move may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is done.
#[derive(Clone, Copy)]
struct Effort {
    fabric: Fabric,
    rounds: usize,
    /// Of each round.
    moves: u16,
}

/// What one round gave.
struct Sample {
    /// From each UPDATE that moves a MAC to the entry that shows it.
    moves: Vec<Duration>,
    /// Routes that were withdrawn or announced meanwhile, per second.
    churn: f64,
    /// From the session that is established again to everything in the tables.
    again: Duration,
    /// The same from the loss of the session on.
    flap: Duration,
}

/// Measures both, each side in turn; prints the table and returns it for the file.
pub(super) fn run(quick: bool) -> Result<Value> {
    let effort = if quick {
        Effort {
            fabric: fabric(10, 2),
            rounds: 1,
            moves: 100,
        }
    } else {
        Effort {
            fabric: fabric(100, 20),
            rounds: 3,
            moves: 200,
        }
    };
    let mut samples = [Vec::new(), Vec::new()];
    let routes = effort.fabric.routes();
    for round in 1..=effort.rounds {
        for (speaker, samples) in Speaker::ALL.into_iter().zip(&mut samples) {
            let name = speaker.name();
            let rounds = effort.rounds;
            eprintln!("row {ROW}, changes of {routes} routes, {name}: {round} of {rounds}");
            let sample = measure(speaker, &effort)
                .with_context(|| format!("row {ROW}, changes of {routes} routes, {name}"))?;
            samples.push(sample);
        }
    }
    println!(
        "\n{:<4}{:>10} {:<8}{:>13}{:>13}{:>13}{:>16}{:>16}",
        "row", "RT-2", "", "move, ms", "p99, ms", "churn, 1/s", "flap: again, s", "from loss, s"
    );
    let lines = Speaker::ALL.into_iter().zip(&samples);
    let value = |(speaker, samples): (Speaker, &Vec<Sample>)| {
        let name = speaker.name();
        let moves = || samples.iter().flat_map(|sample| &sample.moves);
        let share = |share| quantile(moves().map(Duration::as_secs_f64), share) * 1e3;
        println!(
            "{ROW:<4}{routes:>10} {name:<8}{:>13.2}{:>13.2}{:>13.0}{:>16.2}{:>16.2}",
            share(0.5),
            share(0.99),
            median(samples.iter().map(|sample| sample.churn)),
            median(samples.iter().map(|sample| sample.again.as_secs_f64())),
            median(samples.iter().map(|sample| sample.flap.as_secs_f64())),
        );
        let list = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<_>>();
        let sides = json!({
            "moves_s": moves().map(Duration::as_secs_f64).collect::<Vec<_>>(),
            "churn_per_s": list(|sample| sample.churn),
            "again_s": list(|sample| sample.again.as_secs_f64()),
            "flap_s": list(|sample| sample.flap.as_secs_f64()),
        });
        (name.to_owned(), sides)
    };
    let sides = lines.map(value).collect::<serde_json::Map<_, _>>();
    Ok(json!({
        "row": ROW,
        "changes": true,
        "routes": routes,
        "sides": sides,
    }))
}

fn fabric(bds: u16, macs: u16) -> Fabric {
    Fabric {
        vteps: 100,
        bds,
        macs,
    }
}

fn measure(speaker: Speaker, effort: &Effort) -> Result<Sample> {
    let fabric = effort.fabric;
    let mut trial = Trial::start(speaker, fabric)?;
    let table = fabric.announcements();
    let start = Instant::now();
    trial.peer.send_raw(&table)?;
    trial.until(start, fabric.last(), fabric.routes())?;

    let (moves, churn) = moves(&mut trial, effort.moves)?;

    // It comes back at once, and while the old routes are on their way out. One MAC is new, since those
    // that were there may never be gone.
    let lost = Instant::now();
    let new = Station {
        number: fabric.macs + 1,
        ..fabric.last()
    };
    let mut trial = trial.flap()?;
    let established = Instant::now();
    trial.peer.send_raw(&table)?;
    trial.peer.send_raw(&new.announcement(new.vtep, 0))?;
    let again = trial.until(established, new, fabric.routes() + 1)?;
    Ok(Sample {
        moves,
        churn,
        again,
        flap: again + (established - lost),
    })
}

/// Moves MACs, each once (so that none becomes a duplicate, RFC 7432 §15.1) and to the next VTEP, while
/// routes of other VTEPs come and go. How long each took, and how many other routes came or went per
/// second.
fn moves(trial: &mut Trial, count: u16) -> Result<(Vec<Duration>, f64)> {
    let fabric = trial.fabric;
    let mut tables = trial.look()?;
    let start = Instant::now();
    let mut churn = Churn::new(fabric, start);
    let mut times = Vec::new();
    for number in 0..count {
        // Of all VTEPs but those whose routes come and go, and in all bridge domains.
        let station = Station {
            vtep: 1 + number % (fabric.vteps / 2 - 1),
            bd: 1 + number % fabric.bds,
            number: 1,
        };
        let to = station.vtep + 1;
        let other = Station {
            vtep: to,
            number: 2,
            ..station
        };
        let target = tables.target(other)?;
        ensure!(
            target.is_some() && tables.target(station)? != target,
            "{station:?} has moved already, or {other:?} is not there"
        );
        let sent = Instant::now();
        trial.peer.send_raw(&station.announcement(to, 1))?;
        loop {
            let look = Instant::now();
            if tables.target(station)? == target {
                times.push(look - sent);
                break;
            }
            ensure!(sent.elapsed() < PATIENCE, "{station:?} does not move");
            churn.go_on(&mut trial.peer)?;
            thread::sleep(LOOK);
        }
        // What the VTEP says that had it before.
        trial.peer.send_raw(&station.withdrawal(station.vtep))?;
        let next = Instant::now() + PAUSE;
        while Instant::now() < next {
            churn.go_on(&mut trial.peer)?;
            thread::sleep(Duration::from_millis(1));
        }
        trial.side.check()?;
    }
    let rate = churn.routes as f64 / start.elapsed().as_secs_f64();
    Ok((times, rate))
}

/// Routes that come and go: of each VTEP of the fabric's second half, in each bridge domain in turn.
struct Churn {
    fabric: Fabric,
    next: Instant,
    turn: usize,
    /// That were withdrawn or announced so far.
    routes: usize,
}

impl Churn {
    fn new(fabric: Fabric, start: Instant) -> Self {
        Self {
            fabric,
            next: start,
            turn: 0,
            routes: 0,
        }
    }

    /// Does what is due: withdraws the routes of one VTEP in a bridge domain, and announces those again that
    /// it withdrew before.
    fn go_on(&mut self, peer: &mut ScriptedPeer) -> Result<()> {
        while self.next <= Instant::now() {
            let (vtep, bd) = self.place(self.turn);
            peer.send_raw(&self.fabric.mac_withdrawals(vtep, bd))?;
            self.routes += usize::from(self.fabric.macs);
            if let Some(before) = self.turn.checked_sub(1) {
                let (vtep, bd) = self.place(before);
                peer.send_raw(&self.fabric.mac_announcements(vtep, bd))?;
                self.routes += usize::from(self.fabric.macs);
            }
            self.turn += 1;
            self.next += CHURN;
        }
        Ok(())
    }

    fn place(&self, turn: usize) -> (u16, u16) {
        let (half, bds) = (
            usize::from(self.fabric.vteps / 2),
            usize::from(self.fabric.bds),
        );
        let (vtep, bd) = (half + 1 + turn / bds % half, 1 + turn % bds);
        (vtep as u16, bd as u16)
    }
}
