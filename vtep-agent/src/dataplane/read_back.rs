//! What an earlier run left in the maps, read in bulk.

use std::{
    hash::Hash,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::maps::MapData;
use vtep_common::abi::{
    BdEntry, FdbEntry, FdbFlags, FdbKey, FloodMember, NhGroup, PortEntry, Settings, SettingsFlags,
    VtepEntry,
};
use zerocopy::FromBytes;

use super::{DataplaneError, error::flat, layout::Layouts, sys};
use crate::intent::{Installed, Intent, Table};

/// The content of all maps.
#[derive(Default)]
pub(super) struct Content {
    pub(super) installed: Installed,
    /// The clock that local MACs are stamped with: it goes on from here.
    pub(super) epoch: u64,
    /// Of the settings: the number that programs know what they remember by.
    pub(super) revision: u32,
    /// Inner TCP goes to the host's vxlan device.
    pub(super) tcp_to_device: bool,
}

impl Content {
    /// Reads the maps that are pinned in a directory, whose layout but for the sizes is ours.
    pub(super) fn read(maps: &Path) -> Result<Self, DataplaneError> {
        let map = |name: &'static str| Map::open(maps, name);
        let mut settings: Table<u32, Settings> = map("settings")?.array()?;
        let found = settings.get(0).copied().unwrap_or_default();
        settings = std::iter::once((0, stated(found))).collect();
        let fdb: Vec<(FdbKey, FdbEntry)> = map("fdb")?.entries()?;
        let idle = fdb
            .iter()
            .filter(|(_, entry)| entry.word.flags().has(FdbFlags::LOCAL))
            .map(|(key, entry)| {
                let seconds = found.epoch.saturating_sub(entry.seen);
                (*key, Duration::from_secs(seconds))
            })
            .collect();
        let tables = Intent {
            settings,
            vteps: map("vteps")?.array::<VtepEntry>()?,
            groups: map("groups")?.array::<NhGroup>()?,
            ports: map("ports")?.array::<PortEntry>()?,
            flood: map("flood")?.array::<FloodMember>()?,
            bds: map("bds")?.array::<BdEntry>()?,
            fdb: fdb
                .into_iter()
                .map(|(key, entry)| (key, entry.word))
                .collect(),
            arp: map("arp")?.hash()?,
            nd: map("nd")?.hash()?,
            sources: map("sources")?.hash()?,
            guards: map("guards")?.hash()?,
            port_index: map("port_index")?.hash()?,
            vnis: map("vnis")?.hash()?,
            endpoints: map("endpoints")?.hash()?,
            // An earlier version may not have had it.
            addresses: match maps.join("addresses").exists() {
                true => map("addresses")?.hash()?,
                false => Table::default(),
            },
        };
        Ok(Self {
            installed: Installed { tables, idle },
            epoch: found.epoch,
            revision: found.revision,
            tcp_to_device: found.flags.has(SettingsFlags::TCP_TO_DEVICE),
        })
    }

    /// Reads what every version understands, from the first of these directories that has it.
    pub(super) fn read_endpoints(
        versions: &[PathBuf],
        layouts: &Layouts,
    ) -> Result<Self, DataplaneError> {
        let mut content = Self::default();
        let readable = |maps: &Path, name| layouts.is_readable(name, &maps.join(name));
        if let Some(maps) = versions.iter().find(|maps| readable(maps, "endpoints")) {
            let tables = &mut content.installed.tables;
            tables.endpoints = Map::open(maps, "endpoints")?.hash()?;
            if readable(maps, "addresses") {
                tables.addresses = Map::open(maps, "addresses")?.hash()?;
            }
        }
        Ok(content)
    }
}

/// As the core states them: it says nothing of the clock, of what programs remember, of the vxlan device and
/// of who listens.
pub(super) fn stated(found: Settings) -> Settings {
    let unstated = SettingsFlags::TCP_TO_DEVICE.with(SettingsFlags::TRACE);
    Settings {
        epoch: 0,
        revision: 0,
        flags: SettingsFlags(found.flags.0 & !unstated.0),
        ..found
    }
}

/// A pinned map.
struct Map {
    name: &'static str,
    data: MapData,
}

impl Map {
    fn open(maps: &Path, name: &'static str) -> Result<Self, DataplaneError> {
        let path = maps.join(name);
        let data = MapData::from_pin(&path).map_err(|error| DataplaneError::Map {
            map: name,
            reason: flat(&error),
        })?;
        Ok(Self { name, data })
    }

    fn entries<K: FromBytes, V: FromBytes>(&self) -> Result<Vec<(K, V)>, DataplaneError> {
        sys::read_map(self.data.fd()).map_err(|error| DataplaneError::Map {
            map: self.name,
            reason: error.to_string(),
        })
    }

    fn hash<K, V>(&self) -> Result<Table<K, V>, DataplaneError>
    where
        K: FromBytes + Eq + Hash,
        V: FromBytes,
    {
        Ok(self.entries()?.into_iter().collect())
    }

    /// What is not zero.
    fn array<V>(&self) -> Result<Table<u32, V>, DataplaneError>
    where
        V: FromBytes + Default + PartialEq,
    {
        let entries = self.entries::<u32, V>()?.into_iter();
        Ok(entries
            .filter(|(_, value)| *value != V::default())
            .collect())
    }
}
