//! Identifiers of BGP and EVPN as types that cannot hold a wrong value.

#[macro_use]
mod octets;

mod asn;
mod esi;
mod families;
pub mod hash;
mod liveness;
mod name;
mod peer_name;
mod rd;
mod rt;

pub use asn::{Asn, LocalAs};
pub use esi::Esi;
pub use families::Families;
pub use liveness::Liveness;
pub use name::{BdName, IfName, InvalidName};
pub use peer_name::PeerName;
pub use rd::RouteDistinguisher;
pub use rt::{ImportTarget, RouteTarget};
pub use vtep_common::{Mac, Vni};

use serde::{Deserialize, Serialize};

/// An Ethernet Tag ID (RFC 7432 §7): 0 in VLAN-based services, 0xffffffff (MAX-ET) in per-ES
/// Ethernet A-D routes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EthernetTag(pub u32);

impl EthernetTag {
    /// MAX-ET (RFC 7432 §8.2.1).
    pub const MAX: Self = Self(u32::MAX);
}

impl std::fmt::Display for EthernetTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Index of a configured or dynamic peer, stable while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub u32);
