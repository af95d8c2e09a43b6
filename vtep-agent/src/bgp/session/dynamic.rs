//! Peers that nobody configured: made for a connection from a prefix that may, gone when nothing is
//! left of them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use ipnet::IpNet;
use tokio::net::TcpStream;

use super::{
    FIRST_DYNAMIC, Notice,
    peer::{Order, Peer},
    supervisor::{Supervisor, same_session},
};
use crate::{
    bgp::{
        fsm::{Cease, ConnectionId, State},
        peer::{PeerEvent, Retention},
    },
    config::DynamicPeers,
    types::PeerId,
};

/// How long a peer's task goes on.
#[derive(Debug)]
pub(super) enum Stay {
    /// Until it is told to stop.
    Configured,
    /// As long as the peer is connected, and its routes are kept (RFC 4724 §4.2).
    Dynamic {
        /// The connection for which it was made arrived.
        begun: bool,
        /// The peer may come back until then.
        retained: Option<Instant>,
    },
}

impl Stay {
    pub(super) fn is_dynamic(&self) -> bool {
        matches!(self, Self::Dynamic { .. })
    }

    /// The routes of a session that ended are kept; `None`: they are not, or there is a new one.
    pub(super) fn retain(&mut self, retention: Option<&Retention>) {
        if let Self::Dynamic { retained, .. } = self {
            let time = |kept: &Retention| kept.restart_time + kept.long_lived.unwrap_or_default();
            *retained = retention.map(|kept| Instant::now() + time(kept));
        }
    }
}

impl Peer {
    /// Whether nothing is left of a dynamic peer. The core forgets what it kept of it, and the
    /// supervisor the peer. One that is kept out for a while (Idle) remains for that long.
    pub(super) fn is_over(&mut self) -> bool {
        let Stay::Dynamic { begun, retained } = self.stay else {
            return false;
        };
        let waits = retained.is_some_and(|until| Instant::now() < until);
        let over = begun
            && !waits
            && self.connections.is_empty()
            && !self.has_events()
            && self.fsm.state() == State::Active;
        if over {
            if retained.is_some() {
                self.report(ConnectionId(0), PeerEvent::Down);
            }
            // The supervisor outlives its peers.
            let _ = self.notices.send(Notice::Finished(self.id));
        }
        over
    }

    /// It is told to stop, and whoever comes from its address later is another peer: what the core kept
    /// of this one nobody would ever refresh.
    pub(super) fn forget(&mut self) {
        if let Stay::Dynamic {
            retained: Some(_), ..
        } = self.stay
        {
            self.report(ConnectionId(0), PeerEvent::Down);
        }
    }

    /// When to look again. What is over already, while a connection is still open, is no time to wait
    /// for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let retained = match self.stay {
            Stay::Dynamic { retained, .. } => retained,
            Stay::Configured => None,
        };
        let retained = retained.filter(|until| *until > Instant::now());
        self.fsm.deadline().into_iter().chain(retained).min()
    }
}

impl Supervisor {
    /// Applies the difference.
    pub(super) fn accept_from(&mut self, dynamic: Vec<DynamicPeers>) {
        let was = std::mem::replace(&mut self.dynamic, dynamic);
        for old in &was {
            let new = self.dynamic.iter().find(|new| new.prefix == old.prefix);
            if let Some(new) = new
                && same_session(old.template(), new.template())
            {
                let new = new.clone();
                self.change_prefix_keys(old, &new);
                continue;
            }
            let cease = match new {
                Some(_) => Cease::ConfigChange,
                None => Cease::Deconfigured,
            };
            for id in self.of_prefix(old.prefix) {
                self.remove(id, cease.clone());
            }
            self.set_prefix_key(old, false);
        }
        let goes_on = |new: &DynamicPeers, old: &DynamicPeers| {
            new.prefix == old.prefix && same_session(old.template(), new.template())
        };
        for new in &self.dynamic {
            if !was.iter().any(|old| goes_on(new, old)) {
                self.set_prefix_key(new, true);
            }
        }
    }

    /// Makes a peer of somebody who connected, if he may be one.
    pub(super) fn welcome(&mut self, stream: TcpStream, from: SocketAddr) {
        let address = from.ip().to_canonical();
        let range = self.range(address);
        let Some(range) = range else {
            return self.reject(&stream, from, "no peer is configured with this address");
        };
        if self.of_prefix(range.prefix).len() >= usize::from(range.limit) {
            return self.reject(&stream, from, "its prefix has as many peers as it may have");
        }
        let (prefix, config) = (range.prefix, range.peer(address));
        let id = PeerId(FIRST_DYNAMIC.0 | self.next_dynamic);
        self.next_dynamic = self.next_dynamic.wrapping_add(1) & !FIRST_DYNAMIC.0;
        tracing::info!(peer = %address, %prefix, "dynamic peer");
        self.add(id, config, self.restart, Some(prefix));
        if let Some(member) = self.peers.get(&id) {
            let _ = member.orders.send(Order::Accepted(stream));
        }
    }

    /// The longest prefix with this address.
    pub(super) fn range(&self, address: IpAddr) -> Option<&DynamicPeers> {
        DynamicPeers::of(&self.dynamic, address)
    }

    fn of_prefix(&self, prefix: IpNet) -> Vec<PeerId> {
        let members = self.peers.iter();
        members
            .filter(|(_, member)| member.prefix == Some(prefix))
            .map(|(id, _)| *id)
            .collect()
    }
}
