//! One TCP connection of a peer, from our OPEN on.

use std::time::{Duration, Instant};

use super::{Graceful, Settings, YOUNG_SESSION, backoff::Jitter, negotiation::Negotiated};

/// Hold time until the peer's OPEN is there (RFC 4271 §8.2.2, OpenSent).
const LARGE_HOLD_TIME: Duration = Duration::from_secs(240);

/// Shortest send hold time unless configured otherwise (RFC 9687 §4.4).
const SEND_HOLD_TIME: Duration = Duration::from_secs(480);

/// Names a TCP connection; the owner of the sockets gives each a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer.
    Incoming,
    /// We.
    Outgoing,
}

/// Progress of a connection on which we sent an OPEN.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    OpenSent,
    OpenConfirm(Negotiated),
    Established(Negotiated, Instant),
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    pub(super) phase: Phase,
    /// HoldTimer.
    pub(super) hold: Option<Instant>,
    /// KeepaliveTimer.
    pub(super) keepalive: Option<Instant>,
    /// SendHoldTimer (RFC 9687).
    pub(super) send_hold: Option<Instant>,
    /// When it came about.
    pub(super) begun: Instant,
    /// When the peer first said what it says in Established only.
    pub(super) known: Option<Instant>,
}

impl Connection {
    /// In OpenSent.
    pub(super) fn new(id: ConnectionId, direction: Direction, now: Instant) -> Self {
        Self {
            id,
            direction,
            phase: Phase::OpenSent,
            hold: Some(now + LARGE_HOLD_TIME),
            keepalive: None,
            send_hold: None,
            begun: now,
            known: None,
        }
    }

    /// OpenSent to OpenConfirm: from here on the negotiated times count.
    pub(super) fn confirm(&mut self, negotiated: Negotiated, now: Instant, jitter: &mut Jitter) {
        self.phase = Phase::OpenConfirm(negotiated);
        self.restart_hold(now);
        self.restart_keepalive(now, jitter);
    }

    /// OpenConfirm to Established.
    pub(super) fn establish(&mut self, settings: &Settings, now: Instant) {
        if let Phase::OpenConfirm(negotiated) = &self.phase {
            self.phase = Phase::Established(negotiated.clone(), now);
            self.restart_hold(now);
            self.restart_send_hold(settings, now);
        }
    }

    /// Only in Established; without a hold time there is none (RFC 9687 §4).
    pub(super) fn restart_send_hold(&mut self, settings: &Settings, now: Instant) {
        if let Phase::Established(Negotiated { hold_time, .. }, _) = self.phase {
            let default = SEND_HOLD_TIME.max(hold_time * 2);
            let time = settings.send_hold_time.unwrap_or(default);
            self.send_hold = (!hold_time.is_zero() && !time.is_zero()).then(|| now + time);
        }
    }

    pub(super) fn restart_hold(&mut self, now: Instant) {
        if let Some(hold_time) = self.hold_time() {
            self.hold = (!hold_time.is_zero()).then(|| now + hold_time);
        }
    }

    /// A third of the hold time (RFC 4271 §4.4), with jitter.
    pub(super) fn restart_keepalive(&mut self, now: Instant, jitter: &mut Jitter) {
        if let Some(hold_time) = self.hold_time() {
            self.keepalive = (!hold_time.is_zero()).then(|| now + jitter.of(hold_time / 3));
        }
    }

    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::OpenSent => None,
            Phase::OpenConfirm(negotiated) | Phase::Established(negotiated, _) => Some(negotiated),
        }
    }

    pub(super) fn graceful(&self) -> Option<&Graceful> {
        self.negotiated()?.graceful.as_ref()
    }

    /// Whether a new connection of the peer, on which its OPEN said this, takes the place of this
    /// session (RFC 4724 §4.2). It does not if the peer may have begun it before it knew of the session.
    pub(super) fn gives_way(
        &self,
        newcomer: &Self,
        theirs: Option<&Graceful>,
        now: Instant,
    ) -> bool {
        let (Some(graceful), Some(since)) = (self.graceful(), self.established_since()) else {
            return false;
        };
        let restarted = !graceful.restarting && theirs.is_some_and(|theirs| theirs.restarting);
        let knew = self.known.is_some_and(|known| known <= newcomer.begun);
        restarted || knew || now.saturating_duration_since(since) >= YOUNG_SESSION
    }

    pub(super) fn established_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Established(_, since) => Some(since),
            _ => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.hold
            .into_iter()
            .chain(self.keepalive)
            .chain(self.send_hold)
            .min()
    }

    /// `None` while the large hold time of OpenSent counts.
    fn hold_time(&self) -> Option<Duration> {
        self.negotiated().map(|negotiated| negotiated.hold_time)
    }
}
