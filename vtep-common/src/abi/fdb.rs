//! The forwarding database: (bridge domain, MAC) to port or next-hop group.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BdId, BdRef, flags, pod};
use crate::Mac;

/// Key of `fdb`: the MAC as [`Mac::to_bits`] in bits 0–47, the bridge domain's index in bits 48–63.
/// One word, since a key put together from byte stores costs twice as much at a million entries.
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
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[repr(transparent)]
pub struct FdbKey(pub u64);

impl FdbKey {
    /// The key for one MAC in one bridge domain.
    pub const fn new(bd: BdId, mac: Mac) -> Self {
        Self::from_parts(bd, mac.to_bits())
    }

    /// As [`FdbKey::new`], from the MAC's bits as they were loaded from a frame.
    pub const fn from_parts(bd: BdId, mac_bits: u64) -> Self {
        Self(mac_bits & 0xffff_ffff_ffff | (bd.0 as u64) << 48)
    }

    /// The bridge domain.
    pub const fn bd(self) -> BdId {
        BdId((self.0 >> 48) as u16)
    }

    /// The address.
    pub const fn mac(self) -> Mac {
        Mac::from_bits(self.0)
    }
}

flags! {
    /// What an [`FdbWord`] says of the MAC.
    FdbFlags: u8 {
        /// Behind a port: the target is a slot in `ports`. Otherwise it is an index in `groups`.
        LOCAL = 0x01,
        /// Declared on its port or sticky at a remote VTEP: never to be learned elsewhere.
        PINNED = 0x02,
        /// Quarantined: frames from and to it are dropped.
        BLACK_HOLE = 0x04,
    }
}

/// The verdict on a MAC, read as one word: bridge domain and generation in bits 0–31
/// ([`BdRef::to_bits`]), target in bits 32–55, flags in bits 56–63.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct FdbWord(pub u64);

impl FdbWord {
    /// Targets have 24 bits; the upper ones of `target` are ignored.
    pub const fn new(bd: BdRef, target: u32, flags: FdbFlags) -> Self {
        Self(bd.to_bits() as u64 | ((target & 0xff_ffff) as u64) << 32 | (flags.0 as u64) << 56)
    }

    /// The bridge domain that the entry is for.
    pub const fn bd(self) -> BdRef {
        BdRef::from_bits(self.0 as u32)
    }

    /// Slot in `ports` or index in `groups`.
    pub const fn target(self) -> u32 {
        (self.0 >> 32) as u32 & 0xff_ffff
    }

    /// What the target is, and restrictions.
    pub const fn flags(self) -> FdbFlags {
        FdbFlags((self.0 >> 56) as u8)
    }
}

/// Value of `fdb`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FdbEntry {
    /// What a later version may put first, so that whoever mistakes its tables for his own reads this.
    #[cfg(feature = "next-abi")]
    pub later: u64,
    /// The verdict.
    pub word: FdbWord,
    /// When a local MAC was last seen as a source: [`Settings::epoch`](super::Settings::epoch) at
    /// that time. The datapath writes it, only when it changes; the agent's value is its start.
    pub seen: u64,
}

impl FdbEntry {
    /// A verdict, and when the MAC was seen.
    pub const fn new(word: FdbWord, seen: u64) -> Self {
        Self {
            #[cfg(feature = "next-abi")]
            later: u64::MAX,
            word,
            seen,
        }
    }
}

pod!(FdbKey, FdbWord, FdbEntry);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_word_round_trip() {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let key = FdbKey::new(BdId(7), mac);
        assert_eq!((key.bd(), key.mac()), (BdId(7), mac));
        let bd = BdRef {
            bd: BdId(7),
            generation: 3,
        };
        let word = FdbWord::new(bd, 0xab_cdef, FdbFlags::LOCAL.with(FdbFlags::PINNED));
        assert_eq!((word.bd(), word.target()), (bd, 0xab_cdef));
        assert!(word.flags().has(FdbFlags::LOCAL) && word.flags().has(FdbFlags::PINNED));
        assert!(!word.flags().has(FdbFlags::BLACK_HOLE));
    }
}
