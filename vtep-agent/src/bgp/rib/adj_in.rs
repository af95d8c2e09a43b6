//! What peers told us, by NLRI, and the best of it.

use std::{
    collections::{BTreeMap, hash_map::Entry as MapEntry},
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};

use ipnet::IpNet;

use super::{
    decision::{self, Step},
    intern::Interner,
    stale::Stale,
    target_routes::TargetRoutes,
};
use crate::{
    bgp::{
        peer::Session,
        wire::{Attributes, Family, PathId, Route, RouteKey, Update},
    },
    config::PrefixRule,
    types::{
        Asn, ImportTarget, PeerId,
        hash::{HashMap, HashSet},
    },
};

/// Who we are, for loop detection, and which prefixes we take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP identifier, which is also our cluster id.
    pub router_id: Ipv4Addr,
    /// Our VTEP addresses.
    pub addresses: Vec<IpAddr>,
    /// Unicast prefixes that are ours: nobody else is believed about them.
    pub own: Vec<IpNet>,
    /// Unicast prefixes that are accepted; all when empty.
    pub import: Vec<PrefixRule>,
}

/// Routes of one family from all peers. A route is kept even when nothing imports it, so that a new bridge domain
/// finds its routes at once.
#[derive(Debug)]
pub struct AdjRibIn {
    family: Family,
    speaker: Speaker,
    /// A key is in several tables, and once in memory.
    pub(super) routes: HashMap<Arc<RouteKey>, Paths>,
    pub(super) attributes: Interner,
    targets: TargetRoutes<Arc<RouteKey>>,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    /// A change of the best path's peer alone is a change.
    pub(super) reflecting: bool,
}

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

/// Why a path is never used (RFC 4271 §9.1.2, RFC 4456 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Our AS, or the one as which the peer knows us, is in its AS_PATH.
    AsLoop,
    /// We originated it.
    OriginatorLoop,
    /// It was reflected by us.
    ClusterLoop,
    /// Its next hop is one of our own addresses.
    OwnNextHop,
    /// Its next hop is unspecified, multicast or loopback.
    InvalidNextHop,
    /// The prefix is, or lies within, one of ours.
    OwnPrefix,
    /// The configuration doesn't list the prefix.
    NotListed,
}

/// The best path of an NLRI, as much of it as importing needs.
#[derive(Clone, Debug)]
pub struct Best {
    /// From this peer,
    pub peer: PeerId,
    /// over this session.
    pub session: Arc<Session>,
    /// The route.
    pub route: Route,
    /// Its attributes.
    pub attributes: Arc<Attributes>,
    /// When it was received in this form.
    pub received: Instant,
}

/// The best path of an NLRI became another one. Both are there when it was replaced.
#[derive(Clone, Debug)]
pub struct Change {
    /// The NLRI.
    pub key: RouteKey,
    /// What was best.
    pub before: Option<Best>,
    /// What is best.
    pub after: Option<Best>,
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

#[derive(Debug)]
pub(super) struct Peer {
    /// `None` while it restarts.
    pub(super) session: Option<Arc<Session>>,
    pub(super) keys: HashSet<Arc<RouteKey>>,
    pub(super) stale: Option<Stale>,
    /// It ended its first routes of this session.
    pub(super) end_of_rib: bool,
    /// Kept up to date, since whoever asks does so often.
    pub(super) received: Received,
}

#[derive(Debug, Default)]
pub(super) struct Paths {
    paths: Vec<Path>,
    /// Index of the best one, as short as it may be: there is one of these for each NLRI.
    best: Option<u32>,
}

impl AdjRibIn {
    /// No peers, no routes.
    pub fn new(family: Family, speaker: Speaker) -> Self {
        Self {
            family,
            speaker,
            routes: HashMap::default(),
            attributes: Interner::default(),
            targets: TargetRoutes::default(),
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
        let retained = away.is_some_and(preserved);
        let changes = match retained {
            true => Vec::new(),
            false => self.down(peer),
        };
        let state = self.peers.entry(peer).or_insert_with(|| Peer {
            session: None,
            keys: HashSet::default(),
            stale: None,
            end_of_rib: false,
            received: Received::default(),
        });
        state.session = Some(Arc::new(session));
        state.end_of_rib = false;
        self.await_end_of_rib(peer, now);
        changes
    }

    /// A session is gone, and its routes with it.
    pub fn down(&mut self, peer: PeerId) -> Vec<Change> {
        let Some(gone) = self.peers.remove(&peer) else {
            return Vec::new();
        };
        gone.keys
            .into_iter()
            .filter_map(|key| self.remove(peer, &key, |_| true))
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
                changes.extend(self.insert(path));
            }
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
            entry.decide();
        }
    }

    /// The paths to an NLRI that are to be used together, the best one first: those that are no worse
    /// up to the step of [`Step::Internal`], at most `limit`. Their AS_PATHs are the same unless
    /// `relax` is set; then their length is.
    pub fn multipath(&self, key: &RouteKey, limit: usize, relax: bool) -> Vec<&Path> {
        let Some(entry) = self.routes.get(key) else {
            return Vec::new();
        };
        decision::multipath(&entry.paths, limit, relax)
    }

    /// Keys of all routes, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<RouteKey>> {
        self.routes.keys()
    }

    /// Keys of the routes that have a path with one of these targets. Only these
    /// routes are visited.
    pub fn keys_imported(&self, imports: &[ImportTarget]) -> impl Iterator<Item = &Arc<RouteKey>> {
        self.targets.imported(imports.iter()).into_iter()
    }

    /// Whether a peer ended its first routes of this session.
    pub fn has_ended(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.end_of_rib)
    }

    /// All paths, best first or not, in no particular order of keys; each with why it is not the best.
    pub fn paths(&self) -> impl Iterator<Item = (&RouteKey, &Path, Option<NotBest>)> {
        self.routes.iter().flat_map(|(key, entry)| {
            entry
                .paths
                .iter()
                .enumerate()
                .map(move |(index, path)| (&**key, path, entry.not_best(index, path)))
        })
    }

    /// The paths to one NLRI; each with why it is not the best.
    pub fn paths_of(&self, key: &RouteKey) -> impl Iterator<Item = (&Path, Option<NotBest>)> {
        let entry = self.routes.get(key).into_iter();
        entry.flat_map(|entry| {
            let paths = entry.paths.iter().enumerate();
            paths.map(|(index, path)| (path, entry.not_best(index, path)))
        })
    }

    /// The best path of every NLRI that has one.
    pub fn best(&self) -> impl Iterator<Item = (&RouteKey, Best)> {
        self.routes
            .iter()
            .filter_map(|(key, entry)| entry.best().map(|best| (&**key, best)))
    }

    /// Other targets are imported than before: judges the routes with one of `changed` anew, and
    /// answers their best paths. Only these routes are visited.
    pub fn reimport<'a>(
        &mut self,
        changed: impl Iterator<Item = &'a ImportTarget>,
        imported: impl Fn(&Attributes) -> bool,
    ) -> Vec<(RouteKey, Best)> {
        let mut affected = Vec::new();
        for key in self.targets.imported(changed) {
            let Some(entry) = self.routes.get_mut(key) else {
                continue;
            };
            for path in &mut entry.paths {
                let imported = imported(&path.attributes);
                path.accept(imported, &mut self.peers);
            }
            affected.extend(entry.best().map(|best| (RouteKey::clone(key), best)));
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

    fn insert(&mut self, path: Path) -> Option<Change> {
        let key = path.route.key();
        let known = self.routes.get_key_value(&key).map(|(key, _)| key);
        let key = known.map_or_else(|| Arc::new(key), Arc::clone);
        let entry = self.routes.entry(Arc::clone(&key)).or_default();
        let before = entry.best();
        let same = |old: &&mut Path| (old.peer, old.path_id) == (path.peer, path.path_id);
        let old = entry.paths.iter_mut().find(same);
        if let Some(peer) = self.peers.get_mut(&path.peer) {
            if let Some(old) = &old {
                peer.received.remove(old);
            } else {
                peer.keys.insert(Arc::clone(&key));
            }
            peer.received.add(&path);
        }
        let attributes = old.as_ref().map(|old| &old.attributes);
        if attributes.is_none_or(|old| !Arc::ptr_eq(old, &path.attributes)) {
            self.targets.insert(&key, &path.attributes);
        }
        match old {
            Some(old) => {
                let old = std::mem::replace(old, path);
                entry.unindex(&mut self.targets, &key, &old);
            }
            None => {
                // Mostly there is one path; a vector would begin with room for four.
                if entry.paths.is_empty() {
                    entry.paths.reserve_exact(1);
                }
                entry.paths.push(path);
            }
        }
        entry.decide();
        Change::between(&key, before, entry.best(), self.reflecting)
    }

    /// A peer takes one of its paths back. What it hasn't announced is ignored.
    fn withdraw(&mut self, peer: PeerId, id: Option<PathId>, key: &RouteKey) -> Option<Change> {
        let key = Arc::clone(self.peers.get(&peer)?.keys.get(key)?);
        self.remove(peer, &key, |path| path.path_id == id)
    }

    /// Takes those of `peer`'s paths away that are `gone`, and with the last one the key.
    pub(super) fn remove(
        &mut self,
        peer: PeerId,
        key: &Arc<RouteKey>,
        gone: impl Fn(&Path) -> bool,
    ) -> Option<Change> {
        let MapEntry::Occupied(mut occupied) = self.routes.entry(Arc::clone(key)) else {
            return None;
        };
        let entry = occupied.get_mut();
        let before = entry.best();
        let is_gone = |path: &Path| path.peer == peer && gone(path);
        while let Some(index) = entry.paths.iter().position(is_gone) {
            let path = entry.paths.remove(index);
            entry.unindex(&mut self.targets, key, &path);
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.received.remove(&path);
            }
        }
        if entry.of(peer).next().is_none()
            && let Some(peer) = self.peers.get_mut(&peer)
        {
            peer.keys.remove(key);
        }
        entry.decide();
        let after = entry.best();
        if entry.paths.is_empty() {
            occupied.remove();
        }
        Change::between(key, before, after, self.reflecting)
    }
}

/// Why a path is not the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotBest {
    /// It takes no part.
    Rejected(Rejected),
    /// It lost.
    Lost(Step),
}

impl Received {
    /// Routes of all types; each path counts.
    pub(super) fn total(&self) -> u64 {
        self.by_type.values().sum()
    }

    fn add(&mut self, path: &Path) {
        *self.by_type.entry(path.route.route_type()).or_default() += 1;
        self.accepted += u64::from(path.accepted);
        self.stale += u64::from(path.stale);
    }

    fn remove(&mut self, path: &Path) {
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

impl Path {
    /// Notes whether somebody imports it.
    fn accept(&mut self, imported: bool, peers: &mut BTreeMap<PeerId, Peer>) {
        let accepted = self.rejected.is_none() && imported;
        let was = std::mem::replace(&mut self.accepted, accepted);
        if let Some(peer) = peers.get_mut(&self.peer) {
            peer.received.accepted += u64::from(accepted);
            peer.received.accepted -= u64::from(was);
        }
    }
}

impl Speaker {
    fn judge(&self, attributes: &Attributes, session: &Session) -> Option<Rejected> {
        let next_hop = attributes.next_hop.to_canonical();
        if let Some(looped) = self.looped(attributes, session) {
            Some(looped)
        } else if self.addresses.contains(&next_hop) {
            Some(Rejected::OwnNextHop)
        } else if next_hop.is_unspecified() || next_hop.is_multicast() || next_hop.is_loopback() {
            Some(Rejected::InvalidNextHop)
        } else {
            None
        }
    }

    /// The path has been here before. Of the AS numbers that we have, the peer knows one.
    pub(super) fn looped(&self, attributes: &Attributes, session: &Session) -> Option<Rejected> {
        let known = session.local_as.map(|local| local.asn);
        let path = &attributes.as_path;
        let most = session.allowas_in.into();
        let looped = |asn| decision::occurrences(path, asn) > most;
        if looped(self.asn) || known.is_some_and(looped) {
            Some(Rejected::AsLoop)
        } else if attributes.originator_id == Some(self.router_id) {
            Some(Rejected::OriginatorLoop)
        } else if attributes.cluster_list.contains(&self.router_id) {
            Some(Rejected::ClusterLoop)
        } else {
            None
        }
    }

    /// What the prefix alone says.
    fn judge_route(&self, route: &Route) -> Option<Rejected> {
        let Route::Unicast(prefix) = route else {
            return None;
        };
        if self.own.iter().any(|own| own.contains(prefix)) {
            Some(Rejected::OwnPrefix)
        } else if !self.import.is_empty() && !self.import.iter().any(|rule| rule.matches(prefix)) {
            Some(Rejected::NotListed)
        } else {
            None
        }
    }
}

impl Peer {
    pub(super) fn is_up(&self) -> bool {
        self.session.is_some()
    }
}

impl Paths {
    /// A path of it is gone.
    fn unindex(&self, targets: &mut TargetRoutes<Arc<RouteKey>>, key: &Arc<RouteKey>, gone: &Path) {
        let others = self.paths.iter().map(|path| &*path.attributes);
        targets.remove(key, &gone.attributes, others);
    }

    pub(super) fn of(&self, peer: PeerId) -> impl Iterator<Item = &Path> {
        self.paths.iter().filter(move |path| path.peer == peer)
    }

    pub(super) fn of_mut(&mut self, peer: PeerId) -> impl Iterator<Item = &mut Path> {
        self.paths.iter_mut().filter(move |path| path.peer == peer)
    }

    /// Paths changed.
    pub(super) fn decide(&mut self) {
        let best = decision::best(&self.paths);
        self.best = best.and_then(|index| u32::try_from(index).ok());
    }

    pub(super) fn mark_stale(&mut self, peer: PeerId) {
        self.of_mut(peer).for_each(|path| path.stale = true);
    }

    pub(super) fn is_stale(&self, peer: PeerId) -> bool {
        self.of(peer).any(|path| path.stale)
    }

    pub(super) fn best(&self) -> Option<Best> {
        let (_, path) = self.best_path()?;
        Some(Best {
            peer: path.peer,
            session: Arc::clone(&path.session),
            route: path.route.clone(),
            attributes: Arc::clone(&path.attributes),
            received: path.received,
        })
    }

    fn not_best(&self, index: usize, path: &Path) -> Option<NotBest> {
        if let Some(rejected) = path.rejected {
            return Some(NotBest::Rejected(rejected));
        }
        match self.best_path() {
            Some((best, better)) if best != index => {
                Some(NotBest::Lost(decision::lost(&self.paths, better, path)))
            }
            _ => None,
        }
    }

    fn best_path(&self) -> Option<(usize, &Path)> {
        let index = self.best? as usize;
        Some((index, self.paths.get(index)?))
    }
}

impl Best {
    /// Both are told to the same peers, and in the same form: a peer that comes back from a restart may
    /// have become a client meanwhile.
    fn has_source_of(&self, other: &Self) -> bool {
        let source = |best: &Self| {
            let session = &best.session;
            let client = session.route_reflector_client;
            (best.peer, client, session.internal, session.router_id)
        };
        source(self) == source(other)
    }
}

impl Change {
    /// Where the path came from matters only to those to whom it is told again.
    pub(super) fn between(
        key: &RouteKey,
        before: Option<Best>,
        after: Option<Best>,
        reflecting: bool,
    ) -> Option<Self> {
        let same = match (&before, &after) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a.route == b.route
                    && (!reflecting || a.has_source_of(b))
                    && (Arc::ptr_eq(&a.attributes, &b.attributes) || a.attributes == b.attributes)
            }
            _ => false,
        };
        (!same).then(|| Self {
            key: key.clone(),
            before,
            after,
        })
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

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsLoop => "rejected: our AS is in its AS_PATH",
            Self::OriginatorLoop => "rejected: we are its originator",
            Self::ClusterLoop => "rejected: our cluster id is in its CLUSTER_LIST",
            Self::OwnNextHop => "rejected: the next hop is our own address",
            Self::InvalidNextHop => "rejected: the next hop is no unicast address",
            Self::OwnPrefix => "rejected: the prefix is ours",
            Self::NotListed => "rejected: underlay.import does not list the prefix",
        })
    }
}
