//! VM ports: (device, VLAN) to slot, and what a slot says.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BdRef, flags, pod};

/// Size of `ports` and `port_counters`. Slot 0 is never used.
pub const MAX_PORTS: u32 = 4096;

/// Key of `port_index`: ifindex in bits 0–31, VLAN identifier in bits 32–47 (0 for untagged and
/// priority-tagged frames).
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
pub struct PortKey(pub u64);

impl PortKey {
    /// The key for one VLAN of one device.
    pub const fn new(ifindex: u32, vlan: u16) -> Self {
        Self(ifindex as u64 | (vlan as u64) << 32)
    }
}

/// Value of `port_index`, read as one word: bridge domain and generation in bits 0–31, slot in bits
/// 32–63.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct PortRef(pub u64);

impl PortRef {
    /// Points at `slot`, for `bd`.
    pub const fn new(bd: BdRef, slot: u32) -> Self {
        Self(bd.to_bits() as u64 | (slot as u64) << 32)
    }

    /// The bridge domain.
    pub const fn bd(self) -> BdRef {
        BdRef::from_bits(self.0 as u32)
    }

    /// Index in `ports`.
    pub const fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

flags! {
    /// How frames reach and leave a port.
    PortFlags: u32 {
        /// The slot is in use.
        ACTIVE = 0x01,
        /// A veth whose other end is in another network namespace and which has no qdisc of its own:
        /// `bpf_redirect_peer` may deliver.
        REDIRECT_PEER = 0x02,
        /// The device announces that it takes redirected XDP frames, and GRO does not matter there.
        REDIRECT_XDP = 0x04,
        /// The port has its full number of MACs: sources that the FDB does not know are dropped.
        MAC_LIMIT = 0x08,
        /// Only what `guards` has may be sent from.
        GUARDED = 0x10,
    }
}

/// Value of `ports`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PortEntry {
    /// The device.
    pub ifindex: u32,
    /// Delivery and limits.
    pub flags: PortFlags,
    /// The bridge domain.
    pub bd: BdRef,
    /// VLAN identifier that frames have on the port, 0 for untagged.
    pub vlan: u16,
    /// Zero.
    pub reserved: u16,
    /// Broadcast, unknown unicast and multicast frames per second that the port may send, 0 for no
    /// limit. The burst is one second's worth.
    pub bum_rate: u32,
    /// Learning events per second that the port may cause, 0 for no limit.
    pub learn_rate: u32,
}

pod!(PortKey, PortRef, PortEntry);
