//! Remote VTEPs: who uses them, their place in the tables, and the paths to them.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use vtep_common::abi::{
    Adjacency, BdId, BdRef, Encapsulation, MAX_GROUPS, MAX_VTEPS, NhGroup, NhMember, SourceKey,
    VtepAddr, VtepEntry,
};

use super::{Output, held::v4, index::Indexes};
use crate::{config::SourceCheck, intent::Intent, types::hash::HashMap};

/// VTEPs by address and next-hop groups by what they reach, each with a count of the imported routes
/// that need it. What nobody needs is kept until [`Nexthops::collect`], so that replacing the last
/// route to a VTEP disturbs nothing.
#[derive(Debug)]
pub(super) struct Nexthops {
    vteps: BTreeMap<Ipv4Addr, Vtep>,
    groups: HashMap<GroupKey, Group>,
    vtep_indexes: Indexes,
    group_indexes: Indexes,
    unused_vteps: BTreeSet<Ipv4Addr>,
    unused_groups: BTreeSet<GroupKey>,
    /// Those that found their table full.
    homeless_vteps: BTreeSet<Ipv4Addr>,
    homeless_groups: BTreeSet<GroupKey>,
    left: Left,
}

/// What an earlier run left and nobody has asked for yet.
#[derive(Debug, Default)]
struct Left {
    vteps: HashMap<Ipv4Addr, (u32, Vec<Adjacency>)>,
    groups: HashMap<(BdRef, GroupKey), u32>,
}

/// A next-hop group: one VTEP, as seen from one bridge domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupKey {
    pub(super) bd: BdId,
    pub(super) vtep: Ipv4Addr,
    pub(super) vni: u32,
}

#[derive(Debug)]
pub(super) struct Vtep {
    /// `None` when `vteps` is full.
    index: Option<u32>,
    paths: Vec<Adjacency>,
    /// The underlay was asked, and has no path.
    lost: bool,
    /// Imported routes by bridge domain.
    routes: BTreeMap<BdId, usize>,
}

#[derive(Debug)]
struct Group {
    bd: BdRef,
    /// `None` when `groups` or `vteps` is full.
    index: Option<u32>,
    routes: usize,
}

impl Nexthops {
    pub(super) fn new() -> Self {
        Self {
            vteps: BTreeMap::new(),
            groups: HashMap::default(),
            vtep_indexes: Indexes::below(MAX_VTEPS),
            group_indexes: Indexes::below(MAX_GROUPS),
            unused_vteps: BTreeSet::new(),
            unused_groups: BTreeSet::new(),
            homeless_vteps: BTreeSet::new(),
            homeless_groups: BTreeSet::new(),
            left: Left::default(),
        }
    }

    /// Goes on from what an earlier run left: who was there gets the place, and the paths, that it had.
    pub(super) fn recover(&mut self, tables: &Intent, now: Instant) {
        self.vtep_indexes
            .recover(tables.vteps.iter().map(|(index, _)| index), now);
        self.group_indexes
            .recover(tables.groups.iter().map(|(index, _)| index), now);
        for (index, entry) in tables.vteps.iter() {
            let paths = usize::try_from(entry.count).unwrap_or(usize::MAX);
            let paths = entry.paths.iter().take(paths).copied().collect();
            let place = (index, paths);
            match v4(entry.address).map(|address| self.left.vteps.insert(address, place)) {
                Some(None) => {}
                Some(Some((twice, _))) => self.vtep_indexes.give(twice, now),
                None => self.vtep_indexes.give(index, now),
            }
        }
        for (index, group) in tables.groups.iter() {
            let key = group.members.first().filter(|_| group.count == 1);
            let key = key.and_then(|member| {
                Some(GroupKey {
                    bd: group.bd.bd,
                    vtep: v4(tables.vteps.get(member.vtep)?.address)?,
                    vni: member.vni,
                })
            });
            match key.map(|key| self.left.groups.insert((group.bd, key), index)) {
                Some(None) => {}
                Some(Some(twice)) => self.group_indexes.give(twice, now),
                None => self.group_indexes.give(index, now),
            }
        }
    }

    /// What nobody has asked for is free.
    pub(super) fn finish_recovery(&mut self, now: Instant) {
        let left = std::mem::take(&mut self.left);
        for (index, _) in left.vteps.into_values() {
            self.vtep_indexes.give(index, now);
        }
        for index in left.groups.into_values() {
            self.group_indexes.give(index, now);
        }
    }

    /// A bridge domain imported a route with this next hop.
    pub(super) fn acquire(
        &mut self,
        bd: BdId,
        address: Ipv4Addr,
        check: SourceCheck,
        intent: &mut Intent,
        outputs: &mut Vec<Output>,
        now: Instant,
    ) {
        let (indexes, homeless) = (&mut self.vtep_indexes, &mut self.homeless_vteps);
        let left = &mut self.left.vteps;
        let vtep = self.vteps.entry(address).or_insert_with(|| {
            let (index, paths) = match left.remove(&address) {
                Some((index, paths)) => (Some(index), paths),
                None => (indexes.take(now), Vec::new()),
            };
            if index.is_none() {
                if homeless.is_empty() {
                    tracing::error!(%address, limit = MAX_VTEPS, "no room for another VTEP");
                }
                homeless.insert(address);
            }
            outputs.push(Output::Track(IpAddr::V4(address)));
            Vtep {
                index,
                paths,
                lost: false,
                routes: BTreeMap::new(),
            }
        });
        let routes = vtep.routes.entry(bd).or_default();
        *routes += 1;
        if *routes == 1 {
            vtep.publish(address, intent);
            allow(address, vtep, check, intent);
        }
    }

    /// The route is gone.
    pub(super) fn release(
        &mut self,
        bd: BdId,
        address: Ipv4Addr,
        check: SourceCheck,
        intent: &mut Intent,
    ) {
        let Some(vtep) = self.vteps.get_mut(&address) else {
            return;
        };
        if let Some(routes) = vtep.routes.get_mut(&bd) {
            *routes -= 1;
            if *routes == 0 {
                vtep.routes.remove(&bd);
                if check == SourceCheck::Strict {
                    intent.sources.remove(SourceKey::new(bd, address));
                }
            }
        }
        if vtep.routes.is_empty() {
            self.unused_vteps.insert(address);
        }
    }

    /// A MAC route needs a group. The VTEP is acquired already.
    pub(super) fn acquire_group(
        &mut self,
        bd: BdRef,
        key: GroupKey,
        intent: &mut Intent,
        now: Instant,
    ) {
        if let Some(group) = self.groups.get_mut(&key) {
            group.routes += 1;
            return;
        }
        let group = Group {
            bd,
            index: None,
            routes: 1,
        };
        self.groups.insert(key, group);
        if !self.settle_group(key, intent, now) {
            if self.homeless_groups.is_empty() {
                tracing::error!(
                    vtep = %key.vtep, limit = MAX_GROUPS, "no room for another next-hop group"
                );
            }
            self.homeless_groups.insert(key);
        }
    }

    /// The MAC route is gone.
    pub(super) fn release_group(&mut self, key: GroupKey) {
        if let Some(group) = self.groups.get_mut(&key) {
            group.routes -= 1;
            if group.routes == 0 {
                self.unused_groups.insert(key);
            }
        }
    }

    /// The underlay's paths to a VTEP changed. Answers which bridge domains have to look at their
    /// flood lists: those that use it, if it became reachable or unreachable.
    pub(super) fn set_paths(
        &mut self,
        address: Ipv4Addr,
        paths: Vec<Adjacency>,
        intent: &mut Intent,
    ) -> Vec<BdId> {
        let Some(vtep) = self.vteps.get_mut(&address) else {
            return Vec::new();
        };
        let (was_reachable, was_lost) = (vtep.is_reachable(), vtep.lost);
        vtep.lost = paths.is_empty();
        vtep.paths = paths;
        vtep.publish(address, intent);
        if (vtep.is_reachable(), vtep.lost) == (was_reachable, was_lost) {
            return Vec::new();
        }
        if vtep.lost {
            tracing::warn!(%address, "VTEP is unreachable");
        } else {
            tracing::info!(%address, "VTEP is reachable");
        }
        vtep.routes.keys().copied().collect()
    }

    /// Frees what nobody needs any more. Answers the VTEPs among it.
    pub(super) fn collect(&mut self, intent: &mut Intent, now: Instant) -> Vec<Ipv4Addr> {
        for key in std::mem::take(&mut self.unused_groups) {
            if self.groups.get(&key).is_some_and(|group| group.routes == 0)
                && let Some(group) = self.groups.remove(&key)
            {
                self.homeless_groups.remove(&key);
                if let Some(index) = group.index {
                    intent.groups.remove(index);
                    self.group_indexes.give(index, now);
                }
            }
        }
        let mut freed = Vec::new();
        for address in std::mem::take(&mut self.unused_vteps) {
            let unused = |vtep: &Vtep| vtep.routes.is_empty();
            if !self.vteps.get(&address).is_some_and(unused) {
                continue;
            }
            freed.push(address);
            intent.sources.remove(SourceKey::new(BdId(0), address));
            self.homeless_vteps.remove(&address);
            if let Some(index) = self.vteps.remove(&address).and_then(|vtep| vtep.index) {
                intent.vteps.remove(index);
                self.vtep_indexes.give(index, now);
            }
        }
        freed
    }

    /// Finds places for those that had none, now that others left. Answers which VTEPs are now to be
    /// seen in which bridge domains.
    pub(super) fn refill(&mut self, intent: &mut Intent, now: Instant) -> Vec<(BdId, Ipv4Addr)> {
        let mut settled = Vec::new();
        while let Some(address) = self.homeless_vteps.pop_first() {
            let Some(vtep) = self.vteps.get_mut(&address) else {
                continue;
            };
            vtep.index = self.vtep_indexes.take(now);
            if vtep.index.is_none() {
                self.homeless_vteps.insert(address);
                break;
            }
            vtep.publish(address, intent);
            settled.extend(vtep.bds().map(|bd| (bd, address)));
        }
        let has_place = |key: &GroupKey| {
            let vtep = self.vteps.get(&key.vtep);
            vtep.is_some_and(|vtep| vtep.index.is_some())
        };
        let candidates: Vec<_> = self
            .homeless_groups
            .iter()
            .filter(|key| has_place(key))
            .copied()
            .collect();
        for key in candidates {
            if !self.settle_group(key, intent, now) {
                break;
            }
            self.homeless_groups.remove(&key);
            settled.push((key.bd, key.vtep));
        }
        settled
    }

    /// Gives a group its place, if it is still wanted and there is one.
    fn settle_group(&mut self, key: GroupKey, intent: &mut Intent, now: Instant) -> bool {
        let Some(vtep) = self.vteps.get(&key.vtep).and_then(|vtep| vtep.index) else {
            return false;
        };
        let Some(group) = self.groups.get_mut(&key) else {
            return false;
        };
        let left = self.left.groups.remove(&(group.bd, key));
        group.index = left.or_else(|| self.group_indexes.take(now));
        let Some(index) = group.index else {
            return false;
        };
        let mut members = [NhMember::default(); NhGroup::WIDTH];
        members[0] = NhMember {
            vtep,
            vni: key.vni,
            encapsulation: Encapsulation::Vxlan as u8,
            reserved: [0; 3],
        };
        let entry = NhGroup {
            bd: group.bd,
            count: 1,
            reserved: 0,
            members,
        };
        intent.groups.set(index, entry);
        true
    }

    /// Rewrites `sources` for another policy.
    pub(super) fn set_source_check(&self, check: SourceCheck, intent: &mut Intent) {
        let keys: Vec<_> = intent.sources.iter().map(|(key, _)| key).collect();
        for key in keys {
            intent.sources.remove(key);
        }
        for (address, vtep) in &self.vteps {
            allow(*address, vtep, check, intent);
        }
    }

    /// Index of a group in `groups`.
    pub(super) fn group(&self, key: &GroupKey) -> Option<u32> {
        self.groups.get(key)?.index
    }

    /// Whether a route of some bridge domain needs a VTEP.
    pub(super) fn uses(&self, address: Ipv4Addr) -> bool {
        self.vteps.contains_key(&address)
    }

    /// Whether the underlay was asked for a path to a VTEP, and has none.
    pub(super) fn is_lost(&self, address: Ipv4Addr) -> bool {
        self.vteps.get(&address).is_some_and(|vtep| vtep.lost)
    }

    /// Index of a VTEP in `vteps`, if there is a path to it.
    pub(super) fn reachable(&self, address: Ipv4Addr) -> Option<u32> {
        let vtep = self.vteps.get(&address)?;
        vtep.index.filter(|_| vtep.is_reachable())
    }

    /// VLAN with which we send on a device: the underlay's there.
    pub(super) fn underlay_vlan(&self, ifindex: u32) -> Option<u16> {
        self.vteps
            .values()
            .flat_map(|vtep| &vtep.paths)
            .find(|path| path.ifindex == ifindex && path.vlan != 0)
            .map(|path| path.vlan)
    }

    /// Number of VTEPs that each bridge domain uses.
    pub(super) fn count_by_bd(&self) -> HashMap<BdId, u64> {
        let mut counts = HashMap::default();
        for bd in self.vteps.values().flat_map(Vtep::bds) {
            *counts.entry(bd).or_default() += 1;
        }
        counts
    }

    /// All VTEPs in use, by address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Vtep)> {
        self.vteps.iter().map(|(address, vtep)| (*address, vtep))
    }
}

impl Vtep {
    /// There is an underlay path.
    pub(super) fn is_reachable(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Bridge domains that use it.
    pub(super) fn bds(&self) -> impl Iterator<Item = BdId> {
        self.routes.keys().copied()
    }

    /// Whether a bridge domain uses it.
    pub(super) fn serves(&self, bd: BdId) -> bool {
        self.routes.contains_key(&bd)
    }

    fn publish(&self, address: Ipv4Addr, intent: &mut Intent) {
        let Some(index) = self.index else {
            return;
        };
        let mut entry = VtepEntry {
            address: VtepAddr::v4(address),
            ..VtepEntry::default()
        };
        for (slot, path) in entry.paths.iter_mut().zip(&self.paths) {
            *slot = *path;
            entry.count += 1;
        }
        intent.vteps.set(index, entry);
    }
}

fn allow(address: Ipv4Addr, vtep: &Vtep, check: SourceCheck, intent: &mut Intent) {
    match check {
        SourceCheck::Off => {}
        SourceCheck::Loose => intent.sources.set(SourceKey::new(BdId(0), address), 1),
        SourceCheck::Strict => {
            for bd in vtep.bds() {
                intent.sources.set(SourceKey::new(bd, address), 1);
            }
        }
    }
}
