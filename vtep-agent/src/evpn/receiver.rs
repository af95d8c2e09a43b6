//! Who receives a bridge domain's BUM traffic, the remote half of its flood list (RFC 7432 §11), and
//! who makes copies for us (RFC 9574).

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::{bgp::wire::RouteKey, types::hash::HashMap};

/// How long a replicator that is new waits before it is used: it has to know all receivers first
/// (RFC 9574 §5.2).
pub const ACTIVATION: Duration = Duration::from_secs(3);

/// A remote receiver: one copy of each BUM frame goes there, with this VNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receiver {
    /// The VTEP.
    pub next_hop: Ipv4Addr,
    /// Label of its PMSI tunnel attribute.
    pub vni: u32,
    /// What it asks not to be sent.
    pub pruned: Pruned,
}

/// Kinds of BUM traffic that a receiver asks not to be sent (RFC 9574 §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pruned {
    /// BM: broadcast and multicast.
    pub broadcast: bool,
    /// U: unknown unicast.
    pub unknown: bool,
}

/// An AR-REPLICATOR: what it is sent, it copies to all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicator {
    /// Its AR-IP.
    pub next_hop: Ipv4Addr,
    /// Label of its PMSI tunnel attribute.
    pub vni: u32,
    /// L: it copies for leaves that ask it to only (RFC 9574 §6), if all replicators are of that kind.
    pub selective: bool,
}

/// Receivers and replicators by the route that names them.
#[derive(Debug, Default)]
pub struct ReceiverTable {
    routes: HashMap<RouteKey, Receiver>,
    replicators: BTreeMap<RouteKey, Known>,
}

#[derive(Debug)]
struct Known {
    replicator: Replicator,
    /// When it may be used; `None` when it may already.
    activation: Option<Instant>,
}

/// Whether a replicator is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicatorState {
    /// It makes the copies.
    Active,
    /// Another one does.
    Standby,
    /// It is new.
    Activating,
    /// There is no path to it.
    Unreachable,
    /// It copies only for leaves that ask it to, which we don't.
    Selective,
}

impl ReceiverTable {
    /// Sets or replaces what a route says, or takes it away.
    pub fn set(&mut self, key: RouteKey, receiver: Option<Receiver>) {
        match receiver {
            Some(receiver) => self.routes.insert(key, receiver),
            None => self.routes.remove(&key),
        };
    }

    /// Sets or replaces the replicator that a route names, or takes it away.
    pub fn set_replicator(&mut self, key: RouteKey, replicator: Option<Replicator>, now: Instant) {
        let Some(replicator) = replicator else {
            self.replicators.remove(&key);
            return;
        };
        let same = self.replicators.get_mut(&key).filter(|known| {
            let at = |it: &Replicator| (it.next_hop, it.vni);
            at(&known.replicator) == at(&replicator)
        });
        match same {
            Some(known) => known.replicator = replicator,
            None => {
                let activation = Some(now + ACTIVATION);
                let known = Known {
                    replicator,
                    activation,
                };
                self.replicators.insert(key, known);
            }
        }
    }

    /// Each receiver once, however many routes name it (RFC 9572 §5.2), in order. It is pruned if all
    /// of them ask for that.
    pub fn distinct(&self) -> Vec<Receiver> {
        let mut found: Vec<_> = self.routes.values().copied().collect();
        found.sort_unstable_by_key(|receiver| (receiver.next_hop, receiver.vni));
        found.dedup_by(|other, first| {
            let same = (other.next_hop, other.vni) == (first.next_hop, first.vni);
            if same {
                first.pruned.broadcast &= other.pruned.broadcast;
                first.pruned.unknown &= other.pruned.unknown;
            }
            same
        });
        found
    }

    /// All replicators and what becomes of them, in the order of their routes. `seed` spreads leaves
    /// and bridge domains over them.
    pub fn replicators(
        &self,
        seed: (Ipv4Addr, u32),
        is_reachable: impl Fn(Ipv4Addr) -> bool,
    ) -> Vec<(Replicator, ReplicatorState)> {
        let known = self.replicators.values();
        // If they don't agree, none is selective (RFC 9574 §6.1).
        let selective = known.clone().all(|known| known.replicator.selective);
        let mut states: Vec<_> = known
            .map(|known| {
                let state = match known.activation {
                    _ if selective => ReplicatorState::Selective,
                    _ if !is_reachable(known.replicator.next_hop) => ReplicatorState::Unreachable,
                    Some(_) => ReplicatorState::Activating,
                    None => ReplicatorState::Standby,
                };
                (known.replicator, state)
            })
            .collect();
        // The highest random weight: who comes or goes changes nothing for leaves of the others.
        let weight = |replicator: &Replicator| {
            let leaf = u64::from(u32::from(seed.0)) << 32 | u64::from(seed.1);
            let at = u64::from(u32::from(replicator.next_hop));
            (mix(mix(leaf) ^ at), replicator.next_hop)
        };
        let ready = states
            .iter_mut()
            .filter(|(_, state)| *state == ReplicatorState::Standby);
        if let Some((_, state)) = ready.max_by_key(|(replicator, _)| weight(replicator)) {
            *state = ReplicatorState::Active;
        }
        states
    }

    /// Lets replicators be used that have waited long enough. Whether there were any.
    pub fn activate(&mut self, now: Instant) -> bool {
        let mut any = false;
        for known in self.replicators.values_mut() {
            if known.activation.is_some_and(|at| at <= now) {
                known.activation = None;
                any = true;
            }
        }
        any
    }

    /// When [`ReceiverTable::activate`] has something to do.
    pub fn next_activation(&self) -> Option<Instant> {
        let known = self.replicators.values();
        known.filter_map(|known| known.activation).min()
    }
}

/// Every bit of the answer depends on every bit (the finalizer of SplitMix64).
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

impl ReplicatorState {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Activating => "activating",
            Self::Unreachable => "unreachable",
            Self::Selective => "selective",
        }
    }

    /// Why it is not used.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Active => "it is used",
            Self::Standby => "another replicator makes the copies",
            Self::Activating => "the replicator is new",
            Self::Unreachable => "next hop unreachable",
            Self::Selective => "the replicator is selective (RFC 9574 §6), which is not supported",
        }
    }
}
