//! Checklist D5: MAC mobility (RFC 7432 §15).

use super::*;
use crate::bgp::wire::MacMobility;
use vtep_common::abi::FdbFlags;

const STICKY: MacMobility = MacMobility {
    sticky: true,
    sequence: 0,
};

/// Declares a MAC behind tap1.
fn declare(fixture: &mut Fixture, last: u8, sticky: bool) {
    let endpoint = super::super::DeclaredEndpoint {
        mac: mac(last),
        ips: Vec::new(),
        sticky,
    };
    fixture
        .command(Command::AddPort {
            bd: name("blue"),
            port: pattern("tap1", None),
            endpoint: Some(endpoint),
        })
        .unwrap();
}

#[test]
fn mob_001_local_after_remote() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(1), None, 0));
    fixture.frame(TAP1, mac(1));
    assert!(fixture.is_local(mac(1)));
    assert_eq!(fixture.announced(), [(None, 1)]);
}

#[test]
fn mob_002_higher_sequence_takes_it_away() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(1), None, 0));
    fixture.frame(TAP1, mac(1));
    fixture.sent();
    fixture.announce(rt2(V2, mac(1), None, 2));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    assert_eq!(fixture.sent().withdraw.len(), 1);
    // And back.
    fixture.frame(TAP1, mac(1));
    assert_eq!(fixture.announced(), [(None, 3)]);
}

#[test]
fn mob_003_equal_sequence_lowest_address() {
    for (other, ours_stays) in [(V1, false), (V2, true)] {
        let mut fixture = Fixture::new();
        fixture.frame(TAP1, mac(1));
        fixture.sent();
        fixture.announce(rt2(other, mac(1), None, 0));
        assert_eq!(fixture.is_local(mac(1)), ours_stays, "{other}");
        assert_eq!(fixture.sent().withdraw.len(), usize::from(!ours_stays));
    }
}

#[test]
fn mob_004_late_route_with_an_old_sequence() {
    let mut fixture = Fixture::new();
    let old = rt2(V1, mac(1), None, 2);
    fixture.announce(old.clone());
    fixture.frame(TAP1, mac(1));
    assert_eq!(fixture.announced(), [(None, 3)]);
    fixture.withdraw(&old.0);
    fixture.announce(rt2(V1, mac(1), None, 0));
    assert!(fixture.is_local(mac(1)));
    assert_eq!(fixture.announced(), []);
}

#[test]
fn mob_005_new_route_before_the_old_ones_end() {
    let mut fixture = Fixture::new();
    let old = rt2(V1, mac(1), None, 4);
    fixture.announce(old.clone());
    fixture.announce(rt2(V2, mac(1), None, 5));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    fixture.withdraw(&old.0);
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
}

/// RFC 9135 §7.2.
#[test]
fn mob_006_all_routes_of_a_mac_have_one_sequence() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    fixture.arp(TAP1, mac(1), "10.0.0.2");
    fixture.sent();
    fixture.announce(rt2(V2, mac(1), None, 6));
    assert_eq!(fixture.sent().withdraw.len(), 3);
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    fixture.arp(TAP1, mac(1), "10.0.0.2");
    let first = Some("10.0.0.1".parse().unwrap());
    let second = Some("10.0.0.2".parse().unwrap());
    assert_eq!(fixture.announced(), [(None, 7), (first, 7), (second, 7)]);
}

#[test]
fn mob_010_wraparound() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(1), None, u32::MAX));
    fixture.frame(TAP1, mac(1));
    assert!(fixture.is_local(mac(1)));
    assert_eq!(fixture.announced(), [(None, 0)]);
    fixture.announce(rt2(V1, mac(1), None, 1));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V1));
}

#[test]
fn mob_011_sticky_elsewhere() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2_with(V1, mac(1), None, STICKY));
    fixture.frame(TAP1, mac(1));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V1));
    assert!(fixture.fdb(mac(1)).unwrap().flags().has(FdbFlags::PINNED));
    assert_eq!(fixture.announced(), []);
}

#[test]
fn mob_012_sticky_here() {
    let mut fixture = Fixture::new();
    declare(&mut fixture, 1, true);
    let sent = fixture.sent();
    assert_eq!(sent.announce[0].0.mac_mobility(), Some(STICKY));
    fixture.announce(rt2(V1, mac(1), None, 9));
    assert!(fixture.is_local(mac(1)));
    // Two sticky ones: the lowest address.
    fixture.announce(rt2_with(V2, mac(1), None, STICKY));
    assert!(fixture.is_local(mac(1)));
    fixture.announce(rt2_with(V1, mac(1), None, STICKY));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V1));
    fixture.withdraw(&rt2(V1, mac(1), None, 0).0);
    assert!(fixture.is_local(mac(1)), "the declaration counts again");
}

/// A declared endpoint moves to another host when that one has evidence, and comes back with its own.
#[test]
fn declared_endpoints_move_too() {
    let mut fixture = Fixture::new();
    declare(&mut fixture, 1, false);
    assert!(fixture.fdb(mac(1)).unwrap().flags().has(FdbFlags::PINNED));
    fixture.announce(rt2(V2, mac(1), None, 1));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    fixture.sent();
    fixture.frame(TAP2, mac(1));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2), "not learned away");
    fixture.frame(TAP1, mac(1));
    assert!(fixture.is_local(mac(1)));
    assert_eq!(fixture.announced(), [(None, 2)]);
}

/// The last number is remembered for ten minutes, and only raises our own.
#[test]
fn memory_of_sequences() {
    for (pause, sequence) in [(599, 4), (601, 0)] {
        let mut fixture = Fixture::new();
        let route = rt2(V1, mac(1), None, 3);
        fixture.announce(route.clone());
        fixture.withdraw(&route.0);
        assert!(fixture.core.deadline().is_some());
        fixture.advance(Duration::from_secs(pause));
        fixture.frame(TAP1, mac(1));
        assert_eq!(fixture.announced(), [(None, sequence)], "{pause}");
    }
    let mut fixture = Fixture::new();
    let route = rt2(V1, mac(1), None, 3);
    fixture.announce(route.clone());
    fixture.withdraw(&route.0);
    fixture.announce(rt2(V2, mac(1), None, 0));
    assert_eq!(
        fixture.vtep_of(mac(1)),
        Some(V2),
        "the only claim is never rejected"
    );
}
