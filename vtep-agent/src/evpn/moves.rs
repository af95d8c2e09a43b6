//! How often things have moved lately: what duplicates are found by (RFC 7432 §15.1, RFC 9161 §3.7).

use std::{
    collections::VecDeque,
    hash::Hash,
    time::{Duration, Instant},
};

use crate::types::hash::HashMap;

/// Moves of one thing that are remembered, at least as many as `moves` may be configured: two ports of
/// ours with one MAC make thousands a second.
const MOST: u32 = 1000;

/// The moves of the last while, of everything of one kind in a bridge domain.
#[derive(Debug)]
pub(super) struct Moves<T> {
    queue: VecDeque<(Instant, T)>,
    counts: HashMap<T, u32>,
}

impl<T> Default for Moves<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            counts: HashMap::default(),
        }
    }
}

impl<T: Copy + Eq + Hash> Moves<T> {
    /// Notes a move. The answer is how many the same thing has made within the window.
    pub(super) fn record(&mut self, what: T, window: Duration, now: Instant) -> u32 {
        self.purge(window, now);
        let count = self.counts.entry(what).or_default();
        if *count < MOST {
            *count += 1;
            self.queue.push_back((now, what));
        }
        *count
    }

    /// It starts anew.
    pub(super) fn forget(&mut self, what: T) {
        if self.counts.remove(&what).is_some() {
            self.queue.retain(|(_, other)| *other != what);
        }
    }

    /// Forgets what is older than the window.
    pub(super) fn purge(&mut self, window: Duration, now: Instant) {
        while let Some((at, what)) = self.queue.front().copied() {
            if at + window > now {
                break;
            }
            self.queue.pop_front();
            if let Some(count) = self.counts.get_mut(&what) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&what);
                }
            }
        }
    }

    /// When [`Moves::purge`] has something to do.
    pub(super) fn next_purge(&self, window: Duration) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at + window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Mac;

    /// DUP-002, DUP-005: by MAC, and only what is within the window.
    #[test]
    fn moves_are_counted_by_mac_and_window() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let window = Duration::from_secs(180);
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let mut moves = Moves::default();
        for (n, seconds) in [0, 50, 100, 150].into_iter().enumerate() {
            assert_eq!(moves.record(mac(1), window, at(seconds)), n as u32 + 1);
        }
        assert_eq!(moves.record(mac(1), window, at(200)), 4);
        assert_eq!(moves.record(mac(2), window, at(200)), 1);
        moves.forget(mac(1));
        assert_eq!(moves.record(mac(1), window, at(201)), 1);
        for _ in 0..10_000 {
            moves.record(mac(2), window, at(201));
        }
        assert!(moves.queue.len() <= MOST as usize + 1);
        moves.purge(window, at(1000));
        assert!(moves.queue.is_empty() && moves.counts.is_empty());
    }
}
