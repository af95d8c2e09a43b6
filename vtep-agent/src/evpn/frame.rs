//! Frames that the agent sends to VMs, from the outside in.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::types::Mac;

const VLAN: [u8; 2] = [0x81, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;

/// Addresses, and the tag of the port's VLAN if it has one. The Ethertype comes with what follows.
pub(super) fn ethernet(destination: Mac, source: Mac, vlan: Option<u16>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(90);
    frame.extend(destination.0);
    frame.extend(source.0);
    if let Some(vlan) = vlan {
        frame.extend(VLAN);
        frame.extend(vlan.to_be_bytes());
    }
    frame
}

/// Ethertype and ARP request (RFC 826).
pub(super) fn arp_request((mac, ip): (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut message = ARP.to_vec();
    // Ethernet, IPv4, their lengths, request.
    message.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    message.extend(mac.0);
    message.extend(ip.octets());
    message.extend(Mac::ZERO.0);
    message.extend(target.octets());
    message
}

/// Ethertype, IPv6 header and ICMPv6 message, whose checksum is filled in. The hop limit proves that
/// nobody forwarded it (RFC 4861 §7.1).
pub(super) fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = (message.len() as u16).to_be_bytes();
    let addresses = [source.octets(), destination.octets()].concat();
    let checksum = checksum(&addresses, &message);
    message.splice(2..4, checksum.to_be_bytes());

    let mut packet = IPV6.to_vec();
    packet.extend([0x60, 0, 0, 0]);
    packet.extend(length);
    packet.extend([ICMPV6, 255]);
    packet.extend(addresses);
    packet.extend(message);
    packet
}

/// The Internet checksum (RFC 1071) of the pseudo-header (RFC 8200 §8.1) and a message of an even
/// number of bytes.
fn checksum(addresses: &[u8], message: &[u8]) -> u16 {
    let [high, low] = (message.len() as u16).to_be_bytes();
    let mut summed = addresses.to_vec();
    summed.extend([0, 0, high, low, 0, 0, 0, ICMPV6]);
    summed.extend(message);
    let words = summed.chunks_exact(2);
    let mut sum: u32 = words
        .map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// With the checksum in place, the sum over everything is all ones.
#[cfg(test)]
pub(super) fn checksum_is_right(untagged: &[u8]) -> bool {
    checksum(&untagged[22..54], &untagged[54..]) == 0
}
