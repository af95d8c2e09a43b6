//! Requests of operators and orchestrators: each is carried out as a whole or refused with the
//! reason. What exists already as requested is done; what exists otherwise is an error.

use std::time::Instant;

use vtep_common::abi::{MAX_BDS, MAX_PORTS, MAX_UPLINKS};

use super::{
    Command, CommandError, Core, DeclaredEndpoint, Output, SavedBd, SavedEndpoint, SavedPort,
    command_error::{PortName, XdpModeName},
    vm_ports::LOOPBACK,
};
use crate::{
    config::{BdConfig, Config, PortPattern, XdpMode},
    evpn::{BridgeDomain, is_host_address},
    types::{BdName, IfName, Mac},
};

impl Core {
    /// Carries out a command.
    ///
    /// # Errors
    ///
    /// The reason, when it is refused; then nothing has changed.
    pub fn command(&mut self, command: Command, now: Instant) -> Result<Vec<Output>, CommandError> {
        self.turn(|core| core.carry_out(command, now))
    }

    fn carry_out(&mut self, command: Command, now: Instant) -> Result<Vec<Output>, CommandError> {
        self.check_takes_part(&command)?;
        match command {
            Command::Reload(config) => self.reload(*config, now)?,
            Command::Attach(name, mode) => self.attach(name, mode, now)?,
            Command::Detach(name) => self.detach(&name, now),
            Command::AddBd(config) => self.add_bd(&config, now)?,
            Command::DeleteBd(name) => self.remove_bd(&name, now)?,
            Command::AddPort { bd, port, endpoint } => {
                self.add_port_command(bd, &port, endpoint, now)?;
            }
            Command::DeletePort { device, vlan, mac } => {
                let port = PortName { device, vlan };
                match mac {
                    Some(mac) => self.remove_endpoint(&port, mac, now),
                    None => self.remove_port_command(&port, now)?,
                }
            }
            Command::Drain(time) => self.begin_drain(time, now)?,
            Command::ClearDuplicates(bd) => self.clear_duplicates(bd.as_ref(), now)?,
        }
        Ok(self.finish(now))
    }

    /// Applies the difference between the configuration in force and a new one.
    fn reload(&mut self, config: Config, now: Instant) -> Result<(), CommandError> {
        let (old, new) = (&self.config.vtep, &config.vtep);
        let fixed = [
            ("vtep.address", old.addresses == new.addresses),
            ("vtep.router_id", old.router_id == new.router_id),
            ("bgp.asn", self.config.bgp.asn == config.bgp.asn),
            ("bgp.listen", self.config.bgp.listen == config.bgp.listen),
            ("vtep.pin_dir", old.pin_dir == new.pin_dir),
            ("vtep.state_dir", old.state_dir == new.state_dir),
            ("vtep.socket", old.socket == new.socket),
            ("vtep.socket_group", old.socket_group == new.socket_group),
            ("vtep.metrics", old.metrics == new.metrics),
            ("vtep.max_macs", old.max_macs == new.max_macs),
        ];
        if let Some((name, _)) = fixed.into_iter().find(|(_, same)| !same) {
            return Err(CommandError::NeedsRestart(name));
        }
        let check = config.vtep.source_check;
        if check != self.config.vtep.source_check {
            self.nexthops.set_source_check(check, &mut self.intent);
        }
        self.config = config;
        self.detached.clear();
        self.sync_peers(now);
        self.sync_underlay();
        self.sync_uplinks();
        self.sync_bds(now);
        Ok(())
    }

    fn attach(
        &mut self,
        name: IfName,
        mode: Option<XdpMode>,
        now: Instant,
    ) -> Result<(), CommandError> {
        if name.as_str() == LOOPBACK {
            return Err(CommandError::LoopbackUplink);
        }
        let Some(ifindex) = self.ports.link_named(&name).map(|link| link.ifindex) else {
            return Err(CommandError::NoDevice(name));
        };
        if let Some(have) = self.uplinks.mode(&name) {
            return match mode.filter(|want| *want != have) {
                None => Ok(()),
                Some(want) => Err(CommandError::OtherMode {
                    name,
                    have: XdpModeName(have),
                    want: XdpModeName(want),
                }),
            };
        }
        if let Some(claim) = self.ports.exact_claim(&name) {
            let bd = claim.bd.clone();
            return Err(CommandError::IsPort { device: name, bd });
        }
        if self.uplinks.len() >= MAX_UPLINKS {
            return Err(CommandError::TooManyUplinks);
        }
        let as_in_file = mode.is_none_or(|mode| mode == self.config.vtep.xdp);
        if !(as_in_file && self.detached.remove(&name)) {
            self.state.uplinks.insert(name, mode);
            self.state_dirty = true;
        }
        self.sync_uplinks();
        // A glob may have taken it as a port.
        self.sync_device(ifindex, now);
        Ok(())
    }

    fn detach(&mut self, name: &IfName, now: Instant) {
        // One of the file comes back with the next reload or restart.
        let of_file = self.config.vtep.uplinks.contains(name) && self.detached.insert(name.clone());
        let of_command = self.state.uplinks.remove(name).is_some();
        self.state_dirty |= of_command;
        if of_file || of_command {
            self.sync_uplinks();
            if let Some(ifindex) = self.ports.link_named(name).map(|link| link.ifindex) {
                self.sync_device(ifindex, now);
            }
        }
    }

    fn add_bd(&mut self, config: &BdConfig, now: Instant) -> Result<(), CommandError> {
        let name = &config.name;
        let existing = self.names.get(name).and_then(|id| self.bds.get(id));
        if let Some(existing) = existing {
            let of_file = self.is_bd_of_file(name);
            let (name, have, want) = (name.clone(), existing.config.vni, config.vni);
            if have != want {
                return Err(match of_file {
                    true => CommandError::OtherVniInFile { name, have, want },
                    false => CommandError::OtherVni { name, have, want },
                });
            }
            let mut given = config.clone();
            let mut same = false;
            if of_file {
                // Name and VNI are enough; its ports are never given here.
                same = given == BdConfig::new(name.clone(), want);
                given.ports.clone_from(&existing.config.ports);
            }
            if same || existing.config == given {
                return Ok(());
            }
            return Err(match of_file {
                true => CommandError::OtherSettingsInFile(name),
                false => CommandError::OtherSettings(name),
            });
        }
        if let Some(owner) = self.bds.values().find(|bd| bd.config.vni == config.vni) {
            return Err(CommandError::VniTaken {
                vni: config.vni,
                owner: owner.config.name.clone(),
                name: name.clone(),
            });
        }
        let has_rd = |bd: &&BridgeDomain| config.rd == Some(bd.originator().rd());
        if let Some(owner) = self.bds.values().find(has_rd) {
            return Err(CommandError::RdTaken {
                rd: owner.originator().rd(),
                owner: owner.config.name.clone(),
                name: name.clone(),
            });
        }
        // Index 0 is none.
        if self.names.len() + 1 >= MAX_BDS as usize {
            return Err(CommandError::TooManyBds);
        }
        self.state.bds.insert(name.clone(), SavedBd::new(config));
        self.state_dirty = true;
        self.sync_bds(now);
        Ok(())
    }

    fn remove_bd(&mut self, name: &BdName, now: Instant) -> Result<(), CommandError> {
        if self.is_bd_of_file(name) {
            return Err(CommandError::BdInFile(name.clone()));
        }
        if self.state.bds.remove(name).is_some() {
            self.state_dirty = true;
            self.sync_bds(now);
            // After the ports: these know their endpoints from the state.
            self.state.ports.retain(|port| port.bd != *name);
            self.state.endpoints.retain(|endpoint| endpoint.bd != *name);
        }
        Ok(())
    }

    fn add_port_command(
        &mut self,
        bd: BdName,
        port: &PortPattern,
        endpoint: Option<DeclaredEndpoint>,
        now: Instant,
    ) -> Result<(), CommandError> {
        let device: IfName = port.pattern.parse()?;
        let port = PortName {
            device,
            vlan: port.vlan,
        };
        if !self.names.contains_key(&bd) {
            return Err(CommandError::UnknownBd(bd));
        }
        if port.device.as_str() == LOOPBACK {
            return Err(CommandError::Loopback);
        }
        if self.is_uplink(&port.device) {
            return Err(CommandError::IsUplink(port.device));
        }
        let (claims, _) = self.ports.claims(&port.device);
        let owner = claims.get(&port.vlan.unwrap_or(0)).map(|claim| &claim.bd);
        if let Some(owner) = owner.filter(|owner| **owner != bd) {
            return Err(CommandError::PortTaken {
                owner: owner.clone(),
                port,
                want: bd,
            });
        }
        let exists = owner.is_some();
        let new_endpoint = match endpoint {
            Some(endpoint) => self.check_endpoint(&bd, &port, endpoint)?,
            None => None,
        };
        let (ports, endpoints) = (self.state.ports.len(), self.state.endpoints.len());
        if !exists && ports >= MAX_PORTS as usize {
            return Err(CommandError::TooManyPorts);
        }
        let most = self.config.vtep.max_macs;
        if new_endpoint.is_some() && endpoints >= most as usize {
            return Err(CommandError::TooManyEndpoints(most));
        }
        if !exists {
            self.state.ports.push(SavedPort {
                device: port.device.clone(),
                vlan: port.vlan,
                bd,
            });
            self.state_dirty = true;
            self.sync_claims();
        }
        if let Some(ifindex) = self.ports.link_named(&port.device).map(|link| link.ifindex) {
            self.sync_device(ifindex, now);
        }
        if let Some(endpoint) = new_endpoint {
            let port = self.ports.find(&port.device, port.vlan).cloned();
            self.state.endpoints.push(endpoint.clone());
            self.state_dirty = true;
            if let Some(port) = port {
                self.declare(&port, &endpoint, now);
                self.sync_guard(port.slot);
            }
        }
        Ok(())
    }

    /// What has to be saved for a new endpoint; `None` when it is declared already.
    fn check_endpoint(
        &self,
        bd: &BdName,
        port: &PortName,
        endpoint: DeclaredEndpoint,
    ) -> Result<Option<SavedEndpoint>, CommandError> {
        let mac = endpoint.mac;
        if !mac.is_station() {
            return Err(CommandError::NotStation(mac));
        }
        if let Some(ip) = endpoint.ips.iter().find(|ip| !is_host_address(**ip)) {
            return Err(CommandError::NotHost(*ip));
        }
        let mut ips = endpoint.ips;
        ips.sort_unstable();
        ips.dedup();
        let want = SavedEndpoint {
            device: port.device.clone(),
            vlan: port.vlan,
            bd: bd.clone(),
            mac,
            ips,
            sticky: endpoint.sticky,
        };
        for have in self.state.endpoints.iter().filter(|e| e.bd == *bd) {
            if have.mac != mac {
                if let Some(ip) = want.ips.iter().find(|ip| have.ips.contains(ip)) {
                    return Err(CommandError::AddressTaken {
                        ip: *ip,
                        owner: have.mac,
                        mac,
                    });
                }
                continue;
            }
            if have == &want {
                return Ok(None);
            }
            let there = PortName {
                device: have.device.clone(),
                vlan: have.vlan,
            };
            if there != *port {
                return Err(CommandError::EndpointElsewhere {
                    mac,
                    have: there,
                    want: port.clone(),
                });
            }
            return Err(CommandError::OtherEndpoint {
                mac,
                port: there,
                have: values(have),
                want: values(&want),
            });
        }
        Ok(Some(want))
    }

    fn clear_duplicates(&mut self, bd: Option<&BdName>, now: Instant) -> Result<(), CommandError> {
        let filter = self.filter(bd)?;
        let ids = self.names.values().copied();
        let ids: Vec<_> = ids.filter(|id| filter.is_none_or(|f| f == *id)).collect();
        for id in ids {
            if let Some(bd) = self.bd_mut(id) {
                bd.clear_duplicates(now);
            }
        }
        Ok(())
    }

    fn remove_endpoint(&mut self, port: &PortName, mac: Mac, now: Instant) {
        let is = |e: &SavedEndpoint| e.mac == mac && e.device == port.device && e.vlan == port.vlan;
        let bds: Vec<_> = self
            .state
            .endpoints
            .iter()
            .filter(|endpoint| is(endpoint))
            .filter_map(|endpoint| self.names.get(&endpoint.bd).copied())
            .collect();
        for bd in bds {
            if let Some(bd) = self.bd_mut(bd) {
                bd.undeclare(mac, now);
            }
        }
        let before = self.state.endpoints.len();
        self.state.endpoints.retain(|endpoint| !is(endpoint));
        self.state_dirty |= self.state.endpoints.len() != before;
        if let Some(slot) = self
            .ports
            .find(&port.device, port.vlan)
            .map(|port| port.slot)
        {
            self.sync_guard(slot);
        }
    }

    fn remove_port_command(&mut self, port: &PortName, now: Instant) -> Result<(), CommandError> {
        let is = |saved: &SavedPort| saved.device == port.device && saved.vlan == port.vlan;
        if !self.state.ports.iter().any(is) {
            let (claims, _) = self.ports.claims(&port.device);
            return match claims.get(&port.vlan.unwrap_or(0)) {
                Some(claim) => Err(CommandError::PortInConfig {
                    port: port.clone(),
                    bd: claim.bd.clone(),
                }),
                None => Ok(()),
            };
        }
        self.state.ports.retain(|saved| !is(saved));
        self.sync_claims();
        if let Some(ifindex) = self.ports.link_named(&port.device).map(|link| link.ifindex) {
            self.sync_device(ifindex, now);
        }
        // After the port, which knows its endpoints from the state.
        self.state
            .endpoints
            .retain(|e| (&e.device, e.vlan) != (&port.device, port.vlan));
        self.state_dirty = true;
        // A glob may claim it still.
        if let Some(slot) = self
            .ports
            .find(&port.device, port.vlan)
            .map(|port| port.slot)
        {
            self.sync_guard(slot);
        }
        Ok(())
    }
}

/// Addresses and stickiness of an endpoint, in the form of the command line.
fn values(endpoint: &SavedEndpoint) -> String {
    let mut text: Vec<_> = endpoint.ips.iter().map(|ip| format!("--ip {ip}")).collect();
    if endpoint.sticky {
        text.push("--sticky".to_owned());
    }
    if text.is_empty() {
        text.push("no addresses".to_owned());
    }
    text.join(" ")
}
