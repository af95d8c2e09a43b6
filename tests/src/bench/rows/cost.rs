//! What one frame costs each program, without everything around it.

use anyhow::{Context as _, Result};

use super::{Effort, Value};
use crate::{
    load,
    rig::{Rig, Variant},
    sys::{self, PROGRAM_TC, PROGRAM_XDP, TestFrame},
};

/// Runs of which the median counts, for each request of the other rows.
const RUNS: usize = 5;

/// Median time of a program for one frame, nanoseconds; of the kernel's variant there is none.
///
/// Every run starts from a fresh frame: a program that has removed the outer headers would find the
/// inner ones in the next one.
pub(super) fn measure(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let runs = effort.requests * RUNS;
    let (wire, vm) = (rig.wire_datagrams()?.bytes, rig.vm_datagrams()?.bytes);
    let ns = |name, value| Value::less(name, "ns", value);
    if rig.variant == Variant::Kernel {
        return Ok(Vec::new());
    }
    let map = rig.pinned_map("fdb")?;
    let mut values = Vec::new();
    let (kind, program) = match rig.variant {
        Variant::Xdp => (PROGRAM_XDP, rig.program("xdp_native")?),
        _ => (PROGRAM_TC, rig.program("underlay_tcx")?),
    };
    let empty = sys::load(kind, &load::empty())?;
    let lookup = sys::load(kind, &load::lookup(&map))?;
    let uplink = TestFrame::of(kind, wire, rig.uplink_index()?);
    let median = |program, frame: &TestFrame| rig.host.ns().enter(|| median(program, frame, runs));
    values.push(ns("empty program", median(&empty, &uplink)?));
    values.push(ns("one lookup in a hash map", median(&lookup, &uplink)?));
    values.push(ns("wire to VM, known unicast", median(&program, &uplink)?));
    let access = rig.program("access_tcx")?;
    let port = TestFrame::of(PROGRAM_TC, vm, rig.port_index()?);
    values.push(ns("VM to wire, known unicast", median(&access, &port)?));
    Ok(values)
}

fn median(program: &std::os::fd::OwnedFd, frame: &TestFrame, runs: usize) -> Result<f64> {
    let mut times = (0..runs)
        .map(|_| sys::run_once(program, frame))
        .collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    let middle = times.get(times.len() / 2).context("no runs")?;
    Ok(f64::from(*middle))
}
