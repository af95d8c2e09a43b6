use core::{fmt, str::FromStr};

/// A VXLAN network identifier (RFC 7348 §5): 24 bits, and one that an operator may configure, hence
/// not 0. No document reserves 0xffffff, and other VTEPs use it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "user", serde(try_from = "u32", into = "u32"))]
pub struct Vni(u32);

impl Vni {
    /// The largest identifier that may be used.
    pub const MAX: u32 = 0xff_ffff;

    /// `None` when the value is zero or does not fit into 24 bits.
    pub const fn new(value: u32) -> Option<Self> {
        if value == 0 || value > Self::MAX {
            None
        } else {
            Some(Self(value))
        }
    }

    /// The value in host order.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = InvalidVni;

    fn try_from(value: u32) -> Result<Self, InvalidVni> {
        Self::new(value).ok_or(InvalidVni)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.get()
    }
}

impl FromStr for Vni {
    type Err = InvalidVni;

    fn from_str(text: &str) -> Result<Self, InvalidVni> {
        text.parse().ok().and_then(Self::new).ok_or(InvalidVni)
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The value is no usable VXLAN network identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidVni;

impl fmt::Display for InvalidVni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a usable VNI (expected 1 to {})", Vni::MAX)
    }
}

impl core::error::Error for InvalidVni {}
