//! Questions as frames: what the owner of an address answers, and nobody learns anything from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vtep_common::abi::PROBE_MAC;

use super::Question;
use crate::types::Mac;

const VLAN: [u8; 2] = [0x81, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
/// Source link-layer address, 8 bytes (RFC 4861 §4.6.1).
const SOURCE_OPTION: [u8; 2] = [1, 1];
const SOLICITATION: u8 = 135;

impl Question {
    /// The frame, tagged for the port's VLAN.
    ///
    /// ARP has no sender address (RFC 5227 §2.1.1): every stack answers such a probe for an address of
    /// its own, to the sender alone, and none puts the sender into its cache. A solicitation without a
    /// source would be answered to all nodes, hence to every VTEP (RFC 4861 §7.2.4); so it has the
    /// link-local address that belongs to [`PROBE_MAC`], as RFC 9161 §3.5 wants it.
    pub fn frame(&self, vlan: Option<u16>) -> Vec<u8> {
        let mut frame = Vec::with_capacity(90);
        let destination = match (self.broadcast, self.ip) {
            (false, _) => self.mac,
            (true, IpAddr::V4(_)) => Mac::BROADCAST,
            (true, IpAddr::V6(ip)) => solicited_mac(ip),
        };
        frame.extend(destination.0);
        frame.extend(PROBE_MAC.0);
        if let Some(vlan) = vlan {
            frame.extend(VLAN);
            frame.extend(vlan.to_be_bytes());
        }
        match self.ip {
            IpAddr::V4(ip) => {
                frame.extend(ARP);
                frame.extend(request(ip));
            }
            IpAddr::V6(ip) => {
                let to = if self.broadcast {
                    solicited_node(ip)
                } else {
                    ip
                };
                frame.extend(IPV6);
                frame.extend(solicitation(ip, to));
            }
        }
        frame
    }
}

fn request(target: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, their lengths, request (RFC 826).
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1];
    message.extend(PROBE_MAC.0);
    message.extend([0; 4]);
    message.extend(Mac::ZERO.0);
    message.extend(target.octets());
    message
}

/// IPv6 header and solicitation (RFC 4861 §4.3).
fn solicitation(target: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend(SOURCE_OPTION);
    message.extend(PROBE_MAC.0);
    let source = link_local();
    let length = message.len() as u16;
    // The pseudo-header (RFC 8200 §8.1), then the message.
    let mut summed = [source.octets(), destination.octets()].concat();
    summed.extend([0, 0]);
    summed.extend(length.to_be_bytes());
    summed.extend([0, 0, 0, ICMPV6]);
    summed.extend(&message);
    let checksum = checksum(&summed);
    message.splice(2..4, checksum.to_be_bytes());

    // Version 6; the hop limit that proves that nobody forwarded it.
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([ICMPV6, 255]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    packet
}

/// The Internet checksum of an even number of bytes (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    let mut sum: u32 = words
        .map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// The link-local address of [`PROBE_MAC`] (RFC 4291 appendix A).
fn link_local() -> Ipv6Addr {
    let [a, b, c, d, e, f] = PROBE_MAC.0;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// RFC 4291 §2.7.1.
fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// RFC 2464 §7.
fn solicited_mac(ip: Ipv6Addr) -> Mac {
    let [.., a, b, c] = ip.octets();
    Mac([0x33, 0x33, 0xff, a, b, c])
}

#[cfg(test)]
mod tests {
    use vtep_common::wire::{arp, nd};

    use super::*;
    use crate::evpn::Slot;

    fn question(ip: &str, broadcast: bool) -> Question {
        Question {
            slot: Slot(1),
            mac: Mac([2, 0, 0, 0, 0, 9]),
            ip: ip.parse().unwrap(),
            broadcast,
        }
    }

    #[test]
    fn arp() {
        let frame = question("10.0.0.9", false).frame(None);
        assert_eq!(frame.len(), arp::FRAME);
        assert_eq!(frame[..6], [2, 0, 0, 0, 0, 9]);
        let message = arp::Message::parse(&frame[..]).unwrap();
        assert!(message.is_question() && !message.binds());
        assert_eq!(message.target_be, u32::from_ne_bytes([10, 0, 0, 9]));
        let frame = question("10.0.0.9", true).frame(Some(10));
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[12..18], [0x81, 0, 0, 10, 8, 6]);
    }

    #[test]
    fn nd() {
        let frame = question("fd00::1:2:3", true).frame(None);
        assert_eq!(frame.len(), nd::FRAME);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 2, 0, 3]);
        let message = nd::Solicitation::parse(&frame[..]).unwrap();
        assert_eq!(message.asker, PROBE_MAC.to_bits());
        // With its checksum in place, the sum over everything is all ones.
        let message = &frame[54..];
        let mut summed = frame[22..54].to_vec();
        summed.extend([0, 0, 0, message.len() as u8, 0, 0, 0, ICMPV6]);
        summed.extend(message);
        assert_eq!(checksum(&summed), 0);
        let alone = question("fd00::1:2:3", false).frame(None);
        assert_eq!(alone[..6], [2, 0, 0, 0, 0, 9]);
        assert_eq!(
            alone[38..54],
            "fd00::1:2:3".parse::<Ipv6Addr>().unwrap().octets()
        );
    }
}
