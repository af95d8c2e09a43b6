//! What a session tells the core.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::wire::Update;
use crate::types::Asn;

/// Something that a session did.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    /// Reached Established.
    Up(Session),
    /// Left Established for good, as far as its routes are concerned.
    Down,
    /// Left Established, but its routes stay for a while (RFC 4724 §4.2).
    Restarting(Retention),
    /// An UPDATE arrived.
    Update(Box<Update>),
    /// The peer asks for everything again (RFC 2918), EVPN family.
    Refresh,
    /// The peer begins to send everything again (BoRR, RFC 7313 §4).
    RefreshBegin,
    /// It has sent everything (EoRR): what was not in it is gone.
    RefreshEnd,
}

/// What was agreed when the session came up, and how the peer is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The peer's address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Same AS as ours.
    pub internal: bool,
    /// The EVPN family (AFI 25, SAFI 70) was negotiated.
    pub evpn: bool,
    /// Both sides sent the graceful restart capability: the peer ends its routes with End-of-RIB.
    pub graceful_restart: bool,
    /// The peer's forwarding survived (the F bit of the EVPN family): what it announced in the
    /// session before counts until its End-of-RIB.
    pub forwarding_preserved: bool,
    /// The peer restarted as well and waits for nobody's End-of-RIB (its R bit, RFC 4724 §3).
    pub restarting: bool,
    /// How often our AS may be in its AS_PATHs.
    pub allowas_in: u8,
    /// We reflect its routes to others, and theirs to it (RFC 4456).
    pub route_reflector_client: bool,
}

/// How to keep the routes of a peer whose session is gone (RFC 4724 §4.2, RFC 8538 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long the peer may take to come back: its restart time.
    pub restart_time: Duration,
    /// Routes that are stale since an earlier restart stay too, because both sides sent the N bit
    /// (RFC 8538 §4.1).
    pub keep_stale: bool,
}

impl Session {
    /// A session with the EVPN family and without graceful restart.
    pub fn new(address: IpAddr, asn: Asn, router_id: Ipv4Addr, internal: bool) -> Self {
        Self {
            address,
            asn,
            router_id,
            internal,
            evpn: true,
            graceful_restart: false,
            forwarding_preserved: false,
            restarting: false,
            allowas_in: 0,
            route_reflector_client: false,
        }
    }
}
