//! When which bridge domain has something to forget.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use vtep_common::abi::BdId;

/// The next deadline of each bridge domain that has one: finding what is due costs nothing when
/// nothing is, however many bridge domains there are.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    by_time: BTreeSet<(Instant, BdId)>,
    by_bd: BTreeMap<BdId, Instant>,
}

impl Expiries {
    /// Sets or clears the deadline of a bridge domain.
    pub(super) fn set(&mut self, bd: BdId, end: Option<Instant>) {
        let old = match end {
            Some(end) => self.by_bd.insert(bd, end),
            None => self.by_bd.remove(&bd),
        };
        if old == end {
            return;
        }
        if let Some(old) = old {
            self.by_time.remove(&(old, bd));
        }
        if let Some(end) = end {
            self.by_time.insert((end, bd));
        }
    }

    /// Bridge domains whose deadline has come.
    pub(super) fn due(&self, now: Instant) -> Vec<BdId> {
        self.by_time
            .iter()
            .take_while(|(end, _)| *end <= now)
            .map(|(_, bd)| *bd)
            .collect()
    }

    /// The first deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn due_in_order_and_once() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut expiries = Expiries::default();
        expiries.set(BdId(1), Some(at(3)));
        expiries.set(BdId(2), Some(at(2)));
        expiries.set(BdId(3), Some(at(1)));
        expiries.set(BdId(3), None);
        expiries.set(BdId(1), Some(at(1)));
        assert_eq!(expiries.next(), Some(at(1)));
        assert!(expiries.due(now).is_empty());
        assert_eq!(expiries.due(at(1)), [BdId(1)]);
        assert_eq!(expiries.due(at(2)), [BdId(1), BdId(2)]);
        expiries.set(BdId(1), None);
        expiries.set(BdId(2), None);
        assert_eq!(expiries.next(), None);
    }
}
