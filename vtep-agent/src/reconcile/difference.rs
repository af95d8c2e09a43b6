//! One table: what is wanted, what was written, and what is still to be done.

use std::{
    collections::hash_map::Entry as MapEntry,
    hash::Hash,
    time::{Duration, Instant},
};

use super::{
    Entries, Entry, Key, Keys, Map, RETRY_MAX, RETRY_MIN, ROUND_MAX, Round, Step, TableError,
    Tables, batch::Batch,
};
use crate::{
    intent::{Dirty, Intent, Table},
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
    /// Writes what is wanted, as far as this step of the round has to.
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

/// How keys and values of one map are told to [`Tables`].
pub(super) struct Typed<K, V> {
    pub(super) entries: fn(&[(K, V)]) -> Entries<'_>,
    pub(super) keys: fn(&[K]) -> Keys<'_>,
    pub(super) key: fn(K) -> Key,
    pub(super) split: fn(Entry) -> Option<(K, V)>,
    /// By what the map holds, what is written of a value before [`Step::Restrict`]; nothing when the two
    /// have nothing to do with each other. `None` when values restrict nothing.
    pub(super) ease: Option<Ease<V>>,
}

type Ease<V> = fn(held: &V, wanted: &V) -> Option<V>;

/// The difference between one table of the intent and its map.
pub(super) struct Difference<K, V> {
    map: Map,
    typed: Typed<K, V>,
    table: fn(&mut Intent) -> &mut Table<K, V>,
    /// What the map holds; of an operation that waits in a batch, what it will hold.
    written: HashMap<K, V>,
    /// Those of its keys that an audit has come across, while there is one, or that were written
    /// since it began: it may have passed their place by then. Arrays lack nothing, so need none.
    seen: Option<HashSet<K>>,
    /// Keys that were touched and not tried since. Nearly all succeed at once, so they are only
    /// listed, some twice.
    fresh: Dirty<K>,
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
    /// It is as wanted, waits in the batch, failed, or is nothing that this step does.
    Settled,
    /// A later step of the round has to try it, too.
    Again,
    /// The round has no time for it.
    TooLate,
}

impl<K, V> Difference<K, V> {
    pub(super) fn new(
        map: Map,
        typed: Typed<K, V>,
        table: fn(&mut Intent) -> &mut Table<K, V>,
    ) -> Self {
        Self {
            map,
            typed,
            table,
            written: HashMap::default(),
            seen: None,
            fresh: Dirty::default(),
            failed: HashMap::default(),
        }
    }
}

impl<K, V> Difference<K, V>
where
    K: Copy + Eq + Hash,
    V: Copy + PartialEq,
{
    /// Tries every key that is due, fresh ones first, and leaves those for which there is no time.
    fn each_due(
        &mut self,
        fresh: &mut Vec<K>,
        now: Instant,
        mut attempt: impl FnMut(&mut Self, K) -> Tried,
    ) {
        let due = |retry: &Retry| retry.due.is_none_or(|due| due <= now);
        let retries = self.failed.iter().filter(|(_, retry)| due(retry));
        let retries: Vec<_> = retries.map(|(key, _)| *key).collect();
        let mut late = false;
        fresh.retain(|key| {
            if late || self.has_failed(*key) {
                return late;
            }
            let tried = attempt(self, *key);
            late = tried == Tried::TooLate;
            tried != Tried::Settled
        });
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
        batch: &mut Batch<K, V>,
        table: &Table<K, V>,
        tables: &mut dyn Tables,
        round: &mut Round,
    ) -> Tried {
        if table.get(key).is_some() {
            return Tried::Settled;
        }
        let unsure = self.is_unsure(key);
        let before = match self.written.entry(key) {
            MapEntry::Vacant(_) if !unsure => {
                self.failed.remove(&key);
                return Tried::Settled;
            }
            _ if !round.spend() => return Tried::TooLate,
            MapEntry::Vacant(_) => None,
            MapEntry::Occupied(entry) => Some(entry.remove()),
        };
        if batch.delete(key, before) {
            self.flush_deletes(batch, tables, round);
        }
        Tried::Settled
    }

    fn flush_deletes(
        &mut self,
        batch: &mut Batch<K, V>,
        tables: &mut dyn Tables,
        round: &mut Round,
    ) {
        while let Some(keys) = batch.keys() {
            let progress = tables.delete_all((self.typed.keys)(keys));
            round.outcome.deleted += progress.done as u64;
            for (key, _) in batch.take(progress.done) {
                self.succeed(key);
                if let Some(seen) = &mut self.seen {
                    seen.remove(&key);
                }
            }
            let Some(error) = progress.refused else {
                batch.clear();
                return;
            };
            round.failed(self.map, error);
            for (key, before) in batch.take(1) {
                self.restore(key, before);
                self.fail(key, true, round.now);
            }
        }
        batch.clear();
    }

    /// `full`: the map refused a new key in this round.
    fn try_update(
        &mut self,
        key: K,
        batch: &mut Batch<K, V>,
        full: &mut bool,
        table: &Table<K, V>,
        tables: &mut dyn Tables,
        round: &mut Round,
    ) -> Tried {
        let Some(wanted) = table.get(key) else {
            return Tried::Settled;
        };
        let unsure = self.is_unsure(key);
        let value = match self.typed.ease {
            // What was refused is tried once in a round.
            Some(ease) if !self.has_failed(key) => self.eased(key, round.step, wanted, ease),
            _ if round.step != Step::Write => return Tried::Settled,
            _ => Some(*wanted),
        };
        let Some(value) = value else {
            return Tried::Again;
        };
        let after = match value == *wanted {
            true => Tried::Settled,
            false => Tried::Again,
        };
        let before = match self.written.entry(key) {
            MapEntry::Occupied(entry) if *entry.get() == value && !unsure => {
                self.succeed(key);
                return after;
            }
            MapEntry::Vacant(_) if *full => {
                // No room for any other new key either; not another system call for each.
                self.fail(key, false, round.now);
                return Tried::Settled;
            }
            _ if !round.spend() => return Tried::TooLate,
            MapEntry::Occupied(mut entry) => Some(entry.insert(value)),
            MapEntry::Vacant(entry) => {
                entry.insert(value);
                None
            }
        };
        if batch.update(key, value, before) {
            self.flush_updates(batch, full, tables, round);
        }
        after
    }

    /// What a step writes of a value that may restrict; `None` before its time.
    fn eased(&self, key: K, step: Step, wanted: &V, ease: Ease<V>) -> Option<V> {
        let held = self.written.get(&key);
        let eased = held.and_then(|held| ease(held, wanted));
        match step {
            Step::Ease => eased,
            Step::Write => Some(eased.unwrap_or(*wanted)),
            Step::Restrict => Some(*wanted),
        }
    }

    fn flush_updates(
        &mut self,
        batch: &mut Batch<K, V>,
        full: &mut bool,
        tables: &mut dyn Tables,
        round: &mut Round,
    ) {
        while let Some(entries) = batch.entries() {
            let progress = tables.update_all((self.typed.entries)(entries));
            round.outcome.updated += progress.done as u64;
            for (key, _) in batch.take(progress.done) {
                self.succeed(key);
                if let Some(seen) = &mut self.seen {
                    seen.insert(key);
                }
            }
            let Some(error) = progress.refused else {
                batch.clear();
                return;
            };
            let no_room = matches!(error, TableError::Full);
            *full |= no_room;
            round.failed(self.map, error);
            for (key, before) in batch.take(1) {
                self.restore(key, before);
                self.fail(key, !no_room, round.now);
            }
            if no_room {
                for key in batch.take_new() {
                    self.restore(key, None);
                    self.fail(key, true, round.now);
                }
            }
        }
        batch.clear();
    }

    /// The map holds what it is to hold.
    fn succeed(&mut self, key: K) {
        if !self.failed.is_empty() {
            self.failed.remove(&key);
        }
    }

    /// What waited in a batch was not done.
    fn restore(&mut self, key: K, before: Option<V>) {
        match before {
            Some(before) => drop(self.written.insert(key, before)),
            None => drop(self.written.remove(&key)),
        }
    }

    fn has_failed(&self, key: K) -> bool {
        !self.failed.is_empty() && self.failed.contains_key(&key)
    }

    fn is_unsure(&self, key: K) -> bool {
        !self.failed.is_empty() && self.failed.get(&key).is_some_and(|retry| retry.unsure)
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
        // What is wanted otherwise was touched.
        self.fresh.removed = table.iter().map(|(key, _)| key).collect();
        self.failed.clear();
    }

    fn collect(&mut self, intent: &mut Intent) {
        let table = (self.table)(intent);
        if self.failed.is_empty() {
            return table.take_dirty(&mut self.fresh);
        }
        let mut dirty = Dirty::default();
        table.take_dirty(&mut dirty);
        // A new wish is tried at once; how often the key failed is remembered.
        let failed = &mut self.failed;
        let mut is_fresh = |key: &K| match failed.get_mut(key) {
            Some(retry) => {
                retry.due = None;
                false
            }
            None => true,
        };
        dirty.set.retain(&mut is_fresh);
        dirty.removed.retain(&mut is_fresh);
        self.fresh.set.append(&mut dirty.set);
        self.fresh.removed.append(&mut dirty.removed);
    }

    fn delete(&mut self, intent: &mut Intent, tables: &mut dyn Tables, round: &mut Round) {
        let table = (self.table)(intent);
        let before = round.outcome.deleted;
        let mut fresh = std::mem::take(&mut self.fresh.removed);
        let mut batch = Batch::default();
        self.each_due(&mut fresh, round.now, |stage, key| {
            stage.try_delete(key, &mut batch, table, tables, round)
        });
        self.flush_deletes(&mut batch, tables, round);
        self.fresh.removed = fresh;
        if self.fresh.removed.is_empty() {
            self.fresh.removed.shrink_to(ROUND_MAX);
        }
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
        if round.step != Step::Write && self.typed.ease.is_none() {
            return;
        }
        let table = (self.table)(intent);
        let mut full = false;
        let mut fresh = std::mem::take(&mut self.fresh.set);
        let mut batch = Batch::default();
        self.each_due(&mut fresh, round.now, |stage, key| {
            stage.try_update(key, &mut batch, &mut full, table, tables, round)
        });
        self.flush_updates(&mut batch, &mut full, tables, round);
        self.fresh.set = fresh;
        if self.failed.is_empty() {
            // Walking through a table costs as much as it was ever large.
            self.failed.shrink_to_fit();
        }
        if self.fresh.set.is_empty() {
            self.fresh.set.shrink_to(ROUND_MAX);
        }
    }

    fn len(&self) -> usize {
        self.written.len()
    }

    fn pending_keys(&self) -> Vec<Key> {
        let fresh = self.fresh.set.iter().chain(&self.fresh.removed);
        let keys = fresh.chain(self.failed.keys());
        keys.map(|key| (self.typed.key)(*key)).collect()
    }

    fn pending(&self) -> usize {
        self.fresh.set.len() + self.fresh.removed.len() + self.failed.len()
    }

    fn audit_begin(&mut self) {
        self.seen = (!self.map.is_array()).then(HashSet::default);
    }

    fn audit(&mut self, found: Entry) -> bool {
        let Some((key, value)) = (self.typed.split)(found) else {
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
        let is_fresh = !self.fresh.set.is_empty() || !self.fresh.removed.is_empty();
        retries.chain(is_fresh.then_some(now)).min()
    }
}
