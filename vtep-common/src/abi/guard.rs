//! Source filter of ports with declared endpoints: which addresses a port may send from.

use core::net::{IpAddr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{flags, pod};
use crate::Mac;

/// Size of `guards`: declared MACs and their addresses together.
pub const MAX_GUARDS: u32 = 65_536;

/// Key of `guards`: an address that an endpoint of a port has. A MAC itself is there by its modified
/// EUI-64 link-local address (RFC 4291 appendix A), which it always may use.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct GuardKey {
    /// The address, bytes in wire order; IPv4 mapped into IPv6.
    pub address: [u8; 16],
    /// The port's slot.
    pub slot: u32,
}

impl GuardKey {
    /// The key for an address.
    pub fn new(slot: u32, address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Self {
            address: address.octets(),
            slot,
        }
    }

    /// The key for a MAC itself.
    pub fn of_mac(slot: u32, mac: Mac) -> Self {
        Self::new(slot, link_local(mac).into())
    }

    /// As [`GuardKey::new`], from the address as four words that were loaded from a frame without a
    /// swap.
    pub const fn from_parts(slot: u32, address_be: [u32; 4]) -> Self {
        let [a, b, c, d] = address_be;
        zerocopy::transmute!([a, b, c, d, slot])
    }
}

flags! {
    /// What else is known of the MAC in a [`GuardEntry`], four bits.
    GuardFlags: u8 {
        /// It is neither router nor DHCP server.
        CLIENT = 0x4,
        /// It may use only the addresses that are declared with it.
        ADDRESSES = 0x8,
    }
}

/// Value of `guards`, read as one word: the MAC that has the address, as [`Mac::to_bits`], in bits
/// 0–47, the port's slot in bits 48–59, flags in bits 60–63.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct GuardEntry(pub u64);

impl GuardEntry {
    /// `mac` has the address, behind the port with this slot.
    pub const fn new(slot: u32, mac: Mac, flags: GuardFlags) -> Self {
        Self(Self::identity(slot, mac.to_bits()) | (flags.0 as u64) << 60)
    }

    /// The entry is for this MAC behind this port.
    pub const fn is_for(self, slot: u32, mac_bits: u64) -> bool {
        self.0 << 4 == Self::identity(slot, mac_bits) << 4
    }

    /// The flags.
    pub const fn flags(self) -> GuardFlags {
        GuardFlags((self.0 >> 60) as u8)
    }

    const fn identity(slot: u32, mac_bits: u64) -> u64 {
        mac_bits & 0xffff_ffff_ffff | (slot as u64 & 0xfff) << 48
    }
}

const _: () = assert!(super::MAX_PORTS <= 1 << 12, "a slot has 12 bits");

/// The modified EUI-64 link-local address of a MAC (RFC 4291 §2.5.6 and appendix A).
pub const fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        u16::from_be_bytes([a ^ 2, b]),
        u16::from_be_bytes([c, 0xff]),
        u16::from_be_bytes([0xfe, d]),
        u16::from_be_bytes([e, f]),
    )
}

pod!(GuardKey, GuardEntry);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);

    #[test]
    fn keys_from_a_frame() {
        let octets = link_local(MAC).octets();
        let words = core::array::from_fn(|word| {
            u32::from_ne_bytes(core::array::from_fn(|byte| octets[word * 4 + byte]))
        });
        assert_eq!(GuardKey::from_parts(7, words), GuardKey::of_mac(7, MAC));
        let want: Ipv6Addr = "fe80::11:22ff:fe33:4455".parse().unwrap();
        assert_eq!(link_local(MAC), want);
    }

    #[test]
    fn an_entry_is_for_one_mac_of_one_port() {
        let entry = GuardEntry::new(4095, MAC, GuardFlags::ADDRESSES);
        assert!(entry.is_for(4095, MAC.to_bits()));
        assert!(!entry.is_for(4094, MAC.to_bits()));
        assert!(!entry.is_for(4095, MAC.to_bits() ^ 1 << 47));
        assert!(entry.flags().has(GuardFlags::ADDRESSES));
    }
}
