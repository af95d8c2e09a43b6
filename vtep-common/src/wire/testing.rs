//! What the tests of this module share.

use core::{cell::Cell, net::Ipv4Addr};
use std::{
    collections::{HashMap, HashSet},
    vec,
    vec::Vec,
};

use super::{Frame as _, Tables, outer::Outer};
use crate::{
    Mac,
    abi::{
        BdEntry, BdFlags, BdId, BdRef, FdbFlags, FdbKey, FdbWord, FloodSpan, PortEntry, PortFlags,
        Settings, SettingsFlags, SourceKey, VtepAddr,
    },
};

/// The header checksum of an IPv4 header, computed the slow way (RFC 1071 §4.1).
pub fn ipv4_checksum(header: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for (at, pair) in header.chunks(2).enumerate() {
        if at != 5 {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The ICMPv6 checksum of an untagged frame without extension headers is right (RFC 4443 §2.3).
pub fn icmpv6_checksum_is_valid(frame: &[u8]) -> bool {
    let length = u16::from_be_bytes([frame[18], frame[19]]);
    let mut sum = u32::from(length) + 58;
    for pair in frame[22..54 + usize::from(length)].chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

/// The maps as plain collections.
#[derive(Default)]
pub struct Maps {
    pub settings: Option<Settings>,
    pub vnis: HashMap<u32, BdRef>,
    pub bds: HashMap<u16, BdEntry>,
    pub fdb: HashMap<u64, FdbWord>,
    pub ports: HashMap<u32, PortEntry>,
    pub sources: HashSet<u64>,
}

impl Tables for Maps {
    fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    fn vni(&self, vni: u32) -> Option<BdRef> {
        self.vnis.get(&vni).copied()
    }

    fn bd(&self, bd: BdId) -> Option<&BdEntry> {
        self.bds.get(&bd.0)
    }

    fn fdb(&self, key: FdbKey) -> Option<FdbWord> {
        self.fdb.get(&key.0).copied()
    }

    fn port(&self, slot: u32) -> Option<&PortEntry> {
        self.ports.get(&slot)
    }

    fn source(&self, key: SourceKey) -> bool {
        self.sources.contains(&key.0)
    }
}

pub const BD: BdRef = BdRef {
    bd: BdId(7),
    generation: 3,
};
pub const VNI: u32 = 100;
pub const SLOT: u32 = 5;
pub const LOCAL_VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const REMOTE_VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Behind [`SLOT`].
pub const LOCAL: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Behind another VTEP.
pub const REMOTE: Mac = Mac([2, 0, 0, 0, 0, 2]);

impl Maps {
    /// One bridge domain with a local and a remote MAC, which floods to [`SLOT`].
    pub fn new() -> Self {
        let mut settings = Settings {
            port_be: 4789_u16.to_be(),
            flags: SettingsFlags::SOURCE_LOOSE,
            ..Settings::default()
        };
        settings.local_vteps_be[2] = u32::from_ne_bytes(LOCAL_VTEP.octets());
        settings.uplink_vlans[1] = 20;
        let span = FloodSpan {
            offset: 9,
            ports: 1,
            vteps: 2,
        };
        let flags = BdFlags::ACTIVE
            .with(BdFlags::FLOOD_BUM)
            .with(BdFlags::FLOOD_UNKNOWN);
        let domain = BdEntry {
            flood: span.to_bits(),
            source: VtepAddr::v4(LOCAL_VTEP),
            vni: VNI,
            generation: BD.generation,
            flags,
        };
        let port = PortEntry {
            ifindex: 1,
            flags: PortFlags::ACTIVE,
            bd: BD,
            ..Default::default()
        };
        Self {
            settings: Some(settings),
            vnis: [(VNI, BD)].into(),
            bds: [(BD.bd.0, domain)].into(),
            fdb: [
                (
                    FdbKey::new(BD.bd, LOCAL).0,
                    FdbWord::new(BD, SLOT, FdbFlags::LOCAL),
                ),
                (
                    FdbKey::new(BD.bd, REMOTE).0,
                    FdbWord::new(BD, 1, FdbFlags::default()),
                ),
            ]
            .into(),
            ports: [(SLOT, port)].into(),
            sources: [SourceKey::new(BdId(0), REMOTE_VTEP).0].into(),
        }
    }

    pub fn settings_mut(&mut self) -> &mut Settings {
        self.settings.as_mut().unwrap()
    }

    pub fn set_fdb(&mut self, mac: Mac, word: FdbWord) {
        self.fdb.insert(FdbKey::new(BD.bd, mac).0, word);
    }

    pub fn domain_mut(&mut self) -> &mut BdEntry {
        self.bds.get_mut(&BD.bd.0).unwrap()
    }
}

/// An Ethernet frame with an IPv4 packet of `payload` behind 20 bytes of header.
pub fn ipv4_frame(destination: Mac, source: Mac, tos: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(destination.0);
    frame.extend(source.0);
    frame.extend([0x08, 0x00]);
    let total = (20 + payload.len()) as u16;
    frame.extend([0x45, tos]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let check = ipv4_checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&check);
    frame.extend(payload);
    frame
}

/// An IPv4 packet for [`LOCAL`], with 26 bytes of any protocol in it.
pub fn v4(protocol: u8) -> Vec<u8> {
    ipv4_frame(LOCAL, REMOTE, 0, protocol, &[0x12; 26])
}

/// The same in IPv6.
pub fn v6(next: u8) -> Vec<u8> {
    let mut frame = v4(0);
    frame.truncate(14);
    frame.extend([0x60, 0, 0, 0, 0, 26, next, 64]);
    frame.extend([0xfd; 32]);
    frame.extend([0x12; 26]);
    frame
}

/// `inner` as [`REMOTE_VTEP`] sends it to [`LOCAL_VTEP`].
pub fn encapsulated(inner: &[u8], ecn: u8) -> Vec<u8> {
    let mut frame = vec![0; 50];
    let cells = Cell::from_mut(&mut frame[..]).as_slice_of_cells();
    Outer {
        destination_mac: Mac([2, 0xaa, 0, 0, 0, 1]).to_bits(),
        source_mac: Mac([2, 0xaa, 0, 0, 0, 2]).to_bits(),
        source_be: u32::from_ne_bytes(REMOTE_VTEP.octets()),
        destination_be: u32::from_ne_bytes(LOCAL_VTEP.octets()),
        id: 1,
        ecn,
        frame: inner.len() as u32,
        hash: 7,
        port_be: 4789_u16.to_be(),
        vni: VNI,
    }
    .write(cells.view::<50>(0).unwrap());
    frame.extend(inner);
    frame
}

/// Puts the outer header checksum of an untagged encapsulated frame right after a change.
pub fn fix_outer_checksum(frame: &mut [u8]) {
    let check = ipv4_checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&check);
}
