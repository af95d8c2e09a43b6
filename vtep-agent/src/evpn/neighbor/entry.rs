//! Everybody who says something about one address, and who is believed.

use std::time::Instant;

use crate::{
    bgp::wire::ArpNd,
    types::{Mac, RouteDistinguisher},
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
    pub(super) remote: Vec<(RouteDistinguisher, Binding)>,
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
