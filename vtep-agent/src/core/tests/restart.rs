//! The agent itself was restarted, and its forwarding went on (RFC 4724 §4.1).

use super::*;

const OTHER: PeerId = PeerId(1);

/// Restarted with two peers configured; the earlier run's endpoints are known again.
fn restarted() -> Fixture {
    let mut fixture = recovering();
    fixture.handle(Input::Recovered);
    fixture
}

fn recovering() -> Fixture {
    let mut config = config();
    config.bgp.peers.push(peer(101));
    let start = Start {
        forwarding_preserved: true,
    };
    let mut fixture = Fixture::start_with(config, State::default(), start);
    fixture.link(TAP1, "tap1");
    fixture.outputs.clear();
    fixture
}

/// A session with graceful restart.
fn graceful() -> Session {
    Session {
        graceful_restart: true,
        forwarding_preserved: true,
        ..session(true)
    }
}

fn up(fixture: &mut Fixture, peer: PeerId, session: Session) {
    fixture.handle(Input::Peer(peer, PeerEvent::Up(session)));
}

fn end_of_rib(fixture: &mut Fixture, peer: PeerId) {
    let update = Update {
        end_of_rib: Some(Family::EVPN),
        ..Update::default()
    };
    fixture.handle(Input::Peer(peer, PeerEvent::Update(Box::new(update))));
}

/// Whether the end of the deferral was reported since the last call, and which peers got their
/// End-of-RIB. Nobody is ever told that a route is gone.
fn ended(fixture: &mut Fixture) -> (bool, Vec<PeerId>) {
    let mut settled = false;
    let mut told = Vec::new();
    for output in fixture.outputs.drain(..) {
        match output {
            Output::Settled => settled = true,
            Output::Send(peer, advertisement) => {
                assert!(advertisement.withdraw.is_empty());
                if advertisement.end_of_rib {
                    told.push(peer);
                }
            }
            _ => {}
        }
    }
    assert!(!settled || fixture.core.settled());
    (settled, told)
}

/// GR-006: nothing is settled before every peer has sent its End-of-RIB; our routes go out at once,
/// our End-of-RIB after that, and nothing is withdrawn.
#[test]
fn gr_006_end_of_rib_follows_that_of_all_peers() {
    let mut fixture = restarted();
    assert!(!fixture.core.settled());
    up(&mut fixture, RR, graceful());
    let sent = fixture.sent();
    assert!(!sent.announce.is_empty());
    assert!(!sent.end_of_rib);
    fixture.announce(rt2(V1, mac(1), None, 0));
    assert!(fixture.fdb(mac(1)).is_some());
    end_of_rib(&mut fixture, RR);
    assert_eq!(ended(&mut fixture), (false, vec![]));
    up(&mut fixture, OTHER, graceful());
    assert_eq!(ended(&mut fixture), (false, vec![]));
    end_of_rib(&mut fixture, OTHER);
    assert_eq!(ended(&mut fixture), (true, vec![RR, OTHER]));
    // Later sessions are as any other.
    fixture.handle(Input::Peer(OTHER, PeerEvent::Down));
    up(&mut fixture, OTHER, graceful());
    assert_eq!(ended(&mut fixture), (false, vec![OTHER]));
    assert!(fixture.core.settled());
}

/// GR-006: `selection_deferral` bounds the wait for a peer that never comes, and for one that never
/// ends its routes.
#[test]
fn gr_006_the_wait_is_bounded() {
    let mut fixture = restarted();
    up(&mut fixture, RR, graceful());
    let end = fixture.now + Duration::from_secs(120);
    assert_eq!(fixture.core.deadline(), Some(end));
    fixture.advance(Duration::from_secs(119));
    assert_eq!(ended(&mut fixture), (false, vec![]));
    fixture.advance(Duration::from_secs(1));
    assert_eq!(ended(&mut fixture), (true, vec![RR]));
    assert_ne!(fixture.core.deadline(), Some(end));
}

/// RFC 4724 §4.1: peers without the capability or that restart too are not waited for, nor one that
/// is shut down or removed meanwhile.
#[test]
fn who_is_not_waited_for() {
    let restarting = Session {
        restarting: true,
        ..graceful()
    };
    for session in [session(true), restarting] {
        let mut fixture = restarted();
        up(&mut fixture, RR, session);
        assert!(!fixture.core.settled());
        up(&mut fixture, OTHER, graceful());
        end_of_rib(&mut fixture, OTHER);
        assert_eq!(ended(&mut fixture), (true, vec![RR, OTHER]));
    }
    for removed in [true, false] {
        let mut fixture = restarted();
        up(&mut fixture, RR, graceful());
        end_of_rib(&mut fixture, RR);
        let mut config = config();
        if !removed {
            config.bgp.peers.push(PeerConfig {
                shutdown: Some(String::new()),
                ..peer(101)
            });
        }
        fixture.command(Command::Reload(Box::new(config))).unwrap();
        assert_eq!(ended(&mut fixture), (true, vec![RR]));
    }
}

/// A peer whose session is lost before its End-of-RIB is waited for again; one that had sent it
/// isn't.
#[test]
fn a_lost_session_during_the_deferral() {
    let mut fixture = restarted();
    up(&mut fixture, RR, graceful());
    end_of_rib(&mut fixture, RR);
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    up(&mut fixture, OTHER, graceful());
    fixture.handle(Input::Peer(OTHER, PeerEvent::Down));
    assert!(!fixture.core.settled());
    up(&mut fixture, OTHER, graceful());
    end_of_rib(&mut fixture, OTHER);
    assert_eq!(ended(&mut fixture), (true, vec![OTHER]));
}

/// Without the endpoints of the earlier run our routes are incomplete, however long that takes: no
/// End-of-RIB. The core doesn't ask to be woken for it.
#[test]
fn endpoints_come_before_end_of_rib() {
    let mut fixture = recovering();
    for peer in [RR, OTHER] {
        up(&mut fixture, peer, graceful());
        end_of_rib(&mut fixture, peer);
    }
    fixture.advance(Duration::from_secs(121));
    assert_eq!(ended(&mut fixture), (false, vec![]));
    assert!(fixture.core.deadline().is_none_or(|at| at > fixture.now));
    fixture.frame(TAP1, mac(1));
    fixture.handle(Input::Recovered);
    assert_eq!(ended(&mut fixture), (true, vec![RR, OTHER]));
}

/// RFC 7313 §4: a peer that asks for our routes before our End-of-RIB gets them without BoRR.
#[test]
fn a_refresh_before_end_of_rib() {
    let mut fixture = restarted();
    up(&mut fixture, RR, graceful());
    let first = fixture.sent();
    fixture.handle(Input::Peer(RR, PeerEvent::Refresh(Family::EVPN)));
    let again = fixture.sent();
    assert!(!again.refresh && !again.end_of_rib);
    assert_eq!(again.announce, first.announce);
    up(&mut fixture, OTHER, session(true));
    end_of_rib(&mut fixture, RR);
    assert!(fixture.sent().end_of_rib);
    fixture.handle(Input::Peer(RR, PeerEvent::Refresh(Family::EVPN)));
    assert!(fixture.sent().refresh);
}

/// GR-007: after a cold start there is nothing to wait for: what is wanted is all there is.
#[test]
fn gr_007_a_cold_start_waits_for_nobody() {
    let mut fixture = Fixture::start(config(), State::default());
    assert!(fixture.core.settled());
    up(&mut fixture, RR, graceful());
    assert_eq!(ended(&mut fixture), (false, vec![RR]));
}
