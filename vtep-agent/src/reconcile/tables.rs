//! What the reconciler writes to.

use std::io;

use vtep_common::abi::{
    AddressEntry, AddressKey, ArpKey, BdEntry, BdRef, EndpointEntry, EndpointKey, FdbKey, FdbWord,
    FloodMember, GuardEntry, GuardKey, NdKey, NeighborEntry, NhGroup, PortEntry, PortKey, PortRef,
    Settings, SourceKey, VniKey, VtepEntry,
};

/// The maps. Writing is idempotent: an entry that is there already with this value, or gone already,
/// is done.
pub trait Tables {
    /// Writes one entry. An FDB entry starts its life now: its stamp becomes the current epoch.
    ///
    /// # Errors
    ///
    /// [`TableError::Full`] when a hash table has no room for a new key.
    fn update(&mut self, entry: Entry) -> Result<(), TableError>;

    /// Removes one entry: a key of a hash table goes, an entry of an array becomes zero.
    ///
    /// # Errors
    ///
    /// [`TableError::Refused`]
    fn delete(&mut self, key: Key) -> Result<(), TableError>;

    /// Writes entries of one map, up to the first that is refused. Some of those after it may have been
    /// written, too.
    fn update_all(&mut self, entries: Entries<'_>) -> Progress {
        Progress::of(entries.iter().map(|entry| self.update(entry)))
    }

    /// Removes entries of one map, as [`Tables::update_all`] writes them.
    fn delete_all(&mut self, keys: Keys<'_>) -> Progress {
        Progress::of(keys.iter().map(|key| self.delete(key)))
    }

    /// Most entries of a map.
    fn capacity(&self, map: Map) -> u32;
}

/// How far a sequence of operations came.
#[derive(Debug, Default)]
pub struct Progress {
    /// So many from the first on are done.
    pub done: usize,
    /// Why the one after them is not. What comes after that one is still to be tried.
    pub refused: Option<TableError>,
}

/// Of a single operation.
impl From<Progress> for Result<(), TableError> {
    fn from(progress: Progress) -> Self {
        progress.refused.map_or(Ok(()), Err)
    }
}

impl Progress {
    /// Operations one by one, each carried out when it is its turn.
    pub fn of(operations: impl Iterator<Item = Result<(), TableError>>) -> Self {
        let mut progress = Self::default();
        for operation in operations {
            match operation {
                Ok(()) => progress.done += 1,
                Err(error) => {
                    progress.refused = Some(error);
                    break;
                }
            }
        }
        progress
    }
}

/// Why an entry was not written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The map has no room for another key (`E2BIG`, `ENOSPC`).
    #[error("the map is full")]
    Full,
    /// The kernel said no, perhaps after a part was done: the entry is to be written again, or
    /// removed, whatever it was before.
    #[error(transparent)]
    Refused(#[from] io::Error),
}

macro_rules! maps {
    ($($(#[$doc:meta])* $map:ident($name:literal, $array:literal): $key:ty => $value:ty,)*) => {
        /// The maps that the reconciler writes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Map {
            $($(#[$doc])* $map,)*
        }

        /// An entry to write.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Entry {
            $($(#[$doc])* $map($key, $value),)*
        }

        /// An entry to remove.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Key {
            $($(#[$doc])* $map($key),)*
        }

        /// Entries of one map.
        #[derive(Clone, Copy, Debug)]
        pub enum Entries<'a> {
            $($(#[$doc])* $map(&'a [($key, $value)]),)*
        }

        /// Keys of one map.
        #[derive(Clone, Copy, Debug)]
        pub enum Keys<'a> {
            $($(#[$doc])* $map(&'a [$key]),)*
        }

        impl<'a> Entries<'a> {
            /// One by one.
            pub fn iter(self) -> Box<dyn Iterator<Item = Entry> + 'a> {
                match self {
                    $(Self::$map(entries) => Box::new(
                        entries.iter().map(|(key, value)| Entry::$map(*key, *value)),
                    ),)*
                }
            }
        }

        impl<'a> Keys<'a> {
            /// One by one.
            pub fn iter(self) -> Box<dyn Iterator<Item = Key> + 'a> {
                match self {
                    $(Self::$map(keys) => Box::new(keys.iter().copied().map(Key::$map)),)*
                }
            }
        }

        impl Map {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$map),*];

            /// Its name in the kernel and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$map => $name,)* }
            }

            /// An array has every index, always; what is not wanted is zero.
            pub const fn is_array(self) -> bool {
                match self { $(Self::$map => $array,)* }
            }
        }

        impl Entry {
            /// The map that it is for.
            pub const fn map(&self) -> Map {
                match self { $(Self::$map(..) => Map::$map,)* }
            }

            /// Where it goes.
            pub const fn key(&self) -> Key {
                match self { $(Self::$map(key, _) => Key::$map(*key),)* }
            }
        }

        impl Key {
            /// The map that it is for.
            pub const fn map(&self) -> Map {
                match self { $(Self::$map(_) => Map::$map,)* }
            }
        }
    };
}

maps! {
    /// The agent's settings, key 0. The dataplane fills in the epoch.
    Settings("settings", true): u32 => Settings,
    /// Remote VTEPs.
    Vteps("vteps", true): u32 => VtepEntry,
    /// Next-hop groups.
    Groups("groups", true): u32 => NhGroup,
    /// Ports by slot.
    Ports("ports", true): u32 => PortEntry,
    /// Members of flood lists.
    Flood("flood", true): u32 => FloodMember,
    /// Bridge domains.
    Bds("bds", true): u32 => BdEntry,
    /// MACs.
    Fdb("fdb", false): FdbKey => FdbWord,
    /// IPv4 neighbours.
    Arp("arp", false): ArpKey => NeighborEntry,
    /// IPv6 neighbours.
    Nd("nd", false): NdKey => NeighborEntry,
    /// VTEPs from which frames are accepted.
    Sources("sources", false): SourceKey => u32,
    /// What ports with declared endpoints may send from.
    Guards("guards", false): GuardKey => GuardEntry,
    /// Devices and VLANs to slots.
    PortIndex("port_index", false): PortKey => PortRef,
    /// VNIs to bridge domains.
    Vnis("vnis", false): VniKey => BdRef,
    /// Local endpoints, for the next run.
    Endpoints("endpoints", false): EndpointKey => EndpointEntry,
    /// Their addresses, for the next run.
    Addresses("addresses", false): AddressKey => AddressEntry,
}
