//! Ports come and go with devices and with the bridge domains that want them.

use std::{collections::BTreeMap, time::Instant};

use vtep_common::abi::{PortKey, PortRef};

use super::{Core, Drain, Link, Output, SavedEndpoint, ports::Port};
use crate::{
    config::PortPattern,
    evpn::Slot,
    types::{BdName, IfName},
};

/// Every namespace has one, and it is never a port.
pub(super) const LOOPBACK: &str = "lo";

impl Core {
    pub(super) fn link(&mut self, link: Link, now: Instant) {
        let ifindex = link.ifindex;
        let renamed = self
            .ports
            .link(ifindex)
            .is_some_and(|old| old.name != link.name);
        if renamed {
            self.link_gone(ifindex, now);
        }
        let is_uplink = self.uplinks.set_link(&link, &mut self.outputs);
        self.settings_dirty |= is_uplink;
        // A device that was made anew may be reported before the old one's end.
        if let Some(stale) = self.ports.set_link(link) {
            self.link_gone(stale, now);
        }
        self.sync_device(ifindex, now);
    }

    pub(super) fn link_gone(&mut self, ifindex: u32, now: Instant) {
        self.uplinks.remove_link(ifindex, &mut self.outputs);
        self.settings_dirty = true;
        for slot in self.ports.of_device(ifindex).into_values() {
            self.remove_port(slot, now);
        }
        self.ports.remove_link(ifindex);
    }

    /// Makes the configured and the attached uplinks those that there are.
    pub(super) fn sync_uplinks(&mut self) {
        let default = self.config.vtep.xdp;
        let mut wanted: BTreeMap<_, _> = self
            .state
            .uplinks
            .iter()
            .map(|(name, mode)| (name.clone(), mode.unwrap_or(default)))
            .collect();
        // The file wins, but for what was detached since it was read.
        let configured = self.config.vtep.uplinks.iter();
        let configured = configured.filter(|name| !self.detached.contains(*name));
        wanted.extend(configured.map(|name| (name.clone(), default)));
        if self.drain == Drain::Drained {
            wanted.clear();
        }
        let ports = &self.ports;
        self.uplinks
            .set(&wanted, |name| ports.link_named(name), &mut self.outputs);
        self.settings_dirty = true;
        if self.devices_read {
            self.report_missing_uplinks();
        }
    }

    pub(super) fn report_missing_uplinks(&self) {
        for uplink in self.uplinks.missing() {
            tracing::warn!(%uplink, "uplink does not exist, waiting for it");
        }
    }

    /// The device is no port, whatever a glob says: an uplink, or one of the file that is detached.
    pub(super) fn is_uplink(&self, device: &IfName) -> bool {
        self.uplinks.contains(device) || self.detached.contains(device)
    }

    /// Brings all ports in line with what bridge domains want.
    pub(super) fn sync_ports(&mut self, now: Instant) {
        self.sync_claims();
        for ifindex in self.ports.ifindexes() {
            self.sync_device(ifindex, now);
        }
    }

    /// Brings the claims in line with configuration and state: the file's in its order, then those of
    /// commands.
    pub(super) fn sync_claims(&mut self) {
        let of_bds = self.wanted_bds().into_iter().flat_map(|bd| {
            let name = bd.name;
            bd.ports.into_iter().map(move |port| (name.clone(), port))
        });
        let of_commands = self.state.ports.iter().map(|port| {
            let pattern = PortPattern {
                pattern: port.device.as_str().to_owned(),
                vlan: port.vlan,
            };
            (port.bd.clone(), pattern)
        });
        let claims: Vec<_> = of_bds
            .chain(of_commands)
            .filter(|(bd, _)| self.names.contains_key(bd))
            .collect();
        self.ports.set_claims(claims.into_iter());
    }

    /// Brings the ports of one device in line with the claims to it.
    pub(super) fn sync_device(&mut self, ifindex: u32, now: Instant) {
        let Some(link) = self.ports.link(ifindex).cloned() else {
            return;
        };
        let (mut claims, lost) = self.ports.claims(&link.name);
        let is_ours = self.is_uplink(&link.name) || link.name.as_str() == LOOPBACK;
        if is_ours || self.drain == Drain::Drained {
            claims.clear();
        }
        let existing = self.ports.of_device(ifindex);
        for (vlan, slot) in &existing {
            let wanted = claims.get(vlan).and_then(|claim| self.names.get(&claim.bd));
            let stays = self.ports.get(*slot).map(|port| port.bd.bd) == wanted.copied();
            if stays {
                claims.remove(vlan);
                self.update_port(*slot, &link, now);
            } else {
                self.remove_port(*slot, now);
            }
        }
        if existing.is_empty() && !claims.is_empty() {
            for (claim, winner) in lost {
                tracing::warn!(
                    port = %link.name, vlan = claim.vlan, bd = %claim.bd, %winner,
                    "port is wanted by two bridge domains, the first one gets it"
                );
            }
        }
        for claim in claims.into_values() {
            self.add_port(&link, &claim.bd, claim.vlan, now);
        }
    }

    /// Makes an endpoint known, if its port is up.
    pub(super) fn declare(&mut self, port: &Port, endpoint: &SavedEndpoint, now: Instant) {
        if let Some(bd) = self.bd_mut(port.bd.bd).filter(|_| port.link.up) {
            let (mac, ips) = (endpoint.mac, endpoint.ips.clone());
            bd.declare(mac, ips, endpoint.sticky, port.slot, now);
        }
    }

    fn declare_all(&mut self, slot: Slot, now: Instant) {
        if let Some(port) = self.ports.get(slot).cloned() {
            for endpoint in self.endpoints(&port) {
                self.declare(&port, &endpoint, now);
            }
        }
    }

    fn add_port(&mut self, link: &Link, bd: &BdName, vlan: Option<u16>, now: Instant) {
        let Some(id) = self.names.get(bd).and_then(|id| Some(self.bds.get(id)?.id)) else {
            return;
        };
        let first = self.ports.of_device(link.ifindex).is_empty();
        let Some(slot) = self.ports.add(link, vlan, id, now).map(|port| port.slot) else {
            tracing::error!(port = %link.name, %bd, "no room for another port");
            return;
        };
        tracing::info!(port = %link.name, vlan, %bd, "port added");
        if first {
            self.outputs
                .push(Output::AttachPort(link.ifindex, link.name.clone()));
        }
        let key = PortKey::new(link.ifindex, vlan.unwrap_or(0));
        self.intent.port_index.set(key, PortRef::new(id, slot.0));
        self.sync_guard(slot);
        self.touch_flood(id.bd);
        self.declare_all(slot, now);
        if let Some(port) = self.ports.get(slot).cloned() {
            self.restore_endpoints(&port, now);
        }
    }

    fn update_port(&mut self, slot: Slot, link: &Link, now: Instant) {
        let Some(port) = self.ports.get(slot) else {
            return;
        };
        if port.link == *link {
            return;
        }
        let (was_up, id) = (port.link.up, port.bd);
        if was_up && !link.up {
            self.close_port(slot, now);
        }
        self.ports.update(slot, link);
        self.republish_port(slot);
        if was_up != link.up {
            self.touch_flood(id.bd);
        }
        if !was_up && link.up {
            self.declare_all(slot, now);
        }
    }

    fn remove_port(&mut self, slot: Slot, now: Instant) {
        self.close_port(slot, now);
        let Some((port, last)) = self.ports.remove(slot, now) else {
            return;
        };
        tracing::info!(port = %port.device, vlan = port.vlan, "port removed");
        self.intent
            .port_index
            .remove(PortKey::new(port.ifindex, port.vlan.unwrap_or(0)));
        self.intent.ports.remove(slot.0);
        self.remove_guard(slot);
        self.touch_flood(port.bd.bd);
        if last {
            self.outputs
                .push(Output::DetachPort(port.ifindex, port.device));
        }
    }

    /// Nothing is behind the port any more.
    fn close_port(&mut self, slot: Slot, now: Instant) {
        let Some(port) = self.ports.get(slot).cloned() else {
            return;
        };
        let endpoints = self.endpoints(&port);
        if let Some(bd) = self.bd_mut(port.bd.bd) {
            for endpoint in endpoints {
                bd.undeclare(endpoint.mac, now);
            }
            bd.close_port(slot, now);
        }
    }

    /// What is declared behind a port.
    pub(super) fn endpoints(&self, port: &Port) -> Vec<SavedEndpoint> {
        let Some(bd) = self.bds.get(&port.bd.bd) else {
            return Vec::new();
        };
        let name = &bd.config.name;
        self.state
            .endpoints
            .iter()
            .filter(|e| e.device == port.device && e.vlan == port.vlan && e.bd == *name)
            .cloned()
            .collect()
    }

    pub(super) fn republish_port(&mut self, slot: Slot) {
        let Some(id) = self.ports.get(slot).map(|port| port.bd.bd) else {
            return;
        };
        if let Some(bd) = self.bds.remove(&id) {
            self.publish_port(&bd, slot);
            self.bds.insert(id, bd);
        }
    }
}
