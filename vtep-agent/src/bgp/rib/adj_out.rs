//! What we tell peers: routes of our own, and as a route reflector those of other peers; to a peer that
//! says by route target membership what it wants, no others (RFC 4684).

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use super::{
    Advertisement, Best,
    interest::Wants,
    reflect::{Receiver, Reflected, Reflector},
    target_routes::TargetRoutes,
};
use crate::{
    bgp::{
        peer::Session,
        wire::{AsPath, AsSegment, Attributes, Family, Route, RouteKey, TargetPrefix},
    },
    types::{
        Asn, LocalAs, PeerId,
        hash::{HashMap, HashSet},
    },
};

/// LOCAL_PREF of our routes towards internal peers.
const LOCAL_PREF: u32 = 100;

/// Our own routes, and which peers know which of them. Differences are gathered until
/// [`AdjRibOut::flush`], so that a route that changes twice in between is sent once.
#[derive(Debug)]
pub struct AdjRibOut {
    asn: Asn,
    reflector: Reflector,
    reflected: Reflected,
    routes: HashMap<RouteKey, Own>,
    targets: TargetRoutes,
    /// What peers were told of the routes that were touched since the last flush.
    touched: HashMap<RouteKey, Option<Own>>,
    peers: BTreeMap<PeerId, Peer>,
    /// Routes of an earlier run may still be to come, and peers must not take what they get for all
    /// of ours.
    incomplete: bool,
    /// Nothing of our own is announced any more.
    leaving: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Own {
    route: Route,
    attributes: Arc<Attributes>,
}

#[derive(Debug)]
struct Peer {
    internal: bool,
    local_as: Option<LocalAs>,
    client: bool,
    long_lived: bool,
    /// It is still to say what it wants, and told nothing before.
    waiting: bool,
    /// `None`: everything.
    wants: Option<Wants>,
    /// The whole table is to be sent.
    dump: Option<Dump>,
    /// It has not got our End-of-RIB yet.
    owed_end_of_rib: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dump {
    Initial,
    Refresh,
}

impl AdjRibOut {
    /// No peers, no routes. With `incomplete`, peers get no End-of-RIB before
    /// [`AdjRibOut::release_end_of_rib`].
    pub fn new(asn: Asn, router_id: Ipv4Addr, incomplete: bool) -> Self {
        Self {
            asn,
            reflector: Reflector {
                asn,
                cluster_id: router_id,
            },
            reflected: Reflected::default(),
            routes: HashMap::default(),
            targets: TargetRoutes::default(),
            touched: HashMap::default(),
            peers: BTreeMap::new(),
            incomplete,
            leaving: false,
        }
    }

    /// What is known is all that there is: with the next flush peers get their End-of-RIB.
    pub fn release_end_of_rib(&mut self) {
        self.incomplete = false;
    }

    /// A session is established: it gets everything that it wants, and End-of-RIB. A peer that
    /// exchanges memberships has to say first what it wants.
    pub fn up(&mut self, peer: PeerId, session: &Session) {
        if session.families.evpn {
            let state = Peer {
                internal: session.internal,
                local_as: session.local_as,
                client: session.route_reflector_client,
                long_lived: session.long_lived,
                waiting: session.rt_constraint,
                wants: session.rt_constraint.then(Wants::default),
                dump: Some(Dump::Initial),
                owed_end_of_rib: true,
            };
            self.peers.insert(peer, state);
        } else {
            self.peers.remove(&peer);
        }
    }

    /// A session is gone.
    pub fn down(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// A peer asked for everything again (RFC 2918 §4).
    pub fn refresh(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.dump.get_or_insert(Dump::Refresh);
        }
    }

    /// A peer asks for routes with one prefix of targets more, or less.
    pub fn ask(&mut self, peer: PeerId, prefix: TargetPrefix, wanted: bool) {
        let state = self.peers.get_mut(&peer);
        if let Some(wants) = state.and_then(|peer| peer.wants.as_mut()) {
            wants.change(prefix, wanted);
        }
    }

    /// A peer has said what it wants.
    pub fn stop_waiting(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.waiting = false;
        }
    }

    /// Withdraws every route of our own, for good; what is reflected stays.
    pub fn leave(&mut self) {
        self.leaving = true;
        let keys: Vec<_> = self.routes.keys().cloned().collect();
        for key in keys {
            self.withdraw(&key);
        }
    }

    /// Announces a route, or replaces it; nothing after [`AdjRibOut::leave`].
    pub fn announce(&mut self, route: Route, attributes: Arc<Attributes>) {
        if self.leaving {
            return;
        }
        let key = route.key();
        let own = Own { route, attributes };
        if self.routes.get(&key) == Some(&own) {
            return;
        }
        self.targets.insert(&key, &own.attributes);
        let now = Arc::clone(&own.attributes);
        let before = self.routes.insert(key.clone(), own);
        if let Some(before) = &before {
            self.targets
                .remove(&key, &before.attributes, [&*now].into_iter());
        }
        self.touched.entry(key).or_insert(before);
    }

    /// Withdraws a route.
    pub fn withdraw(&mut self, key: &RouteKey) {
        if let Some(before) = self.routes.remove(key) {
            self.targets.remove(key, &before.attributes, [].into_iter());
            self.touched.entry(key.clone()).or_insert(Some(before));
        }
    }

    /// The best path from other peers became another one; it is told to those who may have it.
    pub fn reflect(&mut self, key: RouteKey, best: Option<Best>) {
        self.reflected.set(key, best);
    }

    /// Takes back what other peers' paths were told.
    pub fn stop_reflecting(&mut self) {
        self.reflected.clear();
    }

    /// What has to be sent now, by peer.
    pub fn flush(&mut self) -> Vec<(PeerId, Advertisement)> {
        let differences = self.take_differences();
        let reflected = self.reflected.take_differences();
        let mut shared = Shared::default();
        let mut sent = Vec::new();
        for (id, peer) in self.peers.iter().filter(|(_, peer)| !peer.waiting) {
            let receiver = peer.receiver(*id);
            let (withdraw, announce) = self.own(receiver, peer.dump, &differences, &mut shared);
            let mut advertisement = Advertisement {
                family: Family::EVPN,
                withdraw,
                announce,
                end_of_rib: peer.owed_end_of_rib && !self.incomplete,
                // RFC 7313 §4: no BoRR before our End-of-RIB.
                refresh: peer.dump == Some(Dump::Refresh) && !peer.owed_end_of_rib,
            };
            if peer.dump != Some(Dump::Initial) {
                let all = peer.dump.is_none();
                self.reflected.update(
                    &reflected,
                    receiver,
                    self.reflector,
                    all,
                    &mut advertisement,
                );
            }
            if peer.dump.is_some() {
                self.reflected
                    .dump(receiver, self.reflector, &mut advertisement);
            }
            if peer.dump.is_some()
                || advertisement.end_of_rib
                || !advertisement.withdraw.is_empty()
                || !advertisement.announce.is_empty()
            {
                sent.push((*id, advertisement));
            }
        }
        for peer in self.peers.values_mut().filter(|peer| !peer.waiting) {
            peer.dump = None;
            peer.owed_end_of_rib &= self.incomplete;
            if let Some(wants) = &mut peer.wants {
                wants.settle();
            }
        }
        sent
    }

    /// What became of the routes that were touched.
    fn take_differences(&mut self) -> Vec<Difference> {
        let mut differences: Vec<_> = self
            .touched
            .drain()
            .map(|(key, before)| {
                let now = self.routes.get(&key).cloned();
                (key, before, now)
            })
            .filter(|(_, before, now)| before != now)
            .collect();
        // A fixed order makes a run repeatable.
        differences.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        differences
    }

    /// What one peer is told of our own routes: withdrawals and announcements. A new session knows
    /// nothing that could be withdrawn; another one does.
    fn own(
        &self,
        receiver: Receiver<'_>,
        dump: Option<Dump>,
        differences: &[Difference],
        shared: &mut Shared,
    ) -> (Vec<RouteKey>, Groups) {
        let all = || Announcements::new(self.routes.values().cloned().collect());
        let Some(wants) = receiver.wants else {
            let gone = differences.iter().filter(|(.., now)| now.is_none());
            let withdraw = match dump {
                Some(Dump::Initial) => Vec::new(),
                _ => gone.map(|(key, ..)| key.clone()).collect(),
            };
            let announcements = match dump {
                Some(_) => shared.all.get_or_insert_with(all),
                None => shared.difference.get_or_insert_with(|| {
                    let now = differences.iter().filter_map(|(.., now)| now.clone());
                    Announcements::new(now.collect())
                }),
            };
            return (withdraw, announcements.towards(receiver, self.asn));
        };
        let (mut withdraw, mut announce) = (Vec::new(), Vec::new());
        if dump != Some(Dump::Initial) {
            (withdraw, announce) = self.wanted_differences(wants, differences);
        }
        if dump.is_some() {
            let wanted = self
                .routes
                .values()
                .filter(|own| wants.now.covers(&own.attributes));
            announce = wanted.cloned().collect();
        }
        let mut announcements = Announcements::new(announce);
        (withdraw, announcements.towards(receiver, self.asn))
    }

    /// What changes for a peer that asks for some routes only, because they changed or because it
    /// asks for others than before.
    fn wanted_differences(
        &self,
        wants: &Wants,
        differences: &[Difference],
    ) -> (Vec<RouteKey>, Vec<Own>) {
        let (mut withdraw, mut announce) = (Vec::new(), Vec::new());
        for (key, before, now) in differences {
            let was = before
                .as_ref()
                .is_some_and(|own| wants.told.covers(&own.attributes));
            match now.as_ref().filter(|own| wants.now.covers(&own.attributes)) {
                Some(own) => announce.push(own.clone()),
                None if was => withdraw.push(key.clone()),
                None => {}
            }
        }
        let done: HashSet<_> = differences.iter().map(|(key, ..)| key).collect();
        let affected = wants.affected(&self.targets, self.routes.keys());
        for key in affected.into_iter().filter(|key| !done.contains(key)) {
            let Some(own) = self.routes.get(key) else {
                continue;
            };
            let was = wants.told.covers(&own.attributes);
            match wants.now.covers(&own.attributes) {
                true if !was => announce.push(own.clone()),
                false if was => withdraw.push(key.clone()),
                _ => {}
            }
        }
        (withdraw, announce)
    }

    /// Our own routes, in no particular order.
    pub fn routes(&self) -> impl Iterator<Item = (&Route, &Arc<Attributes>)> {
        self.routes
            .values()
            .map(|own| (&own.route, &own.attributes))
    }

    /// Our own route with this key.
    pub fn route(&self, key: &RouteKey) -> Option<(&Route, &Arc<Attributes>)> {
        let own = self.routes.get(key)?;
        Some((&own.route, &own.attributes))
    }

    /// Number of routes that this peer was told.
    pub fn sent(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |state| {
            let own = match &state.wants {
                _ if state.waiting => return 0,
                None => self.routes.len(),
                Some(wants) => {
                    let asked = |own: &&Own| wants.now.covers(&own.attributes);
                    self.routes.values().filter(asked).count()
                }
            };
            own + self.reflected.count(state.receiver(peer))
        })
    }

    /// Whether anybody is told our routes.
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }
}

impl Peer {
    fn receiver(&self, peer: PeerId) -> Receiver<'_> {
        Receiver {
            peer,
            internal: self.internal,
            local_as: self.local_as,
            client: self.client,
            long_lived: self.long_lived,
            wants: self.wants.as_ref(),
        }
    }
}

/// A route before and after the last flush.
type Difference = (RouteKey, Option<Own>, Option<Own>);

/// Routes by attributes, as they leave.
type Groups = Vec<(Arc<Attributes>, Vec<Route>)>;

/// What all peers that want everything are told.
#[derive(Default)]
struct Shared {
    all: Option<Announcements>,
    difference: Option<Announcements>,
}

/// Routes grouped by attributes, and the forms in which they leave as far as somebody asked for them.
#[derive(Default)]
struct Announcements {
    groups: Groups,
    forms: HashMap<Form, Groups>,
}

/// What peers are told the same way.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Internal,
    External(Option<LocalAs>),
}

impl Announcements {
    fn new(routes: Vec<Own>) -> Self {
        let mut groups: HashMap<Arc<Attributes>, Vec<Route>> = HashMap::default();
        for own in routes {
            groups.entry(own.attributes).or_default().push(own.route);
        }
        for routes in groups.values_mut() {
            routes.sort_by_cached_key(Route::key);
        }
        // A fixed order makes a run repeatable.
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_cached_key(|(_, routes)| routes.first().map(Route::key));
        Self {
            groups,
            forms: HashMap::default(),
        }
    }

    fn towards(&mut self, receiver: Receiver<'_>, own: Asn) -> Groups {
        let form = match receiver.internal {
            true => Form::Internal,
            false => Form::External(receiver.local_as),
        };
        let groups = &self.groups;
        let formed = self.forms.entry(form).or_insert_with(|| {
            let leaving = |(attributes, routes): &(Arc<Attributes>, Vec<Route>)| {
                let attributes = match form {
                    Form::Internal => towards_internal(attributes),
                    Form::External(local) => towards_external(attributes, local, own),
                };
                (Arc::new(attributes), routes.clone())
            };
            groups.iter().map(leaving).collect()
        });
        formed.clone()
    }
}

/// RFC 4271 §5.1.2 a, §5.1.5.
pub(super) fn towards_internal(attributes: &Attributes) -> Attributes {
    Attributes {
        local_pref: Some(LOCAL_PREF),
        ..attributes.clone()
    }
}

/// RFC 4271 §5.1.2 b. The next hop stays as it is: of EVPN routes the VTEP's address, whatever the
/// session's.
pub(super) fn towards_external(
    attributes: &Attributes,
    local: Option<LocalAs>,
    own: Asn,
) -> Attributes {
    Attributes {
        local_pref: None,
        as_path: AsPath(vec![AsSegment::Sequence(LocalAs::front(local, own))]),
        ..attributes.clone()
    }
}
