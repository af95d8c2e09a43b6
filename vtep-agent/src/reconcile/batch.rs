//! Operations on one map that are carried out together: a system call costs as much as several
//! entries.

/// So many are enough to share the call, also with another thread, and few enough for the buffers to stay
/// in the cache.
const BATCH: usize = 4096;

/// Operations of one kind that wait, each with what the map holds until then.
pub(super) struct Batch<K, V> {
    keys: Vec<K>,
    /// Empty when keys are deleted.
    entries: Vec<(K, V)>,
    before: Vec<Option<V>>,
    /// So many from the first on are done with.
    taken: usize,
}

impl<K: Copy, V: Copy> Batch<K, V> {
    /// Adds a key to delete. Whether it is time to carry the batch out.
    pub(super) fn delete(&mut self, key: K, before: Option<V>) -> bool {
        self.keys.push(key);
        self.before.push(before);
        self.before.len() >= BATCH
    }

    /// Adds an entry to write. Whether it is time to carry the batch out.
    pub(super) fn update(&mut self, key: K, value: V, before: Option<V>) -> bool {
        self.entries.push((key, value));
        self.before.push(before);
        self.before.len() >= BATCH
    }

    /// Keys that are still to be deleted.
    pub(super) fn keys(&self) -> Option<&[K]> {
        self.keys.get(self.taken..).filter(|keys| !keys.is_empty())
    }

    /// Entries that are still to be written.
    pub(super) fn entries(&self) -> Option<&[(K, V)]> {
        let entries = self.entries.get(self.taken..);
        entries.filter(|entries| !entries.is_empty())
    }

    /// The next ones are done with.
    pub(super) fn take(&mut self, count: usize) -> Vec<(K, Option<V>)> {
        let range = self.taken..self.before.len().min(self.taken.saturating_add(count));
        self.taken = range.end;
        range.filter_map(|index| self.operation(index)).collect()
    }

    /// All that are left and would be new to the map are done with.
    pub(super) fn take_new(&mut self) -> Vec<K> {
        let left = std::mem::take(self);
        let mut new = Vec::new();
        for (entry, before) in left.entries.into_iter().zip(left.before).skip(left.taken) {
            match before {
                None => new.push(entry.0),
                Some(_) => {
                    self.entries.push(entry);
                    self.before.push(before);
                }
            }
        }
        new
    }

    /// Nothing is left to be done.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.entries.clear();
        self.before.clear();
        self.taken = 0;
    }

    fn operation(&self, index: usize) -> Option<(K, Option<V>)> {
        let deleted = self.keys.get(index).copied();
        let key = deleted.or_else(|| self.entries.get(index).map(|(key, _)| *key))?;
        Some((key, *self.before.get(index)?))
    }
}

impl<K, V> Default for Batch<K, V> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            entries: Vec::new(),
            before: Vec::new(),
            taken: 0,
        }
    }
}
