//! The maps as typed handles, and the reconciler's writes to them.

mod contents;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use aya::{
    Ebpf, Pod,
    maps::{
        Array, DevMapHash, HashMap, Map as AyaMap, MapData, MapError, PerCpuArray, PerCpuValues,
    },
};
use vtep_common::abi::{
    AddressEntry, AddressKey, ArpKey, BdCounters, BdEntry, BdId, BdRef, EndpointEntry, EndpointKey,
    FdbEntry, FdbFlags, FdbKey, FdbWord, FloodMember, GuardEntry, GuardKey, NdKey, NeighborEntry,
    NhGroup, PortCounters, PortEntry, PortFlags, PortKey, PortRef, Settings, SettingsFlags,
    SourceKey, TraceFilter, Traffic, VniKey, VtepEntry,
};

use super::{
    DataplaneError,
    counters::DatapathCounters,
    error::flat,
    hash::{Hash, gone, insert, refused, remove},
    layout::OwnMaps,
    pins::Inheritance,
    read_back::{Content, stated},
};
use crate::{
    reconcile::{Entries, Entry, Key, Keys, Map, Progress, TableError, Tables},
    types::hash::HashSet,
};

/// Handles of all maps but `events`, and what has to be known of their content.
pub(super) struct Maps {
    settings: Array<MapData, Settings>,
    vteps: Array<MapData, VtepEntry>,
    groups: Array<MapData, NhGroup>,
    ports: Array<MapData, PortEntry>,
    flood: Array<MapData, FloodMember>,
    bds: Array<MapData, BdEntry>,
    fdb: Hash<FdbKey, FdbEntry>,
    arp: Hash<ArpKey, NeighborEntry>,
    nd: Hash<NdKey, NeighborEntry>,
    sources: Hash<SourceKey, u32>,
    guards: Hash<GuardKey, GuardEntry>,
    port_index: Hash<PortKey, PortRef>,
    vnis: Hash<VniKey, BdRef>,
    endpoints: Hash<EndpointKey, EndpointEntry>,
    addresses: Hash<AddressKey, AddressEntry>,
    redirect: DevMapHash<MapData>,
    pub(super) drops: PerCpuArray<MapData, u64>,
    pub(super) paths: PerCpuArray<MapData, Traffic>,
    pub(super) stats: PerCpuArray<MapData, u64>,
    pub(super) port_counters: PerCpuArray<MapData, PortCounters>,
    pub(super) bd_counters: PerCpuArray<MapData, BdCounters>,
    /// To be read from: the typed handles keep theirs to themselves.
    descriptors: BTreeMap<Map, OwnedFd>,
    capacity: BTreeMap<Map, u32>,
    /// Last settings written; the epoch is the current one.
    current: Settings,
    /// Added to the settings: the vxlan device is there, which the core does not know.
    tcp_to_device: bool,
    trace_filter: Array<MapData, TraceFilter>,
    /// Added to the settings: somebody listens.
    traced: bool,
    /// Slots in use.
    pub(super) active_ports: BTreeMap<u32, PortEntry>,
    /// Bridge domains in use.
    pub(super) active_bds: BTreeSet<BdId>,
    /// What had been counted when the operator last cleared the counters. The maps themselves are
    /// never cleared under the programs, and metrics go on.
    pub(super) cleared: DatapathCounters,
    /// Keys of `fdb` that are behind a port: the ones that have a stamp.
    local: HashSet<FdbKey>,
}

impl Maps {
    /// Takes the maps out of a loaded object, to join those that are the agent's own.
    pub(super) fn take(ebpf: &mut Ebpf, own: OwnMaps) -> Result<Self, DataplaneError> {
        let (mut capacity, mut descriptors) = (BTreeMap::new(), BTreeMap::new());
        for &map in Map::ALL {
            let data = match map {
                Map::Endpoints => &own.endpoints,
                Map::Addresses => &own.addresses,
                _ => data(ebpf, map.name())?,
            };
            let info = data.info();
            let info = info.map_err(|error| unusable(map.name(), &error))?;
            capacity.insert(map, info.max_entries());
            descriptors.insert(map, descriptor(data)?);
        }
        Ok(Self {
            settings: take(ebpf, "settings")?,
            vteps: take(ebpf, "vteps")?,
            groups: take(ebpf, "groups")?,
            ports: take(ebpf, "ports")?,
            flood: take(ebpf, "flood")?,
            bds: take(ebpf, "bds")?,
            fdb: take(ebpf, "fdb")?,
            arp: take(ebpf, "arp")?,
            nd: take(ebpf, "nd")?,
            sources: take(ebpf, "sources")?,
            guards: take(ebpf, "guards")?,
            port_index: take(ebpf, "port_index")?,
            vnis: take(ebpf, "vnis")?,
            endpoints: HashMap::try_from(AyaMap::HashMap(own.endpoints))
                .map_err(|error| unusable("endpoints", &error))?,
            addresses: HashMap::try_from(AyaMap::HashMap(own.addresses))
                .map_err(|error| unusable("addresses", &error))?,
            redirect: take(ebpf, "redirect")?,
            drops: take(ebpf, "drops")?,
            paths: take(ebpf, "path_counters")?,
            stats: take(ebpf, "stats")?,
            port_counters: take(ebpf, "port_counters")?,
            bd_counters: take(ebpf, "bd_counters")?,
            descriptors,
            capacity,
            current: Settings::default(),
            tcp_to_device: false,
            trace_filter: take(ebpf, "trace_filter")?,
            traced: false,
            active_ports: BTreeMap::new(),
            active_bds: BTreeSet::new(),
            cleared: DatapathCounters::default(),
            local: HashSet::default(),
        })
    }

    /// Goes on from what an earlier run left.
    pub(super) fn inherit(&mut self, inheritance: Inheritance, content: &Content) {
        self.current.epoch = content.epoch;
        // What the earlier run has changed last, it may have had no time to say.
        self.current.revision = next(content.revision);
        self.tcp_to_device = content.tcp_to_device;
        if inheritance != Inheritance::Maps {
            return;
        }
        let tables = &content.installed.tables;
        let settings = tables.settings.get(0).copied().unwrap_or_default();
        self.current = Settings {
            epoch: self.current.epoch,
            revision: self.current.revision,
            ..settings
        };
        self.active_ports = tables
            .ports
            .iter()
            .map(|(slot, port)| (slot, *port))
            .collect();
        self.active_bds = tables.bds.iter().map(|(id, _)| BdId(id as u16)).collect();
        self.local = content.installed.idle.keys().copied().collect();
    }

    /// The last value of the clock that the datapath stamps local MACs with.
    pub(super) fn epoch(&self) -> u64 {
        self.current.epoch
    }

    /// Sets the clock that the datapath stamps into `fdb`, seconds.
    pub(super) fn set_epoch(&mut self, epoch: u64) -> Result<(), TableError> {
        if self.current.epoch == epoch {
            return Ok(());
        }
        self.write_settings(Settings {
            epoch,
            ..self.current
        })
    }

    /// How long ago each local MAC was last seen. One lookup for each: a host has few of its own,
    /// whatever the size of the fabric.
    pub(super) fn idle(&self) -> Result<Vec<(FdbKey, Duration)>, DataplaneError> {
        let mut idle = Vec::with_capacity(self.local.len());
        for key in &self.local {
            match self.fdb.get(key, 0) {
                Ok(entry) => {
                    let seconds = self.current.epoch.saturating_sub(entry.seen);
                    idle.push((*key, Duration::from_secs(seconds)));
                }
                Err(MapError::KeyNotFound) => {}
                Err(error) => {
                    return Err(DataplaneError::Map {
                        map: "fdb",
                        reason: flat(&error),
                    });
                }
            }
        }
        Ok(idle)
    }

    /// Whether inner TCP goes to the host's vxlan device.
    pub(super) fn set_tcp_to_device(&mut self, on: bool) -> Result<(), DataplaneError> {
        if self.tcp_to_device == on {
            return Ok(());
        }
        self.tcp_to_device = on;
        self.write_settings(self.current)
            .map_err(|error| DataplaneError::Map {
                map: "settings",
                reason: flat(&error),
            })
    }

    /// Has frames traced. The programs learn of it when the filter is there.
    pub(super) fn set_trace(&mut self, filter: Option<TraceFilter>) -> Result<(), DataplaneError> {
        let failed = |map: &'static str, reason: String| DataplaneError::Map { map, reason };
        if let Some(filter) = filter {
            let written = self.trace_filter.set(0, filter, 0);
            written.map_err(|error| failed("trace_filter", flat(&error)))?;
        }
        self.traced = filter.is_some();
        self.write_settings(self.current)
            .map_err(|error| failed("settings", flat(&error)))
    }

    /// Writes what the core states, and then makes programs forget what they found by the old settings:
    /// an entry is not written at once.
    fn state_settings(&mut self, settings: Settings) -> Result<(), TableError> {
        self.write_settings(Settings {
            epoch: self.current.epoch,
            revision: self.current.revision,
            ..settings
        })?;
        self.outdate()
    }

    /// Makes programs forget what they remember, after something that they may remember has changed.
    fn outdate(&mut self) -> Result<(), TableError> {
        self.write_settings(Settings {
            revision: next(self.current.revision),
            ..self.current
        })
    }

    /// As above, when there was such a change among those operations.
    fn outdate_after(&mut self, progress: Progress, changed: bool) -> Progress {
        if changed && let Err(error) = self.outdate() {
            return Progress {
                done: 0,
                refused: Some(error),
            };
        }
        progress
    }

    fn write_settings(&mut self, mut settings: Settings) -> Result<(), TableError> {
        settings.flags = stated(settings)
            .flags
            .with_if(SettingsFlags::TCP_TO_DEVICE, self.tcp_to_device)
            .with_if(SettingsFlags::TRACE, self.traced);
        self.settings.set(0, settings, 0).map_err(refused)?;
        self.current = settings;
        Ok(())
    }

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

/// The revision after this one: never 0, with which programs remember nothing.
fn next(revision: u32) -> u32 {
    revision.wrapping_add(1).max(1)
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

fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, DataplaneError>
where
    M: TryFrom<AyaMap, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
    M::try_from(map).map_err(|error| unusable(name, &error))
}

/// The map of this name, of a kind that the agent uses.
fn data<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a MapData, DataplaneError> {
    match ebpf.map(name) {
        Some(
            AyaMap::Array(data)
            | AyaMap::HashMap(data)
            | AyaMap::PerCpuArray(data)
            | AyaMap::DevMapHash(data),
        ) => Ok(data),
        Some(_) => Err(DataplaneError::Object {
            reason: format!("map {name} is of another kind than the agent expects"),
        }),
        None => Err(missing(name)),
    }
}

/// Another descriptor of the map.
fn descriptor(map: &MapData) -> Result<OwnedFd, DataplaneError> {
    let descriptor = map.fd().as_fd().try_clone_to_owned();
    descriptor.map_err(|error| DataplaneError::Object {
        reason: format!("cannot duplicate the descriptor of a map: {error}"),
    })
}

fn missing(name: &str) -> DataplaneError {
    DataplaneError::Object {
        reason: format!("it has no map {name}"),
    }
}

fn unusable(name: &'static str, error: &MapError) -> DataplaneError {
    DataplaneError::Map {
        map: name,
        reason: flat(error),
    }
}
