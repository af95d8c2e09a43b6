use std::{net::Ipv4Addr, num::NonZeroU8, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::bfd::{
    fsm::Settings,
    wire::{Diagnostic, Interval, Sequence},
};

const PEER: PeerId = PeerId(7);
const OTHER: PeerId = PeerId(8);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2));

fn config(remote: IpAddr, hops: Hops) -> SessionConfig {
    SessionConfig {
        endpoint: Endpoint {
            remote,
            local: Some(LOCAL),
            interface: None,
            hops,
        },
        settings: Settings {
            interval: Interval(300_000),
            multiplier: NonZeroU8::new(3).unwrap(),
        },
    }
}

fn arrival() -> Arrival {
    Arrival {
        source: REMOTE,
        destination: LOCAL,
        ifindex: 2,
        ttl: Some(255),
        multihop: false,
    }
}

fn packet(state: State, your: Option<Discriminator>) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        sequence: Sequence::None,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: Discriminator(NonZeroU32::new(99).unwrap()),
        your_discriminator: your,
        desired_min_tx: Interval(300_000),
        required_min_rx: Interval(300_000),
        required_min_echo_rx: Interval(0),
    }
}

/// A table with one session, and our discriminator in it.
fn table(hops: Hops) -> (Table, Discriminator, Instant) {
    let now = Instant::now();
    let mut table = Table::new(3);
    table.configure(vec![(PEER, config(REMOTE, hops))], now);
    let discriminator = match table.tick(now)[..] {
        [Output::Send(_, packet)] => packet.my_discriminator,
        ref other => panic!("{other:?}"),
    };
    (table, discriminator, now)
}

fn state(table: &Table) -> State {
    let ids: Vec<_> = table.sessions.keys().copied().collect();
    table.status(ids[0]).unwrap().state
}

fn count(table: &Table, reason: Discard) -> u64 {
    let of = |(known, count)| (known == reason).then_some(count);
    table.discards().iter().find_map(of).unwrap()
}

/// RFC 5880 §6.3, §6.8.6: by addresses at first, by Your Discriminator afterwards, from wherever.
#[test]
fn demultiplexing() {
    let (mut table, mine, now) = table(Hops::Single);
    let first = packet(State::Down, None).encode();
    table.receive(&arrival(), &first, now).unwrap();
    assert_eq!(state(&table), State::Init);
    let elsewhere = Arrival {
        source: "203.0.113.9".parse().unwrap(),
        ..arrival()
    };
    let second = packet(State::Init, Some(mine)).encode();
    let outputs = table.receive(&elsewhere, &second, now).unwrap();
    assert!(outputs.contains(&Output::Report(PEER, Liveness::Up)));
    assert_eq!(state(&table), State::Up);
}

/// BGP-030 (RFC 5881 §5), RFC 5880 §6.8.6: every reason, each counted.
#[test]
fn every_discard_reason_is_counted() {
    let (mut table, mine, now) = table(Hops::Single);
    let good = packet(State::Down, None);
    let with = |index: usize, octet: u8| {
        let mut octets = good.encode();
        octets[index] = octet;
        octets.to_vec()
    };
    let far = Arrival {
        ttl: Some(254),
        ..arrival()
    };
    let unknown = Arrival { ttl: None, ..far };
    let stranger = Arrival {
        source: "198.18.0.3".parse().unwrap(),
        ..arrival()
    };
    let other_address = Arrival {
        destination: "198.18.0.9".parse().unwrap(),
        ..arrival()
    };
    let multihop = Arrival {
        multihop: true,
        ..arrival()
    };
    let wrong = Discriminator(NonZeroU32::new(mine.0.get() ^ 1).unwrap());
    let mut authenticated = with(1, 0x44);
    authenticated[3] = 26;
    authenticated.extend([1, 2]);
    let cases = [
        (far, good.encode().to_vec(), Discard::Ttl),
        (unknown, good.encode().to_vec(), Discard::Ttl),
        (arrival(), with(0, 0), Discard::Version),
        (arrival(), with(3, 20), Discard::Length),
        (arrival(), with(3, 30), Discard::Truncated),
        (arrival(), with(2, 0), Discard::Multiplier),
        (arrival(), with(1, 0x41), Discard::Multipoint),
        (arrival(), with(7, 0), Discard::MyDiscriminator),
        (arrival(), with(1, 0xc0), Discard::State),
        (arrival(), with(1, 0x70), Discard::PollAndFinal),
        (
            arrival(),
            packet(State::Up, Some(wrong)).encode().to_vec(),
            Discard::NoSession,
        ),
        (stranger, good.encode().to_vec(), Discard::NoPeer),
        (other_address, good.encode().to_vec(), Discard::NoPeer),
        (multihop, good.encode().to_vec(), Discard::WrongPort),
        (
            multihop,
            packet(State::Up, Some(mine)).encode().to_vec(),
            Discard::WrongPort,
        ),
        (arrival(), authenticated, Discard::Authentication),
    ];
    for (arrival, payload, reason) in &cases {
        let before = count(&table, *reason);
        assert_eq!(table.receive(arrival, payload, now), Err(*reason));
        assert_eq!(count(&table, *reason), before + 1);
        assert_eq!(state(&table), State::Down, "{reason:?}");
    }
    // The first reason wins: a packet from afar is not even looked at.
    assert_eq!(table.receive(&far, &[], now), Err(Discard::Ttl));
    assert!(Discard::ALL.iter().all(|reason| count(&table, *reason) > 0));
    // The status says what went wrong last.
    let ids: Vec<_> = table.sessions.keys().copied().collect();
    assert_eq!(table.status(ids[0]).unwrap().discarded, Some(Discard::Ttl));
}

/// RFC 5883: no TTL is asked for unless the number of hops is configured.
#[test]
fn multihop_ttl() {
    let good = packet(State::Down, None).encode();
    let from = |ttl| Arrival {
        ttl: Some(ttl),
        multihop: true,
        ..arrival()
    };
    for (hops, ttl, expected) in [
        (u8::MAX, 1, Ok(())),
        (3, 253, Ok(())),
        (3, 252, Err(Discard::Ttl)),
        (1, 254, Err(Discard::Ttl)),
    ] {
        let (mut table, _, now) = table(Hops::Multi(hops));
        let result = table.receive(&from(ttl), &good, now).map(drop);
        assert_eq!(result, expected, "{hops} hops, TTL {ttl}");
    }
}

/// Link-local addresses are told apart by their interfaces.
#[test]
fn interfaces() {
    let now = Instant::now();
    let remote: IpAddr = "fe80::1".parse().unwrap();
    let on = |name: &str| {
        let mut config = config(remote, Hops::Single);
        config.endpoint.local = None;
        config.endpoint.interface = Some(name.parse().unwrap());
        config
    };
    let mut table = Table::new(3);
    table.configure(vec![(PEER, on("eth0")), (OTHER, on("eth1"))], now);
    for (id, ifindex) in [(SessionId(0), 2), (SessionId(1), 3)] {
        table.set_ifindex(id, Some(ifindex));
    }
    let through = |ifindex| Arrival {
        source: remote,
        ifindex,
        ..arrival()
    };
    let good = packet(State::Down, None).encode();
    table.receive(&through(3), &good, now).unwrap();
    let states = [SessionId(0), SessionId(1)].map(|id| table.status(id).unwrap().state);
    assert_eq!(states, [State::Down, State::Init]);
    let result = table.receive(&through(4), &good, now);
    assert_eq!(result, Err(Discard::NoPeer));
}

fn up(table: &mut Table, mine: Discriminator, now: Instant) {
    table
        .receive(&arrival(), &packet(State::Down, None).encode(), now)
        .unwrap();
    table
        .receive(&arrival(), &packet(State::Init, Some(mine)).encode(), now)
        .unwrap();
    assert_eq!(state(table), State::Up);
}

#[test]
fn configuration_changes() {
    let (mut table, mine, now) = table(Hops::Single);
    up(&mut table, mine, now);
    // The same again: nothing happens.
    assert_eq!(
        table.configure(vec![(PEER, config(REMOTE, Hops::Single))], now),
        []
    );
    // Other intervals are negotiated.
    let mut slower = config(REMOTE, Hops::Single);
    slower.settings.interval = Interval(500_000);
    let outputs = table.configure(vec![(PEER, slower)], now);
    let [Output::Send(_, told)] = outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!((told.state, told.sequence), (State::Up, Sequence::Poll));
    // Another kind is another session; the old one says AdminDown until its peer must have noticed.
    let outputs = table.configure(vec![(PEER, config(REMOTE, Hops::Multi(255)))], now);
    assert!(outputs.contains(&Output::Report(PEER, Liveness::Unused)));
    assert!(
        matches!(outputs[..], [_, Output::Send(_, off), _] if off.state == State::AdminDown),
        "{outputs:?}"
    );
    // Who insists on a path waits for the new session.
    assert_eq!(
        outputs.last(),
        Some(&Output::Report(PEER, Liveness::Unknown))
    );
    assert_eq!(table.sessions.len(), 2);
    let mut closed = false;
    while let Some(at) = table
        .deadline()
        .filter(|at| *at <= now + Duration::from_secs(4))
    {
        closed |= table
            .tick(at)
            .iter()
            .any(|output| matches!(output, Output::Close(_)));
    }
    assert!(closed);
    assert_eq!(table.sessions.len(), 1);
    // Back at once: what the old one has to say would confuse the peer.
    table.configure(vec![], now);
    let outputs = table.configure(vec![(PEER, config(REMOTE, Hops::Multi(255)))], now);
    assert!(matches!(
        outputs[..],
        [Output::Close(_), Output::Report(PEER, Liveness::Unknown)]
    ));
    assert_eq!(table.sessions.len(), 1);
    assert_eq!(table.by_discriminator.len(), 1);
    // And nothing is left.
    table.configure(vec![], now);
    let end = now + Duration::from_secs(60);
    while let Some(at) = table.deadline().filter(|at| *at <= end) {
        table.tick(at);
    }
    assert!(table.sessions.is_empty() && table.by_address.is_empty());
    assert!(table.by_discriminator.is_empty() && table.deadlines.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Damaged packets at any time: no panic, the deadlines stay those of the sessions, every packet
    /// is either counted as received or as discarded.
    #[test]
    fn damaged_packets(
        steps in vec((0_u8..4, any::<bool>(), vec((0_usize..24, any::<u8>()), 0..3), 0_u64..400), 1..200),
    ) {
        let (mut table, mine, mut now) = table(Hops::Single);
        for (arrived, (state, known, damage, pause)) in (1..).zip(steps) {
            let states = [State::AdminDown, State::Down, State::Init, State::Up];
            let your = known.then_some(mine);
            let mut octets = packet(states[usize::from(state)], your).encode();
            for (index, octet) in damage {
                octets[index] = octet;
            }
            let _ = table.receive(&arrival(), &octets, now);
            now += Duration::from_millis(pause);
            table.tick(now);
            prop_assert!(table.deadline().is_none_or(|at| at > now));
            let discarded: u64 = table.discards().iter().map(|(_, count)| count).sum();
            let session = table.sessions.values().next().unwrap();
            prop_assert_eq!(session.received + discarded, arrived);
            let deadlines: Vec<_> = table.deadlines.iter().map(|(at, _)| *at).collect();
            prop_assert_eq!(deadlines, Vec::from_iter(session.deadline()));
        }
    }
}
