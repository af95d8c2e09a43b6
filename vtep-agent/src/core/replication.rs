//! The remote half of a flood list: who gets a copy of which kind of frame, and from whom
//! (RFC 7432 §11, RFC 9574).

use std::collections::BTreeMap;

use vtep_common::abi::FloodClasses;

use super::Core;
use crate::{
    bgp::wire::PmsiTunnel,
    config::{BdConfig, Replication},
    evpn::{BridgeDomain, Pruned, Replicator, ReplicatorState},
};

/// VTEPs by (index in the datapath's table, VNI), with what they get no copy of.
pub(super) type Copies = BTreeMap<(u32, u32), FloodClasses>;

impl Core {
    /// The replicators of a bridge domain, and which of them is used.
    pub(super) fn replicators(&self, bd: &BridgeDomain) -> Vec<(Replicator, ReplicatorState)> {
        let seed = (self.vtep(), bd.config.vni.get());
        let is_reachable = |vtep| self.nexthops.reachable(vtep).is_some();
        bd.receivers().replicators(seed, is_reachable)
    }

    /// The replicator that makes copies for us, if any does.
    pub(super) fn active_replicator(&self, bd: &BridgeDomain) -> Option<Replicator> {
        if bd.config.replication == Replication::Ingress {
            return None;
        }
        let mut states = self.replicators(bd).into_iter();
        let active = states.find(|(_, state)| *state == ReplicatorState::Active);
        active.map(|(replicator, _)| replicator)
    }

    /// Who gets copies. With a replicator, it alone gets what it copies for us; the rest goes to
    /// everybody, also to it as a VTEP of its own.
    pub(super) fn copies(&self, bd: &BridgeDomain) -> Copies {
        let replicator = self.active_replicator(bd);
        let assisted = replicator.is_some();
        let mut copies = Copies::new();
        for receiver in bd.receivers().distinct() {
            if let Some(index) = self.nexthops.reachable(receiver.next_hop) {
                let pruned = Some(receiver.pruned).filter(|_| bd.config.honor_prune);
                let skip = skipped(pruned.unwrap_or_default(), assisted);
                copies.insert((index, receiver.vni), skip);
            }
        }
        if let Some(replicator) = replicator
            && let Some(index) = self.nexthops.reachable(replicator.next_hop)
        {
            let at = (index, replicator.vni);
            let skip = match copies.get(&at) {
                // One address and VNI for both roles (RFC 9574 §8): it gets everything.
                Some(skip) => FloodClasses(skip.0 & !FloodClasses::ASSISTED.0),
                None => FloodClasses::DIRECT.with(FloodClasses::UNKNOWN),
            };
            copies.insert(at, skip);
        }
        copies
    }
}

fn skipped(pruned: Pruned, assisted: bool) -> FloodClasses {
    FloodClasses::default()
        .with_if(FloodClasses::ASSISTED, pruned.broadcast || assisted)
        .with_if(FloodClasses::DIRECT, pruned.broadcast)
        .with_if(FloodClasses::UNKNOWN, pruned.unknown)
}

/// What our own inclusive multicast route says of us (RFC 9574 §4, §7).
pub(super) fn imet_flags(config: &BdConfig) -> u8 {
    let mut flags = match config.replication {
        Replication::Ingress => 0,
        Replication::ArLeaf => PmsiTunnel::AR_LEAF,
    };
    if config.prune.broadcast {
        flags |= PmsiTunnel::PRUNE_BROADCAST;
    }
    if config.prune.unknown {
        flags |= PmsiTunnel::PRUNE_UNKNOWN;
    }
    flags
}
