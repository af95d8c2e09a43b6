//! Sessions and their routes: from adj-rib-in into bridge domains.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use super::{Core, Output, imports::Matching};
use crate::{
    bgp::{
        peer::PeerEvent,
        rib::{Change, WhyStale},
        wire::{Attributes, Family},
    },
    config::{DynamicPeers, MaxPrefixes, PeerConfig},
    types::{Families, PeerId, PeerName},
};

/// Configured peers and their ids, which stay with the name.
#[derive(Debug, Default)]
pub(super) struct PeerIds {
    ids: BTreeMap<PeerName, PeerId>,
    /// `None` until they are announced for the first time.
    configured: Option<Vec<(PeerId, PeerConfig)>>,
    next: u32,
    /// Where others may come from.
    dynamic: Vec<DynamicPeers>,
    /// How many routes peers may send.
    limits: BTreeMap<PeerId, (PeerName, MaxPrefixes)>,
    /// There are clients among them: we are a route reflector.
    reflecting: bool,
    /// Those whose session ends because of too many routes: more of them count for nothing.
    over_limit: BTreeSet<PeerId>,
    /// Those about whose number of routes of a family we complained.
    warned: BTreeSet<(PeerId, Family)>,
}

/// How many routes a peer sent and was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerRoutes {
    /// Routes in its adj-rib-in,
    pub received: u64,
    /// by EVPN route type,
    pub received_by_type: BTreeMap<u8, u64>,
    /// and those of unicast families by name.
    pub received_unicast: BTreeMap<&'static str, u64>,
    /// Those that some bridge domain imports, or the underlay accepts.
    pub accepted: u64,
    /// Those that it has not sent again since it restarted.
    pub stale: u64,
    /// Why they are kept.
    pub why_stale: Option<WhyStale>,
    /// It ended its first routes of this session.
    pub end_of_rib: bool,
    /// Routes in its adj-rib-out.
    pub sent: u64,
}

impl PeerRoutes {
    /// Received routes, EVPN types by number and unicast families by name.
    pub fn by_metric_type(&self) -> BTreeMap<String, u64> {
        let evpn = self.received_by_type.iter();
        let unicast = self.received_unicast.iter();
        evpn.map(|(kind, count)| (kind.to_string(), *count))
            .chain(unicast.map(|(family, count)| ((*family).to_owned(), *count)))
            .collect()
    }
}

impl PeerIds {
    /// Configured peers.
    pub(super) fn configured(&self) -> &[(PeerId, PeerConfig)] {
        self.configured.as_deref().unwrap_or_default()
    }

    /// Notes the limits of configured peers; those of others are noted as they come.
    fn limit_configured(&mut self, before: Option<&[(PeerId, PeerConfig)]>) {
        for (id, _) in before.unwrap_or_default() {
            self.limits.remove(id);
        }
        let limit = |(id, peer): &(PeerId, PeerConfig)| {
            Some((*id, (peer.name.clone(), peer.max_prefixes?)))
        };
        let limits: Vec<_> = self.configured().iter().filter_map(limit).collect();
        self.limits.extend(limits);
    }

    fn forget_dynamic(&mut self, peer: PeerId) {
        if !self.configured().iter().any(|(id, _)| *id == peer) {
            self.limits.remove(&peer);
            self.over_limit.remove(&peer);
            self.warned.retain(|(other, _)| *other != peer);
        }
    }

    /// Whether peers that are nowhere configured may have some families.
    pub(super) fn may_come(&self, with: impl Fn(Families) -> bool) -> bool {
        let mut templates = self.dynamic.iter().map(DynamicPeers::template);
        templates.any(|peer| peer.shutdown.is_none() && with(peer.families))
    }

    fn limit_dynamic(&mut self, peer: PeerId, address: IpAddr) {
        if self.configured().iter().any(|(id, _)| *id == peer) {
            return;
        }
        let range = DynamicPeers::of(&self.dynamic, address);
        if let Some(max) = range.and_then(|range| range.template().max_prefixes) {
            self.limits.insert(peer, (address.into(), max));
        }
    }
}

impl Core {
    /// Announces the configured peers to the daemon, if they changed.
    pub(super) fn sync_peers(&mut self, now: Instant) {
        let mut configured = Vec::new();
        for peer in &self.config.bgp.peers {
            let id = *self.peers.ids.entry(peer.name.clone()).or_insert_with(|| {
                let id = PeerId(self.peers.next);
                self.peers.next += 1;
                id
            });
            configured.push((id, peer.clone()));
        }
        let dynamic = &self.config.bgp.dynamic;
        let templates = dynamic.iter().map(DynamicPeers::template);
        let peers = self.config.bgp.peers.iter().chain(templates);
        let reflecting = peers.clone().any(|peer| peer.route_reflector_client);
        // Before the peers: these begin to be accepted with them.
        if self.peers.dynamic != *dynamic {
            self.peers.dynamic.clone_from(dynamic);
            self.outputs.push(Output::DynamicPeers(dynamic.clone()));
        }
        self.set_reflecting(reflecting);
        if self.peers.configured.as_ref() != Some(&configured) {
            let old = self.peers.configured.replace(configured.clone());
            self.peers.limit_configured(old.as_deref());
            if let Some(deferral) = &mut self.deferral {
                for (id, peer) in &configured {
                    match peer.shutdown {
                        Some(_) => deferral.complete(*id),
                        None if !peer.families.evpn => deferral.complete(*id),
                        // Later ones are waited for when they come.
                        None if old.is_none() => deferral.expect(*id),
                        None => {}
                    }
                }
            }
            for (id, old) in old.unwrap_or_default() {
                let new = configured.iter().find(|(other, _)| *other == id);
                if new.is_none_or(|(_, new)| is_given_up(&old, new)) {
                    self.peer_event(id, PeerEvent::Down, now);
                }
                if new.is_none()
                    && let Some(deferral) = &mut self.deferral
                {
                    deferral.complete(id);
                }
            }
            self.outputs.push(Output::Peers(configured));
            self.check_underlay_complete();
        }
    }

    pub(super) fn peer_event(&mut self, peer: PeerId, mut event: PeerEvent, now: Instant) {
        if let PeerEvent::Up(session) = &event {
            self.peers.over_limit.remove(&peer);
            self.peers.limit_dynamic(peer, session.address);
        }
        self.underlay_event(peer, &mut event, now);
        let changes = match event {
            PeerEvent::Up(session) => {
                if let Some(deferral) = &mut self.deferral {
                    deferral.up(peer, &session);
                }
                self.memberships.up(peer, &session, now);
                self.adj_out.up(peer, &session);
                self.adj_in.up(peer, session, now)
            }
            PeerEvent::Down => {
                self.memberships.down(peer);
                self.peers.forget_dynamic(peer);
                self.adj_out.down(peer);
                self.adj_in.leave(peer, now)
            }
            PeerEvent::Restarting(retention) => {
                self.memberships.restarting(peer, retention, now);
                self.adj_out.down(peer);
                self.adj_in.restarting(peer, retention, now)
            }
            PeerEvent::Update(_) if self.is_over_limit(peer) => Vec::new(),
            PeerEvent::Update(mut update) => {
                let asked = self.memberships.update(peer, update.take(Family::RTC), now);
                for (prefix, wanted) in asked.changes {
                    self.adj_out.ask(peer, prefix, wanted);
                }
                if asked.complete {
                    self.adj_out.stop_waiting(peer);
                }
                if update.end_of_rib == Some(Family::EVPN)
                    && let Some(deferral) = &mut self.deferral
                {
                    deferral.complete(peer);
                }
                let targets = &self.targets;
                let imported = |attributes: &Attributes| targets.has_match(attributes);
                let changes = self.adj_in.update(peer, *update, imported, now);
                self.check_limit(peer, Family::EVPN, self.adj_in.count(peer));
                changes
            }
            PeerEvent::Refresh(Family::RTC) => {
                self.memberships.refresh(peer);
                Vec::new()
            }
            PeerEvent::Refresh(Family::EVPN) => {
                self.adj_out.refresh(peer);
                Vec::new()
            }
            PeerEvent::RefreshBegin(Family::EVPN) => {
                self.adj_in.refresh_begin(peer, now);
                Vec::new()
            }
            PeerEvent::RefreshEnd(Family::EVPN) => self.adj_in.refresh_end(peer),
            PeerEvent::Refresh(_) | PeerEvent::RefreshBegin(_) | PeerEvent::RefreshEnd(_) => {
                Vec::new()
            }
        };
        self.changes(changes, now);
    }

    /// Its session is about to end because of too many routes.
    pub(super) fn is_over_limit(&self, peer: PeerId) -> bool {
        self.peers.over_limit.contains(&peer)
    }

    /// Ends the session of a peer with too many routes of a family, or warns (RFC 4486 §4).
    pub(super) fn check_limit(&mut self, peer: PeerId, family: Family, routes: usize) {
        let Some((name, max)) = self.peers.limits.get(&peer) else {
            return;
        };
        let over = usize::try_from(max.limit).is_ok_and(|limit| routes > limit);
        match (over, max.warn_only) {
            (false, _) => drop(self.peers.warned.remove(&(peer, family))),
            (true, true) => {
                if self.peers.warned.insert((peer, family)) {
                    tracing::warn!(peer = %name, routes, limit = max.limit, "too many routes");
                }
            }
            (true, false) => {
                tracing::error!(peer = %name, routes, limit = max.limit, "too many routes");
                self.peers.over_limit.insert(peer);
                self.outputs
                    .push(Output::TooManyRoutes(peer, family, max.limit));
            }
        }
    }

    /// Drops stale routes whose time is over, and ends the wait for peers to say what they want.
    pub(super) fn expire_routes(&mut self, now: Instant) {
        self.expire_underlay(now);
        for peer in self.memberships.expire(now) {
            self.adj_out.stop_waiting(peer);
        }
        let changes = self.adj_in.expire(now);
        self.changes(changes, now);
    }

    pub(super) fn changes(&mut self, changes: Vec<Change>, now: Instant) {
        let mut matching = Matching::default();
        for change in changes {
            if self.peers.reflecting {
                self.adj_out
                    .reflect(change.key.clone(), change.after.clone());
            }
            self.change(change, &mut matching, now);
        }
    }

    /// Begins or ends to tell best paths to other peers.
    fn set_reflecting(&mut self, reflecting: bool) {
        if reflecting == std::mem::replace(&mut self.peers.reflecting, reflecting) {
            return;
        }
        self.adj_in.set_reflecting(reflecting);
        self.memberships.set_reflecting(reflecting);
        match reflecting {
            true => {
                for (key, best) in self.adj_in.best() {
                    self.adj_out.reflect(key, Some(best));
                }
            }
            false => self.adj_out.stop_reflecting(),
        }
    }

    /// Route counts of a peer.
    pub fn peer_routes(&self, peer: PeerId) -> PeerRoutes {
        let received = self.adj_in.received(peer);
        let mut routes = PeerRoutes {
            received: received.by_type.values().sum(),
            received_by_type: received.by_type,
            accepted: received.accepted,
            stale: received.stale,
            why_stale: self.adj_in.why_stale(peer),
            end_of_rib: self.adj_in.has_ended(peer),
            sent: self.adj_out.sent(peer) as u64,
            received_unicast: BTreeMap::new(),
        };
        self.underlay.count(peer, &mut routes);
        routes
    }
}

/// Whether routes of a peer that is away, if there are any, have to go now that it is configured
/// otherwise: no session will end that says so. Each such change ends a session that is up.
fn is_given_up(old: &PeerConfig, new: &PeerConfig) -> bool {
    let newly_shut_down = old.shutdown.is_none() && new.shutdown.is_some();
    let without_retention = old.graceful_restart && !new.graceful_restart;
    let without_evpn = old.families.evpn && !new.families.evpn;
    newly_shut_down || without_retention || without_evpn || old.asn != new.asn
}
