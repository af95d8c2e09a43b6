//! What BFD says of the path to the peer (RFC 5882, RFC 9384).

use super::*;
use crate::{
    bgp::{fsm::Cause, peer::Retention, wire::GracefulRestart},
    types::Liveness,
};

fn down(actions: &[Action]) -> Option<(&Cause, Option<Retention>)> {
    actions.iter().find_map(|action| match action {
        Action::Down(cause, retention) => Some((cause, *retention)),
        _ => None,
    })
}

/// BGP-028: RFC 5882 §4.1, RFC 9384 §3.
#[test]
fn a_failed_path_ends_the_session() {
    let (mut sim, id) = Sim::established(settings(), open());
    assert!(sim.handle(Event::Path(Liveness::Up)).is_empty());
    let actions = sim.handle(Event::Path(Liveness::Failed));
    assert_eq!(notifications(&actions), [(id, 6, 10)]);
    assert!(closes(&actions, id));
    let (cause, retention) = down(&actions).unwrap();
    assert_eq!(cause, &Cause::Sent(Notification::BFD_DOWN));
    assert_eq!(retention, None);
    // The peer may come back without BFD.
    assert_eq!(sim.fsm.state(), State::Active);
    let actions = sim.run(seconds(2));
    assert!(
        actions
            .iter()
            .any(|(_, action)| matches!(action, Action::Connect))
    );
}

/// RFC 8538 §4: a NOTIFICATION is no reason to drop routes where both sides sent the N bit; RFC
/// 4724 §4: it is one where they didn't.
#[test]
fn retention_after_a_failed_path() {
    for (notification, kept) in [(true, true), (false, false)] {
        let mut peer = open();
        peer.capabilities
            .push(Capability::GracefulRestart(GracefulRestart {
                restarting: false,
                notification,
                restart_time: 120,
                families: vec![(Family::EVPN, true)],
            }));
        let (mut sim, _) = Sim::established(settings(), peer);
        sim.handle(Event::Path(Liveness::Up));
        let actions = sim.handle(Event::Path(Liveness::Failed));
        assert_eq!(down(&actions).unwrap().1.is_some(), kept);
    }
}

/// BGP-029: RFC 5882 §4.2. And nothing depends on BFD that was never up.
#[test]
fn other_words_do_no_harm() {
    for words in [
        &[Liveness::Up, Liveness::Unused, Liveness::Unknown][..],
        &[Liveness::Unknown, Liveness::Unused],
        &[
            Liveness::Up,
            Liveness::Unused,
            Liveness::Unknown,
            Liveness::Up,
        ],
    ] {
        let (mut sim, _) = Sim::established(settings(), open());
        for word in words {
            assert!(sim.handle(Event::Path(*word)).is_empty(), "{words:?}");
        }
        assert_eq!(sim.fsm.state(), State::Established);
    }
}

/// A connection that is being opened goes too, and a path that comes back ends the wait for the
/// next attempt.
#[test]
fn attempts_follow_the_path() {
    let mut sim = Sim::new(settings());
    sim.handle(Event::Path(Liveness::Up));
    let actions = sim.handle(Event::Path(Liveness::Failed));
    assert!(matches!(actions[..], [Action::AbortConnect]), "{actions:?}");
    let actions = sim.handle(Event::Path(Liveness::Up));
    assert!(connects(&actions), "{actions:?}");
}

#[test]
fn strict_sessions_wait_for_the_path() {
    let strict = Settings {
        needs_path: true,
        ..settings()
    };
    for word in [Liveness::Up, Liveness::Unused] {
        let mut sim = Sim::new(strict.clone());
        assert_eq!(sim.fsm.state(), State::Idle);
        assert!(sim.run(seconds(300)).is_empty());
        let (id, actions) = sim.connect(Direction::Incoming);
        assert!(closes(&actions, id));
        let actions = sim.handle(Event::Path(word));
        assert!(connects(&actions), "{word:?}: {actions:?}");
        let (id, _) = sim.connect(Direction::Outgoing);
        sim.receive(id, Message::Open(open()));
        sim.receive(id, Message::Keepalive);
        assert_eq!(sim.fsm.state(), State::Established);
        sim.handle(Event::Path(Liveness::Failed));
        assert_eq!(sim.fsm.state(), State::Idle);
        let actions = sim.run(seconds(300));
        assert!(
            !actions
                .iter()
                .any(|(_, action)| matches!(action, Action::Connect))
        );
    }
}
