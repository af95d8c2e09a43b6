//! VM ports: which devices there are, which of them are whose, and the slots that they have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use vtep_common::abi::{BdRef, MAX_PORTS, PortKey, PortRef};

use super::{Link, index::Indexes};
use crate::{
    config::PortPattern,
    evpn::Slot,
    intent::Intent,
    types::{BdName, IfName, hash::HashMap},
};

/// Devices, claims to them, and the ports that come of both.
#[derive(Debug)]
pub(super) struct Ports {
    links: BTreeMap<u32, Link>,
    names: HashMap<IfName, u32>,
    exact: HashMap<String, Vec<Claim>>,
    globs: Vec<(PortPattern, Claim)>,
    ports: BTreeMap<Slot, Port>,
    devices: HashMap<u32, BTreeMap<u16, Slot>>,
    bds: HashMap<BdRef, BTreeSet<Slot>>,
    slots: Indexes,
    /// Slots that an earlier run gave, and nobody has asked for yet.
    left: HashMap<PortKey, PortRef>,
}

/// One VLAN of a device that a bridge domain wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Place among all claims: the first one wins.
    order: usize,
    pub(super) bd: BdName,
    pub(super) vlan: Option<u16>,
}

/// A port that exists.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) slot: Slot,
    pub(super) bd: BdRef,
    pub(super) device: IfName,
    pub(super) ifindex: u32,
    pub(super) vlan: Option<u16>,
    pub(super) link: Link,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self {
            links: BTreeMap::new(),
            names: HashMap::default(),
            exact: HashMap::default(),
            globs: Vec::new(),
            ports: BTreeMap::new(),
            devices: HashMap::default(),
            bds: HashMap::default(),
            slots: Indexes::below(MAX_PORTS),
            left: HashMap::default(),
        }
    }

    /// Goes on from what an earlier run left: a port that comes back gets the slot that it had.
    pub(super) fn recover(&mut self, tables: &Intent, now: Instant) {
        self.slots
            .recover(tables.ports.iter().map(|(slot, _)| slot), now);
        for (slot, port) in tables.ports.iter() {
            let key = PortKey::new(port.ifindex, port.vlan);
            let found = PortRef::new(port.bd, slot);
            if tables.port_index.get(key) == Some(&found) {
                self.left.insert(key, found);
            } else {
                self.slots.give(slot, now);
            }
        }
    }

    /// What nobody has asked for is free.
    pub(super) fn finish_recovery(&mut self, now: Instant) {
        for port in std::mem::take(&mut self.left).into_values() {
            self.slots.give(port.slot(), now);
        }
    }

    /// Replaces all claims, in order of precedence.
    pub(super) fn set_claims(&mut self, claims: impl Iterator<Item = (BdName, PortPattern)>) {
        self.exact.clear();
        self.globs.clear();
        for (order, (bd, pattern)) in claims.enumerate() {
            let vlan = pattern.vlan;
            let claim = Claim { order, bd, vlan };
            if pattern.is_glob() {
                self.globs.push((pattern, claim));
            } else {
                self.exact.entry(pattern.pattern).or_default().push(claim);
            }
        }
    }

    /// A device is there, or changed. Answers with the index that its name had before, if it was
    /// another one.
    pub(super) fn set_link(&mut self, link: Link) -> Option<u32> {
        let old_name = self
            .links
            .get(&link.ifindex)
            .map(|old| old.name.clone())
            .filter(|name| *name != link.name);
        if let Some(name) = old_name {
            self.names.remove(&name);
        }
        let stale = self
            .names
            .insert(link.name.clone(), link.ifindex)
            .filter(|old| *old != link.ifindex);
        self.links.insert(link.ifindex, link);
        stale
    }

    /// A device is gone.
    pub(super) fn remove_link(&mut self, ifindex: u32) -> Option<Link> {
        let link = self.links.remove(&ifindex)?;
        if self.names.get(&link.name) == Some(&ifindex) {
            self.names.remove(&link.name);
        }
        Some(link)
    }

    /// Which bridge domain gets which VLAN of a device; also the claims that lost, each with the
    /// winner.
    pub(super) fn claims(&self, device: &IfName) -> (BTreeMap<u16, Claim>, Vec<(Claim, BdName)>) {
        let exact = self.exact.get(device.as_str()).into_iter().flatten();
        let globs = self
            .globs
            .iter()
            .filter(|(glob, _)| glob.matches(device))
            .map(|(_, claim)| claim);
        let mut claims: Vec<_> = exact.chain(globs).collect();
        claims.sort_unstable_by_key(|claim| claim.order);
        let mut won: BTreeMap<u16, Claim> = BTreeMap::new();
        let mut lost = Vec::new();
        for claim in claims {
            match won.get(&claim.vlan.unwrap_or(0)) {
                None => {
                    won.insert(claim.vlan.unwrap_or(0), claim.clone());
                }
                Some(winner) if winner.bd != claim.bd => {
                    lost.push((claim.clone(), winner.bd.clone()));
                }
                Some(_) => {}
            }
        }
        (won, lost)
    }

    /// Makes a port of one VLAN of a device; `None` when there are no slots left.
    pub(super) fn add(
        &mut self,
        link: &Link,
        vlan: Option<u16>,
        bd: BdRef,
        now: Instant,
    ) -> Option<&Port> {
        let key = PortKey::new(link.ifindex, vlan.unwrap_or(0));
        let before = match self.left.get(&key) {
            Some(before) if before.bd() == bd => self.left.remove(&key),
            _ => None,
        };
        let slot = match before {
            Some(before) => Slot(before.slot()),
            None => Slot(self.slots.take(now)?),
        };
        self.devices
            .entry(link.ifindex)
            .or_default()
            .insert(vlan.unwrap_or(0), slot);
        self.bds.entry(bd).or_default().insert(slot);
        let port = Port {
            slot,
            bd,
            device: link.name.clone(),
            ifindex: link.ifindex,
            vlan,
            link: link.clone(),
        };
        Some(self.ports.entry(slot).or_insert(port))
    }

    /// Removes a port. The second answer is whether it was the last one of its device.
    pub(super) fn remove(&mut self, slot: Slot, now: Instant) -> Option<(Port, bool)> {
        let port = self.ports.remove(&slot)?;
        self.slots.give(slot.0, now);
        if let Some(slots) = self.bds.get_mut(&port.bd) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.bds.remove(&port.bd);
            }
        }
        let mut last = false;
        if let Some(vlans) = self.devices.get_mut(&port.ifindex) {
            vlans.remove(&port.vlan.unwrap_or(0));
            last = vlans.is_empty();
        }
        if last {
            self.devices.remove(&port.ifindex);
        }
        Some((port, last))
    }

    /// The device of a port changed.
    pub(super) fn update(&mut self, slot: Slot, link: &Link) {
        if let Some(port) = self.ports.get_mut(&slot) {
            port.device = link.name.clone();
            port.link = link.clone();
        }
    }

    /// A port.
    pub(super) fn get(&self, slot: Slot) -> Option<&Port> {
        self.ports.get(&slot)
    }

    /// The port of one VLAN of a device.
    pub(super) fn find(&self, device: &IfName, vlan: Option<u16>) -> Option<&Port> {
        let ifindex = self.names.get(device)?;
        let slot = self.devices.get(ifindex)?.get(&vlan.unwrap_or(0))?;
        self.ports.get(slot)
    }

    /// Ports of a device, by VLAN.
    pub(super) fn of_device(&self, ifindex: u32) -> BTreeMap<u16, Slot> {
        self.devices.get(&ifindex).cloned().unwrap_or_default()
    }

    /// Ports of a bridge domain, by slot.
    pub(super) fn of_bd(&self, bd: BdRef) -> impl Iterator<Item = &Port> {
        self.bds
            .get(&bd)
            .into_iter()
            .flatten()
            .filter_map(|slot| self.ports.get(slot))
    }

    /// All ports, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.values()
    }

    /// The first claim to a device by its name.
    pub(super) fn exact_claim(&self, device: &IfName) -> Option<&Claim> {
        self.exact.get(device.as_str())?.first()
    }

    /// Claims to devices by their names, whether they exist or not.
    pub(super) fn exact_claims(&self) -> impl Iterator<Item = (&str, &Claim)> {
        self.exact
            .iter()
            .flat_map(|(device, claims)| claims.iter().map(move |claim| (device.as_str(), claim)))
    }

    /// A device.
    pub(super) fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    /// A device by its name.
    pub(super) fn link_named(&self, device: &IfName) -> Option<&Link> {
        self.links.get(self.names.get(device)?)
    }

    /// All devices.
    pub(super) fn ifindexes(&self) -> Vec<u32> {
        self.links.keys().copied().collect()
    }
}
