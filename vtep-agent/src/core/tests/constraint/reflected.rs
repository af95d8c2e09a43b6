//! As a route reflector: routes and memberships of others.

use super::*;

/// As a reflector: routes of others are filtered too, and re-examined when a membership comes or goes.
#[test]
fn reflected_routes_are_filtered() {
    let mut fixture = reflector();
    for peer in [CLIENT, OTHER_CLIENT] {
        up(&mut fixture, peer);
        end_of_rib(&mut fixture, peer);
    }
    let (route, attributes) = rt2(V1, mac(1), None, 0);
    let update = Update {
        announced: vec![route.clone()],
        attributes: Some(Arc::new(attributes)),
        ..Update::default()
    };
    fixture.outputs.clear();
    fixture.handle(Input::Peer(CLIENT, PeerEvent::Update(Box::new(update))));
    let key = route.key();
    assert_eq!(evpn(&mut fixture, OTHER_CLIENT), (vec![], vec![], false));
    ask(&mut fixture, OTHER_CLIENT, &[membership(VNI)], &[]);
    assert_eq!(
        evpn(&mut fixture, OTHER_CLIENT),
        (vec![key.clone()], vec![], false)
    );
    assert_eq!(fixture.core.peer_routes(OTHER_CLIENT).sent, 1);
    ask(&mut fixture, OTHER_CLIENT, &[], &[membership(VNI)]);
    assert_eq!(evpn(&mut fixture, OTHER_CLIENT), (vec![], vec![key], false));
}

/// RFC 4684 §3.2: memberships of clients go to everybody, to clients with our identifier as
/// ORIGINATOR_ID and our address as next hop; to nobody what only he asked for himself.
#[test]
fn memberships_are_reflected() {
    let mut fixture = reflector();
    for peer in [RR, CLIENT, OTHER_CLIENT] {
        up(&mut fixture, peer);
        end_of_rib(&mut fixture, peer);
    }
    fixture.outputs.clear();
    let asked = membership(VNI);
    ask(&mut fixture, CLIENT, &[asked], &[]);
    assert_eq!(memberships(&mut fixture, CLIENT), []);
    let to_client = sent(&mut fixture, OTHER_CLIENT, Family::RTC).remove(0);
    let (attributes, routes) = &to_client.announce[0];
    assert_eq!(routes, &[Route::Membership(asked)]);
    assert_eq!(
        (attributes.originator_id, attributes.next_hop),
        (Some(US), US.into())
    );
    let to_other = sent(&mut fixture, RR, Family::RTC).remove(0);
    let (attributes, _) = &to_other.announce[0];
    assert_eq!(
        attributes.originator_id,
        Some(Ipv4Addr::new(198, 18, 0, 101))
    );
    assert_eq!(attributes.cluster_list, [US]);

    // The other client wants it as well: now the first one has to know.
    ask(&mut fixture, OTHER_CLIENT, &[asked], &[]);
    assert_eq!(memberships(&mut fixture, CLIENT), [(true, asked)]);
    assert_eq!(memberships(&mut fixture, RR), []);
    // Both paths of internal peers count: one goes, the other stays.
    ask(&mut fixture, CLIENT, &[], &[asked]);
    assert_eq!(memberships(&mut fixture, OTHER_CLIENT), [(false, asked)]);
    assert_eq!(memberships(&mut fixture, CLIENT), []);
    let changed = memberships(&mut fixture, RR);
    assert_eq!(changed, [(true, asked)], "by another path");
    ask(&mut fixture, OTHER_CLIENT, &[], &[asked]);
    assert_eq!(memberships(&mut fixture, RR), [(false, asked)]);
    assert_eq!(memberships(&mut fixture, CLIENT), [(false, asked)]);
}

/// What only peers that are no clients ask for is not told among them (RFC 4456 §6).
#[test]
fn memberships_of_others_go_to_clients() {
    let mut fixture = reflector();
    for peer in [RR, CLIENT] {
        up(&mut fixture, peer);
    }
    fixture.outputs.clear();
    ask(&mut fixture, RR, &[Membership::DEFAULT], &[]);
    assert_eq!(
        memberships(&mut fixture, CLIENT),
        [(true, Membership::DEFAULT)]
    );
    assert_eq!(memberships(&mut fixture, RR), []);
}

/// While a client restarts, others still hear what it asks for; what it doesn't ask for again goes
/// with the End-of-RIB.
#[test]
fn memberships_outlive_a_restart() {
    let mut fixture = reflector();
    for peer in [RR, CLIENT] {
        up(&mut fixture, peer);
        end_of_rib(&mut fixture, peer);
    }
    let both = [membership(VNI), membership(GREEN)];
    ask(&mut fixture, CLIENT, &both, &[]);
    fixture.outputs.clear();
    let retention = Retention {
        restart_time: Duration::from_secs(120),
        keep_stale: true,
        long_lived: None,
    };
    fixture.handle(Input::Peer(CLIENT, PeerEvent::Restarting(retention)));
    up(&mut fixture, CLIENT);
    assert_eq!(memberships(&mut fixture, RR), []);
    ask(&mut fixture, CLIENT, &both[..1], &[]);
    end_of_rib(&mut fixture, CLIENT);
    assert_eq!(memberships(&mut fixture, RR), [(false, membership(GREEN))]);

    // It stays away for too long.
    fixture.handle(Input::Peer(CLIENT, PeerEvent::Restarting(retention)));
    fixture.advance(Duration::from_secs(119));
    assert_eq!(memberships(&mut fixture, RR), []);
    fixture.advance(Duration::from_secs(1));
    assert_eq!(memberships(&mut fixture, RR), [(false, membership(VNI))]);
}

/// A membership that was here before is not one (RFC 4456 §8).
#[test]
fn looped_memberships_do_not_count() {
    let mut fixture = fixture();
    up(&mut fixture, RR);
    end_of_rib(&mut fixture, RR);
    fixture.outputs.clear();
    let attributes = Attributes {
        originator_id: Some(US),
        ..Attributes::originated(V1.into())
    };
    let update = Update {
        announced: vec![Route::Membership(Membership::DEFAULT)],
        attributes: Some(Arc::new(attributes)),
        ..Update::default()
    };
    fixture.handle(Input::Peer(RR, PeerEvent::Update(Box::new(update))));
    assert_eq!(evpn(&mut fixture, RR), (vec![], vec![], false));
}
