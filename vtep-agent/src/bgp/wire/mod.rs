//! The BGP-4 codec: bytes to typed messages and back, with the error handling of RFC 7606 decided
//! here and nowhere else. No IO, no time.
//!
//! Bytes become a [`Frame`] by [`next_frame`] and a [`Message`] by [`decode`]; each returns the
//! NOTIFICATION to send when the session can't go on. What the session survives is listed as
//! [`Fault`]s beside the message. The other way, [`Message::encode`] writes single messages and
//! [`encode_advertisement`] the UPDATEs of an adj-rib-out difference.
//!
//! [`Route`] is an NLRI with everything that it carries; [`RouteKey`] is the part that
//! identifies it (RFC 7432 §7: ESI and labels are attributes of a route, not part of its key).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod advertisement;
mod as_path;
mod attributes;
mod capability;
mod community;
mod fault;
mod frame;
mod membership;
mod message;
mod multicast;
mod nlri;
mod notification;
mod open;
mod prefix;
mod reader;
mod route;
#[cfg(test)]
mod tests;
mod update;
mod writer;

pub use advertisement::Advertisement;
pub use attributes::{AsPath, AsSegment, Attributes, Origin, PmsiTunnel, RawAttribute, TunnelType};
pub use capability::{
    AddPath, Capability, ExtendedNextHop, Family, GracefulRestart, LongLivedFamily,
};
pub use community::{ArpNd, Encapsulation, ExtCommunity, MacMobility};
pub use fault::{AttributeCode, Cause, Fault, Outcome};
pub use frame::{EXTENDED_MAX_LEN, Frame, HEADER_LEN, MAX_LEN, MessageType, next_frame};
pub use membership::{Membership, TargetPrefix};
pub use message::{Context, Decoded, Message, RouteRefresh, decode, end_of_rib};
pub use notification::Notification;
pub use open::Open;
pub use route::{EthernetAd, EthernetSegment, Imet, IpPrefix, MacIp, PathId, Route, RouteKey};
pub use update::{Identified, Update, encode_advertisement};

use reader::Reader;
