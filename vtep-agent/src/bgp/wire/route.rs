//! Routes and their keys: EVPN (RFC 7432 §7, RFC 9136 §3), IPv4 and IPv6 unicast (RFC 4271 §4.3,
//! RFC 2545), route target membership (RFC 4684 §4).

use std::{
    fmt,
    hash::{Hash, Hasher},
    mem,
    net::IpAddr,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Family, Membership, nlri};
use crate::types::{Esi, EthernetTag, Mac, RouteDistinguisher};

/// An NLRI; `Display` is that of its key. Labels are the 24 bits of the field, which for VXLAN are
/// the VNI, unshifted (RFC 8365 §5.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route {
    /// Type 1, Ethernet A-D: per ES with [`EthernetTag::MAX`], else per EVI.
    EthernetAd(EthernetAd),
    /// Type 2, MAC/IP advertisement.
    MacIp(MacIp),
    /// Type 3, inclusive multicast Ethernet tag.
    Imet(Imet),
    /// Type 4, Ethernet segment.
    EthernetSegment(EthernetSegment),
    /// Type 5, IP prefix.
    IpPrefix(IpPrefix),
    /// A type that this codec carries and does not interpret.
    Opaque {
        /// Route type.
        route_type: u8,
        /// Everything after the length octet.
        value: Bytes,
    },
    /// A prefix of IPv4 or IPv6 unicast, host bits zero.
    Unicast(ipnet::IpNet),
    /// Route target membership.
    Membership(Membership),
}

/// What tells apart the paths of one peer to one NLRI (RFC 7911 §3). Any number, 0 included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathId(pub u32);

/// Type 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EthernetAd {
    /// RD.
    pub rd: RouteDistinguisher,
    /// Segment; neither 0 nor MAX-ESI.
    pub esi: Esi,
    /// Tag.
    pub tag: EthernetTag,
    /// Label; 0 per ES.
    pub label: u32,
}

/// Type 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacIp {
    /// RD.
    pub rd: RouteDistinguisher,
    /// Segment.
    pub esi: Esi,
    /// Tag.
    pub tag: EthernetTag,
    /// A station's address, or all zero in an unknown MAC route (RFC 9014 §3.5.1).
    pub mac: Mac,
    /// Address, if the route binds one.
    pub ip: Option<IpAddr>,
    /// Label 1: the L2VNI.
    pub label1: u32,
    /// Label 2: the L3VNI (RFC 9135 §5.1).
    pub label2: Option<u32>,
}

/// Type 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imet {
    /// RD.
    pub rd: RouteDistinguisher,
    /// Tag.
    pub tag: EthernetTag,
    /// Originating router's address.
    pub originator: IpAddr,
}

/// Type 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EthernetSegment {
    /// RD.
    pub rd: RouteDistinguisher,
    /// Segment.
    pub esi: Esi,
    /// Originating router's address.
    pub originator: IpAddr,
}

/// Type 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPrefix {
    /// RD.
    pub rd: RouteDistinguisher,
    /// Segment as an overlay index.
    pub esi: Esi,
    /// Tag.
    pub tag: EthernetTag,
    /// Prefix, host bits zero.
    pub prefix: ipnet::IpNet,
    /// Gateway as an overlay index; unspecified for none. Same family as the prefix.
    pub gateway: IpAddr,
    /// Label: the L3VNI.
    pub label: u32,
}

/// What identifies a route in a table of one family: everything in the NLRI that its RFC calls part
/// of the key. `Display` is the form that FRR prints, without the RD.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RouteKey {
    /// Type 1 (RFC 7432 §7.1).
    EthernetAd {
        /// RD.
        rd: RouteDistinguisher,
        /// Segment.
        esi: Esi,
        /// Tag.
        tag: EthernetTag,
    },
    /// Type 2 (RFC 7432 §7.2).
    MacIp {
        /// RD.
        rd: RouteDistinguisher,
        /// Tag.
        tag: EthernetTag,
        /// MAC.
        mac: Mac,
        /// Address.
        ip: Option<IpAddr>,
    },
    /// Type 3 (RFC 7432 §7.3).
    Imet {
        /// RD.
        rd: RouteDistinguisher,
        /// Tag.
        tag: EthernetTag,
        /// Originating router's address.
        originator: IpAddr,
    },
    /// Type 4 (RFC 7432 §7.4).
    EthernetSegment {
        /// RD.
        rd: RouteDistinguisher,
        /// Segment.
        esi: Esi,
        /// Originating router's address.
        originator: IpAddr,
    },
    /// Type 5 (RFC 9136 §3.1).
    IpPrefix {
        /// RD.
        rd: RouteDistinguisher,
        /// Tag.
        tag: EthernetTag,
        /// Prefix.
        prefix: ipnet::IpNet,
    },
    /// The whole value, except what RFC 9251 §9 puts outside the key of types 6 to 8.
    Opaque {
        /// Route type.
        route_type: u8,
        /// What follows the length octet.
        value: Bytes,
    },
    /// A prefix of IPv4 or IPv6 unicast.
    Unicast(ipnet::IpNet),
    /// Route target membership.
    Membership(Membership),
}

impl Route {
    /// Number of its EVPN type; 0, which is reserved, in other families.
    pub fn route_type(&self) -> u8 {
        match self {
            Self::EthernetAd(_) => 1,
            Self::MacIp(_) => 2,
            Self::Imet(_) => 3,
            Self::EthernetSegment(_) => 4,
            Self::IpPrefix(_) => 5,
            Self::Opaque { route_type, .. } => *route_type,
            Self::Unicast(_) | Self::Membership(_) => 0,
        }
    }

    /// The family that it belongs to.
    pub fn family(&self) -> Family {
        match self {
            Self::Unicast(prefix) => Family::of_prefix(prefix),
            Self::Membership(_) => Family::RTC,
            _ => Family::EVPN,
        }
    }

    /// What identifies the route.
    pub fn key(&self) -> RouteKey {
        match *self {
            Self::EthernetAd(EthernetAd { rd, esi, tag, .. }) => {
                RouteKey::EthernetAd { rd, esi, tag }
            }
            Self::MacIp(MacIp {
                rd, tag, mac, ip, ..
            }) => RouteKey::MacIp { rd, tag, mac, ip },
            Self::Imet(Imet {
                rd,
                tag,
                originator,
            }) => RouteKey::Imet {
                rd,
                tag,
                originator,
            },
            Self::EthernetSegment(EthernetSegment {
                rd,
                esi,
                originator,
            }) => RouteKey::EthernetSegment {
                rd,
                esi,
                originator,
            },
            Self::IpPrefix(IpPrefix {
                rd, tag, prefix, ..
            }) => RouteKey::IpPrefix { rd, tag, prefix },
            Self::Opaque {
                route_type,
                ref value,
            } => {
                let end = value.len().saturating_sub(nlri::outside_key(route_type));
                RouteKey::Opaque {
                    route_type,
                    value: value.slice(..end),
                }
            }
            Self::Unicast(prefix) => RouteKey::Unicast(prefix),
            Self::Membership(membership) => RouteKey::Membership(membership),
        }
    }

    /// Whether this is what identifies the route.
    pub fn has_key(&self, key: &RouteKey) -> bool {
        match (self, key) {
            (Self::MacIp(route), RouteKey::MacIp { rd, tag, mac, ip }) => {
                (route.mac, route.rd, route.ip, route.tag) == (*mac, *rd, *ip, *tag)
            }
            _ => self.key() == *key,
        }
    }
}

impl RouteKey {
    /// The family that it belongs to.
    pub fn family(&self) -> Family {
        match self {
            Self::Unicast(prefix) => Family::of_prefix(prefix),
            Self::Membership(_) => Family::RTC,
            _ => Family::EVPN,
        }
    }
}

/// Field by field, but for type 2: nearly all routes are of it, and whole words are hashed several times
/// as fast as single octets.
impl Hash for RouteKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::MacIp { rd, tag, mac, ip } => {
                let [a, b, c, d, e, f] = mac.0;
                state.write_u64(u64::from_ne_bytes(rd.0));
                state.write_u64(u64::from_be_bytes([2, 0, a, b, c, d, e, f]));
                match ip {
                    None => state.write_u64(tag.0.into()),
                    Some(IpAddr::V4(ip)) => {
                        state.write_u64(u64::from(ip.to_bits()) << 32 | u64::from(tag.0));
                    }
                    Some(IpAddr::V6(ip)) => {
                        state.write_u128(ip.to_bits());
                        state.write_u64(tag.0.into());
                    }
                }
                return;
            }
            Self::EthernetAd { rd, esi, tag } => (rd, esi, tag).hash(state),
            Self::Imet {
                rd,
                tag,
                originator,
            } => (rd, tag, originator).hash(state),
            Self::EthernetSegment {
                rd,
                esi,
                originator,
            } => (rd, esi, originator).hash(state),
            Self::IpPrefix { rd, tag, prefix } => (rd, tag, prefix).hash(state),
            Self::Opaque { route_type, value } => (route_type, value).hash(state),
            Self::Unicast(prefix) => prefix.hash(state),
            Self::Membership(membership) => membership.hash(state),
        }
        mem::discriminant(self).hash(state);
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

/// `[2]:[0]:[48]:[02:00:00:00:00:01]:[32]:[192.0.2.10]` and so on; an opaque route as its type and
/// hexadecimal value; a prefix or a membership as such.
impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // FRR's key has room for an address and a fragment, which routes from others lack.
            Self::EthernetAd { esi, tag, .. } => {
                write!(f, "[1]:[{tag}]:[{esi}]:[32]:[0.0.0.0]:[0]")
            }
            Self::MacIp { tag, mac, ip, .. } => {
                write!(f, "[2]:[{tag}]:[48]:[{mac}]")?;
                ip.map_or(Ok(()), |ip| write!(f, ":[{}]:[{ip}]", bits(ip)))
            }
            Self::Imet {
                tag, originator, ..
            } => write!(f, "[3]:[{tag}]:[{}]:[{originator}]", bits(*originator)),
            Self::EthernetSegment {
                esi, originator, ..
            } => write!(f, "[4]:[{esi}]:[{}]:[{originator}]", bits(*originator)),
            Self::IpPrefix { tag, prefix, .. } => {
                write!(
                    f,
                    "[5]:[{tag}]:[{}]:[{}]",
                    prefix.prefix_len(),
                    prefix.addr()
                )
            }
            Self::Opaque { route_type, value } => {
                write!(f, "[{route_type}]:[")?;
                value.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("]")
            }
            Self::Unicast(prefix) => prefix.fmt(f),
            Self::Membership(membership) => membership.fmt(f),
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
