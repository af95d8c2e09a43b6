//! Why packets are discarded, and how often.

use super::wire::Malformed;

macro_rules! discards {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was discarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Discard {
            $($(#[$doc])* $variant,)*
        }

        impl Discard {
            /// All reasons, in the order in which they are checked.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As metrics have it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

discards! {
    /// Single hop, and the TTL or hop limit is not 255 (RFC 5881 §5); multihop, and it is less than
    /// the configured number of hops explains.
    Ttl = "ttl",
    /// Another protocol version.
    Version = "version",
    /// The length field is too small, or there is none.
    Length = "length",
    /// The length field is more than the datagram has.
    Truncated = "truncated",
    /// Detect Mult is zero.
    Multiplier = "multiplier",
    /// The Multipoint bit is set.
    Multipoint = "multipoint",
    /// My Discriminator is zero.
    MyDiscriminator = "my_discriminator",
    /// Your Discriminator is zero in state Init or Up.
    State = "state",
    /// Poll and Final at once.
    PollAndFinal = "poll_and_final",
    /// Your Discriminator names no session.
    NoSession = "no_session",
    /// No session is configured with this pair of addresses.
    NoPeer = "no_peer",
    /// The session is single hop and this is the port of multihop, or the reverse.
    WrongPort = "wrong_port",
    /// Authentication, which is not supported.
    Authentication = "authentication",
}

impl From<Malformed> for Discard {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Version => Self::Version,
            Malformed::Length => Self::Length,
            Malformed::Truncated => Self::Truncated,
            Malformed::Multiplier => Self::Multiplier,
            Malformed::Multipoint => Self::Multipoint,
            Malformed::MyDiscriminator => Self::MyDiscriminator,
            Malformed::State => Self::State,
            Malformed::PollAndFinal => Self::PollAndFinal,
        }
    }
}

/// How often packets were discarded, by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discards([u64; Discard::ALL.len()]);

impl Default for Discards {
    fn default() -> Self {
        Self([0; Discard::ALL.len()])
    }
}

impl Discards {
    /// Every reason with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> {
        Discard::ALL.iter().copied().zip(self.0)
    }

    pub(super) fn count(&mut self, reason: Discard) {
        let counters = Discard::ALL.iter().zip(&mut self.0);
        for (_, counter) in counters.filter(|(known, _)| **known == reason) {
            *counter += 1;
        }
    }
}
