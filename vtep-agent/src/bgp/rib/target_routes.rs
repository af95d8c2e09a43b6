//! Routes by route target, so that a change of what is imported, or of what a peer asks for, touches
//! only the routes that it concerns.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
};

use crate::{
    bgp::wire::{Attributes, RouteKey, TargetPrefix},
    types::{
        ImportTarget, RouteTarget,
        hash::{HashMap, HashSet},
    },
};

/// Keys of routes, in the form in which their table has them, by the targets that their attributes
/// carry.
#[derive(Debug)]
pub(super) struct TargetRoutes<K = RouteKey> {
    routes: BTreeMap<RouteTarget, HashSet<K>>,
    /// Targets by the lower 16 bits of their number, which every form has.
    by_number: HashMap<u16, BTreeSet<RouteTarget>>,
}

impl<K: Clone + Eq + Hash> TargetRoutes<K> {
    /// A route has these attributes.
    pub(super) fn insert(&mut self, key: &K, attributes: &Attributes) {
        self.insert_all(std::slice::from_ref(key), attributes);
    }

    /// These routes have these attributes.
    pub(super) fn insert_all(&mut self, routes: &[K], attributes: &Attributes) {
        if routes.is_empty() {
            return;
        }
        for target in attributes.constrained_targets() {
            let keys = self.routes.entry(target).or_default();
            if keys.is_empty() {
                let number = target.local_admin() as u16;
                self.by_number.entry(number).or_default().insert(target);
            }
            keys.extend(routes.iter().cloned());
        }
    }

    /// A route no longer has these attributes; what it still has by another path is in `others`.
    pub(super) fn remove<'a>(
        &mut self,
        key: &K,
        attributes: &Attributes,
        others: impl Iterator<Item = &'a Attributes> + Clone,
    ) {
        for target in attributes.constrained_targets() {
            let mut remaining = others.clone().flat_map(Attributes::constrained_targets);
            if remaining.any(|other| other == target) {
                continue;
            }
            if let Some(keys) = self.routes.get_mut(&target) {
                keys.remove(key);
                if keys.is_empty() {
                    self.forget(target);
                }
            }
        }
    }

    /// Routes with a target that one of these matches, each once.
    pub(super) fn imported<'a>(
        &self,
        imports: impl Iterator<Item = &'a ImportTarget>,
    ) -> HashSet<&K> {
        let targets: BTreeSet<_> = imports.flat_map(|import| self.targets(import)).collect();
        let keys = targets.iter().filter_map(|target| self.routes.get(target));
        keys.flatten().collect()
    }

    /// Routes with a target that begins like this. Those without any target are not among them.
    pub(super) fn under(&self, prefix: TargetPrefix) -> impl Iterator<Item = &K> {
        let from = RouteTarget(prefix.octets);
        let inside = move |target: &RouteTarget| TargetPrefix::of(*target, prefix.length) == prefix;
        self.routes
            .range(from..)
            .take_while(move |(target, _)| inside(target))
            .flat_map(|(_, keys)| keys)
    }

    fn targets(&self, import: &ImportTarget) -> Vec<RouteTarget> {
        match import {
            ImportTarget::Exact(target) => vec![*target],
            ImportTarget::AnyAdmin(number) => {
                let same_number = self.by_number.get(&(*number as u16)).into_iter().flatten();
                let matching = same_number.filter(|target| import.matches(**target));
                matching.copied().collect()
            }
        }
    }

    fn forget(&mut self, target: RouteTarget) {
        self.routes.remove(&target);
        let number = target.local_admin() as u16;
        if let Some(targets) = self.by_number.get_mut(&number) {
            targets.remove(&target);
            if targets.is_empty() {
                self.by_number.remove(&number);
            }
        }
    }
}

impl<K> Default for TargetRoutes<K> {
    fn default() -> Self {
        Self {
            routes: BTreeMap::new(),
            by_number: HashMap::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::Arc,
        time::Instant,
    };

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        bgp::{
            peer::Session,
            rib::{AdjRibIn, Speaker},
            wire::{ExtCommunity, Family, MacIp, Route, Update},
        },
        types::{Asn, Esi, EthernetTag, Mac, PeerId, RouteDistinguisher, Vni},
    };

    fn rib(peers: u32) -> AdjRibIn {
        let address = Ipv4Addr::new(198, 18, 0, 10);
        let speaker = Speaker {
            asn: Asn(65000),
            router_id: address,
            addresses: vec![address.into()],
            own: Vec::new(),
            import: Vec::new(),
        };
        let mut rib = AdjRibIn::new(Family::EVPN, speaker);
        for peer in 0..peers {
            let address = Ipv4Addr::new(198, 18, 1, peer as u8);
            let session = Session::new(address.into(), Asn(65000), address, true);
            rib.up(PeerId(peer), session, Instant::now());
        }
        rib
    }

    fn route(number: u32) -> Route {
        let [a, b, c, d] = number.to_be_bytes();
        Route::MacIp(MacIp {
            rd: RouteDistinguisher::ipv4(Ipv4Addr::new(198, 18, 0, 1), 1),
            esi: Esi::ZERO,
            tag: EthernetTag::default(),
            mac: Mac([2, 0, a, b, c, d]),
            ip: None,
            label1: 10100,
            label2: None,
        })
    }

    fn target(asn: u16, number: u32) -> RouteTarget {
        RouteTarget::two_octet_as(asn, number)
    }

    fn announce(rib: &mut AdjRibIn, peer: u32, routes: Vec<Route>, targets: &[RouteTarget]) {
        let mut attributes = Attributes::originated(IpAddr::from([198, 18, 0, 1]));
        attributes.ext_communities = targets.iter().copied().map(ExtCommunity::from).collect();
        let update = Update {
            announced: routes,
            attributes: Some(Arc::new(attributes)),
            ..Update::default()
        };
        rib.update(PeerId(peer), update, |_| false, Instant::now());
    }

    /// A change of what is imported visits the routes that it concerns, of 200,000.
    #[test]
    fn work_is_bounded_by_what_is_concerned() {
        let mut rib = rib(1);
        for number in 0..1000 {
            let routes = (0..200).map(|n| route(number * 200 + n)).collect();
            announce(&mut rib, 0, routes, &[target(65000, 10_000 + number)]);
        }
        assert_eq!(rib.count(PeerId(0)), 200_000);
        let vni = Vni::new(10_007).unwrap();
        for import in [
            ImportTarget::Exact(RouteTarget::auto(Asn(65000), vni)),
            ImportTarget::AnyAdmin(10_007),
        ] {
            let visited = rib.reimport([import].iter(), |_| true).len();
            assert_eq!(visited, 200, "{import}");
            assert_eq!(rib.received(PeerId(0)).accepted, 200);
            rib.reimport([import].iter(), |_| false);
            assert_eq!(rib.received(PeerId(0)).accepted, 0);
        }
        let none = ImportTarget::AnyAdmin(9_999);
        assert_eq!(rib.reimport([none].iter(), |_| true).len(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Announce(u32, u32, Vec<(u16, u32)>),
        Withdraw(u32, u32),
        Down(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let targets = vec((0..2_u16, 0..3_u32), 0..3);
        prop_oneof![
            6 => (0..3_u32, 0..5_u32, targets).prop_map(|(p, r, t)| Step::Announce(p, r, t)),
            3 => (0..3_u32, 0..5_u32).prop_map(|(p, r)| Step::Withdraw(p, r)),
            1 => (0..3_u32).prop_map(Step::Down),
        ]
    }

    proptest! {
        /// The index finds what a look at all routes finds, with several paths and changing targets.
        #[test]
        fn as_a_scan(steps in vec(step(), 0..60)) {
            let mut rib = rib(3);
            for step in steps {
                match step {
                    Step::Announce(peer, number, targets) => {
                        let targets: Vec<_> =
                            targets.into_iter().map(|(asn, n)| target(asn, n)).collect();
                        announce(&mut rib, peer, vec![route(number)], &targets);
                    }
                    Step::Withdraw(peer, number) => {
                        let update = Update {
                            withdrawn: vec![route(number).key()],
                            ..Update::default()
                        };
                        rib.update(PeerId(peer), update, |_| false, Instant::now());
                    }
                    Step::Down(peer) => {
                        rib.down(PeerId(peer));
                    }
                }
            }
            for import in [
                ImportTarget::Exact(target(0, 1)),
                ImportTarget::Exact(target(1, 2)),
                ImportTarget::AnyAdmin(0),
                ImportTarget::AnyAdmin(2),
            ] {
                let mut scanned: Vec<_> = rib
                    .paths()
                    .filter(|(_, path, _)| {
                        path.attributes.route_targets().any(|target| import.matches(target))
                    })
                    .map(|(key, ..)| key.clone())
                    .collect();
                scanned.sort();
                scanned.dedup();
                let mut indexed: Vec<_> = rib
                    .reimport([import].iter(), |_| false)
                    .into_iter()
                    .map(|(key, _)| key)
                    .collect();
                indexed.sort();
                prop_assert_eq!(indexed, scanned);
            }
        }
    }
}
