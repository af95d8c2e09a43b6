//! Long-lived stale routes (RFC 9494): those of a peer that is away for longer than its restart time.
//! They are used where there is nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{AdjRibIn, Change, Path, adj_in::Peer, routes::RouteId};
use crate::{
    bgp::wire::Attributes,
    types::{PeerId, hash::HashMap},
};

/// The community LLGR_STALE: the path is the least preferred, and no news for peers that don't know
/// this.
pub const LLGR_STALE: u32 = 0xffff_0006;

/// The community NO_LLGR: the path is not to be kept that long.
pub const NO_LLGR: u32 = 0xffff_0007;

/// Whether a peer's stale routes stay when its restart time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LongLived {
    /// They go.
    No,
    /// For so long.
    For(Duration),
    /// They did, until then; a session that is lost again before its End-of-RIB doesn't change that
    /// (RFC 9494 §4.2).
    Until(Instant),
}

impl AdjRibIn {
    /// A peer's restart time is over: what it may keep becomes long-lived stale, the rest goes.
    pub(super) fn outlive(&mut self, peer: PeerId, now: Instant) -> Vec<Change> {
        let Some(stale) = self
            .peers
            .get_mut(&peer)
            .and_then(|peer| peer.stale.as_mut())
        else {
            return Vec::new();
        };
        let end = match stale.long_lived {
            LongLived::No => return self.leave(peer, now),
            LongLived::For(time) => now + time,
            LongLived::Until(end) => end,
        };
        if end <= now {
            return self.leave(peer, now);
        }
        stale.long_lived = LongLived::Until(end);
        stale.until = end;
        self.mark_long_lived(peer)
    }

    /// RFC 9494 §4.2.
    fn mark_long_lived(&mut self, peer: PeerId) -> Vec<Change> {
        let Some(state) = self.peers.get_mut(&peer) else {
            return Vec::new();
        };
        let routes = &self.routes;
        let forbidden = |path: &Path| path.attributes.communities.contains(&NO_LLGR);
        let concerned = |id: &&RouteId| {
            let entry = routes.get(**id);
            entry.is_some_and(|entry| entry.of(peer).any(forbidden))
        };
        let gone: Vec<_> = state.routes.iter().filter(concerned).copied().collect();
        let mut changes: Vec<_> = gone
            .into_iter()
            .filter_map(|id| self.remove(peer, id, forbidden))
            .collect();
        let kept = self.peers.get(&peer).map(|peer| &peer.routes);
        let kept: Vec<_> = kept.into_iter().flatten().copied().collect();
        // Routes of one UPDATE share their attributes before and after.
        let mut marked: HashMap<Arc<Attributes>, Arc<Attributes>> = HashMap::default();
        for id in kept {
            let Some(entry) = self.routes.get_mut(id) else {
                continue;
            };
            let Some(key) = entry.key() else {
                continue;
            };
            let before = entry.best();
            let unmarked = |path: &&mut Path| !path.attributes.communities.contains(&LLGR_STALE);
            for path in entry.of_mut(peer).filter(unmarked) {
                let with_mark = marked
                    .entry(Arc::clone(&path.attributes))
                    .or_insert_with(|| {
                        let mut attributes = Attributes::clone(&path.attributes);
                        attributes.communities.push(LLGR_STALE);
                        self.attributes.intern(Arc::new(attributes))
                    });
                path.attributes = Arc::clone(with_mark);
            }
            entry.decide(&self.next_hops);
            changes.extend(Change::between(key, before, entry.best(), self.reflecting));
        }
        changes
    }
}

impl Peer {
    /// Its restart time is over, and its routes stayed.
    pub(super) fn is_long_lived(&self) -> bool {
        let stale = self.stale.map(|stale| stale.long_lived);
        matches!(stale, Some(LongLived::Until(_)))
    }
}
