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

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::wire::testing::{
        LOCAL, REMOTE, icmpv6_checksum_is_valid, ipv4_checksum, ipv4_frame,
    };

    fn udp(length: usize) -> Vec<u8> {
        ipv4_frame(REMOTE, LOCAL, 0, protocol::UDP, &vec![0x5a; length])
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = udp(0);
        frame.truncate(12);
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 5, 200, next, 64]);
        frame.extend([0xfd; 15]);
        frame.push(1);
        frame.extend([0xfd; 15]);
        frame.push(2);
        frame.extend(payload);
        frame
    }

    fn sum(bytes: &[u8]) -> Sum {
        bytes.chunks(2).fold(Sum::default(), |sum, pair| {
            sum.with(u16::from_ne_bytes([pair[0], pair[1]]))
        })
    }

    #[test]
    fn lengths() {
        assert_eq!(packet_length(&udp(100)[..], ethertype::IPV4, 0), 120);
        assert_eq!(
            packet_length(&udp(3000)[..], ethertype::IPV4, 1000),
            20 + 8 + 1000
        );
        let mut tcp = vec![0; 32];
        tcp[12] = 8 << 4;
        let frame = ipv4_frame(REMOTE, LOCAL, 0, protocol::TCP, &tcp);
        assert_eq!(
            packet_length(&frame[..], ethertype::IPV4, 1448),
            20 + 32 + 1448
        );
        let frame = v6(protocol::TCP, &tcp);
        assert_eq!(
            packet_length(&frame[..], ethertype::IPV6, 1428),
            40 + 32 + 1428
        );
        assert_eq!((room(1500), room(20)), (1450, 0));
    }

    #[test]
    fn who_is_told() {
        let told = |change: fn(&mut Vec<u8>)| {
            let mut frame = udp(600);
            change(&mut frame);
            Sender::of(&frame[..], ethertype::IPV4).is_some()
        };
        assert!(told(|_| {}));
        assert!(!told(|frame| frame[20] = 0), "no DF");
        assert!(!told(|frame| frame[21] = 1), "not the first fragment");
        assert!(!told(|frame| frame[26..30].fill(0)), "no source");
        assert!(!told(|frame| frame[30] = 224), "multicast");
        assert!(
            !told(|frame| (frame[23], frame[34]) = (1, 3)),
            "an ICMP error (RFC 1122 §3.2.2)"
        );
        assert!(
            told(|frame| (frame[23], frame[34]) = (1, 8)),
            "an echo request"
        );
        assert_eq!(Sender::of(&udp(600)[..], ethertype::ARP), None);

        let told = |frame: Vec<u8>| Sender::of(&frame[..], ethertype::IPV6).is_some();
        assert!(told(v6(protocol::UDP, &[0; 600])));
        assert!(told(v6(protocol::ICMPV6, &[128; 600])));
        assert!(
            !told(v6(protocol::ICMPV6, &[2; 600])),
            "an ICMPv6 error (RFC 4443 §2.4 e)"
        );
        assert!(told(v6(protocol::FRAGMENT, &[0; 600])), "a first fragment");
        assert!(!told(v6(protocol::FRAGMENT, &[1; 600])));
    }

    #[test]
    fn v4_message() {
        let refused = udp(1480);
        let header = ethernet::Header::read((&refused[..]).view::<14>(0).unwrap());
        let quote = &refused[14..14 + V4_QUOTE as usize];
        let mut frame = vec![0; 42];
        frame.extend(quote);
        let (source, destination) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let cells = Cell::from_mut(&mut frame[..]).as_slice_of_cells();
        write_v4(
            cells.view(0).unwrap(),
            &header,
            u32::from_ne_bytes(source),
            u32::from_ne_bytes(destination),
            1450,
            sum(quote),
        );
        assert_eq!((&frame[..6], &frame[6..12]), (&LOCAL.0[..], &REMOTE.0[..]));
        assert_eq!(
            (&frame[26..30], &frame[30..34]),
            (&destination[..], &source[..])
        );
        assert_eq!(frame[16..18], 576_u16.to_be_bytes());
        assert_eq!(frame[24..26], ipv4_checksum(&frame[14..34]));
        assert_eq!((frame[34], frame[35]), (3, 4));
        assert_eq!(
            frame[38..42],
            [0, 0, 0x05, 0xaa],
            "next-hop MTU, RFC 1191 §4"
        );
        assert_eq!(sum(&frame[34..]).fold(), 0xffff);
    }

    #[test]
    fn v6_message() {
        let refused = v6(protocol::UDP, &[0x5a; 1480]);
        let header = ethernet::Header::read((&refused[..]).view::<14>(0).unwrap());
        let quote = &refused[14..14 + V6_QUOTE as usize];
        for (mtu, want) in [(1450, 1450_u32), (1000, 1280)] {
            let mut frame = vec![0; 62];
            frame.extend(quote);
            let cells = Cell::from_mut(&mut frame[..]).as_slice_of_cells();
            write_v6(cells.view(0).unwrap(), &header, mtu, sum(quote));
            assert_eq!(frame[22..38], refused[38..54]);
            assert_eq!(frame[38..54], refused[22..38]);
            assert_eq!((frame[54], frame[55]), (2, 0));
            assert_eq!(frame[58..62], want.to_be_bytes());
            assert_eq!(frame.len(), 14 + 1280);
            assert!(icmpv6_checksum_is_valid(&frame));
        }
    }
}
