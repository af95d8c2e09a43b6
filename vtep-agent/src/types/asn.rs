use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

/// An autonomous system number (RFC 6793), 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl Asn {
    /// AS_TRANS, which stands for a number that does not fit into 16 bits (RFC 6793 §9).
    pub const TRANS: Self = Self(23456);

    /// As it is written into a 16-bit field.
    pub fn to_u16(self) -> u16 {
        u16::try_from(self.0).unwrap_or(23456)
    }
}

/// The AS as which one peer knows us, where it is not our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LocalAs {
    /// The AS.
    pub asn: Asn,
    /// Paths towards the peer don't show our own AS behind it.
    pub replace: bool,
}

impl LocalAs {
    /// What stands in front of the paths that an external peer is told, in the order of an AS_PATH;
    /// `own` is our own AS.
    pub fn front(local: Option<Self>, own: Asn) -> Vec<Asn> {
        match local {
            None => vec![own],
            Some(Self { asn, replace: true }) => vec![asn],
            Some(Self { asn, .. }) => vec![asn, own],
        }
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Asn {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}
