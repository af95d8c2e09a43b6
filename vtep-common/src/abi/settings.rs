//! What holds for the whole agent.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{flags, pod};

/// Most VTEP addresses of our own.
pub const MAX_LOCAL_VTEPS: usize = 8;
/// Most uplinks.
pub const MAX_UPLINKS: usize = 8;

flags! {
    /// Choices of the configuration's `[vtep]` table.
    SettingsFlags: u32 {
        /// Frames for a VNI that no bridge domain has go on to the host (`unknown_vni = "pass"`).
        PASS_UNKNOWN_VNI = 0x01,
        /// The outer source must be in `sources` for bridge domain 0 (`source_check = "loose"`).
        SOURCE_LOOSE = 0x02,
        /// The outer source must be in `sources` for the frame's bridge domain (`"strict"`).
        SOURCE_STRICT = 0x04,
        /// Inner TCP goes to the host's collect-metadata vxlan device, where GRO merges it.
        TCP_TO_DEVICE = 0x08,
        /// Somebody listens to `traces`.
        TRACE = 0x10,
    }
}

/// Value of `settings`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Settings {
    /// The agent's clock in seconds since its start, raised once a second. The datapath stamps it
    /// into `fdb`: no clock is read per frame.
    pub epoch: u64,
    /// MACs of the uplinks as [`Mac::to_bits`](crate::Mac::to_bits), 0 when unused. A stripped frame
    /// with one of these as its destination must not be passed up.
    pub uplink_macs: [u64; MAX_UPLINKS],
    /// Our VTEP addresses, as loaded from a frame without a swap; 0 when unused.
    pub local_vteps_be: [u32; MAX_LOCAL_VTEPS],
    /// VLAN of the underlay on the uplinks by position as in `uplink_macs`, 0 for untagged.
    pub uplink_vlans: [u16; MAX_UPLINKS],
    /// Choices.
    pub flags: SettingsFlags,
    /// UDP destination port of VXLAN, in wire order.
    pub port_be: u16,
    /// Zero.
    pub reserved: u16,
    /// Raised after every change that makes wrong what programs may remember: of this entry but for the
    /// clock, of `vnis` and `port_index`, of what leaves `sources`, and of where a MAC behind a port is. As
    /// long as it and the clock stay, they remember which VTEP may send to which bridge domain, whose a
    /// port is, and which MACs are behind it.
    /// 0: they remember nothing.
    pub revision: u32,
    /// Zero.
    pub reserved2: u32,
}

pod!(Settings);
