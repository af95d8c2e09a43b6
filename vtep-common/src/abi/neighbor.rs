//! What ARP and ND suppression knows (RFC 9161): (bridge domain, IP) to MAC.

use core::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BdId, flags, pod};
use crate::Mac;

/// Key of `arp`: the address in bits 0–31 (as loaded from a frame without a swap), the bridge
/// domain's index in bits 32–47.
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
#[repr(transparent)]
pub struct ArpKey(pub u64);

impl ArpKey {
    /// The key for an address.
    pub const fn new(bd: BdId, address: Ipv4Addr) -> Self {
        Self::from_parts(bd, u32::from_ne_bytes(address.octets()))
    }

    /// As [`ArpKey::new`], from the address as it was loaded from a frame without a swap.
    pub const fn from_parts(bd: BdId, address_be: u32) -> Self {
        Self(address_be as u64 | (bd.0 as u64) << 32)
    }
}

/// Key of `nd`.
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
pub struct NdKey {
    /// The address, bytes in wire order.
    pub address: [u8; 16],
    /// The bridge domain.
    pub bd: BdId,
    /// Zero.
    pub reserved: u16,
}

impl NdKey {
    /// The key for an address.
    pub const fn new(bd: BdId, address: Ipv6Addr) -> Self {
        Self {
            address: address.octets(),
            bd,
            reserved: 0,
        }
    }

    /// As [`NdKey::new`], from the address as four words that were loaded from a frame without a
    /// swap.
    pub const fn from_parts(bd: BdId, address_be: [u32; 4]) -> Self {
        let [a, b, c, d] = address_be;
        let words = [a, b, c, d, (bd.0 as u32).to_le()];
        zerocopy::transmute!(words)
    }
}

flags! {
    /// Flags of a binding (RFC 9047 §2), four bits.
    NeighborFlags: u8 {
        /// R: the neighbour is a router.
        ROUTER = 0x1,
        /// O: an advertisement may override a cached address.
        OVERRIDE = 0x2,
        /// Not of the RFC, and in no message: nobody answers for the neighbour but itself.
        WITHHELD = 0x4,
        /// I: configured, never to be replaced by what is learned.
        IMMUTABLE = 0x8,
    }
}

/// Value of `arp` and `nd`, read as one word: the MAC as [`Mac::to_bits`] in bits 0–47, flags in
/// bits 48–51, the bridge domain's index in bits 52–63.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct NeighborEntry(pub u64);

impl NeighborEntry {
    /// Binds an address of `bd` to `mac`.
    pub const fn new(bd: BdId, mac: Mac, flags: NeighborFlags) -> Self {
        Self(mac.to_bits() | ((flags.0 & 0xf) as u64) << 48 | (bd.0 as u64) << 52)
    }

    /// The bridge domain that the entry is for.
    pub const fn bd(self) -> BdId {
        BdId((self.0 >> 52) as u16)
    }

    /// The MAC as [`Mac::to_bits`].
    pub const fn mac_bits(self) -> u64 {
        self.0 & 0xffff_ffff_ffff
    }

    /// The MAC.
    pub const fn mac(self) -> Mac {
        Mac::from_bits(self.0)
    }

    /// The flags.
    pub const fn flags(self) -> NeighborFlags {
        NeighborFlags((self.0 >> 48) as u8 & 0xf)
    }
}

pod!(ArpKey, NdKey, NeighborEntry);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nd_key_from_a_frame() {
        let address = Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 7);
        let octets = address.octets();
        let words = core::array::from_fn(|word| {
            u32::from_ne_bytes(core::array::from_fn(|byte| octets[word * 4 + byte]))
        });
        let bd = BdId(0xabc);
        assert_eq!(NdKey::from_parts(bd, words), NdKey::new(bd, address));
    }

    #[test]
    fn entry_round_trip() {
        let mac = Mac([0xfe, 1, 2, 3, 4, 0xff]);
        let flags = NeighborFlags::ROUTER.with(NeighborFlags::IMMUTABLE);
        let entry = NeighborEntry::new(BdId(4095), mac, flags);
        assert_eq!(
            (entry.bd(), entry.mac(), entry.flags()),
            (BdId(4095), mac, flags)
        );
    }
}
