//! Route target membership (RFC 4684 §4): which routes a peer wants.

use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::{Attributes, Cause, Reader, reader::WrongLength};
use crate::types::{Asn, RouteTarget};

/// Octets of an AS and a route target.
const OCTETS: usize = 4 + 8;

/// A prefix over the AS that asks and the route target that it asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// Bits that count: 0, or 32 to 96.
    length: u8,
    /// The others are zero.
    octets: [u8; OCTETS],
}

/// The part of a [`Membership`] that selects routes: so many leading bits of a route target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetPrefix {
    /// 0 to 64; 0 for all routes.
    pub length: u8,
    /// The others are zero.
    pub octets: [u8; 8],
}

impl Membership {
    /// Everything, whatever its targets (RFC 4684 §4).
    pub const DEFAULT: Self = Self {
        length: 0,
        octets: [0; OCTETS],
    };

    /// Just this target, asked for by an AS.
    pub fn new(asn: Asn, target: RouteTarget) -> Self {
        let ([a, b, c, d], [e, f, g, h, i, j, k, l]) = (asn.0.to_be_bytes(), target.0);
        Self {
            length: 96,
            octets: [a, b, c, d, e, f, g, h, i, j, k, l],
        }
    }

    /// The routes that it stands for.
    pub fn targets(self) -> TargetPrefix {
        let [_, _, _, _, octets @ ..] = self.octets;
        TargetPrefix {
            length: self.length.saturating_sub(32),
            octets,
        }
    }

    /// Reads length and prefix. The AS can't be cut (RFC 4684 §4).
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Result<Self, Cause>, WrongLength> {
        let length = reader.u8()?;
        let prefix = reader.take(usize::from(length).div_ceil(8))?;
        if !matches!(length, 0 | 32..=96) {
            return Ok(Err(Cause::MembershipLength(length)));
        }
        let mut octets = [0; OCTETS];
        for (to, from) in octets.iter_mut().zip(prefix) {
            *to = *from;
        }
        mask(&mut octets, length);
        Ok(Ok(Self { length, octets }))
    }

    pub(super) fn encode(self, out: &mut BytesMut) {
        out.put_u8(self.length);
        let octets = self
            .octets
            .iter()
            .take(usize::from(self.length).div_ceil(8));
        octets.for_each(|octet| out.put_u8(*octet));
    }
}

impl TargetPrefix {
    /// The first `length` bits, at most 64, of a target.
    pub fn of(target: RouteTarget, length: u8) -> Self {
        let mut octets = target.0;
        mask(&mut octets, length);
        Self { length, octets }
    }
}

/// Clears all but the first bits.
fn mask(octets: &mut [u8], length: u8) {
    let mut left = u32::from(length);
    for octet in octets {
        let bits = left.min(8);
        left = left.saturating_sub(bits);
        *octet &= !u8::MAX.checked_shr(bits).unwrap_or(0);
    }
}

impl Attributes {
    /// What a membership is compared with: route targets, and ES-Import targets, which are among
    /// them (RFC 7432 §7.6).
    pub fn constrained_targets(&self) -> impl Iterator<Item = RouteTarget> {
        let communities = self.ext_communities.iter();
        communities.filter_map(|community| match community.0 {
            [0x00..=0x02 | 0x06, 0x02, ..] => Some(RouteTarget(community.0)),
            _ => None,
        })
    }
}

/// `65001:65001:10100` (AS and target), with the length when it is not the whole, or `default`.
impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, target @ ..] = self.octets;
        let asn = u32::from_be_bytes([a, b, c, d]);
        match self.length {
            0 => f.write_str("default"),
            96 => write!(f, "{asn}:{}", RouteTarget(target)),
            length => {
                write!(f, "{asn}:")?;
                target
                    .iter()
                    .try_for_each(|octet| write!(f, "{octet:02x}"))?;
                write!(f, "/{length}")
            }
        }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
