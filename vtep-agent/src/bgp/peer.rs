//! What a session tells the core.

use std::net::{IpAddr, Ipv4Addr};

use super::wire::Update;
use crate::types::Asn;

/// Something that a session did.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    /// Reached Established.
    Up(Session),
    /// Left Established.
    Down,
    /// An UPDATE arrived.
    Update(Box<Update>),
    /// The peer asks for everything again (RFC 2918), EVPN family.
    Refresh,
}

/// What was agreed when the session came up.
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
}
