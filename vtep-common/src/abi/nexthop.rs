//! Remote VTEPs: next-hop groups, addresses and the underlay paths to them.

use core::net::Ipv4Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BdId, BdRef, pod};
use crate::Mac;

/// Size of `groups`. Index 0 is never used.
pub const MAX_GROUPS: u32 = 65_536;
/// Size of `vteps`. Index 0 is never used.
pub const MAX_VTEPS: u32 = 8192;

/// A VTEP's address: IPv6, or IPv4 mapped into it (`::ffff:a.b.c.d`), bytes in wire order.
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
#[repr(transparent)]
pub struct VtepAddr(pub [u8; 16]);

impl VtepAddr {
    /// An IPv4 address.
    pub const fn v4(address: Ipv4Addr) -> Self {
        Self(address.to_ipv6_mapped().octets())
    }

    /// The IPv4 address as a big-endian `u32` loaded without a swap, whatever the family.
    pub const fn v4_be(&self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// How a member of a group is reached (RFC 8365 §5.1.3 tunnel types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encapsulation {
    /// VXLAN over IPv4.
    Vxlan = 1,
}

/// One way of a next-hop group.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NhMember {
    /// Index in `vteps`.
    pub vtep: u32,
    /// VNI to send with: the one that the route carried.
    pub vni: u32,
    /// [`Encapsulation`] as a number.
    pub encapsulation: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Value of `groups`: what an [`FdbWord`](super::FdbWord) without `LOCAL` points at. One member now;
/// several when an Ethernet segment is reached through more than one VTEP.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NhGroup {
    /// The bridge domain that the group serves.
    pub bd: BdRef,
    /// Members in use, 0 to [`NhGroup::WIDTH`].
    pub count: u16,
    /// Zero.
    pub reserved: u16,
    /// The first `count` are valid.
    pub members: [NhMember; NhGroup::WIDTH],
}

impl NhGroup {
    /// Most members of one group.
    pub const WIDTH: usize = 8;
}

/// One underlay path: the device to send on and the MACs to send with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[repr(C)]
pub struct Adjacency {
    /// Device to transmit on.
    pub ifindex: u32,
    /// Largest IP packet on this path, bytes.
    pub mtu: u16,
    /// VLAN tag of the underlay, 0 for none. The frame is tagged by us.
    pub vlan: u16,
    /// Destination MAC: the next router or the VTEP itself.
    pub destination: Mac,
    /// Source MAC: the device's.
    pub source: Mac,
    /// 1 when `destination` is resolved, 0 when not.
    pub resolved: u16,
    /// Zero.
    pub reserved: u16,
}

/// Value of `vteps`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VtepEntry {
    /// The VTEP's address: the outer destination.
    pub address: VtepAddr,
    /// Paths in use, 0 (unreachable) to [`VtepEntry::PATHS`].
    pub count: u32,
    /// Zero.
    pub reserved: u32,
    /// The first `count` are valid; one is picked by the inner flow's hash.
    pub paths: [Adjacency; VtepEntry::PATHS],
}

impl VtepEntry {
    /// Most underlay paths (ECMP) of one VTEP.
    pub const PATHS: usize = 4;
}

/// Key of `sources`: a VTEP from which frames are accepted, in one bridge domain or, with
/// [`BdId`] 0, in all (`source_check`). IPv4 only.
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
pub struct SourceKey(pub u64);

impl SourceKey {
    /// The key for an address.
    pub const fn new(bd: BdId, address: Ipv4Addr) -> Self {
        Self::from_parts(bd, u32::from_ne_bytes(address.octets()))
    }

    /// As [`SourceKey::new`], from the address as it was loaded from a frame without a swap.
    pub const fn from_parts(bd: BdId, address_be: u32) -> Self {
        Self(address_be as u64 | (bd.0 as u64) << 32)
    }
}

pod!(NhMember, NhGroup, Adjacency, VtepEntry, VtepAddr, SourceKey);
