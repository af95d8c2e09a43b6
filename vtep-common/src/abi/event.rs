//! What the datapath tells the agent through the ring buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BdRef, pod};
use crate::Mac;

/// Size of the ring buffer `events`, bytes.
pub const EVENT_RING_BYTES: u32 = 1 << 20;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// A source MAC that the FDB does not have on this port.
    Mac = 1,
    /// The sender of an ARP message: `mac` and an IPv4 address (RFC 826; RFC 9161 §3.2).
    Arp = 2,
    /// The target of a neighbour advertisement: `mac` and an IPv6 address (RFC 4861 §4.4; never from
    /// a solicitation, RFC 9161 §3.2).
    Na = 3,
    /// A RARP request, as hypervisors send for a VM that has just moved.
    Rarp = 4,
}

/// One record of `events`. Only frames that came from a port cause one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Event {
    /// [`EventKind`] as a number.
    pub kind: u8,
    /// For `Na`: the advertisement's flags, R 0x80, S 0x40, O 0x20 (RFC 4861 §4.4). Otherwise 0.
    pub flags: u8,
    /// VLAN identifier on the port, 0 for untagged.
    pub vlan: u16,
    /// The port's slot.
    pub slot: u32,
    /// The bridge domain.
    pub bd: BdRef,
    /// The address that was seen. For `Arp` and `Na` the one in the message.
    pub mac: Mac,
    /// Zero.
    pub reserved: u16,
    /// For `Arp` and `Na`: IPv6, or IPv4 mapped into it, in wire order. Otherwise zero.
    pub ip: [u8; 16],
}

impl Event {
    /// The kind, or `None` from a newer datapath.
    pub const fn kind(&self) -> Option<EventKind> {
        match self.kind {
            1 => Some(EventKind::Mac),
            2 => Some(EventKind::Arp),
            3 => Some(EventKind::Na),
            4 => Some(EventKind::Rarp),
            _ => None,
        }
    }
}

pod!(Event);
