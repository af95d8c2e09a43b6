//! Congestion marks across the tunnel (RFC 6040, normal mode).

use super::{Bytes, BytesMut, Frame, View, checksum, ethernet::ethertype, ip};
use crate::DropReason;

/// The two ECN bits (RFC 3168 §5).
pub mod codepoint {
    /// Not ECN-capable transport.
    pub const NOT_ECT: u8 = 0b00;
    /// ECN-capable, ECT(1).
    pub const ECT_1: u8 = 0b01;
    /// ECN-capable, ECT(0).
    pub const ECT_0: u8 = 0b10;
    /// Congestion experienced.
    pub const CE: u8 = 0b11;
}
use codepoint::{CE, ECT_0, ECT_1, NOT_ECT};

/// The inner codepoint after decapsulation (RFC 6040 §4.2, Figure 4).
///
/// # Errors
/// [`DropReason::EcnCe`]: the outer header says CE and the inner one cannot carry it.
#[inline(always)]
pub const fn decapsulate(outer: u8, inner: u8) -> Result<u8, DropReason> {
    match (outer, inner) {
        (CE, NOT_ECT) => Err(DropReason::EcnCe),
        (CE, _) => Ok(CE),
        (ECT_1, ECT_0) => Ok(ECT_1),
        _ => Ok(inner),
    }
}

/// A change of the inner header that [`decapsulate`] asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Leave the inner header as it is.
    None,
    /// IPv4: put `first` (version to DSCP and ECN) into bytes 0–1 and `check` into bytes 10–11.
    V4 {
        /// The first two bytes, as loaded.
        first: u16,
        /// The header checksum, as loaded.
        check: u16,
    },
    /// IPv6: put this byte at offset 1, whose bits 4–5 are the ECN field (RFC 8200 §3, RFC 3168 §5).
    V6 {
        /// The second byte.
        second: u8,
    },
}

impl Remark {
    /// Whether the inner packet at `at` must be changed, given the codepoint of the outer header.
    /// What is no IP packet, or ends within its header, carries no mark and stays as it is.
    #[inline(always)]
    pub fn decide<F: Frame>(
        frame: F,
        at: u32,
        ethertype_be: u16,
        outer: u8,
    ) -> Result<Self, DropReason> {
        if outer & 1 == 0 {
            // Not-ECT and ECT(0) change nothing (Figure 4, columns 1 and 2).
            return Ok(Self::None);
        }
        match ethertype_be {
            ethertype::IPV4 => {
                let Some(packet) = frame.view::<20>(at) else {
                    return Ok(Self::None);
                };
                let inner = packet.u8::<1>() & 0b11;
                let marked = decapsulate(outer, inner)?;
                if marked == inner {
                    return Ok(Self::None);
                }
                let old = packet.u16::<0>();
                let new = old ^ u16::from(inner ^ marked).to_be();
                let check = checksum::update(packet.u16::<10>(), old, new);
                Ok(Self::V4 { first: new, check })
            }
            ethertype::IPV6 => {
                let Some(packet) = frame.view::<40>(at) else {
                    return Ok(Self::None);
                };
                let inner = packet.u8::<1>() >> 4 & 0b11;
                let marked = decapsulate(outer, inner)?;
                if marked == inner {
                    return Ok(Self::None);
                }
                let second = packet.u8::<1>() ^ (inner ^ marked) << 4;
                Ok(Self::V6 { second })
            }
            _ => Ok(Self::None),
        }
    }

    /// Writes the change into the IP header that the view starts with.
    #[inline(always)]
    pub fn apply<B: BytesMut, const N: usize>(self, header: View<B, N>) {
        match self {
            Self::None => {}
            Self::V4 { first, check } => {
                header.set_u16::<0>(first);
                header.set_u16::<10>(check);
            }
            Self::V6 { second } => header.set_u8::<1>(second),
        }
    }
}

/// The codepoint that an encapsulated frame's outer header gets: the inner one (RFC 6040 §4.1,
/// normal mode), Not-ECT for what is no IP packet.
#[inline(always)]
pub fn encapsulate<F: Frame>(frame: F, at: u32, ethertype_be: u16) -> u8 {
    let Some(packet) = frame.view::<20>(at) else {
        return NOT_ECT;
    };
    outer_codepoint(packet, ethertype_be)
}

#[inline(always)]
fn outer_codepoint<B: Bytes, const N: usize>(packet: View<B, N>, ethertype_be: u16) -> u8 {
    match ethertype_be {
        ethertype::IPV4 => packet.u8::<1>() & 0b11,
        ethertype::IPV6 => packet.u8::<1>() >> 4 & 0b11,
        _ => NOT_ECT,
    }
}

const _: () = assert!(ip::V4_HEADER == 20 && ip::V6_HEADER == 40);

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::wire::testing::ipv4_checksum;

    /// RFC 6040 §4.2, Figure 4: rows are the inner codepoint, columns the outer one, in the order
    /// Not-ECT, ECT(0), ECT(1), CE. `None` is a drop.
    #[test]
    fn figure_4() {
        const ORDER: [u8; 4] = [NOT_ECT, ECT_0, ECT_1, CE];
        const FIGURE: [[Option<u8>; 4]; 4] = [
            [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
            [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
            [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
            [Some(CE), Some(CE), Some(CE), Some(CE)],
        ];
        for (inner, row) in ORDER.into_iter().zip(FIGURE) {
            for (outer, want) in ORDER.into_iter().zip(row) {
                assert_eq!(
                    decapsulate(outer, inner).ok(),
                    want,
                    "{outer:02b} over {inner:02b}"
                );
                remark_agrees(outer, inner, want);
            }
        }
    }

    fn remark_agrees(outer: u8, inner: u8, want: Option<u8>) {
        let mut v4 = [
            0x45,
            0xb8 | inner,
            0,
            40,
            1,
            2,
            0x40,
            0,
            64,
            17,
            0,
            0,
            10,
            0,
            0,
            1,
            10,
            0,
            0,
            2,
        ];
        let check = ipv4_checksum(&v4);
        v4[10..12].copy_from_slice(&check);
        match Remark::decide(&v4[..], 0, ethertype::IPV4, outer) {
            Err(reason) => assert_eq!((reason, want), (DropReason::EcnCe, None)),
            Ok(remark) => {
                let cells = Cell::from_mut(&mut v4[..]).as_slice_of_cells();
                remark.apply(cells.view::<20>(0).unwrap());
                assert_eq!(Some(v4[1]), want.map(|ecn| 0xb8 | ecn));
                assert!(checksum::ipv4_header_is_valid(
                    (&v4[..]).view::<20>(0).unwrap()
                ));
            }
        }
        let mut v6 = [0; 40];
        v6[..2].copy_from_slice(&[0x6a, inner << 4 | 0x8f]);
        match Remark::decide(&v6[..], 0, ethertype::IPV6, outer) {
            Err(reason) => assert_eq!((reason, want), (DropReason::EcnCe, None)),
            Ok(remark) => {
                let cells = Cell::from_mut(&mut v6[..]).as_slice_of_cells();
                remark.apply(cells.view::<40>(0).unwrap());
                assert_eq!(Some(v6[1]), want.map(|ecn| ecn << 4 | 0x8f));
            }
        }
    }

    #[test]
    fn what_is_not_ip_carries_no_mark() {
        let arp = [0; 46];
        assert_eq!(
            Remark::decide(&arp[..], 0, ethertype::ARP, CE),
            Ok(Remark::None)
        );
        assert_eq!(
            Remark::decide(&arp[..19], 0, ethertype::IPV4, CE),
            Ok(Remark::None)
        );
        assert_eq!(encapsulate(&arp[..], 0, ethertype::ARP), NOT_ECT);
    }

    #[test]
    fn the_outer_header_copies_the_inner_mark() {
        let mut packet = [0; 40];
        packet[1] = 0b1011_1001;
        assert_eq!(encapsulate(&packet[..], 0, ethertype::IPV4), 0b01);
        assert_eq!(encapsulate(&packet[..], 0, ethertype::IPV6), 0b11);
        assert_eq!(encapsulate(&packet[..19], 0, ethertype::IPV4), NOT_ECT);
    }
}
