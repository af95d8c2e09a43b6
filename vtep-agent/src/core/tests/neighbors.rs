//! Address bindings: what suppression answers from, and MAC/IP routes (RFC 9161, RFC 9047).

use std::net::Ipv6Addr;

use vtep_common::abi::{ArpKey, NdKey, NeighborEntry, NeighborFlags};

use super::{super::DeclaredEndpoint, *};
use crate::bgp::wire::ExtCommunity;

fn arp_entry(fixture: &Fixture, ip: &str) -> Option<NeighborEntry> {
    let key = ArpKey::new(fixture.bd(), ip.parse().unwrap());
    fixture.core.intent.arp.get(key).copied()
}

fn nd_entry(fixture: &Fixture, ip: &str) -> Option<NeighborEntry> {
    let ip: Ipv6Addr = ip.parse().unwrap();
    let key = NdKey::new(fixture.bd(), ip);
    fixture.core.intent.nd.get(key).copied()
}

fn na(fixture: &mut Fixture, mac: Mac, ip: &str, flags: u8) {
    fixture.event(TAP1, EventKind::Na, mac, Some(ip.parse().unwrap()), flags);
}

/// PX-004, PX-006: no binding for a MAC that is not on the port, nor for address 0.
#[test]
fn px_004_006_learned_from_arp() {
    let mut fixture = Fixture::new();
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    assert_eq!(
        arp_entry(&fixture, "10.0.0.1"),
        None,
        "the MAC is not known"
    );
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP2, mac(1), "10.0.0.1");
    assert_eq!(
        arp_entry(&fixture, "10.0.0.1"),
        None,
        "the MAC is elsewhere"
    );
    fixture.arp(TAP1, mac(1), "0.0.0.0");
    fixture.arp(TAP1, mac(1), "224.0.0.1");
    assert!(fixture.core.intent.arp.is_empty());
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    let entry = arp_entry(&fixture, "10.0.0.1").unwrap();
    assert_eq!((entry.mac(), entry.bd()), (mac(1), fixture.bd()));
    fixture.sent();
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    assert!(fixture.outputs.is_empty());
}

/// PX-013; C4.1: not without the override flag.
#[test]
fn px_013_router_flag() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    na(&mut fixture, mac(1), "fd00::1", 0x40);
    assert_eq!(nd_entry(&fixture, "fd00::1"), None);
    fixture.sent();
    na(&mut fixture, mac(1), "fd00::1", 0xe0);
    let sent = fixture.sent();
    let communities = &sent.announce[0].0.ext_communities;
    assert!(communities.contains(&ExtCommunity([6, 8, 0x03, 0, 0, 0, 0, 0])));
    let flags = NeighborFlags::ROUTER.with(NeighborFlags::OVERRIDE);
    assert_eq!(nd_entry(&fixture, "fd00::1").unwrap().flags(), flags);
}

/// `arp_nd_flags = false`: only what nobody would assume is said, so that reflectors which drop routes
/// with the community pass the others.
#[test]
fn flags_of_routers_only() {
    let mut quiet = config();
    quiet.bgp.arp_nd_flags = false;
    let mut fixture = Fixture::new();
    fixture.command(Command::Reload(Box::new(quiet))).unwrap();
    let endpoint = DeclaredEndpoint {
        mac: mac(1),
        ips: vec!["10.0.0.1".parse().unwrap()],
        sticky: false,
    };
    fixture
        .command(Command::AddPort {
            bd: name("blue"),
            port: pattern("tap1", None),
            endpoint: Some(endpoint),
        })
        .unwrap();
    fixture.frame(TAP1, mac(2));
    na(&mut fixture, mac(2), "fd00::2", 0x20);
    let flagged = |fixture: &mut Fixture| {
        let announced = fixture.sent().announce.into_iter();
        let flags = announced.map(|(attributes, _)| {
            let mut communities = attributes.ext_communities.iter();
            communities.any(|community| community.arp_nd().is_some())
        });
        flags.collect::<Vec<_>>()
    };
    let before = flagged(&mut fixture);
    assert!(before.len() >= 3 && !before.contains(&true), "{before:?}");
    na(&mut fixture, mac(2), "fd00::2", 0xa0);
    assert_eq!(flagged(&mut fixture), [true], "a router");
    // All of them, once asked for: not those that are flagged already.
    fixture
        .command(Command::Reload(Box::new(config())))
        .unwrap();
    assert_eq!(flagged(&mut fixture), [true], "the declared one");
}

/// Flags of remote IPv6 bindings: as received; without the community all that a router has. PX-021: of
/// IPv4 ones they are ignored.
#[test]
fn px_021_remote_flags() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(9), Some("fd00::9"), 0));
    let flags = |fixture: &Fixture| nd_entry(fixture, "fd00::9").unwrap().flags();
    assert_eq!(flags(&fixture), NeighborFlags::OVERRIDE);
    let (route, mut attributes) = rt2(V1, mac(9), Some("fd00::9"), 0);
    attributes.ext_communities.retain(|c| c.arp_nd().is_none());
    fixture.announce((route, attributes));
    let router = NeighborFlags::OVERRIDE.with(NeighborFlags::ROUTER);
    assert_eq!(flags(&fixture), router);

    let (route, mut attributes) = rt2(V1, mac(9), Some("10.0.0.9"), 0);
    attributes
        .ext_communities
        .push(ExtCommunity([6, 8, 0x03, 0, 0, 0, 0, 0]));
    fixture.announce((route, attributes));
    let flags = arp_entry(&fixture, "10.0.0.9").unwrap().flags();
    assert_eq!(flags, NeighborFlags::default());
}

/// PX-016: RFC 9047 §3.2.
#[test]
fn px_016_declared_is_immutable() {
    let mut fixture = Fixture::new();
    let endpoint = DeclaredEndpoint {
        mac: mac(1),
        ips: vec!["10.0.0.1".parse().unwrap()],
        sticky: false,
    };
    fixture
        .command(Command::AddPort {
            bd: name("blue"),
            port: pattern("tap1", None),
            endpoint: Some(endpoint),
        })
        .unwrap();
    let sent = fixture.sent();
    let immutable = ExtCommunity([6, 8, 0x08, 0, 0, 0, 0, 0]);
    let flagged = |(attributes, _): &&(Arc<Attributes>, Vec<Route>)| {
        attributes.ext_communities.contains(&immutable)
    };
    assert_eq!(sent.announce.iter().filter(flagged).count(), 1);
    fixture.frame(TAP2, mac(2));
    fixture.arp(TAP2, mac(2), "10.0.0.1");
    assert_eq!(arp_entry(&fixture, "10.0.0.1").unwrap().mac(), mac(1));
    fixture.announce(rt2(V1, mac(9), Some("10.0.0.1"), 0));
    assert_eq!(arp_entry(&fixture, "10.0.0.1").unwrap().mac(), mac(1));
    assert_eq!(
        fixture.vtep_of(mac(9)),
        Some(V1),
        "its MAC is used all the same"
    );
}

/// What is immutable elsewhere is not learned here.
#[test]
fn remote_immutable() {
    let mut fixture = Fixture::new();
    let (route, mut attributes) = rt2(V1, mac(9), Some("10.0.0.1"), 0);
    attributes
        .ext_communities
        .push(ExtCommunity([6, 8, 0x08, 0, 0, 0, 0, 0]));
    fixture.announce((route, attributes));
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    assert_eq!(arp_entry(&fixture, "10.0.0.1").unwrap().mac(), mac(9));
}

/// C4.2 (RFC 9047 §3.2): an immutable binding counts before others, however new those are; of two the
/// latest does. The MAC of one that doesn't is used all the same.
#[test]
fn the_latest_immutable_binding_counts() {
    let mut fixture = Fixture::new();
    let immutable = |(route, mut attributes): (Route, Attributes)| {
        let flag = ExtCommunity([6, 8, 0x08, 0, 0, 0, 0, 0]);
        attributes.ext_communities.push(flag);
        (route, attributes)
    };
    let owner = |fixture: &Fixture| arp_entry(fixture, "10.0.0.1").unwrap().mac();
    fixture.announce(immutable(rt2(V1, mac(9), Some("10.0.0.1"), 0)));
    fixture.advance(Duration::from_secs(1));
    fixture.announce(rt2(V2, mac(8), Some("10.0.0.1"), 0));
    assert_eq!(owner(&fixture), mac(9));
    assert_eq!(fixture.vtep_of(mac(8)), Some(V2));
    // The other one becomes immutable, too: that is later.
    fixture.advance(Duration::from_secs(1));
    fixture.announce(immutable(rt2(V2, mac(8), Some("10.0.0.1"), 0)));
    assert_eq!(owner(&fixture), mac(8));
    fixture.withdraw(&rt2(V2, mac(8), Some("10.0.0.1"), 0).0);
    assert_eq!(owner(&fixture), mac(9));
}

/// An address that fails over to another MAC: here, there, and back.
#[test]
fn the_newest_binding_counts() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.frame(TAP2, mac(2));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    fixture.sent();
    fixture.advance(Duration::from_secs(1));
    fixture.arp(TAP2, mac(2), "10.0.0.1");
    assert_eq!(arp_entry(&fixture, "10.0.0.1").unwrap().mac(), mac(2));
    let sent = fixture.sent();
    assert_eq!((sent.withdraw.len(), sent.announce.len()), (1, 1));

    fixture.advance(Duration::from_secs(1));
    fixture.announce(rt2(V1, mac(9), Some("10.0.0.1"), 0));
    assert_eq!(arp_entry(&fixture, "10.0.0.1").unwrap().mac(), mac(9));
    assert_eq!(fixture.sent().withdraw.len(), 1, "our claim is over");
    assert!(fixture.is_local(mac(2)), "the MAC stays");

    fixture.advance(Duration::from_secs(1));
    fixture.arp(TAP2, mac(2), "10.0.0.1");
    assert_eq!(arp_entry(&fixture, "10.0.0.1").unwrap().mac(), mac(2));
}

/// A MAC takes its addresses with it when it ages or moves away.
#[test]
fn addresses_go_with_the_mac() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    fixture.frame(TAP2, mac(1));
    assert!(arp_entry(&fixture, "10.0.0.1").is_some(), "same host");
    fixture.sent();
    fixture.announce(rt2(V2, mac(1), None, 1));
    assert_eq!(arp_entry(&fixture, "10.0.0.1"), None);
    assert_eq!(fixture.sent().withdraw.len(), 2);
}

#[test]
fn addresses_per_mac_are_limited() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    for n in 0..200 {
        fixture.arp(TAP1, mac(1), &format!("10.0.1.{n}"));
    }
    assert_eq!(fixture.core.intent.arp.len(), 64);
    assert_eq!(fixture.core.neighbors(None, fixture.now).unwrap().len(), 64);
}
