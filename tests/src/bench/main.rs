//! The benchmark: vtep against the kernel's own bridge and vxlan, in turn.
//!
//! Started by `cargo xtask bench`, which builds it and the agent for release first. What is measured
//! and how is in docs/benchmarks.md.

mod control;
mod device;
mod load;
mod report;
mod rig;
mod rows;
mod sys;

use std::{env, path::PathBuf, process::ExitCode, thread};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    report::Report,
    rig::{Rig, Setup, Variant},
    rows::{Effort, Row},
};

struct Options {
    effort: Effort,
    rows: Vec<Row>,
    /// Row 6.
    control: bool,
    quick: bool,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        effort: Effort::FULL,
        rows: Vec::new(),
        control: false,
        quick: false,
        json: None,
    };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match &*argument {
            "--quick" => (options.effort, options.quick) = (Effort::QUICK, true),
            "--json" => options.json = Some(value()?.into()),
            "--row" => {
                let number: usize = value()?.parse().context("--row wants a number")?;
                if number == control::ROW {
                    options.control = true;
                    continue;
                }
                let row = Row::ALL.into_iter().find(|row| row.number() == number);
                options.rows.push(row.context("there is no such row")?);
            }
            other => bail!("unknown argument {other}; known are --quick, --json and --row"),
        }
    }
    if options.rows.is_empty() && !options.control {
        options.rows = Row::ALL.to_vec();
        options.control = true;
    }
    Ok(options)
}

fn run(options: &Options) -> Result<()> {
    let processors = thread::available_parallelism()?.get();
    ensure!(
        processors >= 2,
        "one processor for the load and one for the VTEP are needed"
    );
    let mut report = Report::default();
    for setup in Setup::ALL {
        let mut rows = options
            .rows
            .iter()
            .filter(|row| row.runs_in(setup))
            .peekable();
        if rows.peek().is_none() {
            continue;
        }
        eprintln!("{}: setting up {} VTEPs", setup.name(), Variant::ALL.len());
        let rigs = Variant::ALL
            .into_iter()
            .map(|variant| Rig::new(variant, setup))
            .collect::<Result<Vec<_>>>()?;
        rows.try_for_each(|row| alternate(*row, &rigs, setup, &options.effort, &mut report))?;
        for rig in &rigs {
            for drops in rig.drops()? {
                eprintln!("{}: {drops}", rig.variant.name());
            }
        }
    }
    if !options.rows.is_empty() {
        report.print();
    }
    let control = options
        .control
        .then(|| control::run(options.quick))
        .transpose()?;
    match &options.json {
        Some(file) => report.write(file, control),
        None => Ok(()),
    }
}

/// Measures all variants in turn, so that what slows the machine down meets them alike.
fn alternate(
    row: Row,
    rigs: &[Rig],
    setup: Setup,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    for round in 1..=effort.rounds {
        let (number, setup) = (row.number(), setup.name());
        eprintln!("{setup}, row {number}: {round} of {}", effort.rounds);
        for rig in rigs {
            let values = row
                .measure(rig, effort)
                .with_context(|| format!("row {number}, {setup}, {}", rig.variant.name()))?;
            report.add(number, setup, rig.variant, &values);
        }
    }
    Ok(())
}
