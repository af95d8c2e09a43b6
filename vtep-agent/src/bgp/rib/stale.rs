//! Routes that are kept although their peer doesn't vouch for them at present: while it restarts
//! (RFC 4724 §4.2) or sends everything again (RFC 7313 §4), until what it sends has replaced them.
//!
//! A stale path takes part in the decision as before; forwarding must not notice the restart. Only one
//! that is [long-lived](super::long_lived) gives way to others.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{AdjRibIn, Change, long_lived::LongLived, routes::RouteId};
use crate::{bgp::peer::Retention, types::PeerId};

/// How long stale routes outlive the moment from which their peer could have sent them again: the
/// default of RFC 8538 §4.1.
const STALE_TIME: Duration = Duration::from_secs(180);

/// Routes that go in one turn with a peer that is gone: some 10 ms of work.
const PART: usize = 4096;

/// What has to come before the stale routes of a peer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The peer itself.
    Session,
    /// Its End-of-RIB.
    EndOfRib,
    /// The end of a route refresh.
    EndOfRefresh,
}

/// A peer with stale routes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stale {
    pub(super) awaited: Awaited,
    /// They go then in any case, unless they become long-lived.
    pub(super) until: Instant,
    pub(super) long_lived: LongLived,
}

/// Why stale routes are kept. `Display` is for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyStale {
    /// The peer is restarting.
    Away,
    /// It has been away for longer than its restart time (RFC 9494).
    LongLived,
    /// It is back, and still sending its routes.
    EndOfRib,
    /// It is sending everything again (RFC 7313).
    Refresh,
}

impl fmt::Display for WhyStale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Away => "the peer is away, within its restart time",
            Self::LongLived => "the peer is away, beyond its restart time: used if nothing else is",
            Self::EndOfRib => "the peer is back, and has not sent its End-of-RIB",
            Self::Refresh => "the peer is sending its routes again",
        })
    }
}

impl AdjRibIn {
    /// A session is gone, and its routes stay as told.
    pub fn restarting(&mut self, peer: PeerId, retention: Retention, now: Instant) -> Vec<Change> {
        let old = self.peers.get(&peer).and_then(|peer| peer.stale);
        let long_lived = match (old.map(|stale| stale.long_lived), retention.long_lived) {
            (Some(begun @ LongLived::Until(_)), Some(_)) => begun,
            (_, Some(time)) => LongLived::For(time),
            (_, None) => LongLived::No,
        };
        // Stale a second time without the N bit: RFC 4724 §4.2.
        let mut changes = match (retention.keep_stale, long_lived) {
            (true, _) | (_, LongLived::Until(_)) => Vec::new(),
            _ => self.sweep(peer),
        };
        let until = now + retention.restart_time;
        self.mark(peer, Awaited::Session, until, long_lived);
        if retention.restart_time.is_zero() {
            changes.extend(self.outlive(peer, now));
        }
        changes
    }

    /// A session is gone, and its routes with it: a part of them now and the others with
    /// [`AdjRibIn::expire`], which is due until they are gone, so that a large table keeps nobody waiting.
    pub fn leave(&mut self, peer: PeerId, now: Instant) -> Vec<Change> {
        let Some(state) = self.peers.get_mut(&peer) else {
            return Vec::new();
        };
        if state.routes.len() <= PART {
            return self.down(peer);
        }
        state.session = None;
        state.end_of_rib = false;
        state.leaving = true;
        state.stale = Some(Stale {
            awaited: Awaited::Session,
            until: now,
            long_lived: LongLived::No,
        });
        let part: Vec<_> = state.routes.iter().take(PART).copied().collect();
        part.into_iter()
            .filter_map(|id| self.remove(peer, id, |_| true))
            .collect()
    }

    /// Routes whose time is over go, and those are decided again that wait for it.
    pub fn expire(&mut self, now: Instant) -> Vec<Change> {
        let over = |(id, peer): (&PeerId, &super::adj_in::Peer)| {
            peer.stale
                .is_some_and(|stale| stale.until <= now)
                .then_some((*id, peer.is_up()))
        };
        let over: Vec<_> = self.peers.iter().filter_map(over).collect();
        let mut changes = self.reconsider();
        for (peer, up) in over {
            changes.extend(match up {
                true => self.sweep(peer),
                false => self.outlive(peer, now),
            });
        }
        changes
    }

    /// When [`AdjRibIn::expire`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let stale = self.peers.values().filter_map(|peer| peer.stale);
        let until = stale.map(|stale| stale.until);
        until.chain(self.waiting_since()).min()
    }

    /// Why a peer's stale routes are kept.
    pub fn why_stale(&self, peer: PeerId) -> Option<WhyStale> {
        let peer = self.peers.get(&peer).filter(|peer| !peer.leaving)?;
        Some(match peer.stale?.awaited {
            Awaited::Session if peer.is_long_lived() => WhyStale::LongLived,
            Awaited::Session => WhyStale::Away,
            Awaited::EndOfRib => WhyStale::EndOfRib,
            Awaited::EndOfRefresh => WhyStale::Refresh,
        })
    }

    /// The session is back and its forwarding went on: what it doesn't send until End-of-RIB goes.
    pub(super) fn await_end_of_rib(&mut self, peer: PeerId, now: Instant) {
        if let Some(state) = self.peers.get_mut(&peer)
            && let Some(stale) = &mut state.stale
        {
            stale.awaited = Awaited::EndOfRib;
            // The end of long-lived ones stands (RFC 9494 §4.2).
            if !matches!(stale.long_lived, LongLived::Until(_)) {
                stale.until = now + STALE_TIME;
            }
        }
    }

    /// The peer's End-of-RIB arrived.
    pub(super) fn end_of_rib(&mut self, peer: PeerId) -> Vec<Change> {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.end_of_rib = true;
        }
        self.sweep_awaiting(peer, Awaited::EndOfRib)
    }

    /// The peer begins to send everything again. Before its first End-of-RIB that means nothing
    /// (RFC 7313 §4).
    pub fn refresh_begin(&mut self, peer: PeerId, now: Instant) {
        let Some(state) = self.peers.get(&peer) else {
            return;
        };
        match &state.session {
            Some(session) if session.graceful_restart && !state.end_of_rib => {
                tracing::warn!(peer = %session.address, "route refresh before End-of-RIB ignored");
            }
            Some(_) => {
                let until = now + STALE_TIME;
                self.mark(peer, Awaited::EndOfRefresh, until, LongLived::No);
            }
            None => {}
        }
    }

    /// The peer has sent everything again.
    pub fn refresh_end(&mut self, peer: PeerId) -> Vec<Change> {
        self.sweep_awaiting(peer, Awaited::EndOfRefresh)
    }

    /// Makes all routes of a peer stale.
    fn mark(&mut self, peer: PeerId, awaited: Awaited, until: Instant, long_lived: LongLived) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        if awaited == Awaited::Session {
            state.session = None;
        }
        state.stale = Some(Stale {
            awaited,
            until,
            long_lived,
        });
        for id in &state.routes {
            if let Some(entry) = self.routes.get_mut(*id) {
                entry.mark_stale(peer);
            }
        }
        state.received.stale = state.received.total();
    }

    /// What was awaited is there.
    fn sweep_awaiting(&mut self, peer: PeerId, awaited: Awaited) -> Vec<Change> {
        match self.peers.get(&peer).and_then(|peer| peer.stale) {
            Some(stale) if stale.awaited == awaited => self.sweep(peer),
            _ => Vec::new(),
        }
    }

    /// Removes the stale routes of a peer.
    fn sweep(&mut self, peer: PeerId) -> Vec<Change> {
        let Some(state) = self.peers.get_mut(&peer) else {
            return Vec::new();
        };
        if state.stale.take().is_none() {
            return Vec::new();
        }
        let routes = &self.routes;
        let is_stale = |id: &&RouteId| routes.get(**id).is_some_and(|entry| entry.is_stale(peer));
        let stale: Vec<_> = state.routes.iter().filter(is_stale).copied().collect();
        stale
            .into_iter()
            .filter_map(|id| self.remove(peer, id, |path| path.stale))
            .collect()
    }
}
