//! Attempts: when they are made, given up and stopped.

use super::*;
use crate::bgp::fsm::Cease;

/// BGP-016: RFC 4271 §8.2.2, event 18 in OpenSent leads to Active, where the peer may connect.
#[test]
fn a_lost_connection_in_open_sent_leads_to_active() {
    let mut sim = Sim::new(settings());
    let (id, _) = sim.connect(Direction::Outgoing);
    let actions = sim.handle(Event::Disconnected(id, "connection reset".to_owned()));
    assert!(actions.is_empty(), "{actions:?}");
    assert_eq!(sim.fsm.state(), State::Active);
    let wait = sim.fsm.deadline().unwrap() - sim.now;
    assert!(
        wait > Duration::from_millis(749) && wait <= seconds(1),
        "{wait:?}"
    );
    let (_, actions) = sim.connect(Direction::Incoming);
    assert!(matches!(actions[..], [Action::Send(_, Message::Open(_))]));
}

/// The delay between attempts grows to half a minute and no further.
#[test]
fn retries_slow_down() {
    let mut sim = Sim::new(settings());
    let mut attempts = vec![Duration::ZERO];
    while attempts.len() < 9 {
        sim.handle(Event::ConnectFailed("connection refused".to_owned()));
        let deadline = sim.fsm.deadline().unwrap();
        let log = sim.run(deadline - sim.now);
        assert!(matches!(log[..], [(_, Action::Connect)]), "{log:?}");
        attempts.push(log[0].0);
    }
    let gaps: Vec<f64> = attempts
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    for (gap, expected) in gaps
        .iter()
        .zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
    {
        assert!(*gap > expected * 0.749 && *gap <= expected, "{gaps:?}");
    }
}

/// RFC 4271 §8.2.2, event 9 in Connect: an attempt that hangs is given up.
#[test]
fn an_attempt_that_hangs_is_given_up() {
    let mut sim = Sim::new(settings());
    let log = sim.run(seconds(10));
    assert!(matches!(log[..], [(_, Action::AbortConnect)]), "{log:?}");
    assert_eq!(sim.fsm.state(), State::Active);
    assert_eq!(
        sim.fsm.last_error().unwrap().to_string(),
        "cannot connect: timed out"
    );
    // Too late.
    let (id, actions) = sim.connect(Direction::Outgoing);
    assert!(matches!(actions[..], [Action::Close(closed)] if closed == id));
}

#[test]
fn a_passive_speaker_never_connects() {
    let mut sim = Sim::new(Settings {
        passive: true,
        ..settings()
    });
    assert_eq!((sim.fsm.state(), sim.fsm.deadline()), (State::Active, None));
    let (id, _) = sim.connect(Direction::Incoming);
    let bad_as = Open {
        asn: Asn(1),
        ..open()
    };
    sim.receive(id, Message::Open(bad_as));
    assert_eq!(sim.fsm.state(), State::Idle);
    let log = sim.run(seconds(100));
    assert!(log.is_empty(), "{log:?}");
    assert_eq!(sim.fsm.state(), State::Active);
}

/// BGP-020, A1.5: the reason is told, and nothing is tried again until the next start.
#[test]
fn stops_with_a_cease() {
    for (cease, subcode) in [
        (Cease::Shutdown("TICKET-1".to_owned()), 2),
        (Cease::Deconfigured, 3),
        (Cease::ConfigChange, 6),
    ] {
        let (mut sim, id) = Sim::established(settings(), open());
        let actions = sim.handle(Event::Stop(cease));
        assert_eq!(notifications(&actions), [(id, 6, subcode)]);
        assert!(matches!(actions.last(), Some(Action::Down(..))));
        assert_eq!((sim.fsm.state(), sim.fsm.deadline()), (State::Idle, None));
        let (refused, actions) = sim.connect(Direction::Incoming);
        assert!(matches!(actions[..], [Action::Close(id)] if id == refused));
        assert!(connects(&sim.handle(Event::Start)));
    }
}

/// Stopping in the middle of an attempt leaves nothing behind.
#[test]
fn a_stop_aborts_the_attempt() {
    let mut sim = Sim::new(settings());
    let actions = sim.handle(Event::Stop(Cease::Deconfigured));
    assert!(matches!(actions[..], [Action::AbortConnect]), "{actions:?}");
    assert_eq!((sim.fsm.state(), sim.fsm.deadline()), (State::Idle, None));
}
