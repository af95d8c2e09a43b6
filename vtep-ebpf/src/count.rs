//! Counters. All are per CPU, hence plain additions.

use aya_ebpf::btf_maps::PerCpuArray;
use vtep_common::{
    DropReason,
    abi::{BdCounters, BdId, Path, PortCounters, Stat, Traffic},
};

use crate::maps::{bd_counters, drops, path_counters, port_counters, stats};

/// Counts a refused frame.
#[inline(always)]
pub fn dropped(reason: DropReason) {
    update(&drops, reason as u32, |count| *count += 1);
}

/// Counts a tenant's frame of `bytes` by the way that it took.
#[inline(always)]
pub fn path(path: Path, bytes: u32) {
    update(&path_counters, path as u32, |traffic| add(traffic, bytes));
}

/// Counts a frame from the VM.
#[inline(always)]
pub fn from_port(slot: u32, bytes: u32) {
    update(&port_counters, slot, |port: &mut PortCounters| {
        add(&mut port.rx, bytes)
    });
}

/// Counts a frame to the VM.
#[inline(always)]
pub fn to_port(slot: u32, bytes: u32) {
    update(&port_counters, slot, |port: &mut PortCounters| {
        add(&mut port.tx, bytes)
    });
}

/// Counts a refused frame from the VM, besides [`dropped`].
#[inline(always)]
pub fn port_dropped(slot: u32) {
    update(&port_counters, slot, |port: &mut PortCounters| {
        port.drops += 1
    });
}

/// Counts for a bridge domain.
#[inline(always)]
pub fn bd(bd: BdId, change: impl FnOnce(&mut BdCounters)) {
    update(&bd_counters, bd.0.into(), change);
}

/// Counts an event.
#[inline(always)]
pub fn stat(stat: Stat) {
    update(&stats, stat as u32, |count| *count += 1);
}

#[inline(always)]
fn add(traffic: &mut Traffic, bytes: u32) {
    traffic.packets += 1;
    traffic.bytes += u64::from(bytes);
}

#[inline(always)]
fn update<T, const N: usize>(map: &PerCpuArray<T, N>, index: u32, change: impl FnOnce(&mut T)) {
    if let Some(value) = map.get_ptr_mut(index) {
        // SAFETY: this CPU's element. A program that interrupts this one on the same CPU may lose
        // an increment, no more.
        change(unsafe { &mut *value });
    }
}
