//! What peers say.

use std::time::Instant;

use super::Daemon;
use crate::{
    bgp::{peer::PeerEvent, session},
    core::Input,
    types::PeerId,
};

/// Routes of peers that are taken in one go, some 10 ms of work: enough to share the cost of writing
/// maps, few enough that a table of any size keeps nobody else waiting.
const PEER_TURN: usize = 4096;

impl Daemon {
    /// Takes the UPDATEs that are there together, so that the cost of flood lists and of writing maps is
    /// shared. What a session's coming or going causes is sent before the next event, as
    /// [`session::Events::recv`] wants it.
    pub(super) fn take_peer_events(
        &mut self,
        first: (PeerId, PeerEvent),
        more: &mut session::Events,
    ) {
        let received = Instant::now();
        let (mut updates, mut routes) = (Vec::new(), 0);
        let mut next = Some(first);
        let last = loop {
            match next {
                Some((peer, PeerEvent::Update(update))) => {
                    routes += update.routes().max(1);
                    updates.push((peer, update));
                }
                last => break last,
            }
            if routes >= PEER_TURN {
                break None;
            }
            next = more.try_recv();
        };
        let count = updates.len();
        if count > 0 {
            self.handle(Input::Updates(updates));
        }
        if let Some((peer, event)) = last {
            self.handle(Input::Peer(peer, event));
        }
        self.settle();
        for _ in 0..count {
            self.metrics.observe_convergence(received.elapsed());
        }
    }
}
