use std::fmt;

/// An Ethernet Segment Identifier (RFC 7432 §5), ten octets with the type first.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Esi(pub [u8; 10]);

octets!(Esi);

impl Esi {
    /// A single-homed site.
    pub const ZERO: Self = Self([0; 10]);
    /// MAX-ESI.
    pub const MAX: Self = Self([0xff; 10]);

    /// ESI 0 and MAX-ESI: a route with it is resolved by itself alone (RFC 7432 §9.2.2).
    pub fn is_reserved(self) -> bool {
        self == Self::ZERO || self == Self::MAX
    }
}

impl fmt::Display for Esi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Esi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
