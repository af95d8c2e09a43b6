//! Routes that are kept although their peer doesn't vouch for them at present: while it restarts
//! (RFC 4724 §4.2) or sends everything again (RFC 7313 §4), until what it sends has replaced them.
//!
//! A stale path takes part in the decision as before; forwarding must not notice the restart.

use std::time::{Duration, Instant};

use super::{AdjRibIn, Change};
use crate::{bgp::peer::Retention, types::PeerId};

/// How long stale routes outlive the moment from which their peer could have sent them again: the
/// default of RFC 8538 §4.1.
const STALE_TIME: Duration = Duration::from_secs(180);

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
    /// They go then in any case.
    pub(super) until: Instant,
}

impl AdjRibIn {
    /// A session is gone, and its routes stay as told.
    pub fn restarting(&mut self, peer: PeerId, retention: Retention, now: Instant) -> Vec<Change> {
        // Stale a second time without the N bit: RFC 4724 §4.2.
        let changes = match retention.keep_stale {
            true => Vec::new(),
            false => self.sweep(peer),
        };
        self.mark(peer, Awaited::Session, now + retention.restart_time);
        changes
    }

    /// Routes whose time is over go.
    pub fn expire(&mut self, now: Instant) -> Vec<Change> {
        let over = |(id, peer): (&PeerId, &super::adj_in::Peer)| {
            peer.stale
                .is_some_and(|stale| stale.until <= now)
                .then_some((*id, peer.is_up()))
        };
        let over: Vec<_> = self.peers.iter().filter_map(over).collect();
        let mut changes = Vec::new();
        for (peer, up) in over {
            changes.extend(match up {
                true => self.sweep(peer),
                false => self.down(peer),
            });
        }
        changes
    }

    /// When [`AdjRibIn::expire`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let stale = self.peers.values().filter_map(|peer| peer.stale);
        stale.map(|stale| stale.until).min()
    }

    /// The session is back and its forwarding went on: what it doesn't send until End-of-RIB goes.
    pub(super) fn await_end_of_rib(&mut self, peer: PeerId, now: Instant) {
        if let Some(state) = self.peers.get_mut(&peer)
            && state.stale.is_some()
        {
            state.stale = Some(Stale {
                awaited: Awaited::EndOfRib,
                until: now + STALE_TIME,
            });
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
            Some(_) => self.mark(peer, Awaited::EndOfRefresh, now + STALE_TIME),
            None => {}
        }
    }

    /// The peer has sent everything again.
    pub fn refresh_end(&mut self, peer: PeerId) -> Vec<Change> {
        self.sweep_awaiting(peer, Awaited::EndOfRefresh)
    }

    /// Makes all routes of a peer stale.
    fn mark(&mut self, peer: PeerId, awaited: Awaited, until: Instant) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        if awaited == Awaited::Session {
            state.session = None;
        }
        state.stale = Some(Stale { awaited, until });
        for key in &state.keys {
            if let Some(entry) = self.routes.get_mut(key) {
                entry.mark_stale(peer);
            }
        }
        state.received.stale = state.keys.len() as u64;
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
        let gone: Vec<_> = state
            .keys
            .extract_if(|key| routes.get(key).is_some_and(|entry| entry.is_stale(peer)))
            .collect();
        gone.into_iter()
            .filter_map(|key| self.remove(peer, key))
            .collect()
    }
}
