//! What the datapath counts. All are per CPU; a reader adds them up.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::pod;

/// Frames and bytes. Bytes are those of the tenant's frame, Ethernet header included and without
/// FCS, whatever the encapsulation; a GSO frame counts once, with the bytes that it has.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Value of `port_counters`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PortCounters {
    /// From the VM.
    pub rx: Traffic,
    /// To the VM.
    pub tx: Traffic,
    /// Frames from the VM that were dropped.
    pub drops: u64,
}

/// Value of `bd_counters`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BdCounters {
    /// ARP requests answered.
    pub suppressed_arp: u64,
    /// Neighbour solicitations answered.
    pub suppressed_nd: u64,
    /// Copies made of BUM frames, to ports and to VTEPs.
    pub flood_copies: u64,
}

macro_rules! counter_index {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $value,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// Size of the map.
            pub const CAPACITY: u32 = 16;

            /// Stable name in lower case with underscores.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

counter_index! {
    /// Which way a tenant's frame took; indexes `path_counters`.
    Path {
        /// Decapsulated in XDP and redirected to the port there.
        RxXdpRedirect = 0 => "xdp_redirect",
        /// Decapsulated in XDP, merged by GRO, delivered by TC.
        RxXdpPass = 1 => "xdp_pass",
        /// Decapsulated in TC.
        RxTc = 2 => "tc",
        /// Decapsulated by the host's vxlan device, delivered by TC.
        RxDevice = 3 => "device",
        /// A BUM frame from the overlay, once per frame and not per copy.
        RxFlood = 4 => "flood",
        /// Known unicast, encapsulated.
        TxUnicast = 5 => "unicast",
        /// A copy of a BUM frame, encapsulated; once per remote VTEP.
        TxFlood = 6 => "flood",
        /// Switched between two ports of this host.
        Local = 7 => "local",
    }
}

counter_index! {
    /// Events worth counting that are no drop; indexes `stats`.
    Stat {
        /// Events that did not fit into the ring buffer.
        EventsLost = 0 => "events_lost",
        /// Events withheld by a port's learning budget; the source stays unknown until its next frame.
        EventsLimited = 1 => "events_limited",
        /// ICMP and ICMPv6 "too big" messages sent to VMs.
        TooBigSent = 2 => "too_big_sent",
    }
}

impl Path {
    /// `rx` (from the overlay), `tx` (to the overlay) or `local`.
    pub const fn direction(self) -> &'static str {
        match self {
            Self::RxXdpRedirect | Self::RxXdpPass | Self::RxTc | Self::RxDevice | Self::RxFlood => {
                "rx"
            }
            Self::TxUnicast | Self::TxFlood => "tx",
            Self::Local => "local",
        }
    }
}

pod!(Traffic, PortCounters, BdCounters);
