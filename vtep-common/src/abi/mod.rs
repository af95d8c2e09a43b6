//! Keys and values of the BPF maps, by map.
//!
//! | map | kind | key | value |
//! |---|---|---|---|
//! | `settings` | array of 1 | 0 | [`Settings`] |
//! | `vnis` | hash | VNI (`u32`) | [`BdRef`] |
//! | `bds` | array | [`BdId`] | [`BdEntry`] |
//! | `fdb` | hash | [`FdbKey`] | [`FdbEntry`] |
//! | `groups` | array | index | [`NhGroup`] |
//! | `vteps` | array | index | [`VtepEntry`] |
//! | `port_index` | hash | [`PortKey`] | [`PortRef`] |
//! | `ports` | array | slot | [`PortEntry`] |
//! | `flood` | array | index | [`FloodMember`] |
//! | `arp` | hash | [`ArpKey`] | [`NeighborEntry`] |
//! | `nd` | hash | [`NdKey`] | [`NeighborEntry`] |
//! | `sources` | hash | [`SourceKey`] | `u32` (1) |
//! | `guards` | hash | [`GuardKey`] | [`GuardEntry`] |
//! | `drops` | per-CPU array | [`DropReason`](crate::DropReason) | `u64` frames |
//! | `path_counters` | per-CPU array | [`Path`] | [`Traffic`] |
//! | `port_counters` | per-CPU array | slot | [`PortCounters`] |
//! | `bd_counters` | per-CPU array | [`BdId`] | [`BdCounters`] |
//! | `stats` | per-CPU array | [`Stat`] | `u64` |
//! | `events` | ring buffer | – | [`Event`], [`DhcpEvent`] |
//! | `redirect` | devmap hash | ifindex | ifindex |
//! | `traces` | ring buffer | – | [`Trace`] |
//! | `trace_filter` | array of 1 | 0 | [`TraceFilter`] |
//! | `endpoints` | hash | [`EndpointKey`] | [`EndpointEntry`] |
//! | `addresses` | hash | [`AddressKey`] | [`AddressEntry`] |
//!
//! Values that one lookup must judge as a whole are one `u64`: an element of a preallocated hash may
//! be recycled for another key while a program reads it, so [`FdbEntry`], [`PortRef`] and
//! [`NeighborEntry`] name the bridge domain that they are for, [`GuardEntry`] the port, and the reader
//! compares.
//!
//! All integers are in host order unless the name ends in `_be`. Every type is free of implicit
//! padding (checked at compile time), and spare bytes are zero.

mod bd;
mod counters;
mod endpoint;
mod event;
mod fdb;
mod guard;
mod neighbor;
mod nexthop;
mod port;
mod settings;
mod trace;
mod xdp_meta;

pub use bd::{
    BdEntry, BdFlags, BdId, BdRef, FloodClasses, FloodMember, FloodSpan, MAX_BDS, VniKey,
};
pub use counters::{BdCounters, Path, PortCounters, Stat, Traffic};
pub use endpoint::{AddressEntry, AddressKey, EndpointEntry, EndpointFlags, EndpointKey};
pub use event::{DhcpEvent, EVENT_RING_BYTES, Event, EventKind};
pub use fdb::{FdbEntry, FdbFlags, FdbKey, FdbWord};
pub use guard::{GuardEntry, GuardFlags, GuardKey, MAX_GUARDS, link_local};
pub use neighbor::{ArpKey, NdKey, NeighborEntry, NeighborFlags};
pub use nexthop::{
    Adjacency, Encapsulation, MAX_GROUPS, MAX_VTEPS, NhGroup, NhMember, SourceKey, VtepAddr,
    VtepEntry,
};
pub use port::{MAX_PORTS, PortEntry, PortFlags, PortKey, PortRef};
pub use settings::{MAX_LOCAL_VTEPS, MAX_UPLINKS, Settings, SettingsFlags};
pub use trace::{Fate, TRACE_RING_BYTES, Trace, TraceFilter, TraceProgram};
pub use xdp_meta::XdpMeta;

/// Version of everything in this module. It is part of the pin path, and whoever changes the layout
/// or the meaning of a map raises it.
pub const ABI_VERSION: u32 = 4 + cfg!(feature = "next-abi") as u32;

/// Source of the agent's questions to VMs (locally administered, "vtep"). Answers go to it: they are
/// learned from and end at the port.
pub const PROBE_MAC: crate::Mac = crate::Mac([0x02, 0x76, 0x74, 0x65, 0x70, 0x00]);

/// Default size of `fdb`, `arp`, `nd`, `endpoints` and `addresses` (`max_macs`).
pub const DEFAULT_MAX_MACS: u32 = 262_144;

/// Size of `flood`: members of all flood lists together.
pub const MAX_FLOOD_MEMBERS: u32 = 262_144;

/// Implements `aya::Pod` for the agent.
///
/// The types derive `FromBytes` and `IntoBytes`, hence any bytes are a value and no byte is padding.
macro_rules! pod {
    ($($type:ty),* $(,)?) => {
        $(
            #[cfg(feature = "user")]
            // SAFETY: the type is `Copy`, `'static`, valid for every bit pattern and without
            // padding: zerocopy's derives refuse to compile otherwise.
            unsafe impl aya::Pod for $type {}
        )*
    };
}
pub(crate) use pod;

/// A set of bits over an integer, with named constants.
macro_rules! flags {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($(#[$flag_doc:meta])* $flag:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, Hash,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $repr);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: Self = Self($value);)*

            /// Both sets.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// `other` added when `condition` holds.
            #[must_use]
            pub const fn with_if(self, other: Self, condition: bool) -> Self {
                if condition { self.with(other) } else { self }
            }

            /// What is in `self` and not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// All bits of `other` are set.
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut set = f.debug_set();
                $(if self.has(Self::$flag) { set.entry(&stringify!($flag)); })*
                set.finish()
            }
        }
    };
}
pub(crate) use flags;
