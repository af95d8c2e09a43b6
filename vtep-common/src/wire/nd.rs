//! IPv6 neighbour discovery (RFC 4861) as far as learning and suppression (RFC 9161) need it.

use super::{Bytes, BytesMut, Frame, View, checksum::Sum, ethernet, ip::protocol};
use crate::{DropReason, abi::NeighborFlags};

/// Length of a frame with a message that has one option: Ethernet, IPv6, 24 bytes and 8.
pub const FRAME: usize = 86;
/// The same without an option.
const BARE: usize = 78;
/// Most options of a message that can be judged, each of eight bytes: link-layer address, nonce, and
/// what stacks put between them.
const MOST_OPTIONS: u32 = 4;
/// Length of the longest frame that can be judged.
pub const JUDGED: u32 = BARE as u32 + MOST_OPTIONS * 8;

/// ICMPv6 types.
pub(super) mod kind {
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    pub const SOLICITATION: u8 = 135;
    pub const ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;
}

/// Option types (RFC 4861 §4.6).
mod option {
    pub const SOURCE_LINK_LAYER: u8 = 1;
    pub const TARGET_LINK_LAYER: u8 = 2;
}

/// Flags of an advertisement (RFC 4861 §4.4), in its first flag byte.
pub mod flag {
    /// R: a router.
    pub const ROUTER: u8 = 0x80;
    /// S: in answer to a solicitation.
    pub const SOLICITED: u8 = 0x40;
    /// O: replaces a cached address.
    pub const OVERRIDE: u8 = 0x20;
}

/// All nodes on the link, `ff02::1`, as words.
const ALL_NODES: [u32; 4] = [0xff02_0000_u32.to_be(), 0, 0, 1_u32.to_be()];
/// `33:33:00:00:00:01`, its MAC (RFC 2464 §7).
const ALL_NODES_MAC: u64 = 0x0100_0000_3333;

/// An IPv6 address as four words in wire order.
pub type Address = [u32; 4];

/// A multicast solicitation for one target, with no options but the source's link-layer address:
/// one that somebody else may answer. Others (a nonce, RFC 7527; SEND, RFC 3971) expect what only
/// the target knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Who asks; unspecified (all zero) for duplicate address detection (RFC 4862 §5.4).
    pub source: Address,
    /// The address that is asked for.
    pub target: Address,
    /// The asker's MAC, as [`Mac::to_bits`](crate::Mac::to_bits).
    pub asker: u64,
}

impl Solicitation {
    /// The solicitation of an untagged IPv6 frame. The checksum is not verified.
    #[inline(always)]
    pub fn parse<F: Frame>(frame: F) -> Option<Self> {
        let bare = frame.view::<BARE>(0)?;
        if !is_message(bare, kind::SOLICITATION) || bare.u8::<38>() != 0xff {
            return None;
        }
        let source = [
            bare.u32::<22>(),
            bare.u32::<26>(),
            bare.u32::<30>(),
            bare.u32::<34>(),
        ];
        let asker = match bare.be16::<18>() {
            24 => bare.mac::<6, 10>(),
            32 => {
                let full = frame.view::<FRAME>(0)?;
                if full.u8::<78>() != option::SOURCE_LINK_LAYER
                    || full.u8::<79>() != 1
                    // Not allowed with an unspecified source (RFC 4861 §4.3).
                    || is_unspecified(&source)
                {
                    return None;
                }
                full.mac::<80, 84>()
            }
            _ => return None,
        };
        let target = target(bare);
        (!is_multicast(&target) && ethernet::is_station(asker)).then_some(Self {
            source,
            target,
            asker,
        })
    }

    /// The target of any multicast solicitation, whatever options it has.
    #[inline(always)]
    pub fn target_of<F: Frame>(frame: F) -> Option<Address> {
        let bare = frame.view::<BARE>(0)?;
        let asks = is_message(bare, kind::SOLICITATION) && bare.u8::<38>() == 0xff;
        asks.then(|| target(bare))
    }

    /// Writes the advertisement that the target would have sent (RFC 4861 §7.2.4) over a frame of
    /// [`FRAME`] bytes. `flags` are the binding's.
    #[inline(always)]
    pub fn answer<B: BytesMut>(
        &self,
        frame: View<B, FRAME>,
        target_mac: u64,
        flags: NeighborFlags,
    ) {
        let (solicited, destination, destination_mac) = if is_unspecified(&self.source) {
            (0, ALL_NODES, ALL_NODES_MAC)
        } else {
            (flag::SOLICITED, self.source, self.asker)
        };
        let router = if flags.has(NeighborFlags::ROUTER) {
            flag::ROUTER
        } else {
            0
        };
        let replace = if flags.has(NeighborFlags::OVERRIDE) {
            flag::OVERRIDE
        } else {
            0
        };
        let flags = u32::from_ne_bytes([router | solicited | replace, 0, 0, 0]);

        frame.set_mac::<0, 4>(destination_mac);
        frame.set_mac::<6, 10>(target_mac);

        frame.set_u32::<14>(0x6000_0000_u32.to_be());
        frame.set_u16::<18>(32_u16.to_be());
        frame.set_u8::<20>(protocol::ICMPV6);
        frame.set_u8::<21>(255);
        let [a, b, c, d] = self.target;
        frame.set_u32::<22>(a);
        frame.set_u32::<26>(b);
        frame.set_u32::<30>(c);
        frame.set_u32::<34>(d);
        let [e, f, g, h] = destination;
        frame.set_u32::<38>(e);
        frame.set_u32::<42>(f);
        frame.set_u32::<46>(g);
        frame.set_u32::<50>(h);

        let message = u16::from_ne_bytes([kind::ADVERTISEMENT, 0]);
        let option = u16::from_ne_bytes([option::TARGET_LINK_LAYER, 1]);
        frame.set_u16::<54>(message);
        frame.set_u32::<58>(flags);
        frame.set_u32::<62>(a);
        frame.set_u32::<66>(b);
        frame.set_u32::<70>(c);
        frame.set_u32::<74>(d);
        frame.set_u16::<78>(option);
        frame.set_mac::<80, 84>(target_mac);

        // The target stands in the pseudo-header (RFC 8200 §8.1) and in the message.
        let addresses = Sum::default().with(a).with(b).with(c).with(d);
        let check = Sum::default()
            .with(addresses.fold())
            .with(addresses.fold())
            .with(e)
            .with(f)
            .with(g)
            .with(h)
            .with(32_u16.to_be())
            .with(u16::from(protocol::ICMPV6).to_be())
            .with(message)
            .with(flags)
            .with(option)
            .with(frame.u32::<80>())
            .with(frame.u16::<84>())
            .checksum();
        frame.set_u16::<56>(check);
    }
}

/// An advertisement that says which MAC has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address.
    pub target: Address,
    /// Its MAC, from the target's link-layer address option.
    pub mac: u64,
    /// See [`flag`].
    pub flags: u8,
}

impl Advertisement {
    /// The advertisement of an untagged IPv6 frame. The checksum is not verified.
    #[inline(always)]
    pub fn parse<F: Frame>(frame: F) -> Option<Self> {
        let full = frame.view::<FRAME>(0)?;
        if !is_message(full, kind::ADVERTISEMENT)
            || full.be16::<18>() < 32
            || full.u8::<78>() != option::TARGET_LINK_LAYER
            || full.u8::<79>() != 1
        {
            return None;
        }
        let target = target(full);
        let mac = full.mac::<80, 84>();
        (!is_multicast(&target) && ethernet::is_station(mac)).then_some(Self {
            target,
            mac,
            flags: full.u8::<58>(),
        })
    }
}

/// What an IPv6 frame says about who is where: its source, and the address that a neighbour discovery
/// message claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Source of the packet.
    pub source: Address,
    /// Target of an advertisement, and of a solicitation in duplicate address detection.
    pub target: Option<Address>,
}

impl Claim {
    /// The claim of an untagged IPv6 frame from `sender`, whose link-layer address options must name
    /// just it.
    ///
    /// # Errors
    /// [`DropReason::NdSpoofed`], also for messages that hide what they say: more options than four,
    /// longer ones, and extension headers at hop limit 255, which only neighbour discovery needs
    /// (RFC 4861 §7.1; RFC 6980 is about fragments, which receivers refuse).
    /// [`DropReason::IpSpoofed`] when the header is cut short.
    #[inline(always)]
    pub fn of<F: Frame>(frame: F, sender: u64) -> Result<Self, DropReason> {
        let packet = frame.view::<54>(0).ok_or(DropReason::IpSpoofed)?;
        let mut claim = Self {
            source: [
                packet.u32::<22>(),
                packet.u32::<26>(),
                packet.u32::<30>(),
                packet.u32::<34>(),
            ],
            target: None,
        };
        if packet.u8::<21>() != 255 {
            return Ok(claim);
        }
        if protocol::hides_a_header(packet.u8::<20>()) {
            return Err(DropReason::NdSpoofed);
        }
        if packet.u8::<20>() != protocol::ICMPV6 {
            return Ok(claim);
        }
        let advertises = match frame.view::<55>(0).map(|packet| packet.u8::<54>()) {
            Some(kind::ADVERTISEMENT) => true,
            Some(kind::SOLICITATION) => false,
            _ => return Ok(claim),
        };
        let bare = frame.view::<BARE>(0).ok_or(DropReason::NdSpoofed)?;
        let options = packet.be16::<18>().wrapping_sub(24);
        if options % 8 != 0 || u32::from(options) > MOST_OPTIONS * 8 {
            return Err(DropReason::NdSpoofed);
        }
        for at in 0..MOST_OPTIONS {
            if at * 8 >= u32::from(options) {
                break;
            }
            let option = frame.view::<8>(BARE as u32 + at * 8);
            let option = option.ok_or(DropReason::NdSpoofed)?;
            let named = option.u8::<0>();
            let names_mac =
                named == option::SOURCE_LINK_LAYER || named == option::TARGET_LINK_LAYER;
            if option.u8::<1>() != 1 || names_mac && option.mac::<2, 6>() != sender {
                return Err(DropReason::NdSpoofed);
            }
        }
        if advertises || is_unspecified(&claim.source) {
            claim.target = Some(target(bare));
        }
        Ok(claim)
    }
}

/// IPv6 with ICMPv6 of this type behind it, code 0, from this very link (RFC 4861 §7.1).
#[inline(always)]
fn is_message<B: Bytes, const N: usize>(frame: View<B, N>, kind: u8) -> bool {
    frame.u8::<14>() & 0xf0 == 0x60
        && frame.u8::<20>() == protocol::ICMPV6
        && frame.u8::<21>() == 255
        && frame.u8::<54>() == kind
        && frame.u8::<55>() == 0
}

#[inline(always)]
fn target<B: Bytes, const N: usize>(frame: View<B, N>) -> Address {
    [
        frame.u32::<62>(),
        frame.u32::<66>(),
        frame.u32::<70>(),
        frame.u32::<74>(),
    ]
}

const fn is_unspecified(address: &Address) -> bool {
    let [a, b, c, d] = *address;
    a | b | c | d == 0
}

const fn is_multicast(address: &Address) -> bool {
    address[0].to_ne_bytes()[0] == 0xff
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::vec::Vec;

    use super::*;
    use crate::{Mac, wire::testing::icmpv6_checksum_is_valid};

    const ASKER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OWNER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn address(last: u8) -> [u8; 16] {
        let mut address = [0; 16];
        (address[0], address[15]) = (0xfd, last);
        address
    }

    fn solicitation(source: [u8; 16], options: &[u8]) -> Vec<u8> {
        let mut frame = Vec::from([0x33, 0x33, 0xff, 0, 0, 2]);
        frame.extend(ASKER);
        frame.extend([
            0x86,
            0xdd,
            0x60,
            0,
            0,
            0,
            0,
            24 + options.len() as u8,
            58,
            255,
        ]);
        frame.extend(source);
        frame.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2]);
        frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(address(2));
        frame.extend(options);
        frame
    }

    const SLLA: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];

    #[test]
    fn an_answer_is_the_advertisement_of_the_target() {
        let mut frame = solicitation(address(1), &SLLA);
        let message = Solicitation::parse(&frame[..]).unwrap();
        let flags = NeighborFlags::OVERRIDE.with(NeighborFlags::ROUTER);
        let cells = Cell::from_mut(&mut frame[..]).as_slice_of_cells();
        message.answer(cells.view(0).unwrap(), Mac(OWNER).to_bits(), flags);
        assert!(icmpv6_checksum_is_valid(&frame));
        assert_eq!((&frame[..6], &frame[6..12]), (&ASKER[..], &OWNER[..]));
        assert_eq!(
            (&frame[22..38], &frame[38..54]),
            (&address(2)[..], &address(1)[..])
        );
        assert_eq!(frame[58], flag::ROUTER | flag::SOLICITED | flag::OVERRIDE);
        let advertisement = Advertisement::parse(&frame[..]).unwrap();
        assert_eq!(
            (advertisement.mac, advertisement.target),
            (Mac(OWNER).to_bits(), message.target)
        );
    }

    #[test]
    fn duplicate_address_detection_is_answered_to_all_nodes() {
        let mut frame = solicitation([0; 16], &[]);
        let message = Solicitation::parse(&frame[..]).unwrap();
        assert_eq!(message.asker, Mac(ASKER).to_bits());
        frame.extend([0; 8]);
        let cells = Cell::from_mut(&mut frame[..]).as_slice_of_cells();
        message.answer(
            cells.view(0).unwrap(),
            Mac(OWNER).to_bits(),
            NeighborFlags::default(),
        );
        assert!(icmpv6_checksum_is_valid(&frame));
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(
            frame[38..54],
            [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(frame[58], 0);
    }

    #[test]
    fn what_only_the_target_may_answer() {
        let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
        let both = [SLLA, nonce].concat();
        for options in [&nonce[..], &both] {
            assert_eq!(
                Solicitation::parse(&solicitation(address(1), options)[..]),
                None
            );
            assert!(Solicitation::target_of(&solicitation(address(1), options)[..]).is_some());
        }
        let mut unicast = solicitation(address(1), &SLLA);
        unicast[38..54].copy_from_slice(&address(2));
        assert_eq!(Solicitation::parse(&unicast[..]), None);
        assert_eq!(Solicitation::target_of(&unicast[..]), None);
        let mut forwarded = solicitation(address(1), &SLLA);
        forwarded[21] = 254;
        assert_eq!(Solicitation::parse(&forwarded[..]), None);
        assert_eq!(Solicitation::parse(&solicitation([0; 16], &SLLA)[..]), None);
    }

    #[test]
    fn every_truncation() {
        let frame = solicitation(address(1), &SLLA);
        for length in 0..frame.len() {
            assert_eq!(Solicitation::parse(&frame[..length]), None);
            assert_eq!(Advertisement::parse(&frame[..length]), None);
        }
    }
}
