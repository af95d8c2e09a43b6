//! The paths to one NLRI.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use smallvec::SmallVec;

use super::{
    Best, Rejected, Step, adj_in::Peer, decision, interior::NextHops, routes::RouteId,
    target_routes::TargetRoutes,
};
use crate::{
    bgp::{
        peer::Session,
        wire::{Attributes, PathId, Route, RouteKey},
    },
    types::PeerId,
};

/// One path to an NLRI.
#[derive(Clone, Debug)]
pub struct Path {
    /// From this peer,
    pub peer: PeerId,
    /// over this session.
    pub session: Arc<Session>,
    /// Which of the peer's paths to the NLRI it is, where the peer tells them apart (RFC 7911).
    pub path_id: Option<PathId>,
    /// The route.
    pub route: Route,
    /// Its attributes as received.
    pub attributes: Arc<Attributes>,
    /// Why it takes no part in the decision.
    pub rejected: Option<Rejected>,
    /// It is not rejected, and somebody imports it.
    pub accepted: bool,
    /// When it was received in this form.
    pub received: Instant,
    /// The peer is restarting, or has not sent it again since it restarted or began a refresh.
    pub stale: bool,
}

#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Mostly one.
    pub(super) paths: SmallVec<[Path; 1]>,
    /// Index of the best one, as short as it may be: there is one of these for each NLRI.
    best: Option<u32>,
}

/// How many routes a peer sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// By route type.
    pub by_type: BTreeMap<u8, u64>,
    /// Those that are [accepted](Path::accepted).
    pub accepted: u64,
    /// Those that are [stale](Path::stale).
    pub stale: u64,
}

/// Why a path is not the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotBest {
    /// It takes no part.
    Rejected(Rejected),
    /// It lost.
    Lost(Step),
}

impl Paths {
    /// The NLRI; `None` without a path to it.
    pub(super) fn key(&self) -> Option<RouteKey> {
        self.paths.first().map(|path| path.route.key())
    }

    /// Whether they are paths to this NLRI.
    pub(super) fn has_key(&self, key: &RouteKey) -> bool {
        let route = self.paths.first().map(|path| &path.route);
        route.is_some_and(|route| route.has_key(key))
    }

    /// A path of it is gone.
    pub(super) fn unindex(&self, targets: &mut TargetRoutes<RouteId>, id: RouteId, gone: &Path) {
        let others = self.paths.iter().map(|path| &*path.attributes);
        targets.remove(&id, &gone.attributes, others);
    }

    pub(super) fn of(&self, peer: PeerId) -> impl Iterator<Item = &Path> {
        self.paths.iter().filter(move |path| path.peer == peer)
    }

    pub(super) fn of_mut(&mut self, peer: PeerId) -> impl Iterator<Item = &mut Path> {
        self.paths.iter_mut().filter(move |path| path.peer == peer)
    }

    /// Paths changed, or what is known of their next hops.
    pub(super) fn decide(&mut self, next_hops: &NextHops) {
        let best = decision::best(&self.paths, next_hops.of(&self.paths));
        self.best = best.and_then(|index| u32::try_from(index).ok());
    }

    pub(super) fn mark_stale(&mut self, peer: PeerId) {
        self.of_mut(peer).for_each(|path| path.stale = true);
    }

    pub(super) fn is_stale(&self, peer: PeerId) -> bool {
        self.of(peer).any(|path| path.stale)
    }

    pub(super) fn best(&self) -> Option<Best> {
        self.best_at(self.best_index()?)
    }

    /// As [`Paths::best`], of the path with this index.
    pub(super) fn best_at(&self, index: usize) -> Option<Best> {
        let path = self.paths.get(index)?;
        Some(Best {
            peer: path.peer,
            session: Arc::clone(&path.session),
            route: path.route.clone(),
            attributes: Arc::clone(&path.attributes),
            received: path.received,
        })
    }

    pub(super) fn not_best(
        &self,
        index: usize,
        path: &Path,
        next_hops: &NextHops,
    ) -> Option<NotBest> {
        if let Some(rejected) = path.rejected {
            return Some(NotBest::Rejected(rejected));
        }
        let best = self.best_index().filter(|best| *best != index)?;
        let better = self.paths.get(best)?;
        let interior = next_hops.of(&self.paths);
        let step = decision::lost(&self.paths, better, path, interior);
        Some(NotBest::Lost(step))
    }

    pub(super) fn best_index(&self) -> Option<usize> {
        self.best.map(|index| index as usize)
    }
}

impl Path {
    /// Notes whether somebody imports it.
    pub(super) fn accept(&mut self, imported: bool, peers: &mut BTreeMap<PeerId, Peer>) {
        let accepted = self.rejected.is_none() && imported;
        let was = std::mem::replace(&mut self.accepted, accepted);
        if let Some(peer) = peers.get_mut(&self.peer) {
            peer.received.accepted += u64::from(accepted);
            peer.received.accepted -= u64::from(was);
        }
    }
}

impl Received {
    /// Routes of all types; each path counts.
    pub(super) fn total(&self) -> u64 {
        self.by_type.values().sum()
    }

    pub(super) fn add(&mut self, path: &Path) {
        *self.by_type.entry(path.route.route_type()).or_default() += 1;
        self.accepted += u64::from(path.accepted);
        self.stale += u64::from(path.stale);
    }

    pub(super) fn remove(&mut self, path: &Path) {
        let route_type = path.route.route_type();
        if let Some(count) = self.by_type.get_mut(&route_type) {
            *count -= 1;
            if *count == 0 {
                self.by_type.remove(&route_type);
            }
        }
        self.accepted -= u64::from(path.accepted);
        self.stale -= u64::from(path.stale);
    }
}

impl fmt::Display for NotBest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Lost(step) => step.fmt(f),
        }
    }
}
