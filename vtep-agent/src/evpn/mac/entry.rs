//! All claims to one MAC, and which of them wins.

use std::{
    cmp::{Ordering, Reverse},
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use smallvec::SmallVec;

use super::Slot;
use crate::{
    bgp::wire::{ArpNd, MacMobility},
    evpn::{BindingOrigin, mobility},
    types::{EthernetTag, RouteDistinguisher, hash::HashSet},
};

/// How we know a local MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From frames.
    Learned,
    /// From the operator or orchestrator.
    Declared,
}

/// A MAC behind one of our ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The port.
    pub slot: Slot,
    /// How it is known.
    pub origin: Origin,
    /// What we announce.
    pub mobility: MacMobility,
    /// When it got there.
    pub since: Instant,
}

/// Names one of the routes to a MAC in a bridge domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteId {
    /// The route's RD.
    pub rd: RouteDistinguisher,
    /// Its Ethernet tag.
    pub tag: EthernetTag,
    /// The address that it binds.
    pub ip: Option<IpAddr>,
}

/// What a route says of a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The VTEP.
    pub next_hop: Ipv4Addr,
    /// VNI to send with.
    pub vni: u32,
    /// Mobility sequence.
    pub sequence: u32,
    /// Mobility's sticky flag.
    pub sticky: bool,
    /// The underlay has no path to the VTEP. Up to date where another VTEP claims the MAC, too.
    pub unreachable: bool,
    /// Long-lived stale: only where there is nothing else (RFC 9494 §4.3).
    pub long_lived_stale: bool,
    /// Flags of the binding.
    pub flags: ArpNd,
    /// When the route was received.
    pub received: Instant,
}

/// Who has the MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner<'a> {
    /// A port of ours.
    Local(&'a Local),
    /// Another VTEP.
    Remote(RemoteId, &'a Remote),
}

/// All claims to one MAC. There is one of these for each MAC of the fabric, and nearly all of them are
/// behind other VTEPs, by one route: that is in here, and all else elsewhere.
#[derive(Debug, Default)]
pub struct MacEntry {
    pub(super) remote: SmallVec<[(RemoteId, Remote); 1]>,
    /// The least sequence number of our next claim.
    pub(super) floor: u32,
    rest: Option<Box<Rest>>,
}

/// What there is to know of a MAC besides what routes say.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    pub(super) declared: Option<Declared>,
    /// Present exactly while our claim wins.
    pub(super) local: Option<Local>,
    /// Set while nobody claims it: until when the floor is remembered.
    pub(super) vacant_until: Option<Instant>,
    /// Our claim rests on something that was seen here, not on a declaration that won again because
    /// another route went.
    pub(super) evidence: bool,
    /// The VTEP with which it stays while it is held as a duplicate.
    pub(super) held_by: Option<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Declared {
    pub(super) slot: Slot,
    pub(super) sticky: bool,
    /// Sequence of our last claim.
    pub(super) sequence: u32,
    pub(super) since: Instant,
}

static NOTHING: Rest = Rest {
    declared: None,
    local: None,
    vacant_until: None,
    evidence: false,
    held_by: None,
};

impl MacEntry {
    pub(super) fn rest(&self) -> &Rest {
        self.rest.as_deref().unwrap_or(&NOTHING)
    }

    /// To be changed.
    pub(super) fn rest_mut(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// Gives back the memory of what means nothing any more.
    pub(super) fn shed(&mut self) {
        self.rest.take_if(|rest| {
            let claimed = rest.declared.is_some() || rest.local.is_some();
            !claimed && rest.vacant_until.is_none() && rest.held_by.is_none()
        });
    }

    /// How its owner is known, if it has one.
    pub(super) fn owner(&self) -> Option<BindingOrigin> {
        match self.rest().local.map(|local| local.origin) {
            Some(Origin::Learned) => Some(BindingOrigin::Learned),
            Some(Origin::Declared) => Some(BindingOrigin::Declared),
            None => (!self.remote.is_empty()).then_some(BindingOrigin::Remote),
        }
    }

    pub(super) fn winner(&self) -> Option<Winner<'_>> {
        match &self.rest().local {
            Some(local) => Some(Winner::Local(local)),
            None => self
                .best_remote()
                .map(|(id, remote)| Winner::Remote(*id, remote)),
        }
    }

    /// Routes of several VTEPs claim it.
    pub(super) fn is_contested(&self) -> bool {
        let mut next_hops = self.remote.iter().map(|(_, remote)| remote.next_hop);
        let first = next_hops.next();
        next_hops.any(|next_hop| Some(next_hop) != first)
    }

    pub(super) fn set_unreachable(&mut self, lost: &HashSet<Ipv4Addr>) {
        for (_, remote) in &mut self.remote {
            remote.unreachable = lost.contains(&remote.next_hop);
        }
    }

    /// Where it is held as a duplicate; then not behind a VTEP without a path (RFC 4271 §9.1.2), whatever
    /// its route says and though it be stale; then not a long-lived stale route; then sticky first, then
    /// the highest sequence number, then the lowest VTEP (RFC 7432 §15). The route's own name only makes
    /// the choice repeatable.
    pub(super) fn best_remote(&self) -> Option<&(RemoteId, Remote)> {
        let preference = |a: &&(RemoteId, Remote), b: &&(RemoteId, Remote)| {
            let ((a_id, a), (b_id, b)) = (a, b);
            let is_held = |remote: &Remote| self.rest().held_by == Some(remote.next_hop);
            is_held(a)
                .cmp(&is_held(b))
                .then_with(|| b.unreachable.cmp(&a.unreachable))
                .then_with(|| b.long_lived_stale.cmp(&a.long_lived_stale))
                .then_with(|| a.sticky.cmp(&b.sticky))
                .then_with(|| mobility::compare(a.sequence, b.sequence))
                .then_with(|| Reverse(a.next_hop).cmp(&Reverse(b.next_hop)))
                .then_with(|| Reverse(a_id).cmp(&Reverse(b_id)))
        };
        match &self.remote[..] {
            [only] => Some(only),
            several => several.iter().max_by(preference),
        }
    }

    /// RFC 7432 §15: one more than the highest that was received, none for a MAC that is new.
    pub(super) fn next_sequence(&self) -> u32 {
        self.remote
            .iter()
            .map(|(_, remote)| remote.sequence.wrapping_add(1))
            .fold(self.floor, mobility::later)
    }
}

/// Whether a claim of ours has to give way to `remote` (RFC 7432 §15, §15.2).
pub(super) fn loses(ours: MacMobility, vtep: Ipv4Addr, remote: &Remote) -> bool {
    if ours.sticky != remote.sticky {
        return remote.sticky;
    }
    match mobility::compare(ours.sequence, remote.sequence) {
        _ if ours.sticky => remote.next_hop < vtep,
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => remote.next_hop < vtep,
    }
}
