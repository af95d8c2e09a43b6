//! Everybody who says something about one address, and who is believed.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use smallvec::SmallVec;

use crate::{
    bgp::wire::ArpNd,
    types::{Mac, RouteDistinguisher, hash::HashMap},
};

/// How a binding is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingOrigin {
    /// From ARP or a neighbour advertisement of a VM.
    Learned,
    /// From the operator or orchestrator.
    Declared,
    /// From a MAC/IP route.
    Remote,
}

/// Address, MAC and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The MAC.
    pub mac: Mac,
    /// How it is known.
    pub origin: BindingOrigin,
    /// Router, override, immutable (RFC 9047 §2).
    pub flags: ArpNd,
    /// Since when.
    pub since: Instant,
}

/// All claims to one address.
#[derive(Debug, Default)]
pub(super) struct Neighbor {
    /// One, but for anycast addresses.
    pub(super) local: Vec<Binding>,
    /// Mostly one.
    pub(super) remote: SmallVec<[(RouteDistinguisher, Binding); 1]>,
}

/// Claims by address. In boxes: a table has room for up to twice what is in it. By family, since most
/// are IPv4 addresses, which need a third of the room.
#[derive(Debug, Default)]
pub(super) struct Entries {
    v4: HashMap<Ipv4Addr, Box<Neighbor>>,
    v6: HashMap<Ipv6Addr, Box<Neighbor>>,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(super) fn get(&self, ip: IpAddr) -> Option<&Neighbor> {
        match ip {
            IpAddr::V4(ip) => self.v4.get(&ip),
            IpAddr::V6(ip) => self.v6.get(&ip),
        }
        .map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, ip: IpAddr) -> Option<&mut Neighbor> {
        match ip {
            IpAddr::V4(ip) => self.v4.get_mut(&ip),
            IpAddr::V6(ip) => self.v6.get_mut(&ip),
        }
        .map(Box::as_mut)
    }

    /// Empty if it is new.
    pub(super) fn entry(&mut self, ip: IpAddr) -> &mut Neighbor {
        match ip {
            IpAddr::V4(ip) => self.v4.entry(ip).or_default(),
            IpAddr::V6(ip) => self.v6.entry(ip).or_default(),
        }
    }

    pub(super) fn remove(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => drop(self.v4.remove(&ip)),
            IpAddr::V6(ip) => drop(self.v6.remove(&ip)),
        }
    }

    /// In no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Neighbor)> {
        let v4 = self
            .v4
            .iter()
            .map(|(ip, entry)| (IpAddr::V4(*ip), &**entry));
        let v6 = self
            .v6
            .iter()
            .map(|(ip, entry)| (IpAddr::V6(*ip), &**entry));
        v4.chain(v6)
    }
}

impl Neighbor {
    pub(super) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Binding> {
        let remote = self.remote.iter().map(|(_, binding)| binding);
        self.local.iter().chain(remote)
    }

    /// `held`: the MAC that the address stays with.
    pub(super) fn selected(&self, held: Option<Mac>) -> Option<&Binding> {
        self.all().max_by_key(|binding| {
            (
                binding.origin == BindingOrigin::Declared,
                Some(binding.mac) == held,
                binding.flags.immutable,
                binding.since,
                binding.mac,
            )
        })
    }
}
