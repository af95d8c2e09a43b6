//! Sessions: what a peer is sent, and what becomes of its routes.

use super::*;
use crate::{
    bgp::wire::{AsPath, AsSegment},
    config::MaxPrefixes,
};

const OTHER: PeerId = PeerId(1);

fn of(fixture: &mut Fixture, peer: PeerId) -> Vec<Advertisement> {
    let outputs = std::mem::take(&mut fixture.outputs);
    let send = |output| match output {
        Output::Send(id, advertisement) if id == peer => Some(advertisement),
        _ => None,
    };
    outputs.into_iter().filter_map(send).collect()
}

#[test]
fn initial_dump_and_end_of_rib() {
    let mut fixture = Fixture::new();
    for n in 1..=50 {
        fixture.frame(TAP1, mac(n));
    }
    fixture.outputs.clear();
    fixture.up(OTHER);
    let sent = of(&mut fixture, OTHER);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].end_of_rib && sent[0].withdraw.is_empty());
    assert_eq!(sent[0].announce.len(), 2, "RT-2s share their attributes");
    let counts: Vec<_> = sent[0].announce.iter().map(|(_, r)| r.len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 51);
    assert_eq!(fixture.core.peer_routes(OTHER).sent, 51);
    assert_eq!(fixture.core.peer_routes(PeerId(7)).sent, 0);
}

/// RR-001: RFC 2918 §4.
#[test]
fn rr_001_refresh() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.outputs.clear();
    fixture.handle(Input::Peer(RR, PeerEvent::Refresh(Family::EVPN)));
    let sent = of(&mut fixture, RR);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].refresh && !sent[0].end_of_rib);
    let routes: usize = sent[0].announce.iter().map(|(_, r)| r.len()).sum();
    assert_eq!(routes, 2);
}

/// RFC 4271 §5.1.2, §5.1.5; the next hop is the VTEP's (checklist A9.4.1).
#[test]
fn attributes_towards_external_peers() {
    let mut fixture = Fixture::new();
    fixture.handle(Input::Peer(OTHER, PeerEvent::Up(session(false))));
    let sent = of(&mut fixture, OTHER);
    let attributes = &sent[0].announce[0].0;
    assert_eq!(
        attributes.as_path,
        AsPath(vec![AsSegment::Sequence(vec![Asn(65000)])])
    );
    assert_eq!(attributes.local_pref, None);
    assert_eq!(attributes.next_hop, IpAddr::V4(US));
}

#[test]
fn no_evpn_no_routes() {
    let mut fixture = Fixture::new();
    let session = Session {
        families: Families::NONE,
        ..session(true)
    };
    fixture.handle(Input::Peer(OTHER, PeerEvent::Up(session)));
    assert!(of(&mut fixture, OTHER).is_empty());
}

/// Two reflectors: the second path takes over without a gap.
#[test]
fn peer_down() {
    let mut fixture = Fixture::new();
    let mut second = session(true);
    second.router_id = Ipv4Addr::new(198, 18, 0, 101);
    second.address = IpAddr::V4(second.router_id);
    fixture.handle(Input::Peer(OTHER, PeerEvent::Up(second)));
    let (route, attributes) = rt2(V1, mac(9), None, 0);
    fixture.announce((route.clone(), attributes.clone()));
    let update = Update {
        announced: vec![route.clone()],
        attributes: Some(Arc::new(attributes)),
        ..Update::default()
    };
    fixture.handle(Input::Peer(OTHER, PeerEvent::Update(Box::new(update))));
    let routes = fixture.core.routes(None, &HashSet::default()).unwrap();
    let received: Vec<_> = routes.iter().filter(|route| route.peer.is_some()).collect();
    assert_eq!((received[0].best, received[1].best), (true, false));
    assert!(
        received[1]
            .reason
            .as_ref()
            .unwrap()
            .contains("router or originator id")
    );
    assert_eq!(fixture.core.peer_routes(OTHER).received, 1);
    assert_eq!(fixture.core.peer_routes(OTHER).accepted, 1);

    let before = fixture.fdb(mac(9));
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    assert_eq!(fixture.fdb(mac(9)), before);
    fixture.handle(Input::Peer(OTHER, PeerEvent::Down));
    assert_eq!(fixture.fdb(mac(9)), None);
    assert_eq!(
        fixture
            .core
            .routes(None, &HashSet::default())
            .unwrap()
            .len(),
        1,
        "our own"
    );
    // Late, from a session that is gone.
    fixture.announce(rt2(V1, mac(9), None, 0));
    assert_eq!(fixture.fdb(mac(9)), None);
}

/// ERR-017 (RFC 4271 §9): a peer withdraws what it has never announced; another's path to the same
/// NLRI stays.
#[test]
fn err_017_withdrawing_what_was_never_announced() {
    let mut fixture = Fixture::new();
    fixture.handle(Input::Peer(OTHER, PeerEvent::Up(session(true))));
    fixture.announce(rt2(V1, mac(9), None, 0));
    let before = fixture.fdb(mac(9));
    assert!(before.is_some());
    fixture.outputs.clear();
    let withdrawn = [mac(9), mac(8)].map(|mac| rt2(V1, mac, None, 0).0.key());
    let update = Update {
        withdrawn: withdrawn.to_vec(),
        ..Update::default()
    };
    fixture.handle(Input::Peer(OTHER, PeerEvent::Update(Box::new(update))));
    fixture.withdraw(&rt2(V1, mac(8), None, 0).0);
    assert_eq!(fixture.fdb(mac(9)), before);
    assert!(fixture.outputs.is_empty(), "{:?}", fixture.outputs);
    let counts = [RR, OTHER].map(|peer| fixture.core.peer_routes(peer).received);
    assert_eq!(counts, [1, 0]);
}

/// A best route whose entry the map did not take is not installed.
#[test]
fn a_route_that_is_not_written_says_so() {
    let mut fixture = Fixture::new();
    let (route, attributes) = rt2(V1, mac(9), None, 0);
    fixture.announce((route.clone(), attributes));
    assert!(fixture.route(&route).installed);
    let bd = fixture.core.names[&name("blue")];
    let unwritten = HashSet::from_iter([FdbKey::new(bd, mac(9))]);
    let routes = fixture.core.routes(None, &unwritten).unwrap();
    let shown = routes.iter().find(|view| view.peer.is_some()).unwrap();
    assert!(shown.best && !shown.installed);
    assert!(shown.reason.as_ref().unwrap().contains("fdb"), "{shown:?}");
}

/// RFC 4271 §9.1.2, RFC 4456 §8, checklist A9.4.3: kept, shown, never used.
#[test]
fn loops_are_rejected_with_a_reason() {
    type Case = (&'static str, fn(&mut Attributes));
    let cases: [Case; 6] = [
        ("AS_PATH", |a| {
            a.as_path = AsPath(vec![AsSegment::Sequence(vec![Asn(65100), Asn(65000)])]);
        }),
        ("originator", |a| a.originator_id = Some(US)),
        ("CLUSTER_LIST", |a| a.cluster_list = vec![V1, US]),
        ("our own address", |a| a.next_hop = IpAddr::V4(US)),
        ("no unicast", |a| {
            a.next_hop = IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }),
        ("no unicast", |a| {
            a.next_hop = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1))
        }),
    ];
    for (reason, change) in cases {
        let mut fixture = Fixture::new();
        let (route, mut attributes) = rt2(V1, mac(9), None, 0);
        change(&mut attributes);
        fixture.announce((route.clone(), attributes));
        assert_eq!(fixture.fdb(mac(9)), None, "{reason}");
        assert!(!fixture.route(&route).best);
        assert!(fixture.reason(&route).contains(reason));
        assert_eq!(fixture.core.peer_routes(RR).accepted, 0);
    }
}

#[test]
fn withdrawn_and_announced_in_one_update() {
    let mut fixture = Fixture::new();
    let (route, _) = rt2(V1, mac(1), None, 0);
    fixture.frame(TAP1, mac(1));
    fixture.sent();
    let (_, attributes) = rt2(V1, mac(1), None, 1);
    fixture.update(Update {
        announced: vec![route.clone()],
        attributes: Some(Arc::new(attributes)),
        withdrawn: vec![route.key()],
        ..Update::default()
    });
    assert_eq!(fixture.sent().withdraw.len(), 1);
}

#[test]
fn shutdown_withdraws_everything() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    fixture.sent();
    let outputs = fixture.core.shutdown(fixture.now);
    fixture.outputs.extend(outputs);
    assert_eq!(fixture.sent().withdraw.len(), 3);
}

#[test]
fn views_of_routes() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(9), Some("10.0.0.9"), 0));
    let routes = fixture
        .core
        .routes(Some(&name("blue")), &HashSet::default())
        .unwrap();
    assert_eq!(routes.len(), 2);
    let remote = routes.iter().find(|route| route.peer.is_some()).unwrap();
    assert_eq!(
        remote.key,
        "[2]:[0]:[48]:[02:00:00:00:00:09]:[32]:[10.0.0.9]"
    );
    assert_eq!(remote.rd, "198.18.0.1:7");
    assert!(remote.best && remote.installed && remote.reason.is_none());
    assert_eq!(remote.attributes.route_targets, ["65000:10100"]);
    assert_eq!(remote.attributes.vni, Some(VNI));
    assert_eq!(remote.attributes.sequence, Some(0));
    assert_eq!(remote.attributes.encapsulations, ["vxlan"]);
    assert_eq!(
        fixture.core.vteps(None).unwrap(),
        [view::Vtep {
            address: IpAddr::V4(V1),
            bds: vec!["blue".to_owned()],
            macs: 1,
            reachable: true,
            metric: Some(0),
        }]
    );
}

/// BGP-022: the limit is fine, one more is not, and nothing after it counts. A warning leaves all
/// as it is.
#[test]
fn bgp_022_too_many_routes() {
    for warn_only in [false, true] {
        let mut limited = config();
        limited.bgp.peers[0].max_prefixes = Some(MaxPrefixes {
            limit: 10,
            warn_only,
        });
        let mut fixture = Fixture::start(limited, State::default());
        fixture.up(RR);
        fixture.outputs.clear();
        let ends = |fixture: &Fixture| {
            let end =
                |output: &&Output| matches!(output, Output::TooManyRoutes(RR, Family::EVPN, 10));
            fixture.outputs.iter().filter(end).count()
        };
        for n in 1..=10 {
            fixture.announce(rt2(V1, mac(n), None, 0));
            fixture.announce(rt2(V1, mac(n), None, 0));
        }
        assert_eq!(ends(&fixture), 0);
        for n in 11..=13 {
            fixture.announce(rt2(V1, mac(n), None, 0));
        }
        let received = fixture.core.peer_routes(RR).received;
        assert_eq!(
            (ends(&fixture), received),
            if warn_only { (0, 13) } else { (1, 11) }
        );
        fixture.handle(Input::Peer(RR, PeerEvent::Down));
        fixture.up(RR);
        fixture.announce(rt2(V1, mac(1), None, 0));
        assert_eq!(fixture.core.peer_routes(RR).received, 1);
    }
}

/// A large table goes in parts, each in a turn of its own, and nothing of it is taken for routes of the
/// next session, not even if that one says that forwarding was preserved.
#[test]
fn a_large_table_goes_in_parts() {
    const ROUTES: u16 = 10_000;
    let graceful = || Session {
        graceful_restart: true,
        forwarding_preserved: true,
        ..session(true)
    };
    let filled = || {
        let mut fixture = Fixture::new();
        fixture.handle(Input::Peer(RR, PeerEvent::Up(graceful())));
        let mut remote = originator(V1);
        let macs = (0..ROUTES).map(|number| {
            let [high, low] = number.to_be_bytes();
            remote.mac_ip(Mac([2, 9, 0, 0, high, low]), Default::default(), None)
        });
        let (announced, attributes): (Vec<_>, Vec<_>) = macs.unzip();
        fixture.update(Update {
            announced,
            attributes: attributes.into_iter().next(),
            ..Update::default()
        });
        assert_eq!(fixture.core.intent.fdb.len(), usize::from(ROUTES));
        fixture.handle(Input::Peer(RR, PeerEvent::Down));
        fixture
    };
    let mut fixture = filled();
    let mut turns = 0;
    while !fixture.core.intent.fdb.is_empty() {
        assert!(
            fixture
                .core
                .deadline()
                .is_some_and(|due| due <= fixture.now)
        );
        fixture.handle(Input::Tick);
        turns += 1;
    }
    assert_eq!(turns, 2);
    assert_eq!(fixture.core.peer_routes(RR).received, 0);

    let mut fixture = filled();
    assert!(!fixture.core.intent.fdb.is_empty());
    fixture.handle(Input::Peer(RR, PeerEvent::Up(graceful())));
    assert!(fixture.core.intent.fdb.is_empty());
    assert_eq!(fixture.core.peer_routes(RR).received, 0);
}

/// UPDATEs that are taken together lead where they lead one by one: the last word counts.
#[test]
fn updates_taken_together() {
    let there = Ipv4Addr::new(198, 18, 0, 12);
    let announce = |(route, attributes): (Route, Attributes)| Update {
        announced: vec![route],
        attributes: Some(attributes.into()),
        ..Update::default()
    };
    let (gone, _) = rt2(there, mac(1), None, 0);
    let updates = vec![
        announce(rt3(there)),
        announce(rt2(there, mac(1), None, 0)),
        announce(rt2(there, mac(2), Some("10.0.0.2"), 0)),
        Update {
            withdrawn: vec![gone.key()],
            ..Update::default()
        },
        announce(rt2(there, mac(3), None, 1)),
        announce(rt2(there, mac(3), None, 4)),
    ];
    let (mut one_by_one, mut together) = (Fixture::new(), Fixture::new());
    for update in updates.clone() {
        one_by_one.update(update);
    }
    let updates = updates.into_iter().map(|update| (RR, Box::new(update)));
    together.handle(Input::Updates(updates.collect()));
    for fixture in [&one_by_one, &together] {
        assert_eq!(fixture.vtep_of(mac(1)), None);
        assert_eq!(fixture.vtep_of(mac(2)), Some(there));
        assert_eq!(fixture.vtep_of(mac(3)), Some(there));
        assert_eq!(fixture.flood().1, [there]);
    }
    let rows = |fixture: &Fixture| fixture.core.intent().arp.len();
    assert_eq!((rows(&one_by_one), rows(&together)), (1, 1));
}
