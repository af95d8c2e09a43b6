//! Two connections at once (RFC 4271 §6.8).

use super::*;
use crate::types::LocalAs;

/// Both sides opened a connection, and sent an OPEN on each. Outgoing first.
fn simultaneous(settings: Settings) -> (Sim, ConnectionId, ConnectionId) {
    let mut sim = Sim::new(settings);
    let (incoming, _) = sim.connect(Direction::Incoming);
    let (outgoing, _) = sim.connect(Direction::Outgoing);
    (sim, outgoing, incoming)
}

fn with_identifier(last: u8) -> Settings {
    Settings {
        router_id: [10, 0, 0, last].into(),
        ..settings()
    }
}

/// BGP-011: the peer's identifier is higher, so its connection stays, whichever OPEN comes first.
#[test]
fn the_peers_connection_stays_when_its_identifier_is_higher() {
    let (mut sim, outgoing, incoming) = simultaneous(with_identifier(10));
    let actions = sim.receive(outgoing, Message::Open(open()));
    assert_eq!(notifications(&actions), [(outgoing, 6, 7)]);
    assert!(closes(&actions, outgoing));
    sim.receive(incoming, Message::Open(open()));
    let actions = sim.receive(incoming, Message::Keepalive);
    assert!(matches!(actions[..], [Action::Up(id, _)] if id == incoming));

    let (mut sim, outgoing, incoming) = simultaneous(with_identifier(10));
    let actions = sim.receive(incoming, Message::Open(open()));
    assert_eq!(notifications(&actions), [(outgoing, 6, 7)]);
    assert_eq!(sim.fsm.state(), State::OpenConfirm);
    assert!(sim.receive(outgoing, Message::Open(open())).is_empty());
    assert_eq!(sim.fsm.last_error(), None);
}

/// BGP-012: the other way round.
#[test]
fn our_connection_stays_when_our_identifier_is_higher() {
    for first_is_outgoing in [true, false] {
        let (mut sim, outgoing, incoming) = simultaneous(with_identifier(30));
        let first = if first_is_outgoing {
            outgoing
        } else {
            incoming
        };
        let actions = sim.receive(first, Message::Open(open()));
        assert_eq!(notifications(&actions), [(incoming, 6, 7)]);
        if !first_is_outgoing {
            sim.receive(outgoing, Message::Open(open()));
        }
        sim.receive(outgoing, Message::Keepalive);
        assert_eq!(sim.fsm.state(), State::Established);
    }
}

/// RFC 6286 §2.3: of equal identifiers the larger AS decides, and ours is the one that the peer was
/// told: otherwise both sides would close, or keep, both connections.
#[test]
fn the_as_that_the_peer_knows_breaks_the_tie() {
    let peer_asn = Asn(LOCAL_ASN.0 + 10);
    for (known, survivor) in [
        (LOCAL_ASN.0 + 20, Direction::Outgoing),
        (LOCAL_ASN.0 + 5, Direction::Incoming),
    ] {
        let (mut sim, outgoing, incoming) = simultaneous(Settings {
            peer_asn: PeerAsn::Is(peer_asn),
            local_as: Some(LocalAs {
                asn: Asn(known),
                replace: false,
            }),
            ..with_identifier(20)
        });
        let mut open = open();
        open.asn = peer_asn;
        open.capabilities.pop();
        open.capabilities.push(Capability::FourOctetAs(peer_asn));
        let loser = match survivor {
            Direction::Outgoing => incoming,
            Direction::Incoming => outgoing,
        };
        let actions = sim.receive(outgoing, Message::Open(open));
        assert_eq!(notifications(&actions), [(loser, 6, 7)], "{known}");
    }
}

/// RFC 4271 §6.8: a connection in OpenConfirm loses to a later one as well.
#[test]
fn a_connection_in_open_confirm_can_lose() {
    let mut sim = Sim::new(with_identifier(10));
    let (outgoing, _) = sim.connect(Direction::Outgoing);
    sim.receive(outgoing, Message::Open(open()));
    let (incoming, _) = sim.connect(Direction::Incoming);
    let actions = sim.receive(incoming, Message::Open(open()));
    assert_eq!(notifications(&actions), [(outgoing, 6, 7)]);
    sim.receive(incoming, Message::Keepalive);
    assert_eq!(sim.fsm.state(), State::Established);
}

/// Both machines side by side, every order of delivery: one session, and the same on both sides.
#[test]
fn both_sides_agree() {
    for order in 0..16_u8 {
        let (mut a, a_out, a_in) = simultaneous(with_identifier(10));
        let peer = Settings {
            router_id: [10, 0, 0, 20].into(),
            ..settings()
        };
        let (mut b, b_out, b_in) = simultaneous(peer);
        let mut pairs = [(a_out, b_in), (a_in, b_out)];
        if order & 1 != 0 {
            pairs.reverse();
        }
        // What is in flight: to A or to B, and on which of their connections.
        let our_open = Open {
            router_id: [10, 0, 0, 10].into(),
            ..open()
        };
        let mut flights: Vec<(bool, ConnectionId, Message)> = Vec::new();
        for (at_a, at_b) in pairs {
            flights.push((true, at_a, Message::Open(open())));
            flights.push((false, at_b, Message::Open(our_open.clone())));
        }
        if order & 2 != 0 {
            flights.swap(0, 1);
        }
        if order & 4 != 0 {
            flights.swap(2, 3);
        }
        if order & 8 != 0 {
            flights.swap(1, 2);
        }
        while !flights.is_empty() {
            let (to_a, id, message) = flights.remove(0);
            let (to, back) = if to_a {
                (&mut a, false)
            } else {
                (&mut b, true)
            };
            for action in to.receive(id, message) {
                if let Action::Send(from, message) = action {
                    let pair = pairs
                        .iter()
                        .find(|pair| from == if to_a { pair.0 } else { pair.1 });
                    let target = pair.map(|pair| if to_a { pair.1 } else { pair.0 }).unwrap();
                    flights.push((back, target, message));
                }
            }
        }
        // B's identifier is higher: its connection stays.
        for (sim, id) in [(&a, a_in), (&b, b_out)] {
            assert_eq!(sim.fsm.state(), State::Established, "order {order}");
            assert_eq!(sim.fsm.connections.len(), 1, "order {order}");
            assert_eq!(sim.fsm.connections[0].id, id, "order {order}");
        }
    }
}

/// BGP-013: an Established session stays, and is probed: a peer that lost its state resets it.
#[test]
fn an_established_session_stays_and_is_probed() {
    let (mut sim, old) = Sim::established(settings(), open());
    let (new, actions) = sim.connect(Direction::Incoming);
    assert!(
        matches!(
            actions[..],
            [Action::Send(probed, Message::Keepalive), Action::Send(_, Message::Open(_))]
                if probed == old
        ),
        "{actions:?}"
    );
    let actions = sim.receive(new, Message::Open(open()));
    assert_eq!(notifications(&actions), [(new, 6, 7)]);
    assert!(closes(&actions, new) && !closes(&actions, old));
    assert_eq!(sim.fsm.state(), State::Established);
}

/// The probe's purpose: the old connection is reset while the new one waits for its OPEN.
#[test]
fn a_restarted_peer_comes_back_at_once() {
    let (mut sim, old) = Sim::established(settings(), open());
    let (new, _) = sim.connect(Direction::Incoming);
    let actions = sim.handle(Event::Disconnected(old, "connection reset".to_owned()));
    assert!(matches!(actions[..], [Action::Down(..)]), "{actions:?}");
    sim.receive(new, Message::Open(open()));
    sim.receive(new, Message::Keepalive);
    assert_eq!(sim.fsm.state(), State::Established);
}

/// The newer of two connections of the peer counts: it has given up the older.
#[test]
fn a_second_incoming_connection_takes_the_place_of_the_first() {
    let mut sim = Sim::new(Settings {
        passive: true,
        ..settings()
    });
    let (first, _) = sim.connect(Direction::Incoming);
    let (second, actions) = sim.connect(Direction::Incoming);
    assert_eq!(notifications(&actions), [(first, 6, 7)]);
    sim.receive(second, Message::Open(open()));
    sim.receive(second, Message::Keepalive);
    assert_eq!(sim.fsm.state(), State::Established);
}

/// The same beside an Established session.
#[test]
fn connections_do_not_pile_up_beside_a_session() {
    let mut sim = Sim::new(settings());
    let (session, _) = sim.connect(Direction::Incoming);
    sim.receive(session, Message::Open(open()));
    sim.receive(session, Message::Keepalive);
    let (second, _) = sim.connect(Direction::Incoming);
    let (_, actions) = sim.connect(Direction::Incoming);
    assert_eq!(notifications(&actions), [(second, 6, 7)]);
    assert_eq!(sim.fsm.connections.len(), 2);
    assert_eq!(sim.fsm.state(), State::Established);
}

/// The peer resolved the collision before its connection reached us: it must get in.
#[test]
fn the_loser_of_a_collision_waits_for_the_winner() {
    let mut sim = Sim::new(settings());
    let (outgoing, _) = sim.connect(Direction::Outgoing);
    sim.receive(outgoing, Message::Notification(Notification::COLLISION));
    assert_eq!(sim.fsm.state(), State::Active);
    let (incoming, _) = sim.connect(Direction::Incoming);
    sim.receive(incoming, Message::Open(open()));
    sim.receive(incoming, Message::Keepalive);
    assert_eq!(sim.fsm.state(), State::Established);
}

/// Once a session is up nothing else is tried.
#[test]
fn a_session_ends_the_attempt() {
    let mut sim = Sim::new(settings());
    let (incoming, _) = sim.connect(Direction::Incoming);
    sim.receive(incoming, Message::Open(open()));
    let actions = sim.receive(incoming, Message::Keepalive);
    assert!(
        matches!(actions[..], [Action::AbortConnect, Action::Up(..)]),
        "{actions:?}"
    );
    assert!(!connects(
        &sim.run(seconds(80))
            .into_iter()
            .map(|e| e.1)
            .collect::<Vec<_>>()
    ));
}
