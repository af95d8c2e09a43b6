//! A token bucket in one word.

/// Nanoseconds in a second, which is also the depth of the bucket.
const SECOND: u64 = 1_000_000_000;

/// Takes one token from a bucket that fills with `rate` tokens per second and holds one second's
/// worth. The state is the time at which the bucket will be full again (the generic cell rate
/// algorithm, ITU-T I.371), in nanoseconds of any clock; 0 is a full bucket.
///
/// Gives the new state, or `None` when the bucket is empty. A rate of 0 is no limit. Processors that
/// race for one bucket may pass a frame too many, never one too few.
#[inline(always)]
pub const fn take(state: u64, now: u64, rate: u32) -> Option<u64> {
    let Some(interval) = SECOND.checked_div(rate as u64) else {
        return Some(state);
    };
    let start = if state > now { state } else { now };
    let full = start + interval;
    if full - now > SECOND {
        None
    } else {
        Some(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many as there are.
    fn drain(state: &mut u64, now: u64, rate: u32) -> u32 {
        let mut taken = 0;
        while let Some(next) = take(*state, now, rate) {
            *state = next;
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_full_bucket_holds_one_second() {
        for rate in [1, 2, 100, 1000] {
            let mut state = 0;
            assert_eq!(drain(&mut state, 5 * SECOND, rate), rate);
            assert_eq!(drain(&mut state, 6 * SECOND, rate), rate);
            assert_eq!(drain(&mut state, 6 * SECOND + SECOND / 2, rate), rate / 2);
        }
    }

    #[test]
    fn no_limit() {
        assert_eq!(take(7, 3, 0), Some(7));
    }
}
