//! `[[bgp.peer]]`, groups resolved.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Authentication, BfdConfig, Hops};
use crate::types::{Asn, Families, LocalAs, PeerName};

/// `[[bgp.peer]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerConfig {
    /// Who it is.
    pub name: PeerName,
    /// Its AS.
    pub asn: PeerAsn,
    /// The AS as which it knows us; `None`: our own.
    pub local_as: Option<LocalAs>,
    /// Families of the session.
    pub families: Families,
    /// Local address of the session; `None`: the VTEP address for iBGP and multihop, otherwise the
    /// kernel's choice.
    pub local_address: Option<IpAddr>,
    /// Hold time that we propose; zero for none (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// Peer's TCP port.
    pub port: u16,
    /// How segments are signed.
    pub authentication: Option<Authentication>,
    /// How long it may take nothing of what it is sent (RFC 9687); zero: for ever; `None`: twice the
    /// hold time, and at least 8 minutes.
    pub send_hold_time: Option<Duration>,
    /// Offer messages of more than 4096 octets (RFC 8654).
    pub extended_messages: bool,
    /// Most routes that it may send.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Hops within which it is, enforced by TTL (RFC 5082), 1 to 254.
    pub ttl_security: Option<u8>,
    /// How often our AS may be in its AS_PATHs, at most 10.
    pub allowas_in: u8,
    /// Exchange route target memberships if it does too (RFC 4684): each side gets only routes that
    /// it asks for.
    pub rt_constraint: bool,
    /// Take several paths to an EVPN route if it sends them (RFC 7911).
    pub add_path: bool,
    /// Our client: we reflect its routes to others, and theirs to it (RFC 4456). Internal.
    pub route_reflector_client: bool,
    /// Administratively down, with this text for the peer's operator (RFC 9003).
    pub shutdown: Option<String>,
    /// Keep its routes while it restarts, and ask the same of it (RFC 4724).
    pub graceful_restart: bool,
    /// How long it is to keep ours until we are back, 1 to 4095 s.
    pub restart_time: Duration,
    /// How much longer, as the least preferred ones, 1 to 2^24 - 1 s (RFC 9494); `None`: not at all.
    /// With graceful restart only.
    pub long_lived_graceful_restart: Option<Duration>,
    /// It is to keep our routes of the unicast families, too, while we restart. With graceful restart
    /// only.
    pub unicast_graceful_restart: bool,
    /// How its UPDATEs are judged.
    pub checks: UpdateChecks,
    /// Only wait for its connection.
    pub passive: bool,
    /// Largest number of hops to an external peer; `None`: directly connected.
    pub multihop: Option<u8>,
    /// The path to it is watched by BFD.
    pub bfd: Option<BfdConfig>,
}

/// What of a peer's UPDATEs is an error where RFCs leave a choice, or where we depart from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateChecks {
    /// An EVPN route whose length doesn't fit its type ends the session, as RFC 7606 §5.3 has it,
    /// instead of being dropped alone.
    pub strict_nlri: bool,
    /// The AS_PATH of an external peer begins with its AS (RFC 4271 §6.3).
    pub enforce_first_as: bool,
    /// AS_SETs are no error, against RFC 9774 §3.
    pub accept_as_sets: bool,
}

impl Default for UpdateChecks {
    fn default() -> Self {
        Self {
            strict_nlri: false,
            enforce_first_as: true,
            accept_as_sets: false,
        }
    }
}

/// What to do about many routes of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxPrefixes {
    /// So many are too many when one more comes.
    pub limit: u32,
    /// Say so, and keep the session.
    pub warn_only: bool,
}

/// The AS that a peer must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerAsn {
    /// This one.
    Is(Asn),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

impl PeerConfig {
    /// A peer with the defaults of the configuration file.
    pub fn new(name: PeerName, asn: PeerAsn) -> Self {
        Self {
            name,
            asn,
            local_as: None,
            families: Families::EVPN,
            local_address: None,
            // RFC 4271 §10.
            hold_time: Duration::from_secs(90),
            port: 179,
            authentication: None,
            send_hold_time: None,
            extended_messages: true,
            max_prefixes: None,
            ttl_security: None,
            allowas_in: 0,
            rt_constraint: true,
            add_path: false,
            route_reflector_client: false,
            shutdown: None,
            graceful_restart: true,
            restart_time: Duration::from_secs(120),
            long_lived_graceful_restart: None,
            unicast_graceful_restart: false,
            checks: UpdateChecks::default(),
            passive: false,
            multihop: None,
            bfd: None,
        }
    }

    /// Our AS in its eyes; `local_asn` is our own.
    pub fn known_asn(&self, local_asn: Asn) -> Asn {
        self.local_as.map_or(local_asn, |local| local.asn)
    }

    /// Whether it is in the AS in which it sees us; `local_asn` is our own.
    pub fn is_internal(&self, local_asn: Asn) -> bool {
        match self.asn {
            PeerAsn::Is(asn) => asn == self.known_asn(local_asn),
            PeerAsn::Internal => true,
            PeerAsn::External => false,
        }
    }

    /// Our address towards it; `None` for the kernel's choice.
    pub fn source(&self, local_asn: Asn, vtep: Ipv4Addr) -> Option<IpAddr> {
        let ipv4 = self.name.address().is_some_and(|address| address.is_ipv4());
        let from_vtep = ipv4 && (self.is_internal(local_asn) || self.multihop.is_some());
        self.local_address
            .or_else(|| from_vtep.then_some(vtep.into()))
    }

    /// How far its BFD session goes, if there is one: as configured, or as far as BGP does. The
    /// session of an internal peer usually joins loopback addresses.
    pub fn bfd_hops(&self, local_asn: Asn) -> Option<Hops> {
        let of_bgp = match (self.ttl_security, self.multihop) {
            _ if self.name.interface().is_some() => Hops::Single,
            (Some(1), _) | (None, Some(1)) => Hops::Single,
            (Some(hops), _) => Hops::Multi(hops),
            (None, Some(_)) => Hops::Multi(u8::MAX),
            (None, None) if self.is_internal(local_asn) => Hops::Multi(u8::MAX),
            (None, None) => Hops::Single,
        };
        self.bfd.map(|bfd| bfd.hops.unwrap_or(of_bgp))
    }
}
