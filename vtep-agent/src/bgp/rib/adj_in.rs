//! What peers told us, by NLRI, and the best of it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    Best, Change, NotBest, Path, Received, Speaker, decision,
    interior::{self, NextHops},
    intern::Interner,
    paths::Paths,
    routes::{RouteId, Routes},
    stale::Stale,
    target_routes::TargetRoutes,
};
use crate::{
    bgp::{
        peer::Session,
        wire::{Attributes, Family, PathId, Route, RouteKey, Update},
    },
    types::{ImportTarget, PeerId, hash::HashSet},
};

/// Routes of one family from all peers. A route is kept even when nothing imports it, so that a new bridge domain
/// finds its routes at once.
#[derive(Debug)]
pub struct AdjRibIn {
    family: Family,
    speaker: Speaker,
    pub(super) routes: Routes,
    pub(super) attributes: Interner,
    targets: TargetRoutes<RouteId>,
    pub(super) next_hops: NextHops,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    /// A change of the best path's peer alone is a change.
    pub(super) reflecting: bool,
}

#[derive(Debug)]
pub(super) struct Peer {
    /// `None` while it restarts.
    pub(super) session: Option<Arc<Session>>,
    pub(super) routes: HashSet<RouteId>,
    pub(super) stale: Option<Stale>,
    /// It is gone for good, and its routes go after it.
    pub(super) leaving: bool,
    /// It ended its first routes of this session.
    pub(super) end_of_rib: bool,
    /// Kept up to date, since whoever asks does so often.
    pub(super) received: Received,
}

impl AdjRibIn {
    /// No peers, no routes.
    pub fn new(family: Family, speaker: Speaker) -> Self {
        Self {
            family,
            speaker,
            routes: Routes::default(),
            attributes: Interner::default(),
            targets: TargetRoutes::default(),
            next_hops: NextHops::of_family(family),
            peers: BTreeMap::new(),
            reflecting: false,
        }
    }

    /// Whether best paths are told to other peers.
    pub fn set_reflecting(&mut self, reflecting: bool) {
        self.reflecting = reflecting;
    }

    /// A session is established. What is left of an older one goes, now or at its End-of-RIB.
    pub fn up(&mut self, peer: PeerId, session: Session, now: Instant) -> Vec<Change> {
        let away = self.peers.get(&peer).filter(|peer| !peer.is_up());
        // RFC 9494 §4.2: each capability has an F bit for its own phase.
        let preserved = |away: &Peer| match away.is_long_lived() {
            true => session.long_lived && session.long_lived_forwarding_preserved,
            false => session.graceful_restart && session.forwarding_preserved,
        };
        let retained = away.is_some_and(|away| !away.leaving && preserved(away));
        let changes = match retained {
            true => Vec::new(),
            false => self.down(peer),
        };
        let state = self.peers.entry(peer).or_insert_with(|| Peer {
            session: None,
            routes: HashSet::default(),
            stale: None,
            leaving: false,
            end_of_rib: false,
            received: Received::default(),
        });
        state.session = Some(Arc::new(session));
        state.end_of_rib = false;
        self.await_end_of_rib(peer, now);
        changes
    }

    /// A session is gone, and its routes with it, all at once.
    pub fn down(&mut self, peer: PeerId) -> Vec<Change> {
        let Some(gone) = self.peers.remove(&peer) else {
            return Vec::new();
        };
        gone.routes
            .into_iter()
            .filter_map(|id| self.remove(peer, id, |_| true))
            .collect()
    }

    /// Takes in an UPDATE; from a peer that is not up it is ignored. `imported` says whether somebody
    /// imports routes with these attributes.
    pub fn update(
        &mut self,
        peer: PeerId,
        update: Update,
        imported: impl Fn(&Attributes) -> bool,
        now: Instant,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let session = self.peers.get(&peer).and_then(|peer| peer.session.clone());
        let Some(session) = session else {
            return changes;
        };
        let identified = update.identified.withdrawn.into_iter();
        let identified = identified.map(|(id, key)| (Some(id), key));
        let withdrawn = update.withdrawn.into_iter().map(|key| (None, key));
        for (id, key) in withdrawn.chain(identified) {
            changes.extend(self.withdraw(peer, id, &key));
        }
        if update.end_of_rib == Some(self.family) {
            changes.extend(self.end_of_rib(peer));
        }
        let plain = |routes: Vec<Route>| routes.into_iter().map(|route| (None, route));
        let identified = update.identified.announced.into_iter();
        let identified = identified.map(|(id, route)| (Some(id), route));
        let multiprotocol: Vec<_> = plain(update.announced).chain(identified).collect();
        let multiprotocol = update.attributes.map(|with| (with, multiprotocol));
        let classic = update.classic;
        let classic = classic.map(|(with, routes)| (with, plain(routes).collect()));
        for (attributes, routes) in multiprotocol.into_iter().chain(classic) {
            let attributes = self.attributes.intern(attributes);
            let unusable = self.speaker.judge(&attributes, &session);
            let imported = imported(&attributes);
            let mut indexed = Vec::with_capacity(routes.len());
            for (path_id, route) in routes {
                let rejected = unusable.or_else(|| self.speaker.judge_route(&route));
                let path = Path {
                    peer,
                    session: Arc::clone(&session),
                    path_id,
                    route,
                    attributes: Arc::clone(&attributes),
                    rejected,
                    accepted: rejected.is_none() && imported,
                    received: now,
                    stale: false,
                };
                changes.extend(self.insert(path, &mut indexed));
            }
            self.targets.insert_all(&indexed, &attributes);
        }
        changes
    }

    /// We are somebody else now, or take other prefixes: unicast paths are judged again. Which is best
    /// may have changed everywhere.
    pub fn set_speaker(&mut self, speaker: Speaker) {
        if self.speaker == speaker {
            return;
        }
        self.speaker = speaker;
        for entry in self.routes.values_mut() {
            for path in &mut entry.paths {
                let unusable = self.speaker.judge(&path.attributes, &path.session);
                path.rejected = unusable.or_else(|| self.speaker.judge_route(&path.route));
                path.accept(true, &mut self.peers);
            }
            entry.decide(&self.next_hops);
        }
    }

    /// The paths to an NLRI that are to be used together, the best one first: those that are no worse
    /// up to the step of [`Step::IgpCost`], at most `limit`. Their AS_PATHs are the same unless
    /// `relax` is set; then their length is.
    pub fn multipath(&self, key: &RouteKey, limit: usize, relax: bool) -> Vec<&Path> {
        let Some(entry) = self.find(key) else {
            return Vec::new();
        };
        decision::multipath(&entry.paths, limit, relax)
    }

    /// Keys of all routes, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = RouteKey> {
        self.routes.iter().map(|(key, _)| key)
    }

    /// Keys of the routes that have a path with one of these targets. Only these
    /// routes are visited.
    pub fn keys_imported(&self, imports: &[ImportTarget]) -> impl Iterator<Item = RouteKey> {
        let imported = self.targets.imported(imports.iter()).into_iter();
        imported.filter_map(|id| self.routes.get(*id)?.key())
    }

    /// Whether a peer ended its first routes of this session.
    pub fn has_ended(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.end_of_rib)
    }

    /// All paths, best first or not, in no particular order of keys; each with why it is not the best.
    pub fn paths(&self) -> impl Iterator<Item = (RouteKey, &Path, Option<NotBest>)> {
        let next_hops = &self.next_hops;
        self.routes.iter().flat_map(move |(key, entry)| {
            entry.paths.iter().enumerate().map(move |(index, path)| {
                let not_best = entry.not_best(index, path, next_hops);
                (key.clone(), path, not_best)
            })
        })
    }

    /// The paths to one NLRI; each with why it is not the best.
    pub fn paths_of(&self, key: &RouteKey) -> impl Iterator<Item = (&Path, Option<NotBest>)> {
        let entry = self.find(key).into_iter();
        entry.flat_map(|entry| {
            let paths = entry.paths.iter().enumerate();
            paths.map(|(index, path)| (path, entry.not_best(index, path, &self.next_hops)))
        })
    }

    /// The best path of every NLRI that has one.
    pub fn best(&self) -> impl Iterator<Item = (RouteKey, Best)> {
        self.routes
            .iter()
            .filter_map(|(key, entry)| entry.best().map(|best| (key, best)))
    }

    /// Other targets are imported than before: judges the routes with one of `changed` anew, and
    /// answers their best paths. Only these routes are visited.
    pub fn reimport<'a>(
        &mut self,
        changed: impl Iterator<Item = &'a ImportTarget>,
        imported: impl Fn(&Attributes) -> bool,
    ) -> Vec<(RouteKey, Best)> {
        let mut affected = Vec::new();
        for id in self.targets.imported(changed) {
            let Some(entry) = self.routes.get_mut(*id) else {
                continue;
            };
            for path in &mut entry.paths {
                let imported = imported(&path.attributes);
                path.accept(imported, &mut self.peers);
            }
            affected.extend(entry.key().zip(entry.best()));
        }
        affected
    }

    /// How many routes a peer sent.
    pub fn received(&self, peer: PeerId) -> Received {
        let peer = self.peers.get(&peer);
        peer.map(|peer| peer.received.clone()).unwrap_or_default()
    }

    /// Number of paths from one peer.
    pub fn count(&self, peer: PeerId) -> usize {
        let peer = self.peers.get(&peer);
        peer.map_or(0, |peer| peer.received.total() as usize)
    }

    fn find(&self, key: &RouteKey) -> Option<&Paths> {
        self.routes.get(self.routes.find(key)?)
    }

    /// Puts a path into its place. Those whose attributes are new there are `indexed` by the caller.
    fn insert(&mut self, path: Path, indexed: &mut Vec<RouteId>) -> Option<Change> {
        let key = path.route.key();
        let id = self.routes.find_or_add(&key);
        let entry = self.routes.get_mut(id)?;
        let before = entry.best();
        let choice = interior::choice(&entry.paths);
        let same = |old: &&mut Path| (old.peer, old.path_id) == (path.peer, path.path_id);
        let old = entry.paths.iter_mut().find(same);
        if let Some(peer) = self.peers.get_mut(&path.peer) {
            if let Some(old) = &old {
                peer.received.remove(old);
            } else {
                peer.routes.insert(id);
            }
            peer.received.add(&path);
        }
        let attributes = old.as_ref().map(|old| &old.attributes);
        if attributes.is_none_or(|old| !Arc::ptr_eq(old, &path.attributes)) {
            indexed.push(id);
        }
        match old {
            Some(old) => {
                let old = std::mem::replace(old, path);
                entry.unindex(&mut self.targets, id, &old);
            }
            None => entry.paths.push(path),
        }
        self.next_hops.choose(id, &choice, &entry.paths);
        entry.decide(&self.next_hops);
        Change::between(key, before, entry.best(), self.reflecting)
    }

    /// A peer takes one of its paths back. What it hasn't announced is ignored.
    fn withdraw(&mut self, peer: PeerId, id: Option<PathId>, key: &RouteKey) -> Option<Change> {
        let route = self.routes.find(key)?;
        self.remove(peer, route, |path| path.path_id == id)
    }

    /// Takes those of `peer`'s paths away that are `gone`, and with the last one the NLRI.
    pub(super) fn remove(
        &mut self,
        peer: PeerId,
        id: RouteId,
        gone: impl Fn(&Path) -> bool,
    ) -> Option<Change> {
        let entry = self.routes.get_mut(id)?;
        let key = entry.key()?;
        let before = entry.best();
        let choice = interior::choice(&entry.paths);
        let is_gone = |path: &Path| path.peer == peer && gone(path);
        while let Some(index) = entry.paths.iter().position(is_gone) {
            let path = entry.paths.remove(index);
            entry.unindex(&mut self.targets, id, &path);
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.received.remove(&path);
            }
        }
        if entry.of(peer).next().is_none()
            && let Some(peer) = self.peers.get_mut(&peer)
        {
            peer.routes.remove(&id);
        }
        self.next_hops.choose(id, &choice, &entry.paths);
        entry.decide(&self.next_hops);
        let after = entry.best();
        if entry.paths.is_empty() {
            self.routes.remove(id, &key);
        }
        Change::between(key, before, after, self.reflecting)
    }
}

impl Peer {
    pub(super) fn is_up(&self) -> bool {
        self.session.is_some()
    }
}
