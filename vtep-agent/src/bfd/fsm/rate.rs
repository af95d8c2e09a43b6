//! Intervals that both sides have to agree on (RFC 5880 §6.5, §6.8.3).

use crate::bfd::wire::Interval;

/// One of our two intervals: what packets say, and what timers use meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    advertised: Interval,
    in_use: Interval,
}

impl Rate {
    pub(super) fn new(interval: Interval) -> Self {
        Self {
            advertised: interval,
            in_use: interval,
        }
    }

    /// Advertises another interval; `wait`: it is used only once the peer knows. Whether that is
    /// a change.
    pub(super) fn set(&mut self, interval: Interval, wait: bool) -> bool {
        if !wait {
            self.in_use = interval;
        }
        std::mem::replace(&mut self.advertised, interval) != interval
    }

    /// The peer knows what was advertised.
    pub(super) fn settle(&mut self) {
        self.in_use = self.advertised;
    }

    pub(super) fn advertised(&self) -> Interval {
        self.advertised
    }

    pub(super) fn in_use(&self) -> Interval {
        self.in_use
    }
}

/// Our Poll Sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Poll {
    /// There is none.
    #[default]
    Idle,
    /// Packets carry P until one with F arrives.
    Active,
    /// So they do, but the next F may answer an older packet: one more is needed.
    Again,
}

impl Poll {
    /// Something is to be confirmed.
    pub(super) fn begin(&mut self) {
        *self = match self {
            Self::Idle => Self::Active,
            Self::Active | Self::Again => Self::Again,
        };
    }

    /// A packet with F arrived. Whether everything is confirmed by it.
    pub(super) fn answered(&mut self) -> bool {
        let last = *self == Self::Active;
        *self = match self {
            Self::Again => Self::Active,
            Self::Idle | Self::Active => Self::Idle,
        };
        last
    }

    pub(super) fn end(&mut self) {
        *self = Self::Idle;
    }

    pub(super) fn is_active(self) -> bool {
        self != Self::Idle
    }
}
