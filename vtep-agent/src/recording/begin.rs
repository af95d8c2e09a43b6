//! What a core begins with.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use vtep_common::abi::FdbKey;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    config::Config,
    core::{Core, Output, Start, State},
    intent::{Installed, Intent, Table},
};

/// Arguments of [`Core::new`] or [`Core::recover`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    config: Config,
    #[serde(with = "json")]
    state: State,
    /// For [`Core::recover`].
    installed: Option<Tables>,
}

/// [`Installed`], each table as octets: its keys and values as they are in the maps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tables {
    settings: Vec<u8>,
    vteps: Vec<u8>,
    groups: Vec<u8>,
    ports: Vec<u8>,
    flood: Vec<u8>,
    bds: Vec<u8>,
    fdb: Vec<u8>,
    arp: Vec<u8>,
    nd: Vec<u8>,
    sources: Vec<u8>,
    guards: Vec<u8>,
    port_index: Vec<u8>,
    vnis: Vec<u8>,
    endpoints: Vec<u8>,
    addresses: Vec<u8>,
    idle: BTreeMap<FdbKey, Duration>,
}

impl Begin {
    pub(super) fn new(config: Config, state: State, installed: Option<&Installed>) -> Self {
        Self {
            config,
            state,
            installed: installed.map(Tables::of),
        }
    }

    /// `None` when the tables that were inherited are damaged.
    pub(super) fn carry_out(self, now: Instant) -> Option<(Core, Vec<Output>)> {
        Some(match self.installed {
            None => Core::new(self.config, self.state, Start::default(), now),
            Some(tables) => Core::recover(self.config, self.state, &tables.installed()?, now),
        })
    }
}

impl Tables {
    fn of(installed: &Installed) -> Self {
        let tables = &installed.tables;
        Self {
            settings: octets(&tables.settings),
            vteps: octets(&tables.vteps),
            groups: octets(&tables.groups),
            ports: octets(&tables.ports),
            flood: octets(&tables.flood),
            bds: octets(&tables.bds),
            fdb: octets(&tables.fdb),
            arp: octets(&tables.arp),
            nd: octets(&tables.nd),
            sources: octets(&tables.sources),
            guards: octets(&tables.guards),
            port_index: octets(&tables.port_index),
            vnis: octets(&tables.vnis),
            endpoints: octets(&tables.endpoints),
            addresses: octets(&tables.addresses),
            idle: installed.idle.iter().map(|(k, v)| (*k, *v)).collect(),
        }
    }

    fn installed(self) -> Option<Installed> {
        Some(Installed {
            tables: Intent {
                settings: table(&self.settings)?,
                vteps: table(&self.vteps)?,
                groups: table(&self.groups)?,
                ports: table(&self.ports)?,
                flood: table(&self.flood)?,
                bds: table(&self.bds)?,
                fdb: table(&self.fdb)?,
                arp: table(&self.arp)?,
                nd: table(&self.nd)?,
                sources: table(&self.sources)?,
                guards: table(&self.guards)?,
                port_index: table(&self.port_index)?,
                vnis: table(&self.vnis)?,
                endpoints: table(&self.endpoints)?,
                addresses: table(&self.addresses)?,
            },
            idle: self.idle.into_iter().collect(),
        })
    }
}

fn octets<K, V>(table: &Table<K, V>) -> Vec<u8>
where
    K: Copy + Eq + std::hash::Hash + Immutable + IntoBytes,
    V: PartialEq + Immutable + IntoBytes,
{
    let mut octets = Vec::with_capacity(table.len() * (size_of::<K>() + size_of::<V>()));
    for (key, value) in table.iter() {
        octets.extend_from_slice(key.as_bytes());
        octets.extend_from_slice(value.as_bytes());
    }
    octets
}

fn table<K, V>(octets: &[u8]) -> Option<Table<K, V>>
where
    K: Eq + std::hash::Hash + FromBytes,
    V: FromBytes,
{
    let entries = octets.chunks(size_of::<K>() + size_of::<V>());
    let entry = |entry: &[u8]| {
        let (key, value) = K::read_from_prefix(entry).ok()?;
        Some((key, V::read_from_bytes(value).ok()?))
    };
    entries.map(entry).collect()
}

/// In the form that the state file has.
mod json {
    use super::{Deserialize, Deserializer, Serializer, State, de::Error as _, ser::Error as _};

    pub(super) fn serialize<S: Serializer>(
        state: &State,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(state).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<State, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
