//! Peers that know us as another AS than our own: what they are told, and what they may tell.

use super::{
    reflection::{CLIENT, Sent, announce, reflector, sent},
    *,
};
use crate::{
    bgp::wire::{AsPath, AsSegment},
    types::LocalAs,
};

/// As the configuration has it; 0 for no other AS.
fn local(asn: u32, replace: bool) -> Option<LocalAs> {
    let asn = Asn(asn);
    (asn != Asn(0)).then_some(LocalAs { asn, replace })
}

fn external(local_as: Option<LocalAs>) -> Session {
    Session {
        local_as,
        ..session(false)
    }
}

fn sequence(path: &[u32]) -> AsPath {
    AsPath(vec![AsSegment::Sequence(
        path.iter().copied().map(Asn).collect(),
    )])
}

/// Checklist A9.2: three external peers at once, each with its own form of our routes and of those
/// that we pass on.
#[test]
fn local_as_in_announced_paths() {
    let mut fixture = reflector();
    let peers = [
        (PeerId(10), local(0, false), vec![65000]),
        (PeerId(11), local(65200, false), vec![65200, 65000]),
        (PeerId(12), local(65200, true), vec![65200]),
        (PeerId(13), local(65300, true), vec![65300]),
    ];
    for (id, local, _) in &peers {
        let session = external(*local);
        fixture.handle(Input::Peer(*id, PeerEvent::Up(session)));
    }
    let dumps = sent(&mut fixture);
    let (route, mut attributes) = rt2(V1, mac(1), None, 0);
    attributes.as_path = sequence(&[64999]);
    announce(&mut fixture, CLIENT, (route, attributes));
    let passed_on = sent(&mut fixture);
    for (id, _, front) in &peers {
        let of = |told: &[Sent]| {
            let (_, announced, _) = told.iter().find(|(peer, ..)| peer == id).unwrap();
            announced[0].1.as_path.clone()
        };
        assert_eq!(of(&dumps), sequence(front), "own, {id:?}");
        let behind: Vec<_> = front.iter().copied().chain([64999]).collect();
        assert_eq!(of(&passed_on), sequence(&behind), "passed on, {id:?}");
    }
    // A peer that comes later gets what the others have.
    let late = PeerId(14);
    fixture.handle(Input::Peer(
        late,
        PeerEvent::Up(external(local(65200, true))),
    ));
    let (_, announced, _) = sent(&mut fixture).remove(0);
    let mut paths: Vec<_> = announced.iter().map(|(_, told)| &told.as_path).collect();
    paths.dedup();
    assert_eq!(paths, [&sequence(&[65200]), &sequence(&[65200, 64999])]);
}

/// A peer that we are internal to by its `local_as` hears of no AS of ours.
#[test]
fn local_as_of_an_internal_peer() {
    let mut fixture = reflector();
    sent(&mut fixture);
    let session = Session {
        local_as: local(65200, false),
        ..session(true)
    };
    fixture.handle(Input::Peer(PeerId(10), PeerEvent::Up(session)));
    let (_, announced, _) = sent(&mut fixture).remove(0);
    assert_eq!(announced[0].1.as_path, AsPath::default());
    assert_eq!(announced[0].1.local_pref, Some(100));
}

/// Checklist A9.4.5: neither AS may be in the peer's paths more often than `allowas_in` says; of
/// another peer, only our own.
#[test]
fn local_as_in_received_paths() {
    for (knows, path, allowas_in, allowed) in [
        (65200, [65100, 64999], 0, true),
        (65200, [65100, 65200], 0, false),
        (65200, [65100, 65000], 0, false),
        (65200, [65200, 65000], 1, true),
        (65200, [65200, 65200], 1, false),
        (0, [65100, 65200], 0, true),
    ] {
        let mut fixture = reflector();
        let session = Session {
            allowas_in,
            ..external(local(knows, true))
        };
        fixture.handle(Input::Peer(PeerId(10), PeerEvent::Up(session)));
        let (route, mut attributes) = rt2(V1, mac(1), None, 0);
        attributes.as_path = sequence(&path);
        announce(&mut fixture, PeerId(10), (route, attributes));
        assert_eq!(
            fixture.fdb(mac(1)).is_some(),
            allowed,
            "{path:?} from {knows}"
        );
    }
}

/// Nothing is put in front of what such a peer tells: its paths count as they came.
#[test]
fn no_local_as_in_front_of_received_paths() {
    let mut fixture = reflector();
    fixture.handle(Input::Peer(
        PeerId(10),
        PeerEvent::Up(external(local(65200, false))),
    ));
    sent(&mut fixture);
    let (route, mut attributes) = rt2(V1, mac(1), None, 0);
    attributes.as_path = sequence(&[65100]);
    announce(&mut fixture, PeerId(10), (route, attributes));
    let told = sent(&mut fixture);
    let to_client = told.iter().find(|(peer, ..)| *peer == CLIENT).unwrap();
    assert_eq!(to_client.1[0].1.as_path, sequence(&[65100]));
}
