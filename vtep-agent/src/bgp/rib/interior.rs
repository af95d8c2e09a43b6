//! What the underlay says of next hops, and which decisions depend on it (RFC 4271 §9.1.2).
//!
//! Only an NLRI with paths to several next hops is decided by that. These are kept by next hop, so that
//! what changes there costs nobody else anything; an NLRI with one path, or with one next hop that two
//! reflectors tell of, is in no table of this kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use smallvec::SmallVec;

use super::{AdjRibIn, Change, Path, decision::eligible, routes::RouteId};
use crate::bgp::wire::Family;

/// NLRIs that are decided again in one turn: some 10 ms of work.
const PART: usize = 4096;

/// How a next hop is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By a route with this metric, the lower the better.
    Cost(u32),
    /// There is no way to it.
    Lost,
}

/// Next hops that an NLRI has to choose from, in order; none when there is no choice.
pub(super) type Choice = SmallVec<[IpAddr; 2]>;

/// Next hops as far as the underlay knows them, and who chooses among them.
#[derive(Debug)]
pub(super) struct NextHops {
    /// The underlay is asked at all: next hops of unicast routes are on links of the host.
    asked: bool,
    known: BTreeMap<IpAddr, Reach>,
    choosing: BTreeMap<IpAddr, BTreeSet<RouteId>>,
    /// Next hops that somebody chooses from and nobody did, or the other way round.
    touched: BTreeSet<IpAddr>,
    /// Next hops that changed, each with the NLRI to go on with, and since when they wait.
    due: BTreeMap<IpAddr, (RouteId, Instant)>,
}

/// What the decision between the paths to one NLRI may look at; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interior<'a> {
    /// `None` where they all have the same next hop.
    known: Option<&'a BTreeMap<IpAddr, Reach>>,
    /// The cost of each is known that is not lost.
    comparable: bool,
}

impl NextHops {
    pub(super) fn of_family(family: Family) -> Self {
        Self {
            asked: family == Family::EVPN,
            known: BTreeMap::new(),
            choosing: BTreeMap::new(),
            touched: BTreeSet::new(),
            due: BTreeMap::new(),
        }
    }

    /// Sets what is known of a next hop.
    pub(super) fn set(&mut self, next_hop: IpAddr, reach: Reach, now: Instant) {
        let before = self.known.insert(next_hop, reach);
        if before != Some(reach) && self.choosing.contains_key(&next_hop) {
            self.due.insert(next_hop, (RouteId::FIRST, now));
        }
    }

    /// The paths to an NLRI are others, which had this choice `before`.
    pub(super) fn choose(&mut self, id: RouteId, before: &Choice, paths: &[Path]) {
        if !self.asked {
            return;
        }
        let after = choice(paths);
        for next_hop in before.iter().filter(|hop| !after.contains(hop)) {
            if let Some(ids) = self.choosing.get_mut(next_hop) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.choosing.remove(next_hop);
                    self.due.remove(next_hop);
                    self.touched.insert(*next_hop);
                }
            }
        }
        for next_hop in after.iter().filter(|hop| !before.contains(hop)) {
            let ids = self.choosing.entry(*next_hop).or_default();
            if ids.is_empty() {
                self.touched.insert(*next_hop);
            }
            ids.insert(id);
        }
    }

    /// What there is to look at between these paths.
    pub(super) fn of(&self, paths: &[Path]) -> Interior<'_> {
        // Mostly there is one.
        if !self.asked || paths.len() < 2 {
            return Interior::default();
        }
        let mut others = next_hops(paths);
        let Some(first) = others.next() else {
            return Interior::default();
        };
        if others.all(|other| other == first) {
            return Interior::default();
        }
        Interior {
            known: Some(&self.known),
            comparable: next_hops(paths).all(|next_hop| self.known.contains_key(&next_hop)),
        }
    }

    /// NLRIs to decide again, as many as one turn may.
    fn take_part(&mut self) -> Vec<RouteId> {
        let mut part = Vec::new();
        while let Some((next_hop, (from, since))) = self.due.pop_first() {
            let ids = self.choosing.get(&next_hop).into_iter();
            let mut ids = ids.flat_map(|ids| ids.range(from..));
            part.extend(ids.by_ref().take(PART - part.len()));
            if let Some(next) = ids.next() {
                self.due.insert(next_hop, (*next, since));
                break;
            }
        }
        part
    }
}

impl Interior<'_> {
    /// There is no way to the next hop of a path. One of which nobody knows counts as reachable.
    pub(super) fn is_lost(&self, path: &Path) -> bool {
        self.reach(path) == Some(Reach::Lost)
    }

    /// Cost of the next hop of a path. RFC 4271 §9.1.2.2 e: where one cannot be told, all are equal.
    pub(super) fn cost(&self, path: &Path) -> u32 {
        match self.reach(path) {
            Some(Reach::Cost(cost)) if self.comparable => cost,
            _ => 0,
        }
    }

    fn reach(&self, path: &Path) -> Option<Reach> {
        self.known?.get(&next_hop(path)).copied()
    }
}

impl AdjRibIn {
    /// What the underlay says of a next hop. Those NLRIs are decided again that have others to choose
    /// from: a part of them now, and the rest with [`AdjRibIn::expire`].
    pub fn set_reach(&mut self, next_hop: IpAddr, reach: Reach, now: Instant) -> Vec<Change> {
        self.next_hops.set(next_hop, reach, now);
        self.reconsider()
    }

    /// The underlay is not asked any more about a next hop that nobody [chooses](AdjRibIn::chooses).
    pub fn forget_reach(&mut self, next_hop: IpAddr) {
        self.next_hops.known.remove(&next_hop);
    }

    /// What the underlay said of a next hop.
    pub fn reach(&self, next_hop: IpAddr) -> Option<Reach> {
        self.next_hops.known.get(&next_hop).copied()
    }

    /// Whether the underlay has to be asked about a next hop: some NLRI has others to choose from.
    pub fn chooses(&self, next_hop: IpAddr) -> bool {
        self.next_hops.choosing.contains_key(&next_hop)
    }

    /// Next hops for which [`AdjRibIn::chooses`] may have become another one since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.next_hops.touched)
    }

    /// Since when NLRIs wait to be decided again.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.next_hops.due.values().map(|(_, since)| *since).min()
    }

    /// Decides a part of the NLRIs again whose next hops changed.
    pub(super) fn reconsider(&mut self) -> Vec<Change> {
        let part = self.next_hops.take_part().into_iter();
        part.filter_map(|id| {
            let entry = self.routes.get_mut(id)?;
            let (key, before) = (entry.key()?, entry.best_index());
            entry.decide(&self.next_hops);
            if entry.best_index() == before {
                return None;
            }
            let before = before.and_then(|index| entry.best_at(index));
            Change::between(key, before, entry.best(), self.reflecting)
        })
        .collect()
    }
}

/// Where a path leads to.
fn next_hop(path: &Path) -> IpAddr {
    path.attributes.next_hop.to_canonical()
}

/// Where the paths lead to that take part in the decision.
fn next_hops(paths: &[Path]) -> impl Iterator<Item = IpAddr> {
    eligible(paths).map(next_hop)
}

/// What these paths have to choose from.
pub(super) fn choice(paths: &[Path]) -> Choice {
    if paths.len() < 2 {
        return Choice::new();
    }
    let mut choice: Choice = next_hops(paths).collect();
    choice.sort_unstable();
    choice.dedup();
    if choice.len() < 2 {
        choice.clear();
    }
    choice
}
