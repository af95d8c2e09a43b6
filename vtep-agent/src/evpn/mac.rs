//! Where each MAC of a bridge domain is: every place that claims it, and which claim wins
//! (RFC 7432 §15).

mod duplicate;
mod entry;
mod vteps;

pub use duplicate::Duplicate;
pub use entry::{Local, MacEntry, Origin, Remote, RemoteId, Winner};

use std::{
    collections::{BTreeMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use self::entry::{Declared, loses};
use super::{BindingOrigin, Census, memory::Memory, mobility, moves::Moves};
use crate::{
    bgp::wire::MacMobility,
    config::DuplicatePolicy,
    types::{
        Mac,
        hash::{HashMap, HashSet},
    },
};

/// A port, by its slot in the datapath's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// The MAC table of one bridge domain.
#[derive(Debug)]
pub struct MacTable {
    /// Our address, which breaks ties.
    vtep: Ipv4Addr,
    /// In boxes: a table has room for up to twice what is in it.
    entries: HashMap<Mac, Box<MacEntry>>,
    /// MACs whose owner is a local port, by port.
    ports: HashMap<Slot, HashSet<Mac>>,
    /// Vacant entries.
    remembered: Memory,
    census: Census,
    /// VTEPs to which the underlay has no path.
    lost: HashSet<Ipv4Addr>,
    /// MACs that routes of several VTEPs claim.
    contested: HashSet<Mac>,
    /// Some are there twice.
    dirty: Vec<Mac>,
    dirty_ports: Vec<Slot>,
    moves: u64,
    policy: DuplicatePolicy,
    /// Moves of the last while in which we took part.
    recent: Moves<Mac>,
    duplicates: BTreeMap<Mac, Duplicate>,
    found: Vec<Mac>,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Known there already.
    Unchanged,
    /// Ours now.
    New,
    /// From this port.
    Moved(Slot),
    /// Not taken.
    Refused(Refused),
}

/// What a route brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contest {
    /// A sticky MAC is claimed from two sides.
    pub sticky: bool,
    /// The port whose MAC it was until now.
    pub lost: Option<Slot>,
}

/// Why a MAC is not learned on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// RFC 7432 §15.2.
    #[error("it is sticky at VTEP {0}")]
    Sticky(Ipv4Addr),
    /// Declared endpoints are not learned away.
    #[error("it is declared on another port")]
    Declared,
    /// `max_macs_per_port`
    #[error("the port has its full number of MACs")]
    Limit,
    /// RFC 7432 §15.1.
    #[error("it is a duplicate and stays where it is")]
    Duplicate,
}

impl MacTable {
    /// Empty. `vtep` is our own address.
    pub fn new(vtep: Ipv4Addr) -> Self {
        Self {
            vtep,
            entries: HashMap::default(),
            ports: HashMap::default(),
            remembered: Memory::default(),
            census: Census::default(),
            lost: HashSet::default(),
            contested: HashSet::default(),
            dirty: Vec::new(),
            dirty_ports: Vec::new(),
            moves: 0,
            policy: DuplicatePolicy::default(),
            recent: Moves::default(),
            duplicates: BTreeMap::new(),
            found: Vec::new(),
        }
    }

    /// A frame with this source came from a port, which may have up to `limit` MACs.
    pub fn learn(&mut self, mac: Mac, slot: Slot, limit: usize, now: Instant) -> Learned {
        let full = self.port_count(slot) >= limit;
        if let Some(entry) = self.entries.get(&mac) {
            let declared = entry.rest().declared;
            let sticky = declared.is_some_and(|declared| declared.sticky);
            match (&entry.rest().local, entry.best_remote()) {
                _ if declared.is_some_and(|declared| declared.slot != slot) => {
                    return Learned::Refused(Refused::Declared);
                }
                (Some(local), _) if local.slot == slot => return Learned::Unchanged,
                _ if self.is_held(mac) => return Learned::Refused(Refused::Duplicate),
                (None, Some((_, remote))) if remote.sticky && !sticky => {
                    return Learned::Refused(Refused::Sticky(remote.next_hop));
                }
                _ => {}
            }
        }
        if full {
            return Learned::Refused(Refused::Limit);
        }
        self.claim(mac, slot, now)
    }

    /// The MAC is declared behind a port that is up. Refused while it is sticky elsewhere, until that
    /// claim is gone.
    pub fn declare(&mut self, mac: Mac, slot: Slot, sticky: bool, now: Instant) -> Learned {
        let entry = self.entries.entry(mac).or_default();
        let rest = entry.rest_mut();
        self.remembered.recall(mac, &mut rest.vacant_until);
        let sequence = rest.local.map_or(0, |local| local.mobility.sequence);
        rest.declared = Some(Declared {
            slot,
            sticky,
            sequence,
            since: now,
        });
        let is_here = rest.local.is_some_and(|local| local.slot == slot);
        let elsewhere = entry.best_remote().map(|(_, remote)| *remote);
        if !is_here && self.is_held(mac) {
            return Learned::Refused(Refused::Duplicate);
        }
        match elsewhere {
            Some(remote) if remote.sticky && (!sticky || remote.next_hop < self.vtep) => {
                self.release(mac, now);
                Learned::Refused(Refused::Sticky(remote.next_hop))
            }
            _ => self.claim(mac, slot, now),
        }
    }

    /// The declaration is gone, and our claim with it.
    pub fn undeclare(&mut self, mac: Mac, now: Instant) {
        let Some(entry) = self.entries.get_mut(&mac) else {
            return;
        };
        if entry.rest().declared.is_some() {
            entry.rest_mut().declared = None;
            self.release(mac, now);
        }
    }

    /// Gives up our claim to a learned MAC: it aged, or its port is gone.
    pub fn forget(&mut self, mac: Mac, now: Instant) {
        if self
            .local(mac)
            .is_some_and(|local| local.origin == Origin::Learned)
        {
            self.release(mac, now);
        }
    }

    /// Sets, replaces or removes what a route says, and decides anew who has the MAC.
    pub fn set_remote(
        &mut self,
        mac: Mac,
        id: RemoteId,
        remote: Option<Remote>,
        now: Instant,
    ) -> Contest {
        if let Some(remote) = &remote {
            self.note_reachable(remote.next_hop, !remote.unreachable);
        }
        let entry = match self.entries.entry(mac) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if remote.is_none() => return Contest::default(),
            Entry::Vacant(entry) => entry.insert(Box::default()),
        };
        let was = entry.owner();
        let claimed = |entry: &MacEntry| {
            let best = entry.best_remote();
            best.map(|(_, remote)| (remote.next_hop, remote.sequence))
        };
        let from = claimed(entry);
        if let Some(index) = entry.remote.iter().position(|(other, _)| *other == id) {
            let (_, old) = entry.remote.swap_remove(index);
            entry.floor = mobility::later(entry.floor, old.sequence.wrapping_add(1));
        }
        if let Some(remote) = remote {
            entry.remote.push((id, remote));
            if entry.rest().vacant_until.is_some() {
                self.remembered
                    .recall(mac, &mut entry.rest_mut().vacant_until);
                entry.shed();
            }
        }
        self.census.change(was, entry.owner());
        if entry.is_contested() {
            self.contested.insert(mac);
            entry.set_unreachable(&self.lost);
        } else if !self.contested.is_empty() {
            self.contested.remove(&mac);
        }
        let to = claimed(entry);
        if let (Some(BindingOrigin::Remote), Some((from, _)), Some((to, _))) = (was, from, to) {
            self.moves += u64::from(from != to);
        }
        self.dirty.push(mac);
        let rest = entry.rest();
        if rest.local.is_none() && rest.declared.is_none() && to.is_some() {
            return Contest::default();
        }
        // Another VTEP has the MAC as well, as often as we do: with its next frame it takes it.
        let tied = to != from
            && rest.evidence
            && rest.local.is_some_and(|local| {
                let ours = local.mobility;
                !ours.sticky && to.is_some_and(|(_, sequence)| sequence == ours.sequence)
            });
        let contest = self.contest(mac, now);
        if tied && contest.lost.is_none() {
            self.note_move(mac, now);
        }
        contest
    }

    /// Whoever claims the MAC here says at least this sequence number.
    pub fn recall(&mut self, mac: Mac, sequence: u32, now: Instant) {
        let entry = self.entries.entry(mac).or_default();
        entry.floor = mobility::later(entry.floor, sequence);
        self.tidy(mac, now);
    }

    /// Forgets sequence numbers whose time is over, and lets go what was held long enough.
    /// The answer is the latter, whose owner may be another one now.
    pub fn expire(&mut self, now: Instant) -> Vec<Mac> {
        while let Some(mac) = self.remembered.take_due(now) {
            self.entries.remove(&mac);
        }
        self.expire_duplicates(now)
    }

    /// What is announced with the MAC changed.
    pub fn touch(&mut self, mac: Mac) {
        self.dirty.push(mac);
    }

    /// MACs whose owner, or what is known of it, may have changed since the last call, and ports whose
    /// number of MACs did.
    pub fn take_dirty(&mut self) -> (Vec<Mac>, Vec<Slot>) {
        (
            take_distinct(&mut self.dirty),
            take_distinct(&mut self.dirty_ports),
        )
    }

    /// When [`MacTable::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        let held = self.next_duplicate();
        self.remembered.next_due().into_iter().chain(held).min()
    }

    /// Who has the MAC.
    pub fn winner(&self, mac: Mac) -> Option<Winner<'_>> {
        self.entries.get(&mac)?.winner()
    }

    /// Our claim, while it wins.
    pub fn local(&self, mac: Mac) -> Option<&Local> {
        self.entries.get(&mac)?.rest().local.as_ref()
    }

    /// Addresses that routes bind to the MAC.
    pub fn remote_ips(&self, mac: Mac) -> impl Iterator<Item = IpAddr> {
        let routes = self.entries.get(&mac).map(|entry| &entry.remote);
        routes.into_iter().flatten().filter_map(|(id, _)| id.ip)
    }

    /// Every MAC of which something is known, with an owner or without, in no particular order. Costs
    /// less for each than [`MacTable::iter`].
    pub fn known(&self) -> impl Iterator<Item = Mac> {
        self.entries.keys().copied()
    }

    /// Everything that has an owner, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Mac, Winner<'_>)> {
        self.entries
            .iter()
            .filter_map(|(mac, entry)| Some((*mac, entry.winner()?)))
    }

    /// How many MACs have an owner, by how it is known.
    pub fn census(&self) -> Census {
        self.census
    }

    /// MACs that a port has.
    pub fn on_port(&self, slot: Slot) -> Vec<Mac> {
        let mut macs: Vec<_> = self
            .ports
            .get(&slot)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        macs.sort_unstable();
        macs
    }

    /// Number of MACs that a port has.
    pub fn port_count(&self, slot: Slot) -> usize {
        self.ports.get(&slot).map_or(0, HashSet::len)
    }

    /// How often a MAC changed its place.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Our claim wins from now on: there is evidence that the MAC is on this port.
    fn claim(&mut self, mac: Mac, slot: Slot, now: Instant) -> Learned {
        let entry = self.entries.entry(mac).or_default();
        let was = entry.owner();
        self.remembered
            .recall(mac, &mut entry.rest_mut().vacant_until);
        self.dirty.push(mac);
        let declared = entry.rest().declared;
        let origin = declared.map_or(Origin::Learned, |_| Origin::Declared);
        let sticky = declared.is_some_and(|declared| declared.sticky);
        let (sequence, outcome) = match &entry.rest().local {
            // The same PE, hence no mobility event for others (RFC 7432 §15).
            Some(local) if local.slot == slot => (local.mobility.sequence, Learned::Unchanged),
            Some(local) => (local.mobility.sequence, Learned::Moved(local.slot)),
            None => (entry.next_sequence(), Learned::New),
        };
        // Sticky routes have sequence number 0 (RFC 7432 §15.2).
        let sequence = if sticky { 0 } else { sequence };
        let rest = entry.rest_mut();
        rest.local = Some(Local {
            slot,
            origin,
            mobility: MacMobility { sticky, sequence },
            since: now,
        });
        if let Some(declared) = &mut rest.declared {
            declared.sequence = sequence;
        }
        rest.evidence = true;
        self.census.change(was, entry.owner());
        let moved = matches!(outcome, Learned::Moved(_))
            || outcome == Learned::New && !entry.remote.is_empty();
        self.moves += u64::from(moved);
        if moved && !sticky {
            self.note_move(mac, now);
        }
        if let Learned::Moved(from) = outcome {
            self.unlist(mac, from);
        }
        self.list(mac, slot);
        outcome
    }

    /// Weighs our claim, or a declaration that lost before, against the others.
    fn contest(&mut self, mac: Mac, now: Instant) -> Contest {
        let vtep = self.vtep;
        if self.is_held(mac) {
            self.tidy(mac, now);
            return Contest::default();
        }
        let Some(entry) = self.entries.get_mut(&mac) else {
            return Contest::default();
        };
        let best = entry.best_remote().map(|(_, remote)| *remote);
        let mut contest = Contest::default();
        let was = entry.owner();
        match (entry.rest().local, entry.rest().declared, best) {
            (Some(local), _, Some(remote)) => {
                contest.sticky = local.mobility.sticky
                    && (remote.sticky || mobility::compare(remote.sequence, 0).is_gt());
                if loses(local.mobility, vtep, &remote) {
                    self.moves += 1;
                    let counts = entry.rest().evidence && !remote.sticky;
                    self.release(mac, now);
                    contest.lost = Some(local.slot);
                    if counts {
                        self.note_move(mac, now);
                    }
                }
            }
            (None, Some(declared), best) => {
                // Nothing new was seen here, so the old sequence number has to do.
                let mobility = MacMobility {
                    sticky: declared.sticky,
                    sequence: declared.sequence,
                };
                if best.is_none_or(|remote| !loses(mobility, vtep, &remote)) {
                    let rest = entry.rest_mut();
                    rest.local = Some(Local {
                        slot: declared.slot,
                        origin: Origin::Declared,
                        mobility,
                        since: declared.since,
                    });
                    rest.evidence = false;
                    self.census.change(was, entry.owner());
                    self.list(mac, declared.slot);
                }
            }
            _ => {}
        }
        self.tidy(mac, now);
        contest
    }

    fn release(&mut self, mac: Mac, now: Instant) {
        self.dirty.push(mac);
        if let Some(entry) = self.entries.get_mut(&mac)
            && let Some(local) = entry.rest().local
        {
            let was = entry.owner();
            entry.rest_mut().local = None;
            entry.shed();
            entry.floor = mobility::later(entry.floor, local.mobility.sequence);
            self.census.change(was, entry.owner());
            self.unlist(mac, local.slot);
        }
        self.tidy(mac, now);
    }

    fn list(&mut self, mac: Mac, slot: Slot) {
        if self.ports.entry(slot).or_default().insert(mac) {
            self.dirty_ports.push(slot);
        }
    }

    fn unlist(&mut self, mac: Mac, slot: Slot) {
        if let Some(macs) = self.ports.get_mut(&slot)
            && macs.remove(&mac)
        {
            self.dirty_ports.push(slot);
            if macs.is_empty() {
                self.ports.remove(&slot);
            }
        }
    }

    /// Starts the memory of an entry that nobody claims any more, or drops it if there is nothing to
    /// remember.
    fn tidy(&mut self, mac: Mac, now: Instant) {
        let held = self.is_held(mac);
        let Entry::Occupied(mut occupied) = self.entries.entry(mac) else {
            return;
        };
        let entry = occupied.get_mut();
        if entry.owner().is_some() || entry.rest().declared.is_some() || held {
            return;
        }
        if entry.floor == 0 {
            occupied.remove();
        } else if entry.rest().vacant_until.is_none() {
            let (end, forgotten) = self.remembered.begin(mac, now);
            entry.rest_mut().vacant_until = Some(end);
            if let Some(forgotten) = forgotten {
                self.entries.remove(&forgotten);
            }
        }
    }
}

/// Each once, in order.
pub(super) fn take_distinct<T: Ord>(list: &mut Vec<T>) -> Vec<T> {
    let mut taken = std::mem::take(list);
    taken.sort_unstable();
    taken.dedup();
    taken
}
