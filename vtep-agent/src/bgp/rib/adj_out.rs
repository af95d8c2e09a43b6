//! What we tell peers: routes of our own, the same ones to every peer of the EVPN family, and as a
//! route reflector those of other peers.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use super::{
    Advertisement, Best,
    reflect::{self, Receiver, Reflected, Reflector},
};
use crate::{
    bgp::{
        peer::Session,
        wire::{AsPath, AsSegment, Attributes, Family, Route, RouteKey},
    },
    types::{Asn, PeerId},
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
    /// What peers were told of the routes that were touched since the last flush.
    touched: HashMap<RouteKey, Option<Own>>,
    peers: BTreeMap<PeerId, Peer>,
    /// Routes of an earlier run may still be to come, and peers must not take what they get for all
    /// of ours.
    incomplete: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Own {
    route: Route,
    attributes: Arc<Attributes>,
}

#[derive(Debug)]
struct Peer {
    internal: bool,
    client: bool,
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
            routes: HashMap::new(),
            touched: HashMap::new(),
            peers: BTreeMap::new(),
            incomplete,
        }
    }

    /// What is known is all that there is: with the next flush peers get their End-of-RIB.
    pub fn release_end_of_rib(&mut self) {
        self.incomplete = false;
    }

    /// A session is established: it gets everything, and End-of-RIB.
    pub fn up(&mut self, peer: PeerId, session: &Session) {
        if session.families.evpn {
            let state = Peer {
                internal: session.internal,
                client: session.route_reflector_client,
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

    /// Announces a route, or replaces it.
    pub fn announce(&mut self, route: Route, attributes: Arc<Attributes>) {
        let key = route.key();
        let own = Own { route, attributes };
        if self.routes.get(&key) == Some(&own) {
            return;
        }
        let before = self.routes.insert(key.clone(), own);
        self.touched.entry(key).or_insert(before);
    }

    /// Withdraws a route.
    pub fn withdraw(&mut self, key: &RouteKey) {
        if let Some(before) = self.routes.remove(key) {
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
        let mut withdraw = Vec::new();
        let mut announce = Vec::new();
        for (key, before) in self.touched.drain() {
            match self.routes.get(&key) {
                Some(own) if before.as_ref() != Some(own) => announce.push(own.clone()),
                None if before.is_some() => withdraw.push(key),
                _ => {}
            }
        }
        withdraw.sort_unstable();
        let difference = Announcements::new(self.asn, announce);
        let reflected = self.reflected.take_differences();
        let mut all = None;
        let mut sent = Vec::new();
        for (id, peer) in &mut self.peers {
            let dump = peer.dump.take();
            let (withdraw, announcements) = match dump {
                // A new session knows nothing that could be withdrawn; another one does.
                Some(Dump::Initial) => (Vec::new(), None),
                Some(Dump::Refresh) => (withdraw.clone(), None),
                None => (withdraw.clone(), Some(&difference)),
            };
            let announcements = announcements.unwrap_or_else(|| {
                all.get_or_insert_with(|| {
                    Announcements::new(self.asn, self.routes.values().cloned().collect())
                })
            });
            let owed = peer.owed_end_of_rib;
            peer.owed_end_of_rib &= self.incomplete;
            let mut advertisement = Advertisement {
                family: Family::EVPN,
                withdraw,
                announce: announcements.towards(peer.internal).to_vec(),
                end_of_rib: owed && !self.incomplete,
                // RFC 7313 §4: no BoRR before our End-of-RIB.
                refresh: dump == Some(Dump::Refresh) && !owed,
            };
            let receiver = peer.receiver(*id);
            if dump != Some(Dump::Initial) {
                let all = dump.is_none();
                reflect::update(
                    &reflected,
                    receiver,
                    self.reflector,
                    all,
                    &mut advertisement,
                );
            }
            if dump.is_some() {
                self.reflected
                    .dump(receiver, self.reflector, &mut advertisement);
            }
            if dump.is_some()
                || advertisement.end_of_rib
                || !advertisement.withdraw.is_empty()
                || !advertisement.announce.is_empty()
            {
                sent.push((*id, advertisement));
            }
        }
        sent
    }

    /// Our own routes, in no particular order.
    pub fn routes(&self) -> impl Iterator<Item = (&Route, &Arc<Attributes>)> {
        self.routes
            .values()
            .map(|own| (&own.route, &own.attributes))
    }

    /// Number of routes that this peer was told.
    pub fn sent(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |state| {
            self.routes.len() + self.reflected.count(state.receiver(peer))
        })
    }

    /// Whether anybody is told our routes.
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }
}

impl Peer {
    fn receiver(&self, peer: PeerId) -> Receiver {
        Receiver {
            peer,
            internal: self.internal,
            client: self.client,
        }
    }
}

/// Routes grouped by attributes, in the two forms in which they leave.
#[derive(Default)]
struct Announcements {
    internal: Vec<(Arc<Attributes>, Vec<Route>)>,
    external: Vec<(Arc<Attributes>, Vec<Route>)>,
}

impl Announcements {
    fn new(asn: Asn, routes: Vec<Own>) -> Self {
        let mut groups: HashMap<Arc<Attributes>, Vec<Route>> = HashMap::new();
        for own in routes {
            groups.entry(own.attributes).or_default().push(own.route);
        }
        for routes in groups.values_mut() {
            routes.sort_by_cached_key(Route::key);
        }
        // A fixed order makes a run repeatable.
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_cached_key(|(_, routes)| routes.first().map(Route::key));
        let mut announcements = Self::default();
        for (attributes, routes) in groups {
            let internal = Arc::new(towards_internal(&attributes));
            let external = Arc::new(towards_external(&attributes, asn));
            announcements.internal.push((internal, routes.clone()));
            announcements.external.push((external, routes));
        }
        announcements
    }

    fn towards(&self, internal: bool) -> &[(Arc<Attributes>, Vec<Route>)] {
        if internal {
            &self.internal
        } else {
            &self.external
        }
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
pub(super) fn towards_external(attributes: &Attributes, asn: Asn) -> Attributes {
    Attributes {
        local_pref: None,
        as_path: AsPath(vec![AsSegment::Sequence(vec![asn])]),
        ..attributes.clone()
    }
}
