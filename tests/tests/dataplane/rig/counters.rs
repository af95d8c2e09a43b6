//! What the programs counted and reported.

use aya::{
    Pod,
    maps::{HashMap, MapData, RingBuf},
};
use vtep_common::{
    Mac,
    abi::{
        BdCounters, BdId, BdRef, DhcpEvent, Event, FdbEntry, FdbKey, Path, PortCounters, Stat,
        Trace, TraceFilter, Traffic,
    },
};

use super::Rig;

impl Rig {
    pub fn path(&mut self, path: Path) -> Traffic {
        self.per_cpu::<Traffic>("path_counters", path as u32)
            .iter()
            .fold(Traffic::default(), |sum, one| Traffic {
                packets: sum.packets + one.packets,
                bytes: sum.bytes + one.bytes,
            })
    }

    pub fn port_counters(&mut self, slot: u32) -> (u64, u64, u64) {
        self.per_cpu::<PortCounters>("port_counters", slot)
            .iter()
            .fold((0, 0, 0), |sum, one| {
                (
                    sum.0 + one.rx.packets,
                    sum.1 + one.tx.packets,
                    sum.2 + one.drops,
                )
            })
    }

    pub fn bd_counters(&mut self, bd: BdId) -> (u64, u64, u64) {
        self.per_cpu::<BdCounters>("bd_counters", u32::from(bd.0))
            .iter()
            .fold((0, 0, 0), |sum, one| {
                (
                    sum.0 + one.suppressed_arp,
                    sum.1 + one.suppressed_nd,
                    sum.2 + one.flood_copies,
                )
            })
    }

    pub fn stat(&mut self, stat: Stat) -> u64 {
        self.per_cpu::<u64>("stats", stat as u32).iter().sum()
    }

    pub fn seen(&mut self, bd: BdRef, mac: Mac) -> u64 {
        let map: HashMap<&MapData, FdbKey, FdbEntry> =
            self.ebpf.map("fdb").unwrap().try_into().unwrap();
        map.get(&FdbKey::new(bd.bd, mac), 0).unwrap().seen
    }

    /// Events since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        self.records("events")
    }

    /// DHCP messages that were reported since the last call, and nothing else was.
    pub fn dhcp(&mut self) -> Vec<DhcpEvent> {
        self.records("events")
    }

    /// Has frames traced, where the settings say so.
    pub fn trace(&mut self, filter: TraceFilter) {
        self.array("trace_filter", 0, filter);
    }

    /// Frames that were traced since the last call.
    pub fn traces(&mut self) -> Vec<Trace> {
        self.records("traces")
    }

    fn records<T: Pod>(&mut self, map: &str) -> Vec<T> {
        let map = self.ebpf.map_mut(map).unwrap();
        let mut ring: RingBuf<&mut MapData> = map.try_into().unwrap();
        let mut records = Vec::new();
        while let Some(item) = ring.next() {
            assert!(item.len() >= size_of::<T>());
            // SAFETY: plain data, and the record has at least its size.
            records.push(unsafe { std::ptr::read_unaligned(item.as_ptr().cast()) });
        }
        records
    }
}
