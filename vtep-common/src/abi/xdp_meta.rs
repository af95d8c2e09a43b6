//! What the XDP half hands to the TC half in front of a stripped frame.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BdRef, pod};

/// XDP metadata of a frame that was stripped and passed up: deliver it to `slot`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XdpMeta {
    /// [`XdpMeta::MAGIC`]: the format and its version. A TC half that reads another value there
    /// drops the frame.
    pub magic: u32,
    /// Slot in `ports`.
    pub slot: u32,
    /// The bridge domain, to compare with the slot's.
    pub bd: BdRef,
    /// Zero.
    pub reserved: u32,
}

impl XdpMeta {
    /// "vtep" with the version in the lowest byte.
    pub const MAGIC: u32 = 0x7674_6501;
}

pod!(XdpMeta);
