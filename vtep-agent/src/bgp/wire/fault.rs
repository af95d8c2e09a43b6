//! What is wrong with an UPDATE, and what RFC 7606 makes of it.

use std::{fmt, net::IpAddr};

use bytes::Bytes;
use ipnet::IpNet;

use super::Notification;
use crate::types::{Asn, Esi, Mac};

/// An error in an UPDATE that the session survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was done about it.
    pub outcome: Outcome,
    /// What is wrong.
    pub cause: Cause,
    /// The offending attribute or NLRI, as received.
    pub bytes: Bytes,
}

/// `TUNNEL_ENCAP: malformed, treat-as-withdraw, c01700`: a log line with the hex dump that
/// RFC 7606 §6 asks for.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, ", self.cause, self.outcome)?;
        self.bytes
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Error handling short of a reset (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The attribute was ignored.
    AttributeDiscard,
    /// One NLRI was ignored: it doesn't say which route it means.
    NlriDiscard,
    /// The affected routes are in [`Update::withdrawn`](super::Update::withdrawn).
    TreatAsWithdraw,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [
        Self::AttributeDiscard,
        Self::NlriDiscard,
        Self::TreatAsWithdraw,
    ];

    /// Stable name in lower case with underscores, as metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttributeDiscard => "attribute_discard",
            Self::NlriDiscard => "nlri_discard",
            Self::TreatAsWithdraw => "treat_as_withdraw",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AttributeDiscard => "attribute discard",
            Self::NlriDiscard => "NLRI discard",
            Self::TreatAsWithdraw => "treat-as-withdraw",
        })
    }
}

/// An attribute's type code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeCode(pub u8);

impl AttributeCode {
    /// The name of the IANA registry, or `None` when this codec doesn't know the attribute.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "ORIGIN",
            2 => "AS_PATH",
            3 => "NEXT_HOP",
            4 => "MULTI_EXIT_DISC",
            5 => "LOCAL_PREF",
            6 => "ATOMIC_AGGREGATE",
            7 => "AGGREGATOR",
            8 => "COMMUNITIES",
            9 => "ORIGINATOR_ID",
            10 => "CLUSTER_LIST",
            14 => "MP_REACH_NLRI",
            15 => "MP_UNREACH_NLRI",
            16 => "EXTENDED_COMMUNITIES",
            17 => "AS4_PATH",
            18 => "AS4_AGGREGATOR",
            22 => "PMSI_TUNNEL",
            23 => "TUNNEL_ENCAP",
            25 => "IPV6_EXTENDED_COMMUNITIES",
            32 => "LARGE_COMMUNITY",
            _ => return None,
        })
    }
}

impl fmt::Display for AttributeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute {}", self.0),
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message says it")]
pub enum Cause {
    #[error("attributes overrun their total length")]
    AttributesOverrun,
    #[error("{0} appears again")]
    Duplicate(AttributeCode),
    #[error("{code} has flags {flags:#04x}")]
    Flags { code: AttributeCode, flags: u8 },
    #[error("{code} has {length} octets")]
    Length { code: AttributeCode, length: usize },
    #[error("{0} is malformed")]
    Malformed(AttributeCode),
    #[error("{0} is missing")]
    Missing(AttributeCode),
    #[error("{0} is not for this kind of session")]
    NotForSession(AttributeCode),
    #[error("well-known {0} is not recognized")]
    Unrecognized(AttributeCode),
    #[error("ORIGIN has value {0}")]
    Origin(u8),
    #[error("{0} contains AS 0")]
    AsZero(AttributeCode),
    #[error("AS_PATH or AS4_PATH contains an AS set")]
    AsSet,
    #[error("AS_PATH contains a confederation segment from an external peer")]
    ConfederationSegment,
    #[error("AS_PATH doesn't begin with AS {0}")]
    FirstAs(Asn),
    #[error("next hop {0} is no unicast address")]
    NextHop(IpAddr),
    #[error("EVPN route type {route_type} has {length} octets")]
    RouteLength { route_type: u8, length: usize },
    #[error("EVPN route has a MAC address of {0} bits")]
    MacLength(u8),
    #[error("EVPN route has an IP address of {0} bits")]
    IpLength(u8),
    #[error("EVPN route has a prefix of {0} bits")]
    PrefixLength(u8),
    #[error("EVPN route has MAC address {0}")]
    Mac(Mac),
    #[error("EVPN route has IP address {0}")]
    Ip(IpAddr),
    #[error("Ethernet A-D route has ESI {0}")]
    Esi(Esi),
    #[error("Ethernet A-D per ES route has a split horizon type that its encapsulation excludes")]
    SplitHorizon,
    #[error("IP prefix route has two overlay indices")]
    TwoOverlayIndices,
    #[error("IP prefix route has neither label nor overlay index")]
    NoLabel,
    #[error("IP prefix route has router's MAC {0}")]
    RouterMac(Mac),
    #[error("multicast synch route has {0} EVI-RT communities instead of one")]
    EviTargets(usize),
    #[error("multicast route has flags {0:#04x}, which name no version of its protocol")]
    MulticastFlags(u8),
    #[error("{0} is no unicast prefix")]
    Prefix(IpNet),
    #[error("route target membership has {0} bits")]
    MembershipLength(u8),
}

impl Cause {
    /// The NOTIFICATION for the case in which the session can't go on (RFC 4271 §6.3), with the
    /// offending attribute as data.
    pub(super) fn notification(&self, attribute: &[u8]) -> Notification {
        let subcode = match self {
            Self::AttributesOverrun | Self::Duplicate(_) => 1,
            Self::Unrecognized(_) => 2,
            Self::Missing(code) => return Notification::with_data(3, 3, &[code.0]),
            Self::Flags { .. } => 4,
            Self::Length { code, .. } if is_optional(*code) => 9,
            Self::Length { .. } => 5,
            Self::Origin(_) => 6,
            Self::NextHop(_) => 8,
            Self::AsSet | Self::ConfederationSegment | Self::FirstAs(_) => 11,
            Self::Malformed(AttributeCode(2)) | Self::AsZero(AttributeCode(2)) => 11,
            _ => 9,
        };
        match subcode {
            1 | 11 => Notification::new(3, subcode),
            _ => Notification::with_data(3, subcode, attribute),
        }
    }
}

/// Optional attributes have no error subcode for their length (RFC 4271 §6.3).
fn is_optional(code: AttributeCode) -> bool {
    !matches!(code.0, 1..=3 | 5 | 6)
}
