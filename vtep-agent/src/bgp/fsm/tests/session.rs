//! Life of one connection: negotiation, timers, errors, retries.

use bytes::Bytes;

use super::*;
use crate::bgp::{
    fsm::Cause,
    wire::{GracefulRestart, RouteRefresh, Update},
};

/// BGP-001: RFC 4271 §8.2.2 from Idle to Established.
#[test]
fn comes_up() {
    let mut sim = Sim::new(settings());
    assert_eq!(sim.fsm.state(), State::Connect);
    let (id, actions) = sim.connect(Direction::Outgoing);
    let [Action::Send(_, Message::Open(sent))] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (sent.asn, sent.hold_time, sent.router_id),
        (LOCAL_ASN, 90, [10, 0, 0, 10].into())
    );
    assert_eq!(
        sent.capabilities,
        [
            Capability::Multiprotocol(Family { afi: 25, safi: 70 }),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::FourOctetAs(LOCAL_ASN),
            Capability::Multiprotocol(Family::RTC),
            Capability::ExtendedMessage,
            Capability::GracefulRestart(GracefulRestart {
                restarting: false,
                notification: true,
                restart_time: 120,
                families: vec![(Family::EVPN, false)],
            }),
        ]
    );
    assert_eq!(sim.fsm.state(), State::OpenSent);
    let actions = sim.receive(id, Message::Open(open()));
    assert!(
        matches!(actions[..], [Action::Send(_, Message::Keepalive)]),
        "{actions:?}"
    );
    assert_eq!(sim.fsm.state(), State::OpenConfirm);
    let actions = sim.receive(id, Message::Keepalive);
    let [Action::Up(up, negotiated)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(*up, id);
    assert!(
        negotiated.session.internal && negotiated.session.families.evpn && negotiated.route_refresh
    );
    assert!(negotiated.context.four_octet_as);
    assert_eq!(sim.fsm.state(), State::Established);
}

/// RFC 4271 §4.2: the smaller hold time; §4.4: KEEPALIVEs at a third of it, less jitter.
#[test]
fn the_smaller_hold_time_counts() {
    let (mut sim, id) = Sim::established(
        settings(),
        Open {
            hold_time: 30,
            ..open()
        },
    );
    let mut sent = Vec::new();
    for _ in 0..20 {
        sim.receive(id, Message::Keepalive);
        sent.extend(sim.run(seconds(15)));
    }
    let times: Vec<Duration> = sent
        .iter()
        .map(|(at, action)| match action {
            Action::Send(_, Message::Keepalive) => *at,
            other => panic!("{other:?}"),
        })
        .collect();
    for pair in times.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(
            gap > Duration::from_millis(7499) && gap <= seconds(10),
            "{gap:?}"
        );
    }
    assert!((30..=40).contains(&times.len()), "{}", times.len());
}

/// BGP-003: without hold time there are neither keepalives nor an end.
#[test]
fn hold_time_zero_means_no_timers() {
    let (mut sim, id) = Sim::established(
        settings(),
        Open {
            hold_time: 0,
            ..open()
        },
    );
    assert_eq!(sim.fsm.deadline(), None);
    assert!(sim.run(seconds(600)).is_empty());
    sim.receive(id, Message::Keepalive);
    sim.handle(Event::UpdateSent);
    assert_eq!(sim.fsm.deadline(), None);
}

/// BGP-004: RFC 4271 §6.5.
#[test]
fn a_silent_peer_is_given_up_after_the_hold_time() {
    let (mut sim, id) = Sim::established(
        settings(),
        Open {
            hold_time: 9,
            ..open()
        },
    );
    let log = sim.run(Duration::from_millis(8999));
    assert!(
        log.iter()
            .all(|(_, action)| matches!(action, Action::Send(_, Message::Keepalive)))
    );
    let (at, actions): (Vec<_>, Vec<_>) = sim.run(Duration::from_millis(1)).into_iter().unzip();
    assert_eq!(at.first(), Some(&seconds(9)));
    assert_eq!(notifications(&actions), [(id, 4, 0)]);
    assert!(closes(&actions, id));
    assert!(matches!(
        actions.last(),
        Some(Action::Down(Cause::Sent(_), _))
    ));
    assert_eq!(sim.fsm.state(), State::Active);
}

/// A1.3: UPDATE and ROUTE-REFRESH restart the hold timer as KEEPALIVE does.
#[test]
fn every_message_restarts_the_hold_timer() {
    let refresh = RouteRefresh {
        family: Family::EVPN,
        subtype: 0,
    };
    for message in [
        Message::Keepalive,
        Message::Update(Update::default()),
        Message::RouteRefresh(refresh),
    ] {
        let (mut sim, id) = Sim::established(
            settings(),
            Open {
                hold_time: 9,
                ..open()
            },
        );
        for _ in 0..5 {
            sim.run(seconds(8));
            sim.receive(id, message.clone());
        }
        assert_eq!(sim.fsm.state(), State::Established, "{message:?}");
        sim.run(seconds(9));
        assert_ne!(sim.fsm.state(), State::Established, "{message:?}");
    }
}

/// While the agent is too busy to read, the peer's silence is no reason to end the session.
#[test]
fn a_stall_of_ours_restarts_the_hold_timer() {
    let (mut sim, _) = Sim::established(
        settings(),
        Open {
            hold_time: 9,
            ..open()
        },
    );
    sim.run(seconds(8));
    sim.handle(Event::Stalled);
    sim.run(seconds(8));
    assert_eq!(sim.fsm.state(), State::Established);
}

/// RFC 4271 §4.4 and §10: a sent UPDATE takes the place of a KEEPALIVE.
#[test]
fn updates_spare_keepalives() {
    let (mut sim, id) = Sim::established(
        settings(),
        Open {
            hold_time: 9,
            ..open()
        },
    );
    for _ in 0..30 {
        sim.handle(Event::UpdateSent);
        sim.receive(id, Message::Keepalive);
        assert!(sim.run(seconds(2)).is_empty());
    }
}

/// RFC 4271 §8.2.2: the large hold time in OpenSent.
#[test]
fn an_open_is_awaited_for_four_minutes() {
    let mut sim = Sim::new(settings());
    let (id, _) = sim.connect(Direction::Outgoing);
    assert!(sim.run(Duration::from_millis(239_999)).is_empty());
    let actions: Vec<Action> = sim
        .run(Duration::from_millis(1))
        .into_iter()
        .map(|e| e.1)
        .collect();
    assert_eq!(notifications(&actions), [(id, 4, 0)]);
}

/// BGP-009: RFC 6793 §4.1, RFC 4271 §6.2.
#[test]
fn the_as_must_be_the_expected_one() {
    let external = Asn(4_200_000_001);
    let accepts = |peer_asn, asn| {
        let mut sim = Sim::new(Settings {
            peer_asn,
            ..settings()
        });
        let (id, _) = sim.connect(Direction::Outgoing);
        let actions = sim.receive(id, Message::Open(Open { asn, ..open() }));
        match &notifications(&actions)[..] {
            [] => true,
            refused => {
                assert_eq!(refused, [(id, 2, 2)]);
                assert_eq!(sim.fsm.state(), State::Idle);
                false
            }
        }
    };
    assert!(accepts(PeerAsn::Is(external), external));
    assert!(!accepts(PeerAsn::Is(external), LOCAL_ASN));
    assert!(!accepts(PeerAsn::Is(external), Asn::TRANS));
    assert!(accepts(PeerAsn::Internal, LOCAL_ASN));
    assert!(!accepts(PeerAsn::Internal, external));
    assert!(accepts(PeerAsn::External, external));
    assert!(!accepts(PeerAsn::External, LOCAL_ASN));
}

/// BGP-010: RFC 6286 §2.2. (Zero is refused by the codec.)
#[test]
fn an_internal_peer_has_another_identifier() {
    let refused = |settings: Settings, open: Open| {
        let mut sim = Sim::new(settings);
        let (id, _) = sim.connect(Direction::Outgoing);
        !notifications(&sim.receive(id, Message::Open(open))).is_empty()
    };
    let ours = settings().router_id;
    assert!(refused(
        settings(),
        Open {
            router_id: ours,
            ..open()
        }
    ));
    assert!(!refused(
        settings(),
        Open {
            router_id: [240, 0, 0, 1].into(),
            ..open()
        }
    ));
    let external = Settings {
        peer_asn: PeerAsn::External,
        ..settings()
    };
    assert!(!refused(
        external,
        Open {
            asn: Asn(65001),
            router_id: ours,
            ..open()
        }
    ));
}

/// A1.2: RFC 5492 §5.
#[test]
fn a_peer_without_evpn_is_told_what_it_lacks() {
    let mut sim = Sim::new(settings());
    let (id, _) = sim.connect(Direction::Outgoing);
    let ipv4 = Capability::Multiprotocol(Family::IPV4_UNICAST);
    let actions = sim.receive(
        id,
        Message::Open(Open {
            capabilities: vec![ipv4],
            ..open()
        }),
    );
    let Action::Send(_, Message::Notification(notification)) = &actions[0] else {
        panic!("{actions:?}")
    };
    assert_eq!((notification.code, notification.subcode), (2, 7));
    assert_eq!(&notification.data[..], [1, 4, 0, 25, 0, 70]);
    assert!(sim.fsm.last_error().is_some());
}

/// BGP-017: unknown and repeated capabilities do no harm (RFC 5492 §4); without the four-octet AS
/// capability the AS is read in two octets.
#[test]
fn unknown_capabilities_are_ignored() {
    let evpn = Capability::Multiprotocol(Family::EVPN);
    let unknown = Capability::Unknown {
        code: 200,
        value: Bytes::from_static(&[1, 2, 3]),
    };
    let capabilities = vec![unknown.clone(), evpn.clone(), unknown, evpn];
    let (sim, id) = Sim::established(
        settings(),
        Open {
            capabilities,
            ..open()
        },
    );
    let (negotiated, _) = sim.fsm.established().unwrap();
    assert!(!negotiated.route_refresh);
    assert!(!sim.fsm.context(id).four_octet_as);
}

/// BGP-015: RFC 6608 §4, with the message's type as data.
#[test]
fn messages_out_of_place() {
    let refresh = RouteRefresh {
        family: Family::EVPN,
        subtype: 0,
    };
    let cases = [
        (State::OpenSent, Message::Keepalive, 1, 4),
        (State::OpenSent, Message::Update(Update::default()), 1, 2),
        (State::OpenSent, Message::RouteRefresh(refresh), 1, 5),
        (State::OpenConfirm, Message::Update(Update::default()), 2, 2),
        (State::OpenConfirm, Message::Open(open()), 2, 1),
        (State::OpenConfirm, Message::RouteRefresh(refresh), 2, 5),
        (State::Established, Message::Open(open()), 3, 1),
    ];
    for (state, message, subcode, data) in cases {
        let mut sim = Sim::new(settings());
        let (id, _) = sim.connect(Direction::Outgoing);
        for earlier in [Message::Open(open()), Message::Keepalive] {
            if sim.fsm.state() < state {
                sim.receive(id, earlier);
            }
        }
        assert_eq!(sim.fsm.state(), state);
        let actions = sim.receive(id, message);
        let Action::Send(_, Message::Notification(notification)) = &actions[0] else {
            panic!("{actions:?}")
        };
        assert_eq!(*notification, Notification::with_data(5, subcode, &[data]));
        assert!(closes(&actions, id));
        let down = actions
            .iter()
            .any(|action| matches!(action, Action::Down(..)));
        assert_eq!(down, state == State::Established);
    }
}

/// RFC 4271 §8.2.2, events 22 and 28: a message that has no business in the state is that before it is
/// malformed.
#[test]
fn malformed_messages_out_of_place() {
    for (state, malformed, expected) in [
        (State::OpenSent, (3, 1), (5, 1)),
        (State::OpenSent, (7, 1), (5, 1)),
        (State::OpenSent, (2, 4), (2, 4)),
        (State::OpenSent, (1, 2), (1, 2)),
        (State::OpenConfirm, (3, 9), (5, 2)),
        (State::OpenConfirm, (7, 1), (5, 2)),
        (State::OpenConfirm, (2, 0), (2, 0)),
        (State::Established, (2, 4), (5, 3)),
        (State::Established, (7, 1), (7, 1)),
        (State::Established, (1, 1), (1, 1)),
    ] {
        let mut sim = Sim::new(settings());
        let (id, _) = sim.connect(Direction::Outgoing);
        for earlier in [Message::Open(open()), Message::Keepalive] {
            if sim.fsm.state() < state {
                sim.receive(id, earlier);
            }
        }
        let malformed = Notification::new(malformed.0, malformed.1);
        let actions = sim.handle(Event::Malformed(id, malformed));
        assert_eq!(notifications(&actions), [(id, expected.0, expected.1)]);
    }
}

/// RFC 4271 §6: what the codec refuses is answered with its NOTIFICATION in every state.
#[test]
fn malformed_messages_end_the_session() {
    let (mut sim, id) = Sim::established(settings(), open());
    let actions = sim.handle(Event::Malformed(id, Notification::new(3, 1)));
    assert_eq!(notifications(&actions), [(id, 3, 1)]);
    assert!(matches!(actions.last(), Some(Action::Down(..))));
    // The peer is kept out for a while: it would send the same again.
    assert_eq!(sim.fsm.state(), State::Idle);
    let (refused, actions) = sim.connect(Direction::Incoming);
    assert!(matches!(actions[..], [Action::Close(id)] if id == refused));
    sim.run(seconds(1));
    assert_eq!(sim.fsm.state(), State::Connect);
}

/// However often a peer was wrong, it is kept out for a second only.
#[test]
fn a_repaired_peer_is_let_in_soon() {
    let mut sim = Sim::new(settings());
    for _ in 0..10 {
        let (id, _) = sim.connect(Direction::Incoming);
        sim.handle(Event::ConnectFailed("connection refused".to_owned()));
        let bad_as = Open {
            asn: Asn(1),
            ..open()
        };
        assert_eq!(
            notifications(&sim.receive(id, Message::Open(bad_as))),
            [(id, 2, 2)]
        );
        assert_eq!(sim.fsm.state(), State::Idle);
        sim.run(seconds(1));
    }
    assert_eq!(sim.fsm.state(), State::Active);
    let (id, _) = sim.connect(Direction::Incoming);
    sim.receive(id, Message::Open(open()));
    sim.receive(id, Message::Keepalive);
    assert_eq!(sim.fsm.state(), State::Established);
}

/// RFC 4271 §6.4: a NOTIFICATION is never answered with one.
#[test]
fn a_notification_is_not_answered() {
    let (mut sim, id) = Sim::established(settings(), open());
    let cease = Notification::administrative_shutdown("upgrade");
    let actions = sim.receive(id, Message::Notification(cease.clone()));
    assert!(notifications(&actions).is_empty(), "{actions:?}");
    assert!(closes(&actions, id));
    assert!(
        matches!(&actions[0], Action::Down(Cause::Received(received), None) if *received == cease)
    );
    let error = sim.fsm.last_error().unwrap().to_string();
    assert!(
        error.contains("the peer") && error.contains("upgrade"),
        "{error}"
    );
}

/// RFC 2918 §4, RFC 7313 §4.2: only a request for EVPN is passed on.
#[test]
fn route_refresh_requests() {
    let (mut sim, id) = Sim::established(settings(), open());
    let mut asked = |family, subtype| {
        let actions = sim.receive(id, Message::RouteRefresh(RouteRefresh { family, subtype }));
        matches!(actions[..], [Action::Refresh(Family::EVPN)])
    };
    assert!(asked(Family::EVPN, 0));
    assert!(!asked(Family::EVPN, 1));
    assert!(!asked(Family::EVPN, 2));
    assert!(!asked(Family::EVPN, 255));
    assert!(!asked(Family::IPV4_UNICAST, 0));
}

/// The error of the last session stays visible; that of failed attempts goes with success.
#[test]
fn last_error() {
    let mut sim = Sim::new(settings());
    sim.handle(Event::ConnectFailed("connection refused".to_owned()));
    sim.run(seconds(1));
    let (id, _) = sim.connect(Direction::Outgoing);
    sim.receive(id, Message::Open(open()));
    assert!(sim.fsm.last_error().is_some());
    sim.receive(id, Message::Keepalive);
    assert_eq!(sim.fsm.last_error(), None);
    sim.handle(Event::Disconnected(id, "closed by the peer".to_owned()));
    let (id, _) = sim.connect(Direction::Incoming);
    sim.receive(id, Message::Open(open()));
    sim.receive(id, Message::Keepalive);
    assert_eq!(
        sim.fsm.last_error().map(ToString::to_string).as_deref(),
        Some("connection lost: closed by the peer")
    );
}
