//! Which VTEPs get a copy of which kind of frame (RFC 9574).

use std::net::{Ipv4Addr, Ipv6Addr};

use vtep_common::{
    DropReason, Mac,
    abi::{FloodClasses, FloodMember, FloodSpan, Path},
};

use crate::{
    frames::{Outer, arp, icmp6, ip6, solicitation, solicited_node, udp4, udp6},
    rig::*,
};

const ASSISTED: FloodClasses = FloodClasses::ASSISTED;
const DIRECT: FloodClasses = FloodClasses::DIRECT;
const UNKNOWN: FloodClasses = FloodClasses::UNKNOWN;

/// No local receivers; VTEPs with what each gets no copy of.
fn rig(vteps: &[FloodClasses]) -> Rig {
    let mut rig = Rig::new();
    for (index, skip) in (30..).zip(vteps) {
        let member = FloodMember {
            target: 1,
            vni: BLUE_VNI,
            bd: BLUE,
            skip: *skip,
        };
        rig.flood(index, member);
    }
    let span = FloodSpan {
        offset: 30,
        ports: 0,
        vteps: vteps.len() as u16,
    };
    rig.bd(BLUE, BLUE_VNI, span, default_policy());
    rig
}

fn v4(destination: Mac, to: Ipv4Addr, protocol: u8) -> Vec<u8> {
    let mut frame = udp4(VM1, destination, 20);
    frame[23] = protocol;
    frame[30..34].copy_from_slice(&to.octets());
    frame
}

fn v6(to: Ipv6Addr, next_header: u8) -> Vec<u8> {
    let [.., a, b, c, d] = to.octets();
    let mut frame = udp6(VM1, Mac([0x33, 0x33, a, b, c, d]), 20);
    frame[20] = next_header;
    frame[38..54].copy_from_slice(&to.octets());
    frame
}

/// AR-001, AR-003, MC-006: a replicator's copy is that of broadcast and of multicast beyond the link; multicast
/// of link-local scope, IGMP, MLD and unknown unicast are copied to everybody.
#[test]
fn ar_001_003_what_a_replicator_copies() {
    let mut rig = rig(&[ASSISTED, ASSISTED, ASSISTED, DIRECT.with(UNKNOWN)]);
    let multicast = Mac([0x01, 0, 0x5e, 1, 2, 3]);
    let (group, group_mac) = solicited_node(ip6(9));
    let assisted = [
        udp4(VM1, Mac::BROADCAST, 10),
        arp(
            (VM1, Mac::BROADCAST),
            1,
            (VM1, Ipv4Addr::new(10, 0, 0, 1)),
            (Mac::ZERO, Ipv4Addr::new(10, 0, 0, 9)),
        ),
        v4(multicast, Ipv4Addr::new(239, 1, 2, 3), 17),
        v4(multicast, Ipv4Addr::new(224, 0, 1, 1), 17),
        v6("ff0e::1:2".parse().unwrap(), 17),
    ];
    let direct = [
        v4(
            Mac([0x01, 0, 0x5e, 0, 0, 0xfb]),
            Ipv4Addr::new(224, 0, 0, 251),
            17,
        ),
        v4(multicast, Ipv4Addr::new(239, 1, 2, 3), 2),
        v4(
            Mac([0x01, 0, 0x5e, 0, 0, 13]),
            Ipv4Addr::new(224, 0, 0, 13),
            103,
        ),
        v6("ff02::fb".parse().unwrap(), 17),
        v6("ff05::1:3".parse().unwrap(), 0),
        icmp6(
            (VM1, group_mac),
            (ip6(1), group),
            &solicitation(ip6(9), &[]),
        ),
        udp4(VM1, Mac([2, 7, 7, 7, 7, 7]), 10),
    ];
    let copies = |rig: &mut Rig, frame: &[u8]| {
        let before = rig.path(Path::TxFlood).packets;
        let run = rig.access(frame);
        assert!(run.drops.is_empty(), "{:?}", run.drops);
        rig.path(Path::TxFlood).packets - before
    };
    for frame in &assisted {
        assert_eq!(copies(&mut rig, frame), 1, "{frame:02x?}");
    }
    for frame in &direct {
        assert_eq!(copies(&mut rig, frame), 3, "{frame:02x?}");
    }
}

/// PFL-001: nobody is left.
#[test]
fn pfl_001_nobody_wants_it() {
    let mut rig = rig(&[UNKNOWN]);
    rig.access(&udp4(VM1, Mac([2, 7, 7, 7, 7, 7]), 10))
        .assert_dropped(DropReason::NoReceiver);
    rig.access(&udp4(VM1, Mac::BROADCAST, 10))
        .assert_verdict(TC_SHOT);
    assert_eq!(rig.path(Path::TxFlood).packets, 1);
}

/// PFL-002 (RFC 9574 §7): what arrives is delivered, whatever was asked for: asking is a matter of routes
/// alone, and leaves nothing in the tables that would stop it. AR-002: a replicator's copy is one as
/// any other.
#[test]
fn pfl_002_what_arrives_is_delivered() {
    let mut rig = Rig::new();
    let unknown = udp4(VM9, Mac([2, 7, 7, 7, 7, 7]), 10);
    for inner in [unknown, udp4(VM9, Mac::BROADCAST, 10)] {
        let before = rig.bd_counters(BLUE.bd).2;
        let run = rig.underlay(&Outer::default().wrap(&inner));
        assert!(run.drops.is_empty(), "{:?}", run.drops);
        assert_eq!(rig.bd_counters(BLUE.bd).2 - before, 2);
    }
}
