//! From best routes to what bridge domains use of them.

use std::{collections::BTreeSet, net::Ipv4Addr, rc::Rc, sync::Arc, time::Instant};

use vtep_common::abi::BdId;

use super::{Core, nexthops::GroupKey};
use crate::{
    bgp::{
        rib::{Best, Change},
        wire::{Attributes, RouteKey},
    },
    config::BdConfig,
    evpn::{Imported, Remote, TargetIndex, import},
    types::ImportTarget,
};

impl Core {
    /// Sets what bridge domains import (`None`: nothing any more) and applies the difference to
    /// the routes that it concerns.
    pub(super) fn set_targets(
        &mut self,
        targets: Vec<(BdId, Option<Vec<ImportTarget>>)>,
        now: Instant,
    ) {
        let mut touched = BTreeSet::new();
        let mut before = TargetIndex::default();
        let mut changed = BTreeSet::new();
        for (bd, targets) in targets {
            touched.insert(bd);
            let old = self.targets.get(bd).to_vec();
            before.set(bd, &old);
            let new = targets.as_deref().unwrap_or_default();
            // Asked for before the old ones are not asked for any more.
            new.iter()
                .for_each(|target| self.memberships.import(*target));
            old.iter()
                .for_each(|target| self.memberships.release(*target));
            let (old, new) = (BTreeSet::from_iter(old), new.iter().copied().collect());
            changed.extend(old.symmetric_difference(&new));
            match targets {
                Some(targets) => self.targets.set(bd, &targets),
                None => self.targets.remove(bd),
            }
        }
        let index = &self.targets;
        let imported = |attributes: &Attributes| index.has_match(attributes);
        for (key, best) in self.adj_in.reimport(changed.iter(), imported) {
            let was = before.matching(&best.attributes);
            let is = self.targets.matching(&best.attributes);
            for bd in was.iter().filter(|bd| !is.contains(bd)) {
                self.apply(*bd, &key, Some(&best), None, now);
            }
            for bd in is
                .iter()
                .filter(|bd| touched.contains(bd) && !was.contains(bd))
            {
                self.apply(*bd, &key, None, Some(&best), now);
            }
        }
    }

    /// A bridge domain uses routes on other terms: those that it imports are judged anew.
    pub(super) fn change_terms(
        &mut self,
        bd: BdId,
        change: impl FnOnce(&mut BdConfig),
        now: Instant,
    ) {
        let targets = self.targets.get(bd).to_vec();
        let index = &self.targets;
        let imported = |attributes: &Attributes| index.has_match(attributes);
        let mut routes = self.adj_in.reimport(targets.iter(), imported);
        routes.retain(|(_, best)| self.targets.matching(&best.attributes).contains(&bd));
        for (key, best) in &routes {
            self.apply(bd, key, Some(best), None, now);
        }
        if let Some(bd) = self.bds.get_mut(&bd) {
            change(&mut bd.config);
        }
        for (key, best) in &routes {
            self.apply(bd, key, None, Some(best), now);
        }
    }

    /// A VTEP is needed in a bridge domain.
    pub(super) fn acquire(&mut self, bd: BdId, vtep: Ipv4Addr, now: Instant) {
        let check = self.config.vtep.source_check;
        let (intent, outputs) = (&mut self.intent, &mut self.outputs);
        self.nexthops.acquire(bd, vtep, check, intent, outputs, now);
    }

    /// A best path changed. `matching` is for all changes of one input.
    pub(super) fn change(&mut self, change: Change, matching: &mut Matching, now: Instant) {
        let (before, after) = (change.before.as_ref(), change.after.as_ref());
        let was = matching.of(before, &self.targets);
        let is = matching.of(after, &self.targets);
        for bd in is.iter() {
            let before = before.filter(|_| was.contains(bd));
            self.apply(*bd, &change.key, before, after, now);
        }
        for bd in was.iter().filter(|bd| !is.contains(bd)) {
            self.apply(*bd, &change.key, before, None, now);
        }
    }

    /// One route, in one bridge domain, becomes another one.
    fn apply(
        &mut self,
        bd: BdId,
        key: &RouteKey,
        before: Option<&Best>,
        after: Option<&Best>,
        now: Instant,
    ) {
        let Some(domain) = self.bds.get(&bd) else {
            return;
        };
        let before = before.and_then(|best| import(best, &domain.config).ok());
        let after = after.and_then(|best| match import(best, &domain.config) {
            Ok(imported) => Some(imported),
            Err(reason) => {
                tracing::debug!(bd = %domain.config.name, ?key, %reason, "route not used");
                None
            }
        });
        let confirmed = after.clone().filter(|_| !self.held.is_empty());
        self.exchange(bd, before, after, now);
        if let Some(route) = confirmed {
            self.confirm(bd, &route, now);
        }
    }

    /// As above, with what is imported.
    pub(super) fn exchange(
        &mut self,
        bd: BdId,
        before: Option<Imported>,
        after: Option<Imported>,
        now: Instant,
    ) {
        let Some(id) = self.bds.get(&bd).map(|domain| domain.id) else {
            return;
        };
        let mut unreachable = false;
        // Acquire first: what both need is never free in between.
        if let Some((next_hop, group)) = after.as_ref().map(|after| needs(bd, after)) {
            self.acquire(bd, next_hop, now);
            unreachable = self.nexthops.is_lost(next_hop);
            if let Some(group) = group {
                self.nexthops
                    .acquire_group(id, group, &mut self.intent, now);
            }
        }
        if let Some((next_hop, group)) = before.as_ref().map(|before| needs(bd, before)) {
            self.nexthops.release(
                bd,
                next_hop,
                self.config.vtep.source_check,
                &mut self.intent,
            );
            if let Some(group) = group {
                self.nexthops.release_group(group);
            }
        }
        let Some(domain) = self.bd_mut(bd) else {
            return;
        };
        // The same route may have had another kind of tunnel.
        match (&before, &after) {
            (Some(Imported::Receiver(key, _)), Some(Imported::Replicator(..))) => {
                domain.set_receiver(key.clone(), None);
            }
            (Some(Imported::Replicator(key, _)), Some(Imported::Receiver(..))) => {
                domain.set_replicator(key.clone(), None, now);
            }
            _ => {}
        }
        match (before, after) {
            (_, Some(Imported::Mac(mac, id, remote))) => {
                let remote = Remote {
                    unreachable,
                    ..remote
                };
                domain.set_remote(mac, id, Some(remote), now);
            }
            (Some(Imported::Mac(mac, id, _)), None) => domain.set_remote(mac, id, None, now),
            (_, Some(Imported::Receiver(key, receiver))) => {
                domain.set_receiver(key, Some(receiver));
            }
            (Some(Imported::Receiver(key, _)), None) => domain.set_receiver(key, None),
            (_, Some(Imported::Replicator(key, replicator))) => {
                domain.set_replicator(key, Some(replicator), now);
            }
            (Some(Imported::Replicator(key, _)), None) => domain.set_replicator(key, None, now),
            (None, None) => {}
        }
    }
}

/// The VTEP, and for a MAC the group, that a route needs.
fn needs(bd: BdId, imported: &Imported) -> (Ipv4Addr, Option<GroupKey>) {
    match imported {
        Imported::Mac(_, _, remote) => {
            let group = GroupKey {
                bd,
                vtep: remote.next_hop,
                vni: remote.vni,
            };
            (remote.next_hop, Some(group))
        }
        Imported::Receiver(_, receiver) => (receiver.next_hop, None),
        Imported::Replicator(_, replicator) => (replicator.next_hop, None),
    }
}

/// The bridge domains that import what was asked for last: routes that come or go together mostly have
/// one set of attributes.
#[derive(Default)]
pub(super) struct Matching(Option<(Arc<Attributes>, Rc<[BdId]>)>);

impl Matching {
    fn of(&mut self, best: Option<&Best>, targets: &TargetIndex) -> Rc<[BdId]> {
        let Some(best) = best else {
            return Rc::default();
        };
        match &self.0 {
            Some((last, bds)) if Arc::ptr_eq(last, &best.attributes) => Rc::clone(bds),
            _ => {
                let bds: Rc<[BdId]> = targets.matching(&best.attributes).into();
                self.0 = Some((Arc::clone(&best.attributes), Rc::clone(&bds)));
                bds
            }
        }
    }
}
