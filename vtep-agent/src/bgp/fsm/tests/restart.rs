//! Our own restart (RFC 4724 §4.1), and ends of sessions over which peers keep our routes.

use super::*;
use crate::bgp::{
    fsm::{Cause, Cease},
    peer::Retention,
    wire::{GracefulRestart, LongLivedFamily},
};

const RESTARTED: Restart = Restart {
    restarting: true,
    forwarding_preserved: true,
};

/// R and F bits of our next OPEN; the rest of the capability never changes.
fn bits(sim: &mut Sim) -> (bool, bool) {
    let (id, actions) = sim.connect(Direction::Outgoing);
    let open = actions.iter().find_map(|action| match action {
        Action::Send(to, Message::Open(open)) if *to == id => Some(open),
        _ => None,
    });
    let restart = open.unwrap().graceful_restart().unwrap();
    let [(family, forwarding)] = restart.families[..] else {
        panic!("{restart:?}")
    };
    assert_eq!(family, Family::EVPN);
    assert!(restart.notification);
    assert_eq!(restart.restart_time, 120);
    (restart.restarting, forwarding)
}

/// Comes up on the connection of the last OPEN, and goes down.
fn flap(sim: &mut Sim) {
    let id = ConnectionId(sim.connections);
    sim.receive(id, Message::Open(open()));
    sim.receive(id, Message::Keepalive);
    assert_eq!(sim.fsm.state(), State::Established);
    reset(sim);
}

fn reset(sim: &mut Sim) {
    let id = ConnectionId(sim.connections);
    sim.handle(Event::Disconnected(id, "reset".to_owned()));
    // The next attempt.
    sim.now = sim.fsm.deadline().unwrap();
    assert!(connects(&sim.handle(Event::Tick)));
}

/// GR-006: RFC 4724 §4.1. R until the restart is over, whatever sessions do meanwhile, and never
/// again; F from the first OPEN on.
#[test]
fn gr_006_restart_state_and_forwarding_state() {
    let mut sim = Sim::new(Settings {
        restart: RESTARTED,
        ..settings()
    });
    assert_eq!(bits(&mut sim), (true, true));
    reset(&mut sim);
    assert_eq!(bits(&mut sim), (true, true));
    flap(&mut sim);
    assert_eq!(bits(&mut sim), (true, true));
    reset(&mut sim);
    sim.handle(Event::Settled);
    assert_eq!(bits(&mut sim), (false, true));
    flap(&mut sim);
    assert_eq!(bits(&mut sim), (false, true));
}

/// GR-007: after a cold start what the peer may remember of us is not forwarded any more. What it
/// learns in the first session is, when that is lost.
#[test]
fn gr_007_a_cold_start_clears_forwarding_state() {
    let mut sim = Sim::new(settings());
    assert_eq!(bits(&mut sim), (false, false));
    reset(&mut sim);
    assert_eq!(bits(&mut sim), (false, false));
    flap(&mut sim);
    assert_eq!(bits(&mut sim), (false, true));
}

/// RFC 4724 §3: unicast families are listed where that is wished for.
#[test]
fn unicast_families_are_listed_on_demand() {
    let all = Families {
        evpn: true,
        ipv4: true,
        ipv6: true,
    };
    for (unicast_restart, families) in [(false, Families::EVPN), (true, all)] {
        let mut sim = Sim::new(Settings {
            families: all,
            unicast_restart,
            restart: RESTARTED,
            ..settings()
        });
        let (_, actions) = sim.connect(Direction::Outgoing);
        let Some(Action::Send(_, Message::Open(open))) = actions.first() else {
            panic!("{actions:?}")
        };
        let expected: Vec<_> = Family::all_of(families)
            .map(|family| (family, true))
            .collect();
        assert_eq!(open.graceful_restart().unwrap().families, expected);
    }
}

#[test]
fn no_capability_without_graceful_restart() {
    let mut sim = Sim::new(Settings {
        graceful_restart: false,
        long_lived: Some(seconds(3600)),
        restart: RESTARTED,
        ..settings()
    });
    let (_, actions) = sim.connect(Direction::Outgoing);
    let Some(Action::Send(_, Message::Open(open))) = actions.first() else {
        panic!("{actions:?}")
    };
    assert_eq!(open.graceful_restart(), None);
    assert_eq!(open.long_lived_graceful_restart(), None);
}

/// A peer with graceful restart, without or with the N bit.
fn helper(notification: bool) -> Open {
    let mut open = open();
    open.capabilities
        .push(Capability::GracefulRestart(GracefulRestart {
            notification,
            restart_time: 120,
            families: vec![(Family::EVPN, true)],
            ..GracefulRestart::default()
        }));
    open
}

fn down(actions: &[Action]) -> (&Cause, Option<Retention>) {
    let down = actions.iter().find_map(|action| match action {
        Action::Down(cause, retention) => Some((cause, *retention)),
        _ => None,
    });
    down.unwrap_or_else(|| panic!("not down: {actions:?}"))
}

/// What a peer is told, if anything, and whether its routes stay.
fn ending(peer: Open, cease: Cease) -> (Option<(u8, u8)>, bool) {
    let (mut sim, id) = Sim::established(settings(), peer);
    let actions = sim.handle(Event::Stop(cease));
    assert!(closes(&actions, id));
    assert_eq!(sim.fsm.state(), State::Idle);
    assert_eq!(sim.fsm.deadline(), None);
    let sent = notifications(&actions);
    assert!(sent.len() < 2);
    let sent = sent.first().map(|(_, code, subcode)| (*code, *subcode));
    (sent, down(&actions).1.is_some())
}

/// RFC 8538 §3.1, RFC 4724 §4.2: an agent that stops while its forwarding goes on takes leave in
/// a way that lets the peer keep our routes: with the N bit by a Cease that is no hard reset,
/// without it by saying nothing. Nobody else would keep them.
#[test]
fn a_restart_leaves_routes_at_helpers() {
    let cease = || Cease::Restart("upgrade".to_owned());
    assert_eq!(ending(helper(true), cease()), (Some((6, 4)), true));
    assert_eq!(ending(helper(false), cease()), (None, true));
    assert_eq!(ending(open(), cease()), (Some((6, 2)), false));
}

/// RFC 8538 §3.1, §5: an agent that stops for good takes its routes along.
#[test]
fn a_shutdown_is_a_hard_reset() {
    let cease = || Cease::Shutdown("decommissioned".to_owned());
    assert_eq!(ending(helper(true), cease()), (Some((6, 9)), false));
    assert_eq!(ending(helper(false), cease()), (Some((6, 2)), false));
    assert_eq!(ending(open(), cease()), (Some((6, 2)), false));
}

/// A changed setting costs no routes where both sides can keep them.
#[test]
fn a_changed_configuration_keeps_routes() {
    let cease = || Cease::ConfigChange;
    assert_eq!(ending(helper(true), cease()), (Some((6, 6)), true));
    assert_eq!(ending(helper(false), cease()), (None, true));
    assert_eq!(ending(open(), cease()), (Some((6, 6)), false));
}

/// RFC 4724 §4.2: what both capabilities say of a family that the session doesn't have counts for
/// nothing, or its routes would wait for an End-of-RIB that can't come.
#[test]
fn a_family_that_was_not_negotiated() {
    let both = Settings {
        long_lived: Some(seconds(3600)),
        families: Families {
            ipv4: true,
            ..Families::EVPN
        },
        ..settings()
    };
    let mut peer = helper(true);
    peer.capabilities
        .push(Capability::LongLivedGracefulRestart(vec![
            LongLivedFamily {
                family: Family::EVPN,
                forwarding: true,
                stale_time: 60,
            },
        ]));
    for (family, expected) in [(Family::EVPN, true), (Family::IPV4_UNICAST, false)] {
        peer.capabilities[0] = Capability::Multiprotocol(family);
        let (sim, _) = Sim::established(both.clone(), peer.clone());
        let session = &sim.fsm.established().unwrap().0.session;
        assert!(session.graceful_restart);
        assert_eq!(session.forwarding_preserved, expected);
        assert_eq!(session.long_lived, expected);
    }
}

/// GR-010: RFC 9494 §3, §4.2: capability 71 of both, beside that of graceful restart. A restart time
/// of zero alone doesn't end routes then.
#[test]
fn gr_010_long_lived_graceful_restart_is_negotiated() {
    let ours = Settings {
        long_lived: Some(seconds(3600)),
        ..settings()
    };
    let (mut sim, id) = {
        let mut sim = Sim::new(ours.clone());
        let (id, actions) = sim.connect(Direction::Outgoing);
        let Some(Action::Send(_, Message::Open(open))) = actions.first() else {
            panic!("{actions:?}")
        };
        let family = |stale_time, forwarding| LongLivedFamily {
            family: Family::EVPN,
            forwarding,
            stale_time,
        };
        let sent = open.long_lived_graceful_restart().unwrap();
        assert_eq!(sent, [family(3600, false)]);
        (sim, id)
    };
    let long_lived = |stale_time| {
        Capability::LongLivedGracefulRestart(vec![LongLivedFamily {
            family: Family::EVPN,
            forwarding: true,
            stale_time,
        }])
    };
    let mut peer = helper(false);
    peer.capabilities.push(long_lived(7200));
    sim.receive(id, Message::Open(peer.clone()));
    let actions = sim.receive(id, Message::Keepalive);
    let Some(Action::Up(_, negotiated)) = actions.last() else {
        panic!("{actions:?}")
    };
    assert!(negotiated.session.long_lived);
    assert!(negotiated.session.long_lived_forwarding_preserved);
    let actions = sim.handle(Event::Disconnected(id, "reset".to_owned()));
    let retention = down(&actions).1.unwrap();
    assert_eq!(retention.restart_time, seconds(120));
    assert_eq!(retention.long_lived, Some(seconds(7200)));

    let with_time = |restart_time, stale_time, graceful: bool| {
        let mut open = open();
        if graceful {
            open.capabilities
                .push(Capability::GracefulRestart(GracefulRestart {
                    restart_time,
                    families: vec![(Family::EVPN, true)],
                    ..GracefulRestart::default()
                }));
        }
        open.capabilities.push(long_lived(stale_time));
        open
    };
    for (settings, peer, expected) in [
        (ours.clone(), with_time(0, 60, true), Some((0, Some(60)))),
        (ours.clone(), with_time(9, 0, true), Some((9, None))),
        (ours.clone(), with_time(0, 0, true), None),
        (ours, with_time(9, 60, false), None),
        (settings(), with_time(9, 60, true), Some((9, None))),
    ] {
        let (mut sim, id) = Sim::established(settings, peer);
        let actions = sim.handle(Event::Disconnected(id, "reset".to_owned()));
        let times = down(&actions).1.map(|retention| {
            let long_lived = retention.long_lived.map(|time| time.as_secs());
            (retention.restart_time.as_secs(), long_lived)
        });
        assert_eq!(times, expected);
    }
}
