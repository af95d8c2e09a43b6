//! The maps as typed handles.

mod contents;
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, DevMapHash, HashMap, Map as AyaMap, MapData, MapError, PerCpuArray},
};
use vtep_common::abi::{
    AddressEntry, AddressKey, ArpKey, BdCounters, BdEntry, BdId, BdRef, EndpointEntry, EndpointKey,
    FdbEntry, FdbKey, FloodMember, GuardEntry, GuardKey, NdKey, NeighborEntry, NhGroup,
    PortCounters, PortEntry, PortKey, PortRef, Settings, SettingsFlags, SourceKey, TraceFilter,
    Traffic, VniKey, VtepEntry,
};

use super::{
    DataplaneError,
    counters::DatapathCounters,
    error::flat,
    hash::{Hash, refused},
    layout::OwnMaps,
    pins::Inheritance,
    read_back::{Content, stated},
};
use crate::{
    reconcile::{Map, Progress, TableError},
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
}

/// The revision after this one: never 0, with which programs remember nothing.
fn next(revision: u32) -> u32 {
    revision.wrapping_add(1).max(1)
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
