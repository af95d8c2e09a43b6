//! Routes of the host itself: what the unicast families of BGP make of the kernel's routing table.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use ipnet::IpNet;

use super::{Core, HostNextHop, HostRoute, Output, PeerRoutes};
use crate::{
    bgp::{
        peer::PeerEvent,
        rib::{AdjRibIn, Path, Speaker, UnicastOut},
        wire::{Family, RouteKey, Update},
    },
    config::{Config, UnderlayConfig},
    types::{Families, PeerId},
};

/// Tables of the unicast families.
#[derive(Debug)]
pub(super) struct Underlay {
    pub(super) ribs: BTreeMap<Family, AdjRibIn>,
    pub(super) out: UnicastOut,
    /// What the kernel is to have, as the daemon was told.
    wanted: BTreeMap<IpNet, HostRoute>,
    /// Families of the sessions that are up, by peer.
    up: BTreeMap<PeerId, Vec<Family>>,
    /// Peers have said everything again that they said to an earlier run: what it left is not needed.
    complete: bool,
}

impl Underlay {
    pub(super) fn new(config: &Config) -> Self {
        let speaker = speaker(config);
        let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
        Self {
            ribs: families
                .map(|family| (family, AdjRibIn::new(family, speaker.clone())))
                .into(),
            out: UnicastOut::new(config.bgp.asn, config.underlay.announce.iter().copied()),
            wanted: BTreeMap::new(),
            up: BTreeMap::new(),
            complete: false,
        }
    }

    /// Adds what a peer sent and was sent.
    pub(super) fn count(&self, peer: PeerId, routes: &mut PeerRoutes) {
        for (family, rib) in &self.ribs {
            let received = rib.received(peer);
            let count: u64 = received.by_type.values().sum();
            if count > 0 {
                routes.received_unicast.insert(family_name(*family), count);
            }
            routes.received += count;
            routes.accepted += received.accepted;
            routes.stale += received.stale;
        }
        routes.sent += self.out.sent(peer) as u64;
    }

    /// The route that the kernel is to have.
    pub(super) fn wanted(&self, prefix: &IpNet) -> Option<&HostRoute> {
        self.wanted.get(prefix)
    }

    /// Makes the desired routes to these prefixes what the tables say.
    fn publish(
        &mut self,
        prefixes: impl IntoIterator<Item = IpNet>,
        config: &Config,
        outputs: &mut Vec<Output>,
    ) {
        for prefix in prefixes {
            let rib = self.ribs.get(&Family::of_prefix(&prefix));
            let UnderlayConfig {
                ecmp,
                multipath_relax,
                ..
            } = config.underlay;
            let paths =
                rib.map(|rib| rib.multipath(&RouteKey::Unicast(prefix), ecmp, multipath_relax));
            let route = host_route(&prefix, &paths.unwrap_or_default(), config);
            if self.wanted.get(&prefix) == route.as_ref() {
                continue;
            }
            match &route {
                Some(route) => drop(self.wanted.insert(prefix, route.clone())),
                None => drop(self.wanted.remove(&prefix)),
            }
            outputs.push(Output::HostRoute(prefix, route));
        }
    }

    /// Every prefix that is wanted or known.
    fn prefixes(&self) -> BTreeSet<IpNet> {
        let known = self.ribs.values().flat_map(AdjRibIn::keys);
        let known = known.filter_map(|key| prefix_of(&key));
        self.wanted.keys().copied().chain(known).collect()
    }
}

impl Core {
    /// Takes in the part of an event that is about the unicast families, and leaves the rest.
    pub(super) fn underlay_event(&mut self, peer: PeerId, event: &mut PeerEvent, now: Instant) {
        let concerned = match event {
            PeerEvent::Up(session) => {
                session.families.unicast() || self.underlay.up.contains_key(&peer)
            }
            _ => self.underlay.up.contains_key(&peer),
        };
        if !concerned {
            return;
        }
        match event {
            PeerEvent::Update(update) => self.underlay_update(peer, update, now),
            PeerEvent::Up(session) => {
                let families = Family::all_of(session.families).filter(|of| *of != Family::EVPN);
                let families: Vec<_> = families.collect();
                self.underlay.out.up(peer, session);
                for (family, rib) in &mut self.underlay.ribs {
                    match families.contains(family) {
                        true => drop(rib.up(peer, session.clone(), now)),
                        false => drop(rib.down(peer)),
                    }
                }
                self.underlay.up.insert(peer, families);
                self.publish_underlay();
            }
            // Whoever restarts may forward meanwhile; other peers do, and cost nothing to ask.
            PeerEvent::Down | PeerEvent::Restarting(_) => {
                self.underlay.out.down(peer);
                self.underlay.up.remove(&peer);
                for rib in self.underlay.ribs.values_mut() {
                    drop(rib.down(peer));
                }
                self.publish_underlay();
            }
            PeerEvent::Refresh(family) => self.underlay.out.refresh(peer, *family),
            PeerEvent::RefreshBegin(family) => {
                if let Some(rib) = self.underlay.ribs.get_mut(family) {
                    rib.refresh_begin(peer, now);
                }
            }
            PeerEvent::RefreshEnd(family) => {
                if let Some(rib) = self.underlay.ribs.get_mut(family) {
                    drop(rib.refresh_end(peer));
                    self.publish_underlay();
                }
            }
        }
        self.check_underlay_complete();
    }

    fn underlay_update(&mut self, peer: PeerId, update: &mut Update, now: Instant) {
        let families: Vec<_> = self.underlay.ribs.keys().copied().collect();
        for family in families {
            let update = update.take(family);
            let ended = update.end_of_rib.is_some();
            let touched = touched(&update);
            let over = self.is_over_limit(peer);
            let Some(rib) = self.underlay.ribs.get_mut(&family).filter(|_| !over) else {
                continue;
            };
            // All prefixes are looked at only where there is something to sweep, however many
            // End-of-RIBs come.
            let swept = ended && rib.why_stale(peer).is_some();
            drop(rib.update(peer, update, |_| true, now));
            let count = rib.count(peer);
            match swept {
                true => self.publish_underlay(),
                false => self
                    .underlay
                    .publish(touched, &self.config, &mut self.outputs),
            }
            self.check_limit(peer, family, count);
        }
    }

    /// Applies `[underlay]` as it is now.
    pub(super) fn sync_underlay(&mut self) {
        let speaker = speaker(&self.config);
        for rib in self.underlay.ribs.values_mut() {
            rib.set_speaker(speaker.clone());
        }
        let announce = self.config.underlay.announce.iter().copied();
        self.underlay.out.set(announce);
        self.publish_underlay();
        self.check_underlay_complete();
    }

    /// Drops stale routes whose time is over.
    pub(super) fn expire_underlay(&mut self, now: Instant) {
        let ribs = self.underlay.ribs.values_mut();
        let gone: usize = ribs.map(|rib| rib.expire(now).len()).sum();
        if gone > 0 {
            self.publish_underlay();
        }
    }

    fn publish_underlay(&mut self) {
        let prefixes = self.underlay.prefixes();
        self.underlay
            .publish(prefixes, &self.config, &mut self.outputs);
    }

    /// Tells the daemon once that every peer with a unicast family has ended its first routes.
    pub(super) fn check_underlay_complete(&mut self) {
        // Of peers by prefix nobody knows who is still to come; then the daemon's patience decides.
        if self.underlay.complete || self.peers.may_come(Families::unicast) {
            return;
        }
        let peers = self.peers.configured().iter();
        let mut expected =
            peers.filter(|(_, peer)| peer.families.unicast() && peer.shutdown.is_none());
        let complete = expected.all(|(peer, _)| {
            let families = self.underlay.up.get(peer);
            families.is_some_and(|families| {
                let ended = |family| {
                    let rib = self.underlay.ribs.get(family);
                    rib.is_some_and(|rib| rib.has_ended(*peer))
                };
                families.iter().all(ended)
            })
        });
        if complete {
            self.underlay.complete = true;
            self.outputs.push(Output::HostRoutesComplete);
        }
    }
}

/// A name that metrics and `show` have.
pub(super) fn family_name(family: Family) -> &'static str {
    match family {
        Family::IPV4_UNICAST => "ipv4",
        Family::IPV6_UNICAST => "ipv6",
        _ => "evpn",
    }
}

/// Who we are, in all families.
pub(super) fn speaker(config: &Config) -> Speaker {
    let addresses: Vec<_> = config
        .vtep
        .addresses
        .iter()
        .copied()
        .map(IpAddr::V4)
        .collect();
    let own = addresses.iter().copied().map(IpNet::from);
    Speaker {
        asn: config.bgp.asn,
        router_id: config.vtep.router_id,
        own: own
            .chain(config.underlay.announce.iter().copied())
            .collect(),
        import: config.underlay.import.clone(),
        addresses,
    }
}

pub(super) fn prefix_of(key: &RouteKey) -> Option<IpNet> {
    match key {
        RouteKey::Unicast(prefix) => Some(*prefix),
        _ => None,
    }
}

/// Prefixes that an UPDATE is about.
fn touched(update: &Update) -> BTreeSet<IpNet> {
    let classic = update.classic.iter().flat_map(|(_, routes)| routes);
    let announced = update.announced.iter().chain(classic);
    let announced = announced.filter_map(|route| prefix_of(&route.key()));
    let withdrawn = update.withdrawn.iter().filter_map(prefix_of);
    announced.chain(withdrawn).collect()
}

fn host_route(prefix: &IpNet, paths: &[&Path], config: &Config) -> Option<HostRoute> {
    let next_hops: BTreeSet<_> = paths.iter().map(|path| next_hop(path)).collect();
    if next_hops.is_empty() {
        return None;
    }
    let UnderlayConfig {
        announce,
        table,
        metric,
        ..
    } = &config.underlay;
    // The address that others know a way to; those of links are often known to nobody.
    let vtep = IpAddr::V4(config.vtep.address());
    let known = announce.iter().any(|prefix| prefix.contains(&vtep));
    Some(HostRoute {
        table: *table,
        metric: *metric,
        source: Some(vtep).filter(|_| known && matches!(prefix, IpNet::V4(_))),
        next_hops: next_hops.into_iter().collect(),
    })
}

/// A link-local session is about one interface, and so are the next hops that it brings.
pub(super) fn next_hop(path: &Path) -> HostNextHop {
    HostNextHop {
        gateway: path.attributes.next_hop.to_canonical(),
        interface: path.session.local.and_then(|local| local.interface),
    }
}
