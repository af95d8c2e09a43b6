//! Indexes into the datapath's tables.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long an index is not used again: whoever read it from a map before it was freed has long
/// finished by then.
pub(super) const QUARANTINE: Duration = Duration::from_secs(5);

/// Hands out the numbers from 1 to a limit. 0 stands for none in every table.
#[derive(Debug)]
pub(super) struct Indexes {
    next: u32,
    end: u32,
    freed: VecDeque<(Instant, u32)>,
}

impl Indexes {
    /// Numbers below `end`.
    pub(super) fn below(end: u32) -> Self {
        Self {
            next: 1,
            end,
            freed: VecDeque::new(),
        }
    }

    /// A number that is free and was not in use lately; `None` when there is none.
    pub(super) fn take(&mut self, now: Instant) -> Option<u32> {
        if let Some((freed, index)) = self.freed.front().copied()
            && freed + QUARANTINE <= now
        {
            self.freed.pop_front();
            return Some(index);
        }
        let index = self.next;
        if index >= self.end {
            return None;
        }
        self.next += 1;
        Some(index)
    }

    /// Gives a number back.
    pub(super) fn give(&mut self, index: u32, now: Instant) {
        self.freed.push_back((now, index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_indexes_rest() {
        let now = Instant::now();
        let mut indexes = Indexes::below(3);
        assert_eq!(indexes.take(now), Some(1));
        indexes.give(1, now);
        assert_eq!(indexes.take(now), Some(2));
        assert_eq!(indexes.take(now), None);
        assert_eq!(indexes.take(now + QUARANTINE), Some(1));
    }
}
