//! MACs that nobody has any more and whose last sequence number is still remembered.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::types::Mac;

/// How long a MAC's last sequence number is remembered when nobody has the MAC any more, so that its
/// next owner does not start below a route that is still under way.
const MEMORY: Duration = Duration::from_secs(600);

/// Most MACs that one bridge domain remembers: a peer that announces and withdraws ever new ones does
/// not fill our memory.
const MOST: usize = 16_384;

/// The vacant MACs of one bridge domain, by the end of their time. Each is there once, however often
/// it comes and goes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    ends: BTreeSet<(Instant, Mac)>,
}

impl Memory {
    /// Nobody has the MAC from now on. Answers until when it is remembered, and which one has to be
    /// forgotten for it.
    pub(super) fn begin(&mut self, mac: Mac, now: Instant) -> (Instant, Option<Mac>) {
        let end = now + MEMORY;
        self.ends.insert((end, mac));
        let oldest = (self.ends.len() > MOST).then(|| self.ends.pop_first());
        (end, oldest.flatten().map(|(_, oldest)| oldest))
    }

    /// Somebody has it again, before its time was over.
    pub(super) fn recall(&mut self, mac: Mac, end: &mut Option<Instant>) {
        if let Some(end) = end.take() {
            self.ends.remove(&(end, mac));
        }
    }

    /// A MAC whose time is over.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Mac> {
        let (end, _) = self.ends.first()?;
        if *end > now {
            return None;
        }
        self.ends.pop_first().map(|(_, mac)| mac)
    }

    /// When the time of the next one is over.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn each_is_remembered_once() {
        let now = Instant::now();
        let mut memory = Memory::default();
        for second in 0..100 {
            let (end, _) = memory.begin(mac(1), now + Duration::from_secs(second));
            assert_eq!(memory.ends.len(), 1);
            memory.recall(mac(1), &mut Some(end));
            assert_eq!(memory.next_due(), None);
        }
        let (end, _) = memory.begin(mac(1), now);
        assert_eq!(memory.take_due(end - Duration::from_nanos(1)), None);
        assert_eq!(memory.take_due(end), Some(mac(1)));
        assert_eq!(memory.take_due(end), None);
    }

    #[test]
    fn the_oldest_gives_way() {
        let now = Instant::now();
        let mut memory = Memory::default();
        for number in 0..MOST as u32 {
            let at = now + Duration::from_millis(number.into());
            assert_eq!(memory.begin(mac(number), at).1, None);
        }
        let later = now + Duration::from_secs(60);
        assert_eq!(memory.begin(mac(u32::MAX), later).1, Some(mac(0)));
        assert_eq!(memory.ends.len(), MOST);
    }
}
