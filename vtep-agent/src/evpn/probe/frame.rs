//! Questions as frames: what the owner of an address answers, and nobody learns anything from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vtep_common::abi::PROBE_MAC;

use super::Question;
use crate::{evpn::frame, types::Mac};

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
        let destination = match (self.broadcast, self.ip) {
            (false, _) => self.mac,
            (true, IpAddr::V4(_)) => Mac::BROADCAST,
            (true, IpAddr::V6(ip)) => solicited_mac(ip),
        };
        let mut frame = frame::ethernet(destination, PROBE_MAC, vlan);
        match self.ip {
            IpAddr::V4(ip) => {
                let sender = (PROBE_MAC, Ipv4Addr::UNSPECIFIED);
                frame.extend(frame::arp_request(sender, ip));
            }
            IpAddr::V6(ip) => {
                let to = if self.broadcast {
                    solicited_node(ip)
                } else {
                    ip
                };
                frame.extend(frame::icmpv6(link_local(), to, solicitation(ip)));
            }
        }
        frame
    }
}

/// RFC 4861 §4.3.
fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend(SOURCE_OPTION);
    message.extend(PROBE_MAC.0);
    message
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
        assert!(frame::checksum_is_right(&frame));
        let alone = question("fd00::1:2:3", false).frame(None);
        assert_eq!(alone[..6], [2, 0, 0, 0, 0, 9]);
        assert_eq!(
            alone[38..54],
            "fd00::1:2:3".parse::<Ipv6Addr>().unwrap().octets()
        );
    }
}
