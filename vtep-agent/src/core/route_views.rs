//! `show routes`

use std::{fmt::Write, sync::Arc};

use vtep_common::abi::{BdId, FdbKey};

use super::{CommandError, Core, nexthops::GroupKey};
use crate::{
    bgp::{
        rib::{Best, NotBest, Path, WhyStale},
        wire::{AsPath, AsSegment, Attributes, PathId, Route, RouteKey},
    },
    config::Replication,
    evpn::{
        BridgeDomain, Imported, Replicator, ReplicatorState, Winner, encapsulation_name, import,
    },
    types::{BdName, Esi, RouteDistinguisher, hash::HashSet},
    view,
};

impl Core {
    /// The keys of all routes, or of those that may concern a bridge domain, in no particular order.
    /// Some may be there twice.
    pub(super) fn route_keys(&self, bd: Option<&BdName>) -> Result<Vec<RouteKey>, CommandError> {
        let bd = self.filter(bd)?.and_then(|id| self.bds.get(&id));
        let mut keys: Vec<_> = match bd {
            None => self.adj_in.keys().collect(),
            Some(bd) => self.adj_in.keys_imported(&bd.rt_import).collect(),
        };
        let rd = bd.map(|bd| bd.originator().rd());
        let own = self.adj_out.routes();
        let own = own.filter(|(route, _)| rd.is_none_or(|rd| route_rd(route) == Some(rd)));
        keys.extend(own.map(|(route, _)| route.key()));
        Ok(keys)
    }

    /// What `show routes` says of a key: our own route first, then each path of each peer. With a
    /// bridge domain, what it announces and imports.
    pub(super) fn route_views(
        &self,
        key: &RouteKey,
        filter: Option<BdId>,
        unwritten: &HashSet<FdbKey>,
    ) -> Vec<view::Route> {
        let bd = filter.and_then(|id| self.bds.get(&id));
        let rd = bd.map(|bd| bd.originator().rd());
        let own = self
            .adj_out
            .route(key)
            .filter(|(route, _)| rd.is_none_or(|rd| route_rd(route) == Some(rd)))
            .map(|(route, attributes)| self.own_route(route, attributes));
        let received = self.adj_in.paths_of(key).filter_map(|(path, not_best)| {
            let bds = self.targets.matching(&path.attributes);
            let shown = filter.is_none_or(|filter| bds.contains(&filter));
            shown.then(|| self.received_route(path, not_best, &bds, unwritten))
        });
        let mut routes: Vec<_> = own.into_iter().chain(received).collect();
        routes.sort_by_key(|route| (route.peer, route.path_id));
        routes
    }

    fn own_route(&self, route: &Route, attributes: &Arc<Attributes>) -> view::Route {
        let announced = self.adj_out.has_peers();
        view::Route {
            route_type: route.route_type(),
            rd: route_rd(route).map(|rd| rd.to_string()).unwrap_or_default(),
            key: route.key().to_string(),
            next_hop: Some(attributes.next_hop),
            peer: None,
            path_id: None,
            best: true,
            installed: announced,
            stale: false,
            stale_reason: None,
            reason: (!announced).then(|| "not announced: no peer is established".to_owned()),
            attributes: attributes_view(route, attributes),
        }
    }

    fn received_route(
        &self,
        path: &Path,
        not_best: Option<NotBest>,
        bds: &[BdId],
        unwritten: &HashSet<FdbKey>,
    ) -> view::Route {
        let use_ = match &not_best {
            Some(reason) => Err(reason.to_string()),
            None => self.route_use(path, bds, unwritten),
        };
        view::Route {
            route_type: path.route.route_type(),
            rd: route_rd(&path.route)
                .map(|rd| rd.to_string())
                .unwrap_or_default(),
            key: path.route.key().to_string(),
            next_hop: Some(path.attributes.next_hop),
            peer: Some(path.session.address),
            path_id: path.path_id.map(|PathId(id)| id),
            best: not_best.is_none(),
            installed: use_.is_ok(),
            stale: path.stale,
            stale_reason: self.why_stale(path).map(|reason| reason.to_string()),
            reason: use_.err(),
            attributes: attributes_view(&path.route, &path.attributes),
        }
    }

    /// Whether some bridge domain uses a best route, or why none does.
    fn route_use(
        &self,
        path: &Path,
        bds: &[BdId],
        unwritten: &HashSet<FdbKey>,
    ) -> Result<(), String> {
        let mut reason = "not imported: no bridge domain has one of its route targets".to_owned();
        for bd in bds.iter().filter_map(|id| self.bds.get(id)) {
            match self.use_in(bd, path, unwritten) {
                Ok(()) => return Ok(()),
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }

    fn why_stale(&self, path: &Path) -> Option<WhyStale> {
        self.adj_in.why_stale(path.peer).filter(|_| path.stale)
    }

    fn use_in(
        &self,
        bd: &BridgeDomain,
        path: &Path,
        unwritten: &HashSet<FdbKey>,
    ) -> Result<(), String> {
        let best = Best {
            peer: path.peer,
            session: Arc::clone(&path.session),
            route: path.route.clone(),
            attributes: Arc::clone(&path.attributes),
            received: path.received,
        };
        let next_hop = match import(&best, &bd.config).map_err(|unused| unused.to_string())? {
            Imported::Receiver(_, receiver) => receiver.next_hop,
            Imported::Replicator(_, replicator) => return self.use_of_replicator(bd, &replicator),
            Imported::Mac(mac, _, remote) => {
                match bd.macs().winner(mac) {
                    Some(Winner::Local(local)) => {
                        return Err(format!(
                            "not used: the MAC is local, sequence {}",
                            local.mobility.sequence
                        ));
                    }
                    Some(Winner::Remote(_, best))
                        if best.next_hop != remote.next_hop
                            && self.nexthops.is_lost(remote.next_hop) => {}
                    Some(Winner::Remote(_, best)) if best.next_hop != remote.next_hop => {
                        return Err(format!(
                            "not used: the MAC is at {}, sequence {}",
                            best.next_hop, best.sequence
                        ));
                    }
                    _ => {}
                }
                let group = GroupKey {
                    bd: bd.id.bd,
                    vtep: remote.next_hop,
                    vni: remote.vni,
                };
                if self.nexthops.group(&group).is_none() {
                    return Err("not installed: the next-hop tables are full".to_owned());
                }
                if unwritten.contains(&FdbKey::new(bd.id.bd, mac)) {
                    return Err("not installed: map fdb is full or refused it".to_owned());
                }
                remote.next_hop
            }
        };
        match self.nexthops.reachable(next_hop) {
            Some(_) => Ok(()),
            None => Err("next hop unreachable".to_owned()),
        }
    }

    fn use_of_replicator(&self, bd: &BridgeDomain, replicator: &Replicator) -> Result<(), String> {
        if bd.config.replication == Replication::Ingress {
            return Err("not used: the bridge domain makes its copies itself".to_owned());
        }
        let states = self.replicators(bd);
        match states.iter().find(|(other, _)| other == replicator) {
            Some((_, ReplicatorState::Active)) => Ok(()),
            Some((_, state)) => Err(format!("not used: {}", state.reason())),
            None => Err("not used".to_owned()),
        }
    }
}

fn route_rd(route: &Route) -> Option<RouteDistinguisher> {
    match route.key() {
        RouteKey::EthernetAd { rd, .. }
        | RouteKey::MacIp { rd, .. }
        | RouteKey::Imet { rd, .. }
        | RouteKey::EthernetSegment { rd, .. }
        | RouteKey::IpPrefix { rd, .. } => Some(rd),
        // Types 6 to 11 begin with their RD as well (RFC 9251 §9, RFC 9572 §3).
        RouteKey::Opaque { value, .. } => value
            .first_chunk::<8>()
            .map(|bytes| RouteDistinguisher(*bytes)),
        RouteKey::Unicast(_) | RouteKey::Membership(_) => None,
    }
}

fn attributes_view(route: &Route, attributes: &Attributes) -> view::RouteAttributes {
    let mobility = attributes.mac_mobility();
    let (vni, esi) = match route {
        Route::EthernetAd(route) => (Some(route.label), Some(route.esi)),
        Route::MacIp(route) => (Some(route.label1), Some(route.esi)),
        Route::Imet(_) => (attributes.pmsi.as_ref().map(|pmsi| pmsi.label), None),
        Route::EthernetSegment(route) => (None, Some(route.esi)),
        Route::IpPrefix(route) => (Some(route.label), Some(route.esi)),
        Route::Opaque { .. } | Route::Unicast(_) | Route::Membership(_) => (None, None),
    };
    let sequence =
        matches!(route, Route::MacIp(_)).then(|| mobility.map_or(0, |mobility| mobility.sequence));
    view::RouteAttributes {
        route_targets: attributes
            .route_targets()
            .map(|rt| rt.to_string())
            .collect(),
        vni,
        sequence,
        sticky: mobility.is_some_and(|mobility| mobility.sticky),
        esi: esi
            .filter(|esi| *esi != Esi::ZERO)
            .map(|esi| esi.to_string()),
        as_path: Some(as_path(&attributes.as_path)),
        local_pref: attributes.local_pref,
        originator_id: attributes.originator_id,
        encapsulations: attributes
            .ext_communities
            .iter()
            .filter_map(|community| community.tunnel())
            .map(encapsulation_name)
            .collect(),
    }
}

/// As routers print it: sequences plain, sets in braces, confederation segments in parentheses.
pub(super) fn as_path(path: &AsPath) -> String {
    let mut text = String::new();
    for segment in &path.0 {
        let (open, asns, close) = match segment {
            AsSegment::Sequence(asns) => ("", asns, ""),
            AsSegment::Set(asns) => ("{", asns, "}"),
            AsSegment::ConfedSequence(asns) => ("(", asns, ")"),
            AsSegment::ConfedSet(asns) => ("[", asns, "]"),
        };
        let asns: Vec<_> = asns.iter().map(ToString::to_string).collect();
        let separator = if text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{open}{}{close}", asns.join(" "));
    }
    text
}
