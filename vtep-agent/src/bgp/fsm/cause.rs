//! Why sessions end, and the NOTIFICATIONs that say so to the peer.

use std::{fmt, time::Duration};

use super::{Graceful, Refusal, connection::Phase};
use crate::bgp::wire::{Family, MessageType, Notification};

/// How long a peer is kept out after a protocol error.
const IDLE_HOLD_TIME: Duration = Duration::from_secs(1);

/// How long a peer is kept out that sent too many routes: it would send them again (RFC 4486 §4).
const TOO_MANY_ROUTES: Duration = Duration::from_secs(60);

/// Why a session or an attempt to make one ended. `Display` names the side that ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// We ended it with this NOTIFICATION.
    Sent(Notification),
    /// We ended it, with the NOTIFICATION for this.
    Refused(Refusal),
    /// The peer ended it with this NOTIFICATION.
    Received(Notification),
    /// TCP ended it; the text is the system's.
    Transport(String),
    /// The peer, which must have restarted, opened another connection (RFC 4724 §4.2).
    Replaced,
    /// We closed the connection without a word, so that the peer keeps our routes (RFC 4724 §5: a
    /// NOTIFICATION would end them).
    Left,
    /// No TCP connection came about; the text is the system's.
    Connect(String),
}

impl Cause {
    /// How long to keep the peer out, if the same would happen again at once. A Cease is no such
    /// thing (except for lack of resources), least of all the one for the loser of a collision,
    /// whose winner may still be on its way to us.
    pub(super) fn idle_hold_time(&self) -> Option<Duration> {
        let notification = match self {
            Self::Sent(notification) | Self::Received(notification) => notification,
            Self::Refused(refusal) => &refusal.notification(),
            _ => return None,
        };
        let reason = match &notification.data[..] {
            [code, subcode, ..] if notification.is_hard_reset() => (*code, *subcode),
            _ => (notification.code, notification.subcode),
        };
        match reason {
            (6, 1) if matches!(self, Self::Sent(_)) => Some(TOO_MANY_ROUTES),
            (4, _) | (6, 2..=7 | 9 | 10) => None,
            _ => Some(IDLE_HOLD_TIME),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "we ended the session: {notification}"),
            Self::Refused(refusal) => write!(f, "we refused its OPEN: {refusal}"),
            Self::Received(notification) => write!(f, "the peer ended the session: {notification}"),
            Self::Transport(text) => write!(f, "connection lost: {text}"),
            Self::Left => f.write_str("we closed the connection for a restart"),
            Self::Replaced => f.write_str("the peer opened a new connection"),
            Self::Connect(text) => write!(f, "cannot connect: {text}"),
        }
    }
}

/// Why we end a session on purpose (RFC 4486).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cease {
    /// The agent or the session stops for good. The text is for the peer's operator (RFC 9003).
    Shutdown(String),
    /// The agent stops and its forwarding goes on: peers that know graceful restart are to keep our
    /// routes. The text is for the operators of the others.
    Restart(String),
    /// The peer was removed from the configuration.
    Deconfigured,
    /// The peer's configuration changed. Both sides keep what they know if they can.
    ConfigChange,
    /// The peer sent more routes of a family than this (RFC 4486 §4).
    MaxPrefixes(Family, u32),
    /// BFD gave up the path to the peer (RFC 9384).
    BfdDown,
    /// What the peer doesn't read would fill our memory.
    OutOfResources,
}

impl Cease {
    /// What the peer is told of it on a connection where this was negotiated; `None`: nothing, since
    /// it keeps our routes over a restart (RFC 4724 §4.2), but not after a NOTIFICATION.
    pub(super) fn farewell(&self, graceful: Option<&Graceful>) -> Option<Notification> {
        let notification = graceful.map(|graceful| graceful.notification);
        match (self, notification) {
            (Self::Restart(_) | Self::ConfigChange, Some(false)) => None,
            // RFC 8538 §3.1: anything but a hard reset keeps them.
            (Self::Restart(text), Some(true)) => Some(Notification::administrative_reset(text)),
            (Self::Deconfigured | Self::MaxPrefixes(..) | Self::Shutdown(_), Some(true)) => {
                Some(Notification::hard_reset(&self.notification()))
            }
            _ => Some(self.notification()),
        }
    }

    /// The NOTIFICATION for a peer without graceful restart.
    pub fn notification(&self) -> Notification {
        match self {
            Self::Shutdown(text) | Self::Restart(text) => {
                Notification::administrative_shutdown(text)
            }
            Self::Deconfigured => Notification::PEER_DECONFIGURED,
            Self::ConfigChange => Notification::OTHER_CONFIGURATION_CHANGE,
            Self::MaxPrefixes(family, limit) => Notification::max_prefixes(*family, *limit),
            Self::BfdDown => Notification::BFD_DOWN,
            Self::OutOfResources => Notification::new(6, 8),
        }
    }
}

/// A message that doesn't fit the state; the data is its type (RFC 6608 §4).
pub(super) fn unexpected(phase: &Phase, kind: MessageType) -> Notification {
    let subcode = match phase {
        Phase::OpenSent => 1,
        Phase::OpenConfirm(_) => 2,
        Phase::Established(..) => 3,
    };
    Notification::with_data(5, subcode, &[kind as u8])
}

/// What the codec refused: if the message has no business in this state, that comes first, whatever is
/// in it (RFC 4271 §8.2.2, events 22 and 28).
pub(super) fn malformed(phase: &Phase, notification: Notification) -> Notification {
    let kind = match notification.code {
        2 => MessageType::Open,
        3 => MessageType::Update,
        7 => MessageType::RouteRefresh,
        _ => return notification,
    };
    let established = matches!(phase, Phase::Established(..));
    match (kind, established) {
        (MessageType::Open, true) | (MessageType::Update | MessageType::RouteRefresh, false) => {
            unexpected(phase, kind)
        }
        _ => notification,
    }
}
