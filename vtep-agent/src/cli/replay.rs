//! `replay FILE`

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Failure, Outcome, print, print_json, tables};
use crate::{
    control::Table,
    core::Core,
    recording::{End, Given, Incomplete, Replay, Step, Turn},
    types::{BdName, hash::HashSet},
};

/// Longest text of an input in a summary.
const MAX_TEXT: usize = 2000;

/// What is to be printed.
pub(super) struct Wanted {
    pub(super) until: Option<u64>,
    pub(super) show: Option<(Table, Option<BdName>)>,
    pub(super) turns: bool,
    pub(super) json: bool,
}

/// What a replay found.
#[derive(Debug, Serialize)]
struct Summary {
    /// Version of the agent that recorded.
    agent: String,
    architecture: String,
    /// Seconds since 1970.
    started: i64,
    /// Turns that were done again, the first one included.
    turns: u64,
    /// By what they were about.
    inputs: std::collections::BTreeMap<&'static str, u64>,
    /// Time of the last turn, after the first one.
    seconds: f64,
    /// How the recording ends; absent when it was not read so far.
    end: Option<String>,
    difference: Option<Difference>,
}

/// The first turn that was not as it had been.
#[derive(Debug, Serialize)]
struct Difference {
    turn: u64,
    at_s: f64,
    input: String,
    expected: Option<String>,
    found: Option<String>,
    panic: Option<String>,
}

pub(super) fn replay(file: &Path, wanted: &Wanted, force: bool) -> Outcome {
    let mut replay = Replay::open(file, force, Instant::now()).map_err(anyhow::Error::new)?;
    let header = replay.header().clone();
    let mut summary = Summary {
        agent: header.agent,
        architecture: header.architecture,
        started: header.started,
        turns: 0,
        inputs: Default::default(),
        seconds: 0.0,
        end: None,
        difference: None,
    };
    while wanted.until.is_none_or(|until| summary.turns <= until) {
        let Some(step) = replay.step() else {
            break;
        };
        summary.turns += 1;
        summary.seconds = step.at.as_secs_f64();
        *summary.inputs.entry(kind(&step.given)).or_default() += 1;
        if wanted.turns {
            print(&format!("{}\n", line(&step)?))?;
        }
        if step.differs() {
            summary.difference = Some(Difference::new(&step));
            break;
        }
    }
    let damaged = matches!(replay.end(), Some(Err(Incomplete::Damaged { .. })));
    summary.end = replay.end().map(ending);
    if let Some((table, bd)) = &wanted.show {
        let core = replay.core().ok_or_else(|| anyhow!("no turn is whole"))?;
        let data = show(core, *table, bd.as_ref(), replay.now())?;
        match wanted.json {
            true => print_json(&data)?,
            false => print(&tables::render(*table, data)?)?,
        }
    } else if wanted.json {
        print_json(&serde_json::to_value(&summary)?)?;
    } else if !wanted.turns {
        print(&summary.to_string())?;
    }
    match (&summary.difference, damaged) {
        (Some(difference), _) => Err(anyhow!("turn {} differs", difference.turn).into()),
        (None, true) => {
            let end = summary.end.unwrap_or_default();
            Err(anyhow!("{}: {end}", file.display()).into())
        }
        (None, false) => Ok(()),
    }
}

/// As the agent would have shown it then, but for what it had from elsewhere.
fn show(
    core: &Core,
    table: Table,
    bd: Option<&BdName>,
    now: Instant,
) -> Result<Value, anyhow::Error> {
    let data = match table {
        // As if everything were in the maps that was wanted there.
        Table::Routes => serde_json::to_value(core.routes(bd, &HashSet::default())?),
        Table::Bds => serde_json::to_value(core.bds(bd)?),
        Table::Macs => serde_json::to_value(core.macs(bd, now)?),
        Table::Neighbors => serde_json::to_value(core.neighbors(bd, now)?),
        Table::Vteps => serde_json::to_value(core.vteps(bd)?),
        Table::Flood => serde_json::to_value(core.flood(bd)?),
        Table::Ports => serde_json::to_value(core.ports(bd)?),
        Table::Uplinks => serde_json::to_value(core.uplinks()),
        Table::Status | Table::Bgp | Table::Counters => {
            return Err(anyhow!(
                "a recording has no {}, which is not the core's: expected routes, bds, macs, \
                 neighbors, vteps, flood, ports or uplinks",
                serde_json::to_value(table)?.as_str().unwrap_or_default()
            ));
        }
    };
    Ok(data?)
}

/// A turn for programs to read.
fn line(step: &Step) -> Result<Value, Failure> {
    let (outputs, error) = match &step.done {
        Ok(Ok(outputs)) => (serde_json::to_value(outputs)?, Value::Null),
        Ok(Err(error)) => (json!([]), error.to_string().into()),
        Err(panic) => (json!([]), format!("panicked: {panic}").into()),
    };
    Ok(json!({
        "turn": step.number,
        "at_s": step.at.as_secs_f64(),
        "input": serde_json::to_value(&step.given)?,
        "outputs": outputs,
        "error": error,
        "expected": step.expected.map(hexadecimal),
        "found": step.found.map(hexadecimal),
    }))
}

fn kind(given: &Given) -> &'static str {
    use crate::core::Input;
    match given {
        Given::Begin => "begin",
        Given::Turn(Turn::Input(input)) => match input {
            Input::Peer(..) => "peer",
            Input::Updates(_) => "updates",
            Input::Link(_) => "link",
            Input::LinkGone(_) => "link_gone",
            Input::Paths(..) => "paths",
            Input::Event(_) => "event",
            Input::Dhcp(_) => "dhcp",
            Input::Idle(_) => "idle",
            Input::Recovered => "recovered",
            Input::Tick => "tick",
        },
        Given::Turn(Turn::Command(_)) => "command",
        Given::Turn(Turn::DevicesRead) => "devices_read",
        Given::Turn(Turn::Shutdown) => "shutdown",
    }
}

fn ending(end: Result<End, Incomplete>) -> String {
    match end {
        Ok(end) => end.name().to_owned(),
        Err(Incomplete::CutOff { whole }) => {
            format!("cut off after {whole} whole bytes: the agent was killed, or it still runs")
        }
        Err(Incomplete::Damaged { whole }) => {
            format!("damaged after {whole} bytes: the rest cannot be read")
        }
    }
}

fn hexadecimal(digest: u64) -> String {
    format!("{digest:016x}")
}

impl Difference {
    fn new(step: &Step) -> Self {
        let mut input = format!("{:?}", step.given);
        if let Some((end, _)) = input.char_indices().nth(MAX_TEXT) {
            input.truncate(end);
            input.push('…');
        }
        Self {
            turn: step.number,
            at_s: step.at.as_secs_f64(),
            input,
            expected: step.expected.map(hexadecimal),
            found: step.found.map(hexadecimal),
            panic: step.done.as_ref().err().cloned(),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (agent, architecture, started) = (&self.agent, &self.architecture, self.started);
        writeln!(
            f,
            "recorded by  vtep-agent {agent} ({architecture}), from {started} s after 1970 (date -d @{started})"
        )?;
        let mut inputs = String::new();
        for (kind, count) in &self.inputs {
            let comma = if inputs.is_empty() { "" } else { ", " };
            write!(inputs, "{comma}{kind} {count}")?;
        }
        writeln!(f, "turns        {} ({inputs})", self.turns)?;
        let span = Duration::from_secs_f64(self.seconds);
        writeln!(f, "time         {:.6} s", span.as_secs_f64())?;
        if let Some(end) = &self.end {
            writeln!(f, "end          {end}")?;
        }
        let Some(difference) = &self.difference else {
            return writeln!(f, "result       every turn did what it did then");
        };
        let Difference {
            turn, at_s, input, ..
        } = difference;
        writeln!(f, "result       turn {turn} at {at_s:.6} s differs")?;
        writeln!(f, "input        {input}")?;
        match (&difference.panic, &difference.expected, &difference.found) {
            (Some(panic), None, _) => {
                writeln!(f, "panics       {panic}; the recording ends here, too")
            }
            (Some(panic), Some(_), _) => writeln!(f, "panics       {panic}; it did not then"),
            (None, expected, found) => {
                let text = |digest: &Option<String>| digest.clone().unwrap_or_default();
                writeln!(
                    f,
                    "digest       {}, expected {}",
                    text(found),
                    text(expected)
                )
            }
        }
    }
}
