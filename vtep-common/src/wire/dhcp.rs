//! DHCP as far as it says who has which address: DHCPv4 (RFC 2131, with BOOTP, RFC 951) and DHCPv6
//! (RFC 8415).
//!
//! The kernel half knows such messages by their ports ([`is_to_server`], [`is_to_client`]) and hands
//! a copy of the packet to the agent, which reads it ([`Message::parse`]). Forwarding never depends on
//! what is in it.

mod options;
#[cfg(test)]
mod tests;
mod v4;
mod v6;

use core::net::IpAddr;

use super::{
    Frame,
    ethernet::{self, ethertype},
    ip::protocol,
};
use crate::Mac;

/// UDP ports (RFC 2131 §4.1, RFC 8415 §7.2), source and destination as one word.
const V4_TO_SERVER: u32 = 68 << 16 | 67;
const V4_TO_CLIENT: u32 = 67 << 16 | 68;
const V6_TO_SERVER: u32 = 546 << 16 | 547;
const V6_TO_CLIENT: u32 = 547 << 16 | 546;

/// The untagged frame goes from a client's port to a server's.
#[inline(always)]
pub fn is_to_server<F: Frame>(frame: F, ethertype_be: u16) -> bool {
    has_ports(frame, ethertype_be, V4_TO_SERVER, V6_TO_SERVER)
}

/// The untagged frame goes from a server's port to a client's. What a relay agent gets does not, nor
/// what comes from a port that a server guard does not know ([`guard::serves`](super::guard::serves)).
#[inline(always)]
pub fn is_to_client<F: Frame>(frame: F, ethertype_be: u16) -> bool {
    has_ports(frame, ethertype_be, V4_TO_CLIENT, V6_TO_CLIENT)
}

/// The ports of a UDP packet over IPv4 are those of a message to a client.
#[inline(always)]
pub(super) const fn is_v4_to_client(ports_be: u32) -> bool {
    ports_be == V4_TO_CLIENT.to_be()
}

/// The same over IPv6.
#[inline(always)]
pub(super) const fn is_v6_to_client(ports_be: u32) -> bool {
    ports_be == V6_TO_CLIENT.to_be()
}

/// Later fragments may be taken for what they are not: whoever reads the packet refuses fragments.
/// IPv4 options and IPv6 extension headers, which no DHCP message has, are not looked behind.
#[inline(always)]
fn has_ports<F: Frame>(frame: F, ethertype_be: u16, v4: u32, v6: u32) -> bool {
    match ethertype_be {
        ethertype::IPV4 => match frame.view::<38>(0) {
            Some(packet) => packet.u8::<23>() == protocol::UDP && packet.u32::<34>() == v4.to_be(),
            None => false,
        },
        ethertype::IPV6 => match frame.view::<{ HEADERS as usize }>(0) {
            Some(packet) => match packet.u8::<20>() {
                protocol::UDP => packet.u32::<54>() == v6.to_be(),
                protocol::FRAGMENT => packet.u32::<62>() == v6.to_be(),
                _ => false,
            },
            None => false,
        },
        _ => false,
    }
}

/// What is looked at: Ethernet, IPv6, and a fragment header with ports behind it.
pub const HEADERS: u32 = ethernet::HEADER + 40 + 12;

/// What a message means for addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// DHCPv6.
    pub v6: bool,
    /// The client's transaction identifier: 32 bits, in DHCPv6 24.
    pub transaction: u32,
    /// The client's MAC (`chaddr`); DHCPv6 does not say it.
    pub client: Option<Mac>,
    /// What it says.
    pub kind: Kind,
    /// Of which addresses; of a [`Kind::Request`] or [`Kind::Other`] none.
    pub leases: Leases,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client asks for addresses, or for those that it has to stay: DISCOVER, REQUEST, a BOOTP
    /// request; Solicit, Request, Confirm, Renew, Rebind.
    Request,
    /// A client gives addresses back: RELEASE; Release.
    Release,
    /// A client found that somebody else has the addresses: DECLINE; Decline.
    Decline,
    /// A server's last word: ACK or a BOOTP reply; Reply. Perhaps without any address.
    Reply,
    /// Nothing about addresses that are in use, or not for the client.
    Other,
}

/// An address and how long it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Seconds; 0: not any more. `None`: without an end, or without a lease (BOOTP).
    pub seconds: Option<u32>,
}

/// The addresses of one message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Leases {
    all: [Option<Lease>; Self::MOST],
    length: usize,
}

/// Why nothing can be taken from a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A fragment.
    Fragment,
    /// The copy of the packet ends before what matters.
    Cut,
    /// Lengths that contradict each other, options of wrong length or said twice, not over Ethernet.
    Malformed,
    /// An ACK with an address and without a lease time (RFC 2131 §4.3.1).
    NoLease,
}

impl Message {
    /// Reads an IP packet, of which only the beginning may be there. Checksums are not verified:
    /// between VMs of one host they may not have been computed yet.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn parse(packet: &[u8]) -> Result<Self, Fault> {
        match packet.first().ok_or(Fault::Malformed)? >> 4 {
            4 => v4::parse(packet),
            6 => v6::parse(packet),
            _ => Err(Fault::Malformed),
        }
    }
}

impl Leases {
    /// More than fit into a datagram that every host takes.
    const MOST: usize = 24;
    /// None.
    pub const NONE: Self = Self {
        all: [None; Self::MOST],
        length: 0,
    };

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Lease> {
        self.all.iter().copied().flatten()
    }

    /// There are none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn one(address: IpAddr, seconds: Option<u32>) -> Self {
        let mut leases = Self::NONE;
        leases.all[0] = Some(Lease { address, seconds });
        leases.length = 1;
        leases
    }

    fn push(&mut self, lease: Lease) -> Result<(), Fault> {
        let place = self.all.get_mut(self.length).ok_or(Fault::Malformed)?;
        *place = Some(lease);
        self.length += 1;
        Ok(())
    }

    fn append(&mut self, more: &Self) -> Result<(), Fault> {
        more.iter().try_for_each(|lease| self.push(lease))
    }
}

impl core::fmt::Debug for Leases {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Every lease time has this meaning of all ones (RFC 2131 §3.3, RFC 8415 §7.7).
fn seconds(lease: u32) -> Option<u32> {
    (lease != u32::MAX).then_some(lease)
}

/// A datagram: as much of it as there is.
struct Datagram<'a> {
    payload: &'a [u8],
    /// More of it was sent.
    cut: bool,
}

impl<'a> Datagram<'a> {
    /// Of UDP at `at` in a packet of which `total` bytes were sent.
    fn new(packet: &'a [u8], at: usize, total: usize) -> Result<Self, Fault> {
        const HEADER: usize = 8;
        let length = word(packet, at + 4)?;
        if length < HEADER || at + length > total {
            return Err(Fault::Malformed);
        }
        let end = at + length;
        let payload = packet.get(at + HEADER..end.min(packet.len()));
        Ok(Self {
            payload: payload.ok_or(Fault::Malformed)?,
            cut: packet.len() < end,
        })
    }
}

/// Two bytes in wire order, as a length or a code.
fn word(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    array(bytes, at).map(|word| usize::from(u16::from_be_bytes(word)))
}

/// Four bytes in wire order.
fn long(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// `N` bytes.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Fault> {
    bytes
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .copied()
        .ok_or(Fault::Malformed)
}
