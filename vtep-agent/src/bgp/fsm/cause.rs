//! Why sessions end, and the NOTIFICATIONs that say so to the peer.

use std::fmt;

use crate::bgp::wire::{Message, Notification};

/// Why a session or an attempt to make one ended. `Display` names the side that ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// We ended it with this NOTIFICATION.
    Sent(Notification),
    /// The peer ended it with this NOTIFICATION.
    Received(Notification),
    /// TCP ended it; the text is the system's.
    Transport(String),
    /// The peer, which must have restarted, opened another connection (RFC 4724 §4.2).
    Replaced,
    /// No TCP connection came about; the text is the system's.
    Connect(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "we ended the session: {notification}"),
            Self::Received(notification) => write!(f, "the peer ended the session: {notification}"),
            Self::Transport(text) => write!(f, "connection lost: {text}"),
            Self::Replaced => f.write_str("the peer opened a new connection"),
            Self::Connect(text) => write!(f, "cannot connect: {text}"),
        }
    }
}

/// Why we end a session on purpose (RFC 4486).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cease {
    /// The agent stops. The text is for the peer's operator (RFC 9003).
    Shutdown(String),
    /// The peer was removed from the configuration.
    Deconfigured,
    /// The peer's configuration changed.
    ConfigChange,
    /// What the peer doesn't read would fill our memory.
    OutOfResources,
}

impl Cease {
    /// Whether the peer should forget our routes too, whatever it promised (RFC 8538 §3.1).
    pub(super) fn is_hard(&self) -> bool {
        matches!(self, Self::Deconfigured)
    }

    /// The NOTIFICATION.
    pub fn notification(&self) -> Notification {
        match self {
            Self::Shutdown(text) => Notification::administrative_shutdown(text),
            Self::Deconfigured => Notification::PEER_DECONFIGURED,
            Self::ConfigChange => Notification::OTHER_CONFIGURATION_CHANGE,
            Self::OutOfResources => Notification::new(6, 8),
        }
    }
}

/// A message that doesn't fit the state; the data is its type (RFC 6608 §4).
pub(super) fn unexpected(message: &Message, subcode: u8) -> Notification {
    let kind = match message {
        Message::Open(_) => 1,
        Message::Update(_) => 2,
        Message::Notification(_) => 3,
        Message::Keepalive => 4,
        Message::RouteRefresh(_) => 5,
    };
    Notification::with_data(5, subcode, &[kind])
}
