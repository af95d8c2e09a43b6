//! DHCP messages, as IP packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::types::Mac;

pub(super) const DISCOVER: u8 = 1;
pub(super) const REQUEST: u8 = 3;
pub(super) const DECLINE: u8 = 4;
pub(super) const ACK: u8 = 5;
pub(super) const RELEASE: u8 = 7;

/// A DHCPv4 message. `ip` is where messages of its kind have it.
pub(super) fn v4(kind: u8, xid: u32, client: Mac, ip: Ipv4Addr, lease: Option<u32>) -> Vec<u8> {
    let reply = kind == ACK;
    let mut message = vec![if reply { 2 } else { 1 }, 1, 6, 0];
    message.extend(xid.to_be_bytes());
    message.resize(28, 0);
    match kind {
        ACK => message[16..20].copy_from_slice(&ip.octets()),
        RELEASE => message[12..16].copy_from_slice(&ip.octets()),
        _ => {}
    }
    message.extend(client.0);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
    message.extend(lease.iter().flat_map(|lease| {
        let [a, b, c, d] = lease.to_be_bytes();
        [51, 4, a, b, c, d]
    }));
    if kind == DECLINE {
        message.extend([50, 4]);
        message.extend(ip.octets());
    }
    message.push(255);
    let length = message.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((28 + length).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    packet.extend(if reply {
        [0, 67, 0, 68]
    } else {
        [0, 68, 0, 67]
    });
    packet.extend((8 + length).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(message);
    packet
}

/// A DHCPv6 message with one address.
pub(super) fn v6(kind: u8, transaction: u8, ip: &str, valid: u32) -> Vec<u8> {
    let ip: Ipv6Addr = ip.parse().unwrap();
    let mut message = vec![kind, 0, 0, transaction, 0, 3, 0, 40];
    message.extend([0; 12]);
    message.extend([0, 5, 0, 24]);
    message.extend(ip.octets());
    message.extend([0; 4]);
    message.extend(valid.to_be_bytes());
    let length = message.len() as u16 + 8;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([17, 64]);
    packet.resize(40, 0xfe);
    packet.extend(if kind == 7 {
        [2, 35, 2, 34]
    } else {
        [2, 34, 2, 35]
    });
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(message);
    packet
}
