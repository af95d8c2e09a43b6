//! Budgets of ports.

use core::ptr;

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use vtep_common::wire::rate;

use crate::maps::{Budgets, port_budgets};

/// "Too big" messages that a port may cause per second.
const TOO_BIG_RATE: u32 = 100;
/// Copies of DHCP messages that a port may cause per second: no more bytes than learning events at
/// their usual rate.
const DHCP_RATE: u32 = 100;
/// The same for what the overlay sends to several ports.
const OVERLAY_DHCP_RATE: u32 = 1000;

/// Takes a token for a flooded frame; `rate` is the port's, 0 for no limit.
#[inline(always)]
pub fn bum(slot: u32, rate: u32) -> bool {
    // SAFETY: a field of the element that the pointer is to.
    take(slot, rate, |budgets| unsafe { &raw mut (*budgets).bum })
}

/// Takes a token for a learning event; `rate` is the port's, 0 for no limit.
#[inline(always)]
pub fn learn(slot: u32, rate: u32) -> bool {
    // SAFETY: a field of the element that the pointer is to.
    take(slot, rate, |budgets| unsafe { &raw mut (*budgets).learn })
}

/// Takes a token for a copy of a DHCP message. Slot 0 is the overlay, when several get it.
#[inline(always)]
pub fn dhcp(slot: u32) -> bool {
    let rate = if slot == 0 {
        OVERLAY_DHCP_RATE
    } else {
        DHCP_RATE
    };
    // SAFETY: a field of the element that the pointer is to.
    take(slot, rate, |budgets| unsafe { &raw mut (*budgets).dhcp })
}

/// Takes a token for a "too big" message.
#[inline(always)]
pub fn too_big(slot: u32) -> bool {
    // SAFETY: a field of the element that the pointer is to.
    take(slot, TOO_BIG_RATE, |budgets| unsafe {
        &raw mut (*budgets).too_big
    })
}

#[inline(always)]
fn take(slot: u32, rate: u32, field: impl FnOnce(*mut Budgets) -> *mut u64) -> bool {
    if rate == 0 {
        return true;
    }
    let Some(budgets) = port_budgets.get_ptr_mut(slot) else {
        return false;
    };
    let state = field(budgets);
    // The coarse clock advances in ticks of some milliseconds: enough for a bucket of one second,
    // and free of charge.
    // SAFETY: no pointer is involved.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: a pointer from the map; one aligned load and one store. Processors race, see `rate`.
    unsafe {
        match rate::take(ptr::read_volatile(state), now, rate) {
            Some(next) => {
                ptr::write_volatile(state, next);
                true
            }
            None => false,
        }
    }
}
