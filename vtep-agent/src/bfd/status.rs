//! What can be seen of a session from outside.

use std::time::{Duration, Instant};

use super::{discard::Discard, fsm::Down, wire::State};
use crate::types::PeerId;

/// A snapshot of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whose.
    pub peer: PeerId,
    /// Its state,
    pub state: State,
    /// since then.
    pub since: Instant,
    /// The peer's state; `None` when it is not heard.
    pub remote_state: Option<State>,
    /// Multihop, on the port of its own.
    pub multihop: bool,
    /// Interval at which we send, before jitter; `None`: not periodically.
    pub transmit_interval: Option<Duration>,
    /// How long the peer may be silent; `None` when it is not heard.
    pub detection_time: Option<Duration>,
    /// Why it last left Up.
    pub last_down: Option<Down>,
    /// Packets received, without those discarded.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Why its packets don't leave.
    pub error: Option<String>,
    /// Why the last packet from the peer's address was discarded, if that was the last that came
    /// and the session is not up.
    pub discarded: Option<Discard>,
}
