//! The address families of BGP that the agent speaks.

use serde::{Deserialize, Serialize};

/// A set of families. A peer has the EVPN family unless its configuration says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Families {
    /// L2VPN EVPN (RFC 7432 §7).
    pub evpn: bool,
    /// IPv4 unicast (RFC 4271 §4.3).
    pub ipv4: bool,
    /// IPv6 unicast (RFC 2545).
    pub ipv6: bool,
}

impl Families {
    /// The empty set.
    pub const NONE: Self = Self {
        evpn: false,
        ipv4: false,
        ipv6: false,
    };
    /// EVPN alone.
    pub const EVPN: Self = Self {
        evpn: true,
        ..Self::NONE
    };

    /// Families that are in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            evpn: self.evpn && other.evpn,
            ipv4: self.ipv4 && other.ipv4,
            ipv6: self.ipv6 && other.ipv6,
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Whether routes for the host's own routing table are exchanged.
    pub fn unicast(self) -> bool {
        self.ipv4 || self.ipv6
    }

    /// Names, as the configuration has them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            ("evpn", self.evpn),
            ("ipv4", self.ipv4),
            ("ipv6", self.ipv6),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
    }
}

impl Default for Families {
    fn default() -> Self {
        Self::EVPN
    }
}
