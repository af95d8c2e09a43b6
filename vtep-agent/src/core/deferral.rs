//! What an agent that was restarted waits for before anything that an earlier run installed may go
//! (RFC 4724 §4.1).

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Core, Output};
use crate::{bgp::peer::Session, types::PeerId};

/// How the agent starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The datapath went on with what an earlier run installed. Nothing of it may be deleted before
    /// [`Core::settled`], and the endpoints in it have to be handed in first: their end is
    /// [`Input::Recovered`](super::Input::Recovered).
    pub forwarding_preserved: bool,
}

/// Until it ends, our knowledge is taken as incomplete: the maps are added to and nothing that was
/// adopted is removed, and peers are not told that they have all our routes.
#[derive(Debug)]
pub(super) struct Deferral {
    /// Nobody is waited for longer; `None` once it passed.
    until: Option<Instant>,
    /// Endpoints of the earlier run are still to come.
    recovering: bool,
    /// Peers that are still to come, or to send their End-of-RIB.
    awaited: BTreeSet<PeerId>,
}

impl Deferral {
    /// `None` when there is nothing to preserve.
    pub(super) fn new(start: Start, time: Duration, now: Instant) -> Option<Self> {
        start.forwarding_preserved.then(|| Self {
            until: Some(now + time),
            recovering: true,
            awaited: BTreeSet::new(),
        })
    }

    /// A configured peer is worth waiting for.
    pub(super) fn expect(&mut self, peer: PeerId) {
        self.awaited.insert(peer);
    }

    /// A peer is not waited for any more: it sent its End-of-RIB, or it is not configured or shut
    /// down.
    pub(super) fn complete(&mut self, peer: PeerId) {
        self.awaited.remove(&peer);
    }

    /// A peer without EVPN has nothing that goes into the maps. Two speakers that both restart don't
    /// wait for each other, and without the capability there is no telling when a peer has sent
    /// everything (RFC 4724 §4.1).
    pub(super) fn up(&mut self, peer: PeerId, session: &Session) {
        if session.families.evpn && session.graceful_restart && !session.restarting {
            self.expect(peer);
        } else {
            self.complete(peer);
        }
    }

    /// The earlier run's endpoints are all in.
    pub(super) fn recovered(&mut self) {
        self.recovering = false;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// With `strangers`, somebody may still come who is nowhere configured.
    fn is_over(&mut self, strangers: bool, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now);
        let complete = self.awaited.is_empty() && !strangers || self.until.is_none();
        complete && !self.recovering
    }
}

impl Core {
    /// What is wanted is all that is wanted: what the maps hold beyond it may go. Always so unless
    /// the agent was restarted with its forwarding preserved; then it takes the endpoints of the
    /// earlier run, and the End-of-RIB of the peers or `selection_deferral`. Once true it stays
    /// true; [`Output::Settled`] says when.
    pub fn settled(&self) -> bool {
        self.deferral.is_none()
    }

    /// Ends the deferral when it is time. Peers then get their End-of-RIB.
    pub(super) fn settle(&mut self, now: Instant) {
        // Who of them will come can't be known: they have time as long as anything hangs on it.
        let strangers = !self.held.is_empty() && self.peers.may_come(|families| families.evpn);
        let over = |deferral: &mut Deferral| deferral.is_over(strangers, now);
        if let Some(deferral) = self.deferral.take_if(over) {
            for (id, config) in self.peers.configured() {
                if deferral.awaited.contains(id) {
                    tracing::warn!(
                        peer = %config.name,
                        "no End-of-RIB within selection_deferral: its routes of before the restart go"
                    );
                }
            }
            self.release_held(now);
            self.adj_out.release_end_of_rib();
            self.outputs.push(Output::Settled);
        }
    }
}
