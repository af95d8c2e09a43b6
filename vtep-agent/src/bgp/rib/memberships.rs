//! Route target memberships (RFC 4684): ours, those of peers, and as a route reflector those of some
//! peers told to others.
//!
//! What a peer is sent depends on all that this peer asks for, not on best paths (RFC 4684 §3.2:
//! internal peers that ask for the same target each get its routes). Best paths matter only for what
//! memberships are told to others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Advertisement, Path, Speaker,
    adj_out::{towards_external, towards_internal},
    decision,
    interior::Interior,
    reflect::{Receiver, Reflection, Reflector},
};
use crate::{
    bgp::{
        peer::{Retention, Session},
        wire::{Attributes, Family, Membership, Route, RouteKey, TargetPrefix, Update},
    },
    types::{ImportTarget, PeerId, hash::HashMap},
};

/// How long routes wait for the end of a peer's memberships (RFC 4684 §6).
const WAIT: Duration = Duration::from_secs(60);

/// Most memberships of one peer that are kept. A peer that sends more gets everything.
const MOST: usize = 1 << 17;

/// Memberships, by membership and by peer.
#[derive(Debug)]
pub struct Memberships {
    speaker: Speaker,
    /// Next hop of what we tell.
    next_hop: IpAddr,
    /// How often each of ours is needed.
    own: BTreeMap<Membership, u32>,
    paths: BTreeMap<Membership, Vec<Path>>,
    peers: BTreeMap<PeerId, Peer>,
    /// Changed since the last flush.
    touched: BTreeSet<Membership>,
    reflecting: bool,
}

/// What a peer's UPDATE, or its silence, means for what it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Prefixes of targets of which one membership more (or less) asks for routes.
    pub changes: Vec<(TargetPrefix, bool)>,
    /// Nothing is to be waited for any more.
    pub complete: bool,
}

/// The memberships exchanged with a peer, in order.
#[derive(Debug)]
pub struct Exchanged<'a> {
    /// What it asks for.
    pub received: &'a BTreeSet<Membership>,
    /// What it is asked for.
    pub sent: &'a BTreeMap<Membership, Arc<Attributes>>,
    /// Nothing more of what it asks for is waited for.
    pub complete: bool,
}

#[derive(Debug)]
struct Peer {
    /// `None` while it restarts.
    session: Option<Arc<Session>>,
    held: BTreeSet<Membership>,
    /// Those of `held` that it has not sent again since it restarted.
    stale: BTreeSet<Membership>,
    /// It sent more than we keep.
    over: bool,
    /// Until when its End-of-RIB is waited for; without a session, until when it may come back.
    until: Option<Instant>,
    told: BTreeMap<Membership, Arc<Attributes>>,
    dump: Option<Dump>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dump {
    Initial,
    Refresh,
}

impl Memberships {
    /// None of ours, no peers.
    pub fn new(speaker: Speaker, next_hop: IpAddr) -> Self {
        Self {
            speaker,
            next_hop,
            own: BTreeMap::new(),
            paths: BTreeMap::new(),
            peers: BTreeMap::new(),
            touched: BTreeSet::new(),
            reflecting: false,
        }
    }

    /// Whether memberships of some peers are told to others.
    pub fn set_reflecting(&mut self, reflecting: bool) {
        if reflecting != std::mem::replace(&mut self.reflecting, reflecting) {
            self.touched.extend(self.paths.keys());
        }
    }

    /// A session is established.
    pub fn up(&mut self, peer: PeerId, session: &Session, now: Instant) {
        let restarted = self
            .peers
            .get(&peer)
            .is_some_and(|peer| peer.session.is_none());
        if !session.rt_constraint || !restarted {
            self.down(peer);
        }
        if !session.rt_constraint {
            return;
        }
        let state = self.peers.entry(peer).or_insert_with(Peer::new);
        state.session = Some(Arc::new(session.clone()));
        state.until = Some(now + WAIT);
        state.dump = Some(Dump::Initial);
    }

    /// A session is gone, and what it asked for with it.
    pub fn down(&mut self, peer: PeerId) {
        for membership in self
            .peers
            .remove(&peer)
            .into_iter()
            .flat_map(|peer| peer.held)
        {
            self.remove_path(peer, membership);
        }
    }

    /// A session is gone, and others are still told what it asked for.
    pub fn restarting(&mut self, peer: PeerId, retention: Retention, now: Instant) {
        if let Some(state) = self.peers.get_mut(&peer) {
            *state = Peer {
                stale: state.held.clone(),
                held: std::mem::take(&mut state.held),
                until: Some(now + retention.restart_time),
                ..Peer::new()
            };
        }
    }

    /// A peer asks for all of them again (RFC 2918 §4).
    pub fn refresh(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.dump.get_or_insert(Dump::Refresh);
        }
    }

    /// Takes in what an UPDATE says of the family.
    pub fn update(&mut self, peer: PeerId, update: Update, now: Instant) -> Asked {
        let mut asked = Asked::default();
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session.clone()) else {
            return asked;
        };
        let mut withdrawn = update.withdrawn;
        if let Some(attributes) = update.attributes {
            match self.speaker.looped(&attributes, &session) {
                Some(_) => withdrawn.extend(update.announced.iter().map(Route::key)),
                None => {
                    for route in update.announced {
                        let path = Path {
                            peer,
                            session: Arc::clone(&session),
                            path_id: None,
                            route,
                            attributes: Arc::clone(&attributes),
                            rejected: None,
                            accepted: true,
                            received: now,
                            stale: false,
                        };
                        asked.changes.extend(self.insert(path));
                    }
                }
            }
        }
        for key in withdrawn {
            if let RouteKey::Membership(membership) = key {
                asked.changes.extend(self.remove(peer, membership));
            }
        }
        if update.end_of_rib.is_some() {
            self.complete(peer);
            asked.complete = true;
        }
        asked
    }

    /// Peers whose End-of-RIB was waited for long enough. Those that didn't come back are forgotten.
    pub fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        let due = |(id, peer): (&PeerId, &Peer)| {
            let over = peer.until.is_some_and(|until| until <= now);
            over.then_some((*id, peer.session.is_some()))
        };
        let due: Vec<_> = self.peers.iter().filter_map(due).collect();
        let mut late = Vec::new();
        for (peer, up) in due {
            if up {
                self.complete(peer);
                late.push(peer);
            } else {
                self.down(peer);
            }
        }
        late
    }

    /// When [`Memberships::expire`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.until).min()
    }

    /// We import one target more. A wildcard leaves the AS of the target open, in front of the
    /// number, and is no prefix: everything has to be asked for.
    pub fn import(&mut self, target: ImportTarget) {
        let membership = self.membership(target);
        let count = self.own.entry(membership).or_default();
        *count += 1;
        if *count == 1 {
            self.touched.insert(membership);
        }
    }

    /// We import one target less.
    pub fn release(&mut self, target: ImportTarget) {
        let membership = self.membership(target);
        if let Some(count) = self.own.get_mut(&membership) {
            *count -= 1;
            if *count == 0 {
                self.own.remove(&membership);
                self.touched.insert(membership);
            }
        }
    }

    /// How many memberships a peer sent.
    pub fn received(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |peer| peer.held.len())
    }

    /// What was exchanged with a peer; `None` without a session that has the family.
    pub fn exchanged(&self, peer: PeerId) -> Option<Exchanged<'_>> {
        let peer = self.peers.get(&peer)?;
        peer.session.is_some().then_some(Exchanged {
            received: &peer.held,
            sent: &peer.told,
            complete: peer.until.is_none(),
        })
    }

    /// What has to be sent now, by peer, in this order: what a peer is to ask for anew comes before
    /// what it needn't ask for any more, so that no route gets lost in between.
    pub fn flush(&mut self) -> Vec<(PeerId, Advertisement)> {
        let touched = std::mem::take(&mut self.touched);
        let mut sent = Vec::new();
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(session) = self.peers.get(&id).and_then(|peer| peer.session.clone()) else {
                continue;
            };
            let dump = self.peers.get_mut(&id).and_then(|peer| peer.dump.take());
            let told: Vec<_> = match dump {
                None => touched
                    .iter()
                    .copied()
                    .map(|key| (key, self.tell(key, id, &session)))
                    .collect(),
                Some(_) => {
                    let all: BTreeSet<_> = self
                        .own
                        .keys()
                        .chain(self.paths.keys())
                        .chain(&touched)
                        .copied()
                        .collect();
                    all.into_iter()
                        .map(|key| (key, self.tell(key, id, &session)))
                        .collect()
                }
            };
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            let mut announce: HashMap<Arc<Attributes>, Vec<Route>> = HashMap::default();
            let mut withdraw = Vec::new();
            for (membership, attributes) in told {
                match attributes {
                    Some(attributes) => {
                        let before = peer.told.insert(membership, Arc::clone(&attributes));
                        if dump.is_some() || before.as_ref() != Some(&attributes) {
                            let group = announce.entry(attributes).or_default();
                            group.push(Route::Membership(membership));
                        }
                    }
                    None => {
                        if peer.told.remove(&membership).is_some() {
                            withdraw.push(RouteKey::Membership(membership));
                        }
                    }
                }
            }
            let mut announce: Vec<_> = announce.into_iter().collect();
            // A fixed order makes a run repeatable.
            announce.sort_by_cached_key(|(_, routes)| routes.first().map(Route::key));
            if dump.is_some() || !announce.is_empty() {
                let advertisement = Advertisement {
                    family: Family::RTC,
                    announce,
                    end_of_rib: dump == Some(Dump::Initial),
                    refresh: dump == Some(Dump::Refresh),
                    ..Advertisement::default()
                };
                sent.push((id, advertisement));
            }
            if !withdraw.is_empty() {
                let advertisement = Advertisement {
                    family: Family::RTC,
                    withdraw,
                    ..Advertisement::default()
                };
                sent.push((id, advertisement));
            }
        }
        sent
    }

    /// The attributes with which a peer is told a membership.
    fn tell(
        &self,
        membership: Membership,
        peer: PeerId,
        session: &Session,
    ) -> Option<Arc<Attributes>> {
        if self.own.contains_key(&membership) {
            let attributes = Attributes::originated(self.next_hop);
            return Some(Arc::new(match session.internal {
                true => towards_internal(&attributes),
                false => towards_external(&attributes, session.local_as, self.speaker.asn),
            }));
        }
        if !self.reflecting {
            return None;
        }
        let receiver = Receiver {
            peer,
            internal: session.internal,
            local_as: session.local_as,
            client: session.route_reflector_client,
            long_lived: session.long_lived,
            wants: None,
        };
        // RFC 4684 §3.2: a client also hears that others want what it wants itself, and who is no
        // client hears of a client's path even if the best one is not a client's.
        let paths = self.paths.get(&membership)?.iter();
        let allowed = |path: &&Path| Reflection::of(path).is_allowed(receiver);
        let paths: Vec<_> = paths.filter(allowed).cloned().collect();
        let best = paths.get(decision::best(&paths, Interior::default())?)?;
        let reflector = Reflector {
            asn: self.speaker.asn,
            cluster_id: self.speaker.router_id,
        };
        let mut attributes = Reflection::of(best).towards(receiver, reflector);
        if session.internal && session.route_reflector_client {
            attributes.originator_id = Some(self.speaker.router_id);
            attributes.next_hop = self.next_hop;
        }
        Some(Arc::new(attributes))
    }

    fn membership(&self, target: ImportTarget) -> Membership {
        match target {
            ImportTarget::Exact(target) => Membership::new(self.speaker.asn, target),
            ImportTarget::AnyAdmin(_) => Membership::DEFAULT,
        }
    }

    fn insert(&mut self, path: Path) -> Option<(TargetPrefix, bool)> {
        let (id, Route::Membership(membership)) = (path.peer, &path.route) else {
            return None;
        };
        let membership = *membership;
        let peer = self.peers.get_mut(&id)?;
        if !peer.held.contains(&membership) && peer.held.len() >= MOST {
            if !std::mem::replace(&mut peer.over, true) {
                tracing::warn!(peer = %path.session.address, limit = MOST, "too many route target memberships: it gets all routes");
                return Some((Membership::DEFAULT.targets(), true));
            }
            return None;
        }
        let new = peer.held.insert(membership);
        let asks = peer.stale.remove(&membership) || new;
        let paths = self.paths.entry(membership).or_default();
        match paths.iter_mut().find(|old| old.peer == id) {
            Some(old) => *old = path,
            None => paths.push(path),
        }
        self.touched.insert(membership);
        asks.then_some((membership.targets(), true))
    }

    fn remove(&mut self, id: PeerId, membership: Membership) -> Option<(TargetPrefix, bool)> {
        let peer = self.peers.get_mut(&id)?;
        if !peer.held.remove(&membership) {
            return None;
        }
        // What is stale is not asked for on this session.
        let asked = !peer.stale.remove(&membership);
        self.remove_path(id, membership);
        asked.then_some((membership.targets(), false))
    }

    fn remove_path(&mut self, peer: PeerId, membership: Membership) {
        if let Some(paths) = self.paths.get_mut(&membership) {
            paths.retain(|path| path.peer != peer);
            if paths.is_empty() {
                self.paths.remove(&membership);
            }
            self.touched.insert(membership);
        }
    }

    /// A peer has said everything that it asks for.
    fn complete(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.until = None;
        for membership in peer.stale.clone() {
            self.remove(id, membership);
        }
    }
}

impl Peer {
    fn new() -> Self {
        Self {
            session: None,
            held: BTreeSet::new(),
            stale: BTreeSet::new(),
            over: false,
            until: None,
            told: BTreeMap::new(),
            dump: None,
        }
    }
}
