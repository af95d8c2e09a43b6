//! BFD Control packets (RFC 5880 §4.1).
//!
//! A [`Packet`] that exists can be sent: what §6.8.6 has a receiver discard cannot be written down.

mod diagnostic;
#[cfg(test)]
mod tests;

pub use diagnostic::Diagnostic;

use std::{
    fmt,
    num::{NonZeroU8, NonZeroU32},
    time::Duration,
};

/// Protocol version.
const VERSION: u8 = 1;

/// Length without authentication, in octets: what we send.
pub const LEN: usize = 24;

/// Least length with an authentication section, in octets.
const AUTHENTICATED_LEN: usize = 26;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION_PRESENT: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A BFD Control packet without authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's session last changed its state.
    pub diagnostic: Diagnostic,
    /// State of the sender's session.
    pub state: State,
    /// P and F bits.
    pub sequence: Sequence,
    /// C: the sender's BFD goes on while its control plane restarts.
    pub control_plane_independent: bool,
    /// D: the sender wants no periodic packets while both sessions are Up.
    pub demand: bool,
    /// Packets in a row that may be lost.
    pub multiplier: NonZeroU8,
    /// The sender's session.
    pub my_discriminator: Discriminator,
    /// The receiver's session; `None`: not known to the sender.
    pub your_discriminator: Option<Discriminator>,
    /// Least interval at which the sender wants to send.
    pub desired_min_tx: Interval,
    /// Least interval at which it can receive; zero: it wants no periodic packets.
    pub required_min_rx: Interval,
    /// The same for Echo packets; zero: it takes none.
    pub required_min_echo_rx: Interval,
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The packet.
    pub packet: Packet,
    /// A: an authentication section follows, which is not read.
    pub authenticated: bool,
}

/// State of a session (§4.1). `Display` gives the name that `show` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Switched off on purpose.
    AdminDown,
    /// No connectivity, or none known yet.
    Down,
    /// The peer is heard, and doesn't hear us yet.
    Init,
    /// Connectivity in both directions.
    Up,
}

/// Part of a Poll Sequence (§6.5). No packet is both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sequence {
    /// Neither bit.
    #[default]
    None,
    /// P: asks for a Final.
    Poll,
    /// F: answers a Poll.
    Final,
}

/// Names a session on its system; never zero on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Discriminator(pub NonZeroU32);

/// A time in whole microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(pub u32);

/// What cannot be a packet, in the order in which §6.8.6 looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Another protocol version.
    Version,
    /// The length field is less than the fixed part, or the datagram ends before that field.
    Length,
    /// The length field is more than the datagram has.
    Truncated,
    /// Detect Mult is zero.
    Multiplier,
    /// The Multipoint bit is set.
    Multipoint,
    /// My Discriminator is zero.
    MyDiscriminator,
    /// No Your Discriminator in a state that needs one.
    State,
    /// Poll and Final in one packet (§6.5).
    PollAndFinal,
}

impl Packet {
    /// The packet as it goes out, in network byte order.
    pub fn encode(&self) -> [u8; LEN] {
        let flags = match self.sequence {
            Sequence::None => 0,
            Sequence::Poll => POLL,
            Sequence::Final => FINAL,
        } | bit(CONTROL_PLANE_INDEPENDENT, self.control_plane_independent)
            | bit(DEMAND, self.demand);
        let your = self.your_discriminator.map_or(0, |your| your.0.get());
        let words = [
            [
                VERSION << 5 | self.diagnostic.code(),
                self.state.code() << 6 | flags,
                self.multiplier.get(),
                LEN as u8,
            ],
            self.my_discriminator.0.get().to_be_bytes(),
            your.to_be_bytes(),
            self.desired_min_tx.0.to_be_bytes(),
            self.required_min_rx.0.to_be_bytes(),
            self.required_min_echo_rx.0.to_be_bytes(),
        ];
        let mut octets = [0; LEN];
        for (slot, octet) in octets.iter_mut().zip(words.into_iter().flatten()) {
            *slot = octet;
        }
        octets
    }

    /// Reads the payload of a datagram. What follows the packet's own length is ignored.
    ///
    /// # Errors
    ///
    /// The first reason of §6.8.6 to discard it.
    pub fn decode(payload: &[u8]) -> Result<Received, Malformed> {
        let first = *payload.first().ok_or(Malformed::Length)?;
        if first >> 5 != VERSION {
            return Err(Malformed::Version);
        }
        let &[_, flags, multiplier, length] = payload.first_chunk().ok_or(Malformed::Length)?;
        let authenticated = flags & AUTHENTICATION_PRESENT != 0;
        let least = match authenticated {
            true => AUTHENTICATED_LEN,
            false => LEN,
        };
        if usize::from(length) < least {
            return Err(Malformed::Length);
        }
        if usize::from(length) > payload.len() {
            return Err(Malformed::Truncated);
        }
        let multiplier = NonZeroU8::new(multiplier).ok_or(Malformed::Multiplier)?;
        if flags & MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        let words = payload.as_chunks().0;
        let &[
            _,
            my,
            your,
            desired_min_tx,
            required_min_rx,
            required_min_echo_rx,
        ] = words.first_chunk().ok_or(Malformed::Truncated)?;
        let my_discriminator = Discriminator::read(my).ok_or(Malformed::MyDiscriminator)?;
        let your_discriminator = Discriminator::read(your);
        let state = State::read(flags);
        if your_discriminator.is_none() && !matches!(state, State::Down | State::AdminDown) {
            return Err(Malformed::State);
        }
        let sequence = match (flags & POLL != 0, flags & FINAL != 0) {
            (false, false) => Sequence::None,
            (true, false) => Sequence::Poll,
            (false, true) => Sequence::Final,
            (true, true) => return Err(Malformed::PollAndFinal),
        };
        let interval = |octets| Interval(u32::from_be_bytes(octets));
        let packet = Self {
            diagnostic: Diagnostic::read(first),
            state,
            sequence,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: interval(desired_min_tx),
            required_min_rx: interval(required_min_rx),
            required_min_echo_rx: interval(required_min_echo_rx),
        };
        Ok(Received {
            packet,
            authenticated,
        })
    }
}

impl State {
    fn code(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }

    /// From the second octet.
    fn read(octet: u8) -> Self {
        match octet >> 6 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        })
    }
}

impl Discriminator {
    fn read(octets: [u8; 4]) -> Option<Self> {
        NonZeroU32::new(u32::from_be_bytes(octets)).map(Self)
    }
}

impl Interval {
    /// As long as the field can say, if `duration` is longer.
    pub fn new(duration: Duration) -> Self {
        Self(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX))
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_micros(self.0.into())
    }
}

fn bit(mask: u8, set: bool) -> u8 {
    match set {
        true => mask,
        false => 0,
    }
}
