//! Frames by hand, so that every field can be wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, PacketBuilder};
use vtep_common::Mac;

use crate::rig::{LOCAL, NEIGHBOUR, REMOTE, UPLINK};

/// An outer header with defaults that are right.
#[derive(Clone)]
pub struct Outer {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub tos: u8,
    pub fragment: u16,
    pub port: u16,
    pub udp_checksum: u16,
    pub flags: u8,
    pub reserved: u8,
    pub vni: u32,
}

impl Default for Outer {
    fn default() -> Self {
        Self {
            source: REMOTE,
            destination: LOCAL,
            tos: 0,
            fragment: 0x4000,
            port: 4789,
            udp_checksum: 0,
            flags: 0x08,
            reserved: 0,
            vni: crate::rig::BLUE_VNI,
        }
    }
}

impl Outer {
    /// The frame on the wire: Ethernet, IPv4, UDP, VXLAN and `inner`.
    pub fn wrap(&self, inner: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(50 + inner.len());
        frame.extend(UPLINK.0);
        frame.extend(NEIGHBOUR.0);
        frame.extend([0x08, 0x00]);
        let total = u16::try_from(36 + inner.len()).unwrap();
        let mut ip = vec![0x45, self.tos];
        ip.extend(total.to_be_bytes());
        ip.extend([0x12, 0x34]);
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([64, 17, 0, 0]);
        ip.extend(self.source.octets());
        ip.extend(self.destination.octets());
        let sum = checksum(&ip, 0).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        frame.extend(ip);
        frame.extend(50000u16.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend((total - 20).to_be_bytes());
        frame.extend(self.udp_checksum.to_be_bytes());
        frame.extend([self.flags, self.reserved, self.reserved, self.reserved]);
        frame.extend(&self.vni.to_be_bytes()[1..]);
        frame.push(self.reserved);
        frame.extend(inner);
        frame
    }
}

/// RFC 1071, from a sum so far.
pub fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 UDP frame with a right checksum.
pub fn udp4(source: Mac, destination: Mac, length: usize) -> Vec<u8> {
    build(
        PacketBuilder::ethernet2(source.0, destination.0)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64)
            .udp(1000, 2000),
        &vec![0x5a; length],
    )
}

/// The same with a chosen source port, for flow hashes.
pub fn udp4_from(source: Mac, destination: Mac, port: u16) -> Vec<u8> {
    build(
        PacketBuilder::ethernet2(source.0, destination.0)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64)
            .udp(port, 2000),
        &[0; 32],
    )
}

/// An IPv4 TCP frame.
pub fn tcp4(source: Mac, destination: Mac, length: usize) -> Vec<u8> {
    build(
        PacketBuilder::ethernet2(source.0, destination.0)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64)
            .tcp(1000, 2000, 7, 512),
        &vec![0x5a; length],
    )
}

/// An IPv6 UDP frame.
pub fn udp6(source: Mac, destination: Mac, length: usize) -> Vec<u8> {
    build(
        PacketBuilder::ethernet2(source.0, destination.0)
            .ipv6(ip6(1).octets(), ip6(9).octets(), 64)
            .udp(1000, 2000),
        &vec![0x5a; length],
    )
}

/// `2001:db8::n`
pub fn ip6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)
}

/// Any Ethernet frame.
pub fn ethernet(source: Mac, destination: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [
        &destination.0[..],
        &source.0,
        &ethertype.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// An ARP message in an Ethernet frame.
pub fn arp(
    (source, destination): (Mac, Mac),
    operation: u16,
    (sha, spa): (Mac, Ipv4Addr),
    (tha, tpa): (Mac, Ipv4Addr),
) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4];
    payload.extend(operation.to_be_bytes());
    payload.extend(sha.0);
    payload.extend(spa.octets());
    payload.extend(tha.0);
    payload.extend(tpa.octets());
    ethernet(source, destination, 0x0806, &payload)
}

/// An ICMPv6 message with hop limit 255 and a right checksum.
pub fn icmp6(
    (source, destination): (Mac, Mac),
    (from, to): (Ipv6Addr, Ipv6Addr),
    message: &[u8],
) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let sum = icmp6_checksum(from, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16).to_be_bytes());
    packet.extend([IpNumber::IPV6_ICMP.0, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(message);
    ethernet(source, destination, 0x86dd, &packet)
}

/// Checksum of an ICMPv6 message whose checksum field is zero; of a finished message: 0 when right.
pub fn icmp6_checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut pseudo = [from.octets(), to.octets()].concat();
    pseudo.extend((message.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 58]);
    pseudo.extend(message);
    checksum(&pseudo, 0)
}

/// A neighbour solicitation for `target` with options as given.
pub fn solicitation(target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend(options);
    message
}

/// A neighbour advertisement of `target` with a target link-layer address.
pub fn advertisement(target: Ipv6Addr, flags: u8, mac: Mac) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    message
}

/// `ff02::1:ffxx:xxxx` and its Ethernet address.
pub fn solicited_node(target: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = target.octets();
    let address = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    (address, Mac([0x33, 0x33, 0xff, a, b, c]))
}

trait Write {
    fn write_to(self, out: &mut Vec<u8>, payload: &[u8]);
}

macro_rules! write_step {
    ($($header:ty),*) => {
        $(impl Write for etherparse::PacketBuilderStep<$header> {
            fn write_to(self, out: &mut Vec<u8>, payload: &[u8]) {
                self.write(out, payload).unwrap();
            }
        })*
    };
}
write_step!(etherparse::UdpHeader, etherparse::TcpHeader);

fn build(step: impl Write, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    step.write_to(&mut frame, payload);
    frame
}
