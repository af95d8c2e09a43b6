//! Several paths of one peer to one route (RFC 7911).

use super::*;
use crate::{
    bgp::{
        peer::Retention,
        wire::{Identified, PathId},
    },
    config::MaxPrefixes,
};

fn announce(fixture: &mut Fixture, id: u32, (route, attributes): (Route, Attributes)) {
    fixture.update(Update {
        attributes: Some(Arc::new(attributes)),
        identified: Identified {
            announced: vec![(PathId(id), route)],
            withdrawn: Vec::new(),
        },
        ..Update::default()
    });
}

fn withdraw(fixture: &mut Fixture, id: u32, route: &Route) {
    fixture.update(Update {
        identified: Identified {
            announced: Vec::new(),
            withdrawn: vec![(PathId(id), route.key())],
        },
        ..Update::default()
    });
}

/// The route of MAC 9 through a VTEP; its key is the same whichever that is.
fn via(vtep: Ipv4Addr, local_pref: u32) -> (Route, Attributes) {
    let (route, mut attributes) = rt2(V1, mac(9), None, 0);
    attributes.next_hop = vtep.into();
    attributes.local_pref = Some(local_pref);
    (route, attributes)
}

/// The peer's paths: identifier, whether best, why not.
fn shown(fixture: &Fixture) -> Vec<(Option<u32>, bool, Option<String>)> {
    let routes = fixture.core.routes(None, &HashSet::default()).unwrap();
    let received = routes.into_iter().filter(|route| route.peer.is_some());
    received
        .map(|route| (route.path_id, route.best, route.reason))
        .collect()
}

fn count(fixture: &Fixture) -> (u64, u64) {
    let routes = fixture.core.peer_routes(RR);
    (routes.received, routes.stale)
}

/// Both are kept and compared; the best one's withdrawal brings the other without a gap.
#[test]
fn the_other_path_takes_over() {
    let mut fixture = Fixture::new();
    announce(&mut fixture, 0, via(V1, 200));
    announce(&mut fixture, 7, via(V2, 100));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
    assert_eq!(count(&fixture), (2, 0));
    let lower = Some("not best: lower LOCAL_PREF".to_owned());
    assert_eq!(
        shown(&fixture),
        [(Some(0), true, None), (Some(7), false, lower)]
    );
    withdraw(&mut fixture, 0, &via(V1, 200).0);
    assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
    assert_eq!(shown(&fixture), [(Some(7), true, None)]);
    // One that is gone, one that never was, and one without identifier.
    withdraw(&mut fixture, 0, &via(V1, 200).0);
    withdraw(&mut fixture, 8, &via(V1, 200).0);
    fixture.withdraw(&via(V1, 200).0);
    assert_eq!(
        (fixture.vtep_of(mac(9)), count(&fixture)),
        (Some(V2), (1, 0))
    );
    withdraw(&mut fixture, 7, &via(V2, 100).0);
    assert_eq!((fixture.fdb(mac(9)), count(&fixture)), (None, (0, 0)));
}

/// The same identifier again replaces that path alone; of equal paths the lower identifier is best,
/// in whatever order they came.
#[test]
fn the_same_identifier_replaces() {
    for order in [[3, 4], [4, 3]] {
        let mut fixture = Fixture::new();
        for id in order {
            let vtep = if id == 3 { V1 } else { V2 };
            announce(&mut fixture, id, via(vtep, 100));
        }
        assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
        let reason = shown(&fixture)[1].2.clone();
        assert_eq!(reason.as_deref(), Some("not best: higher path identifier"));
        announce(&mut fixture, 3, via(V1, 50));
        assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
        assert_eq!(count(&fixture), (2, 0));
    }
}

/// RFC 4724 §4.2, RFC 7313 §4: each path is stale by itself.
#[test]
fn stale_by_path() {
    let mut fixture = Fixture::new();
    announce(&mut fixture, 1, via(V1, 200));
    announce(&mut fixture, 2, via(V2, 100));
    let retention = Retention {
        restart_time: Duration::from_secs(120),
        keep_stale: false,
        long_lived: None,
    };
    fixture.handle(Input::Peer(RR, PeerEvent::Restarting(retention)));
    assert_eq!(count(&fixture), (2, 2));
    let session = Session {
        graceful_restart: true,
        forwarding_preserved: true,
        ..session(true)
    };
    fixture.handle(Input::Peer(RR, PeerEvent::Up(session)));
    announce(&mut fixture, 2, via(V2, 100));
    assert_eq!(
        (fixture.vtep_of(mac(9)), count(&fixture)),
        (Some(V1), (2, 1))
    );
    let end_of_rib = Update {
        end_of_rib: Some(Family::EVPN),
        ..Update::default()
    };
    fixture.update(end_of_rib);
    assert_eq!(
        (fixture.vtep_of(mac(9)), count(&fixture)),
        (Some(V2), (1, 0))
    );

    announce(&mut fixture, 1, via(V1, 200));
    fixture.handle(Input::Peer(RR, PeerEvent::RefreshBegin(Family::EVPN)));
    announce(&mut fixture, 1, via(V1, 200));
    assert_eq!(count(&fixture), (2, 1));
    fixture.handle(Input::Peer(RR, PeerEvent::RefreshEnd(Family::EVPN)));
    assert_eq!(
        (fixture.vtep_of(mac(9)), count(&fixture)),
        (Some(V1), (1, 0))
    );
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    assert_eq!((fixture.fdb(mac(9)), count(&fixture)), (None, (0, 0)));
}

/// `max_prefixes` counts paths, since they are what takes memory.
#[test]
fn every_path_counts() {
    let mut config = config();
    config.bgp.peers[0].max_prefixes = Some(MaxPrefixes {
        limit: 2,
        warn_only: false,
    });
    let mut fixture = Fixture::start(config, State::default());
    fixture.up(RR);
    let over = |fixture: &Fixture| fixture.core.is_over_limit(RR);
    for id in 1..=3 {
        assert!(!over(&fixture));
        announce(&mut fixture, id, via(V1, 100));
    }
    assert!(over(&fixture));
}
