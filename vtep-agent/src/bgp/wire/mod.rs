//! The BGP-4 codec: bytes to typed messages and back, with the error handling of RFC 7606 decided
//! here and nowhere else. No IO, no time.
//!
//! [`Route`] is an EVPN NLRI with everything that it carries; [`RouteKey`] is the part that
//! identifies it (RFC 7432 §7: ESI and labels are attributes of a route, not part of its key).

mod attributes;
mod community;
mod route;

pub use attributes::{AsPath, AsSegment, Attributes, Origin, PmsiTunnel, RawAttribute, TunnelType};
pub use community::{ArpNd, Encapsulation, ExtCommunity, MacMobility};
pub use route::{EthernetAd, EthernetSegment, Imet, IpPrefix, MacIp, Route, RouteKey};

use std::sync::Arc;

/// A decoded UPDATE, after RFC 7606: what a malformed attribute made unusable is in `withdrawn`.
/// Only the EVPN family; other families are skipped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Announced routes. Empty when `attributes` is `None`.
    pub announced: Vec<Route>,
    /// Path attributes of `announced`, next hop included.
    pub attributes: Option<Arc<Attributes>>,
    /// Withdrawn routes, and announced ones that are treated as withdrawn.
    pub withdrawn: Vec<RouteKey>,
    /// The End-of-RIB marker of the EVPN family (RFC 4724 §2).
    pub end_of_rib: bool,
}
