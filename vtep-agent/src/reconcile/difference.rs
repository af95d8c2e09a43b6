//! One table: what is wanted, what was written, and what is still to be done.

use std::{
    hash::Hash,
    time::{Duration, Instant},
};

use super::{Entry, Key, Map, RETRY_MAX, RETRY_MIN, ROUND_MAX, Round, TableError, Tables};
use crate::{
    intent::{Intent, Table},
    types::hash::{HashMap, HashSet},
};

/// A [`Difference`] of any key and value.
pub(super) trait Stage: Send {
    fn map(&self) -> Map;
    /// The map holds what this table says; whether that is wanted is still to be seen.
    fn adopt(&mut self, installed: &mut Intent);
    /// Takes over the keys that were touched.
    fn collect(&mut self, intent: &mut Intent);
    /// Removes what nobody wants any more.
    fn delete(&mut self, intent: &mut Intent, tables: &mut dyn Tables, round: &mut Round);
    /// Writes what is wanted.
    fn update(&mut self, intent: &mut Intent, tables: &mut dyn Tables, round: &mut Round);
    /// Entries in the map.
    fn len(&self) -> usize;
    /// Operations still to be done.
    fn pending(&self) -> usize;
    /// What they are about.
    fn pending_keys(&self) -> Vec<Key>;
    /// The map is going to be read, from its start.
    fn audit_begin(&mut self);
    /// An entry that the map holds. Whether it is not as it was written, and was not known to be so.
    fn audit(&mut self, found: Entry) -> bool;
    /// The whole map has been read. The number of entries that it lacks.
    fn audit_end(&mut self) -> u64;
    /// When the first of them is due; `now` for one that this round had no time for.
    fn due(&self, now: Instant) -> Option<Instant>;
}

/// The difference between one table of the intent and its map.
pub(super) struct Difference<K, V> {
    map: Map,
    entry: fn(K, V) -> Entry,
    key: fn(K) -> Key,
    split: fn(Entry) -> Option<(K, V)>,
    table: fn(&mut Intent) -> &mut Table<K, V>,
    /// What the map holds.
    written: HashMap<K, V>,
    /// Those of its keys that an audit has come across, while there is one, or that were written
    /// since it began: it may have passed their place by then. Arrays lack nothing, so need none.
    seen: Option<HashSet<K>>,
    /// Keys that were touched and not tried since. Nearly all succeed at once, so they are only
    /// listed, some twice.
    fresh: Vec<K>,
    /// Keys for which the two differ because an operation failed. None of them is tried as a fresh one.
    failed: HashMap<K, Retry>,
}

/// When to try again. `None`: at once.
#[derive(Clone, Copy, Default)]
struct Retry {
    due: Option<Instant>,
    failures: u32,
    /// A refused operation may have been done in part: what the map holds is not known.
    unsure: bool,
}

/// What became of a key in one step of a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It is as wanted, or it failed.
    Settled,
    /// It is for the other step.
    Other,
    /// The round has no time for it.
    TooLate,
}

impl<K, V> Difference<K, V> {
    pub(super) fn new(
        map: Map,
        entry: fn(K, V) -> Entry,
        key: fn(K) -> Key,
        split: fn(Entry) -> Option<(K, V)>,
        table: fn(&mut Intent) -> &mut Table<K, V>,
    ) -> Self {
        Self {
            map,
            entry,
            key,
            split,
            table,
            written: HashMap::default(),
            seen: None,
            fresh: Vec::new(),
            failed: HashMap::default(),
        }
    }
}

impl<K, V> Difference<K, V>
where
    K: Copy + Eq + Hash,
    V: Copy + PartialEq,
{
    /// Tries every key that is due, fresh ones first.
    fn each_due(&mut self, now: Instant, mut attempt: impl FnMut(&mut Self, K) -> Tried) {
        let due = |retry: &Retry| retry.due.is_none_or(|due| due <= now);
        let retries = self.failed.iter().filter(|(_, retry)| due(retry));
        let retries: Vec<_> = retries.map(|(key, _)| *key).collect();
        let mut fresh = std::mem::take(&mut self.fresh);
        let mut late = false;
        fresh.retain(|key| {
            if late || self.failed.contains_key(key) {
                return late;
            }
            let tried = attempt(self, *key);
            late = tried == Tried::TooLate;
            tried != Tried::Settled
        });
        self.fresh = fresh;
        for key in retries {
            if late {
                break;
            }
            late = attempt(self, key) == Tried::TooLate;
        }
    }

    fn try_delete(
        &mut self,
        key: K,
        table: &Table<K, V>,
        tables: &mut dyn Tables,
        round: &mut Round,
    ) -> Tried {
        if table.get(key).is_some() {
            return Tried::Other;
        }
        if !self.written.contains_key(&key) && !self.is_unsure(key) {
            self.failed.remove(&key);
            return Tried::Settled;
        }
        if !round.spend() {
            return Tried::TooLate;
        }
        match tables.delete((self.key)(key)) {
            Ok(()) => {
                self.written.remove(&key);
                if let Some(seen) = &mut self.seen {
                    seen.remove(&key);
                }
                self.failed.remove(&key);
                round.outcome.deleted += 1;
            }
            Err(error) => {
                round.failed(self.map, error);
                self.fail(key, true, round.now);
            }
        }
        Tried::Settled
    }

    /// `full`: the map refused a new key in this round.
    fn try_update(
        &mut self,
        key: K,
        full: &mut bool,
        table: &Table<K, V>,
        tables: &mut dyn Tables,
        round: &mut Round,
    ) -> Tried {
        let Some(wanted) = table.get(key) else {
            return Tried::Other;
        };
        let written = self.written.get(&key);
        if written == Some(wanted) && !self.is_unsure(key) {
            self.failed.remove(&key);
            return Tried::Settled;
        }
        if *full && written.is_none() {
            // No room for any other new key either; not another system call for each.
            self.fail(key, false, round.now);
            return Tried::Settled;
        }
        if !round.spend() {
            return Tried::TooLate;
        }
        match tables.update((self.entry)(key, *wanted)) {
            Ok(()) => {
                self.written.insert(key, *wanted);
                if let Some(seen) = &mut self.seen {
                    seen.insert(key);
                }
                self.failed.remove(&key);
                round.outcome.updated += 1;
            }
            Err(error) => {
                let no_room = matches!(error, TableError::Full);
                *full |= no_room;
                round.failed(self.map, error);
                self.fail(key, !no_room, round.now);
            }
        }
        Tried::Settled
    }

    fn is_unsure(&self, key: K) -> bool {
        self.failed.get(&key).is_some_and(|retry| retry.unsure)
    }

    /// The map does not hold what was written there: it is due, whatever is wanted.
    fn suspect(&mut self, key: K) {
        let retry = Retry {
            unsure: true,
            ..Retry::default()
        };
        self.failed.insert(key, retry);
    }

    fn fail(&mut self, key: K, unsure: bool, now: Instant) {
        let retry = self.failed.entry(key).or_default();
        retry.unsure |= unsure;
        retry.due = Some(now + retry.delay());
        retry.failures += 1;
    }
}

impl Retry {
    fn delay(self) -> Duration {
        RETRY_MIN
            .saturating_mul(1 << self.failures.min(16))
            .min(RETRY_MAX)
    }
}

impl<K, V> Stage for Difference<K, V>
where
    K: Copy + Eq + Hash + Send,
    V: Copy + Default + PartialEq + Send,
{
    fn map(&self) -> Map {
        self.map
    }

    fn adopt(&mut self, installed: &mut Intent) {
        let table = (self.table)(installed);
        self.written = table.iter().map(|(key, value)| (key, *value)).collect();
        self.fresh = table.iter().map(|(key, _)| key).collect();
        self.failed.clear();
    }

    fn collect(&mut self, intent: &mut Intent) {
        for key in (self.table)(intent).take_dirty() {
            match self.failed.get_mut(&key) {
                // A new wish is tried at once; how often the key failed is remembered.
                Some(retry) => retry.due = None,
                None => self.fresh.push(key),
            }
        }
    }

    fn delete(&mut self, intent: &mut Intent, tables: &mut dyn Tables, round: &mut Round) {
        let table = (self.table)(intent);
        let before = round.outcome.deleted;
        self.each_due(round.now, |stage, key| {
            stage.try_delete(key, table, tables, round)
        });
        if round.outcome.deleted > before && !self.map.is_array() {
            // Whoever found the map full need not wait now.
            for (key, retry) in &mut self.failed {
                if table.get(*key).is_some() {
                    retry.due = None;
                }
            }
        }
    }

    fn update(&mut self, intent: &mut Intent, tables: &mut dyn Tables, round: &mut Round) {
        let table = (self.table)(intent);
        let mut full = false;
        self.each_due(round.now, |stage, key| {
            stage.try_update(key, &mut full, table, tables, round)
        });
        if self.failed.is_empty() {
            // Walking through a table costs as much as it was ever large.
            self.failed.shrink_to_fit();
        }
        if self.fresh.is_empty() {
            self.fresh.shrink_to(ROUND_MAX);
        }
    }

    fn len(&self) -> usize {
        self.written.len()
    }

    fn pending_keys(&self) -> Vec<Key> {
        let keys = self.fresh.iter().chain(self.failed.keys());
        keys.map(|key| (self.key)(*key)).collect()
    }

    fn pending(&self) -> usize {
        self.fresh.len() + self.failed.len()
    }

    fn audit_begin(&mut self) {
        self.seen = (!self.map.is_array()).then(HashSet::default);
    }

    fn audit(&mut self, found: Entry) -> bool {
        let Some((key, value)) = (self.split)(found) else {
            return false;
        };
        let written = match (self.written.get(&key), &mut self.seen) {
            (Some(written), Some(seen)) => {
                seen.insert(key);
                Some(*written)
            }
            (Some(written), None) => Some(*written),
            // An entry of an array that nobody wants is zero.
            (None, _) => self.map.is_array().then(V::default),
        };
        let differs = written != Some(value) && !self.failed.contains_key(&key);
        if differs {
            self.suspect(key);
        }
        differs
    }

    fn audit_end(&mut self) -> u64 {
        let Some(seen) = self.seen.take() else {
            return 0;
        };
        if seen.len() == self.written.len() {
            return 0;
        }
        let missing = self.written.keys().filter(|key| !seen.contains(*key));
        let unknown = missing.filter(|key| !self.failed.contains_key(*key));
        let lost: Vec<K> = unknown.copied().collect();
        for &key in &lost {
            self.suspect(key);
        }
        lost.len() as u64
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let retries = self.failed.values();
        let retries = retries.map(|retry| retry.due.unwrap_or(now));
        let fresh = (!self.fresh.is_empty()).then_some(now);
        retries.chain(fresh).min()
    }
}
