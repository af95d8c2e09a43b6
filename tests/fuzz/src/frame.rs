//! A frame from the fabric or from a VM, and the code that judges it in the kernel.
//!
//! - A verdict is a function of the frame, and padding behind the inner frame doesn't change it.
//! - What is delivered lies inside the frame, is of its own bridge domain, and goes to the port that
//!   the FDB names for its destination.
//! - A frame that was cut is never delivered.
//! - Of a DHCP message no copy says something else than the whole message.
//! - Neighbour messages are read from what is there, and an answer to one is an answer again.

use std::{cell::Cell, net::Ipv4Addr};

use vtep_common::{
    Mac,
    abi::{
        BdEntry, BdFlags, BdId, BdRef, FdbFlags, FdbKey, FdbWord, FloodSpan, PortEntry, PortFlags,
        Settings, SourceKey, VtepAddr,
    },
    wire::{
        Frame as _, Tables, arp, dhcp, icmp, nd,
        outer::{self, Outer},
        underlay::{self, Received, Verdict},
    },
};

const LOCAL_VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const REMOTE_VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Behind [`SLOT`].
const LOCAL: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PORT: u16 = 4789;
const VNI: u32 = 100;
const SLOT: u32 = 5;
const UPLINK_VLAN: u16 = 20;
const BD: BdRef = BdRef {
    bd: BdId(7),
    generation: 3,
};

/// See the module.
pub fn check(data: &[u8]) {
    let [options, input @ ..] = data else {
        return;
    };
    // Nobody sends longer ones, and a length that saturates is another test's business.
    let input = input.get(..9216).unwrap_or(input);
    let received = Received {
        vlan: (options & 0x04 != 0).then_some(UPLINK_VLAN),
        gso: options & 0x08 != 0,
    };
    let maps = Maps::new();
    match options & 0x03 {
        0 => underlay(input, received, &maps),
        1 => underlay(&with_checksum(input), received, &maps),
        _ => underlay(&encapsulated(input, options >> 4 & 0x03), received, &maps),
    }
    neighbours(input);
    leases(input);
}

/// A DHCP message as an IP packet, then as the payload of one, of which a copy ends early.
fn leases(input: &[u8]) {
    let _ = dhcp::Message::parse(input);
    let [options, at, payload @ ..] = input else {
        return;
    };
    let packet = udp(*options, payload);
    let end = packet.len().saturating_sub(usize::from(*at) * 4);
    let part = dhcp::Message::parse(packet.get(..end).unwrap_or_default());
    if let (Ok(whole), Ok(part)) = (dhcp::Message::parse(&packet), part) {
        assert_eq!(part, whole);
    }
}

/// The payload in a packet from a server to a client. By bits of `options`: IPv6 or IPv4; a BOOTP reply with
/// the cookie in front, which chance won't find.
fn udp(options: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    if options & 0x02 != 0 {
        message.extend([2, 1, 6, 0]);
        message.resize(16, 0);
        message.extend([10, 0, 0, 1]);
        message.resize(236, 0);
        message.extend([0x63, 0x82, 0x53, 0x63]);
    }
    message.extend(payload);
    let length = (message.len() + 8) as u16;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([17, 64]);
    packet.resize(40, 0xfd);
    if options & 0x01 != 0 {
        packet = vec![0x45, 0];
        packet.extend((length + 20).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17]);
        packet.resize(20, 0);
    }
    packet.extend([0, 67, 0, 68]);
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(message);
    packet
}

/// What came from the fabric.
fn underlay(frame: &[u8], received: Received, maps: &Maps) {
    let verdict = judge(frame, received, maps);
    let (Verdict::Port(inner, _) | Verdict::Flood(inner, _)) = verdict else {
        return;
    };
    assert_eq!(inner.bd, BD);
    let (at, end, payload) = (
        inner.at as usize,
        inner.end as usize,
        inner.payload() as usize,
    );
    assert!(at < payload && payload <= end && end <= frame.len());
    let destination = frame.get(at..at + 6).unwrap_or_default();
    assert_eq!(destination, Mac::from_bits(inner.header.destination).0);
    match verdict {
        Verdict::Port(_, port) => {
            assert_eq!(port.slot, SLOT);
            assert_eq!(destination, LOCAL.0);
        }
        _ => assert_ne!(destination, LOCAL.0),
    }
    if received.gso {
        return;
    }
    let bare = judge(frame.get(..end).unwrap_or_default(), received, maps);
    assert_eq!(text(&bare), text(&verdict), "padding makes a difference");
    let cut = judge(frame.get(..end - 1).unwrap_or_default(), received, maps);
    assert!(matches!(cut, Verdict::Drop(_)), "cut: {}", text(&cut));
}

fn judge<'a>(frame: &[u8], received: Received, maps: &'a Maps) -> Verdict<'a> {
    underlay::decide(frame, received, maps)
}

fn text(verdict: &Verdict<'_>) -> String {
    format!("{verdict:?}")
}

/// What came from a VM.
fn neighbours(frame: &[u8]) {
    if let Some(request) = arp::Message::parse(frame)
        && request.is_question()
    {
        let mut frame = frame.to_vec();
        let cells = Cell::from_mut(&mut frame[..]).as_slice_of_cells();
        if let Some(view) = cells.view(0) {
            arp::answer(view, &request, LOCAL.to_bits());
        }
        let Some(answer) = arp::Message::parse(&frame[..]) else {
            panic!("the answer to {request:?} is none");
        };
        assert!(!answer.is_question());
        assert_eq!(answer.sender_be, request.target_be);
        assert_eq!(answer.target_be, request.sender_be);
        assert_eq!(answer.sender_mac, LOCAL.to_bits());
    }
    if let Some(solicitation) = nd::Solicitation::parse(frame) {
        let mut frame = frame.to_vec();
        frame.resize(frame.len().max(nd::FRAME), 0);
        let cells = Cell::from_mut(&mut frame[..]).as_slice_of_cells();
        if let Some(view) = cells.view(0) {
            solicitation.answer(view, LOCAL.to_bits(), Default::default());
        }
        let Some(answer) = nd::Advertisement::parse(&frame[..]) else {
            panic!("the answer to {solicitation:?} is none");
        };
        assert_eq!(answer.target, solicitation.target);
        assert_eq!(answer.mac, LOCAL.to_bits());
    }
    let _ = nd::Advertisement::parse(frame);
    let ethertype = frame.view::<14>(0).map(|header| header.u16::<12>());
    if let Some(ethertype_be) = ethertype {
        let _ = icmp::Sender::of(frame, ethertype_be);
        let length = icmp::packet_length(frame, ethertype_be, 0);
        assert!(length as usize <= frame.len());
    }
}

/// The input with a right checksum of an outer header without options, which chance won't find.
fn with_checksum(input: &[u8]) -> Vec<u8> {
    let mut frame = input.to_vec();
    for at in [14, 18] {
        let Some(header) = frame
            .get_mut(at..at + 20)
            .filter(|header| header[0] == 0x45)
        else {
            continue;
        };
        header[10..12].fill(0);
        let mut sum: u32 = header
            .chunks_exact(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let check = !(sum as u16);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        break;
    }
    frame
}

/// The input as [`REMOTE_VTEP`] sends it to [`LOCAL_VTEP`].
fn encapsulated(inner: &[u8], ecn: u8) -> Vec<u8> {
    let mut frame = vec![0; outer::LENGTH as usize];
    let cells = Cell::from_mut(&mut frame[..]).as_slice_of_cells();
    let header = Outer {
        destination_mac: Mac([2, 0xaa, 0, 0, 0, 1]).to_bits(),
        source_mac: Mac([2, 0xaa, 0, 0, 0, 2]).to_bits(),
        source_be: u32::from_ne_bytes(REMOTE_VTEP.octets()),
        destination_be: u32::from_ne_bytes(LOCAL_VTEP.octets()),
        id: 1,
        ecn,
        frame: inner.len() as u32,
        hash: 7,
        port_be: PORT.to_be(),
        vni: VNI,
    };
    if let Some(view) = cells.view::<50>(0) {
        header.write(view);
    }
    frame.extend(inner);
    frame
}

/// One bridge domain with one local MAC.
struct Maps {
    settings: Settings,
    domain: BdEntry,
    port: PortEntry,
}

impl Maps {
    fn new() -> Self {
        let mut settings = Settings {
            port_be: PORT.to_be(),
            ..Settings::default()
        };
        settings.local_vteps_be[2] = u32::from_ne_bytes(LOCAL_VTEP.octets());
        settings.uplink_vlans[1] = UPLINK_VLAN;
        let flood = FloodSpan {
            offset: 9,
            ports: 1,
            vteps: 2,
        };
        Self {
            settings,
            domain: BdEntry {
                flood: flood.to_bits(),
                source: VtepAddr::v4(LOCAL_VTEP),
                vni: VNI,
                generation: BD.generation,
                flags: BdFlags::ACTIVE
                    .with(BdFlags::FLOOD_BUM)
                    .with(BdFlags::FLOOD_UNKNOWN),
            },
            port: PortEntry {
                ifindex: 1,
                flags: PortFlags::ACTIVE,
                bd: BD,
                ..PortEntry::default()
            },
        }
    }
}

impl Tables for Maps {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn vni(&self, vni: u32) -> Option<BdRef> {
        (vni == VNI).then_some(BD)
    }

    fn bd(&self, bd: BdId) -> Option<&BdEntry> {
        (bd == BD.bd).then_some(&self.domain)
    }

    fn fdb(&self, key: FdbKey) -> Option<FdbWord> {
        (key.0 == FdbKey::new(BD.bd, LOCAL).0).then(|| FdbWord::new(BD, SLOT, FdbFlags::LOCAL))
    }

    fn port(&self, slot: u32) -> Option<&PortEntry> {
        (slot == SLOT).then_some(&self.port)
    }

    fn source(&self, _: SourceKey) -> bool {
        true
    }
}
