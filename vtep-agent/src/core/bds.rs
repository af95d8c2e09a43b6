//! Bridge domains come and go: the difference between what is wanted and what there is.

use std::{collections::BTreeSet, time::Instant};

use vtep_common::abi::{BdId, BdRef};

use super::Core;
use crate::{
    config::{AutoRt, BdConfig},
    evpn::{BridgeDomain, Originator},
    types::{BdName, ImportTarget, RouteDistinguisher, RouteTarget, Vni},
};

impl Core {
    /// Bridge domains that are wanted: the file's, then those made by command whose name and VNI the
    /// file leaves free.
    pub(super) fn wanted_bds(&self) -> Vec<BdConfig> {
        let mut wanted = self.config.bds.clone();
        let mut vnis: BTreeSet<_> = wanted.iter().map(|bd| bd.vni).collect();
        for (name, saved) in &self.state.bds {
            if self.is_bd_of_file(name) {
                continue;
            }
            wanted.extend(saved.config(name).filter(|config| vnis.insert(config.vni)));
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
                    "the configuration file gives this VNI to another bridge domain, left out"
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
        let stays = |bd: &BridgeDomain| {
            wanted
                .iter()
                .any(|wanted| wanted.name == bd.config.name && wanted.vni == bd.config.vni)
        };
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
                self.delete_bd(id, now);
            }
        }
        let mut targets = Vec::new();
        for config in wanted {
            let id = match self.names.get(&config.name) {
                Some(id) => {
                    let id = *id;
                    self.update_bd(id, config);
                    Some(id)
                }
                None => self.create_bd(config, now),
            };
            let import = id.and_then(|id| Some((id, self.bds.get(&id)?.rt_import.clone())));
            if let Some((id, import)) = import
                && self.targets.get(id) != import
            {
                targets.push((id, Some(import)));
            }
        }
        if !targets.is_empty() {
            self.set_targets(targets, now);
        }
        self.sync_ports(now);
    }

    fn create_bd(&mut self, config: BdConfig, now: Instant) -> Option<BdId> {
        let index = self.bd_indexes.take(now);
        let Some(bd) = index.and_then(|index| u16::try_from(index).ok()).map(BdId) else {
            tracing::error!(bd = %config.name, "no room for another bridge domain");
            return None;
        };
        let generation = self.generations.entry(bd).or_default();
        *generation = generation.wrapping_add(1).max(1);
        let id = BdRef {
            bd,
            generation: *generation,
        };
        let (import, export) = (self.rt_import(&config), self.rt_export(&config));
        let originator = self.originator(&config, &export);
        let name = config.name.clone();
        tracing::info!(bd = %name, vni = %config.vni, rd = %originator.rd(), "bridge domain made");
        let domain = BridgeDomain::new(id, config, self.vtep(), originator, import, export);
        let (route, attributes) = domain.imet();
        self.adj_out.announce(route, attributes);
        self.names.insert(name, bd);
        self.bds.insert(bd, domain);
        self.publish_bd_entry(bd);
        Some(bd)
    }

    /// Name and VNI are as they were.
    fn update_bd(&mut self, id: BdId, config: BdConfig) {
        let (import, export) = (self.rt_import(&config), self.rt_export(&config));
        let originator = self.originator(&config, &export);
        let Some(bd) = self.bds.get_mut(&id) else {
            return;
        };
        bd.rt_import = import;
        bd.config = config;
        if originator.rd() != bd.originator().rd() || export != bd.rt_export {
            for key in bd.announced() {
                self.adj_out.withdraw(&key);
            }
            bd.set_originator(originator, export);
            let (route, attributes) = bd.imet();
            self.adj_out.announce(route, attributes);
            self.dirty.insert(id);
        }
        self.publish_bd_entry(id);
        let Some(bd) = self.bds.remove(&id) else {
            return;
        };
        let slots: Vec<_> = self.ports.of_bd(bd.id).map(|port| port.slot).collect();
        for slot in slots {
            self.publish_port(&bd, slot);
        }
        self.bds.insert(id, bd);
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
        self.flood.remove(bd.id, now);
        self.bd_indexes.give(id.0.into(), now);
        tracing::info!(bd = %bd.config.name, "bridge domain removed");
    }

    fn originator(&mut self, config: &BdConfig, export: &[RouteTarget]) -> Originator {
        let rd = match config.rd {
            Some(rd) => rd,
            None => {
                RouteDistinguisher::ipv4(self.config.vtep.router_id, self.rd_index(&config.name))
            }
        };
        Originator::new(self.vtep(), config.vni, rd, export)
    }

    /// The number in the automatic RD of a bridge domain: the one that it always had.
    fn rd_index(&mut self, name: &BdName) -> u16 {
        let configured = self.configured_rd_numbers();
        if let Some(index) = self.state.rd_index.get(name)
            && !configured.contains(index)
        {
            return *index;
        }
        let mut used = configured.clone();
        used.extend(self.state.rd_index.values());
        let index = match (1..=u16::MAX).find(|index| !used.contains(index)) {
            Some(index) => index,
            None => self.reuse_rd_index(name, &configured),
        };
        self.state.rd_index.insert(name.clone(), index);
        self.state_dirty = true;
        index
    }

    /// Numbers that configured RDs of the automatic form use: a route's key must not be another
    /// bridge domain's.
    fn configured_rd_numbers(&self) -> BTreeSet<u16> {
        let router_id = self.config.vtep.router_id;
        let configured = self.config.bds.iter().filter_map(|bd| bd.rd);
        configured.filter_map(|rd| rd.number(router_id)).collect()
    }

    /// Takes the number of a bridge domain that is no more. There are fewer bridge domains than
    /// numbers, so there is one.
    fn reuse_rd_index(&mut self, name: &BdName, configured: &BTreeSet<u16>) -> u16 {
        let wanted: BTreeSet<_> = self.wanted_bds().into_iter().map(|bd| bd.name).collect();
        let old = self
            .state
            .rd_index
            .iter()
            .find(|(old, index)| {
                *old != name && !wanted.contains(*old) && !configured.contains(index)
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
            .unwrap_or_else(|| vec![ImportTarget::AnyAdmin(config.vni.get())])
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
