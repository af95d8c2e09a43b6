//! Gratuitous ARP and unsolicited neighbour advertisements for addresses that are elsewhere
//! (RFC 9161 §3.2).

use std::net::{IpAddr, Ipv6Addr};

use super::frame;
use crate::{bgp::wire::ArpNd, types::Mac};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// RFC 2464 §7.
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const ADVERTISEMENT: u8 = 136;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
/// Target link-layer address, 8 bytes (RFC 4861 §4.6.1).
const TARGET_OPTION: [u8; 2] = [2, 1];

/// The frame that tells everybody which MAC an address has, as its owner would send it (RFC 5227 §2.3,
/// RFC 4861 §7.2.6), tagged for the port's VLAN.
pub fn announcement(ip: IpAddr, mac: Mac, flags: ArpNd, vlan: Option<u16>) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => {
            let mut frame = frame::ethernet(Mac::BROADCAST, mac, vlan);
            frame.extend(frame::arp_request((mac, ip), ip));
            frame
        }
        IpAddr::V6(ip) => {
            let mut frame = frame::ethernet(ALL_NODES_MAC, mac, vlan);
            frame.extend(frame::icmpv6(ip, ALL_NODES, advertisement(ip, mac, flags)));
            frame
        }
    }
}

fn advertisement(target: Ipv6Addr, mac: Mac, flags: ArpNd) -> Vec<u8> {
    let router = if flags.router { ROUTER } else { 0 };
    let replace = if flags.override_ { OVERRIDE } else { 0 };
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, router | replace, 0, 0, 0];
    message.extend(target.octets());
    message.extend(TARGET_OPTION);
    message.extend(mac.0);
    message
}

#[cfg(test)]
mod tests {
    use vtep_common::wire::{arp, nd};

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

    #[test]
    fn gratuitous_arp() {
        let ip = "10.0.0.9".parse().unwrap();
        let frame = announcement(ip, MAC, ArpNd::default(), None);
        assert_eq!((frame.len(), &frame[..6]), (arp::FRAME, &[0xff; 6][..]));
        let message = arp::Message::parse(&frame[..]).unwrap();
        assert!(message.binds() && !message.is_question());
        assert_eq!(
            (message.sender_mac, message.sender_be),
            (MAC.to_bits(), message.target_be)
        );
        let tagged = announcement(ip, MAC, ArpNd::default(), Some(10));
        assert_eq!(tagged[12..18], [0x81, 0, 0, 10, 8, 6]);
    }

    #[test]
    fn unsolicited_advertisement() {
        let flags = ArpNd {
            router: true,
            override_: true,
            immutable: false,
        };
        let frame = announcement("fd00::9".parse().unwrap(), MAC, flags, None);
        assert_eq!(frame.len(), nd::FRAME);
        assert!(frame::checksum_is_right(&frame));
        let message = nd::Advertisement::parse(&frame[..]).unwrap();
        assert_eq!((message.mac, message.flags), (MAC.to_bits(), 0xa0));
        assert_eq!(frame[22..38], frame[62..78], "the target is the source");
    }
}
