//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! One's complement sums do not depend on byte order (RFC 1071 §2 B), so everything here works on
//! words as they were loaded.

use super::{Bytes, View};

/// A running sum of 32-bit words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds two or four bytes, as loaded, from an even offset.
    #[inline(always)]
    #[must_use]
    pub fn with(self, word: impl Into<u64>) -> Self {
        Self(self.0.wrapping_add(word.into()))
    }

    /// The sum folded into 16 bits, not complemented.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        sum as u16
    }

    /// What goes into the checksum field.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The header checksum of an IPv4 header without options is right: the sum over all of it is all
/// ones (RFC 1071 §1).
#[inline(always)]
pub fn ipv4_header_is_valid<B: Bytes, const N: usize>(header: View<B, N>) -> bool {
    let sum = Sum::default()
        .with(header.u32::<0>())
        .with(header.u32::<4>())
        .with(header.u32::<8>())
        .with(header.u32::<12>())
        .with(header.u32::<16>());
    sum.fold() == 0xffff
}

/// `check` after one word that it covers has changed from `old` to `new` (RFC 1624 §3, equation 3).
#[inline(always)]
pub const fn update(check: u16, old: u16, new: u16) -> u16 {
    Sum(!check as u64 + !old as u64 + new as u64).checksum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8]) -> u16 {
        bytes
            .chunks_exact(2)
            .fold(Sum::default(), |sum, pair| {
                sum.with(u16::from_ne_bytes([pair[0], pair[1]]))
            })
            .checksum()
    }

    #[test]
    fn rfc_1071_section_3_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(of(&bytes).to_be(), !0xddf2);
    }

    #[test]
    fn rfc_1624_section_4_example() {
        // The case that equation 2 of RFC 1141 gets wrong.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_new_sum(mut bytes in prop::array::uniform20(1_u8..), word: u16) {
            let before = of(&bytes);
            let old = u16::from_ne_bytes([bytes[4], bytes[5]]);
            bytes[4..6].copy_from_slice(&word.to_ne_bytes());
            prop_assert_eq!(update(before, old, word), of(&bytes));
        }

        #[test]
        fn a_header_with_its_checksum_is_valid_and_any_flipped_bit_is_not(
            mut bytes in prop::array::uniform20(any::<u8>()),
            bit in 0_usize..160,
        ) {
            bytes[10..12].fill(0);
            let check = of(&bytes);
            bytes[10..12].copy_from_slice(&check.to_ne_bytes());
            let valid = |bytes: &[u8]| {
                ipv4_header_is_valid(super::super::Frame::view::<20>(bytes, 0).unwrap())
            };
            prop_assert!(valid(&bytes));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!valid(&bytes));
        }
    }
}
