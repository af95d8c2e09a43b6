//! What a session tells the core.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::wire::{Family, Update};
use crate::types::{Asn, Families, LocalAs};

/// Something that a session did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerEvent {
    /// Reached Established.
    Up(Session),
    /// Left Established for good, as far as its routes are concerned.
    Down,
    /// Left Established, but its routes stay for a while (RFC 4724 §4.2).
    Restarting(Retention),
    /// An UPDATE arrived.
    Update(Box<Update>),
    /// The peer asks for everything of a family of the session again (RFC 2918).
    Refresh(Family),
    /// The peer begins to send everything of a family again (BoRR, RFC 7313 §4).
    RefreshBegin(Family),
    /// It has sent everything (EoRR): what was not in it is gone.
    RefreshEnd(Family),
}

/// What was agreed when the session came up, and how the peer is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The peer's address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Same AS as ours, or as the one as which it knows us.
    pub internal: bool,
    /// The AS as which it knows us; `None`: our own.
    pub local_as: Option<LocalAs>,
    /// Families that were negotiated.
    pub families: Families,
    /// Both sides know IPv4 routes with an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Our end of the connection; `None` where there is no connection, as in simulations.
    pub local: Option<LocalEnd>,
    /// Both sides sent the graceful restart capability: the peer ends its routes with End-of-RIB.
    pub graceful_restart: bool,
    /// The peer's forwarding survived (the F bit of the EVPN family): what it announced in the
    /// session before counts until its End-of-RIB.
    pub forwarding_preserved: bool,
    /// Both sides know long-lived stale routes (RFC 9494 §4.3): the peer may be told of such.
    pub long_lived: bool,
    /// As [`forwarding_preserved`](Self::forwarding_preserved), for routes that are long-lived stale.
    pub long_lived_forwarding_preserved: bool,
    /// The peer restarted as well and waits for nobody's End-of-RIB (its R bit, RFC 4724 §3).
    pub restarting: bool,
    /// Route target memberships are exchanged: the peer gets what it asks for (RFC 4684).
    pub rt_constraint: bool,
    /// How often our AS may be in its AS_PATHs.
    pub allowas_in: u8,
    /// We reflect its routes to others, and theirs to it (RFC 4456).
    pub route_reflector_client: bool,
}

/// Our end of a session's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalEnd {
    /// The address: next hop of routes that lead to this host.
    pub address: IpAddr,
    /// The interface, when the address is link-local and means something only there.
    pub interface: Option<u32>,
}

/// How to keep the routes of a peer whose session is gone (RFC 4724 §4.2, RFC 8538 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// How long the peer may take to come back: its restart time. May be zero with `long_lived`.
    pub restart_time: Duration,
    /// Routes that are stale since an earlier restart stay too, because both sides sent the N bit
    /// (RFC 8538 §4.1).
    pub keep_stale: bool,
    /// How long its routes then stay as long-lived stale ones (RFC 9494 §4.2).
    pub long_lived: Option<Duration>,
}

impl Session {
    /// A session with the EVPN family and without graceful restart.
    pub fn new(address: IpAddr, asn: Asn, router_id: Ipv4Addr, internal: bool) -> Self {
        Self {
            address,
            asn,
            router_id,
            internal,
            local_as: None,
            families: Families::EVPN,
            extended_next_hop: false,
            local: None,
            graceful_restart: false,
            forwarding_preserved: false,
            long_lived: false,
            long_lived_forwarding_preserved: false,
            restarting: false,
            rt_constraint: false,
            allowas_in: 0,
            route_reflector_client: false,
        }
    }
}
