//! The reconciler's writes, and what goes with each: counters, `redirect`, what programs remember.

use std::io;

use aya::{
    Pod,
    maps::{Array, MapData, PerCpuArray, PerCpuValues},
};
use vtep_common::abi::{
    BdEntry, BdId, FdbEntry, FdbFlags, FdbKey, FdbWord, PortEntry, PortFlags, Settings,
};

use super::Maps;
use crate::{
    dataplane::{
        error::flat,
        hash::{gone, insert, refused, remove},
    },
    reconcile::{Entries, Entry, Key, Keys, Map, Progress, TableError, Tables},
};

impl Tables for Maps {
    fn update(&mut self, entry: Entry) -> Result<(), TableError> {
        match entry {
            Entry::Settings(_, settings) => self.state_settings(settings),
            Entry::Ports(slot, port) => self.write_port(slot, port),
            Entry::Bds(id, bd) => self.write_bd(id, bd),
            Entry::Fdb(key, word) => self.write_fdb(&[(key, word)]).into(),
            Entry::Vteps(index, vtep) => self.vteps.set(index, vtep, 0).map_err(refused),
            Entry::Groups(index, group) => self.groups.set(index, group, 0).map_err(refused),
            Entry::Flood(index, member) => self.flood.set(index, member, 0).map_err(refused),
            Entry::Arp(key, neighbor) => self.arp.insert(key, neighbor, 0).map_err(refused),
            Entry::Nd(key, neighbor) => self.nd.insert(key, neighbor, 0).map_err(refused),
            Entry::Sources(key, one) => self.sources.insert(key, one, 0).map_err(refused),
            Entry::Guards(key, guard) => self.guards.insert(key, guard, 0).map_err(refused),
            Entry::PortIndex(key, port) => {
                self.port_index.insert(key, port, 0).map_err(refused)?;
                self.outdate()
            }
            Entry::Vnis(vni, bd) => {
                self.vnis.insert(vni, bd, 0).map_err(refused)?;
                self.outdate()
            }
            Entry::Endpoints(key, endpoint) => {
                self.endpoints.insert(key, endpoint, 0).map_err(refused)
            }
            Entry::Addresses(key, address) => {
                self.addresses.insert(key, address, 0).map_err(refused)
            }
        }
    }

    fn delete(&mut self, key: Key) -> Result<(), TableError> {
        match key {
            Key::Settings(_) => self.state_settings(Settings::default()),
            Key::Ports(slot) => self.clear_port(slot),
            Key::Bds(id) => self.clear_bd(id),
            Key::Vteps(index) => zero(&mut self.vteps, index),
            Key::Groups(index) => zero(&mut self.groups, index),
            Key::Flood(index) => zero(&mut self.flood, index),
            Key::Fdb(key) => self.remove_fdb(&[key]).into(),
            Key::Arp(key) => gone(self.arp.remove(&key)),
            Key::Nd(key) => gone(self.nd.remove(&key)),
            Key::Sources(key) => {
                gone(self.sources.remove(&key))?;
                self.outdate()
            }
            Key::Guards(key) => gone(self.guards.remove(&key)),
            Key::PortIndex(key) => {
                gone(self.port_index.remove(&key))?;
                self.outdate()
            }
            Key::Vnis(vni) => {
                gone(self.vnis.remove(&vni))?;
                self.outdate()
            }
            Key::Endpoints(key) => gone(self.endpoints.remove(&key)),
            Key::Addresses(key) => gone(self.addresses.remove(&key)),
        }
    }

    fn update_all(&mut self, entries: Entries<'_>) -> Progress {
        match entries {
            Entries::Fdb(entries) => self.write_fdb(entries),
            Entries::Arp(entries) => insert(&mut self.arp, entries, |value| *value),
            Entries::Nd(entries) => insert(&mut self.nd, entries, |value| *value),
            Entries::Endpoints(entries) => insert(&mut self.endpoints, entries, |value| *value),
            Entries::Addresses(entries) => insert(&mut self.addresses, entries, |value| *value),
            Entries::Sources(entries) => insert(&mut self.sources, entries, |value| *value),
            others => Progress::of(others.iter().map(|entry| self.update(entry))),
        }
    }

    fn delete_all(&mut self, keys: Keys<'_>) -> Progress {
        match keys {
            Keys::Fdb(keys) => self.remove_fdb(keys),
            Keys::Arp(keys) => remove(&mut self.arp, keys),
            Keys::Nd(keys) => remove(&mut self.nd, keys),
            Keys::Endpoints(keys) => remove(&mut self.endpoints, keys),
            Keys::Addresses(keys) => remove(&mut self.addresses, keys),
            Keys::Sources(keys) => {
                let progress = remove(&mut self.sources, keys);
                self.outdate_after(progress, true)
            }
            others => Progress::of(others.iter().map(|key| self.delete(key))),
        }
    }

    fn capacity(&self, map: Map) -> u32 {
        self.capacity.get(&map).copied().unwrap_or_default()
    }
}

impl Maps {
    fn write_fdb(&mut self, entries: &[(FdbKey, FdbWord)]) -> Progress {
        let seen = self.current.epoch;
        let entry = |word: &FdbWord| FdbEntry::new(*word, seen);
        let progress = insert(&mut self.fdb, entries, entry);
        let mut moved = false;
        for (key, word) in entries.iter().take(progress.done) {
            if word.flags().has(FdbFlags::LOCAL) {
                moved |= !self.local.insert(*key);
            } else if !self.local.is_empty() {
                moved |= self.local.remove(key);
            }
        }
        self.outdate_after(progress, moved)
    }

    fn remove_fdb(&mut self, keys: &[FdbKey]) -> Progress {
        let progress = remove(&mut self.fdb, keys);
        let mut gone = false;
        if !self.local.is_empty() {
            for key in keys.iter().take(progress.done) {
                gone |= self.local.remove(key);
            }
        }
        self.outdate_after(progress, gone)
    }

    /// Writes a port and its entry in `redirect`. When the device map refuses the device, frames go
    /// through TC, and the error makes the reconciler try again.
    fn write_port(&mut self, slot: u32, port: PortEntry) -> Result<(), TableError> {
        if !self.active_ports.contains_key(&slot) {
            // The slot's last user had counters, too.
            reset(&mut self.port_counters, slot)?;
            self.cleared.ports.remove(&slot);
        }
        let redirected = if takes_xdp(&port) {
            self.redirect
                .insert(port.ifindex, port.ifindex, None, 0)
                .map_err(|error| TableError::Refused(io::Error::other(flat(&error))))
        } else {
            Ok(())
        };
        let mut written = port;
        if redirected.is_err() {
            written.flags = PortFlags(port.flags.0 & !PortFlags::REDIRECT_XDP.0);
        }
        self.ports.set(slot, written, 0).map_err(refused)?;
        if let Some(old) = self.active_ports.insert(slot, written) {
            self.forget_redirect(&old);
        }
        redirected
    }

    fn clear_port(&mut self, slot: u32) -> Result<(), TableError> {
        self.ports
            .set(slot, PortEntry::default(), 0)
            .map_err(refused)?;
        if let Some(old) = self.active_ports.remove(&slot) {
            self.forget_redirect(&old);
        }
        Ok(())
    }

    /// Takes a device out of `redirect` when no port needs it there any more. The kernel does the
    /// same when the device goes, hence nothing to remove is fine; an entry that stays is never
    /// looked up.
    fn forget_redirect(&mut self, port: &PortEntry) {
        let needed = self
            .active_ports
            .values()
            .any(|other| other.ifindex == port.ifindex && takes_xdp(other));
        if takes_xdp(port)
            && !needed
            && let Err(error) = gone(self.redirect.remove(port.ifindex))
        {
            tracing::debug!(ifindex = port.ifindex, %error, "redirect entry stays");
        }
    }

    fn write_bd(&mut self, id: u32, bd: BdEntry) -> Result<(), TableError> {
        let key = BdId(id as u16);
        if !self.active_bds.contains(&key) {
            reset(&mut self.bd_counters, id)?;
            self.cleared.bds.remove(&key);
        }
        self.bds.set(id, bd, 0).map_err(refused)?;
        self.active_bds.insert(key);
        Ok(())
    }

    fn clear_bd(&mut self, id: u32) -> Result<(), TableError> {
        self.bds.set(id, BdEntry::default(), 0).map_err(refused)?;
        self.active_bds.remove(&BdId(id as u16));
        Ok(())
    }
}

/// XDP may hand frames to this port's device.
fn takes_xdp(port: &PortEntry) -> bool {
    port.flags
        .has(PortFlags::ACTIVE.with(PortFlags::REDIRECT_XDP))
}

fn zero<V: Pod + Default>(map: &mut Array<MapData, V>, index: u32) -> Result<(), TableError> {
    map.set(index, V::default(), 0).map_err(refused)
}

fn reset<V: Pod + Default>(
    map: &mut PerCpuArray<MapData, V>,
    index: u32,
) -> Result<(), TableError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    let zeros = PerCpuValues::try_from(vec![V::default(); cpus])?;
    map.set(index, zeros, 0).map_err(refused)
}
