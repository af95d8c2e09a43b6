//! Flood lists in the datapath's one table of members.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use vtep_common::abi::{
    BdFlags, BdId, BdRef, FloodClasses, FloodMember, FloodSpan, MAX_FLOOD_MEMBERS,
};

use super::{index::QUARANTINE, replication::Copies};
use crate::intent::Intent;
use crate::types::hash::HashMap;

/// All flood lists. A list that changes is written to a free part of the table and the bridge domain
/// switched to it; only members that join at the end are added in place.
#[derive(Debug)]
pub(super) struct FloodLists {
    /// Free parts, offset to length, never adjacent to each other.
    free: BTreeMap<u32, u32>,
    lists: HashMap<BdRef, FloodList>,
    /// Parts that are out of use and may still be read.
    retired: VecDeque<(Instant, u32, u32)>,
    /// Bridge domains whose list found no room.
    homeless: BTreeSet<BdId>,
    /// A part went out of use since [`FloodLists::retry`].
    shrunk: bool,
}

#[derive(Debug)]
struct FloodList {
    offset: u32,
    capacity: u32,
    ports: usize,
    members: Vec<FloodMember>,
}

/// The table has no free part of the size needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the flood table ({MAX_FLOOD_MEMBERS} members) has no room for a list of {0}")]
pub(super) struct FloodFull(usize);

impl FloodLists {
    pub(super) fn new() -> Self {
        Self {
            free: BTreeMap::from([(0, MAX_FLOOD_MEMBERS)]),
            lists: HashMap::default(),
            retired: VecDeque::new(),
            homeless: BTreeSet::new(),
            shrunk: false,
        }
    }

    /// Goes on from what an earlier run left.
    pub(super) fn recover(&mut self, tables: &Intent, intent: &mut Intent) {
        for (index, entry) in tables.bds.iter() {
            let Some(id) = u16::try_from(index).ok().map(BdId) else {
                continue;
            };
            let bd = BdRef {
                bd: id,
                generation: entry.generation,
            };
            let span = FloodSpan::from_bits(entry.flood);
            let Some(list) = FloodList::read(bd, span, tables) else {
                continue;
            };
            if entry.flags.has(BdFlags::ACTIVE) && self.reserve(list.offset, list.capacity) {
                for (index, member) in (list.offset..).zip(&list.members) {
                    intent.flood.set(index, *member);
                }
                self.lists.insert(bd, list);
            }
        }
    }

    /// Where the list of `bd` lies.
    pub(super) fn span(&self, bd: BdRef) -> FloodSpan {
        self.lists.get(&bd).map(FloodList::span).unwrap_or_default()
    }

    /// Makes the list of `bd` these port slots and these VTEPs, and answers where it lies.
    /// The order of VTEPs stays as it was, new ones last.
    ///
    /// # Errors
    ///
    /// When there is no room; the old list stays until [`FloodLists::retry`] names it.
    pub(super) fn set(
        &mut self,
        bd: BdRef,
        ports: &[u32],
        vteps: &Copies,
        intent: &mut Intent,
        now: Instant,
    ) -> Result<FloodSpan, FloodFull> {
        let member = |target: u32, vni: u32, skip: FloodClasses| FloodMember {
            target,
            vni,
            bd,
            skip,
        };
        let key = bd;
        let old = self.lists.get(&key);
        let old_vteps = old.map_or(&[][..], |list| &list.members[list.ports..]);
        let mut missing = vteps.clone();
        let all = FloodClasses::default();
        let mut members: Vec<_> = ports.iter().map(|slot| member(*slot, 0, all)).collect();
        members.extend(old_vteps.iter().filter_map(|old| {
            let skip = missing.remove(&(old.target, old.vni))?;
            Some(FloodMember { skip, ..*old })
        }));
        let missing = missing.into_iter();
        members.extend(missing.map(|((index, vni), skip)| member(index, vni, skip)));

        if let Some(old) = self.lists.get_mut(&key)
            && old.ports == ports.len()
            && members.len() <= old.capacity as usize
            && members.starts_with(&old.members)
        {
            for (index, member) in (old.offset..).zip(&members).skip(old.members.len()) {
                intent.flood.set(index, *member);
            }
            old.members = members;
            return Ok(old.span());
        }
        let list = if members.is_empty() {
            None
        } else {
            let capacity = members.len().next_power_of_two();
            let capacity = u32::try_from(capacity).map_err(|_| FloodFull(members.len()))?;
            let Some(offset) = self.make_room(capacity, intent) else {
                self.homeless.insert(bd.bd);
                return Err(FloodFull(members.len()));
            };
            for (index, member) in (offset..).zip(&members) {
                intent.flood.set(index, *member);
            }
            Some(FloodList {
                offset,
                capacity,
                ports: ports.len(),
                members,
            })
        };
        self.remove(bd, now);
        let span = list.as_ref().map(FloodList::span).unwrap_or_default();
        if let Some(list) = list {
            self.lists.insert(key, list);
        }
        Ok(span)
    }

    /// Takes the list of `bd` out of use.
    pub(super) fn remove(&mut self, bd: BdRef, now: Instant) {
        self.homeless.remove(&bd.bd);
        if let Some(list) = self.lists.remove(&bd) {
            self.retired.push_back((now, list.offset, list.capacity));
            self.shrunk = true;
        }
    }

    /// Whether the list of a bridge domain is an old one, for lack of room.
    pub(super) fn is_homeless(&self, bd: BdId) -> bool {
        self.homeless.contains(&bd)
    }

    /// Bridge domains whose list may find room now.
    pub(super) fn retry(&mut self) -> Vec<BdId> {
        if std::mem::take(&mut self.shrunk) {
            self.homeless.iter().copied().collect()
        } else {
            Vec::new()
        }
    }

    /// Frees parts that nobody can be reading any more.
    pub(super) fn expire(&mut self, intent: &mut Intent, now: Instant) {
        while let Some((retired, offset, length)) = self.retired.front().copied()
            && retired + QUARANTINE <= now
        {
            self.retired.pop_front();
            self.free(offset, length, intent);
        }
    }

    /// When [`FloodLists::expire`] has something to do.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.retired
            .front()
            .map(|(retired, ..)| *retired + QUARANTINE)
    }

    /// A free part. When there is none, what was retired longest ago has to go before its time: a reader that
    /// still walks through it skips members of other bridge domains.
    fn make_room(&mut self, length: u32, intent: &mut Intent) -> Option<u32> {
        loop {
            let offset = self.allocate(length);
            if offset.is_some() {
                return offset;
            }
            let (_, offset, length) = self.retired.pop_front()?;
            self.free(offset, length, intent);
        }
    }

    fn free(&mut self, offset: u32, length: u32, intent: &mut Intent) {
        for index in offset..offset + length {
            intent.flood.remove(index);
        }
        self.release(offset, length);
    }

    fn allocate(&mut self, length: u32) -> Option<u32> {
        let (offset, free) = self
            .free
            .iter()
            .find(|(_, free)| **free >= length)
            .map(|(offset, free)| (*offset, *free))?;
        self.free.remove(&offset);
        if free > length {
            self.free.insert(offset + length, free - length);
        }
        Some(offset)
    }

    /// Takes this part, if it is free.
    fn reserve(&mut self, offset: u32, length: u32) -> bool {
        let Some((&start, &free)) = self.free.range(..=offset).next_back() else {
            return false;
        };
        let (end, wanted) = (start + free, offset.saturating_add(length));
        if wanted > end {
            return false;
        }
        self.free.remove(&start);
        for (from, to) in [(start, offset), (wanted, end)] {
            if from < to {
                self.free.insert(from, to - from);
            }
        }
        true
    }

    fn release(&mut self, mut offset: u32, mut length: u32) {
        if let Some((before, free)) = self.free.range(..offset).next_back()
            && before + free == offset
        {
            offset = *before;
            length += free;
        }
        if let Some(free) = self.free.remove(&(offset + length)) {
            length += free;
        }
        // A part that grew downwards replaces the one that it begins with.
        self.free.insert(offset, length);
    }
}

impl FloodList {
    /// As it is in the tables; `None` when there is none, or it is not that of `bd`.
    fn read(bd: BdRef, span: FloodSpan, tables: &Intent) -> Option<Self> {
        let count = u32::from(span.ports) + u32::from(span.vteps);
        let members: Option<Vec<_>> = (span.offset..span.offset.checked_add(count)?)
            .map(|index| tables.flood.get(index).copied().filter(|m| m.bd == bd))
            .collect();
        let members = members.filter(|members| !members.is_empty())?;
        Some(Self {
            offset: span.offset,
            // Lists grow up to the power of two that they began below.
            capacity: count.next_power_of_two(),
            ports: span.ports.into(),
            members,
        })
    }

    fn span(&self) -> FloodSpan {
        let vteps = self.members.len() - self.ports;
        FloodSpan {
            offset: self.offset,
            ports: u16::try_from(self.ports).unwrap_or(u16::MAX),
            vteps: u16::try_from(vteps).unwrap_or(u16::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BD: BdRef = BdRef {
        bd: BdId(1),
        generation: 1,
    };

    /// Each gets everything.
    fn copies(vteps: impl Iterator<Item = (u32, u32)>) -> Copies {
        vteps.map(|at| (at, FloodClasses::default())).collect()
    }

    fn read(intent: &Intent, span: FloodSpan) -> Vec<(u32, u32)> {
        (span.offset..span.offset + u32::from(span.ports) + u32::from(span.vteps))
            .map(|index| intent.flood.get(index).copied().unwrap())
            .map(|member| (member.target, member.vni))
            .collect()
    }

    #[test]
    fn a_list_in_use_is_never_overwritten() {
        let now = Instant::now();
        let mut intent = Intent::default();
        let mut lists = FloodLists::new();
        let vteps = copies((1..=3).map(|index| (index, 100)));
        let first = lists.set(BD, &[7], &vteps, &mut intent, now).unwrap();
        assert_eq!(read(&intent, first), [(7, 0), (1, 100), (2, 100), (3, 100)]);
        let second = lists
            .set(
                BD,
                &[7],
                &copies((2..=3).map(|index| (index, 100))),
                &mut intent,
                now,
            )
            .unwrap();
        assert_ne!(first.offset, second.offset);
        assert_eq!(read(&intent, first), [(7, 0), (1, 100), (2, 100), (3, 100)]);
        assert_eq!(read(&intent, second), [(7, 0), (2, 100), (3, 100)]);
        // One that joins fits behind the others.
        let third = lists.set(BD, &[7], &vteps, &mut intent, now).unwrap();
        assert_eq!(third.offset, second.offset);
        assert_eq!(read(&intent, third), [(7, 0), (2, 100), (3, 100), (1, 100)]);
        lists.expire(&mut intent, now + QUARANTINE);
        assert_eq!(intent.flood.len(), 4);
    }

    #[test]
    fn parts_are_joined_again() {
        let now = Instant::now();
        let mut intent = Intent::default();
        let mut lists = FloodLists::new();
        let vteps = copies((1..=1000).map(|index| (index, 100)));
        for generation in 1..=50 {
            let bd = BdRef {
                bd: BdId(1),
                generation,
            };
            lists
                .set(bd, &[generation.into()], &vteps, &mut intent, now)
                .unwrap();
        }
        for generation in [3, 1, 2].into_iter().chain(4..=50) {
            let bd = BdRef {
                bd: BdId(1),
                generation,
            };
            lists.remove(bd, now);
        }
        lists.expire(&mut intent, now + QUARANTINE);
        assert!(intent.flood.is_empty());
        assert_eq!(lists.free, BTreeMap::from([(0, MAX_FLOOD_MEMBERS)]));
    }

    /// A fabric that flaps: nothing rests long enough, and yet every list is written.
    #[test]
    fn rather_too_early_than_never() {
        let now = Instant::now();
        let mut intent = Intent::default();
        let mut lists = FloodLists::new();
        let vteps = copies((1..=60_000).map(|index| (index, 100)));
        for round in 0..20 {
            let span = lists.set(BD, &[round], &vteps, &mut intent, now).unwrap();
            assert_eq!(read(&intent, span).len(), 60_001);
        }
    }

    #[test]
    fn waits_for_room() {
        let now = Instant::now();
        let mut intent = Intent::default();
        let mut lists = FloodLists::new();
        let other = BdRef { bd: BdId(2), ..BD };
        let vteps = copies((0..MAX_FLOOD_MEMBERS - 8).map(|index| (index, 1)));
        lists.set(BD, &[], &vteps, &mut intent, now).unwrap();
        let members = [(1, 1), (2, 1)];
        let small = copies(members.into_iter());
        assert!(lists.set(other, &[], &small, &mut intent, now).is_err());
        assert!(lists.is_homeless(other.bd));
        assert!(lists.retry().is_empty(), "nothing has changed");
        lists.remove(BD, now);
        assert_eq!(lists.retry(), [other.bd]);
        let span = lists.set(other, &[], &small, &mut intent, now).unwrap();
        assert_eq!(read(&intent, span), members);
        assert!(!lists.is_homeless(other.bd));
        // The rest of the large list is cleared in its time.
        lists.expire(&mut intent, now + QUARANTINE);
        assert_eq!(intent.flood.len(), 2);
    }

    #[test]
    fn full() {
        let now = Instant::now();
        let mut intent = Intent::default();
        let mut lists = FloodLists::new();
        let vteps = copies((0..MAX_FLOOD_MEMBERS + 1).map(|index| (index, 1)));
        assert!(lists.set(BD, &[], &vteps, &mut intent, now).is_err());
    }
}
