//! Bridge domains come and go: the difference between what is wanted and what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use vtep_common::abi::{BdId, BdRef};

use super::{Core, replication::imet_flags};
use crate::{
    config::{AutoRt, BdConfig},
    evpn::{BridgeDomain, Originator},
    types::{BdName, ImportTarget, RouteDistinguisher, RouteTarget, Vni},
};

impl Core {
    /// Bridge domains that are wanted: the file's, then those made by command whose name, VNI and RD the
    /// file leaves free.
    pub(super) fn wanted_bds(&self) -> Vec<BdConfig> {
        let mut wanted = self.config.bds.clone();
        let mut vnis: BTreeSet<_> = wanted.iter().map(|bd| bd.vni).collect();
        let mut rds: BTreeSet<_> = wanted.iter().filter_map(|bd| bd.rd).collect();
        let of_file: BTreeSet<_> = self.config.bds.iter().map(|bd| &bd.name).collect();
        for (name, saved) in &self.state.bds {
            if of_file.contains(name) {
                continue;
            }
            let config = saved.config(name).filter(|config| {
                vnis.insert(config.vni) && config.rd.is_none_or(|rd| rds.insert(rd))
            });
            wanted.extend(config);
        }
        wanted
    }

    /// Says which of the bridge domains made by command are not among the wanted ones.
    fn report_left_out(&self, wanted: &[BdConfig]) {
        let names: BTreeSet<_> = wanted.iter().map(|bd| &bd.name).collect();
        for (bd, saved) in self.state.bds.iter().filter(|(bd, _)| !names.contains(bd)) {
            match saved.config(bd) {
                Some(config) => tracing::warn!(
                    %bd, vni = %config.vni,
                    "the configuration file gives this VNI, or the RD, to another bridge domain, left out"
                ),
                None => tracing::error!(%bd, "saved bridge domain is damaged, left out"),
            }
        }
    }

    /// The bridge domain belongs to the configuration file.
    pub(super) fn is_bd_of_file(&self, name: &BdName) -> bool {
        self.config.bds.iter().any(|bd| bd.name == *name)
    }

    /// Makes the wanted bridge domains those that there are.
    pub(super) fn sync_bds(&mut self, now: Instant) {
        let wanted = self.wanted_bds();
        self.report_left_out(&wanted);
        let vnis: BTreeMap<_, _> = wanted.iter().map(|bd| (&bd.name, bd.vni)).collect();
        let stays = |bd: &BridgeDomain| vnis.get(&bd.config.name) == Some(&bd.config.vni);
        let gone: Vec<_> = self
            .bds
            .values()
            .filter(|bd| !stays(bd))
            .map(|bd| (bd.id.bd, bd.config.name.clone()))
            .collect();
        if !gone.is_empty() {
            for (_, name) in &gone {
                self.names.remove(name);
            }
            self.sync_ports(now);
            self.set_targets(gone.iter().map(|(id, _)| (*id, None)).collect(), now);
            for (id, _) in gone {
                self.release_held_of(id, now);
                self.delete_bd(id, now);
            }
        }
        let reserved = self.explicit_rd_indexes(&wanted);
        let mut targets = Vec::new();
        let mut announce = Vec::new();
        for config in wanted {
            let id = match self.names.get(&config.name).copied() {
                Some(id) => {
                    if self.update_bd(id, config, &reserved, now) {
                        announce.push(id);
                    }
                    id
                }
                None => match self.create_bd(config, &reserved, now) {
                    Some(id) => {
                        announce.push(id);
                        id
                    }
                    None => continue,
                },
            };
            if let Some(bd) = self.bds.get(&id)
                && self.targets.get(id) != bd.rt_import
            {
                targets.push((id, Some(bd.rt_import.clone())));
            }
        }
        // After everything was withdrawn that goes: an RD may have passed from one to another.
        for bd in announce.iter().filter_map(|id| self.bds.get(id)) {
            let (route, attributes) = bd.imet();
            self.adj_out.announce(route, attributes);
        }
        if !targets.is_empty() {
            self.set_targets(targets, now);
        }
        self.sync_ports(now);
    }

    /// Without its announcement.
    fn create_bd(
        &mut self,
        config: BdConfig,
        reserved: &BTreeSet<u16>,
        now: Instant,
    ) -> Option<BdId> {
        let Some(id) = self.place_for_bd(config.vni, now) else {
            tracing::error!(bd = %config.name, "no room for another bridge domain");
            return None;
        };
        let bd = id.bd;
        let (import, export) = (self.rt_import(&config), self.rt_export(&config));
        let originator = self.originator(&config, &export, reserved);
        let name = config.name.clone();
        tracing::info!(bd = %name, vni = %config.vni, rd = %originator.rd(), "bridge domain made");
        let mut domain = BridgeDomain::new(id, config, self.vtep(), originator, import, export);
        self.set_policies(&mut domain);
        self.names.insert(name, bd);
        self.bds.insert(bd, domain);
        self.publish_bd_entry(bd);
        Some(bd)
    }

    /// The one that an earlier run gave to the VNI, or a new one.
    fn place_for_bd(&mut self, vni: Vni, now: Instant) -> Option<BdRef> {
        if let Some(id) = self.recovered_bd(vni.get()) {
            return Some(id);
        }
        let bd = BdId(u16::try_from(self.bd_indexes.take(now)?).ok()?);
        let generation = self.generations.entry(bd).or_default();
        *generation = generation.wrapping_add(1).max(1);
        Some(BdRef {
            bd,
            generation: *generation,
        })
    }

    /// Name and VNI are as they were. Whether it has to be announced anew.
    fn update_bd(
        &mut self,
        id: BdId,
        config: BdConfig,
        reserved: &BTreeSet<u16>,
        now: Instant,
    ) -> bool {
        let (import, export) = (self.rt_import(&config), self.rt_export(&config));
        let originator = self.originator(&config, &export, reserved);
        let terms = |config: &BdConfig| (config.downstream_vni, config.any_ethernet_tag);
        let wanted = terms(&config);
        if self
            .bds
            .get(&id)
            .is_some_and(|bd| terms(&bd.config) != wanted)
        {
            let change = |config: &mut BdConfig| {
                (config.downstream_vni, config.any_ethernet_tag) = wanted;
            };
            self.change_terms(id, change, now);
        }
        let Some(mut bd) = self.bds.remove(&id) else {
            return false;
        };
        bd.rt_import = import;
        bd.config = config;
        let other_flags = self.set_policies(&mut bd);
        bd.touch_flood();
        self.dirty.insert(id);
        let differs = !originator.announces_as(bd.originator());
        if differs {
            for key in bd.announced() {
                self.adj_out.withdraw(&key);
            }
            bd.set_originator(originator, export);
        }
        let place = bd.id;
        self.bds.insert(id, bd);
        self.publish_bd_entry(id);
        let slots: Vec<_> = self.ports.of_bd(place).map(|port| port.slot).collect();
        for slot in slots {
            self.sync_guard(slot);
        }
        differs || other_flags
    }

    /// What its configuration leaves to that of all, and what it says of itself: whether that is
    /// something else now.
    fn set_policies(&self, bd: &mut BridgeDomain) -> bool {
        let all = &self.config.vtep;
        bd.set_duplicate_policy(bd.config.duplicate.unwrap_or(all.duplicate));
        let policy = bd.config.duplicate_ip.unwrap_or(all.duplicate_ip);
        bd.set_address_policy(policy, bd.config.anycast.clone());
        bd.set_imet_flags(imet_flags(&bd.config))
    }

    /// Its ports are gone and nothing is imported any more.
    fn delete_bd(&mut self, id: BdId, now: Instant) {
        self.publish_bd(id, now);
        let Some(bd) = self.bds.remove(&id) else {
            return;
        };
        for key in bd.announced() {
            self.adj_out.withdraw(&key);
        }
        self.intent.bds.remove(id.0.into());
        self.intent.vnis.remove(bd.config.vni.get());
        self.expiries.set(id, None);
        self.flood.remove(bd.id, now);
        self.bd_indexes.give(id.0.into(), now);
        tracing::info!(bd = %bd.config.name, "bridge domain removed");
    }

    fn originator(
        &mut self,
        config: &BdConfig,
        export: &[RouteTarget],
        reserved: &BTreeSet<u16>,
    ) -> Originator {
        let rd = match config.rd {
            Some(rd) => rd,
            None => {
                let index = self.rd_index(&config.name, reserved);
                RouteDistinguisher::ipv4(self.config.vtep.router_id, index)
            }
        };
        Originator::new(self.vtep(), config.vni, rd, export)
            .with_arp_nd(self.config.bgp.arp_nd_flags)
    }

    /// The numbers of configured RDs that look like automatic ones.
    fn explicit_rd_indexes(&self, wanted: &[BdConfig]) -> BTreeSet<u16> {
        let router_id = self.config.vtep.router_id;
        let explicit = wanted.iter().filter_map(|bd| bd.rd);
        explicit
            .filter_map(|rd| {
                let [.., high, low] = rd.0;
                let index = u16::from_be_bytes([high, low]);
                (rd == RouteDistinguisher::ipv4(router_id, index)).then_some(index)
            })
            .collect()
    }

    /// The number in the automatic RD of a bridge domain: the one that it always had, unless the
    /// configuration gives it to another one. Two with one RD would overwrite each other's routes
    /// (RFC 7432 §7.9).
    fn rd_index(&mut self, name: &BdName, reserved: &BTreeSet<u16>) -> u16 {
        if let Some(index) = self.state.rd_index.get(name)
            && !reserved.contains(index)
        {
            return *index;
        }
        let mut used: BTreeSet<_> = self.state.rd_index.values().copied().collect();
        used.extend(reserved);
        let index = match (1..=u16::MAX).find(|index| !used.contains(index)) {
            Some(index) => index,
            None => self.reuse_rd_index(name, reserved),
        };
        self.state.rd_index.insert(name.clone(), index);
        self.state_dirty = true;
        index
    }

    /// Takes the number of a bridge domain that is no more. There are fewer bridge domains than
    /// numbers, so there is one.
    fn reuse_rd_index(&mut self, name: &BdName, reserved: &BTreeSet<u16>) -> u16 {
        let wanted: BTreeSet<_> = self.wanted_bds().into_iter().map(|bd| bd.name).collect();
        let old = self
            .state
            .rd_index
            .iter()
            .find(|(old, index)| {
                *old != name && !wanted.contains(*old) && !reserved.contains(index)
            })
            .map(|(old, index)| (old.clone(), *index));
        match old {
            Some((old, index)) => {
                self.state.rd_index.remove(&old);
                index
            }
            None => u16::MAX,
        }
    }

    fn rt_import(&self, config: &BdConfig) -> Vec<ImportTarget> {
        config
            .rt_import
            .clone()
            .unwrap_or_else(|| self.config.bgp.auto_import(config.vni))
    }

    fn rt_export(&self, config: &BdConfig) -> Vec<RouteTarget> {
        config
            .rt_export
            .clone()
            .unwrap_or_else(|| vec![self.auto_target(config.vni)])
    }

    fn auto_target(&self, vni: Vni) -> RouteTarget {
        let asn = self.config.bgp.asn;
        match self.config.bgp.auto_rt {
            AutoRt::As => RouteTarget::auto(asn, vni),
            AutoRt::Rfc8365 => RouteTarget::auto_rfc8365(asn, vni),
        }
    }
}
