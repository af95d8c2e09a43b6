//! Capabilities (RFC 5492).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Reader, reader::WrongLength, writer::with_u8_length};
use crate::types::{Asn, Families};

/// An address family and subsequent address family by IANA number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Family {
    /// AFI.
    pub afi: u16,
    /// SAFI.
    pub safi: u8,
}

impl Family {
    /// L2VPN EVPN (RFC 7432 §7).
    pub const EVPN: Self = Self { afi: 25, safi: 70 };
    /// IPv4 unicast.
    pub const IPV4_UNICAST: Self = Self { afi: 1, safi: 1 };
    /// IPv6 unicast.
    pub const IPV6_UNICAST: Self = Self { afi: 2, safi: 1 };
    /// Route target membership (RFC 4684 §4).
    pub const RTC: Self = Self { afi: 1, safi: 132 };

    /// The unicast family of a prefix.
    pub fn of_prefix(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::IPV4_UNICAST,
            IpNet::V6(_) => Self::IPV6_UNICAST,
        }
    }

    /// The members of a set, EVPN first.
    pub fn all_of(families: Families) -> impl Iterator<Item = Self> {
        [
            (Self::EVPN, families.evpn),
            (Self::IPV4_UNICAST, families.ipv4),
            (Self::IPV6_UNICAST, families.ipv6),
        ]
        .into_iter()
        .filter_map(|(family, there)| there.then_some(family))
    }

    /// Whether it is a member of a set.
    pub fn is_in(self, families: Families) -> bool {
        Self::all_of(families).any(|family| family == self)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WrongLength> {
        Ok(Self {
            afi: reader.u16()?,
            safi: reader.u8()?,
        })
    }

    pub(super) fn encode(self, out: &mut BytesMut) {
        out.put_u16(self.afi);
        out.put_u8(self.safi);
    }
}

/// As configurations have it; numbers for what they have no word for.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EVPN => f.write_str("evpn"),
            Self::IPV4_UNICAST => f.write_str("ipv4"),
            Self::IPV6_UNICAST => f.write_str("ipv6"),
            Self::RTC => f.write_str("route target memberships"),
            Self { afi, safi } => write!(f, "AFI {afi} SAFI {safi}"),
        }
    }
}

/// That of every peer that isn't configured otherwise.
impl Default for Family {
    fn default() -> Self {
        Self::EVPN
    }
}

/// A capability. Lists are as long as the message allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Multiprotocol extensions for a family (RFC 4760 §8).
    Multiprotocol(Family),
    /// Route refresh (RFC 2918 §2); the pre-standard code 128 reads as this one.
    RouteRefresh,
    /// Enhanced route refresh (RFC 7313 §3.1).
    EnhancedRouteRefresh,
    /// Extended message (RFC 8654 §3).
    ExtendedMessage,
    /// Four-octet AS numbers (RFC 6793 §3).
    FourOctetAs(Asn),
    /// Graceful restart (RFC 4724 §3, RFC 8538 §2).
    GracefulRestart(GracefulRestart),
    /// ADD-PATH (RFC 7911 §4).
    AddPath(Vec<AddPath>),
    /// Long-lived graceful restart (RFC 9494 §3.1).
    LongLivedGracefulRestart(Vec<LongLivedFamily>),
    /// Host and domain name, as sent: whoever displays them sanitises them.
    Fqdn {
        /// Host name.
        host: Bytes,
        /// Domain name.
        domain: Bytes,
    },
    /// Extended next hop encoding (RFC 8950 §4).
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// Unknown to this codec, or of a length that its RFC doesn't allow, and therefore without
    /// effect.
    Unknown {
        /// Code.
        code: u8,
        /// Value.
        value: Bytes,
    },
}

/// The graceful restart capability.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R: the speaker has restarted.
    pub restarting: bool,
    /// N: a NOTIFICATION doesn't end the retention of routes (RFC 8538 §2).
    pub notification: bool,
    /// Seconds, 12 bits.
    pub restart_time: u16,
    /// Families and whether their forwarding state was preserved (F).
    pub families: Vec<(Family, bool)>,
}

/// A family of the ADD-PATH capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddPath {
    /// Family.
    pub family: Family,
    /// 1 receive, 2 send, 3 both; another value makes the tuple void.
    pub mode: u8,
}

impl AddPath {
    /// The sender is able to receive several paths.
    pub const RECEIVE: u8 = 1;
    /// It is able to send them.
    pub const SEND: u8 = 2;
    /// Both.
    pub const BOTH: u8 = 3;
}

/// A family of the long-lived graceful restart capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongLivedFamily {
    /// Family.
    pub family: Family,
    /// F: forwarding state was preserved.
    pub forwarding: bool,
    /// Seconds, 24 bits.
    pub stale_time: u32,
}

/// A tuple of the extended next hop capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedNextHop {
    /// AFI of the NLRI.
    pub afi: u16,
    /// SAFI of the NLRI, two octets here.
    pub safi: u16,
    /// AFI of the next hop.
    pub next_hop_afi: u16,
}

const FORWARDING: u8 = 0x80;
const RESTARTING: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;

impl Capability {
    /// `Err` when a capability without which the session can't be interpreted has a wrong length.
    pub(super) fn decode(code: u8, value: &[u8]) -> Result<Self, WrongLength> {
        match Self::decode_known(code, value) {
            Ok(Some(capability)) => Ok(capability),
            Err(WrongLength) if matches!(code, 1 | 65) => Err(WrongLength),
            Ok(None) | Err(WrongLength) => Ok(Self::Unknown {
                code,
                value: Bytes::copy_from_slice(value),
            }),
        }
    }

    fn decode_known(code: u8, value: &[u8]) -> Result<Option<Self>, WrongLength> {
        let mut reader = Reader::new(value);
        let capability = match code {
            1 => {
                let [a, b, _reserved, safi] = reader.array()?;
                let afi = u16::from_be_bytes([a, b]);
                Self::Multiprotocol(Family { afi, safi })
            }
            2 | 128 => Self::RouteRefresh,
            5 => Self::ExtendedNextHop(list(&mut reader, |reader| {
                Ok(ExtendedNextHop {
                    afi: reader.u16()?,
                    safi: reader.u16()?,
                    next_hop_afi: reader.u16()?,
                })
            })?),
            6 => Self::ExtendedMessage,
            64 => {
                let head = reader.u16()?;
                Self::GracefulRestart(GracefulRestart {
                    restarting: head & RESTARTING != 0,
                    notification: head & NOTIFICATION != 0,
                    restart_time: head & 0x0fff,
                    families: list(&mut reader, |reader| {
                        let family = Family::decode(reader)?;
                        Ok((family, reader.u8()? & FORWARDING != 0))
                    })?,
                })
            }
            65 => Self::FourOctetAs(Asn(reader.u32()?)),
            69 => Self::AddPath(list(&mut reader, |reader| {
                Ok(AddPath {
                    family: Family::decode(reader)?,
                    mode: reader.u8()?,
                })
            })?),
            70 => Self::EnhancedRouteRefresh,
            71 => Self::LongLivedGracefulRestart(list(&mut reader, |reader| {
                Ok(LongLivedFamily {
                    family: Family::decode(reader)?,
                    forwarding: reader.u8()? & FORWARDING != 0,
                    stale_time: reader.u24()?,
                })
            })?),
            73 => {
                let mut text = || {
                    let length = reader.u8()?;
                    reader.take(length.into()).map(Bytes::copy_from_slice)
                };
                Self::Fqdn {
                    host: text()?,
                    domain: text()?,
                }
            }
            _ => return Ok(None),
        };
        reader.finish()?;
        Ok(Some(capability))
    }

    /// Code, length and value.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.code());
        with_u8_length(out, |out| match self {
            Self::Multiprotocol(family) => {
                out.put_u16(family.afi);
                out.put_u8(0);
                out.put_u8(family.safi);
            }
            Self::RouteRefresh | Self::EnhancedRouteRefresh | Self::ExtendedMessage => {}
            Self::FourOctetAs(asn) => out.put_u32(asn.0),
            Self::GracefulRestart(restart) => {
                let flag = |set, bit| if set { bit } else { 0 };
                out.put_u16(
                    flag(restart.restarting, RESTARTING)
                        | flag(restart.notification, NOTIFICATION)
                        | restart.restart_time & 0x0fff,
                );
                for &(family, forwarding) in &restart.families {
                    family.encode(out);
                    out.put_u8(if forwarding { FORWARDING } else { 0 });
                }
            }
            Self::AddPath(tuples) => {
                for tuple in tuples {
                    tuple.family.encode(out);
                    out.put_u8(tuple.mode);
                }
            }
            Self::LongLivedGracefulRestart(tuples) => {
                for tuple in tuples {
                    tuple.family.encode(out);
                    out.put_u8(if tuple.forwarding { FORWARDING } else { 0 });
                    out.put_uint(u64::from(tuple.stale_time & 0xff_ffff), 3);
                }
            }
            Self::Fqdn { host, domain } => {
                with_u8_length(out, |out| out.put_slice(host));
                with_u8_length(out, |out| out.put_slice(domain));
            }
            Self::ExtendedNextHop(tuples) => {
                for tuple in tuples {
                    out.put_u16(tuple.afi);
                    out.put_u16(tuple.safi);
                    out.put_u16(tuple.next_hop_afi);
                }
            }
            Self::Unknown { value, .. } => out.put_slice(value),
        });
    }

    /// Capability code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => 1,
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop(_) => 5,
            Self::ExtendedMessage => 6,
            Self::GracefulRestart(_) => 64,
            Self::FourOctetAs(_) => 65,
            Self::AddPath(_) => 69,
            Self::EnhancedRouteRefresh => 70,
            Self::LongLivedGracefulRestart(_) => 71,
            Self::Fqdn { .. } => 73,
            Self::Unknown { code, .. } => *code,
        }
    }
}

fn list<T>(
    reader: &mut Reader<'_>,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, WrongLength>,
) -> Result<Vec<T>, WrongLength> {
    let mut items = Vec::new();
    while !reader.is_empty() {
        items.push(item(reader)?);
    }
    Ok(items)
}
