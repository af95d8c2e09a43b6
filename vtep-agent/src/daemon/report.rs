//! What the agent tells about itself: `show`, metrics, readiness.

use std::{collections::BTreeMap, time::Instant};

use serde::Serialize;
use vtep_common::abi::{BdCounters, BdId, PortCounters, Stat, Traffic};

use super::Daemon;
use crate::{
    bgp::{
        fsm::{Graceful, State},
        session::PeerStatus,
        wire::{Family, Outcome},
    },
    control::{Answer, RouteFamily, Table},
    core::{Drain, PeerRoutes},
    dataplane::DatapathCounters,
    observe::{
        BdMetrics, HostRouteMetrics, MapMetrics, Origins, PathMetrics, PeerMetrics, PortMetrics,
        Query, Snapshot,
    },
    reconcile::{Map, Tables as _},
    types::BdName,
    view,
};

/// State of a device that is up but refuses our programs: nothing passes.
const DOWN: &str = "down";

impl Daemon {
    pub(super) fn show(&self, table: Table, bd: Option<&BdName>) -> Result<Answer, String> {
        let core = &self.core;
        let unknown = |error: crate::core::CommandError| error.to_string();
        match table {
            Table::Status => json(&self.status()),
            Table::Bgp => json(&self.bgp()),
            Table::Routes => {
                let unwritten = self.reconciler.pending_macs();
                let rows = core.route_rows(bd, unwritten).map_err(unknown)?;
                Ok(Answer::Rows(rows))
            }
            Table::Bds => json(&core.bds(bd).map_err(unknown)?),
            Table::Macs => Ok(Answer::Rows(core.mac_rows(bd).map_err(unknown)?)),
            Table::Neighbors => Ok(Answer::Rows(core.neighbor_rows(bd).map_err(unknown)?)),
            Table::Vteps => json(&core.vteps(bd).map_err(unknown)?),
            Table::Flood => json(&core.flood(bd).map_err(unknown)?),
            Table::Ports => {
                let mut ports = core.ports(bd).map_err(unknown)?;
                let counters = self.cleared_counters()?;
                for port in &mut ports {
                    if port
                        .ifindex
                        .is_some_and(|ifindex| self.devices.port_error(ifindex).is_some())
                    {
                        DOWN.clone_into(&mut port.state);
                    }
                    if let Some(slot) = port.slot {
                        let of_port = counters.ports.get(&slot).copied().unwrap_or_default();
                        fill_port(port, of_port);
                    }
                }
                json(&ports)
            }
            Table::Uplinks => {
                let mut uplinks = core.uplinks();
                for uplink in &mut uplinks {
                    let mode = self.devices.uplink_mode(&uplink.name);
                    uplink.xdp = mode.map_or("off", |mode| mode.name()).to_owned();
                    if uplink.ifindex.is_some() && mode.is_none() {
                        DOWN.clone_into(&mut uplink.state);
                    }
                }
                json(&uplinks)
            }
            Table::Counters => json(&view::Counters {
                unwritten: self.unwritten(),
                maps: self.map_fill(),
                audits: self.reconciler.audits(),
                audit_differences: self.audit_differences(),
                ..totals(&self.cleared_counters()?)
            }),
        }
    }

    pub(super) fn show_routes(&self, family: RouteFamily) -> Result<Answer, String> {
        let family = match family {
            RouteFamily::Evpn => return self.show(Table::Routes, None),
            RouteFamily::Ipv4 => Family::IPV4_UNICAST,
            RouteFamily::Ipv6 => Family::IPV6_UNICAST,
        };
        let problems = self.monitor.host_route_problems();
        json(&self.core.unicast_routes(family, problems))
    }

    pub(super) fn report(&self, query: Query) {
        // Whoever asked may have hung up.
        match query {
            Query::Unready(answer) => drop(answer.send(self.unready())),
            Query::Snapshot(answer) => drop(answer.send(self.snapshot())),
        }
    }

    fn counters(&self) -> Result<DatapathCounters, String> {
        self.dataplane
            .read_counters()
            .map_err(|error| error.to_string())
    }

    /// Those that `show` tells of.
    fn cleared_counters(&self) -> Result<DatapathCounters, String> {
        self.dataplane
            .read_cleared_counters()
            .map_err(|error| error.to_string())
    }

    pub(super) fn clear_counters(&mut self) -> Result<(), String> {
        self.dataplane
            .clear_counters()
            .map_err(|error| error.to_string())
    }

    fn unwritten(&self) -> BTreeMap<String, u64> {
        self.reconciler
            .pending()
            .filter(|(_, pending)| *pending > 0)
            .map(|(map, pending)| (map.name().to_owned(), pending as u64))
            .collect()
    }

    fn audit_differences(&self) -> BTreeMap<String, u64> {
        let found = self.reconciler.differences();
        found
            .filter(|(_, count)| *count > 0)
            .map(|(map, count)| (map.name().to_owned(), count))
            .collect()
    }

    fn map_fill(&self) -> BTreeMap<String, view::MapFill> {
        let fill = |of: MapMetrics| {
            let (entries, capacity) = (of.entries, of.capacity);
            (of.map.to_owned(), view::MapFill { entries, capacity })
        };
        self.map_metrics().into_iter().map(fill).collect()
    }

    fn bgp(&self) -> view::Bgp {
        let now = Instant::now();
        let mut status = self.sessions.status();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        let peers = status
            .iter()
            .map(|peer| {
                let counts = self.core.peer_routes(peer.peer);
                view::Peer {
                    address: peer.address,
                    dynamic: peer.dynamic,
                    interface: peer.name.interface().map(ToString::to_string),
                    asn: peer.asn.map(|asn| asn.0),
                    local_as: peer.local_as.map(|local| local.asn.0),
                    hostname: peer.hostname.clone(),
                    state: peer.state.to_string(),
                    uptime_s: peer.uptime(now).map(|uptime| uptime.as_secs()),
                    hold_time_s: peer.hold_time.map(|time| time.as_secs()),
                    router_id: peer.router_id,
                    routes_received: counts.received,
                    routes_accepted: counts.accepted,
                    routes_stale: counts.stale,
                    routes_sent: counts.sent,
                    families: peer.families.names().map(str::to_owned).collect(),
                    capabilities: words(&peer.capabilities),
                    restart_time_s: peer.restart_time.map(|time| time.as_secs()),
                    graceful_restart: peer
                        .graceful
                        .map(|graceful| graceful_view(graceful, &counts)),
                    last_error: peer.last_error.clone(),
                    bfd: self.bfd(peer.peer, now),
                    rt_constraint: self.core.rt_constraint(peer.peer),
                }
            })
            .collect();
        view::Bgp {
            asn: self.core.config().bgp.asn.0,
            router_id: self.config.router_id,
            restarting: !self.core.settled(),
            peers,
        }
    }

    fn status(&self) -> view::Status {
        let reasons = self.unready();
        let remaining = self.core.drain_state().remaining(Instant::now());
        view::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: self.state().to_owned(),
            // Rounded up: 0 is when it is over.
            remaining_s: remaining.map(|time| time.as_millis().div_ceil(1000) as u64),
            ready: reasons.is_empty(),
            reasons,
        }
    }

    pub(super) fn state(&self) -> &'static str {
        match self.core.drain_state() {
            Drain::Draining(_) => "draining",
            Drain::Drained => "drained",
            Drain::Off if self.core.settled() => "running",
            Drain::Off => "restarting",
        }
    }

    /// Why traffic may not flow as it should; empty when all is in step.
    pub(super) fn unready(&self) -> Vec<String> {
        let mut reasons = self.devices.failures();
        match self.core.drain_state() {
            Drain::Off if !self.core.settled() => {
                reasons.push("restarting: peers have not sent everything again yet".to_owned());
            }
            Drain::Off => {}
            Drain::Draining(_) => reasons.push("draining: everything is withdrawn".to_owned()),
            Drain::Drained => reasons.push("drained: no program is attached".to_owned()),
        }
        reasons.extend(self.unsaved.as_ref().map(|(_, error)| error.to_string()));
        for map in &self.outcome.full {
            reasons.push(format!(
                "map {} is full: raise vtep.max_macs or remove endpoints",
                map.name()
            ));
        }
        let failed = self.monitor.host_route_counts().failed;
        if failed > 0 {
            reasons.push(format!(
                "{failed} host routes are not installed as they should be: see `show routes --family`"
            ));
        }
        if self.outcome.pending > 0 {
            reasons.push(format!(
                "{} map entries could not be written yet",
                self.outcome.pending
            ));
        }
        for peer in self
            .sessions
            .status()
            .iter()
            .filter(|peer| !is_established(peer) && !peer.dynamic)
        {
            reasons.push(format!("BGP peer {} is {}", peer.name, peer.state));
        }
        reasons
    }

    fn snapshot(&self) -> Snapshot {
        let counters = self.counters().unwrap_or_else(|error| {
            tracing::warn!("cannot read counters: {error}");
            DatapathCounters::default()
        });
        let totals = self.reconciler.totals();
        Snapshot {
            peers: self
                .sessions
                .status()
                .iter()
                .map(|peer| self.peer_metrics(peer))
                .collect(),
            bds: self.bd_metrics(&counters),
            ports: self.port_metrics(&counters),
            paths: counters
                .paths
                .iter()
                .map(|&(path, traffic)| PathMetrics { path, traffic })
                .collect(),
            drops: counters.drops.clone(),
            maps: self.map_metrics(),
            reconcile_operations: BTreeMap::from([
                ("update", totals.updates),
                ("delete", totals.deletes),
            ]),
            reconcile_errors: totals.errors,
            audits: self.reconciler.audits(),
            audit_differences: self
                .reconciler
                .differences()
                .map(|(map, count)| (map.name(), count))
                .collect(),
            events_lost: counters.stat(Stat::EventsLost),
            signature_failures: self.sessions.silent_drops().signatures().collect(),
            events_limited: counters.stat(Stat::EventsLimited),
            bfd_discards: self
                .bfd
                .discards()
                .iter()
                .map(|(reason, count)| (reason.name(), count))
                .collect(),
            host_routes: self.host_route_metrics(),
            state: self.state(),
        }
    }

    fn host_route_metrics(&self) -> HostRouteMetrics {
        let counts = self.monitor.host_route_counts();
        HostRouteMetrics {
            installed: counts.installed,
            failed: counts.failed,
            errors: counts.errors,
        }
    }

    fn map_metrics(&self) -> Vec<MapMetrics> {
        let entries: BTreeMap<_, _> = self.reconciler.entries().collect();
        let pending: BTreeMap<_, _> = self.reconciler.pending().collect();
        Map::ALL
            .iter()
            .map(|map| MapMetrics {
                map: map.name(),
                entries: entries.get(map).map_or(0, |&entries| entries as u64),
                capacity: u64::from(self.dataplane.capacity(*map)),
                pending: pending.get(map).map_or(0, |&pending| pending as u64),
            })
            .collect()
    }

    fn peer_metrics(&self, peer: &PeerStatus) -> PeerMetrics {
        PeerMetrics {
            name: peer.name.to_string(),
            up: is_established(peer),
            bfd: self.bfd_metrics(peer.peer),
            messages: [("received", &peer.received), ("sent", &peer.sent)]
                .into_iter()
                .flat_map(|(direction, counts)| {
                    counts
                        .iter()
                        .map(move |(kind, count)| ((direction, kind), count))
                })
                .collect(),
            routes: self.core.peer_routes(peer.peer).by_metric_type(),
            update_errors: Outcome::ALL
                .iter()
                .map(|outcome| {
                    let count = peer.update_errors.get(outcome).copied();
                    (outcome.name(), count.unwrap_or(0))
                })
                .collect(),
        }
    }

    fn bd_metrics(&self, counters: &DatapathCounters) -> Vec<BdMetrics> {
        self.core
            .bd_stats()
            .into_iter()
            .map(|bd| BdMetrics {
                name: bd.name.to_string(),
                macs: Origins {
                    learned: bd.macs.learned,
                    declared: bd.macs.declared,
                    remote: bd.macs.remote,
                },
                neighbors: Origins {
                    learned: bd.neighbors.learned,
                    declared: bd.neighbors.declared,
                    remote: bd.neighbors.remote,
                },
                remote_vteps: bd.vteps,
                mac_moves: bd.mac_moves,
                duplicate_macs: bd.duplicate_macs,
                duplicate_ips: bd.duplicate_ips,
                assisted: bd.assisted,
                dhcp_bindings: bd.dhcp.bindings().to_vec(),
                dhcp_refused: bd.dhcp.refused().to_vec(),
                probes: [
                    ("sent", bd.probes.sent),
                    ("answered", bd.probes.answered),
                    ("silent", bd.probes.silent),
                ],
                counters: of_bd(counters, bd.id),
            })
            .collect()
    }

    fn port_metrics(&self, counters: &DatapathCounters) -> Vec<PortMetrics> {
        let ports = self.core.ports(None).unwrap_or_default();
        ports
            .into_iter()
            .filter_map(|port| {
                let counters = counters.ports.get(&port.slot?).copied().unwrap_or_default();
                Some(PortMetrics {
                    port: port.name,
                    bd: port.bd,
                    counters,
                })
            })
            .collect()
    }
}

fn is_established(peer: &PeerStatus) -> bool {
    peer.state == State::Established
}

fn graceful_view(graceful: Graceful, routes: &PeerRoutes) -> view::GracefulRestart {
    let long_lived = graceful.long_lived;
    view::GracefulRestart {
        notification: graceful.notification,
        restarting: graceful.restarting,
        forwarding_preserved: graceful.forwarding_preserved,
        long_lived_s: long_lived.map(|long_lived| long_lived.stale_time.as_secs()),
        end_of_rib: routes.end_of_rib,
        stale_reason: routes.why_stale.map(|reason| reason.to_string()),
    }
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn json(value: &impl Serialize) -> Result<Answer, String> {
    let value = serde_json::to_value(value).map_err(|error| error.to_string())?;
    Ok(Answer::Whole(value))
}

fn of_bd(counters: &DatapathCounters, bd: BdId) -> BdCounters {
    counters.bds.get(&bd).copied().unwrap_or_default()
}

fn fill_port(port: &mut view::Port, counters: PortCounters) {
    port.rx_packets = counters.rx.packets;
    port.rx_bytes = counters.rx.bytes;
    port.tx_packets = counters.tx.packets;
    port.tx_bytes = counters.tx.bytes;
    port.drops = counters.drops;
}

/// `show counters`.
fn totals(counters: &DatapathCounters) -> view::Counters {
    let sum = |direction: &str| {
        let paths = counters
            .paths
            .iter()
            .filter(|(path, _)| path.direction() == direction);
        paths.fold(
            view::Traffic::default(),
            |sum, &(_, Traffic { packets, bytes })| view::Traffic {
                packets: sum.packets + packets,
                bytes: sum.bytes + bytes,
            },
        )
    };
    view::Counters {
        drops: counters
            .drops
            .iter()
            .map(|&(reason, count)| (reason.name().to_owned(), count))
            .collect(),
        rx: sum("rx"),
        tx: sum("tx"),
        suppressed: view::Suppressed {
            arp: counters.bds.values().map(|bd| bd.suppressed_arp).sum(),
            nd: counters.bds.values().map(|bd| bd.suppressed_nd).sum(),
        },
        flood_copies: counters.bds.values().map(|bd| bd.flood_copies).sum(),
        unwritten: BTreeMap::new(),
        maps: BTreeMap::new(),
        audits: 0,
        audit_differences: BTreeMap::new(),
    }
}
