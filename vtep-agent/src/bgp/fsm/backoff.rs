//! Delays between attempts, and jitter.

use std::time::Duration;

use crate::random::Random;

/// ConnectRetryTime after the first failure. The 120 s that RFC 4271 §10 suggests leave a rebooted
/// hypervisor without its fabric for two minutes.
const FIRST: Duration = Duration::from_secs(1);

/// Longest ConnectRetryTime.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles the ConnectRetryTime with every failure in a row: 1 s, 2 s, 4 s … 30 s.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure; gives the time until the next attempt, before jitter.
    pub(super) fn fail(&mut self) -> Duration {
        let delay = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// A session ended that was Established for `uptime`. One that outlived the longest delay was
    /// a success; one that didn't is a failure like any other, so that a peer which resets every
    /// session at once is not asked again every second.
    pub(super) fn established_for(&mut self, uptime: Duration) {
        if uptime >= LONGEST {
            self.failures = 0;
        }
    }

    /// Forgets all failures.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Jitter of RFC 4271 §10: a factor of 0.75 to 1.0.
#[derive(Clone, Debug)]
pub(super) struct Jitter(Random);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// `time` times a factor of 0.75 to 1.0.
    pub(super) fn of(&mut self, time: Duration) -> Duration {
        self.0.between(time, 0.75, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_starts_again_after_a_lasting_session() {
        let mut backoff = Backoff::default();
        let seconds: Vec<u64> = (0..7).map(|_| backoff.fail().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        backoff.established_for(Duration::from_secs(29));
        assert_eq!(backoff.fail(), LONGEST);
        backoff.established_for(LONGEST);
        assert_eq!(backoff.fail(), FIRST);
    }

    /// RFC 4271 §10.
    #[test]
    fn jitter_takes_up_to_a_quarter() {
        let mut jitter = Jitter::new(7);
        let whole = Duration::from_secs(100);
        let drawn: Vec<Duration> = (0..1000).map(|_| jitter.of(whole)).collect();
        assert!(
            drawn
                .iter()
                .all(|time| *time > whole * 3 / 4 && *time <= whole)
        );
        assert!(drawn.iter().any(|time| *time < whole * 77 / 100));
        assert!(drawn.iter().any(|time| *time > whole * 98 / 100));
    }
}
