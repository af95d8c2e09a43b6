//! What is negotiated beyond the base protocol: extended messages, route refresh, send hold time.

use super::*;
use crate::bgp::{
    fsm::{Cause, Cease, negotiation},
    wire::{AddPath, EXTENDED_MAX_LEN, GracefulRestart, MAX_LEN, RouteRefresh},
};
use crate::types::LocalAs;

fn offering(capability: Capability) -> Open {
    let mut open = open();
    open.capabilities.push(capability);
    open
}

/// BGP-023, BGP-024: RFC 8654 §4: we take what we offered to take once the OPENs are through, and
/// send what the peer offered to take.
#[test]
fn longest_messages() {
    for (offer, peer_offers, receive, send) in [
        (true, true, EXTENDED_MAX_LEN, EXTENDED_MAX_LEN),
        (true, false, EXTENDED_MAX_LEN, MAX_LEN),
        (false, true, MAX_LEN, MAX_LEN),
    ] {
        let settings = Settings {
            extended_messages: offer,
            ..settings()
        };
        let peer = match peer_offers {
            true => offering(Capability::ExtendedMessage),
            false => open(),
        };
        let mut sim = Sim::new(settings.clone());
        let (id, _) = sim.connect(Direction::Outgoing);
        assert_eq!(sim.fsm.max_received(id), MAX_LEN);
        let (sim, id) = Sim::established(settings, peer);
        assert_eq!(sim.fsm.max_received(id), receive);
        let (negotiated, _) = sim.fsm.established().unwrap();
        assert_eq!(negotiated.max_len, send);
        let named = negotiated.capabilities().contains(&"extended_message");
        assert_eq!(named, send > MAX_LEN);
    }
}

/// ERR-010 and others: how UPDATEs are judged is the configuration's to say.
#[test]
fn checks_of_updates_are_configured() {
    let checks = UpdateChecks {
        strict_nlri: true,
        enforce_first_as: false,
        accept_as_sets: true,
    };
    for checks in [checks, UpdateChecks::default()] {
        let (sim, id) = Sim::established(
            Settings {
                checks,
                ..settings()
            },
            open(),
        );
        let context = sim.fsm.context(id);
        let read = UpdateChecks {
            strict_nlri: context.strict_nlri,
            enforce_first_as: context.enforce_first_as,
            accept_as_sets: context.accept_as_sets,
        };
        assert_eq!(read, checks);
    }
}

/// Checklist A9.2: towards the peer we are the other AS, in the OPEN and for the question of who is
/// internal.
#[test]
fn local_as() {
    let known = Asn(4_200_000_000);
    let local_as = Some(LocalAs {
        asn: known,
        replace: false,
    });
    for (peer_asn, theirs, internal) in [
        (PeerAsn::Is(LOCAL_ASN), LOCAL_ASN, Some(false)),
        (PeerAsn::External, LOCAL_ASN, Some(false)),
        (PeerAsn::Is(known), known, Some(true)),
        (PeerAsn::Internal, known, Some(true)),
        (PeerAsn::Internal, LOCAL_ASN, None),
        (PeerAsn::External, known, None),
    ] {
        let settings = Settings {
            local_as,
            peer_asn,
            ..settings()
        };
        let mut sim = Sim::new(settings.clone());
        let (_, actions) = sim.connect(Direction::Outgoing);
        let Some(Action::Send(_, Message::Open(ours))) = actions.first() else {
            panic!("{actions:?}");
        };
        assert_eq!(ours.asn, known);
        assert!(ours.capabilities.contains(&Capability::FourOctetAs(known)));
        let mut open = open();
        open.asn = theirs;
        open.capabilities.pop();
        open.capabilities.push(Capability::FourOctetAs(theirs));
        let negotiated = negotiation::negotiate(&settings, &open);
        let session = negotiated.map(|negotiated| negotiated.session);
        match internal {
            Some(internal) => {
                let session = session.unwrap();
                assert_eq!((session.internal, session.local_as), (internal, local_as));
            }
            None => {
                let notification = session.unwrap_err().notification();
                assert_eq!(notification, Notification::BAD_PEER_AS);
            }
        }
    }
}

/// RFC 2918 §4, RFC 7313 §3.2: three subtypes, of the family that was negotiated.
#[test]
fn route_refresh() {
    let (mut sim, id) = Sim::established(settings(), offering(Capability::EnhancedRouteRefresh));
    let (negotiated, _) = sim.fsm.established().unwrap();
    assert!(negotiated.context.enhanced_refresh);
    let mut receive = |family, subtype| {
        let refresh = RouteRefresh { family, subtype };
        sim.receive(id, Message::RouteRefresh(refresh))
    };
    assert!(matches!(
        receive(Family::EVPN, 0)[..],
        [Action::Refresh(Family::EVPN)]
    ));
    assert!(matches!(
        receive(Family::EVPN, 1)[..],
        [Action::RefreshBegin(Family::EVPN)]
    ));
    assert!(matches!(
        receive(Family::EVPN, 2)[..],
        [Action::RefreshEnd(Family::EVPN)]
    ));
    assert!(receive(Family::EVPN, 3).is_empty());
    assert!(receive(Family::IPV4_UNICAST, 1).is_empty());
}

/// RFC 7911 §4: several EVPN paths are taken from a peer that says it sends them, when configured.
#[test]
fn add_path() {
    let wanted = Settings {
        add_path: true,
        ..settings()
    };
    let tuple = |family, mode| AddPath { family, mode };
    for (settings, tuples, agreed) in [
        (&wanted, vec![tuple(Family::EVPN, AddPath::SEND)], true),
        (&wanted, vec![tuple(Family::EVPN, AddPath::BOTH)], true),
        (&wanted, vec![tuple(Family::EVPN, AddPath::RECEIVE)], false),
        (&wanted, vec![tuple(Family::EVPN, 4)], false),
        (
            &wanted,
            vec![tuple(Family::IPV4_UNICAST, AddPath::BOTH)],
            false,
        ),
        (&settings(), vec![tuple(Family::EVPN, AddPath::SEND)], false),
    ] {
        let ours = negotiation::open(settings, Restart::default()).capabilities;
        let offer = Capability::AddPath(vec![tuple(Family::EVPN, AddPath::RECEIVE)]);
        assert_eq!(ours.contains(&offer), settings.add_path);
        let peer = offering(Capability::AddPath(tuples.clone()));
        let negotiated = negotiation::negotiate(settings, &peer).unwrap();
        assert_eq!(negotiated.context.add_path, agreed, "{tuples:?}");
        assert_eq!(negotiated.capabilities().contains(&"add_path"), agreed);
    }
}

/// BGP-019: RFC 9687 §4. The peer is alive and takes nothing.
#[test]
fn send_hold_timer() {
    for (configured, hold_time, expected) in [
        (None, 90, Some(480)),
        (None, 300, Some(600)),
        (Some(100), 90, Some(100)),
        (Some(0), 90, None),
        (None, 0, None),
    ] {
        let settings = Settings {
            send_hold_time: configured.map(seconds),
            hold_time: seconds(300),
            ..settings()
        };
        let (mut sim, id) = Sim::established(
            settings,
            Open {
                hold_time,
                ..open()
            },
        );
        let mut ended = None;
        for _ in 0..70 {
            sim.receive(id, Message::Keepalive);
            let down = |(at, action): (Duration, Action)| match action {
                Action::Down(cause, _) => Some((at, cause)),
                _ => None,
            };
            ended = ended.or(sim.run(seconds(10)).into_iter().find_map(down));
        }
        let cause = Cause::Sent(Notification::SEND_HOLD_TIMER_EXPIRED);
        assert_eq!(ended, expected.map(|time| (seconds(time), cause)));
    }
}

/// BGP-019, the other way round: a slow peer is not a dead one.
#[test]
fn a_peer_that_takes_little_stays() {
    let (mut sim, id) = Sim::established(settings(), open());
    for _ in 0..100 {
        sim.receive(id, Message::Keepalive);
        sim.run(seconds(60));
        sim.handle(Event::Taken(id));
        assert_eq!(sim.fsm.state(), State::Established);
    }
}

/// BGP-022: a peer that sent too many routes stays out for a minute, with graceful restart as well,
/// and its routes go (RFC 8538 §3.1).
#[test]
fn too_many_routes() {
    let restarts = GracefulRestart {
        notification: true,
        restart_time: 120,
        families: vec![(Family::EVPN, true)],
        ..GracefulRestart::default()
    };
    let data = [0, 25, 70, 0, 0, 0, 10];
    for (peer, expected) in [
        (open(), Notification::with_data(6, 1, &data)),
        (
            offering(Capability::GracefulRestart(restarts)),
            Notification::with_data(6, 9, &[&[6, 1], &data[..]].concat()),
        ),
    ] {
        let (mut sim, _) = Sim::established(settings(), peer);
        let actions = sim.handle(Event::Reset(Cease::MaxPrefixes(Family::EVPN, 10)));
        let down = actions.iter().find_map(|action| match action {
            Action::Down(cause, retention) => Some((cause, retention)),
            _ => None,
        });
        assert_eq!(down, Some((&Cause::Sent(expected), &None)));
        assert_eq!(sim.fsm.state(), State::Idle);
        let (id, actions) = sim.connect(Direction::Incoming);
        assert!(closes(&actions, id));
        assert!(
            !sim.run(seconds(59))
                .iter()
                .any(|(_, action)| matches!(action, Action::Connect))
        );
        let log = sim.run(seconds(2));
        assert!(
            log.iter()
                .any(|(_, action)| matches!(action, Action::Connect))
        );
    }
}

/// RFC 9003: administratively down is down.
#[test]
fn shut_down() {
    let mut sim = Sim::new(Settings {
        shutdown: true,
        ..settings()
    });
    assert_eq!(sim.fsm.state(), State::Idle);
    let (id, actions) = sim.connect(Direction::Incoming);
    assert!(closes(&actions, id));
    assert!(sim.run(seconds(600)).is_empty());
}

/// The name is shown as far as it is one.
#[test]
fn hostname() {
    for (host, domain, expected) in [
        ("rr1", "example.net", Some("rr1.example.net".to_owned())),
        ("rr1", "", Some("rr1".to_owned())),
        ("\u{1b}[31mrr1\n", "", Some("31mrr1".to_owned())),
        ("", "", None),
        (&"x".repeat(200), "", Some("x".repeat(64))),
    ] {
        let (host, domain) = (host.to_owned().into(), domain.to_owned().into());
        let (sim, _) = Sim::established(settings(), offering(Capability::Fqdn { host, domain }));
        let (negotiated, _) = sim.fsm.established().unwrap();
        assert_eq!(negotiated.hostname, expected);
    }
}
