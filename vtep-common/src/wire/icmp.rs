//! "Too big": what a frame that does not fit into the underlay is told (RFC 1191, RFC 8201).

use super::{
    BytesMut, Frame, View,
    checksum::Sum,
    ethernet::{self, ethertype},
    ip::{self, protocol},
    outer,
};

/// Bytes of the refused packet that an ICMP message quotes: the message has 576 bytes then
/// (RFC 1812 §4.3.2.3).
pub const V4_QUOTE: u32 = 576 - 20 - 8;
/// The same for ICMPv6: as much as the minimum MTU allows (RFC 4443 §3.2).
pub const V6_QUOTE: u32 = 1280 - 40 - 8;

/// Least MTU of IPv6 (RFC 8200 §5): no smaller one is ever announced.
const V6_MINIMUM_MTU: u32 = 1280;
/// Hop limit of our messages.
const TTL: u8 = 64;
/// Internetwork control (RFC 1812 §4.3.2.5).
const PRECEDENCE: u8 = 0xc0;

/// Largest inner IP packet that an underlay with this MTU carries.
#[inline(always)]
pub const fn room(mtu: u16) -> u32 {
    (mtu as u32).saturating_sub(outer::LENGTH)
}

/// Length of the IP packet (or other payload) in a frame: of one segment, when segmentation is left
/// to a device (`segment` bytes of payload each, else 0).
#[inline(always)]
pub fn packet_length<F: Frame>(frame: F, ethertype_be: u16, segment: u32) -> u32 {
    if segment == 0 {
        return frame.length().saturating_sub(ethernet::HEADER);
    }
    segment + headers(frame, ethertype_be)
}

/// Length of the IP and transport headers.
#[inline(always)]
fn headers<F: Frame>(frame: F, ethertype_be: u16) -> u32 {
    let Some(packet) = frame.view::<20>(ethernet::HEADER) else {
        return 0;
    };
    let (transport, header) = match ethertype_be {
        ethertype::IPV4 => (packet.u8::<9>(), u32::from(packet.u8::<0>() & 0x0f) << 2),
        ethertype::IPV6 => (packet.u8::<6>(), ip::V6_HEADER),
        _ => return 0,
    };
    let transport = match transport {
        protocol::TCP => match frame.view::<14>(ethernet::HEADER + header) {
            Some(tcp) => u32::from(tcp.u8::<12>() >> 4) << 2,
            None => 0,
        },
        protocol::UDP => 8,
        _ => 0,
    };
    header + transport
}

/// Who gets a message about a refused packet, and what it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// IPv4 with DF.
    V4 {
        /// Its source.
        source_be: u32,
        /// Its destination, which the message seems to come from.
        destination_be: u32,
    },
    /// IPv6. The addresses are still in the frame.
    V6,
}

impl Sender {
    /// `None` when nobody may be told: no IP, no DF, an ICMP error, not the first fragment, or
    /// addresses that are no single host's (RFC 1122 §3.2.2, RFC 4443 §2.4 e).
    #[inline(always)]
    pub fn of<F: Frame>(frame: F, ethertype_be: u16) -> Option<Self> {
        match ethertype_be {
            ethertype::IPV4 => Self::v4(frame),
            ethertype::IPV6 => Self::v6(frame),
            _ => None,
        }
    }

    #[inline(always)]
    fn v4<F: Frame>(frame: F) -> Option<Self> {
        let packet = frame.view::<20>(ethernet::HEADER)?;
        let fragment = packet.u16::<6>();
        let header = u32::from(packet.u8::<0>() & 0x0f) << 2;
        let (source_be, destination_be) = (packet.u32::<12>(), packet.u32::<16>());
        if packet.u8::<0>() & 0xf0 != 0x40
            || fragment & ip::DF == 0
            || fragment & ip::FRAGMENT_OFFSET != 0
            || !is_host(source_be)
            || !is_host(destination_be)
        {
            return None;
        }
        if packet.u8::<9>() == protocol::ICMP {
            let kind = frame.view::<1>(ethernet::HEADER + header)?.u8::<0>();
            // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
            if matches!(kind, 3..=5 | 11 | 12) {
                return None;
            }
        }
        Some(Self::V4 {
            source_be,
            destination_be,
        })
    }

    #[inline(always)]
    fn v6<F: Frame>(frame: F) -> Option<Self> {
        let packet = frame.view::<48>(ethernet::HEADER)?;
        let source =
            packet.u32::<8>() | packet.u32::<12>() | packet.u32::<16>() | packet.u32::<20>();
        if packet.u8::<0>() & 0xf0 != 0x60
            || source == 0
            || packet.u8::<8>() == 0xff
            || packet.u8::<24>() == 0xff
        {
            return None;
        }
        match packet.u8::<6>() {
            // Types below 128 are errors (RFC 4443 §2.1).
            protocol::ICMPV6 if packet.u8::<40>() < 128 => None,
            protocol::FRAGMENT if packet.be16::<42>() & 0xfff8 != 0 => None,
            _ => Some(Self::V6),
        }
    }
}

/// A unicast address that can be one host's.
const fn is_host(address_be: u32) -> bool {
    let first = address_be.to_ne_bytes()[0];
    first != 0 && first != 127 && first < 224
}

/// Writes Ethernet, IPv4 and ICMP headers (type 3, code 4, RFC 1191 §4) in front of the quote.
/// `ethernet` is the refused frame's; `quote` the sum over the [`V4_QUOTE`] bytes.
#[inline(always)]
pub fn write_v4<B: BytesMut>(
    to: View<B, 42>,
    ethernet: &ethernet::Header,
    source_be: u32,
    destination_be: u32,
    mtu: u32,
    quote: Sum,
) {
    write_ethernet(to, ethernet);
    let first = u16::from_ne_bytes([ip::V4_NO_OPTIONS, PRECEDENCE]);
    let length = (ip::V4_HEADER as u16 + 8 + V4_QUOTE as u16).to_be();
    let ttl = u16::from_ne_bytes([TTL, protocol::ICMP]);
    let check = Sum::default()
        .with(first)
        .with(length)
        .with(ip::DF)
        .with(ttl)
        .with(source_be)
        .with(destination_be)
        .checksum();
    to.set_u16::<14>(first);
    to.set_u16::<16>(length);
    to.set_u16::<18>(0);
    to.set_u16::<20>(ip::DF);
    to.set_u16::<22>(ttl);
    to.set_u16::<24>(check);
    to.set_u32::<26>(destination_be);
    to.set_u32::<30>(source_be);

    let message = u16::from_ne_bytes([3, 4]);
    let mtu = mtu.to_be();
    to.set_u16::<34>(message);
    to.set_u16::<36>(quote.with(message).with(mtu).checksum());
    to.set_u32::<38>(mtu);
}

/// Writes Ethernet, IPv6 and ICMPv6 headers (type 2, RFC 4443 §3.2) in front of the quote, which
/// starts with the refused packet's header. `quote` is the sum over the [`V6_QUOTE`] bytes.
#[inline(always)]
pub fn write_v6<B: BytesMut>(to: View<B, 102>, ethernet: &ethernet::Header, mtu: u32, quote: Sum) {
    write_ethernet(to, ethernet);
    let length = 8 + V6_QUOTE as u16;
    to.set_u32::<14>(0x6000_0000_u32.to_be());
    to.set_u16::<18>(length.to_be());
    to.set_u8::<20>(protocol::ICMPV6);
    to.set_u8::<21>(TTL);
    // The quoted source and destination, at 70 and 86, change places.
    to.set_u32::<22>(to.u32::<86>());
    to.set_u32::<26>(to.u32::<90>());
    to.set_u32::<30>(to.u32::<94>());
    to.set_u32::<34>(to.u32::<98>());
    to.set_u32::<38>(to.u32::<70>());
    to.set_u32::<42>(to.u32::<74>());
    to.set_u32::<46>(to.u32::<78>());
    to.set_u32::<50>(to.u32::<82>());
    let message = u16::from_ne_bytes([2, 0]);
    let mtu = if mtu < V6_MINIMUM_MTU {
        V6_MINIMUM_MTU
    } else {
        mtu
    }
    .to_be();
    let check = quote
        .with(to.u32::<70>())
        .with(to.u32::<74>())
        .with(to.u32::<78>())
        .with(to.u32::<82>())
        .with(to.u32::<86>())
        .with(to.u32::<90>())
        .with(to.u32::<94>())
        .with(to.u32::<98>())
        .with(length.to_be())
        .with(u16::from(protocol::ICMPV6).to_be())
        .with(message)
        .with(mtu)
        .checksum();
    to.set_u16::<54>(message);
    to.set_u16::<56>(check);
    to.set_u32::<58>(mtu);
}

/// Back to where the frame came from.
#[inline(always)]
fn write_ethernet<B: BytesMut, const N: usize>(to: View<B, N>, ethernet: &ethernet::Header) {
    to.set_mac::<0, 4>(ethernet.source);
    to.set_mac::<6, 10>(ethernet.destination);
    to.set_u16::<12>(ethernet.ethertype_be);
}
