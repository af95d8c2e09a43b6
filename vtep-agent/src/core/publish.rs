//! From what is known to the desired tables and to announcements.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use vtep_common::abi::{
    AddressEntry, AddressKey, ArpKey, BdEntry, BdFlags, BdId, EndpointEntry, EndpointFlags,
    EndpointKey, FdbFlags, FdbKey, FdbWord, MAX_LOCAL_VTEPS, MAX_UPLINKS, NdKey, NeighborEntry,
    NeighborFlags, PortEntry, PortFlags, Settings, SettingsFlags, VtepAddr,
};

use super::{Core, Output, nexthops::GroupKey, ports::Port};
use crate::{
    bgp::wire::ArpNd,
    config::{FloodPolicy, SourceCheck, UnicastForward, UnknownNeighbors, UnknownVni},
    evpn::{BindingOrigin, BridgeDomain, Duplicate, DuplicateIp, Local, Origin, Slot, Winner},
    types::Mac,
};

impl Core {
    /// Publishes what was touched since the last time.
    pub(super) fn publish(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.dirty) {
            self.publish_bd(id, now);
        }
        for id in self.flood.retry() {
            self.touch_flood(id);
            self.publish_bd(id, now);
        }
        if std::mem::take(&mut self.settings_dirty) {
            self.publish_settings();
        }
    }

    /// Publishes what was touched in one bridge domain.
    pub(super) fn publish_bd(&mut self, id: BdId, now: Instant) {
        let Some(mut bd) = self.bds.remove(&id) else {
            return;
        };
        let dirty = bd.take_dirty();
        for mac in dirty.macs {
            self.publish_mac(&mut bd, mac);
        }
        for question in bd.take_questions() {
            let port = self.ports.get(question.slot);
            if let Some(port) = port.filter(|port| port.bd == bd.id && port.link.up) {
                let frame = question.frame(port.vlan);
                self.outputs.push(Output::Transmit(port.ifindex, frame));
            }
        }
        for ip in dirty.ips {
            self.publish_neighbor(&bd, ip);
        }
        if !dirty.news.is_empty() && self.ports.of_bd(bd.id).next().is_some() {
            self.unsolicited.extend(id, dirty.news);
        }
        for slot in dirty.ports {
            self.publish_port(&bd, slot);
        }
        // While ports are still to come back, the list that they are in stays.
        if dirty.flood && self.recovery.is_none() {
            self.publish_flood(&bd, now);
        }
        self.expiries.set(id, bd.next_expiry());
        self.bds.insert(id, bd);
    }

    /// The entry of `bds` but for the flood list, which stays.
    pub(super) fn publish_bd_entry(&mut self, id: BdId) {
        let Some(bd) = self.bds.get(&id) else {
            return;
        };
        let index = u32::from(id.0);
        let config = &bd.config;
        let entry = BdEntry {
            flood: match self.intent.bds.get(index) {
                Some(entry) => entry.flood,
                None => self.flood.span(bd.id).to_bits(),
            },
            source: VtepAddr::v4(self.vtep()),
            vni: config.vni.get(),
            generation: bd.id.generation,
            flags: BdFlags::ACTIVE
                .with_if(BdFlags::SUPPRESS, config.suppress)
                .with_if(BdFlags::LEARN, config.learning)
                .with_if(BdFlags::DHCP, config.learning && config.dhcp_snooping)
                .with_if(BdFlags::FLOOD_UNKNOWN, config.flood == FloodPolicy::All)
                .with_if(BdFlags::FLOOD_BUM, config.flood != FloodPolicy::None)
                .with_if(
                    BdFlags::DROP_UNKNOWN_NEIGHBORS,
                    config.unknown_neighbors == UnknownNeighbors::Drop,
                )
                .with_if(
                    BdFlags::FORWARD_REQUESTS,
                    config.unicast_forward == UnicastForward::Always,
                )
                .with_if(
                    BdFlags::FORWARD_OPTIONS,
                    config.unicast_forward != UnicastForward::Never,
                ),
        };
        self.intent.bds.set(index, entry);
        self.intent.vnis.set(config.vni.get(), bd.id);
    }

    /// The entry of `ports` of one port, limits included.
    pub(super) fn publish_port(&mut self, bd: &BridgeDomain, slot: Slot) {
        let Some(port) = self.ports.get(slot) else {
            return;
        };
        let limit = usize::try_from(bd.config.max_macs_per_port).unwrap_or(usize::MAX);
        let full = bd.macs().port_count(slot) >= limit;
        let flags = PortFlags::ACTIVE
            .with_if(PortFlags::REDIRECT_PEER, port.link.redirect_peer)
            .with_if(PortFlags::REDIRECT_XDP, port.link.redirect_xdp)
            .with_if(PortFlags::MAC_LIMIT, full)
            .with_if(PortFlags::GUARDED, self.guards.contains_key(&slot));
        let entry = PortEntry {
            ifindex: port.ifindex,
            flags,
            bd: port.bd,
            vlan: port.vlan.unwrap_or(0),
            reserved: 0,
            bum_rate: bd.config.bum_rate,
            learn_rate: bd.config.learn_rate,
        };
        let was_full = self
            .intent
            .ports
            .get(slot.0)
            .is_some_and(|entry| entry.flags.has(PortFlags::MAC_LIMIT));
        if full && !was_full {
            tracing::warn!(
                port = %port.device, bd = %bd.config.name, limit,
                "port has its full number of MACs, new ones are dropped"
            );
        }
        self.intent.ports.set(slot.0, entry);
    }

    /// Our address: the source of what we send and the next hop of what we announce.
    pub(super) fn vtep(&self) -> Ipv4Addr {
        self.config
            .vtep
            .addresses
            .first()
            .copied()
            .unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    fn publish_mac(&mut self, bd: &mut BridgeDomain, mac: Mac) {
        let key = FdbKey::new(bd.id.bd, mac);
        let winner = bd.macs().winner(mac);
        let local = match winner {
            Some(Winner::Local(local)) => Some(*local),
            _ => None,
        };
        self.publish_endpoint(bd, mac, local);
        let duplicate = bd.macs().duplicate(mac);
        // What stays where it is has no business elsewhere.
        let held = duplicate.is_some_and(Duplicate::is_held);
        let black_hole =
            bd.as_mac() == Some(mac) || duplicate.is_some_and(Duplicate::is_black_hole);
        let word = match winner {
            _ if black_hole => Some(FdbWord::new(bd.id, 0, FdbFlags::BLACK_HOLE)),
            Some(Winner::Local(local)) => {
                let pinned = held || local.origin == Origin::Declared;
                let flags = FdbFlags::LOCAL.with_if(FdbFlags::PINNED, pinned);
                Some(FdbWord::new(bd.id, local.slot.0, flags))
            }
            Some(Winner::Remote(_, remote)) => {
                let group = GroupKey {
                    bd: bd.id.bd,
                    vtep: remote.next_hop,
                    vni: remote.vni,
                };
                let flags = FdbFlags::default().with_if(FdbFlags::PINNED, held || remote.sticky);
                self.nexthops
                    .group(&group)
                    .map(|index| FdbWord::new(bd.id, index, flags))
            }
            None => None,
        };
        // One entry replaced by another: there is no moment without any.
        match word {
            Some(word) => self.intent.fdb.set(key, word),
            None => {
                self.intent.fdb.remove(key);
            }
        }
        if local.is_none() && !bd.announces(mac) {
            return;
        }
        let (announce, withdraw) = bd.routes(mac);
        for key in withdraw {
            self.adj_out.withdraw(&key);
        }
        for (route, attributes) in announce {
            self.adj_out.announce(route, attributes);
        }
    }

    /// What the next run has to know of a local MAC.
    fn publish_endpoint(&mut self, bd: &BridgeDomain, mac: Mac, local: Option<Local>) {
        let key = EndpointKey::new(bd.config.vni.get(), mac);
        match local.and_then(|local| Some((local, self.ports.get(local.slot)?))) {
            Some((local, port)) => {
                let declared = local.origin == Origin::Declared;
                let endpoint = EndpointEntry {
                    ifindex: port.ifindex,
                    vlan: port.vlan.unwrap_or(0),
                    flags: EndpointFlags::default().with_if(EndpointFlags::DECLARED, declared),
                    sequence: local.mobility.sequence,
                };
                self.intent.endpoints.set(key, endpoint);
            }
            None => {
                self.intent.endpoints.remove(key);
            }
        }
    }

    fn publish_neighbor(&mut self, bd: &BridgeDomain, ip: IpAddr) {
        let id = bd.id.bd;
        let entry = advertised(bd, ip);
        self.publish_address(bd, ip);
        match (ip, entry) {
            (IpAddr::V4(ip), Some(entry)) => self.intent.arp.set(ArpKey::new(id, ip), entry),
            (IpAddr::V6(ip), Some(entry)) => self.intent.nd.set(NdKey::new(id, ip), entry),
            (IpAddr::V4(ip), None) => {
                self.intent.arp.remove(ArpKey::new(id, ip));
            }
            (IpAddr::V6(ip), None) => {
                self.intent.nd.remove(NdKey::new(id, ip));
            }
        }
    }

    /// What the next run has to know of an address that a local VM was seen with.
    fn publish_address(&mut self, bd: &BridgeDomain, ip: IpAddr) {
        let key = AddressKey::new(bd.config.vni.get(), ip);
        let binding = bd.neighbors().get(ip);
        // Those that are declared come from there.
        match binding.filter(|binding| binding.origin == BindingOrigin::Learned) {
            Some(binding) => {
                let entry = AddressEntry::new(binding.mac, neighbor_flags(binding.flags));
                self.intent.addresses.set(key, entry);
            }
            None => {
                self.intent.addresses.remove(key);
            }
        }
    }

    fn publish_flood(&mut self, bd: &BridgeDomain, now: Instant) {
        let ports: Vec<_> = self.flood_ports(bd).map(|port| port.slot.0).collect();
        let copies = self.copies(bd);
        let was_homeless = self.flood.is_homeless(bd.id.bd);
        let span = match self
            .flood
            .set(bd.id, &ports, &copies, &mut self.intent, now)
        {
            Ok(span) => span,
            Err(error) => {
                if !was_homeless {
                    tracing::error!(bd = %bd.config.name, %error, "flood list not updated");
                }
                return;
            }
        };
        let index = u32::from(bd.id.bd.0);
        if let Some(entry) = self.intent.bds.get(index) {
            let entry = BdEntry {
                flood: span.to_bits(),
                ..*entry
            };
            self.intent.bds.set(index, entry);
        }
    }

    /// Ports of a bridge domain that receive its BUM traffic.
    pub(super) fn flood_ports(&self, bd: &BridgeDomain) -> impl Iterator<Item = &Port> {
        let id = bd.id;
        self.ports.of_bd(id).filter(|port| port.link.up)
    }

    fn publish_settings(&mut self) {
        let vtep = &self.config.vtep;
        let mut local_vteps_be = [0; MAX_LOCAL_VTEPS];
        for (slot, address) in local_vteps_be.iter_mut().zip(&vtep.addresses) {
            *slot = u32::from_ne_bytes(address.octets());
        }
        let mut uplink_macs = [0; MAX_UPLINKS];
        let mut uplink_vlans = [0; MAX_UPLINKS];
        let links = self.uplinks.iter().map(|(_, uplink)| uplink.link.as_ref());
        for (index, link) in links.enumerate().take(MAX_UPLINKS) {
            if let Some(link) = link {
                uplink_macs[index] = link.mac.to_bits();
                uplink_vlans[index] = self.nexthops.underlay_vlan(link.ifindex).unwrap_or(0);
            }
        }
        let check = vtep.source_check;
        let settings = Settings {
            epoch: 0,
            uplink_macs,
            local_vteps_be,
            uplink_vlans,
            flags: SettingsFlags::default()
                .with_if(
                    SettingsFlags::PASS_UNKNOWN_VNI,
                    vtep.unknown_vni == UnknownVni::Pass,
                )
                .with_if(SettingsFlags::SOURCE_LOOSE, check == SourceCheck::Loose)
                .with_if(SettingsFlags::SOURCE_STRICT, check == SourceCheck::Strict),
            port_be: vtep.port.to_be(),
            reserved: 0,
            revision: 0,
            reserved2: 0,
        };
        self.intent.settings.set(0, settings);
    }
}

/// What suppression says of an address, if anything.
pub(super) fn advertised(bd: &BridgeDomain, ip: IpAddr) -> Option<NeighborEntry> {
    let neighbors = bd.neighbors();
    if let Some(decoy) = neighbors.decoy(ip) {
        let flags = NeighborFlags::OVERRIDE;
        return Some(NeighborEntry::new(bd.id.bd, decoy, flags));
    }
    let binding = neighbors.get(ip)?;
    let blocked = neighbors.duplicate(ip).is_some_and(DuplicateIp::is_blocked);
    let withheld = blocked || neighbors.is_anycast(ip);
    let flags = neighbor_flags(binding.flags).with_if(NeighborFlags::WITHHELD, withheld);
    Some(NeighborEntry::new(bd.id.bd, binding.mac, flags))
}

fn neighbor_flags(flags: ArpNd) -> NeighborFlags {
    NeighborFlags::default()
        .with_if(NeighborFlags::ROUTER, flags.router)
        .with_if(NeighborFlags::OVERRIDE, flags.override_)
        .with_if(NeighborFlags::IMMUTABLE, flags.immutable)
}
