//! Each fault by itself, and many at random.

use std::{
    env,
    fmt::Write as _,
    io::{self, Write as _},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use vtep_tests::Random;

use crate::rig::{Cost, Fault, Rig};

/// What each fault loses and takes is within its bounds, nothing leaks, and the maps are as they
/// should be in the end.
#[test]
fn each_fault_costs_what_it_must() -> Result<()> {
    let mut rig = Rig::start("matrix")?;
    let before = rig.holdings()?;
    for fault in Fault::ALL {
        let cost = rig.suffer(fault)?;
        println!("{}", line(fault, cost));
    }
    rig.check_no_leak(before)?;
    rig.check_audit()
}

/// The same for 20 minutes (`VTEP_CHAOS_SECONDS`) in random order (`VTEP_CHAOS_SEED`).
#[test]
#[ignore = "takes 20 minutes: cargo xtask chaos"]
fn faults_at_random() -> Result<()> {
    let seconds = number("VTEP_CHAOS_SECONDS")?.unwrap_or(1200);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = number("VTEP_CHAOS_SEED")?.unwrap_or(now.as_secs());
    // Not captured: the figures are shown without the logs, of which there are many.
    writeln!(io::stderr(), "VTEP_CHAOS_SEED={seed}")?;
    let mut rig = Rig::start("chaos")?;
    // Once around, so that what is allocated once is.
    for fault in Fault::ALL {
        rig.suffer(fault)?;
    }
    let before = rig.holdings()?;
    let (begun, mut random) = (Instant::now(), Random::new(seed));
    let mut costs: Vec<(Fault, Vec<Cost>)> = Fault::ALL.map(|fault| (fault, Vec::new())).to_vec();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let index = random.number() as usize % costs.len();
        let (fault, costs) = &mut costs[index];
        costs.push(rig.suffer(*fault)?);
    }
    let after = rig.holdings()?;
    rig.check_no_leak(before)?;
    rig.check_audit()?;
    let mut figures = format!("before: {before:?}\nafter: {after:?}\n");
    for (fault, costs) in costs {
        let lost: u32 = costs.iter().map(|cost| cost.lost).sum();
        let sent: u32 = costs.iter().map(|cost| cost.sent).sum();
        let slowest = costs.iter().map(|cost| cost.whole_after).max();
        let slowest = slowest.unwrap_or_default();
        writeln!(
            figures,
            "{fault:?}: {} times, {lost} of {sent} lost, whole within {slowest:.1?}",
            costs.len(),
        )?;
    }
    io::stderr().write_all(figures.as_bytes())?;
    Ok(())
}

fn line(fault: Fault, cost: Cost) -> String {
    let Cost {
        lasted,
        whole_after,
        lost,
        sent,
    } = cost;
    format!(
        "{fault:?}: lasted {lasted:.1?}, whole {whole_after:.1?} later, {lost} of {sent} pings lost"
    )
}

fn number(variable: &str) -> Result<Option<u64>> {
    Ok(match env::var(variable) {
        Ok(text) => Some(text.parse()?),
        Err(_) => None,
    })
}
