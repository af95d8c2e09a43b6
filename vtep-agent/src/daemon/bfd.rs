//! BFD joined to BGP: which sessions there are, who hears of them, and what is shown.

use std::{io, time::Instant};

use super::Daemon;
use crate::{
    bfd::{Bfd, Discard, SessionConfig, Status, wire::State},
    bgp::session::Sessions,
    config::PeerConfig,
    observe::BfdMetrics,
    types::PeerId,
    view,
};

/// The BFD thread, which tells the BGP thread without a detour.
pub(super) fn start(sessions: &Sessions) -> io::Result<Bfd> {
    let paths = sessions.paths();
    Bfd::start(move |peer, liveness| paths.report(peer, liveness))
}

/// The sessions that the configuration and what is known of peers ask for.
#[derive(Default)]
pub(super) struct Wanted {
    peers: Vec<(PeerId, PeerConfig)>,
    sessions: Vec<(PeerId, SessionConfig)>,
}

impl Daemon {
    pub(super) fn configure_bfd(&mut self, peers: &[(PeerId, PeerConfig)]) {
        let watched = peers.iter().filter(|(_, peer)| peer.bfd.is_some());
        self.bfd_wanted.peers = watched.cloned().collect();
        self.sync_bfd();
    }

    /// Follows the addresses of peers that are known by their interfaces. One that is not known at
    /// present is expected where it was.
    pub(super) fn sync_bfd(&mut self) {
        if self.bfd_wanted.peers.is_empty() && self.bfd_wanted.sessions.is_empty() {
            return;
        }
        let asn = self.core.config().bgp.asn;
        let vtep = self.config.address();
        let known = self.sessions.status();
        let address = |id: PeerId, peer: &PeerConfig| {
            let learned = known.iter().find(|status| status.peer == id);
            let mut earlier = self.bfd_wanted.sessions.iter();
            peer.name
                .address()
                .or_else(|| learned.and_then(|status| status.address))
                .or_else(|| {
                    let earlier = earlier.find(|(other, _)| *other == id)?;
                    Some(earlier.1.endpoint.remote)
                })
        };
        let session = |(id, peer): &(PeerId, PeerConfig)| {
            let address = address(*id, peer)?;
            Some((*id, SessionConfig::of(peer, address, asn, vtep)?))
        };
        let sessions: Vec<_> = self.bfd_wanted.peers.iter().filter_map(session).collect();
        if sessions != self.bfd_wanted.sessions {
            self.bfd_wanted.sessions.clone_from(&sessions);
            self.bfd.configure(sessions);
        }
    }

    /// What `show bgp` says of a peer's BFD.
    pub(super) fn bfd(&self, peer: PeerId, now: Instant) -> Option<view::Bfd> {
        let status = self.bfd.status(peer)?;
        let seconds = |since| now.saturating_duration_since(since).as_secs();
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).ok();
        let down = status.last_down;
        Some(view::Bfd {
            state: status.state.to_string(),
            state_s: seconds(status.since),
            remote_state: status.remote_state.map(|state| state.to_string()),
            multihop: status.multihop,
            transmit_ms: status.transmit_interval.and_then(millis),
            detection_ms: status.detection_time.and_then(millis),
            last_down: down.map(|down| match down.remote {
                Some(remote) => format!("{}: {remote}", down.diagnostic),
                None => down.diagnostic.to_string(),
            }),
            last_down_s: down.map(|down| seconds(down.at)),
            problem: problem(&status),
        })
    }

    pub(super) fn bfd_metrics(&self, peer: PeerId) -> Option<BfdMetrics> {
        let status = self.bfd.status(peer)?;
        Some(BfdMetrics {
            up: status.state == State::Up,
            received: status.received,
            sent: status.sent,
        })
    }
}

/// What keeps a session from coming up, as far as we can see.
fn problem(status: &Status) -> Option<String> {
    let discarded = |reason| match reason {
        Discard::WrongPort if status.multihop => {
            "the peer uses single hop BFD: set multihop = false in bfd, or multihop at the peer"
                .to_owned()
        }
        Discard::WrongPort => {
            "the peer uses multihop BFD: set multihop in bfd, or single hop at the peer".to_owned()
        }
        Discard::Authentication => {
            "the peer uses authentication, which is not supported".to_owned()
        }
        Discard::Ttl => "the peer's packets come from too far away (TTL)".to_owned(),
        reason => format!("the peer's packets are discarded: {}", reason.name()),
    };
    let error = status.error.clone();
    error.or_else(|| status.discarded.map(discarded))
}
