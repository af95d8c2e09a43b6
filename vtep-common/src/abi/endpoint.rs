//! What the agent keeps beside the datapath for its next run: who is behind our ports.
//!
//! No program reads it. The layouts never change, so that an agent of any version finds the VMs that
//! are silent in what the one before it has left.

use core::net::IpAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{NeighborFlags, VniKey, flags, pod};
use crate::Mac;

/// Key of `endpoints`: a MAC, and the VNI of its bridge domain, since indexes may differ from run to
/// run.
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
pub struct EndpointKey {
    /// The VNI.
    pub vni: VniKey,
    /// The MAC.
    pub mac: Mac,
    /// Zero.
    pub reserved: u16,
}

flags! {
    /// What else is known of an endpoint.
    EndpointFlags: u16 {
        /// Declared by the operator or an orchestrator, not learned.
        DECLARED = 0x01,
    }
}

/// Value of `endpoints`: where the MAC is, and what is announced with it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EndpointEntry {
    /// The port's device.
    pub ifindex: u32,
    /// VLAN identifier on the port, 0 for untagged.
    pub vlan: u16,
    /// How it is known.
    pub flags: EndpointFlags,
    /// Sequence number of MAC mobility (RFC 7432 §7.7).
    pub sequence: u32,
}

impl EndpointKey {
    /// The key for one MAC in one bridge domain.
    pub const fn new(vni: VniKey, mac: Mac) -> Self {
        Self {
            vni,
            mac,
            reserved: 0,
        }
    }
}

/// Key of `addresses`: an address that a VM was seen with, and the VNI of its bridge domain.
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
pub struct AddressKey {
    /// The address, bytes in wire order; IPv4 as in RFC 4291 §2.5.5.2.
    pub address: [u8; 16],
    /// The VNI.
    pub vni: VniKey,
}

/// Value of `addresses`: whose it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AddressEntry {
    /// The MAC.
    pub mac: Mac,
    /// What is announced with it.
    pub flags: NeighborFlags,
    /// Zero.
    pub reserved: u8,
}

impl AddressKey {
    /// The key for one address in one bridge domain.
    pub const fn new(vni: VniKey, address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Self {
            address: address.octets(),
            vni,
        }
    }

    /// The address.
    pub const fn address(&self) -> IpAddr {
        core::net::Ipv6Addr::from_octets(self.address).to_canonical()
    }
}

impl AddressEntry {
    /// The address is this MAC's.
    pub const fn new(mac: Mac, flags: NeighborFlags) -> Self {
        Self {
            mac,
            flags,
            reserved: 0,
        }
    }
}

pod!(EndpointKey, EndpointEntry, AddressKey, AddressEntry);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["10.0.0.1", "fd00::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(AddressKey::new(7, address).address(), address);
        }
    }
}
