//! Path attributes as values.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Encapsulation, ExtCommunity, MacMobility, Reader};
use crate::types::{Asn, Mac, RouteTarget};

/// Type code of the tunnel encapsulation attribute (RFC 9012 §2), which is in
/// [`Attributes::other`].
const TUNNEL_ENCAP: u8 = 23;

/// The path attributes of one UPDATE (RFC 4271 §5, RFC 4760), in the form in which they are compared
/// and sent on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, four-octet.
    pub as_path: AsPath,
    /// Next hop of MP_REACH_NLRI, for EVPN routes the remote VTEP; or NEXT_HOP.
    pub next_hop: IpAddr,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ORIGINATOR_ID (RFC 4456 §8).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456 §8).
    pub cluster_list: Vec<Ipv4Addr>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<u32>,
    /// EXTENDED COMMUNITIES (RFC 4360), in order.
    pub ext_communities: Vec<ExtCommunity>,
    /// PMSI_TUNNEL (RFC 6514 §5).
    pub pmsi: Option<PmsiTunnel>,
    /// Attributes that this codec checks and passes on without interpreting them, by type code:
    /// ATOMIC_AGGREGATE, AGGREGATOR (eight octets here, whatever the session's AS numbers), and
    /// optional transitive ones; those that it doesn't know have the Partial bit (RFC 4271 §5).
    pub other: Vec<RawAttribute>,
}

impl Attributes {
    /// A route of our own: ORIGIN IGP, empty AS_PATH.
    pub fn originated(next_hop: IpAddr) -> Self {
        Self {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop,
            med: None,
            local_pref: None,
            originator_id: None,
            cluster_list: Vec::new(),
            communities: Vec::new(),
            ext_communities: Vec::new(),
            pmsi: None,
            other: Vec::new(),
        }
    }

    /// Route targets, in order.
    pub fn route_targets(&self) -> impl Iterator<Item = RouteTarget> {
        self.ext_communities
            .iter()
            .filter_map(|community| community.route_target())
    }

    /// Tunnel types that the endpoint accepts: from Encapsulation communities, and from tunnel TLVs
    /// without sub-TLVs, which say the same (RFC 9012 §4.1).
    pub fn tunnels(&self) -> impl Iterator<Item = Encapsulation> {
        let communities = self.ext_communities.iter();
        let attributes = self.other.iter().filter(|raw| raw.code == TUNNEL_ENCAP);
        communities
            .filter_map(|community| community.tunnel())
            .chain(attributes.flat_map(|raw| barebones_tunnels(&raw.value)))
    }

    /// The router's MAC (RFC 9135 §8.1).
    pub fn router_mac(&self) -> Option<Mac> {
        self.ext_communities
            .iter()
            .find_map(|community| community.router_mac())
    }

    /// MAC mobility (RFC 7432 §7.7); `None` without the community, which means sequence 0.
    pub fn mac_mobility(&self) -> Option<MacMobility> {
        self.ext_communities
            .iter()
            .find_map(|community| community.mac_mobility())
    }
}

fn barebones_tunnels(value: &[u8]) -> impl Iterator<Item = Encapsulation> {
    let mut reader = Reader::new(value);
    std::iter::from_fn(move || {
        let tunnel = reader.u16().ok()?;
        let length = reader.u16().ok()?;
        reader.take(length.into()).ok()?;
        Some((Encapsulation(tunnel), length))
    })
    .filter_map(|(tunnel, length)| (length == 0).then_some(tunnel))
}

/// ORIGIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Origin {
    /// 0
    Igp = 0,
    /// 1
    Egp = 1,
    /// 2
    Incomplete = 2,
}

/// AS_PATH.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AsPath(pub Vec<AsSegment>);

/// A segment of an AS_PATH, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AsSegment {
    /// AS_SEQUENCE.
    Sequence(Vec<Asn>),
    /// AS_SET.
    Set(Vec<Asn>),
    /// AS_CONFED_SEQUENCE (RFC 5065).
    ConfedSequence(Vec<Asn>),
    /// AS_CONFED_SET.
    ConfedSet(Vec<Asn>),
}

/// PMSI_TUNNEL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PmsiTunnel {
    /// Flags (RFC 7902, RFC 9574 §4).
    pub flags: u8,
    /// Tunnel type.
    pub tunnel_type: TunnelType,
    /// The 24-bit label: the VNI.
    pub label: u32,
    /// Tunnel identifier: for ingress replication the endpoint's 4 or 16 octets.
    pub identifier: Bytes,
}

/// PMSI tunnel type by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TunnelType(pub u8);

impl PmsiTunnel {
    /// Flag L: leaf information required.
    pub const LEAF_INFORMATION: u8 = 0x01;
    /// Flag U: leave the sender out of lists for unknown unicast.
    pub const PRUNE_UNKNOWN: u8 = 0x02;
    /// Flag BM: leave the sender out of lists for broadcast and multicast.
    pub const PRUNE_BROADCAST: u8 = 0x04;
    /// Type 1 of the two-bit field T.
    pub const AR_REPLICATOR: u8 = 0x08;
    /// Type 2.
    pub const AR_LEAF: u8 = 0x10;
    /// The whole field T. All of it set is reserved, and means neither (RFC 9574 §4).
    pub const AR_TYPE: u8 = 0x18;

    /// These flags are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// It is that of an AR-REPLICATOR, to which leaves send what it copies to all others.
    pub fn is_replicator(&self) -> bool {
        self.tunnel_type == TunnelType::ASSISTED_REPLICATION
            && self.flags & Self::AR_TYPE == Self::AR_REPLICATOR
    }
}

impl TunnelType {
    /// Ingress replication (RFC 6514 §5).
    pub const INGRESS_REPLICATION: Self = Self(6);
    /// Assisted replication (RFC 9574 §4).
    pub const ASSISTED_REPLICATION: Self = Self(0x0a);
}

/// An attribute that is carried as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawAttribute {
    /// Attribute flags: Optional, Transitive and Partial.
    pub flags: u8,
    /// Attribute type code.
    pub code: u8,
    /// Value.
    pub value: Bytes,
}
