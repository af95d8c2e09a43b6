use proptest::{collection::vec, option, prelude::*};

use super::*;

/// Up, Poll, 3 x 300 ms, discriminators 0x01020304 and 0x0a0b0c0d.
const UP: [u8; LEN] = [
    0x20, 0xe0, 0x03, 0x18, 0x01, 0x02, 0x03, 0x04, 0x0a, 0x0b, 0x0c, 0x0d, 0x00, 0x04, 0x93, 0xe0,
    0x00, 0x04, 0x93, 0xe0, 0x00, 0x00, 0x00, 0x00,
];

fn discriminator(value: u32) -> Discriminator {
    Discriminator(NonZeroU32::new(value).unwrap())
}

fn up() -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        sequence: Sequence::Poll,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: discriminator(0x0102_0304),
        your_discriminator: Some(discriminator(0x0a0b_0c0d)),
        desired_min_tx: Interval(300_000),
        required_min_rx: Interval(300_000),
        required_min_echo_rx: Interval(0),
    }
}

/// `UP` with some octets replaced.
fn with(changes: &[(usize, u8)]) -> [u8; LEN] {
    let mut octets = UP;
    for (index, octet) in changes {
        octets[*index] = *octet;
    }
    octets
}

/// RFC 5880 §4.1, field by field.
#[test]
fn vectors() {
    let down = Packet {
        diagnostic: Diagnostic::NEIGHBOR_DOWN,
        state: State::Down,
        sequence: Sequence::Final,
        control_plane_independent: true,
        demand: true,
        multiplier: NonZeroU8::MAX,
        my_discriminator: discriminator(1),
        your_discriminator: None,
        desired_min_tx: Interval(1_000_000),
        required_min_rx: Interval(u32::MAX),
        required_min_echo_rx: Interval(50_000),
    };
    let down_octets = [
        0x23, 0x5a, 0xff, 0x18, 0, 0, 0, 1, 0, 0, 0, 0, 0x00, 0x0f, 0x42, 0x40, 0xff, 0xff, 0xff,
        0xff, 0x00, 0x00, 0xc3, 0x50,
    ];
    for (packet, octets) in [(up(), UP), (down, down_octets)] {
        assert_eq!(packet.encode(), octets);
        let received = Received {
            packet,
            authenticated: false,
        };
        assert_eq!(Packet::decode(&octets), Ok(received));
    }
    let states = [State::AdminDown, State::Down, State::Init, State::Up];
    for (state, bits) in states.into_iter().zip([0x20, 0x60, 0xa0, 0xe0]) {
        let received = Packet::decode(&with(&[(1, bits)])).unwrap();
        assert_eq!(received.packet.state, state);
    }
}

/// RFC 5880 §6.8.6: each reason alone, and the order: a packet with this mistake and all later ones
/// is discarded for this one.
#[test]
fn discard_order() {
    let mistakes: [(&[(usize, u8)], Malformed); 7] = [
        (&[(0, 0x40)], Malformed::Version),
        (&[(3, 23)], Malformed::Length),
        (&[(3, 25)], Malformed::Truncated),
        (&[(2, 0)], Malformed::Multiplier),
        (&[(1, 0xc1)], Malformed::Multipoint),
        (
            &[(4, 0), (5, 0), (6, 0), (7, 0)],
            Malformed::MyDiscriminator,
        ),
        (&[(8, 0), (9, 0), (10, 0), (11, 0)], Malformed::State),
    ];
    for (index, (changes, expected)) in mistakes.iter().enumerate() {
        assert_eq!(Packet::decode(&with(changes)), Err(*expected));
        // The first to set an octet keeps it.
        let mut octets = UP;
        for (changes, _) in mistakes[index..].iter().rev() {
            for (at, octet) in *changes {
                octets[*at] = *octet;
            }
        }
        assert_eq!(Packet::decode(&octets), Err(*expected));
    }
    let both = with(&[(1, 0xf0)]);
    assert_eq!(Packet::decode(&both), Err(Malformed::PollAndFinal));
}

/// Down and AdminDown need no Your Discriminator, Init and Up do.
#[test]
fn states_without_your_discriminator() {
    for (bits, accepted) in [(0x00, true), (0x40, true), (0x80, false), (0xc0, false)] {
        let octets = with(&[(1, bits), (8, 0), (9, 0), (10, 0), (11, 0)]);
        assert_eq!(Packet::decode(&octets).is_ok(), accepted, "{bits:02x}");
    }
}

#[test]
fn lengths() {
    for length in 0..LEN {
        let reason = match length {
            0..4 => Malformed::Length,
            _ => Malformed::Truncated,
        };
        assert_eq!(Packet::decode(&UP[..length]), Err(reason));
    }
    // What follows is not part of it.
    let longer = [&UP[..], &[0xff; 40]].concat();
    assert_eq!(Packet::decode(&longer), Packet::decode(&UP));
    // An authentication section has two octets at least, and is not read.
    let short = with(&[(1, 0xe4), (3, 25)]);
    assert_eq!(Packet::decode(&short), Err(Malformed::Length));
    let authenticated = [&with(&[(1, 0xe4), (3, 26)])[..], &[1, 2]].concat();
    let received = Packet::decode(&authenticated).unwrap();
    assert!(received.authenticated);
    assert_eq!(received.packet, up());
}

#[test]
fn intervals_saturate() {
    let hours = Duration::from_secs(7200);
    assert_eq!(Interval::new(hours), Interval(u32::MAX));
    assert_eq!(Interval::new(Duration::from_millis(300)), Interval(300_000));
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let states = prop_oneof![
        Just(State::AdminDown),
        Just(State::Down),
        Just(State::Init),
        Just(State::Up)
    ];
    let sequences = prop_oneof![
        Just(Sequence::None),
        Just(Sequence::Poll),
        Just(Sequence::Final)
    ];
    let discriminators = || (1..=u32::MAX).prop_map(discriminator);
    let head = (
        any::<u8>(),
        states,
        sequences,
        any::<[bool; 2]>(),
        1..=u8::MAX,
    );
    let ids = (discriminators(), option::of(discriminators()));
    (head, ids, any::<[u32; 3]>()).prop_map(|(head, (my, your), [tx, rx, echo])| {
        let (diagnostic, state, sequence, [independent, demand], multiplier) = head;
        let anonymous = matches!(state, State::Down | State::AdminDown);
        Packet {
            diagnostic: Diagnostic::new(diagnostic),
            state,
            sequence,
            control_plane_independent: independent,
            demand,
            multiplier: NonZeroU8::new(multiplier).unwrap(),
            my_discriminator: my,
            your_discriminator: match anonymous {
                true => your,
                false => your.or(Some(my)),
            },
            desired_min_tx: Interval(tx),
            required_min_rx: Interval(rx),
            required_min_echo_rx: Interval(echo),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_sent_is_received(packet in any_packet()) {
        let received = Received { packet, authenticated: false };
        prop_assert_eq!(Packet::decode(&packet.encode()), Ok(received));
    }

    /// Whatever is accepted says the same when it is written again.
    #[test]
    fn damage_is_refused_or_understood(
        packet in any_packet(),
        damage in vec((0..LEN, any::<u8>()), 0..4),
        length in 0..=LEN + 8,
    ) {
        let mut octets = packet.encode();
        for (at, octet) in damage {
            octets[at] = octet;
        }
        let mut payload = [&octets[..], &[0; 8]].concat();
        payload.truncate(length);
        if let Ok(received) = Packet::decode(&payload) {
            let again = Packet::decode(&received.packet.encode());
            prop_assert_eq!(again.map(|again| again.packet), Ok(received.packet));
        }
    }
}
