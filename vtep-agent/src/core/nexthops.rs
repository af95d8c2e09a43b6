//! Remote VTEPs: who uses them, their place in the tables, and the paths to them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use vtep_common::abi::{
    Adjacency, BdId, BdRef, Encapsulation, MAX_GROUPS, MAX_VTEPS, NhGroup, NhMember, SourceKey,
    VtepAddr, VtepEntry,
};

use super::{Output, index::Indexes};
use crate::{config::SourceCheck, intent::Intent};

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
    /// Imported routes by bridge domain.
    routes: BTreeMap<BdId, usize>,
}

#[derive(Debug)]
struct Group {
    /// `None` when `groups` or `vteps` is full.
    index: Option<u32>,
    routes: usize,
}

impl Nexthops {
    pub(super) fn new() -> Self {
        Self {
            vteps: BTreeMap::new(),
            groups: HashMap::new(),
            vtep_indexes: Indexes::below(MAX_VTEPS),
            group_indexes: Indexes::below(MAX_GROUPS),
            unused_vteps: BTreeSet::new(),
            unused_groups: BTreeSet::new(),
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
        let indexes = &mut self.vtep_indexes;
        let vtep = self.vteps.entry(address).or_insert_with(|| {
            let index = indexes.take(now);
            if index.is_none() {
                tracing::error!(%address, limit = MAX_VTEPS, "no room for another VTEP");
            }
            outputs.push(Output::Track(IpAddr::V4(address)));
            Vtep {
                index,
                paths: Vec::new(),
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
        let vtep = self.vteps.get(&key.vtep).and_then(|vtep| vtep.index);
        let index = vtep.and_then(|vtep| {
            let index = self.group_indexes.take(now)?;
            let mut members = [NhMember::default(); NhGroup::WIDTH];
            members[0] = NhMember {
                vtep,
                vni: key.vni,
                encapsulation: Encapsulation::Vxlan as u8,
                reserved: [0; 3],
            };
            let group = NhGroup {
                bd,
                count: 1,
                reserved: 0,
                members,
            };
            intent.groups.set(index, group);
            Some(index)
        });
        if index.is_none() {
            tracing::error!(vtep = %key.vtep, limit = MAX_GROUPS, "no room for another next-hop group");
        }
        self.groups.insert(key, Group { index, routes: 1 });
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
        let was_reachable = vtep.is_reachable();
        vtep.paths = paths;
        vtep.publish(address, intent);
        if vtep.is_reachable() == was_reachable {
            return Vec::new();
        }
        if was_reachable {
            tracing::warn!(%address, "VTEP is unreachable");
        } else {
            tracing::info!(%address, "VTEP is reachable");
        }
        vtep.routes.keys().copied().collect()
    }

    /// Frees what nobody needs any more.
    pub(super) fn collect(&mut self, intent: &mut Intent, outputs: &mut Vec<Output>, now: Instant) {
        for key in std::mem::take(&mut self.unused_groups) {
            if self.groups.get(&key).is_some_and(|group| group.routes == 0)
                && let Some(group) = self.groups.remove(&key)
                && let Some(index) = group.index
            {
                intent.groups.remove(index);
                self.group_indexes.give(index, now);
            }
        }
        for address in std::mem::take(&mut self.unused_vteps) {
            let unused = |vtep: &Vtep| vtep.routes.is_empty();
            if !self.vteps.get(&address).is_some_and(unused) {
                continue;
            }
            outputs.push(Output::Untrack(IpAddr::V4(address)));
            intent.sources.remove(SourceKey::new(BdId(0), address));
            if let Some(index) = self.vteps.remove(&address).and_then(|vtep| vtep.index) {
                intent.vteps.remove(index);
                self.vtep_indexes.give(index, now);
            }
        }
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
