//! Our role as a route reflector (RFC 4456), and `allowas_in`.

use bytes::Bytes;

use super::*;
use crate::bgp::{
    peer::Retention,
    wire::{AsPath, AsSegment, Family, RawAttribute, RouteKey},
};

pub(super) const CLIENT: PeerId = PeerId(1);
const OTHER_CLIENT: PeerId = PeerId(2);
const EXTERNAL: PeerId = PeerId(3);

/// Peers by their last octet: 100 is no client, 101 and 102 are, 103 is external.
pub(super) fn reflector() -> Fixture {
    let mut config = config();
    config.bgp.peers = (100..=103).map(peer).collect();
    for client in &mut config.bgp.peers[1..3] {
        client.route_reflector_client = true;
    }
    config.bgp.peers[3].asn = PeerAsn::External;
    let mut fixture = Fixture::start(config, State::default());
    for id in [RR, CLIENT, OTHER_CLIENT, EXTERNAL] {
        up(&mut fixture, id);
    }
    fixture.outputs.clear();
    fixture
}

fn up(fixture: &mut Fixture, id: PeerId) {
    let address = address(id);
    let session = Session {
        route_reflector_client: id == CLIENT || id == OTHER_CLIENT,
        address: address.into(),
        router_id: address,
        ..session(id != EXTERNAL)
    };
    fixture.handle(Input::Peer(id, PeerEvent::Up(session)));
}

fn address(id: PeerId) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 100 + id.0 as u8)
}

pub(super) fn announce(
    fixture: &mut Fixture,
    from: PeerId,
    (route, attributes): (Route, Attributes),
) {
    let update = Update {
        announced: vec![route],
        attributes: Some(Arc::new(attributes)),
        ..Update::default()
    };
    fixture.handle(Input::Peer(from, PeerEvent::Update(Box::new(update))));
}

fn withdraw(fixture: &mut Fixture, from: PeerId, route: &Route) {
    let update = Update {
        withdrawn: vec![route.key()],
        ..Update::default()
    };
    fixture.handle(Input::Peer(from, PeerEvent::Update(Box::new(update))));
}

/// A peer, routes announced to it with their attributes, and withdrawn keys.
pub(super) type Sent = (PeerId, Vec<(Route, Attributes)>, Vec<RouteKey>);

pub(super) fn sent(fixture: &mut Fixture) -> Vec<Sent> {
    let outputs = std::mem::take(&mut fixture.outputs);
    let mut sent = Vec::new();
    for output in outputs {
        if let Output::Send(peer, advertisement) = output {
            let announced = advertisement
                .announce
                .iter()
                .flat_map(|(attributes, routes)| {
                    let with = |route: &Route| (route.clone(), Attributes::clone(attributes));
                    routes.iter().map(with).collect::<Vec<_>>()
                });
            sent.push((peer, announced.collect(), advertisement.withdraw));
        }
    }
    sent
}

fn receivers(fixture: &mut Fixture) -> Vec<PeerId> {
    sent(fixture).into_iter().map(|(peer, ..)| peer).collect()
}

/// RFC 4456 §6: clients' routes to all, others' to clients, to nobody what it sent itself.
#[test]
fn who_gets_what() {
    for (from, to) in [
        (RR, vec![CLIENT, OTHER_CLIENT]),
        (CLIENT, vec![RR, OTHER_CLIENT, EXTERNAL]),
        (OTHER_CLIENT, vec![RR, CLIENT, EXTERNAL]),
        (EXTERNAL, vec![CLIENT, OTHER_CLIENT]),
    ] {
        let mut fixture = reflector();
        let remote = rt2(V1, mac(1), None, 0);
        announce(&mut fixture, from, remote.clone());
        assert_eq!(receivers(&mut fixture), to, "from {from:?}");
        for id in [RR, CLIENT, OTHER_CLIENT, EXTERNAL] {
            let own = fixture.core.adj_out.routes().count() as u64;
            let told = fixture.core.peer_routes(id).sent - own;
            assert_eq!(told, u64::from(to.contains(&id)));
        }
        withdraw(&mut fixture, from, &remote.0);
        let withdrawn = sent(&mut fixture);
        let keys: Vec<_> = withdrawn.iter().map(|(_, _, keys)| keys.clone()).collect();
        assert_eq!(keys, vec![vec![remote.0.key()]; to.len()]);
    }
}

/// Without clients nothing is reflected.
#[test]
fn no_reflector_without_clients() {
    let mut fixture = Fixture::new();
    announce(&mut fixture, RR, rt2(V1, mac(1), None, 0));
    fixture.up(CLIENT);
    let dump = sent(&mut fixture);
    let own = |(route, _): &(Route, Attributes)| matches!(route, Route::Imet(_));
    assert!(
        dump.iter().all(|(_, routes, _)| routes.iter().all(own)),
        "{dump:?}"
    );
}

/// RFC 4456 §8, §10: ORIGINATOR_ID once, CLUSTER_LIST in front, the rest untouched.
#[test]
fn attributes_between_internal_peers() {
    let mut fixture = reflector();
    let (route, mut attributes) = rt2(V1, mac(1), None, 3);
    attributes.local_pref = Some(250);
    attributes.med = Some(7);
    attributes.as_path = AsPath(vec![AsSegment::Sequence(vec![Asn(64999)])]);
    announce(&mut fixture, CLIENT, (route.clone(), attributes.clone()));
    let expected = Attributes {
        originator_id: Some(address(CLIENT)),
        cluster_list: vec![US],
        ..attributes.clone()
    };
    for (peer, routes, _) in sent(&mut fixture) {
        if peer != EXTERNAL {
            assert_eq!(routes, [(route.clone(), expected.clone())]);
        }
    }
    attributes.originator_id = Some(V2);
    attributes.cluster_list = vec![V1];
    announce(&mut fixture, CLIENT, (route.clone(), attributes.clone()));
    let expected = Attributes {
        cluster_list: vec![US, V1],
        ..attributes
    };
    let (_, routes, _) = sent(&mut fixture).remove(0);
    assert_eq!(routes, [(route, expected)]);
}

/// RFC 4271 §5.1.2 b: our AS in front; the next hop and the labels stay (checklist A9.4.2).
#[test]
fn attributes_towards_external_peers() {
    let mut fixture = reflector();
    let (route, mut attributes) = rt2(V1, mac(1), None, 0);
    attributes.local_pref = Some(250);
    attributes.med = Some(7);
    attributes.as_path = AsPath(vec![AsSegment::Sequence(vec![Asn(64999)])]);
    attributes.cluster_list = vec![V2];
    announce(&mut fixture, CLIENT, (route.clone(), attributes.clone()));
    let (peer, routes, _) = sent(&mut fixture).pop().unwrap();
    assert_eq!(peer, EXTERNAL);
    let expected = Attributes {
        as_path: AsPath(vec![AsSegment::Sequence(vec![Asn(65000), Asn(64999)])]),
        local_pref: None,
        med: None,
        cluster_list: Vec::new(),
        ..attributes
    };
    assert_eq!(routes, [(route, expected)]);
}

/// RFC 1997.
#[test]
fn well_known_communities() {
    for (community, to) in [(0xffff_ff01, vec![RR, OTHER_CLIENT]), (0xffff_ff02, vec![])] {
        let mut fixture = reflector();
        let (route, mut attributes) = rt2(V1, mac(1), None, 0);
        attributes.communities = vec![community];
        announce(&mut fixture, CLIENT, (route, attributes));
        assert_eq!(receivers(&mut fixture), to);
    }
}

/// The same route from two clients: each is told the other's, and who takes over is told too.
#[test]
fn best_path_moves_between_clients() {
    let mut fixture = reflector();
    let remote = rt2(V1, mac(1), None, 0);
    announce(&mut fixture, OTHER_CLIENT, remote.clone());
    sent(&mut fixture);
    // The lower router id is better: its peer doesn't need it any more, the other one does.
    announce(&mut fixture, CLIENT, remote.clone());
    let changed = sent(&mut fixture);
    let of = |id| changed.iter().find(|(peer, ..)| *peer == id).unwrap();
    assert_eq!(of(CLIENT).2, [remote.0.key()]);
    assert_eq!(of(OTHER_CLIENT).1[0].1.originator_id, Some(address(CLIENT)));
    fixture.handle(Input::Peer(CLIENT, PeerEvent::Down));
    let changed = sent(&mut fixture);
    let of = |id| changed.iter().find(|(peer, ..)| *peer == id).unwrap();
    assert_eq!(of(OTHER_CLIENT).2, [remote.0.key()]);
    assert_eq!(of(RR).1[0].1.originator_id, Some(address(OTHER_CLIENT)));
}

/// A new session gets what is there, and a refresh everything again.
#[test]
fn dumps() {
    let mut fixture = reflector();
    for n in 1..=20 {
        announce(&mut fixture, RR, rt2(V1, mac(n), None, 0));
    }
    fixture.handle(Input::Peer(CLIENT, PeerEvent::Down));
    sent(&mut fixture);
    up(&mut fixture, CLIENT);
    let own = fixture.core.adj_out.routes().count();
    assert_eq!(sent(&mut fixture)[0].1.len(), own + 20);
    fixture.handle(Input::Peer(CLIENT, PeerEvent::Refresh(Family::EVPN)));
    assert_eq!(sent(&mut fixture)[0].1.len(), own + 20);
}

/// ERR-020: RFC 4271 §5, RFC 7606 §5.4 (checklist A3.3): route types and attributes that mean
/// nothing to us are passed on as they came, with the Partial bit that the codec has set.
#[test]
fn err_020_unknown_things_are_carried() {
    let mut fixture = reflector();
    let route = Route::Opaque {
        route_type: 42,
        value: Bytes::from_static(&[0, 1, 198, 18, 0, 1, 0, 7, 0xaa]),
    };
    let (_, mut attributes) = rt2(V1, mac(1), None, 0);
    attributes.other = vec![RawAttribute {
        flags: 0xe0,
        code: 99,
        value: Bytes::from_static(b"x"),
    }];
    announce(&mut fixture, CLIENT, (route.clone(), attributes.clone()));
    for (_, routes, _) in sent(&mut fixture) {
        assert_eq!(routes[0].0, route);
        assert_eq!(routes[0].1.other, attributes.other);
    }
}

/// RFC 4456 §8: what comes back to us is not used, and not told to anybody.
#[test]
fn loops_end_here() {
    let mut fixture = reflector();
    let (route, mut attributes) = rt2(V1, mac(1), None, 0);
    attributes.cluster_list = vec![US];
    announce(&mut fixture, CLIENT, (route, attributes));
    assert!(receivers(&mut fixture).is_empty());
    assert_eq!(fixture.fdb(mac(1)), None);
}

/// A reload that makes us a reflector, and one that ends it.
#[test]
fn becomes_and_ceases_to_be_a_reflector() {
    let mut fixture = Fixture::new();
    announce(&mut fixture, RR, rt2(V1, mac(1), None, 0));
    let mut with_client = config();
    with_client.bgp.peers.push(PeerConfig {
        route_reflector_client: true,
        ..peer(101)
    });
    fixture
        .command(Command::Reload(Box::new(with_client)))
        .unwrap();
    let id = fixture.core.peers.configured()[1].0;
    assert_ne!(id, RR);
    let session = Session {
        route_reflector_client: true,
        ..session(true)
    };
    fixture.outputs.clear();
    fixture.handle(Input::Peer(id, PeerEvent::Up(session)));
    let own = fixture.core.adj_out.routes().count();
    assert_eq!(sent(&mut fixture)[0].1.len(), own + 1);
    fixture
        .command(Command::Reload(Box::new(config())))
        .unwrap();
    assert_eq!(fixture.core.peer_routes(RR).sent, own as u64);
}

/// A peer that comes back from a restart as our client: its routes, which are the same as before, are
/// told to those who didn't get them.
#[test]
fn becomes_a_client_during_a_restart() {
    let mut fixture = reflector();
    let remote = rt2(V1, mac(1), None, 0);
    announce(&mut fixture, RR, remote.clone());
    assert_eq!(receivers(&mut fixture), [CLIENT, OTHER_CLIENT]);
    let retention = Retention {
        restart_time: Duration::from_secs(120),
        keep_stale: true,
        long_lived: None,
    };
    fixture.handle(Input::Peer(RR, PeerEvent::Restarting(retention)));
    let session = Session {
        graceful_restart: true,
        forwarding_preserved: true,
        route_reflector_client: true,
        address: address(RR).into(),
        router_id: address(RR),
        ..session(true)
    };
    fixture.handle(Input::Peer(RR, PeerEvent::Up(session)));
    fixture.outputs.clear();
    announce(&mut fixture, RR, remote);
    assert_eq!(receivers(&mut fixture), [CLIENT, OTHER_CLIENT, EXTERNAL]);
}

/// Checklist A9.4.5: our AS so many times, and not once more.
#[test]
fn allowas_in() {
    for (times, allowed) in [(0, false), (1, false), (2, true)] {
        let mut fixture = Fixture::new();
        let session = Session {
            allowas_in: times,
            ..session(false)
        };
        fixture.handle(Input::Peer(CLIENT, PeerEvent::Up(session)));
        let (route, mut attributes) = rt2(V1, mac(1), None, 0);
        let path = vec![Asn(65100), Asn(65000), Asn(65000)];
        attributes.as_path = AsPath(vec![AsSegment::Sequence(path)]);
        announce(&mut fixture, CLIENT, (route, attributes));
        assert_eq!(fixture.fdb(mac(1)).is_some(), allowed);
    }
}
