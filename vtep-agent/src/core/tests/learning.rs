//! Checklist D5: local and remote MACs.

use super::*;
use vtep_common::abi::{ArpKey, PortFlags};

/// MAC-001, MAC-002.
#[test]
fn mac_001_002_local_and_remote() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    assert!(fixture.is_local(mac(1)));
    assert_eq!(fixture.announced(), [(None, 0)]);
    fixture.frame(TAP1, mac(1));
    assert!(fixture.outputs.is_empty(), "nothing new");

    fixture.announce(rt2(V1, mac(9), None, 0));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
    let word = fixture.fdb(mac(9)).unwrap();
    let group = fixture.core.intent.groups.get(word.target()).unwrap();
    assert_eq!(group.members[0].vni, VNI);
}

/// MAC-004.
#[test]
fn mac_004_withdrawn() {
    let mut fixture = Fixture::new();
    let route = rt2(V1, mac(9), None, 0);
    fixture.announce(route.clone());
    fixture.withdraw(&route.0);
    assert_eq!(fixture.fdb(mac(9)), None);
    assert!(fixture.core.intent.groups.is_empty() && fixture.core.intent.vteps.is_empty());
    assert!(fixture.core.intent.sources.is_empty());
    let untracked = |output: &Output| matches!(output, Output::Untrack(a) if *a == IpAddr::V4(V1));
    assert!(fixture.outputs.iter().any(untracked));
}

/// MAC-005: RFC 7432 §10.
#[test]
fn mac_005_address_gone_mac_stays() {
    let mut fixture = Fixture::new();
    let with_ip = rt2(V1, mac(9), Some("10.0.0.9"), 0);
    fixture.announce(rt2(V1, mac(9), None, 0));
    fixture.announce(with_ip.clone());
    let key = ArpKey::new(fixture.bd(), "10.0.0.9".parse().unwrap());
    assert_eq!(fixture.core.intent.arp.get(key).unwrap().mac(), mac(9));
    fixture.withdraw(&with_ip.0);
    assert!(fixture.core.intent.arp.is_empty());
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
}

/// MAC-006: an implicit withdraw (RFC 4271 §9).
#[test]
fn mac_006_next_hop_replaced() {
    let mut fixture = Fixture::new();
    let (route, mut attributes) = rt2(V1, mac(9), None, 0);
    fixture.announce((route.clone(), attributes.clone()));
    attributes.next_hop = IpAddr::V4(V2);
    fixture.announce((route, attributes));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
    assert_eq!(fixture.core.intent.vteps.len(), 1);
    assert_eq!(fixture.core.intent.groups.len(), 1);
}

/// MAC-014: all of a port's MACs in one advertisement.
#[test]
fn mac_014_port_gone() {
    let mut config = config();
    config.bds[0].max_macs_per_port = 10_000;
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.up(RR);
    for n in 0..8000_u32 {
        let [_, _, a, b] = n.to_be_bytes();
        fixture.frame(TAP1, Mac([2, 0, 0, 0, a, b]));
    }
    fixture.outputs.clear();
    fixture.handle(Input::LinkGone(TAP1));
    let sends = fixture
        .outputs
        .iter()
        .filter(|output| matches!(output, Output::Send(..)))
        .count();
    assert_eq!((sends, fixture.sent().withdraw.len()), (1, 8000));
    assert!(fixture.core.intent.fdb.is_empty());
}

/// RFC 7432 §17.3: an age-out withdraws; the stamp of a former place does not count.
#[test]
fn ageing() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    let key = FdbKey::new(fixture.bd(), mac(1));
    let old = Duration::from_secs(301);
    fixture.handle(Input::Idle(vec![(key, old)]));
    assert!(fixture.is_local(mac(1)), "it arrived just now");
    fixture.advance(old);
    fixture.handle(Input::Idle(vec![(key, Duration::from_secs(299))]));
    assert!(fixture.is_local(mac(1)));
    fixture.sent();
    fixture.handle(Input::Idle(vec![(key, old)]));
    assert_eq!(fixture.fdb(mac(1)), None);
    assert_eq!(fixture.sent().withdraw.len(), 1);
}

#[test]
fn mac_limit_of_a_port() {
    let mut config = config();
    config.bds[0].max_macs_per_port = 2;
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    let full = |fixture: &Fixture| {
        let mut entries = fixture.core.intent.ports.iter();
        entries.next().unwrap().1.flags.has(PortFlags::MAC_LIMIT)
    };
    fixture.frame(TAP1, mac(1));
    assert!(!full(&fixture));
    fixture.frame(TAP1, mac(2));
    assert!(full(&fixture));
    fixture.frame(TAP1, mac(3));
    assert_eq!(fixture.fdb(mac(3)), None);
    fixture.advance(Duration::from_secs(400));
    let key = FdbKey::new(fixture.bd(), mac(1));
    fixture.handle(Input::Idle(vec![(key, Duration::from_secs(400))]));
    assert!(!full(&fixture));
    fixture.frame(TAP1, mac(3));
    assert!(fixture.is_local(mac(3)));
}

#[test]
fn move_between_ports_of_one_host() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    let before = fixture.fdb(mac(1)).unwrap();
    fixture.sent();
    fixture.frame(TAP2, mac(1));
    let after = fixture.fdb(mac(1)).unwrap();
    assert_ne!(before.target(), after.target());
    assert!(fixture.outputs.is_empty(), "others see no difference");
}

/// An event that was written before its port changed hands does nothing.
#[test]
fn stale_events() {
    let mut fixture = Fixture::new();
    let slot = *fixture.core.ports.of_device(TAP1).values().next().unwrap();
    let mut event = Event {
        kind: EventKind::Mac as u8,
        slot: slot.0,
        bd: fixture.core.ports.get(slot).unwrap().bd,
        mac: mac(1),
        ..Event::default()
    };
    event.bd.generation += 1;
    fixture.handle(Input::Event(event));
    event.bd.generation -= 1;
    event.slot = 999;
    fixture.handle(Input::Event(event));
    event.slot = slot.0;
    event.mac = Mac::BROADCAST;
    fixture.handle(Input::Event(event));
    assert!(fixture.core.intent.fdb.is_empty());
}

/// 200,000 MACs of 200 VTEPs, and all of them gone at once: work per route, not per table.
#[test]
fn scale() {
    const VTEPS: u16 = 200;
    const MACS: u16 = 1000;
    let mut fixture = Fixture::new();
    let started = Instant::now();
    for n in 0..VTEPS {
        let [a, b] = n.to_be_bytes();
        let vtep = Ipv4Addr::new(198, 19, a, b);
        let mut remote = originator(vtep);
        let macs = (0..MACS).map(|m| {
            let [c, d] = m.to_be_bytes();
            let mac = Mac([2, 9, a, b, c, d]);
            remote.mac_ip(mac, Default::default(), None)
        });
        let (routes, attributes): (Vec<_>, Vec<_>) = macs.unzip();
        fixture.update(Update {
            announced: routes,
            attributes: attributes.into_iter().next(),
            ..Update::default()
        });
    }
    let total = usize::from(VTEPS) * usize::from(MACS);
    assert_eq!(fixture.core.intent.fdb.len(), total);
    let learned = started.elapsed();
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    fixture.finish();
    assert!(fixture.core.intent.fdb.is_empty());
    let elapsed = started.elapsed();
    println!(
        "{total} routes: {learned:?} in, {:?} out",
        elapsed - learned
    );
    // A debug build on a busy machine; anything quadratic takes hours.
    assert!(elapsed < Duration::from_secs(300), "{elapsed:?}");
}
