//! Extended communities (RFC 4360, RFC 7432 §7.5–7.10, RFC 9012, RFC 9047, RFC 9135).

use serde::{Deserialize, Serialize};

use crate::types::{Mac, RouteTarget};

/// An extended community: eight octets in wire order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExtCommunity(pub [u8; 8]);

/// MAC mobility (RFC 7432 §7.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MacMobility {
    /// The MAC must not move.
    pub sticky: bool,
    /// Sequence number.
    pub sequence: u32,
}

/// ARP/ND flags of a MAC/IP route (RFC 9047 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ArpNd {
    /// R, 0x01.
    pub router: bool,
    /// O, 0x02.
    pub override_: bool,
    /// I, 0x08.
    pub immutable: bool,
}

/// Tunnel type of the Encapsulation community (RFC 9012 §4.1), by IANA number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encapsulation(pub u16);

impl Encapsulation {
    /// VXLAN.
    pub const VXLAN: Self = Self(8);
    /// NVGRE.
    pub const NVGRE: Self = Self(9);
    /// MPLS.
    pub const MPLS: Self = Self(10);
    /// GENEVE.
    pub const GENEVE: Self = Self(19);
}

impl ExtCommunity {
    /// Tunnel encapsulation.
    pub fn encapsulation(tunnel: Encapsulation) -> Self {
        let [a, b] = tunnel.0.to_be_bytes();
        Self([0x03, 0x0c, 0, 0, 0, 0, a, b])
    }

    /// MAC mobility.
    pub fn from_mac_mobility(mobility: MacMobility) -> Self {
        let [a, b, c, d] = mobility.sequence.to_be_bytes();
        Self([0x06, 0x00, u8::from(mobility.sticky), 0, a, b, c, d])
    }

    /// ARP/ND flags.
    pub fn from_arp_nd(flags: ArpNd) -> Self {
        let bits = u8::from(flags.router)
            | u8::from(flags.override_) << 1
            | u8::from(flags.immutable) << 3;
        Self([0x06, 0x08, bits, 0, 0, 0, 0, 0])
    }

    /// As a route target, when its type and sub-type say so (RFC 4360 §4).
    pub fn route_target(self) -> Option<RouteTarget> {
        matches!(self.0, [0x00..=0x02, 0x02, ..]).then_some(RouteTarget(self.0))
    }

    /// As MAC mobility.
    pub fn mac_mobility(self) -> Option<MacMobility> {
        match self.0 {
            [0x06, 0x00, flags, _, a, b, c, d] => Some(MacMobility {
                sticky: flags & 1 != 0,
                sequence: u32::from_be_bytes([a, b, c, d]),
            }),
            _ => None,
        }
    }

    /// As a tunnel encapsulation.
    pub fn tunnel(self) -> Option<Encapsulation> {
        match self.0 {
            [0x03, 0x0c, _, _, _, _, a, b] => Some(Encapsulation(u16::from_be_bytes([a, b]))),
            _ => None,
        }
    }

    /// As ARP/ND flags. Bit 0x04 is not defined by the RFC and is ignored.
    pub fn arp_nd(self) -> Option<ArpNd> {
        match self.0 {
            [0x06, 0x08, bits, ..] => Some(ArpNd {
                router: bits & 1 != 0,
                override_: bits & 2 != 0,
                immutable: bits & 8 != 0,
            }),
            _ => None,
        }
    }

    /// As a router's MAC (RFC 9135 §8.1).
    pub fn router_mac(self) -> Option<Mac> {
        match self.0 {
            [0x06, 0x03, mac @ ..] => Some(Mac(mac)),
            _ => None,
        }
    }

    /// A default gateway's route (RFC 7432 §7.8).
    pub fn is_default_gateway(self) -> bool {
        matches!(self.0, [0x03, 0x0d, ..])
    }
}

impl From<RouteTarget> for ExtCommunity {
    fn from(target: RouteTarget) -> Self {
        Self(target.0)
    }
}

impl std::fmt::Debug for ExtCommunity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
