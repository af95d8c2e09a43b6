//! Graceful restart (RFC 4724, RFC 8538): which ends of a session keep the peer's routes.

use super::*;
use crate::bgp::{
    fsm::{Cause, Cease},
    peer::Retention,
    wire::{GracefulRestart, Update},
};

/// A peer that restarts within 120 s, with or without the N bit (RFC 8538 §2).
fn restarter(notification: bool) -> Open {
    let mut open = open();
    open.capabilities
        .push(Capability::GracefulRestart(GracefulRestart {
            restarting: false,
            notification,
            restart_time: 120,
            families: vec![(Family::EVPN, true)],
        }));
    open
}

/// How the session went down, with a retention or without.
fn down(actions: &[Action]) -> (&Cause, Option<Retention>) {
    let down = actions.iter().find_map(|action| match action {
        Action::Down(cause, retention) => Some((cause, *retention)),
        _ => None,
    });
    down.unwrap_or_else(|| panic!("not down: {actions:?}"))
}

fn retained(keep_stale: bool) -> Option<Retention> {
    Some(Retention {
        restart_time: seconds(120),
        keep_stale,
        long_lived: None,
    })
}

/// GR-001: RFC 4724 §4.2.
#[test]
fn a_lost_connection_keeps_routes() {
    for (peer, expected) in [
        (restarter(false), retained(false)),
        (restarter(true), retained(true)),
        (open(), None),
    ] {
        let (mut sim, id) = Sim::established(settings(), peer);
        let actions = sim.handle(Event::Disconnected(id, "reset".to_owned()));
        assert_eq!(down(&actions).1, expected);
    }
}

/// A peer that only helps others, or isn't to be helped, or gives itself no time.
#[test]
fn nothing_is_kept_without_family_or_time_or_configuration() {
    let with = |change: fn(&mut GracefulRestart)| {
        let mut open = restarter(false);
        if let Some(Capability::GracefulRestart(restart)) = open.capabilities.last_mut() {
            change(restart);
        }
        open
    };
    let off = Settings {
        graceful_restart: false,
        ..settings()
    };
    for (settings, peer) in [
        (settings(), with(|restart| restart.families.clear())),
        (settings(), with(|restart| restart.restart_time = 0)),
        (
            settings(),
            with(|restart| restart.families = vec![(Family::IPV4_UNICAST, true)]),
        ),
        (off, restarter(true)),
    ] {
        let (mut sim, id) = Sim::established(settings, peer);
        let actions = sim.handle(Event::Disconnected(id, "reset".to_owned()));
        assert_eq!(down(&actions).1, None);
    }
}

/// GR-004: RFC 4724 §4: a NOTIFICATION ends the session for good. GR-005: RFC 8538 §4: not with the
/// N bit of both, except for a hard reset.
#[test]
fn received_notifications() {
    for (peer, notification, expected) in [
        (restarter(false), Notification::new(6, 4), None),
        (restarter(true), Notification::new(6, 4), retained(true)),
        (restarter(true), Notification::new(3, 1), retained(true)),
        (
            restarter(true),
            Notification::with_data(6, 9, &[6, 2]),
            None,
        ),
    ] {
        let (mut sim, id) = Sim::established(settings(), peer);
        let actions = sim.receive(id, Message::Notification(notification));
        assert_eq!(down(&actions).1, expected);
    }
}

/// GR-009: RFC 8538 §4.
#[test]
fn an_expired_hold_timer() {
    for (peer, expected) in [(restarter(false), None), (restarter(true), retained(true))] {
        let (mut sim, _) = Sim::established(settings(), peer);
        let actions: Vec<_> = sim
            .run(seconds(90))
            .into_iter()
            .map(|(_, action)| action)
            .collect();
        assert_eq!(
            down(&actions),
            (&Cause::Sent(Notification::HOLD_TIMER_EXPIRED), expected)
        );
    }
}

/// A peer that is removed is told to forget our routes, too (RFC 8538 §3.1), and we forget its.
#[test]
fn a_removed_peer_gets_a_hard_reset() {
    for (peer, expected) in [
        (restarter(false), Notification::PEER_DECONFIGURED),
        (restarter(true), Notification::with_data(6, 9, &[6, 3])),
    ] {
        let (mut sim, _) = Sim::established(settings(), peer);
        let actions = sim.handle(Event::Stop(Cease::Deconfigured));
        assert_eq!(down(&actions), (&Cause::Sent(expected), None));
    }
}

/// BGP-014: RFC 4724 §4.2. The peer crashed without our knowing and comes back: the old connection
/// is closed without a word, the new one becomes the session.
#[test]
fn a_new_connection_replaces_the_session() {
    let (mut sim, old) = Sim::established(settings(), restarter(false));
    sim.run(seconds(10));
    let (new, actions) = sim.connect(Direction::Incoming);
    assert!(!closes(&actions, old));
    let actions = sim.receive(new, Message::Open(restarter(false)));
    assert!(closes(&actions, old));
    assert!(notifications(&actions).is_empty());
    assert_eq!(down(&actions), (&Cause::Replaced, retained(false)));
    let actions = sim.receive(new, Message::Keepalive);
    assert!(matches!(actions[..], [Action::Up(id, _)] if id == new));
    assert_eq!(sim.fsm.connections.len(), 1);
}

/// BGP-014: what a peer says in Established only shows that it knew of the session; from then on a new
/// connection of its is a new life of its, at once. So does an R bit that it didn't set before.
#[test]
fn a_new_connection_replaces_a_young_session() {
    let restarted = |restarting| {
        let mut open = restarter(false);
        let peer = GracefulRestart {
            restarting,
            ..open.graceful_restart().unwrap().clone()
        };
        open.capabilities.push(Capability::GracefulRestart(peer));
        open
    };
    let end_of_rib = || Message::Update(Update::default());
    for (said, restarting, replaced) in [
        (vec![], false, false),
        (vec![Message::Keepalive], false, false),
        (vec![end_of_rib()], false, true),
        (vec![], true, true),
    ] {
        let (mut sim, old) = Sim::established(settings(), restarter(false));
        for message in said {
            sim.receive(old, message);
        }
        let (new, _) = sim.connect(Direction::Incoming);
        let actions = sim.receive(new, Message::Open(restarted(restarting)));
        assert_eq!(closes(&actions, old), replaced);
        assert_eq!(notifications(&actions).is_empty(), replaced);
        assert_eq!(closes(&actions, new), !replaced);
    }
    // Said after the connection was there: it may have been begun before.
    let (mut sim, old) = Sim::established(settings(), restarter(false));
    let (new, _) = sim.connect(Direction::Incoming);
    sim.run(seconds(1));
    sim.receive(old, end_of_rib());
    let actions = sim.receive(new, Message::Open(restarter(false)));
    assert_eq!(notifications(&actions), [(new, 6, 7)]);
    // A peer that says R all the time: both connections may be of one life.
    let (mut sim, _) = Sim::established(settings(), restarted(true));
    let (new, _) = sim.connect(Direction::Incoming);
    let actions = sim.receive(new, Message::Open(restarted(true)));
    assert_eq!(notifications(&actions), [(new, 6, 7)]);
}

/// BGP-013 and the first seconds of a session: a connection that the peer began before it knew of
/// the session loses, as without graceful restart.
#[test]
fn a_young_session_or_one_without_graceful_restart_stays() {
    for (peer, age) in [(restarter(false), 1), (open(), 10)] {
        let (mut sim, old) = Sim::established(settings(), peer.clone());
        sim.run(seconds(age));
        let (new, _) = sim.connect(Direction::Incoming);
        let actions = sim.receive(new, Message::Open(peer));
        assert_eq!(notifications(&actions), [(new, 6, 7)]);
        assert!(!closes(&actions, old));
    }
}
