//! Bridge domains, the VNIs that select them, and their flood lists.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{VtepAddr, flags, pod};

/// Size of `bds` and `bd_counters`. Identifiers are 1 to `MAX_BDS - 1`; they fit into 12 bits, which
/// [`NeighborEntry`](super::NeighborEntry) relies on.
pub const MAX_BDS: u32 = 4096;

/// Index of a bridge domain in `bds`. 0 is none.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
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
pub struct BdId(pub u16);

/// Key of `vnis`: a VNI as a number, 1 to 0xfffffe.
pub type VniKey = u32;

/// Names one incarnation of a bridge domain: an index that is used again gets a new generation, so
/// that what was meant for the old tenant never matches the new one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[repr(C)]
pub struct BdRef {
    /// Index in `bds`.
    pub bd: BdId,
    /// Generation of that index.
    pub generation: u16,
}

impl BdRef {
    /// As the lower half of a word: `bd` in bits 0–15, `generation` in bits 16–31.
    pub const fn to_bits(self) -> u32 {
        self.bd.0 as u32 | (self.generation as u32) << 16
    }

    /// Inverse of [`BdRef::to_bits`].
    pub const fn from_bits(bits: u32) -> Self {
        Self {
            bd: BdId(bits as u16),
            generation: (bits >> 16) as u16,
        }
    }
}

flags! {
    /// What a bridge domain does with a frame.
    BdFlags: u16 {
        /// The entry is in use.
        ACTIVE = 0x01,
        /// Answer ARP requests and neighbour solicitations from the neighbour tables (RFC 9161).
        SUPPRESS = 0x02,
        /// Report new sources on ports to the agent.
        LEARN = 0x04,
        /// Flood unknown unicast.
        FLOOD_UNKNOWN = 0x08,
        /// Flood broadcast and multicast.
        FLOOD_BUM = 0x10,
        /// Drop ARP requests and neighbour solicitations that `SUPPRESS` finds no answer to, instead
        /// of flooding them (RFC 9161 §3.6).
        DROP_UNKNOWN_NEIGHBORS = 0x20,
        /// What `SUPPRESS` would answer is sent to the address's owner alone (RFC 9161 §3.4).
        FORWARD_REQUESTS = 0x40,
        /// Solicitations with options that only the owner can answer are sent to it alone.
        FORWARD_OPTIONS = 0x80,
        /// Report DHCP messages from and to ports to the agent.
        DHCP = 0x100,
    }
}

/// Value of `bds`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BdEntry {
    /// Where the flood list lies, as [`FloodSpan::to_bits`]: replaced as one word.
    pub flood: u64,
    /// Source of encapsulated frames: our VTEP address for this bridge domain.
    pub source: VtepAddr,
    /// The VNI.
    pub vni: u32,
    /// Generation of the index.
    pub generation: u16,
    /// Policy.
    pub flags: BdFlags,
}

/// A contiguous part of `flood`: local ports first, then remote VTEPs. A new list is written to a
/// free part and then switched to by one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloodSpan {
    /// Index of the first member.
    pub offset: u32,
    /// Number of local ports.
    pub ports: u16,
    /// Number of remote VTEPs.
    pub vteps: u16,
}

impl FloodSpan {
    /// `offset` in bits 0–31, `ports` in 32–47, `vteps` in 48–63.
    pub const fn to_bits(self) -> u64 {
        self.offset as u64 | (self.ports as u64) << 32 | (self.vteps as u64) << 48
    }

    /// Inverse of [`FloodSpan::to_bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            offset: bits as u32,
            ports: (bits >> 32) as u16,
            vteps: (bits >> 48) as u16,
        }
    }
}

flags! {
    /// Kinds of flooded frames.
    FloodClasses: u32 {
        /// Broadcast and multicast of which a replicator may make the copies (RFC 9574 §5.2).
        ASSISTED = 0x1,
        /// Multicast that is copied at its source: that of link-local scope, IGMP and MLD.
        DIRECT = 0x2,
        /// Unknown unicast.
        UNKNOWN = 0x4,
    }
}

/// Value of `flood`: one receiver of a bridge domain's BUM traffic (RFC 7432 §11, RFC 8365 §5.1.3).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FloodMember {
    /// Slot in `ports`, or index in `vteps`.
    pub target: u32,
    /// VNI towards the remote VTEP; 0 for a port.
    pub vni: u32,
    /// The bridge domain whose list this is.
    pub bd: BdRef,
    /// Kinds of frames of which it gets no copy.
    pub skip: FloodClasses,
}

pod!(BdId, BdRef, BdEntry, FloodMember);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        let span = FloodSpan {
            offset: 0xdead_beef,
            ports: 0x1234,
            vteps: 0xfedc,
        };
        assert_eq!(FloodSpan::from_bits(span.to_bits()), span);
        let bd = BdRef {
            bd: BdId(0xfff),
            generation: 0xabcd,
        };
        assert_eq!(BdRef::from_bits(bd.to_bits()), bd);
    }
}
