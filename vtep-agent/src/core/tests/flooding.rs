//! Checklist D5: flood lists.

use super::*;

/// MAC-007 (the list), MAC-013.
#[test]
fn mac_007_013_imet_comes_and_goes() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.flood(), (vec![TAP1, TAP2], vec![]));
    fixture.announce(rt3(V1));
    fixture.announce(rt3(V2));
    assert_eq!(fixture.flood(), (vec![TAP1, TAP2], vec![V1, V2]));
    fixture.withdraw(&rt3(V1).0);
    assert_eq!(fixture.flood().1, [V2]);
}

/// MAC-009 (RFC 9572 §5.2), MAC-011 (RFC 9574 §4).
#[test]
fn mac_009_011_one_copy_per_next_hop_and_vni() {
    let mut fixture = Fixture::new();
    let (route, attributes) = rt3(V1);
    let Route::Imet(mut other) = route else {
        panic!("no RT-3");
    };
    other.rd = RouteDistinguisher::ipv4(V1, 8);
    other.originator = IpAddr::V4(V2);
    let other = Route::Imet(other);
    fixture.announce((route.clone(), attributes.clone()));
    fixture.announce((other.clone(), attributes));
    assert_eq!(fixture.flood().1, [V1]);
    fixture.withdraw(&route);
    assert_eq!(fixture.flood().1, [V1]);
    fixture.withdraw(&other);
    assert!(fixture.flood().1.is_empty());
}

/// MAC-010: global VNIs.
#[test]
fn mac_010_foreign_vni() {
    let mut fixture = Fixture::new();
    let (route, mut attributes) = rt3(V1);
    if let Some(pmsi) = &mut attributes.pmsi {
        pmsi.label = 77;
    }
    fixture.announce((route.clone(), attributes));
    assert!(fixture.flood().1.is_empty());
    assert!(fixture.reason(&route).contains("VNI 77"));
}

/// MAC-010 (RFC 8365 §5.1.3): with downstream assignment the copy, and every frame, has the VNI of the
/// route; from one reload to the next.
#[test]
fn mac_010_downstream_assigned_vni() {
    const THEIRS: u32 = 77;
    let mut fixture = Fixture::new();
    let (imet, mut attributes) = rt3(V1);
    if let Some(pmsi) = &mut attributes.pmsi {
        pmsi.label = THEIRS;
    }
    fixture.announce((imet.clone(), attributes));
    let (mut host, attributes) = rt2(V1, mac(9), None, 0);
    if let Route::MacIp(route) = &mut host {
        route.label1 = THEIRS;
    }
    fixture.announce((host, attributes));
    for downstream in [true, false, true] {
        let mut config = config();
        config.bds[0].downstream_vni = downstream;
        fixture.command(Command::Reload(Box::new(config))).unwrap();
        assert_eq!(fixture.route(&imet).installed, downstream);
        assert_eq!(fixture.vtep_of(mac(9)), downstream.then_some(V1));
    }
    let has_vni = |(_, member): (u32, &vtep_common::abi::FloodMember)| member.vni == THEIRS;
    assert!(fixture.core.intent.flood.iter().any(has_vni));
    let word = fixture.fdb(mac(9)).unwrap();
    let group = fixture.core.intent.groups.get(word.target()).unwrap();
    assert_eq!(group.members[0].vni, THEIRS);
    // No VNI at all.
    let (mut none, attributes) = rt2(V2, mac(8), None, 0);
    if let Route::MacIp(route) = &mut none {
        route.label1 = 0;
    }
    fixture.announce((none.clone(), attributes));
    assert!(fixture.reason(&none).contains("VNI 0"));
}

/// MAC-012: of two VTEPs that claim a MAC the one with a path has it, whatever the sequence numbers say;
/// also when the other's route is only kept for a peer that restarts (A4.4 b, RFC 4724 §4.2).
#[test]
fn mac_012_a_claim_without_a_path_loses() {
    for stale in [false, true] {
        let mut fixture = Fixture::new();
        fixture.announce(rt2(V1, mac(9), None, 5));
        if stale {
            let retention = crate::bgp::peer::Retention {
                restart_time: Duration::from_secs(120),
                keep_stale: true,
                long_lived: None,
            };
            fixture.handle(Input::Peer(RR, PeerEvent::Restarting(retention)));
            let back = Session {
                graceful_restart: true,
                forwarding_preserved: true,
                ..session(true)
            };
            fixture.handle(Input::Peer(RR, PeerEvent::Up(back)));
        }
        fixture.handle(Input::Paths(IpAddr::V4(V1), Vec::new(), 0));
        assert_eq!(fixture.vtep_of(mac(9)), Some(V1), "nobody else has it");
        fixture.announce(rt2(V2, mac(9), None, 4));
        assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
        let reason = fixture.reason(&rt2(V1, mac(9), None, 5).0);
        assert_eq!(reason, "next hop unreachable");
        fixture.handle(Input::Paths(IpAddr::V4(V1), vec![path()], 0));
        assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
        // Lost again, and known to be when the route is repeated.
        fixture.handle(Input::Paths(IpAddr::V4(V1), Vec::new(), 0));
        assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
        fixture.announce(rt2(V1, mac(9), None, 6));
        assert_eq!(fixture.vtep_of(mac(9)), Some(V2));
        fixture.handle(Input::Paths(IpAddr::V4(V2), Vec::new(), 0));
        assert_eq!(fixture.vtep_of(mac(9)), Some(V1), "the higher sequence");
    }
}

/// MAC-012: RFC 4271 §9.1.2.
#[test]
fn mac_012_next_hop_unreachable() {
    let mut fixture = Fixture::new();
    fixture.announce(rt3(V1));
    fixture.announce(rt2(V1, mac(9), None, 0));
    fixture.handle(Input::Paths(IpAddr::V4(V1), Vec::new(), 0));
    assert!(fixture.flood().1.is_empty());
    assert_eq!(
        fixture.vtep_of(mac(9)),
        Some(V1),
        "counted as NoPath by the datapath"
    );
    assert!(fixture.reason(&rt3(V1).0).contains("unreachable"));
    assert!(!fixture.core.vteps(None).unwrap()[0].reachable);
    fixture.handle(Input::Paths(IpAddr::V4(V1), vec![path()], 0));
    assert_eq!(fixture.flood().1, [V1]);
    assert!(fixture.route(&rt3(V1).0).installed);
}

/// No small limit.
#[test]
fn a_thousand_vteps() {
    let mut fixture = Fixture::new();
    for n in 0..1000_u16 {
        let [a, b] = n.to_be_bytes();
        fixture.announce(rt3(Ipv4Addr::new(198, 19, a, b)));
    }
    assert_eq!(fixture.flood().1.len(), 1000);
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    assert_eq!(fixture.flood().1.len(), 0);
    fixture.advance(Duration::from_secs(10));
    assert_eq!(fixture.core.intent.flood.len(), 2, "the ports' part alone");
}

#[test]
fn ports_that_are_down_do_not_receive() {
    let mut fixture = Fixture::new();
    let mut tap1 = link(TAP1, "tap1");
    tap1.up = false;
    fixture.handle(Input::Link(tap1.clone()));
    assert_eq!(fixture.flood().0, [TAP2]);
    tap1.up = true;
    fixture.handle(Input::Link(tap1));
    assert_eq!(fixture.flood().0, [TAP1, TAP2]);
}

/// `source_check`.
#[test]
fn accepted_sources() {
    use vtep_common::abi::SourceKey;
    let mut fixture = Fixture::new();
    fixture.announce(rt3(V1));
    let sources = |fixture: &Fixture| {
        let keys = fixture.core.intent.sources.iter().map(|(key, _)| key);
        keys.collect::<Vec<_>>()
    };
    assert_eq!(sources(&fixture), [SourceKey::new(BdId(0), V1)]);
    let mut strict = config();
    strict.vtep.source_check = SourceCheck::Strict;
    fixture.command(Command::Reload(Box::new(strict))).unwrap();
    assert_eq!(sources(&fixture), [SourceKey::new(fixture.bd(), V1)]);
    fixture.withdraw(&rt3(V1).0);
    assert_eq!(sources(&fixture), []);
}
