//! What the maps hold, for the reconciler's audit.

use vtep_common::abi::{FdbEntry, FdbKey, Settings};

use super::Maps;
use crate::{
    dataplane::{read_back::stated, sys},
    reconcile::{Contents, Entry, Map, Position, TableError},
};

impl Contents for Maps {
    fn read(
        &self,
        map: Map,
        from: Option<Position>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Option<Position>, TableError> {
        macro_rules! read {
            ($entry:path) => {
                self.part(map, from, |key, value| each($entry(key, value)))
            };
        }
        match map {
            // Written as a whole once a second, with what the core does not state.
            Map::Settings => self.part(map, from, |key, found: Settings| {
                each(Entry::Settings(key, stated(found)));
            }),
            // The stamp is the datapath's.
            Map::Fdb => self.part(map, from, |key: FdbKey, found: FdbEntry| {
                each(Entry::Fdb(key, found.word));
            }),
            Map::Vteps => read!(Entry::Vteps),
            Map::Groups => read!(Entry::Groups),
            Map::Ports => read!(Entry::Ports),
            Map::Flood => read!(Entry::Flood),
            Map::Bds => read!(Entry::Bds),
            Map::Arp => read!(Entry::Arp),
            Map::Nd => read!(Entry::Nd),
            Map::Sources => read!(Entry::Sources),
            Map::Guards => read!(Entry::Guards),
            Map::PortIndex => read!(Entry::PortIndex),
            Map::Vnis => read!(Entry::Vnis),
            Map::Endpoints => read!(Entry::Endpoints),
            Map::Addresses => read!(Entry::Addresses),
        }
    }
}

impl Maps {
    fn part<K: zerocopy::FromBytes, V: zerocopy::FromBytes>(
        &self,
        map: Map,
        from: Option<Position>,
        each: impl FnMut(K, V),
    ) -> Result<Option<Position>, TableError> {
        match self.descriptors.get(&map) {
            Some(descriptor) => Ok(sys::read_part(descriptor, from, each)?),
            None => Ok(None),
        }
    }
}
