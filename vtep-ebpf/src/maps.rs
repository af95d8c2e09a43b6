//! The maps. Names, keys and values are `vtep_common::abi`'s; the last four are private state.
#![expect(
    non_upper_case_globals,
    reason = "the names of the maps, as users see them"
)]

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, DevMapHash, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use vtep_common::{
    DropReason,
    abi::{
        ArpKey, BdCounters, BdEntry, BdId, BdRef, DEFAULT_MAX_MACS, EVENT_RING_BYTES, Event,
        FdbEntry, FdbKey, FdbWord, FloodMember, GuardEntry, GuardKey, MAX_BDS, MAX_FLOOD_MEMBERS,
        MAX_GROUPS, MAX_GUARDS, MAX_PORTS, MAX_VTEPS, NdKey, NeighborEntry, NhGroup, Path,
        PortCounters, PortEntry, PortKey, PortRef, Settings, SourceKey, Stat, TRACE_RING_BYTES,
        Trace, TraceFilter, Traffic, VniKey, VtepEntry,
    },
    wire::Tables,
};

use crate::memory::{self, Remembered};

const MACS: usize = DEFAULT_MAX_MACS as usize;
const BDS: usize = MAX_BDS as usize;
const PORTS: usize = MAX_PORTS as usize;
const SOURCES: usize = 65_536;
const GUARDS: usize = MAX_GUARDS as usize;

#[btf_map]
static settings: Array<Settings, 1> = Array::new();
#[btf_map]
static vnis: HashMap<VniKey, BdRef, BDS> = HashMap::new();
#[btf_map]
static bds: Array<BdEntry, BDS> = Array::new();
#[btf_map]
static fdb: HashMap<FdbKey, FdbEntry, MACS> = HashMap::new();
#[btf_map]
pub static groups: Array<NhGroup, { MAX_GROUPS as usize }> = Array::new();
#[btf_map]
pub static vteps: Array<VtepEntry, { MAX_VTEPS as usize }> = Array::new();
#[btf_map]
static port_index: HashMap<PortKey, PortRef, PORTS> = HashMap::new();
#[btf_map]
static ports: Array<PortEntry, PORTS> = Array::new();
#[btf_map]
pub static flood: Array<FloodMember, { MAX_FLOOD_MEMBERS as usize }> = Array::new();
#[btf_map]
static arp: HashMap<ArpKey, NeighborEntry, MACS> = HashMap::new();
#[btf_map]
static nd: HashMap<NdKey, NeighborEntry, MACS> = HashMap::new();
#[btf_map]
static sources: HashMap<SourceKey, u32, SOURCES> = HashMap::new();
/// Not preallocated: few hosts declare that many endpoints.
#[btf_map]
static guards: HashMap<GuardKey, GuardEntry, GUARDS, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();
#[btf_map]
pub static drops: PerCpuArray<u64, { DropReason::CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub static path_counters: PerCpuArray<Traffic, { Path::CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub static port_counters: PerCpuArray<PortCounters, PORTS> = PerCpuArray::new();
#[btf_map]
pub static bd_counters: PerCpuArray<BdCounters, BDS> = PerCpuArray::new();
#[btf_map]
pub static stats: PerCpuArray<u64, { Stat::CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub static events: RingBuf<Event, { EVENT_RING_BYTES as usize }> = RingBuf::new();
#[btf_map]
pub static redirect: DevMapHash<PORTS> = DevMapHash::new();

#[btf_map]
pub static traces: RingBuf<Trace, { TRACE_RING_BYTES as usize }> = RingBuf::new();
#[btf_map]
pub static trace_filter: Array<TraceFilter, 1> = Array::new();

/// What is known of the frame that this CPU is busy with, while somebody traces.
#[btf_map]
pub static trace_frame: PerCpuArray<Trace, 1> = PerCpuArray::new();
/// Token buckets of a port, by slot. Shared by all processors: a budget is the port's.
#[btf_map]
pub static port_budgets: Array<Budgets, PORTS> = Array::new();
/// Next outer IPv4 identification. Per CPU: it should rise by one per packet that a receiver gets
/// from one queue.
#[btf_map]
pub static packet_ids: PerCpuArray<u32, 1> = PerCpuArray::new();
/// What was looked up before. Per CPU: nobody else writes to it.
#[btf_map]
pub static remembered: PerCpuArray<Remembered, { Remembered::SLOTS as usize }> = PerCpuArray::new();

/// Value of `port_budgets`: states of [`vtep_common::wire::rate`].
#[repr(C)]
pub struct Budgets {
    /// Frames that are flooded.
    pub bum: u64,
    /// Learning events.
    pub learn: u64,
    /// "Too big" messages.
    pub too_big: u64,
    /// Copies of DHCP messages.
    pub dhcp: u64,
}

/// The maps as decisions see them.
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        settings.get(0)
    }

    #[inline(always)]
    fn vni(&self, vni: u32) -> Option<BdRef> {
        // SAFETY: one aligned load. Elements are never written here.
        vnis.get_ptr(vni)
            .map(|bd| unsafe { ptr::read_volatile(bd.cast::<u32>()) })
            .map(BdRef::from_bits)
    }

    #[inline(always)]
    fn bd(&self, bd: BdId) -> Option<&BdEntry> {
        bds.get(bd.0.into())
    }

    #[inline(always)]
    fn fdb(&self, key: FdbKey) -> Option<FdbWord> {
        fdb_entry(key).map(|entry| entry.word())
    }

    #[inline(always)]
    fn port(&self, slot: u32) -> Option<&PortEntry> {
        ports.get(slot)
    }

    #[inline(always)]
    fn source(&self, key: SourceKey) -> bool {
        sources.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn admission(&self, current: &Settings, vni: u32, source_be: u32) -> Result<BdRef, DropReason> {
        memory::admission(current, vni, source_be)
    }

    #[inline(always)]
    fn receiver(&self, current: &Settings, key: FdbKey) -> Option<FdbWord> {
        memory::receiver(current, key)
    }
}

/// An element of `fdb`.
#[derive(Clone, Copy)]
pub struct FdbRef(*mut FdbEntry);

impl FdbRef {
    /// The verdict, read at once.
    #[inline(always)]
    pub fn word(self) -> FdbWord {
        // SAFETY: a pointer from the map, valid for the program's run, and one aligned load.
        unsafe { ptr::read_volatile(&raw const (*self.0).word) }
    }

    /// Notes when the MAC was seen. Written only when it changes, to keep the cache line shared.
    #[inline(always)]
    pub fn stamp(self, epoch: u64) {
        // SAFETY: as above. The field is the datapath's alone, and one aligned store.
        unsafe {
            let seen = &raw mut (*self.0).seen;
            if ptr::read_volatile(seen) != epoch {
                ptr::write_volatile(seen, epoch);
            }
        }
    }
}

/// Finds a MAC.
#[inline(always)]
pub fn fdb_entry(key: FdbKey) -> Option<FdbRef> {
    fdb.get_ptr_mut(key).map(FdbRef)
}

/// Finds the bridge domain and slot of a port.
#[inline(always)]
pub fn port_at(key: PortKey) -> Option<PortRef> {
    // SAFETY: a pointer from the map, and one aligned load.
    port_index
        .get_ptr(key)
        .map(|at| unsafe { ptr::read_volatile(at) })
}

/// Finds an IPv4 binding.
#[inline(always)]
pub fn arp_entry(key: ArpKey) -> Option<NeighborEntry> {
    // SAFETY: a pointer from the map, and one aligned load.
    arp.get_ptr(key)
        .map(|entry| unsafe { ptr::read_volatile(entry) })
}

/// Finds an address that a port may send from.
#[inline(always)]
pub fn guard(key: &GuardKey) -> Option<GuardEntry> {
    // SAFETY: a pointer from the map, and one aligned load.
    guards
        .get_ptr(key)
        .map(|entry| unsafe { ptr::read_volatile(entry) })
}

/// Finds an IPv6 binding.
#[inline(always)]
pub fn nd_entry(key: &NdKey) -> Option<NeighborEntry> {
    // SAFETY: a pointer from the map, and one aligned load.
    nd.get_ptr(key)
        .map(|entry| unsafe { ptr::read_volatile(entry) })
}
