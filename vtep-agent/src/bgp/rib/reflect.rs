//! Our role as a route reflector (RFC 4456): best paths of some peers, told to others.
//!
//! A path goes from clients to everybody and from everybody to clients, never back to where it came
//! from. Reflection between internal peers leaves all attributes but two as they are (§8, §10); an
//! external peer gets our AS in front. The next hop stays the VTEP's in all cases, since tunnels end
//! there and not here. Long-lived stale paths go only to those who know them (RFC 9494 §4.3).

use std::{net::Ipv4Addr, sync::Arc};

use super::{Advertisement, Best, LLGR_STALE, Path, interest::Wants, target_routes::TargetRoutes};
use crate::{
    bgp::{
        peer::Session,
        wire::{AsPath, AsSegment, Attributes, Route, RouteKey},
    },
    types::{
        Asn, LocalAs, PeerId,
        hash::{HashMap, HashSet},
    },
};

/// RFC 1997.
const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;

/// Who we are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reflector {
    pub(super) asn: Asn,
    /// Our BGP identifier, which is our cluster id too.
    pub(super) cluster_id: Ipv4Addr,
}

/// Paths to reflect, and what peers were told of those that changed since the last flush.
#[derive(Debug, Default)]
pub(super) struct Reflected {
    routes: HashMap<RouteKey, Reflection>,
    targets: TargetRoutes,
    touched: HashMap<RouteKey, Option<Reflection>>,
}

/// A path that may be told to others.
#[derive(Clone, Debug)]
pub(super) struct Reflection {
    peer: PeerId,
    session: Arc<Session>,
    route: Route,
    attributes: Arc<Attributes>,
}

/// A difference: what was, and what is.
type Difference = (RouteKey, Option<Reflection>, Option<Reflection>);

/// A peer that paths are told to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver<'a> {
    pub(super) peer: PeerId,
    pub(super) internal: bool,
    pub(super) local_as: Option<LocalAs>,
    pub(super) client: bool,
    /// It knows long-lived stale routes.
    pub(super) long_lived: bool,
    /// `None`: everything.
    pub(super) wants: Option<&'a Wants>,
}

impl Reflected {
    /// The best path became another one.
    pub(super) fn set(&mut self, key: RouteKey, best: Option<Best>) {
        if let Some(best) = &best {
            self.targets.insert(&key, &best.attributes);
        }
        let before = match best {
            Some(best) => self.routes.insert(key.clone(), Reflection::new(best)),
            None => self.routes.remove(&key),
        };
        if let Some(before) = &before {
            let now = self.routes.get(&key).map(|now| &*now.attributes);
            self.targets
                .remove(&key, &before.attributes, now.into_iter());
        }
        self.touched.entry(key).or_insert(before);
    }

    /// Nothing is reflected any more.
    pub(super) fn clear(&mut self) {
        self.targets = TargetRoutes::default();
        for (key, before) in self.routes.drain() {
            self.touched.entry(key).or_insert(Some(before));
        }
    }

    /// What changed since the last call.
    pub(super) fn take_differences(&mut self) -> Vec<Difference> {
        let mut differences: Vec<_> = self
            .touched
            .drain()
            .map(|(key, before)| {
                let now = self.routes.get(&key).cloned();
                (key, before, now)
            })
            .collect();
        // A fixed order makes a run repeatable.
        differences.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        differences
    }

    /// Number of paths that a peer is told.
    pub(super) fn count(&self, receiver: Receiver<'_>) -> usize {
        let told = |reflection: &&Reflection| reflection.is_for(receiver);
        self.routes.values().filter(told).count()
    }

    /// Adds the part of `differences` that concerns a peer, and what follows from its asking for other
    /// routes than before; with `all` unset only what is withdrawn.
    pub(super) fn update(
        &self,
        differences: &[Difference],
        receiver: Receiver<'_>,
        reflector: Reflector,
        all: bool,
        advertisement: &mut Advertisement,
    ) {
        let gone = differences.iter().filter(|(_, before, now)| {
            let was = before
                .as_ref()
                .is_some_and(|before| before.was_for(receiver));
            let is = now.as_ref().is_some_and(|now| now.is_for(receiver));
            was && !is
        });
        advertisement
            .withdraw
            .extend(gone.map(|(key, ..)| key.clone()));
        let (gained, lost) = self.reconsidered(differences, receiver);
        advertisement.withdraw.extend(lost);
        if all {
            let now = differences
                .iter()
                .filter_map(|(.., now)| now.as_ref())
                .filter(|reflection| reflection.is_for(receiver));
            announce(now.chain(gained), receiver, reflector, advertisement);
        }
    }

    /// Of the paths that are the same as before, those that a peer now asks for and those that it no
    /// longer asks for.
    fn reconsidered(
        &self,
        differences: &[Difference],
        receiver: Receiver<'_>,
    ) -> (Vec<&Reflection>, Vec<RouteKey>) {
        let (mut gained, mut lost) = (Vec::new(), Vec::new());
        let Some(wants) = receiver.wants else {
            return (gained, lost);
        };
        let done: HashSet<_> = differences.iter().map(|(key, ..)| key).collect();
        let affected = wants.affected(&self.targets, self.routes.keys());
        let mut affected: Vec<_> = affected.difference(&done).copied().collect();
        affected.sort_unstable();
        for key in affected {
            let Some(reflection) = self.routes.get(key) else {
                continue;
            };
            match (reflection.was_for(receiver), reflection.is_for(receiver)) {
                (false, true) => gained.push(reflection),
                (true, false) => lost.push(key.clone()),
                _ => {}
            }
        }
        (gained, lost)
    }

    /// Adds everything that a peer is told.
    pub(super) fn dump(
        &self,
        receiver: Receiver<'_>,
        reflector: Reflector,
        advertisement: &mut Advertisement,
    ) {
        let mut told: Vec<_> = self
            .routes
            .iter()
            .filter(|(_, reflection)| reflection.is_for(receiver))
            .collect();
        told.sort_unstable_by_key(|(key, _)| *key);
        let told = told.into_iter().map(|(_, reflection)| reflection);
        announce(told, receiver, reflector, advertisement);
    }
}

/// Groups paths by attributes: those of one UPDATE share theirs.
fn announce<'a>(
    reflections: impl Iterator<Item = &'a Reflection>,
    receiver: Receiver<'_>,
    reflector: Reflector,
    advertisement: &mut Advertisement,
) {
    let first = advertisement.announce.len();
    let mut groups = HashMap::default();
    for reflection in reflections {
        let key = (Arc::as_ptr(&reflection.attributes), reflection.peer);
        let index = *groups.entry(key).or_insert_with(|| {
            let attributes = reflection.towards(receiver, reflector);
            advertisement
                .announce
                .push((Arc::new(attributes), Vec::new()));
            advertisement.announce.len() - 1
        });
        debug_assert!(index >= first);
        if let Some((_, routes)) = advertisement.announce.get_mut(index) {
            routes.push(reflection.route.clone());
        }
    }
}

impl Reflection {
    fn new(best: Best) -> Self {
        Self {
            peer: best.peer,
            session: best.session,
            route: best.route,
            attributes: best.attributes,
        }
    }

    pub(super) fn of(path: &Path) -> Self {
        Self {
            peer: path.peer,
            session: Arc::clone(&path.session),
            route: path.route.clone(),
            attributes: Arc::clone(&path.attributes),
        }
    }

    /// A peer is told the path.
    fn is_for(&self, receiver: Receiver<'_>) -> bool {
        let asked = |wants: &Wants| wants.now.covers(&self.attributes);
        self.is_allowed(receiver) && receiver.wants.is_none_or(asked)
    }

    /// A peer has been told the path.
    fn was_for(&self, receiver: Receiver<'_>) -> bool {
        let asked = |wants: &Wants| wants.told.covers(&self.attributes);
        self.is_allowed(receiver) && receiver.wants.is_none_or(asked)
    }

    /// A peer may be told the path, if it wants it.
    pub(super) fn is_allowed(&self, receiver: Receiver<'_>) -> bool {
        let communities = &self.attributes.communities;
        self.peer != receiver.peer
            && (self.session.route_reflector_client || receiver.client)
            && (receiver.long_lived || !communities.contains(&LLGR_STALE))
            && !communities.contains(&NO_ADVERTISE)
            && (receiver.internal || !communities.contains(&NO_EXPORT))
    }

    /// Attributes as a peer is told them.
    pub(super) fn towards(&self, receiver: Receiver<'_>, reflector: Reflector) -> Attributes {
        let attributes = Attributes::clone(&self.attributes);
        match (receiver.internal, self.session.internal) {
            (true, true) => {
                let mut cluster_list = attributes.cluster_list;
                cluster_list.insert(0, reflector.cluster_id);
                Attributes {
                    originator_id: attributes.originator_id.or(Some(self.session.router_id)),
                    cluster_list,
                    ..attributes
                }
            }
            (true, false) => attributes,
            // RFC 4271 §5.1.2 b, §5.1.4, §5.1.5; RFC 4456 §8: both attributes are non-transitive.
            (false, _) => Attributes {
                as_path: prepended(
                    attributes.as_path,
                    LocalAs::front(receiver.local_as, reflector.asn),
                ),
                med: None,
                local_pref: None,
                originator_id: None,
                cluster_list: Vec::new(),
                ..attributes
            },
        }
    }
}

/// RFC 4271 §5.1.2 b 1: a sequence that is full gets another one in front.
fn prepended(path: AsPath, front: Vec<Asn>) -> AsPath {
    let AsPath(mut segments) = path;
    match segments.first_mut() {
        Some(AsSegment::Sequence(asns)) if asns.len() + front.len() <= 255 => {
            asns.splice(..0, front);
        }
        _ => segments.insert(0, AsSegment::Sequence(front)),
    }
    AsPath(segments)
}
