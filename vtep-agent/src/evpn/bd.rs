//! One bridge domain: what is known in it and what it announces.

mod addresses;
mod dhcp;
mod duplicates;

pub use addresses::is_host_address;
pub use dhcp::{DhcpCounts, DhcpRefusal};

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use vtep_common::abi::{BdRef, PROBE_MAC};

use self::dhcp::Dhcp;
use super::{
    Duplicate, Learned, MacTable, NeighborTable, Origin, Originator, ProbeCounts, Question,
    Receiver, ReceiverTable, Refused, Remote, RemoteId, Replicator, Slot,
    probe::{Due, Probes},
};
use crate::{
    bgp::wire::{ArpNd, Attributes, MacMobility, Route, RouteKey},
    config::BdConfig,
    types::{ImportTarget, Mac, RouteTarget, hash::HashMap},
};

/// A bridge domain, one MAC-VRF with one broadcast domain (RFC 7432 §6.1).
#[derive(Debug)]
pub struct BridgeDomain {
    /// Its place in the datapath's tables.
    pub id: BdRef,
    /// As configured.
    pub config: BdConfig,
    /// What it imports.
    pub rt_import: Vec<ImportTarget>,
    /// What it exports.
    pub rt_export: Vec<RouteTarget>,
    macs: MacTable,
    neighbors: NeighborTable,
    receivers: ReceiverTable,
    probes: Probes,
    dhcp: Dhcp,
    originator: Originator,
    /// Addresses of declared endpoints.
    declared: HashMap<Mac, Vec<IpAddr>>,
    /// MAC and MAC/IP routes that we announce.
    announced: HashMap<Mac, BTreeSet<Option<IpAddr>>>,
    flood_dirty: bool,
    as_mac: Option<Mac>,
}

/// What changed and has to be published.
#[derive(Debug, Default)]
pub struct Dirty {
    /// MACs whose owner or routes may have changed.
    pub macs: Vec<Mac>,
    /// Ports whose number of MACs changed.
    pub ports: Vec<Slot>,
    /// Addresses whose binding may have changed.
    pub ips: Vec<IpAddr>,
    /// Those of them that VMs should hear of.
    pub news: Vec<IpAddr>,
    /// The flood list may have changed.
    pub flood: bool,
}

impl BridgeDomain {
    /// Empty. `vtep` is our address in it.
    pub fn new(
        id: BdRef,
        config: BdConfig,
        vtep: Ipv4Addr,
        originator: Originator,
        rt_import: Vec<ImportTarget>,
        rt_export: Vec<RouteTarget>,
    ) -> Self {
        Self {
            id,
            config,
            rt_import,
            rt_export,
            macs: MacTable::new(vtep),
            neighbors: NeighborTable::default(),
            receivers: ReceiverTable::default(),
            probes: Probes::default(),
            dhcp: Dhcp::default(),
            originator,
            declared: HashMap::default(),
            announced: HashMap::default(),
            flood_dirty: true,
            as_mac: None,
        }
    }

    /// A frame from `mac` came in on a port.
    pub fn learn(&mut self, mac: Mac, slot: Slot, now: Instant) -> Learned {
        if !mac.is_station() || mac == PROBE_MAC || Some(mac) == self.as_mac {
            return Learned::Unchanged;
        }
        let limit = usize::try_from(self.config.max_macs_per_port).unwrap_or(usize::MAX);
        let learned = self.macs.learn(mac, slot, limit, now);
        match learned {
            // The operator has to know (RFC 7432 §15.2). The datapath drops what follows.
            Learned::Refused(reason @ Refused::Sticky(_)) => {
                tracing::warn!(bd = %self.config.name, %mac, %reason, "MAC not learned");
            }
            // A VM may cause this with every frame; of the limit, the port itself warns once.
            Learned::Refused(reason) => {
                tracing::debug!(bd = %self.config.name, %mac, %reason, "MAC not learned");
            }
            Learned::New | Learned::Moved(_) => {
                self.settle(mac, now);
                self.ask_arrived(mac, slot, now);
            }
            Learned::Unchanged => {}
        }
        learned
    }

    /// We announced the MAC with this sequence number before.
    pub fn recall(&mut self, mac: Mac, sequence: u32, now: Instant) {
        self.macs.recall(mac, sequence, now);
    }

    /// An endpoint is declared behind a port that is up.
    pub fn declare(&mut self, mac: Mac, ips: Vec<IpAddr>, sticky: bool, slot: Slot, now: Instant) {
        self.declared.insert(mac, ips);
        if let Learned::Refused(reason) = self.macs.declare(mac, slot, sticky, now) {
            tracing::warn!(bd = %self.config.name, %mac, %reason, "declared MAC is not announced");
        }
        self.settle(mac, now);
    }

    /// A declared endpoint is gone, or its port is.
    pub fn undeclare(&mut self, mac: Mac, now: Instant) {
        if self.declared.remove(&mac).is_some() {
            self.macs.undeclare(mac, now);
            self.settle(mac, now);
        }
    }

    /// A port is gone or down: nothing is behind it any more.
    pub fn close_port(&mut self, slot: Slot, now: Instant) {
        for mac in self.macs.on_port(slot) {
            self.macs.forget(mac, now);
            self.settle(mac, now);
        }
    }

    /// A local MAC was last seen `idle` ago. Before it is given up, its owner is asked for every
    /// address that it is known to have; without any there is nothing to ask.
    pub fn age(&mut self, mac: Mac, idle: Duration, now: Instant) {
        let Some(ageing) = self.config.ageing else {
            return;
        };
        // The stamp in the map may be older than the MAC's arrival on its port.
        let aged = self.macs.local(mac).filter(|local| {
            local.origin == Origin::Learned
                && idle.min(now.saturating_duration_since(local.since)) >= ageing
        });
        let Some(slot) = aged.map(|local| local.slot) else {
            return;
        };
        let ips: Vec<_> = self.neighbors.of_local(mac).map(|(ip, _)| ip).collect();
        for ip in &ips {
            self.probes.ask(mac, *ip, slot, now);
        }
        if ips.is_empty() {
            self.macs.forget(mac, now);
            self.settle(mac, now);
        }
    }

    /// Sets, replaces or removes what a MAC or MAC/IP route says.
    pub fn set_remote(&mut self, mac: Mac, id: RemoteId, remote: Option<Remote>, now: Instant) {
        let contest = self.macs.set_remote(mac, id, remote, now);
        if contest.sticky {
            tracing::warn!(
                bd = %self.config.name, %mac, vtep = ?remote.map(|remote| remote.next_hop),
                "a sticky MAC of ours is claimed by another VTEP"
            );
        }
        if let Some(ip) = id.ip {
            let flags = remote.map(|remote| remote.flags);
            if let Some(displaced) = self.neighbors.set_remote(ip, id.rd, mac, flags, now) {
                self.macs.touch(displaced);
                self.ask_former(displaced, ip, now);
            }
        }
        let ips = self.settle(mac, now);
        if let Some(slot) = contest.lost {
            self.ask_departed(mac, slot, &ips, now);
        }
    }

    /// Sets, replaces or removes what an inclusive multicast route says.
    pub fn set_receiver(&mut self, key: RouteKey, receiver: Option<Receiver>) {
        self.receivers.set(key, receiver);
        self.flood_dirty = true;
    }

    /// Sets, replaces or removes a replicator that a route names.
    pub fn set_replicator(&mut self, key: RouteKey, replicator: Option<Replicator>, now: Instant) {
        self.receivers.set_replicator(key, replicator, now);
        self.flood_dirty = true;
    }

    /// A port or the reachability of a VTEP changed.
    pub fn touch_flood(&mut self) {
        self.flood_dirty = true;
    }

    /// A VTEP found its place in the datapath's tables.
    pub fn touch_vtep(&mut self, vtep: Ipv4Addr) {
        self.flood_dirty = true;
        self.macs.touch_vtep(vtep);
    }

    /// There is a path to a VTEP, or none any more.
    pub fn set_reachable(&mut self, vtep: Ipv4Addr, reachable: bool) {
        self.flood_dirty = true;
        self.macs.set_reachable(vtep, reachable);
    }

    /// There are routes of ours for a MAC, or have to be although nobody has it here.
    pub fn announces(&self, mac: Mac) -> bool {
        self.announced.contains_key(&mac) || self.as_mac == Some(mac)
    }

    /// The routes that announce a MAC and its addresses, and the keys of those that are to go.
    pub fn routes(&mut self, mac: Mac) -> (Vec<(Route, Arc<Attributes>)>, Vec<RouteKey>) {
        let mut announce = Vec::new();
        let mut ips = BTreeSet::new();
        let quiet = self.macs.duplicate(mac).is_some_and(Duplicate::is_quiet);
        if let Some(local) = self.macs.local(mac).filter(|_| !quiet) {
            announce.push(self.originator.mac_ip(mac, local.mobility, None));
            ips.insert(None);
            for (ip, binding) in self.neighbors.of_local(mac) {
                if self.neighbors.decoy(ip).is_some() {
                    continue;
                }
                let binding = Some((ip, binding.flags));
                announce.push(self.originator.mac_ip(mac, local.mobility, binding));
                ips.insert(Some(ip));
            }
        }
        if Some(mac) == self.as_mac {
            for (ip, _) in self.neighbors.duplicates() {
                if self.neighbors.decoy(ip).is_none() {
                    continue;
                }
                let flags = ArpNd {
                    override_: true,
                    ..ArpNd::default()
                };
                let mobility = MacMobility::default();
                announce.push(self.originator.mac_ip(mac, mobility, Some((ip, flags))));
                ips.insert(Some(ip));
            }
        }
        let before = if ips.is_empty() {
            self.announced.remove(&mac)
        } else {
            self.announced.insert(mac, ips.clone())
        };
        let withdraw = before
            .unwrap_or_default()
            .difference(&ips)
            .map(|ip| self.mac_key(mac, *ip))
            .collect();
        (announce, withdraw)
    }

    /// The route that announces the bridge domain itself.
    pub fn imet(&self) -> (Route, Arc<Attributes>) {
        self.originator.imet()
    }

    /// Keys of everything that is announced.
    pub fn announced(&self) -> Vec<RouteKey> {
        let macs = self
            .announced
            .iter()
            .flat_map(|(mac, ips)| ips.iter().map(|ip| self.mac_key(*mac, *ip)));
        std::iter::once(self.imet().0.key()).chain(macs).collect()
    }

    /// Replaces what the bridge domain's own routes carry. What was announced with the old one has to
    /// be withdrawn before; everything is announced anew.
    pub fn set_originator(&mut self, originator: Originator, rt_export: Vec<RouteTarget>) {
        let flags = self.originator.imet_flags();
        self.originator = originator;
        self.originator.set_imet_flags(flags);
        self.rt_export = rt_export;
        let announced: Vec<_> = self.announced.drain().map(|(mac, _)| mac).collect();
        for mac in announced {
            self.macs.touch(mac);
        }
    }

    /// What its inclusive multicast route says beside where it is. Whether that is something else now.
    pub fn set_imet_flags(&mut self, flags: u8) -> bool {
        self.originator.set_imet_flags(flags)
    }

    /// What changed since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        self.report_duplicates();
        let (macs, ports) = self.macs.take_dirty();
        Dirty {
            macs,
            ports,
            ips: self.neighbors.take_dirty(),
            news: self.neighbors.take_news(),
            flood: std::mem::take(&mut self.flood_dirty),
        }
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Instant) {
        let over = self.macs.expire(now);
        for mac in over {
            self.settle(mac, now);
        }
        let over = self.neighbors.expire(now);
        self.forgive(over);
        self.flood_dirty |= self.receivers.activate(now);
        self.end_leases(now);
        for due in self.probes.take_due(now) {
            match due {
                Due::Confirm(mac, ip) => self.ask_owner(mac, ip, now),
                Due::Silent(mac, ip) => self.give_up(mac, ip),
            }
        }
    }

    /// Frames to be sent to VMs.
    pub fn take_questions(&mut self) -> Vec<Question> {
        self.probes.take_questions()
    }

    /// When [`BridgeDomain::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        let next = [
            self.macs.next_expiry(),
            self.neighbors.next_expiry(),
            self.receivers.next_activation(),
            self.probes.next_due(),
        ];
        next.into_iter().flatten().min()
    }

    /// What VMs were asked.
    pub fn probe_counts(&self) -> ProbeCounts {
        self.probes.counts()
    }

    /// The MAC table.
    pub fn macs(&self) -> &MacTable {
        &self.macs
    }

    /// The address bindings.
    pub fn neighbors(&self) -> &NeighborTable {
        &self.neighbors
    }

    /// Remote receivers of BUM traffic.
    pub fn receivers(&self) -> &ReceiverTable {
        &self.receivers
    }

    /// Route distinguisher and own routes.
    pub fn originator(&self) -> &Originator {
        &self.originator
    }

    fn mac_key(&self, mac: Mac, ip: Option<IpAddr>) -> RouteKey {
        RouteKey::MacIp {
            rd: self.originator.rd(),
            tag: crate::types::EthernetTag::default(),
            mac,
            ip,
        }
    }
}
