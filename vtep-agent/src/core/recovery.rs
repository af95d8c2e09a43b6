//! What an earlier run left in the datapath's tables: the places of things, who was behind our ports,
//! and, until peers have spoken, where everybody else is.
//!
//! Three steps. Before bridge domains are made, every table gets to know which indexes are taken, so
//! that what comes back gets the place that it had. Then the remote entries are held
//! ([`held`](super::held)). Ports and what is behind them come back with their devices, until
//! [`Input::Recovered`](super::Input::Recovered) says that those are all there.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use vtep_common::abi::{
    ArpKey, BdFlags, BdId, BdRef, EndpointFlags, FdbKey, NdKey, NeighborEntry, NeighborFlags,
    PortKey,
};

use super::{Core, ports::Port};
use crate::{
    bgp::wire::ArpNd,
    evpn::Slot,
    intent::{Installed, Intent},
    types::{Mac, hash::HashMap},
};

/// What is still to come back.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Bridge domains by VNI.
    bds: HashMap<u32, BdRef>,
    /// Endpoints by port.
    endpoints: HashMap<PortKey, Vec<Endpoint>>,
}

#[derive(Debug)]
struct Endpoint {
    vni: u32,
    mac: Mac,
    declared: bool,
    /// How long ago it was seen.
    idle: Duration,
    ips: Vec<(IpAddr, ArpNd)>,
}

/// All bindings, by bridge domain and MAC.
pub(super) type Bindings = HashMap<(BdId, Mac), Vec<(IpAddr, NeighborFlags)>>;

impl Core {
    /// The first step.
    pub(super) fn begin_recovery(&mut self, installed: &Installed, now: Instant) {
        let tables = &installed.tables;
        let mut recovery = Recovery::default();
        for (index, entry) in tables.bds.iter() {
            let Ok(bd) = u16::try_from(index).map(BdId) else {
                continue;
            };
            let generation = entry.generation;
            let id = BdRef { bd, generation };
            self.generations.insert(bd, generation);
            if entry.flags.has(BdFlags::ACTIVE) && tables.vnis.get(entry.vni) == Some(&id) {
                recovery.bds.insert(entry.vni, id);
            }
        }
        self.bd_indexes
            .recover(tables.bds.iter().map(|(index, _)| index), now);
        self.ports.recover(tables, now);
        self.nexthops.recover(tables, now);
        self.flood.recover(tables, &mut self.intent);
        let mut bindings = bindings(tables);
        let mut addresses = addresses(tables);
        for (key, entry) in tables.endpoints.iter() {
            let bd = recovery.bds.get(&key.vni).map(|id| id.bd);
            let idle = bd.and_then(|bd| installed.idle.get(&FdbKey::new(bd, key.mac)));
            let ips = bd.and_then(|bd| bindings.remove(&(bd, key.mac)));
            // From tables of another version, there are none but these.
            let ips = ips.or_else(|| addresses.remove(&(key.vni, key.mac)));
            let at = PortKey::new(entry.ifindex, entry.vlan);
            recovery.endpoints.entry(at).or_default().push(Endpoint {
                vni: key.vni,
                mac: key.mac,
                declared: entry.flags.has(EndpointFlags::DECLARED),
                idle: idle.copied().unwrap_or_default(),
                ips: ips
                    .unwrap_or_default()
                    .into_iter()
                    // Those are declared, and come from there.
                    .filter(|(_, flags)| !flags.has(NeighborFlags::IMMUTABLE))
                    .map(|(ip, flags)| (ip, arp_nd(flags)))
                    .collect(),
            });
        }
        self.recovery = Some(recovery);
    }

    /// The second step: bridge domains are there, ports are not.
    pub(super) fn continue_recovery(&mut self, installed: &Installed, now: Instant) {
        let tables = &installed.tables;
        let vnis: HashMap<_, _> = self
            .bds
            .iter()
            .map(|(id, bd)| (bd.config.vni.get(), *id))
            .collect();
        for (key, entry) in tables.endpoints.iter() {
            // Whoever has the MAC next says the number that was said last (RFC 7432 §15).
            if let Some(bd) = vnis.get(&key.vni).and_then(|bd| self.bd_mut(*bd)) {
                bd.recall(key.mac, entry.sequence, now);
            }
        }
        self.hold(tables, bindings(tables), now);
        self.nexthops.finish_recovery(now);
        if let Some(recovery) = &mut self.recovery {
            // What nobody wants any more; what is in the maps for them goes with the first round.
            for id in recovery.bds.drain().map(|(_, id)| id) {
                self.flood.remove(id, now);
                self.bd_indexes.give(id.bd.0.into(), now);
            }
        }
    }

    /// All devices have been reported, and with them everything came back that is still there.
    pub(super) fn finish_recovery(&mut self, now: Instant) {
        if self.recovery.take().is_some() {
            self.ports.finish_recovery(now);
            let bds: Vec<_> = self.bds.keys().copied().collect();
            for bd in bds {
                self.touch_flood(bd);
            }
        }
    }

    /// The place that the bridge domain of a VNI had.
    pub(super) fn recovered_bd(&mut self, vni: u32) -> Option<BdRef> {
        self.recovery.as_mut()?.bds.remove(&vni)
    }

    /// Who was behind a port is there still, whether it says something or not: without a frame for
    /// their ageing time they are forgotten as ever.
    pub(super) fn restore_endpoints(&mut self, port: &Port, now: Instant) {
        let at = PortKey::new(port.ifindex, port.vlan.unwrap_or(0));
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        let endpoints = recovery.endpoints.remove(&at).unwrap_or_default();
        let Some(bd) = self.bd_mut(port.bd.bd).filter(|_| port.link.up) else {
            return;
        };
        let vni = bd.config.vni.get();
        for endpoint in endpoints.into_iter().filter(|e| e.vni == vni) {
            if !bd.config.learning {
                continue;
            }
            let since = now.checked_sub(endpoint.idle).unwrap_or(now);
            let (mac, slot): (Mac, Slot) = (endpoint.mac, port.slot);
            if !endpoint.declared {
                bd.learn(mac, slot, since);
            }
            for (ip, flags) in endpoint.ips {
                bd.bind(mac, slot, ip, flags, since);
            }
        }
    }
}

/// From both tables of neighbours.
fn bindings(tables: &Intent) -> Bindings {
    let mut bindings = Bindings::default();
    let mut add = |bd: BdId, ip: IpAddr, entry: &NeighborEntry| {
        if entry.bd() == bd {
            let of_mac = bindings.entry((bd, entry.mac())).or_default();
            of_mac.push((ip, entry.flags()));
        }
    };
    for (ArpKey(key), entry) in tables.arp.iter() {
        let ip = Ipv4Addr::from((key as u32).to_ne_bytes());
        add(BdId((key >> 32) as u16), ip.into(), entry);
    }
    for (NdKey { address, bd, .. }, entry) in tables.nd.iter() {
        add(bd, Ipv6Addr::from(address).into(), entry);
    }
    bindings
}

/// Addresses of local VMs, by VNI and MAC.
fn addresses(tables: &Intent) -> HashMap<(u32, Mac), Vec<(IpAddr, NeighborFlags)>> {
    let mut addresses = HashMap::<_, Vec<_>>::default();
    for (key, entry) in tables.addresses.iter() {
        let of_mac = addresses.entry((key.vni, entry.mac)).or_default();
        of_mac.push((key.address(), entry.flags));
    }
    addresses
}

/// As a route would say it.
pub(super) fn arp_nd(flags: NeighborFlags) -> ArpNd {
    ArpNd {
        router: flags.has(NeighborFlags::ROUTER),
        override_: flags.has(NeighborFlags::OVERRIDE),
        immutable: flags.has(NeighborFlags::IMMUTABLE),
    }
}
