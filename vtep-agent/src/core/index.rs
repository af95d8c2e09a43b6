//! Indexes into the datapath's tables.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// How long an index is not used again while there are others: whoever read it from a map before it
/// was freed has long finished by then.
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

    /// Goes on with these in use, as an earlier run left them; each is to be given back by whoever has it
    /// or finds that nobody does. What is between them is as if it had just become free.
    pub(super) fn recover(&mut self, used: impl Iterator<Item = u32>, now: Instant) {
        let used: BTreeSet<_> = used.filter(|index| (1..self.end).contains(index)).collect();
        self.next = used.last().map_or(1, |last| last + 1);
        let free = (1..self.next).filter(|index| !used.contains(index));
        self.freed = free.map(|index| (now, index)).collect();
    }

    /// A number that is free, if possible one that was not in use lately; `None` when all are in use.
    ///
    /// When everything is freed and taken again at once, as after a BGP session went down and up, there
    /// may be no others. Then the longest free one has to do: the entry at an index names its bridge
    /// domain and generation, which the datapath compares, so that no frame gets into another one.
    pub(super) fn take(&mut self, now: Instant) -> Option<u32> {
        let rested = |(freed, _): &(Instant, u32)| *freed + QUARANTINE <= now;
        if self.next >= self.end || self.freed.front().is_some_and(rested) {
            return self.freed.pop_front().map(|(_, index)| index);
        }
        let index = self.next;
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
        indexes.give(2, now);
        assert_eq!(indexes.take(now + QUARANTINE), Some(1));
    }

    #[test]
    fn what_was_in_use_is_not_handed_out() {
        let now = Instant::now();
        let mut indexes = Indexes::below(6);
        indexes.recover([4, 2, 0, 77].into_iter(), now);
        assert_eq!(indexes.take(now), Some(5));
        assert_eq!((indexes.take(now), indexes.take(now)), (Some(1), Some(3)));
        assert_eq!(indexes.take(now), None);
        indexes.give(4, now);
        assert_eq!(indexes.take(now), Some(4));
    }

    #[test]
    fn rather_too_early_than_none() {
        let now = Instant::now();
        let mut indexes = Indexes::below(3);
        assert_eq!((indexes.take(now), indexes.take(now)), (Some(1), Some(2)));
        assert_eq!(indexes.take(now), None);
        indexes.give(2, now);
        indexes.give(1, now);
        assert_eq!((indexes.take(now), indexes.take(now)), (Some(2), Some(1)));
        assert_eq!(indexes.take(now), None);
    }
}
