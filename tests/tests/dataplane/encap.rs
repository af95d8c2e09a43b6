//! To the overlay: `access_tc`, known unicast and flooding.

use std::collections::{BTreeMap, HashMap, HashSet};

use vtep_common::{
    DropReason, Mac,
    abi::{BdFlags, FdbFlags, FdbWord, Path, PortEntry, PortFlags, Stat},
};

use crate::{
    frames::{checksum, ethernet, tcp4, udp4, udp4_from, udp6},
    rig::*,
};

/// DP-001, ENC: the outer header byte for byte.
#[test]
fn outer_header() {
    let mut rig = Rig::new();
    for inner in [udp4(VM1, VM9, 10), udp6(VM1, VM9, 10), tcp4(VM1, VM9, 600)] {
        let run = rig.access(&inner);
        run.assert_verdict(TC_REDIRECT);
        let frame = &run.bytes;
        assert_eq!(frame[0..6], NEIGHBOUR.0);
        assert_eq!(frame[6..12], UPLINK.0);
        assert_eq!(frame[12..16], [0x08, 0x00, 0x45, 0x00]);
        assert_eq!(
            u16::from_be_bytes([frame[16], frame[17]]) as usize,
            36 + inner.len()
        );
        assert_eq!(
            frame[20..24],
            [0x40, 0x00, 64, 17],
            "DF, no fragment, TTL 64, UDP"
        );
        assert_eq!(checksum(&frame[14..34], 0), 0);
        assert_eq!(frame[26..30], LOCAL.octets());
        assert_eq!(frame[30..34], REMOTE.octets());
        assert!(u16::from_be_bytes([frame[34], frame[35]]) >= 49152);
        assert_eq!(u16::from_be_bytes([frame[36], frame[37]]), 4789);
        assert_eq!(
            u16::from_be_bytes([frame[38], frame[39]]) as usize,
            16 + inner.len()
        );
        assert_eq!(frame[40..42], [0, 0], "zero UDP checksum on IPv4");
        assert_eq!(frame[42..50], [0x08, 0, 0, 0, 0, 0, 100, 0]);
        assert_eq!(frame[50..], inner);
    }
    assert_eq!(rig.path(Path::TxUnicast).packets, 3);
    assert_eq!(rig.port_counters(SLOT1), (3, 0, 0));
}

/// Frames that are not IP, and short ones, take the other way of making room.
#[test]
fn anything_that_is_ethernet_is_tunnelled() {
    let mut rig = Rig::new();
    for inner in [
        ethernet(VM1, VM9, 0x88b5, &[1]),
        ethernet(VM1, VM9, 0x88b5, &[7; 46]),
        ethernet(VM1, VM9, 30, &[0xaa; 60]),
        ethernet(VM1, VM9, 0x0806, &[0; 46]),
    ] {
        let run = rig.access(&inner);
        run.assert_verdict(TC_REDIRECT);
        assert_eq!(run.bytes[50..], inner);
        assert_eq!(checksum(&run.bytes[14..34], 0), 0);
    }
}

/// The outer IP ID rises: a constant one keeps the receiver from merging (datapath notes, GRO).
#[test]
fn ip_id_rises() {
    let mut rig = Rig::new();
    let inner = udp4(VM1, VM9, 10);
    let ids: HashSet<_> = (0..16)
        .map(|_| rig.access(&inner).bytes[18..20].to_vec())
        .collect();
    assert_eq!(ids.len(), 16);
}

/// DP-004.
#[test]
fn source_port_entropy() {
    let mut rig = Rig::new();
    let mut ports = HashMap::new();
    for flow in 0..1000u16 {
        let inner = udp4_from(VM1, VM9, 1024 + flow);
        let run = rig.access(&inner);
        let port = u16::from_be_bytes([run.bytes[34], run.bytes[35]]);
        assert!(port >= 49152);
        assert_eq!(
            rig.access(&inner).bytes[34..36],
            run.bytes[34..36],
            "constant per flow"
        );
        *ports.entry(port).or_insert(0) += 1;
    }
    assert!(
        ports.len() >= 900,
        "only {} distinct source ports",
        ports.len()
    );
}

/// DP-014: RFC 6040 §4.1, normal mode.
#[test]
fn ecn_on_encapsulation() {
    let mut rig = Rig::new();
    for ecn in 0..4u8 {
        let mut v4 = udp4(VM1, VM9, 10);
        v4[15] = 0xb8 | ecn;
        v4[24..26].fill(0);
        let sum = checksum(&v4[14..34], 0).to_be_bytes();
        v4[24..26].copy_from_slice(&sum);
        assert_eq!(rig.access(&v4).bytes[15], ecn, "DSCP is not copied, ECN is");
        let mut v6 = udp6(VM1, VM9, 10);
        v6[15] = ecn << 4;
        assert_eq!(rig.access(&v6).bytes[15], ecn);
    }
}

/// DP-011, bridged: the sender is told, and nothing is fragmented.
#[test]
fn too_big_for_the_underlay() {
    let mut rig = Rig::new();
    rig.vtep(1, REMOTE, 1500, 1);
    let fits = |length: usize| {
        let mut inner = udp4(VM1, VM9, length);
        inner[20] = 0x40; // DF
        inner[24..26].fill(0);
        let sum = checksum(&inner[14..34], 0).to_be_bytes();
        inner[24..26].copy_from_slice(&sum);
        inner
    };
    rig.access(&fits(1450 - 28)).assert_verdict(TC_REDIRECT);
    let inner = fits(1450 - 28 + 1);
    let run = rig.access(&inner);
    assert_eq!(
        (run.verdict, run.drops.keys().copied().collect::<Vec<_>>()),
        (TC_REDIRECT, vec!["too_big"])
    );
    let answer = &run.bytes;
    assert_eq!(answer[0..6], VM1.0);
    assert_eq!(answer[6..12], VM9.0);
    assert_eq!(answer[23], 1);
    assert_eq!(
        answer[26..30],
        inner[30..34],
        "from the destination that was addressed"
    );
    assert_eq!(answer[30..34], inner[26..30]);
    assert_eq!(answer[34..36], [3, 4]);
    assert_eq!(u16::from_be_bytes([answer[40], answer[41]]), 1450);
    let total = usize::from(u16::from_be_bytes([answer[16], answer[17]]));
    assert_eq!(checksum(&answer[14..34], 0), 0);
    assert_eq!(checksum(&answer[34..14 + total], 0), 0);
    assert_eq!(
        answer[42..70],
        inner[14..42],
        "the offending header and eight bytes"
    );
    assert_eq!(rig.stat(Stat::TooBigSent), 1);

    let inner = udp6(VM1, VM9, 1450);
    let run = rig.access(&inner);
    assert_eq!(run.verdict, TC_REDIRECT);
    let answer = &run.bytes;
    assert_eq!(answer[20], 58);
    assert_eq!(answer[22..38], inner[38..54]);
    assert_eq!(answer[54..56], [2, 0]);
    assert_eq!(u32::from_be_bytes(answer[58..62].try_into().unwrap()), 1450);
    let length = usize::from(u16::from_be_bytes([answer[18], answer[19]]));
    let address =
        |at: usize| std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&answer[at..at + 16]).unwrap());
    let message = &answer[54..54 + length];
    assert_eq!(
        crate::frames::icmp6_checksum(address(22), address(38), message),
        0
    );

    // Nobody can be told: no DF, or not IP.
    let mut inner = udp4(VM1, VM9, 1450);
    inner[20] = 0;
    inner[24..26].fill(0);
    let sum = checksum(&inner[14..34], 0).to_be_bytes();
    inner[24..26].copy_from_slice(&sum);
    rig.access(&inner).assert_dropped(DropReason::TooBigSilent);
    rig.access(&ethernet(VM1, VM9, 0x88b5, &[0; 1451]))
        .assert_dropped(DropReason::TooBigSilent);
}

#[test]
fn no_path() {
    let mut rig = Rig::new();
    let inner = udp4(VM1, VM9, 10);
    rig.vtep(1, REMOTE, 1600, 0);
    rig.access(&inner).assert_dropped(DropReason::NoPath);
    rig.vtep(1, REMOTE, 1600, 1);
    rig.access(&inner).assert_verdict(TC_REDIRECT);
    rig.group(1, RED, 1, RED_VNI);
    rig.access(&inner).assert_dropped(DropReason::StaleEntry);
}

#[test]
fn local_switching() {
    let mut rig = Rig::new();
    let inner = udp4(VM1, VM2, 10);
    let run = rig.access(&inner);
    run.assert_verdict(TC_REDIRECT);
    assert_eq!(run.bytes, inner);
    assert_eq!(rig.path(Path::Local).packets, 1);
    assert_eq!(rig.port_counters(SLOT2).1, 1);
    let hidden = Mac([2, 0, 0, 0, 0, 0x11]);
    rig.fdb(BLUE, hidden, FdbWord::new(BLUE, SLOT1, FdbFlags::LOCAL));
    rig.access(&udp4(VM1, hidden, 10))
        .assert_dropped(DropReason::Hairpin);
}

/// MAC-007: one copy for each remote VTEP, local ports too, never back.
#[test]
fn flooding() {
    let mut rig = Rig::new();
    for inner in [
        udp4(VM1, Mac::BROADCAST, 10),
        udp4(VM1, Mac([2, 7, 7, 7, 7, 7]), 10),
    ] {
        let before = rig.bd_counters(BLUE.bd).2;
        let run = rig.access(&inner);
        assert!(run.drops.is_empty(), "{:?}", run.drops);
        assert_eq!(rig.bd_counters(BLUE.bd).2 - before, 3);
    }
    assert_eq!(rig.path(Path::TxFlood).packets, 4);
    assert_eq!(
        rig.port_counters(SLOT1).1,
        0,
        "not back to where it came from"
    );
    assert_eq!(rig.port_counters(SLOT2).1, 2);
    assert_eq!(rig.port_counters(RED_SLOT).1, 0);
}

/// A thousand remote VTEPs, counted where frames are encapsulated.
#[test]
fn flooding_to_a_thousand() {
    use vtep_common::abi::{FloodClasses, FloodMember, FloodSpan};
    let mut rig = Rig::new();
    for index in 0..1000 {
        rig.flood(
            1000 + index,
            FloodMember {
                target: 1,
                vni: BLUE_VNI,
                bd: BLUE,
                skip: FloodClasses::default(),
            },
        );
    }
    let span = FloodSpan {
        offset: 1000,
        ports: 0,
        vteps: 1000,
    };
    rig.bd(BLUE, BLUE_VNI, span, default_policy());
    let run = rig.access(&udp4(VM1, Mac::BROADCAST, 10));
    assert!(run.drops.is_empty(), "{:?}", run.drops);
    assert_eq!(rig.path(Path::TxFlood).packets, 1000);
    assert_eq!(rig.bd_counters(BLUE.bd).2, 1000);
}

/// What one receiver's device does not take is counted, and the others get theirs.
#[test]
fn a_copy_that_nobody_transmits() {
    const NO_DEVICE: u32 = 0x7fff_0000;
    let mut rig = Rig::new();
    rig.port(SLOT2, NO_DEVICE, BLUE, PortFlags::ACTIVE);
    let run = rig.access(&udp4(VM1, Mac::BROADCAST, 10));
    assert_eq!(run.drops, BTreeMap::from([("transmit", 1)]));
    assert_eq!(rig.path(Path::TxFlood).packets, 2);
}

#[test]
fn flooding_policy_and_budget() {
    let mut rig = Rig::new();
    let unknown = udp4(VM1, Mac([2, 7, 7, 7, 7, 7]), 10);
    let broadcast = udp4(VM1, Mac::BROADCAST, 10);
    rig.blue_policy(BdFlags::ACTIVE.with(BdFlags::FLOOD_BUM));
    rig.access(&unknown)
        .assert_dropped(DropReason::UnknownUnicast);
    rig.blue_policy(BdFlags::ACTIVE);
    rig.access(&broadcast).assert_dropped(DropReason::FloodOff);
    rig.blue_policy(default_policy());
    let limited = PortEntry {
        ifindex: LOOPBACK,
        bd: BLUE,
        flags: PortFlags::ACTIVE,
        bum_rate: 5,
        ..PortEntry::default()
    };
    rig.port_entry(SLOT1, limited);
    let dropped = (0..50)
        .filter(|_| rig.access(&broadcast).drops.contains_key("bum_rate"))
        .count();
    assert!(
        (40..=45).contains(&dropped),
        "{dropped} of 50 dropped with a budget of 5 a second"
    );
    // Known unicast is not in the budget.
    rig.access(&udp4(VM1, VM9, 10)).assert_verdict(TC_REDIRECT);
}
