//! Every way to end and to come back, in random order.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use vtep_tests::Random;

use crate::fabric::{End, Fabric, Version};

/// Killed, stopped, replaced.
const KINDS: usize = 3;
/// Each kind, and there and back, before chance has its way.
const FIRST: [usize; 4] = [0, 1, 2, 2];

/// The agent is killed, stopped, and replaced by another version, so many times in all: figures.
fn mixed(name: &str, rounds: usize) -> Result<String> {
    let mut fabric = Fabric::start(name)?;
    fabric.lab.hide_logs();
    let traffic = fabric.traffic()?;
    let (mut random, mut version) = (Random::new(50), Version::This);
    let mut counts = [0; 3];
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    for round in 0..rounds {
        let kind = FIRST.get(round).copied();
        let kind = kind.unwrap_or_else(|| random.below(KINDS));
        counts[kind] += 1;
        let end = match kind {
            0 => End::Killed,
            1 => End::Stopped,
            _ => {
                version = version.other();
                [End::Killed, End::Stopped][random.below(2)]
            }
        };
        let again = |fabric: &mut Fabric| -> Result<Duration> {
            fabric.end(end)?;
            let took = fabric.begin(version)?;
            fabric.check_not_withdrawn()?;
            Ok(took)
        };
        let took = again(&mut fabric)
            .with_context(|| format!("round {round}: {end:?}, then {version:?}"))?;
        slowest = slowest.max(took);
    }
    let [killed, stopped, replaced] = counts;
    let lasted = begun.elapsed();
    let figures = fabric.finish(traffic)?;
    Ok(format!(
        "{rounds} restarts in {lasted:.0?}: {killed} killed, {stopped} stopped, {replaced} replaced \
         by another version; all known again within {slowest:.1?}\n{figures}"
    ))
}

/// GR-006 (RFC 4724 §4.1): no ping at 1 ms is lost, no TCP stream has a timeout, and neither the
/// reflector's clients nor FRR's kernel hear of a withdrawal.
#[test]
fn gr_006_every_kind_of_restart_beside_frr() -> Result<()> {
    println!("{}", mixed("mixed", FIRST.len())?);
    Ok(())
}

/// The same, 50 times.
#[test]
#[ignore = "takes many minutes: cargo xtask chaos"]
fn gr_006_fifty_restarts_of_every_kind_beside_frr() -> Result<()> {
    let figures = mixed("mixed-50", 50)?;
    // Not captured: the figures are shown without the logs, of which there are many.
    io::stderr().write_all(figures.as_bytes())?;
    Ok(())
}
