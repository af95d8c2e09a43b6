//! `bfd` of a peer or a group.

use std::{num::NonZeroU8, time::Duration};

use toml::Spanned;

use super::{
    field::{Result, number},
    options::multihop,
    raw,
};

use serde::{Deserialize, Serialize};

/// `bfd` of a peer: the path to it is watched (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdConfig {
    /// Desired Min TX Interval and Required Min RX Interval.
    pub interval: Duration,
    /// Detect Mult.
    pub multiplier: NonZeroU8,
    /// How far the peer is; `None`: as its BGP session has it.
    pub hops: Option<Hops>,
    /// No BGP session without a BFD session that is Up.
    pub strict: bool,
}

/// How far a BFD peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hops {
    /// On the same link (RFC 5881).
    Single,
    /// At most so many hops away, 1 to 255 (RFC 5883).
    Multi(u8),
}

impl Default for BfdConfig {
    /// 3 times 300 ms.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(300),
            multiplier: const { NonZeroU8::new(3).unwrap() },
            hops: None,
            strict: false,
        }
    }
}

impl Hops {
    /// TTL or hop limit with which packets leave.
    pub const TTL: u8 = 255;

    /// RFC 5883.
    pub fn is_multihop(self) -> bool {
        matches!(self, Self::Multi(_))
    }

    /// With which a packet must arrive at least.
    pub fn least_ttl(self) -> u8 {
        match self {
            Self::Single => Self::TTL,
            Self::Multi(hops) => Self::TTL - hops.saturating_sub(1),
        }
    }
}

/// `true`, `false`, or a table.
pub(super) fn bfd(raw: &Spanned<raw::Bfd>) -> Result<Option<BfdConfig>> {
    let table = match raw.get_ref() {
        raw::Bfd::Flag(wanted) => return Ok(wanted.then(BfdConfig::default)),
        raw::Bfd::Table(table) => table,
    };
    let default = BfdConfig::default();
    let interval = table.interval.as_ref();
    let multiplier = table.multiplier.as_ref();
    let hops = table.multihop.as_ref();
    Ok(Some(BfdConfig {
        interval: interval
            .map(|raw| number(raw, "interval", 10..=60_000).map(Duration::from_millis))
            .transpose()?
            .unwrap_or(default.interval),
        multiplier: multiplier
            .map(|raw| number(raw, "multiplier", 1..=u8::MAX))
            .transpose()?
            .and_then(NonZeroU8::new)
            .unwrap_or(default.multiplier),
        hops: hops
            .map(multihop)
            .transpose()?
            .map(|hops| hops.map_or(Hops::Single, Hops::Multi)),
        strict: table.strict.unwrap_or(default.strict),
    }))
}
