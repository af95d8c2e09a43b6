//! One table: what is wanted, what was written, and what is still to be done.

use std::{
    hash::Hash,
    time::{Duration, Instant},
};

use super::{Entry, Key, Map, RETRY_MAX, RETRY_MIN, Round, TableError, Tables};
use crate::{
    intent::{Intent, Table},
    types::hash::HashMap,
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
    /// When the first of them is due; `now` for one that this round had no time for.
    fn due(&self, now: Instant) -> Option<Instant>;
}

/// The difference between one table of the intent and its map.
pub(super) struct Difference<K, V> {
    map: Map,
    entry: fn(K, V) -> Entry,
    key: fn(K) -> Key,
    table: fn(&mut Intent) -> &mut Table<K, V>,
    /// What the map holds.
    written: HashMap<K, V>,
    /// Keys for which the two may differ.
    pending: HashMap<K, Retry>,
}

/// When to try again. `None`: at once.
#[derive(Clone, Copy, Default)]
struct Retry {
    due: Option<Instant>,
    failures: u32,
    /// A refused operation may have been done in part: what the map holds is not known.
    unsure: bool,
}

impl<K, V> Difference<K, V> {
    pub(super) fn new(
        map: Map,
        entry: fn(K, V) -> Entry,
        key: fn(K) -> Key,
        table: fn(&mut Intent) -> &mut Table<K, V>,
    ) -> Self {
        Self {
            map,
            entry,
            key,
            table,
            written: HashMap::default(),
            pending: HashMap::default(),
        }
    }
}

impl<K, V> Difference<K, V>
where
    K: Copy + Eq + Hash,
{
    /// Keys that are to be tried in this round.
    fn due_keys(&self, now: Instant) -> Vec<K> {
        self.pending
            .iter()
            .filter(|(_, retry)| retry.due.is_none_or(|due| due <= now))
            .map(|(key, _)| *key)
            .collect()
    }

    fn is_unsure(&self, key: K) -> bool {
        self.pending.get(&key).is_some_and(|retry| retry.unsure)
    }

    fn failed(&mut self, key: K, unsure: bool, now: Instant) {
        let retry = self.pending.entry(key).or_default();
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
    V: Copy + PartialEq + Send,
{
    fn map(&self) -> Map {
        self.map
    }

    fn adopt(&mut self, installed: &mut Intent) {
        let table = (self.table)(installed);
        self.written = table.iter().map(|(key, value)| (key, *value)).collect();
        self.pending = table
            .iter()
            .map(|(key, _)| (key, Retry::default()))
            .collect();
    }

    fn collect(&mut self, intent: &mut Intent) {
        for key in (self.table)(intent).take_dirty() {
            // A new wish is tried at once; how often the key failed is remembered.
            self.pending.entry(key).or_default().due = None;
        }
    }

    fn delete(&mut self, intent: &mut Intent, tables: &mut dyn Tables, round: &mut Round) {
        let table = (self.table)(intent);
        let mut room = false;
        for key in self.due_keys(round.now) {
            if table.get(key).is_some() {
                continue;
            }
            if !self.written.contains_key(&key) && !self.is_unsure(key) {
                self.pending.remove(&key);
                continue;
            }
            if !round.spend() {
                break;
            }
            match tables.delete((self.key)(key)) {
                Ok(()) => {
                    self.written.remove(&key);
                    self.pending.remove(&key);
                    round.outcome.deleted += 1;
                    room = true;
                }
                Err(error) => {
                    round.failed(self.map, error);
                    self.failed(key, true, round.now);
                }
            }
        }
        if room && !self.map.is_array() {
            // Whoever found the map full need not wait now.
            for (key, retry) in &mut self.pending {
                if table.get(*key).is_some() {
                    retry.due = None;
                }
            }
        }
    }

    fn update(&mut self, intent: &mut Intent, tables: &mut dyn Tables, round: &mut Round) {
        let table = (self.table)(intent);
        let mut full = false;
        for key in self.due_keys(round.now) {
            let Some(wanted) = table.get(key) else {
                continue;
            };
            let written = self.written.get(&key);
            if written == Some(wanted) && !self.is_unsure(key) {
                self.pending.remove(&key);
                continue;
            }
            if full && written.is_none() {
                // No room for any other new key either; not another system call for each.
                self.failed(key, false, round.now);
                continue;
            }
            if !round.spend() {
                break;
            }
            match tables.update((self.entry)(key, *wanted)) {
                Ok(()) => {
                    self.written.insert(key, *wanted);
                    self.pending.remove(&key);
                    round.outcome.updated += 1;
                }
                Err(error) => {
                    let no_room = matches!(error, TableError::Full);
                    full |= no_room;
                    round.failed(self.map, error);
                    self.failed(key, !no_room, round.now);
                }
            }
        }
        if self.pending.is_empty() {
            // Walking through a table costs as much as it was ever large.
            self.pending.shrink_to_fit();
        }
    }

    fn len(&self) -> usize {
        self.written.len()
    }

    fn pending_keys(&self) -> Vec<Key> {
        self.pending.keys().map(|key| (self.key)(*key)).collect()
    }

    fn pending(&self) -> usize {
        self.pending.len()
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        self.pending
            .values()
            .map(|retry| retry.due.unwrap_or(now))
            .min()
    }
}
