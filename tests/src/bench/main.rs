//! The benchmark: vtep against the kernel's own bridge and vxlan, in turn.
//!
//! Started by `cargo xtask bench`, which builds it and the agent for release first. What is measured
//! and how is in docs/benchmarks.md.

mod compare;
mod control;
mod device;
mod expedited;
mod load;
mod picture;
mod report;
mod rig;
mod rows;
mod sys;

use std::{env, fs, path::PathBuf, process::ExitCode, thread, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    expedited::Expedited,
    report::Report,
    rig::{Rig, Setup, Variant},
    rows::{Effort, Row},
};

struct Options {
    effort: Effort,
    rows: Vec<Row>,
    control: Vec<control::Row>,
    quick: bool,
    json: Option<PathBuf>,
    svg: Option<PathBuf>,
    compare: Option<serde_json::Value>,
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
        control: Vec::new(),
        quick: false,
        json: None,
        svg: None,
        compare: None,
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
            "--svg" => options.svg = Some(value()?.into()),
            "--compare" => {
                let file = value()?;
                let text = fs::read(&file).with_context(|| format!("cannot read {file}"))?;
                let report = serde_json::from_slice(&text);
                options.compare = Some(report.with_context(|| format!("{file} is no report"))?);
            }
            "--row" => {
                let number: usize = value()?.parse().context("--row wants a number")?;
                let row = Row::ALL.into_iter().find(|row| row.number() == number);
                let mut control = control::Row::ALL.into_iter();
                let control = control.find(|row| row.number() == number);
                ensure!(
                    row.is_some() || control.is_some(),
                    "there is no row {number}"
                );
                options.rows.extend(row);
                options.control.extend(control);
            }
            other => bail!(
                "unknown argument {other}; known are --quick, --row, --json, --svg and --compare"
            ),
        }
    }
    if options.rows.is_empty() && options.control.is_empty() {
        options.rows = Row::ALL.to_vec();
        options.control = control::Row::ALL.to_vec();
    }
    Ok(options)
}

fn run(options: &Options) -> Result<()> {
    let processors = thread::available_parallelism()?.get();
    ensure!(
        processors >= 2,
        "one processor for the load and one for the VTEP are needed"
    );
    // First: the kernel is busy for long with the devices that other rows leave to it.
    let mut failures = Vec::new();
    let control = match &*options.control {
        [] => None,
        rows => control::run(rows, options.quick)
            .inspect_err(|error| {
                eprintln!("{error:#}");
                failures.push("the control plane".to_owned());
            })
            .ok(),
    };
    let mut report = Report::default();
    for setup in Setup::ALL {
        let rows = options.rows.iter().filter(|row| row.runs_in(setup));
        let rows: Vec<_> = rows.collect();
        let wanted = |variant: &Variant| rows.iter().any(|row| row.measures(*variant));
        let variants: Vec<_> = Variant::ALL.into_iter().filter(wanted).collect();
        if variants.is_empty() {
            continue;
        }
        let expedited = Expedited::begin()?;
        let rigs = variants
            .into_iter()
            .map(|variant| set_up(variant, setup))
            .collect::<Result<Vec<_>>>();
        drop(expedited);
        let rigs = match rigs {
            Ok(rigs) => rigs,
            Err(error) => {
                eprintln!("{error:#}");
                failures.push(setup.name().to_owned());
                continue;
            }
        };
        for row in rows {
            // The others are worth having all the same.
            if let Err(error) = alternate(*row, &rigs, setup, &options.effort, &mut report) {
                eprintln!("{error:#}");
                failures.push(format!("row {} in {}", row.number(), setup.name()));
            }
        }
        for rig in &rigs {
            // Said for the reader, and no reason to lose what was measured.
            match rig.drops() {
                Ok(drops) => drops
                    .iter()
                    .for_each(|drops| eprintln!("{}: {drops}", rig.variant.name())),
                Err(error) => eprintln!("{}: no metrics: {error:#}", rig.variant.name()),
            }
        }
        let _expedited = Expedited::begin()?;
        drop(rigs);
    }
    if !options.rows.is_empty() {
        report.print();
    }
    let report = report.json(control)?;
    if let Some(earlier) = &options.compare {
        compare::print(earlier, &report);
    }
    let write = |file: &Option<PathBuf>, text: String| match file {
        Some(file) => {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
        }
        None => Ok(()),
    };
    write(&options.svg, picture::svg(&report))?;
    write(&options.json, serde_json::to_string_pretty(&report)? + "\n")?;
    ensure!(failures.is_empty(), "not complete: {}", failures.join(", "));
    Ok(())
}

fn set_up(variant: Variant, setup: Setup) -> Result<Rig> {
    let (start, names) = (Instant::now(), (setup.name(), variant.name()));
    let rig = Rig::new(variant, setup).with_context(|| format!("{}, {}", names.0, names.1))?;
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{}, {}: set up in {seconds:.1} s", names.0, names.1);
    Ok(rig)
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
        for rig in rigs.iter().filter(|rig| row.measures(rig.variant)) {
            let values = row
                .measure(rig, effort)
                .with_context(|| format!("row {number}, {setup}, {}", rig.variant.name()))?;
            report.add(number, setup, rig.variant, &values);
        }
    }
    Ok(())
}
