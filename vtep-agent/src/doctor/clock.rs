//! The machine's clock.

use std::mem::MaybeUninit;

/// `TIME_ERROR` of linux/timex.h: the kernel's word for a clock that nobody keeps in step.
const TIME_ERROR: i32 = 5;

/// Whether NTP or alike keeps the clock in step (adjtimex(2)). `None`: the kernel does not say.
pub(super) fn is_synchronised() -> Option<bool> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all-zero is a valid `timex`, with `modes` 0 the call only reads the clock's state, and
    // the structure outlives it.
    match unsafe { libc::adjtimex(timex.as_mut_ptr()) } {
        -1 => None,
        state => Some(state != TIME_ERROR),
    }
}
