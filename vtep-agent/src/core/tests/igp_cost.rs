//! What the underlay says of next hops, in the decision between several of them (RFC 4271 §9.1.2).

use super::*;

/// A second route reflector.
const OTHER: PeerId = PeerId(1);

/// Two route reflectors.
fn fixture() -> Fixture {
    let mut config = config();
    config.bgp.peers.push(peer(101));
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.up(RR);
    let address = Ipv4Addr::new(198, 18, 0, 101);
    let session = Session::new(address.into(), Asn(65000), address, true);
    fixture.handle(Input::Peer(OTHER, PeerEvent::Up(session)));
    fixture.outputs.clear();
    fixture
}

/// The same, with V1 and V2 in use: the underlay has been asked about them.
fn fixture_with_vteps() -> Fixture {
    let mut fixture = fixture();
    for vtep in [V1, V2] {
        announce(&mut fixture, RR, rt3(vtep));
    }
    fixture
}

/// A MAC's route through a VTEP; its key is the same whichever that is.
fn via(vtep: Ipv4Addr, mac: Mac) -> (Route, Attributes) {
    let (route, mut attributes) = rt2(V1, mac, None, 0);
    attributes.next_hop = vtep.into();
    (route, attributes)
}

fn announce(fixture: &mut Fixture, peer: PeerId, route: (Route, Attributes)) {
    announce_all(fixture, peer, route.1, vec![route.0]);
}

fn announce_all(fixture: &mut Fixture, peer: PeerId, with: Attributes, routes: Vec<Route>) {
    let update = Update {
        announced: routes,
        attributes: Some(Arc::new(with)),
        ..Update::default()
    };
    fixture.handle(Input::Peer(peer, PeerEvent::Update(Box::new(update))));
}

/// The underlay has a route to a next hop, with this metric, or none.
fn route_to(fixture: &mut Fixture, vtep: Ipv4Addr, metric: Option<u32>) {
    let paths = metric.map(|_| path()).into_iter().collect();
    fixture.handle(Input::Paths(vtep.into(), paths, metric.unwrap_or(0)));
}

/// What the underlay was asked since the last call: begun with, and ended.
fn tracked(fixture: &mut Fixture) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let outputs = std::mem::take(&mut fixture.outputs);
    let begun = outputs.iter().filter_map(|output| match output {
        Output::Track(address) => Some(*address),
        _ => None,
    });
    let ended = outputs.iter().filter_map(|output| match output {
        Output::Untrack(address) => Some(*address),
        _ => None,
    });
    (begun.collect(), ended.collect())
}

/// Of each path to a MAC in order of peers: whether it is best, and why not.
fn shown(fixture: &Fixture) -> Vec<(bool, Option<String>)> {
    let routes = fixture.core.routes(None, &HashSet::default()).unwrap();
    let received = routes
        .into_iter()
        .filter(|route| route.peer.is_some() && route.route_type == 2);
    received.map(|route| (route.best, route.reason)).collect()
}

/// The cheaper next hop has the MAC, and keeps it until it is the dearer one; a dearer one is no news.
#[test]
fn the_best_path_follows_the_metric() {
    let mut fixture = fixture_with_vteps();
    announce(&mut fixture, RR, via(V1, mac(9)));
    announce(&mut fixture, OTHER, via(V2, mac(9)));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1), "equal: lower router id");
    route_to(&mut fixture, V1, Some(200));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
    route_to(&mut fixture, V2, Some(100));
    let dearer = Some("not best: IGP cost 200 > 100".to_owned());
    assert_eq!(shown(&fixture), [(false, dearer), (true, None)]);
    let metrics = fixture.core.vteps(None).unwrap();
    let metrics: Vec<_> = metrics
        .iter()
        .map(|vtep| (vtep.address, vtep.metric))
        .collect();
    assert_eq!(metrics, [(V1.into(), Some(200)), (V2.into(), Some(100))]);

    // Announced again, and decided at once: the cost is known.
    let higher = |vtep| {
        let (route, mut attributes) = via(vtep, mac(9));
        attributes.med = Some(1);
        (route, attributes)
    };
    announce(&mut fixture, RR, higher(V1));
    announce(&mut fixture, OTHER, higher(V2));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
    for (metric, best) in [(100, V1), (101, V2), (99, V1), (0, V1)] {
        route_to(&mut fixture, V1, Some(metric));
        assert_eq!(fixture.vtep_of(mac(9)), Some(best), "{metric}");
    }
    let dearer = Some("not best: IGP cost 100 > 0".to_owned());
    assert_eq!(shown(&fixture), [(true, None), (false, dearer)]);
}

/// RFC 4271 §9.1.2: of two paths the one is used whose next hop is reachable; of one, that one.
#[test]
fn mac_012_a_path_without_a_way_loses() {
    let mut fixture = fixture_with_vteps();
    let preferred = |vtep| {
        let (route, mut attributes) = via(vtep, mac(9));
        attributes.local_pref = Some(200);
        (route, attributes)
    };
    announce(&mut fixture, RR, preferred(V1));
    announce(&mut fixture, OTHER, via(V2, mac(9)));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
    route_to(&mut fixture, V1, None);
    assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
    let reason = Some("not best: next hop unreachable, that of the best is not".to_owned());
    assert_eq!(shown(&fixture), [(false, reason), (true, None)]);
    route_to(&mut fixture, V2, None);
    assert_eq!(
        fixture.vtep_of(mac(9)),
        Some(V1),
        "as if both were reachable"
    );
    route_to(&mut fixture, V1, Some(7));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
    assert!(shown(&fixture)[0].0);
}

/// The underlay is asked about next hops between which there is a choice, also where no bridge domain uses
/// them, and about no others.
#[test]
fn asked_where_there_is_a_choice() {
    let mut fixture = fixture();
    let foreign = |vtep| {
        let (route, mut attributes) = via(vtep, mac(9));
        attributes.ext_communities.clear();
        (route, attributes)
    };
    announce(&mut fixture, RR, foreign(V1));
    assert_eq!(tracked(&mut fixture), (vec![], vec![]), "no choice");
    announce(&mut fixture, OTHER, foreign(V1));
    assert_eq!(tracked(&mut fixture), (vec![], vec![]), "the same next hop");
    announce(&mut fixture, OTHER, foreign(V2));
    assert_eq!(tracked(&mut fixture), (vec![V1.into(), V2.into()], vec![]));
    // Used, too, and released again.
    announce(&mut fixture, RR, rt3(V1));
    assert_eq!(tracked(&mut fixture), (vec![V1.into()], vec![]));
    assert_eq!(fixture.flood().1, [V1]);
    fixture.withdraw(&rt3(V1).0);
    assert_eq!(tracked(&mut fixture), (vec![], vec![]));
    announce(&mut fixture, RR, rt3(V1));
    fixture.outputs.clear();
    // An own address takes no part in the decision (checklist A9.4).
    announce(&mut fixture, OTHER, foreign(US));
    assert_eq!(tracked(&mut fixture), (vec![], vec![V2.into()]));
    // What was on its way: next time the underlay is asked anew.
    route_to(&mut fixture, V2, Some(5));
    announce(&mut fixture, OTHER, foreign(V2));
    assert_eq!(tracked(&mut fixture), (vec![V2.into()], vec![]));
    fixture.handle(Input::Peer(OTHER, PeerEvent::Down));
    assert_eq!(tracked(&mut fixture), (vec![], vec![V2.into()]));
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    assert_eq!(tracked(&mut fixture), (vec![], vec![V1.into()]));
}

/// Next hops of another family have costs, too: a reflector may have clients with an IPv6 underlay.
#[test]
fn next_hops_of_either_family() {
    let mut fixture = fixture();
    let (one, two): (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    for (peer, next_hop) in [(RR, one), (OTHER, two)] {
        let (route, mut attributes) = via(V1, mac(9));
        attributes.next_hop = next_hop;
        announce(&mut fixture, peer, (route, attributes));
    }
    assert_eq!(tracked(&mut fixture), (vec![one, two], vec![]));
    fixture.handle(Input::Paths(one, vec![path()], 1025));
    fixture.handle(Input::Paths(two, vec![path()], 1024));
    let dearer = Some("not best: IGP cost 1025 > 1024".to_owned());
    assert_eq!(shown(&fixture)[0], (false, dearer));
}

/// A next hop of many routes: others have their turn in between, and then it is done. Routes that have no
/// choice are not decided again.
#[test]
fn many_routes_are_decided_in_parts() {
    const ROUTES: u32 = 5000;
    let mut fixture = fixture_with_vteps();
    let macs = || {
        (0..ROUTES).map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            Mac([2, 1, 0, a, b, c])
        })
    };
    for (peer, vtep) in [(RR, V1), (OTHER, V2)] {
        let (routes, attributes): (Vec<_>, Vec<_>) = macs().map(|mac| via(vtep, mac)).unzip();
        announce_all(&mut fixture, peer, attributes[0].clone(), routes);
    }
    announce(&mut fixture, RR, via(V1, mac(9)));
    let at = |fixture: &Fixture, vtep| {
        macs()
            .filter(|mac| fixture.vtep_of(*mac) == Some(vtep))
            .count()
    };
    assert_eq!(at(&fixture, V1), 5000);
    route_to(&mut fixture, V1, Some(10));
    assert_eq!((at(&fixture, V1), at(&fixture, V2)), (904, 4096));
    // A change back meanwhile begins anew.
    route_to(&mut fixture, V1, Some(0));
    assert_eq!((at(&fixture, V1), at(&fixture, V2)), (5000, 0));
    route_to(&mut fixture, V1, Some(10));
    assert_eq!(fixture.core.deadline(), Some(fixture.now));
    fixture.finish();
    assert_eq!((at(&fixture, V1), at(&fixture, V2)), (0, 5000));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
    // Withdrawn while they wait.
    route_to(&mut fixture, V2, Some(20));
    fixture.handle(Input::Peer(OTHER, PeerEvent::Down));
    fixture.finish();
    assert_eq!(at(&fixture, V1), 5000);
}
