//! Long-lived graceful restart (RFC 9494).

use super::*;
use crate::bgp::{
    peer::Retention,
    rib::{LLGR_STALE, NO_LLGR},
};

const OTHER: PeerId = PeerId(1);
const CLIENT: PeerId = PeerId(2);

/// 120 s, and an hour after that.
const RETENTION: Retention = Retention {
    restart_time: Duration::from_secs(120),
    keep_stale: false,
    long_lived: Some(Duration::from_secs(3600)),
};

/// The peers 100 and 101, and a client 102 of ours, none of which knows long-lived stale routes.
fn fixture() -> Fixture {
    let mut config = config();
    config.bgp.peers = (100..=102).map(peer).collect();
    config.bgp.peers[2].route_reflector_client = true;
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    for peer in [RR, OTHER, CLIENT] {
        up(&mut fixture, peer, |_| {});
    }
    fixture.outputs.clear();
    fixture
}

fn up(fixture: &mut Fixture, peer: PeerId, change: impl FnOnce(&mut Session)) {
    let address = Ipv4Addr::new(198, 18, 0, 100 + peer.0 as u8);
    let mut session = Session {
        address: address.into(),
        router_id: address,
        graceful_restart: true,
        forwarding_preserved: true,
        route_reflector_client: peer == CLIENT,
        ..session(true)
    };
    change(&mut session);
    fixture.handle(Input::Peer(peer, PeerEvent::Up(session)));
}

fn knowing(session: &mut Session) {
    session.long_lived = true;
    session.long_lived_forwarding_preserved = true;
}

fn announce(fixture: &mut Fixture, from: PeerId, (route, attributes): (Route, Attributes)) {
    let update = Update {
        announced: vec![route],
        attributes: Some(Arc::new(attributes)),
        ..Update::default()
    };
    fixture.handle(Input::Peer(from, PeerEvent::Update(Box::new(update))));
}

fn end_of_rib(fixture: &mut Fixture, peer: PeerId) {
    let update = Update {
        end_of_rib: Some(Family::EVPN),
        ..Update::default()
    };
    fixture.handle(Input::Peer(peer, PeerEvent::Update(Box::new(update))));
}

fn restart(fixture: &mut Fixture, retention: Retention) {
    fixture.handle(Input::Peer(RR, PeerEvent::Restarting(retention)));
}

fn wait(fixture: &mut Fixture, seconds: u64) {
    let deadline = fixture.core.deadline().unwrap();
    assert!(deadline <= fixture.now + Duration::from_secs(seconds));
    fixture.advance(Duration::from_secs(seconds));
}

fn with_community(
    (route, mut attributes): (Route, Attributes),
    community: u32,
) -> (Route, Attributes) {
    attributes.communities.push(community);
    (route, attributes)
}

/// Communities of the path that a peer sent, `None` when there is none.
fn communities(fixture: &Fixture, peer: PeerId, route: &Route) -> Option<Vec<u32>> {
    let mut paths = fixture.core.adj_in.paths();
    let path = paths.find(|(key, path, _)| path.peer == peer && *key == route.key());
    path.map(|(_, path, _)| path.attributes.communities.clone())
}

fn why(fixture: &Fixture, route: &Route) -> String {
    fixture.route(route).stale_reason.unwrap()
}

/// GR-010: when the restart time is over routes get LLGR_STALE and stay in use, for the stale time of
/// the peer.
#[test]
fn gr_010_stale_routes_outlive_the_restart_time() {
    let mut fixture = fixture();
    let (route, attributes) = rt2(V1, mac(1), None, 0);
    announce(&mut fixture, RR, (route.clone(), attributes));
    let before = fixture.fdb(mac(1)).unwrap();
    restart(&mut fixture, RETENTION);
    wait(&mut fixture, 119 + 1);
    assert_eq!(fixture.fdb(mac(1)), Some(before));
    assert_eq!(communities(&fixture, RR, &route), Some(vec![LLGR_STALE]));
    assert!(fixture.route(&route).stale);
    assert!(why(&fixture, &route).contains("beyond its restart time"));
    fixture.advance(Duration::from_secs(3599));
    assert_eq!(fixture.fdb(mac(1)), Some(before));
    wait(&mut fixture, 1);
    assert_eq!(fixture.fdb(mac(1)), None);
    assert_eq!(fixture.core.peer_routes(RR).stale, 0);
}

/// RFC 9494 §4.2: with a restart time of zero that begins at once; NO_LLGR keeps a route out of it.
#[test]
fn gr_010_no_llgr_is_honoured() {
    let mut fixture = fixture();
    announce(&mut fixture, RR, rt2(V1, mac(1), None, 0));
    announce(
        &mut fixture,
        RR,
        with_community(rt2(V1, mac(2), None, 0), NO_LLGR),
    );
    let at_once = Retention {
        restart_time: Duration::ZERO,
        ..RETENTION
    };
    restart(&mut fixture, at_once);
    assert!(fixture.fdb(mac(1)).is_some());
    assert_eq!(fixture.fdb(mac(2)), None);
    assert_eq!(fixture.core.peer_routes(RR).received, 1);
}

/// GR-010: the least preferred path of all, whoever marked it (RFC 9494 §4.3), and the last choice
/// for a MAC among routes of several VTEPs, whatever their sequence numbers.
#[test]
fn gr_010_least_preferred() {
    let mut fixture = fixture();
    let (route, mut weak) = rt2(V1, mac(1), None, 0);
    weak.local_pref = Some(1);
    announce(&mut fixture, RR, rt2(V1, mac(1), None, 0));
    announce(&mut fixture, OTHER, (route.clone(), weak));
    let best = |fixture: &Fixture| {
        let mut paths = fixture.core.adj_in.paths();
        let best = paths.find(|(key, _, reason)| *key == route.key() && reason.is_none());
        best.unwrap().1.peer
    };
    assert_eq!(best(&fixture), RR);
    restart(&mut fixture, RETENTION);
    assert_eq!(best(&fixture), RR);
    wait(&mut fixture, 120);
    assert_eq!(best(&fixture), OTHER);

    announce(
        &mut fixture,
        OTHER,
        with_community(rt2(V1, mac(2), None, 7), LLGR_STALE),
    );
    assert_eq!(fixture.vtep_of(mac(2)), Some(V1));
    announce(&mut fixture, OTHER, rt2(V2, mac(2), None, 3));
    assert_eq!(fixture.vtep_of(mac(2)), Some(V2));
}

/// RFC 9494 §4.2: a peer that is back has its own F bit for such routes, and the end of their time
/// stands until its End-of-RIB.
#[test]
fn gr_010_back_after_the_restart_time() {
    for (change, kept) in [
        (knowing as fn(&mut Session), true),
        (|session| session.long_lived = true, false),
        (|_| (), false),
    ] {
        let mut fixture = fixture();
        for n in 1..=2 {
            announce(&mut fixture, RR, rt2(V1, mac(n), None, 0));
        }
        restart(&mut fixture, RETENTION);
        wait(&mut fixture, 120);
        up(&mut fixture, RR, change);
        assert_eq!(fixture.fdb(mac(1)).is_some(), kept);
        announce(&mut fixture, RR, rt2(V1, mac(2), None, 0));
        let fresh = rt2(V1, mac(2), None, 0).0;
        assert_eq!(communities(&fixture, RR, &fresh), Some(Vec::new()));
        end_of_rib(&mut fixture, RR);
        assert_eq!(fixture.fdb(mac(1)), None);
        assert!(fixture.fdb(mac(2)).is_some());
    }
    let mut fixture = fixture();
    announce(&mut fixture, RR, rt2(V1, mac(1), None, 0));
    restart(&mut fixture, RETENTION);
    wait(&mut fixture, 120);
    up(&mut fixture, RR, knowing);
    fixture.advance(Duration::from_secs(3000));
    restart(&mut fixture, RETENTION);
    fixture.advance(Duration::from_secs(120));
    assert!(fixture.fdb(mac(1)).is_some());
    wait(&mut fixture, 480);
    assert_eq!(fixture.fdb(mac(1)), None);
}

/// RFC 9494 §4.3: as a reflector we tell those who know such routes that they are now, and take them
/// back from the others.
#[test]
fn gr_010_reflection() {
    for knows in [true, false] {
        let mut fixture = fixture();
        if knows {
            up(&mut fixture, CLIENT, knowing);
        }
        let (route, attributes) = rt2(V1, mac(1), None, 0);
        announce(&mut fixture, RR, (route.clone(), attributes));
        restart(&mut fixture, RETENTION);
        fixture.outputs.clear();
        wait(&mut fixture, 120);
        let mut told = Vec::new();
        for output in fixture.outputs.drain(..) {
            if let Output::Send(CLIENT, advertisement) = output {
                told.push(advertisement);
            }
        }
        let [told] = &told[..] else {
            panic!("{told:?}")
        };
        match knows {
            true => {
                let [(attributes, routes)] = &told.announce[..] else {
                    panic!("{told:?}")
                };
                assert_eq!(routes[..], [route]);
                assert_eq!(attributes.communities, [LLGR_STALE]);
                assert!(told.withdraw.is_empty());
            }
            false => {
                assert_eq!(told.withdraw, [route.key()]);
                assert!(told.announce.is_empty());
            }
        }
    }
}
