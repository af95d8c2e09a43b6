//! Counts what a thread allocates, so that memory can be a property.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread holds, less those that it got from others.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most that it held since the last reset.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Runs `work`; returns its result, and how many bytes it held at the same time at most.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    let peak = PEAK.get().saturating_sub(before);
    (result, usize::try_from(peak).unwrap_or(0))
}

fn count(change: isize) {
    let held = HELD.get().wrapping_add(change);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

fn size(layout: Layout) -> isize {
    // A layout never exceeds isize::MAX.
    isize::try_from(layout.size()).unwrap_or(isize::MAX)
}

// SAFETY: everything is left to the system's allocator; counting neither allocates nor unwinds, as
// the cells are plain numbers without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_seen_after_it_was_freed() {
        let (length, peak) = peak(|| {
            drop(vec![0_u8; 10_000]);
            vec![1_u8; 100].len()
        });
        assert_eq!(length, 100);
        assert!((10_000..11_000).contains(&peak), "{peak}");
    }
}
