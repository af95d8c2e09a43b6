//! ARP (RFC 826) as far as learning and suppression (RFC 9161) need it.

use super::{Bytes, BytesMut, Frame, View, ethernet};

/// Length of a frame with an ARP message for IPv4 over Ethernet.
pub const FRAME: usize = 42;

/// Operation codes, wire order.
mod operation {
    pub const REQUEST: u16 = 1_u16.to_be();
    pub const REPLY: u16 = 2_u16.to_be();
}

/// An ARP message for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Sender's hardware address, as [`Mac::to_bits`](crate::Mac::to_bits).
    pub sender_mac: u64,
    /// Sender's protocol address; 0 in a probe (RFC 5227 §1.1).
    pub sender_be: u32,
    /// Target's protocol address.
    pub target_be: u32,
    request: bool,
}

impl Message {
    /// The message of an untagged ARP frame, or `None` when it is for other protocols or cut short.
    #[inline(always)]
    pub fn parse<F: Frame>(frame: F) -> Option<Self> {
        Self::read(frame.view::<FRAME>(0)?)
    }

    #[inline(always)]
    fn read<B: Bytes>(frame: View<B, FRAME>) -> Option<Self> {
        // Hardware type 1, protocol type 0x0800, lengths 6 and 4.
        if frame.be32::<14>() != 0x0001_0800 || frame.be16::<18>() != 0x0604 {
            return None;
        }
        Some(Self {
            sender_mac: frame.mac::<22, 26>(),
            sender_be: frame.u32::<28>(),
            target_be: frame.u32::<38>(),
            request: frame.u16::<20>() == operation::REQUEST,
        })
    }

    /// The message says which MAC has which address.
    #[inline(always)]
    pub const fn binds(&self) -> bool {
        self.sender_be != 0 && ethernet::is_station(self.sender_mac)
    }

    /// A question that someone else may answer: a request that is not gratuitous. A probe is one:
    /// who defends the address is not lost (RFC 9161 §3.2).
    #[inline(always)]
    pub const fn is_question(&self) -> bool {
        self.request
            && self.sender_be != self.target_be
            && self.target_be != 0
            && ethernet::is_station(self.sender_mac)
    }
}

/// Turns a request in place into the reply that `target_mac` would have sent (RFC 826 "Packet
/// Reception").
#[inline(always)]
pub fn answer<B: BytesMut>(frame: View<B, FRAME>, request: &Message, target_mac: u64) {
    frame.set_mac::<0, 4>(request.sender_mac);
    frame.set_mac::<6, 10>(target_mac);
    frame.set_u16::<20>(operation::REPLY);
    frame.set_mac::<22, 26>(target_mac);
    frame.set_u32::<28>(request.target_be);
    frame.set_mac::<32, 36>(request.sender_mac);
    frame.set_u32::<38>(request.sender_be);
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::Mac;

    #[rustfmt::skip]
    const REQUEST: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  2, 0, 0, 0, 0, 1,  0x08, 0x06,
        0, 1, 8, 0, 6, 4, 0, 1,
        2, 0, 0, 0, 0, 1,  10, 0, 0, 1,
        0, 0, 0, 0, 0, 0,  10, 0, 0, 2,
    ];

    #[test]
    fn a_request_becomes_the_reply() {
        let mut bytes = REQUEST;
        let request = Message::parse(&bytes[..]).unwrap();
        assert!(request.is_question() && request.binds());
        let target = Mac([2, 0, 0, 0, 0, 2]).to_bits();
        let cells = Cell::from_mut(&mut bytes[..]).as_slice_of_cells();
        answer(cells.view(0).unwrap(), &request, target);
        #[rustfmt::skip]
        let want = [
            2, 0, 0, 0, 0, 1,  2, 0, 0, 0, 0, 2,  0x08, 0x06,
            0, 1, 8, 0, 6, 4, 0, 2,
            2, 0, 0, 0, 0, 2,  10, 0, 0, 2,
            2, 0, 0, 0, 0, 1,  10, 0, 0, 1,
        ];
        assert_eq!(bytes, want);
        assert!(!Message::parse(&bytes[..]).unwrap().is_question());
    }

    #[test]
    fn other_formats_and_every_truncation() {
        for length in 0..REQUEST.len() {
            assert_eq!(Message::parse(&REQUEST[..length]), None);
        }
        for at in 14..20 {
            let mut bytes = REQUEST;
            bytes[at] ^= 0x10;
            assert_eq!(Message::parse(&bytes[..]), None, "byte {at}");
        }
    }

    #[test]
    fn gratuitous_and_probe() {
        let mut bytes = REQUEST;
        bytes[38..42].copy_from_slice(&[10, 0, 0, 1]);
        assert!(
            !Message::parse(&bytes[..]).unwrap().is_question(),
            "RFC 5227 §1.1 announcement"
        );
        let mut bytes = REQUEST;
        bytes[28..32].fill(0);
        let probe = Message::parse(&bytes[..]).unwrap();
        assert!(probe.is_question() && !probe.binds());
        let mut bytes = REQUEST;
        bytes[22] = 1;
        assert!(
            !Message::parse(&bytes[..]).unwrap().binds(),
            "a group address binds nothing"
        );
    }
}
