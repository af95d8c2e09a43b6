//! The NLRIs of an adj-rib-in, each in one place and with a number by which the other tables know it.
//!
//! Places are in blocks, which neither move nor cost an allocation each. The key of an NLRI is not kept:
//! every one of its paths has it.

use std::{fmt, hash::BuildHasher as _};

use hashbrown::{HashTable, hash_table::Entry};

use super::paths::Paths;
use crate::{bgp::wire::RouteKey, types::hash::Seeded};

/// Places in a block.
const BLOCK: usize = 1024;

/// A number of an NLRI, for as long as it has paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RouteId(u32);

/// All NLRIs by number and by key.
#[derive(Default)]
pub(super) struct Routes {
    blocks: Vec<Vec<Paths>>,
    free: Vec<RouteId>,
    index: HashTable<Indexed>,
    hasher: Seeded,
}

/// The hash is kept, so that an index that grows need not look at every route.
#[derive(Clone, Copy)]
struct Indexed {
    hash: u32,
    id: RouteId,
}

impl Routes {
    /// The number of an NLRI with this key.
    pub(super) fn find(&self, key: &RouteKey) -> Option<RouteId> {
        let hash = self.hash(key);
        let found = self
            .index
            .find(spread(hash), |indexed| self.is(*indexed, hash, key));
        found.map(|indexed| indexed.id)
    }

    /// The number of the NLRI with this key, which is new if it has no paths yet: the caller gives it one.
    pub(super) fn find_or_add(&mut self, key: &RouteKey) -> RouteId {
        let hash = self.hash(key);
        let blocks = &self.blocks;
        let is = |indexed: &Indexed| indexed.hash == hash && has_key(blocks, indexed.id, key);
        match self
            .index
            .entry(spread(hash), is, |indexed| spread(indexed.hash))
        {
            Entry::Occupied(entry) => entry.get().id,
            Entry::Vacant(entry) => {
                let id = self.free.pop().unwrap_or_else(|| extend(&mut self.blocks));
                entry.insert(Indexed { hash, id });
                id
            }
        }
    }

    /// The paths of an NLRI.
    pub(super) fn get(&self, id: RouteId) -> Option<&Paths> {
        place(&self.blocks, id)
    }

    /// The paths of an NLRI, of which one stays; otherwise [`Routes::remove`] is next.
    pub(super) fn get_mut(&mut self, id: RouteId) -> Option<&mut Paths> {
        let (block, place) = id.split();
        self.blocks.get_mut(block)?.get_mut(place)
    }

    /// Forgets an NLRI, which had this key.
    pub(super) fn remove(&mut self, id: RouteId, key: &RouteKey) {
        let hash = self.hash(key);
        if let Ok(entry) = self
            .index
            .find_entry(spread(hash), |indexed| indexed.id == id)
        {
            entry.remove();
            if let Some(paths) = self.get_mut(id) {
                *paths = Paths::default();
            }
            self.free.push(id);
        }
        if self.index.is_empty() {
            *self = Self {
                hasher: self.hasher.clone(),
                ..Self::default()
            };
        }
    }

    /// All of them, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RouteKey, &Paths)> {
        let all = self.blocks.iter().flatten();
        all.filter_map(|paths| Some((paths.key()?, paths)))
    }

    /// As [`Routes::iter`], without the keys.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Paths> {
        self.blocks.iter_mut().flatten()
    }

    fn hash(&self, key: &RouteKey) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn is(&self, indexed: Indexed, hash: u32, key: &RouteKey) -> bool {
        indexed.hash == hash && has_key(&self.blocks, indexed.id, key)
    }
}

impl RouteId {
    /// No number is lower.
    pub(super) const FIRST: Self = Self(0);

    /// Block, and place within it.
    fn split(self) -> (usize, usize) {
        let number = self.0 as usize;
        (number / BLOCK, number % BLOCK)
    }
}

fn place(blocks: &[Vec<Paths>], id: RouteId) -> Option<&Paths> {
    let (block, place) = id.split();
    blocks.get(block)?.get(place)
}

fn has_key(blocks: &[Vec<Paths>], id: RouteId, key: &RouteKey) -> bool {
    place(blocks, id).is_some_and(|paths| paths.has_key(key))
}

/// A place at the end.
fn extend(blocks: &mut Vec<Vec<Paths>>) -> RouteId {
    if blocks.last().is_none_or(|block| block.len() == BLOCK) {
        blocks.push(Vec::with_capacity(BLOCK));
    }
    let before = blocks.len().saturating_sub(1) * BLOCK;
    let last = blocks.last_mut().map_or(0, |block| {
        block.push(Paths::default());
        block.len() - 1
    });
    // More than 2^32 of them do not fit into any memory.
    RouteId((before + last) as u32)
}

/// The table looks at the upper bits and at the lower ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
