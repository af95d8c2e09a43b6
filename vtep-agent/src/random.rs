//! Numbers that need not be strong: jitter, ports, discriminators.

use std::time::Duration;

/// A generator (SplitMix64). Its owner seeds it, so that a run can be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// `time` times a factor above `least`, and at most `most`.
    pub(crate) fn between(&mut self, time: Duration, least: f64, most: f64) -> Duration {
        time.mul_f64(most - (most - least) * self.fraction())
    }

    /// In [0, 1).
    fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
