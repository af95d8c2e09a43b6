//! The desired content of the BPF maps. The core writes it, the reconciler carries it out.

use std::{collections::hash_map, hash::Hash, time::Duration};

use vtep_common::abi::{
    AddressEntry, AddressKey, ArpKey, BdEntry, BdRef, EndpointEntry, EndpointKey, FdbKey, FdbWord,
    FloodMember, GuardEntry, GuardKey, NdKey, NeighborEntry, NhGroup, PortEntry, PortKey, PortRef,
    Settings, SourceKey, VniKey, VtepEntry,
};
use zerocopy::{Immutable, IntoBytes};

use crate::types::hash::HashMap;

/// One desired table. Remembers which keys were touched since [`Table::take_dirty`].
#[derive(Clone, Debug)]
pub struct Table<K, V> {
    entries: HashMap<K, V>,
    dirty: Dirty<K>,
}

/// Keys whose desired value changed, in the order of the changes; one that changed twice is there
/// twice. By what was done last, so that whoever removes need not look at what was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirty<K> {
    /// Something new was wanted here. Nothing may be by now: then it is among the removed, too.
    pub set: Vec<K>,
    /// Nothing was wanted here any more. Something may be again: then it is among the set, too.
    pub removed: Vec<K>,
}

/// All desired tables, by map name. An entry of an array that is not here is zero.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    /// `settings`, key 0. `epoch` is filled in by the dataplane.
    pub settings: Table<u32, Settings>,
    /// `vteps`
    pub vteps: Table<u32, VtepEntry>,
    /// `groups`
    pub groups: Table<u32, NhGroup>,
    /// `ports`, by slot.
    pub ports: Table<u32, PortEntry>,
    /// `flood`
    pub flood: Table<u32, FloodMember>,
    /// `bds`, by index.
    pub bds: Table<u32, BdEntry>,
    /// `fdb`; the stamp in the map is the datapath's own.
    pub fdb: Table<FdbKey, FdbWord>,
    /// `arp`
    pub arp: Table<ArpKey, NeighborEntry>,
    /// `nd`
    pub nd: Table<NdKey, NeighborEntry>,
    /// `sources`
    pub sources: Table<SourceKey, u32>,
    /// `guards`
    pub guards: Table<GuardKey, GuardEntry>,
    /// `port_index`
    pub port_index: Table<PortKey, PortRef>,
    /// `vnis`
    pub vnis: Table<VniKey, BdRef>,
    /// `endpoints`: for the next run.
    pub endpoints: Table<EndpointKey, EndpointEntry>,
    /// `addresses`: for the next run.
    pub addresses: Table<AddressKey, AddressEntry>,
}

/// What an earlier run left in the maps, as the datapath uses it at this moment.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    /// The tables, in the form in which they are desired. All are empty but `endpoints` and
    /// `addresses` when the maps cannot be taken over.
    pub tables: Intent,
    /// How long ago local MACs were seen.
    pub idle: HashMap<FdbKey, Duration>,
}

/// How far the lists of touched keys went at some time, by table.
#[derive(Clone, Debug, Default)]
pub struct Marks(Vec<(usize, usize)>);

impl Intent {
    /// To be given to [`Intent::changes_since`] before anybody takes the touched keys.
    pub fn marks(&self) -> Marks {
        let mut marks = Vec::with_capacity(self.tables().len());
        marks.extend(self.tables().iter().map(|table| table.touched()));
        Marks(marks)
    }

    /// Writes down what was touched since then, in order, with what is wanted there now.
    pub fn changes_since(&self, Marks(marks): &Marks, write: &mut dyn FnMut(&[u8])) {
        for (table, mark) in self.tables().iter().zip(marks) {
            table.write_since(*mark, write);
        }
    }

    fn tables(&self) -> [&dyn Touched; 15] {
        let Self {
            settings,
            vteps,
            groups,
            ports,
            flood,
            bds,
            fdb,
            arp,
            nd,
            sources,
            guards,
            port_index,
            vnis,
            endpoints,
            addresses,
        } = self;
        [
            settings, vteps, groups, ports, flood, bds, fdb, arp, nd, sources, guards, port_index,
            vnis, endpoints, addresses,
        ]
    }
}

/// A table, whatever is in it.
trait Touched {
    /// How many keys are in its lists.
    fn touched(&self) -> (usize, usize);

    /// Those after that, and what is wanted there.
    fn write_since(&self, mark: (usize, usize), write: &mut dyn FnMut(&[u8]));
}

impl<K, V> Touched for Table<K, V>
where
    K: Eq + Hash + Immutable + IntoBytes,
    V: Immutable + IntoBytes,
{
    fn touched(&self) -> (usize, usize) {
        (self.dirty.set.len(), self.dirty.removed.len())
    }

    fn write_since(&self, (set, removed): (usize, usize), write: &mut dyn FnMut(&[u8])) {
        for key in self.dirty.set.iter().skip(set) {
            write(key.as_bytes());
            let value = self.entries.get(key);
            write(value.map_or(&[], IntoBytes::as_bytes));
        }
        for key in self.dirty.removed.iter().skip(removed) {
            write(key.as_bytes());
        }
    }
}

impl Installed {
    /// The same, made anew by order of keys: what follows from the order of the tables then follows
    /// from what is in them.
    #[must_use]
    pub fn in_order(&self) -> Self {
        let tables = &self.tables;
        let idle: Table<_, _> = self.idle.iter().map(|(key, time)| (*key, *time)).collect();
        Self {
            tables: Intent {
                settings: tables.settings.in_order(),
                vteps: tables.vteps.in_order(),
                groups: tables.groups.in_order(),
                ports: tables.ports.in_order(),
                flood: tables.flood.in_order(),
                bds: tables.bds.in_order(),
                fdb: tables.fdb.in_order(),
                arp: tables.arp.in_order(),
                nd: tables.nd.in_order(),
                sources: tables.sources.in_order(),
                guards: tables.guards.in_order(),
                port_index: tables.port_index.in_order(),
                vnis: tables.vnis.in_order(),
                endpoints: tables.endpoints.in_order(),
                addresses: tables.addresses.in_order(),
            },
            idle: idle.in_order().entries,
        }
    }
}

impl<K: Copy + Eq + Hash + Immutable + IntoBytes, V: Clone> Table<K, V> {
    /// The same entries, with nothing touched.
    fn in_order(&self) -> Self {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        let entries = entries.into_iter();
        entries.map(|(key, value)| (*key, value.clone())).collect()
    }
}

impl<K: Copy + Eq + Hash, V: PartialEq> Table<K, V> {
    /// Wants `value` at `key`.
    pub fn set(&mut self, key: K, value: V) {
        match self.entries.entry(key) {
            hash_map::Entry::Occupied(mut entry) => {
                if *entry.get() == value {
                    return;
                }
                entry.insert(value);
            }
            hash_map::Entry::Vacant(entry) => {
                entry.insert(value);
            }
        }
        self.dirty.set.push(key);
    }

    /// Wants nothing at `key`.
    pub fn remove(&mut self, key: K) -> Option<V> {
        if self.entries.is_empty() {
            return None;
        }
        let removed = self.entries.remove(&key)?;
        self.dirty.removed.push(key);
        Some(removed)
    }

    /// Moves the keys whose desired value changed since the last call to the end of these lists.
    pub fn take_dirty(&mut self, into: &mut Dirty<K>) {
        into.set.append(&mut self.dirty.set);
        into.removed.append(&mut self.dirty.removed);
    }

    /// The desired value.
    pub fn get(&self, key: K) -> Option<&V> {
        self.entries.get(&key)
    }

    /// Number of desired entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is desired.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All desired entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.entries.iter().map(|(key, value)| (*key, value))
    }
}

/// As it is: nothing is touched.
impl<K: Eq + Hash, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self {
            entries: entries.into_iter().collect(),
            dirty: Dirty::default(),
        }
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::default(),
            dirty: Dirty::default(),
        }
    }
}

impl<K> Default for Dirty<K> {
    fn default() -> Self {
        Self {
            set: Vec::new(),
            removed: Vec::new(),
        }
    }
}
