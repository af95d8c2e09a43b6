//! What the agent keeps beside the datapath for its next run: who is behind our ports.
//!
//! No program reads it. The layout never changes, so that an agent of any version finds the VMs that
//! are silent in what the one before it has left.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{VniKey, flags, pod};
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

pod!(EndpointKey, EndpointEntry);
