//! A datapath with two tenants, set up by hand.

mod counters;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, DevMapHash, HashMap, Map, MapData, PerCpuArray},
    programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use vtep_agent::dataplane::OBJECT;
use vtep_common::{
    DropReason, Mac,
    abi::{
        Adjacency, ArpKey, BdEntry, BdFlags, BdId, BdRef, Encapsulation, FdbEntry, FdbFlags,
        FdbKey, FdbWord, FloodClasses, FloodMember, FloodSpan, GuardEntry, GuardFlags, GuardKey,
        NdKey, NeighborEntry, NeighborFlags, NhGroup, NhMember, PortEntry, PortFlags, PortKey,
        PortRef, Settings, SettingsFlags, SourceKey, VtepAddr, VtepEntry, XdpMeta,
    },
};

/// Our VTEP.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// A remote VTEP, in both bridge domains.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Another remote VTEP, only in the blue one.
pub const REMOTE2: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);

/// The tenant under test.
pub const BLUE: BdRef = BdRef {
    bd: BdId(5),
    generation: 3,
};
/// Its VNI.
pub const BLUE_VNI: u32 = 100;
/// The other tenant, with the same MACs.
pub const RED: BdRef = BdRef {
    bd: BdId(6),
    generation: 1,
};
/// Its VNI.
pub const RED_VNI: u32 = 200;

/// Blue, slot 1: the device that test runs come from (loopback of the namespace).
pub const VM1: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);
/// Blue, slot 2.
pub const VM2: Mac = Mac([0x02, 0, 0, 0, 0, 0x02]);
/// Blue, behind [`REMOTE`].
pub const VM9: Mac = Mac([0x02, 0, 0, 0, 0, 0x09]);
/// The uplink's own MAC.
pub const UPLINK: Mac = Mac([0x06, 0, 0, 0, 0, 0x01]);
/// The underlay neighbour's MAC.
pub const NEIGHBOUR: Mac = Mac([0x06, 0, 0, 0, 0, 0x02]);

/// Slot of VM1's port.
pub const SLOT1: u32 = 1;
/// Slot of VM2's port.
pub const SLOT2: u32 = 2;
/// Slot of the red tenant's port.
pub const RED_SLOT: u32 = 3;
/// The device of test runs.
pub const LOOPBACK: u32 = 1;

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_REDIRECT: u32 = 4;
pub const TC_NEXT: u32 = u32::MAX;
pub const TC_SHOT: u32 = 2;
pub const TC_REDIRECT: u32 = 7;

/// A loaded object and its maps.
pub struct Rig {
    ebpf: Ebpf,
    before: BTreeMap<&'static str, u64>,
    settings: Settings,
    /// The programs are told of every change of a map, as the agent tells them.
    pub tells: bool,
}

/// What a run did.
#[derive(Debug)]
pub struct Run {
    /// The program's return value.
    pub verdict: u32,
    /// The frame afterwards, XDP metadata included.
    pub bytes: Vec<u8>,
    /// Reasons whose counter rose, with by how much.
    pub drops: BTreeMap<&'static str, u64>,
}

impl Run {
    /// The run was dropped for just this reason.
    #[track_caller]
    pub fn assert_dropped(&self, reason: DropReason) {
        assert!(
            matches!(self.verdict, XDP_DROP | TC_SHOT)
                && self.drops == BTreeMap::from([(reason.name(), 1)]),
            "expected a drop for {}, got verdict {} and {:?}",
            reason.name(),
            self.verdict as i32,
            self.drops
        );
    }

    /// Nothing was counted as dropped.
    #[track_caller]
    pub fn assert_verdict(&self, verdict: u32) {
        assert!(
            self.verdict == verdict && self.drops.is_empty(),
            "expected verdict {}, got {} and {:?}",
            verdict as i32,
            self.verdict as i32,
            self.drops
        );
    }

    /// The metadata and the frame behind it, from XDP.
    #[track_caller]
    pub fn split_meta(&self) -> (XdpMeta, &[u8]) {
        let (meta, frame) = self.bytes.split_at(size_of::<XdpMeta>());
        // SAFETY: `XdpMeta` is plain data and the slice has its size; the read is unaligned.
        let meta: XdpMeta = unsafe { std::ptr::read_unaligned(meta.as_ptr().cast()) };
        assert_eq!(meta.magic, XdpMeta::MAGIC);
        (meta, frame)
    }
}

impl Rig {
    /// Loads the object and sets up both tenants.
    pub fn new() -> Self {
        own_namespace();
        let ebpf = EbpfLoader::new()
            .load(OBJECT)
            .expect("the object must load (root or CAP_BPF and CAP_NET_ADMIN needed)");
        let mut rig = Self {
            ebpf,
            before: BTreeMap::new(),
            settings: Settings::default(),
            tells: true,
        };
        for name in ["underlay_xdp", "underlay_xdp_generic"] {
            let program: &mut Xdp = rig.ebpf.program_mut(name).unwrap().try_into().unwrap();
            program
                .load()
                .unwrap_or_else(|error| verifier_failure(name, error));
        }
        for name in ["underlay_tc", "access_tc"] {
            let program: &mut SchedClassifier =
                rig.ebpf.program_mut(name).unwrap().try_into().unwrap();
            program
                .load()
                .unwrap_or_else(|error| verifier_failure(name, error));
        }
        rig.settings(SettingsFlags::SOURCE_LOOSE);
        for (index, (bd, vni)) in [(BLUE, BLUE_VNI), (RED, RED_VNI)].into_iter().enumerate() {
            let span = FloodSpan {
                offset: 10 * (index as u32 + 1),
                ports: if bd == BLUE { 2 } else { 1 },
                vteps: if bd == BLUE { 2 } else { 1 },
            };
            rig.bd(bd, vni, span, default_policy());
            rig.set::<u32, BdRef>("vnis", vni, bd);
        }
        for (index, target) in [SLOT1, SLOT2].into_iter().enumerate() {
            rig.flood(
                10 + index as u32,
                FloodMember {
                    target,
                    vni: 0,
                    bd: BLUE,
                    skip: FloodClasses::default(),
                },
            );
        }
        for (index, target) in [1, 2].into_iter().enumerate() {
            let member = FloodMember {
                target,
                vni: BLUE_VNI,
                bd: BLUE,
                skip: FloodClasses::default(),
            };
            rig.flood(12 + index as u32, member);
        }
        rig.flood(
            20,
            FloodMember {
                target: RED_SLOT,
                vni: 0,
                bd: RED,
                skip: FloodClasses::default(),
            },
        );
        rig.flood(
            21,
            FloodMember {
                target: 1,
                vni: RED_VNI,
                bd: RED,
                skip: FloodClasses::default(),
            },
        );
        rig.port(SLOT1, LOOPBACK, BLUE, PortFlags::ACTIVE);
        rig.port(SLOT2, LOOPBACK, BLUE, PortFlags::ACTIVE);
        rig.port(RED_SLOT, LOOPBACK, RED, PortFlags::ACTIVE);
        rig.set(
            "port_index",
            PortKey::new(LOOPBACK, 0),
            PortRef::new(BLUE, SLOT1),
        );
        rig.fdb(BLUE, VM1, FdbWord::new(BLUE, SLOT1, FdbFlags::LOCAL));
        rig.fdb(BLUE, VM2, FdbWord::new(BLUE, SLOT2, FdbFlags::LOCAL));
        rig.fdb(BLUE, VM9, FdbWord::new(BLUE, 1, FdbFlags::default()));
        rig.fdb(RED, VM1, FdbWord::new(RED, RED_SLOT, FdbFlags::LOCAL));
        rig.group(1, BLUE, 1, BLUE_VNI);
        rig.vtep(1, REMOTE, 1600, 1);
        rig.vtep(2, REMOTE2, 1600, 1);
        for address in [REMOTE, REMOTE2] {
            rig.set::<_, u32>("sources", SourceKey::new(BdId(0), address), 1);
            rig.set::<_, u32>("sources", SourceKey::new(BLUE.bd, address), 1);
        }
        rig.set::<_, u32>("sources", SourceKey::new(RED.bd, REMOTE), 1);
        rig.before = rig.drops();
        rig
    }

    pub fn settings(&mut self, flags: SettingsFlags) {
        let mut settings = Settings {
            epoch: 77,
            flags,
            port_be: 4789u16.to_be(),
            ..Settings::default()
        };
        settings.local_vteps_be[0] = u32::from_ne_bytes(LOCAL.octets());
        settings.uplink_macs[0] = UPLINK.to_bits();
        settings.revision = self.settings.revision;
        self.settings = settings;
        self.tell();
    }

    /// Makes programs forget what they remember.
    pub fn tell(&mut self) {
        self.settings.revision += 1;
        self.write_settings();
    }

    fn write_settings(&mut self) {
        let settings = self.settings;
        let mut map: Array<&mut MapData, Settings> = self.map("settings").try_into().unwrap();
        map.set(0, settings, 0).unwrap();
    }

    fn changed(&mut self) {
        if self.tells {
            self.tell();
        }
    }

    pub fn bd(&mut self, bd: BdRef, vni: u32, span: FloodSpan, flags: BdFlags) {
        let entry = BdEntry {
            flood: span.to_bits(),
            source: VtepAddr::v4(LOCAL),
            vni,
            generation: bd.generation,
            flags,
        };
        self.array("bds", u32::from(bd.bd.0), entry);
    }

    /// The blue tenant with another policy.
    pub fn blue_policy(&mut self, flags: BdFlags) {
        self.bd(
            BLUE,
            BLUE_VNI,
            FloodSpan {
                offset: 10,
                ports: 2,
                vteps: 2,
            },
            flags,
        );
    }

    pub fn flood(&mut self, index: u32, member: FloodMember) {
        self.array("flood", index, member);
    }

    pub fn port(&mut self, slot: u32, ifindex: u32, bd: BdRef, flags: PortFlags) {
        self.port_entry(
            slot,
            PortEntry {
                ifindex,
                bd,
                flags,
                ..PortEntry::default()
            },
        );
    }

    pub fn port_entry(&mut self, slot: u32, entry: PortEntry) {
        self.array("ports", slot, entry);
    }

    pub fn fdb(&mut self, bd: BdRef, mac: Mac, word: FdbWord) {
        self.set("fdb", FdbKey::new(bd.bd, mac), FdbEntry::new(word, 0));
    }

    pub fn group(&mut self, index: u32, bd: BdRef, vtep: u32, vni: u32) {
        let mut group = NhGroup {
            bd,
            count: 1,
            ..NhGroup::default()
        };
        group.members[0] = NhMember {
            vtep,
            vni,
            encapsulation: Encapsulation::Vxlan as u8,
            reserved: [0; 3],
        };
        self.array("groups", index, group);
    }

    pub fn vtep(&mut self, index: u32, address: Ipv4Addr, mtu: u16, resolved: u16) {
        let mut entry = VtepEntry {
            address: VtepAddr::v4(address),
            count: 1,
            ..VtepEntry::default()
        };
        entry.paths[0] = Adjacency {
            ifindex: LOOPBACK,
            mtu,
            vlan: 0,
            destination: NEIGHBOUR,
            source: UPLINK,
            resolved,
            reserved: 0,
        };
        self.array("vteps", index, entry);
    }

    /// Lets XDP redirect frames to a device.
    pub fn redirect(&mut self, ifindex: u32) {
        let mut map: DevMapHash<&mut MapData> = self.map("redirect").try_into().unwrap();
        map.insert(ifindex, ifindex, None, 0).unwrap();
    }

    pub fn neighbor(&mut self, bd: BdId, ip: IpAddr, mac: Mac, flags: NeighborFlags) {
        let entry = NeighborEntry::new(bd, mac, flags);
        match ip {
            IpAddr::V4(ip) => self.set("arp", ArpKey::new(bd, ip), entry),
            IpAddr::V6(ip) => self.set("nd", NdKey::new(bd, ip), entry),
        }
    }

    pub fn neighbor6(&mut self, ip: Ipv6Addr, mac: Mac, flags: NeighborFlags) {
        self.neighbor(BLUE.bd, ip.into(), mac, flags);
    }

    /// `mac` may use the address behind a port.
    pub fn guard(&mut self, slot: u32, address: IpAddr, mac: Mac) {
        let entry = GuardEntry::new(slot, mac, GuardFlags::ADDRESSES);
        self.set("guards", GuardKey::new(slot, address), entry);
    }

    /// `mac` may send from a port.
    pub fn guard_mac(&mut self, slot: u32, mac: Mac, flags: GuardFlags) {
        let entry = GuardEntry::new(slot, mac, flags);
        self.set("guards", GuardKey::of_mac(slot, mac), entry);
    }

    /// The clock that senders are stamped with.
    pub fn epoch(&mut self, epoch: u64) {
        self.settings.epoch = epoch;
        self.write_settings();
    }

    /// What frames without a tag from the device of test runs come from.
    pub fn port_index(&mut self, port: PortRef) {
        self.set("port_index", PortKey::new(LOOPBACK, 0), port);
    }

    pub fn vni(&mut self, vni: u32, bd: BdRef) {
        self.set("vnis", vni, bd);
    }

    pub fn source(&mut self, address: Ipv4Addr) {
        self.set::<_, u32>("sources", SourceKey::new(BdId(0), address), 1);
    }

    pub fn remove_source(&mut self, bd: BdId, address: Ipv4Addr) {
        let mut map: HashMap<&mut MapData, SourceKey, u32> =
            self.ebpf.map_mut("sources").unwrap().try_into().unwrap();
        map.remove(&SourceKey::new(bd, address)).unwrap();
        self.changed();
    }

    pub fn xdp(&mut self, frame: &[u8]) -> Run {
        self.run(frame, |ebpf, options| {
            let program: &mut Xdp = ebpf
                .program_mut("underlay_xdp")
                .unwrap()
                .try_into()
                .unwrap();
            program.test_run(options).unwrap()
        })
    }

    pub fn underlay(&mut self, frame: &[u8]) -> Run {
        self.tc("underlay_tc", frame)
    }

    pub fn access(&mut self, frame: &[u8]) -> Run {
        self.tc("access_tc", frame)
    }

    fn tc(&mut self, name: &str, frame: &[u8]) -> Run {
        self.run(frame, |ebpf, options| {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.test_run(options).unwrap()
        })
    }

    fn run(
        &mut self,
        frame: &[u8],
        go: impl FnOnce(&mut Ebpf, TestRunOptions<'_>) -> aya::programs::TestRunResult,
    ) -> Run {
        let mut bytes = vec![0; 16384];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ..TestRunOptions::default()
        };
        let result = go(&mut self.ebpf, options);
        bytes.truncate(result.data_size_out as usize);
        let after = self.drops();
        let drops = after
            .iter()
            .filter_map(|(name, count)| {
                let more = count - self.before.get(name).copied().unwrap_or(0);
                (more > 0).then_some((*name, more))
            })
            .collect();
        self.before = after;
        Run {
            verdict: result.return_value,
            bytes,
            drops,
        }
    }

    fn drops(&mut self) -> BTreeMap<&'static str, u64> {
        DropReason::ALL
            .iter()
            .map(|&reason| {
                (
                    reason.name(),
                    self.per_cpu::<u64>("drops", reason as u32).iter().sum(),
                )
            })
            .collect()
    }

    fn per_cpu<V: Pod + Copy>(&mut self, name: &str, index: u32) -> Vec<V> {
        let map: PerCpuArray<&MapData, V> = self.ebpf.map(name).unwrap().try_into().unwrap();
        map.get(&index, 0).unwrap().iter().copied().collect()
    }

    fn array<V: Pod>(&mut self, name: &str, index: u32, value: V) {
        let mut map: Array<&mut MapData, V> = self.map(name).try_into().unwrap();
        map.set(index, value, 0).unwrap();
        self.changed();
    }

    fn set<K: Pod, V: Pod>(&mut self, name: &str, key: K, value: V) {
        let mut map: HashMap<&mut MapData, K, V> = self.map(name).try_into().unwrap();
        map.insert(key, value, 0).unwrap();
        self.changed();
    }

    fn map(&mut self, name: &str) -> &mut Map {
        self.ebpf
            .map_mut(name)
            .unwrap_or_else(|| panic!("no map {name} in the object"))
    }
}

/// Everything on.
pub fn default_policy() -> BdFlags {
    BdFlags::ACTIVE
        .with(BdFlags::SUPPRESS)
        .with(BdFlags::LEARN)
        .with(BdFlags::DHCP)
        .with(BdFlags::FLOOD_UNKNOWN)
        .with(BdFlags::FLOOD_BUM)
}

/// Moves the test's thread into a namespace of its own, whose loopback device is up: copies of
/// flooded frames go there and nowhere else.
fn own_namespace() {
    // SAFETY: no pointers; affects the calling thread only.
    let status = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(
        status,
        0,
        "no network namespace: {}",
        std::io::Error::last_os_error()
    );
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "`ip link set lo up` failed"
    );
}

fn verifier_failure(name: &str, error: ProgramError) -> ! {
    panic!("{name} does not load: {error:?}")
}
