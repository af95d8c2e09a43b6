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
    /// A DHCP message from a VM: the record is a [`DhcpEvent`], `mac` the frame's source.
    DhcpSent = 5,
    /// A DHCP message to one VM, or to several: the record is a [`DhcpEvent`], `slot` the port that
    /// gets it, 0 for all but the sender's, `mac` the frame's destination.
    DhcpDelivered = 6,
}

/// One record of `events`, or the beginning of one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
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
            5 => Some(EventKind::DhcpSent),
            6 => Some(EventKind::DhcpDelivered),
            _ => None,
        }
    }
}

/// One record of `events` with a copy of a DHCP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DhcpEvent {
    /// What it is about.
    pub event: Event,
    /// Slot of the port that sent it, 0 for the overlay.
    pub from: u32,
    /// So many bytes of `packet` are there.
    pub length: u32,
    /// The beginning of the IP packet. What is behind it is anything.
    pub packet: [u8; DhcpEvent::COPY],
}

impl DhcpEvent {
    /// Room for a packet of 576 bytes, which servers do not exceed unless a client lets them (RFC 2131
    /// §2), and over IPv6 one with the same payload.
    pub const COPY: usize = 596;

    /// What was copied.
    pub fn packet(&self) -> &[u8] {
        let length = usize::try_from(self.length).unwrap_or(Self::COPY);
        self.packet.get(..length).unwrap_or(&self.packet)
    }
}

pod!(Event, DhcpEvent);
