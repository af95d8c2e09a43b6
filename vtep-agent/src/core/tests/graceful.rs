//! Helping a peer that restarts (RFC 4724 §4.2, RFC 8538 §4) or sends everything again (RFC 7313).

use super::*;
use crate::{bgp::peer::Retention, config::PeerConfig};

const RETENTION: Retention = Retention {
    restart_time: Duration::from_secs(120),
    keep_stale: false,
    long_lived: None,
};

/// The session after the restart, with the F bit or without.
fn back(forwarding_preserved: bool) -> Session {
    Session {
        graceful_restart: true,
        forwarding_preserved,
        ..session(true)
    }
}

/// MACs 1 and 2 behind V1, from a peer that is restarting.
fn restarting() -> Fixture {
    let mut fixture = Fixture::new();
    for n in 1..=2 {
        fixture.announce(rt2(V1, mac(n), None, 0));
    }
    restart(&mut fixture, RETENTION);
    fixture
}

fn restart(fixture: &mut Fixture, retention: Retention) {
    fixture.handle(Input::Peer(RR, PeerEvent::Restarting(retention)));
}

fn up(fixture: &mut Fixture, session: Session) {
    fixture.handle(Input::Peer(RR, PeerEvent::Up(session)));
}

fn end_of_rib(fixture: &mut Fixture) {
    fixture.update(Update {
        end_of_rib: Some(Family::EVPN),
        ..Update::default()
    });
}

fn wait(fixture: &mut Fixture, seconds: u64) {
    fixture.now += Duration::from_secs(seconds);
    fixture.handle(Input::Tick);
}

fn known(fixture: &Fixture) -> [bool; 2] {
    [1, 2].map(|n| fixture.fdb(mac(n)).is_some())
}

/// GR-001: nothing changes while the peer is away; what it doesn't send again goes at End-of-RIB.
#[test]
fn gr_001_missing_routes_go_at_end_of_rib() {
    let mut fixture = restarting();
    assert_eq!(known(&fixture), [true; 2]);
    assert_eq!(fixture.core.peer_routes(RR).stale, 2);
    assert!(
        fixture
            .core
            .routes(None, &HashSet::default())
            .unwrap()
            .iter()
            .any(|route| route.stale)
    );
    up(&mut fixture, back(true));
    let before = fixture.fdb(mac(1));
    fixture.announce(rt2(V1, mac(1), None, 0));
    assert_eq!(fixture.fdb(mac(1)), before);
    assert_eq!(known(&fixture), [true; 2]);
    assert_eq!(fixture.core.peer_routes(RR).stale, 1);
    end_of_rib(&mut fixture);
    assert_eq!(known(&fixture), [true, false]);
    assert_eq!(fixture.core.peer_routes(RR).stale, 0);
}

/// GR-002: without the F bit, or without the capability, everything goes at once.
#[test]
fn gr_002_forwarding_was_lost() {
    for session in [back(false), session(true)] {
        let mut fixture = restarting();
        up(&mut fixture, session);
        assert_eq!(known(&fixture), [false; 2]);
        fixture.announce(rt2(V1, mac(1), None, 0));
        end_of_rib(&mut fixture);
        assert_eq!(known(&fixture), [true, false]);
    }
}

/// GR-003: the peer doesn't come back within its restart time.
#[test]
fn gr_003_never_back() {
    let mut fixture = restarting();
    assert!(fixture.core.deadline().unwrap() <= fixture.now + RETENTION.restart_time);
    wait(&mut fixture, 119);
    assert_eq!(known(&fixture), [true; 2]);
    wait(&mut fixture, 1);
    assert_eq!(known(&fixture), [false; 2]);
    assert_eq!(
        fixture.core.peer_routes(RR),
        crate::core::PeerRoutes::default()
    );
}

/// Routes of a peer that is away go when it is shut down, becomes another peer, or is not to be kept
/// any more: there is no session whose end would say so.
#[test]
fn given_up_while_away() {
    let changes: [fn(&mut PeerConfig); 5] = [
        |peer| peer.shutdown = Some(String::new()),
        |peer| peer.asn = PeerAsn::Is(Asn(65001)),
        |peer| peer.graceful_restart = false,
        |peer| {
            peer.families = Families {
                evpn: false,
                ipv4: true,
                ipv6: false,
            }
        },
        |peer| peer.hold_time = Duration::from_secs(30),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut fixture = restarting();
        let mut config = config();
        change(&mut config.bgp.peers[0]);
        fixture.command(Command::Reload(Box::new(config))).unwrap();
        assert_eq!(known(&fixture), [index == 4; 2], "change {index}");
    }
}

/// The bound of RFC 8538 §4.1 on a peer that never sends End-of-RIB.
#[test]
fn no_end_of_rib() {
    let mut fixture = restarting();
    up(&mut fixture, back(true));
    fixture.announce(rt2(V1, mac(1), None, 0));
    wait(&mut fixture, 179);
    assert_eq!(known(&fixture), [true; 2]);
    wait(&mut fixture, 1);
    assert_eq!(known(&fixture), [true, false]);
    // The session goes on.
    fixture.announce(rt2(V1, mac(2), None, 0));
    assert_eq!(known(&fixture), [true; 2]);
}

/// RFC 4724 §4.2: a restart during a restart keeps only what was sent in between; RFC 8538 §4.1:
/// with the N bit, all.
#[test]
fn second_restart() {
    for (keep_stale, expected) in [(false, [true, false]), (true, [true; 2])] {
        let mut fixture = restarting();
        up(&mut fixture, back(true));
        fixture.announce(rt2(V1, mac(1), None, 0));
        let again = Retention {
            keep_stale,
            ..RETENTION
        };
        restart(&mut fixture, again);
        assert_eq!(known(&fixture), expected);
    }
}

/// GR-004: any other end of the session.
#[test]
fn gr_004_down_is_down() {
    let mut fixture = restarting();
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    assert_eq!(known(&fixture), [false; 2]);
    assert_eq!(fixture.core.adj_in.deadline(), None);
}

/// Withdrawals count for stale routes as well, and End-of-RIB of a peer that didn't restart for
/// nothing.
#[test]
fn withdrawn_while_stale() {
    let mut fixture = restarting();
    // Late, from the session that is gone.
    fixture.withdraw(&rt2(V1, mac(1), None, 0).0);
    assert_eq!(known(&fixture), [true; 2]);
    up(&mut fixture, back(true));
    fixture.withdraw(&rt2(V1, mac(1), None, 0).0);
    assert_eq!(known(&fixture), [false, true]);
    fixture.announce(rt2(V1, mac(2), None, 0));
    end_of_rib(&mut fixture);
    end_of_rib(&mut fixture);
    assert_eq!(known(&fixture), [false, true]);
}

/// GR-008: a stale route counts in mobility as a fresh one: a VM that appears here meanwhile gets
/// the next sequence number and wins (RFC 7432 §15).
#[test]
fn gr_008_moved_here_meanwhile() {
    let mut fixture = restarting();
    fixture.frame(TAP1, mac(1));
    up(&mut fixture, back(true));
    let routes = fixture.core.routes(None, &HashSet::default()).unwrap();
    let own = routes
        .iter()
        .find(|route| route.peer.is_none() && route.route_type == 2)
        .unwrap();
    assert_eq!(own.attributes.sequence, Some(1));
    let macs = fixture.core.macs(None, fixture.now).unwrap();
    let moved = macs
        .iter()
        .find(|row| row.mac == mac(1).to_string())
        .unwrap();
    assert_eq!(moved.origin, "learned");
}

fn refresh(fixture: &mut Fixture, event: PeerEvent) {
    fixture.handle(Input::Peer(RR, event));
}

/// RR-002: RFC 7313 §4. What is not sent between BoRR and EoRR goes at EoRR, without EoRR after a
/// time; an EoRR alone means nothing.
#[test]
fn rr_002_absent_routes_are_purged() {
    for end in [true, false] {
        let mut fixture = Fixture::new();
        for n in 1..=2 {
            fixture.announce(rt2(V1, mac(n), None, 0));
        }
        refresh(&mut fixture, PeerEvent::RefreshEnd(Family::EVPN));
        assert_eq!(known(&fixture), [true; 2]);
        refresh(&mut fixture, PeerEvent::RefreshBegin(Family::EVPN));
        fixture.announce(rt2(V1, mac(2), None, 0));
        assert_eq!(known(&fixture), [true; 2]);
        match end {
            true => refresh(&mut fixture, PeerEvent::RefreshEnd(Family::EVPN)),
            false => wait(&mut fixture, 180),
        }
        assert_eq!(known(&fixture), [false, true]);
        assert_eq!(fixture.core.peer_routes(RR).stale, 0);
    }
}

/// RR-004: RFC 7313 §4. Before the peer's End-of-RIB under graceful restart.
#[test]
fn rr_004_refresh_before_end_of_rib() {
    let mut fixture = Fixture::new();
    up(&mut fixture, back(true));
    fixture.announce(rt2(V1, mac(1), None, 0));
    refresh(&mut fixture, PeerEvent::RefreshBegin(Family::EVPN));
    refresh(&mut fixture, PeerEvent::RefreshEnd(Family::EVPN));
    assert_eq!(known(&fixture), [true, false]);
    end_of_rib(&mut fixture);
    refresh(&mut fixture, PeerEvent::RefreshBegin(Family::EVPN));
    refresh(&mut fixture, PeerEvent::RefreshEnd(Family::EVPN));
    assert_eq!(known(&fixture), [false; 2]);
}
