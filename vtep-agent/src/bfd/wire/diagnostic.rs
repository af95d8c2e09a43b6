use std::fmt;

/// Why a session last changed its state (RFC 5880 §4.1), 0 to 31. `Display` gives the registered
/// name.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// No reason.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const TIME_EXPIRED: Self = Self(1);
    /// The peer said that its session is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// Switched off on purpose.
    pub const ADMIN_DOWN: Self = Self(7);

    /// The low five bits.
    pub fn new(code: u8) -> Self {
        Self(code & 0x1f)
    }

    /// The number.
    pub fn code(self) -> u8 {
        self.0
    }

    /// From the first octet of a packet.
    pub(super) fn read(octet: u8) -> Self {
        Self::new(octet)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            // RFC 6428.
            9 => "mis-connectivity defect",
            code => return write!(f, "diagnostic {code}"),
        })
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self})", self.0)
    }
}
