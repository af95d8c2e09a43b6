//! Properties of generated and of damaged messages.

use std::{net::Ipv4Addr, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::bgp::rib::Advertisement;

/// Everything of several UPDATEs, in the order in which it came.
fn read_all(messages: &[Bytes], context: &Context) -> Update {
    let mut all = Update::default();
    for bytes in messages {
        let decoded = read(bytes, context).unwrap();
        assert_eq!(decoded.faults, []);
        let Message::Update(update) = decoded.message else {
            panic!("{:?}", decoded.message)
        };
        if let (Some(one), Some(other)) = (&all.attributes, &update.attributes) {
            assert_eq!(one, other);
        }
        all.attributes = update.attributes.or(all.attributes);
        all.announced.extend(update.announced);
        all.withdrawn.extend(update.withdrawn);
        all.identified.announced.extend(update.identified.announced);
        all.identified.withdrawn.extend(update.identified.withdrawn);
        all.end_of_rib = update.end_of_rib.or(all.end_of_rib);
        all.classic = update.classic.or(all.classic);
    }
    all
}

fn contexts() -> impl Iterator<Item = Context> {
    (0..16_u8).map(|bits| Context {
        four_octet_as: bits & 1 == 0,
        internal: bits & 2 == 0,
        add_path: bits & 4 != 0,
        strict_nlri: bits & 8 != 0,
        accept_as_sets: bits & 8 != 0,
        enforce_first_as: bits & 4 != 0,
        ..external(65001)
    })
}

proptest! {
    #[test]
    fn update_round_trip(
        attributes in generate::attributes(),
        announced in vec(generate::route(), 1..200),
        withdrawn in vec(generate::route(), 0..200),
        end_of_rib: bool,
        four_octet_as: bool,
        extended: bool,
    ) {
        let context = Context {
            four_octet_as,
            accept_as_sets: true,
            ..Context::default()
        };
        let attributes = Arc::new(attributes);
        let withdraw: Vec<_> = withdrawn.iter().map(Route::key).collect();
        let advertisement = Advertisement {
            family: Family::EVPN,
            withdraw: withdraw.clone(),
            announce: vec![(attributes.clone(), announced.clone())],
            end_of_rib,
            ..Advertisement::default()
        };
        let max_len = if extended { EXTENDED_MAX_LEN } else { MAX_LEN };
        let mut out = Vec::new();
        let unsent = encode_advertisement(&advertisement, &context, max_len, &mut out);
        prop_assert_eq!(unsent, []);
        prop_assert!(out.iter().all(|message| message.len() <= max_len));
        let expected = Update {
            announced,
            attributes: Some(attributes),
            withdrawn: withdraw,
            end_of_rib: end_of_rib.then_some(Family::EVPN),
            ..Update::default()
        };
        prop_assert_eq!(read_all(&out, &context), expected);
    }

    /// RFC 7911 §3: identifiers stay with their routes, through as many messages as it takes.
    #[test]
    fn identified_round_trip(
        attributes in generate::attributes(),
        announced in vec((any::<u32>().prop_map(PathId), generate::route()), 1..200),
        withdrawn in vec((any::<u32>().prop_map(PathId), generate::route()), 0..200),
        extended: bool,
    ) {
        let context = Context {
            add_path: true,
            accept_as_sets: true,
            ..Context::default()
        };
        let withdrawn = withdrawn.iter().map(|(id, route)| (*id, route.key()));
        let update = Update {
            attributes: Some(Arc::new(attributes)),
            identified: Identified {
                announced,
                withdrawn: withdrawn.collect(),
            },
            ..Update::default()
        };
        let max_len = if extended { EXTENDED_MAX_LEN } else { MAX_LEN };
        let mut out = Vec::new();
        update::encode(&update, &context, max_len, &mut out);
        prop_assert!(out.iter().all(|message| message.len() <= max_len));
        prop_assert_eq!(read_all(&out, &context), update);
    }

    #[test]
    fn open_round_trip(
        asn in 1_u32..,
        hold_time in 3_u16..,
        router_id in 1_u32..,
        mut capabilities in vec(generate::capability(), 0..12),
    ) {
        capabilities.push(Capability::FourOctetAs(Asn(asn)));
        let open = Message::Open(Open {
            asn: Asn(asn),
            hold_time,
            router_id: Ipv4Addr::from_bits(router_id),
            capabilities,
        });
        let mut out = BytesMut::new();
        open.encode(&Context::default(), &mut out);
        prop_assert_eq!(read(&out, &Context::default()).unwrap().message, open);
    }

    #[test]
    fn arbitrary_bodies(kind in 1..=5_u8, body in vec(any::<u8>(), 0..300)) {
        for context in contexts() {
            examine(&message(kind, &body), &context);
        }
    }

    #[test]
    fn arbitrary_streams(bytes in vec(any::<u8>(), 0..64)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = next_frame(&mut buffer, MAX_LEN) {}
    }
}

/// Nothing panics, faults only report what was received, and an UPDATE that is accepted says the
/// same without a fault when it is written and read again.
fn examine(bytes: &[u8], context: &Context) -> bool {
    let Ok(Some(frame)) = next_frame(&mut BytesMut::from(bytes), EXTENDED_MAX_LEN) else {
        return false;
    };
    let Ok(decoded) = decode(&frame, context) else {
        return false;
    };
    for fault in &decoded.faults {
        assert!(fault.bytes.len() <= bytes.len());
        assert!(!fault.to_string().is_empty());
    }
    let Message::Update(update) = decoded.message else {
        return true;
    };
    let mut out = Vec::new();
    update::encode(&update, context, EXTENDED_MAX_LEN, &mut out);
    assert_eq!(read_all(&out, context), update, "{}", to_hex(bytes));
    true
}

/// ERR-021: damaged copies of the vectors' UPDATEs and of V22.
#[test]
fn err_021_damaged_messages() {
    const ROUNDS: u64 = 1_000_000;
    let mut seeds = vec![hex(V19), hex(V20), hex(V22)];
    for nlri in NLRI {
        let pmsi = "c0160900060027740a000001";
        let reach = reach(&[nlri, V3]);
        let announced = [&reach, ORIGIN, AS_PATH_65001, LOCAL_PREF, COMMUNITIES, pmsi];
        seeds.push(message(2, &update_body(&announced)));
        seeds.push(message(2, &update_body(&[&unreach(&[nlri, V3])])));
    }
    let contexts: Vec<_> = contexts().collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(3) {
            damage(&mut bytes, &mut random);
        }
        accepted += u64::from(examine(&bytes, &contexts[random.below(contexts.len())]));
    }
    // Damage that frames can't survive would test nothing.
    assert!(accepted > ROUNDS / 10 && accepted < ROUNDS, "{accepted}");
}

/// Changes an octet, cuts, doubles or inserts behind the header, and mends the lengths half of the
/// time, so that the damage gets past them.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let mend = random.below(2) == 0;
    let at = HEADER_LEN + random.below((bytes.len() - HEADER_LEN).max(1));
    let Some(octet) = bytes.get_mut(at) else {
        return;
    };
    match random.below(5) {
        0 => *octet ^= 1 << random.below(8),
        1 => *octet = random.below(256) as u8,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, random.below(256) as u8),
        _ => {
            let tail = bytes[at..].to_vec();
            bytes.extend_from_slice(&tail);
        }
    }
    if mend && bytes.len() >= 23 {
        let total = bytes.len() as u16;
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        if bytes[18] == 2 {
            bytes[21..23].copy_from_slice(&(total - 23).to_be_bytes());
        }
    }
}

/// xorshift64: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
