//! IPv4 and IPv6 unicast beside EVPN: RFC 4271 §4.3, RFC 4760, RFC 2545, RFC 8950.

use std::sync::Arc;

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::types::Families;

const ALL: Families = Families {
    evpn: true,
    ipv4: true,
    ipv6: true,
};
const NEXT_HOP: &str = "4003040a000001";

fn context() -> Context {
    Context {
        families: ALL,
        ..external(65001)
    }
}

fn prefix(text: &str) -> Route {
    Route::Unicast(text.parse().unwrap())
}

fn keys(texts: &[&str]) -> Vec<RouteKey> {
    texts.iter().map(|text| prefix(text).key()).collect()
}

/// An UPDATE with the fields outside of its attributes.
fn body(withdrawn: &str, attributes: &[&str], announced: &str) -> Vec<u8> {
    let withdrawn = hex(withdrawn);
    let attributes = hex(&attributes.concat());
    [
        &(withdrawn.len() as u16).to_be_bytes()[..],
        &withdrawn,
        &(attributes.len() as u16).to_be_bytes(),
        &attributes,
        &hex(announced),
    ]
    .concat()
}

fn read_body(body: &[u8], context: &Context) -> Result<(Update, Vec<Fault>), Notification> {
    let decoded = read(&message(2, body), context)?;
    match decoded.message {
        Message::Update(update) => Ok((update, decoded.faults)),
        other => panic!("{other:?}"),
    }
}

fn family_reach(head: &str, nlri: &str) -> String {
    let value = hex(&format!("{head}00{nlri}"));
    format!("900e{:04x}{}", value.len(), to_hex(&value))
}

/// RFC 4271 §4.3: 192.0.2.0/24 and 0.0.0.0/0 announced, 198.18.0.2/32 withdrawn, in the fields of the
/// UPDATE itself; bits behind a prefix don't count.
#[test]
fn classic_fields() {
    let bytes = body(
        "20c6120002",
        &[ORIGIN, AS_PATH_65001, NEXT_HOP],
        "18c00002 00 0dc0ff",
    );
    let (update, faults) = read_body(&bytes, &context()).unwrap();
    assert_eq!(faults, []);
    assert_eq!(update.withdrawn, keys(&["198.18.0.2/32"]));
    assert_eq!((&update.announced[..], update.end_of_rib), (&[][..], None));
    let (attributes, routes) = update.classic.unwrap();
    assert_eq!(attributes.next_hop.to_string(), "10.0.0.1");
    let expected = ["192.0.2.0/24", "0.0.0.0/0", "192.248.0.0/13"];
    assert_eq!(routes, expected.map(prefix));

    // Not negotiated: checked and skipped.
    let evpn_only = external(65001);
    let (update, faults) = read_body(&bytes, &evpn_only).unwrap();
    assert_eq!((update, faults), (Update::default(), vec![]));
}

/// RFC 4760 §3, RFC 2545 §3, RFC 8950 §3: next hops by length; which of two counts.
#[test]
fn multiprotocol_next_hops() {
    let global = "20010db8000000000000000000000001";
    let link_local = "fe800000000000000000000000000001";
    let unspecified = "00000000000000000000000000000000";
    let v4 = "18c00002";
    let v6 = "4020010db800010000";
    for (family, length, next_hop, nlri, expected) in [
        ("000101", "04", "0a000001".to_owned(), v4, "10.0.0.1"),
        ("000101", "10", global.to_owned(), v4, "2001:db8::1"),
        ("000101", "10", link_local.to_owned(), v4, "fe80::1"),
        (
            "000101",
            "20",
            [global, link_local].concat(),
            v4,
            "2001:db8::1",
        ),
        (
            "000101",
            "20",
            [unspecified, link_local].concat(),
            v4,
            "fe80::1",
        ),
        (
            "000101",
            "20",
            [link_local, link_local].concat(),
            v4,
            "fe80::1",
        ),
        ("000201", "10", global.to_owned(), v6, "2001:db8::1"),
        (
            "000201",
            "20",
            [global, link_local].concat(),
            v6,
            "2001:db8::1",
        ),
        (
            "000201",
            "20",
            [unspecified, link_local].concat(),
            v6,
            "fe80::1",
        ),
    ] {
        let reach = family_reach(&format!("{family}{length}{next_hop}"), nlri);
        let (update, faults) = read_update(&[&reach, ORIGIN, AS_PATH_65001], &context()).unwrap();
        assert_eq!(faults, [], "{family} {next_hop}");
        assert_eq!(update.announced.len(), 1);
        assert_eq!(update.attributes.unwrap().next_hop.to_string(), expected);
    }
    for (family, length, next_hop) in [
        ("000201", "04", "0a000001"),
        ("000101", "05", "0a00000100"),
        (
            "000201",
            "18",
            "00000000000000002001 0db8000000000000000000000001",
        ),
    ] {
        let reach = family_reach(&format!("{family}{length}{next_hop}"), "00");
        let error = read_update(&[&reach, ORIGIN, AS_PATH_65001], &context()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 9), "{family} {length}");
    }
}

/// RFC 7606 §5.3: a length that no prefix has, or an overrun, hides all that follows; the session is
/// reset, in the fields with 3/10.
#[test]
fn prefixes_that_cannot_be_read() {
    let base = [ORIGIN, AS_PATH_65001, NEXT_HOP];
    for (withdrawn, announced) in [("21c000020000", ""), ("", "21c000020000"), ("", "18c000")] {
        for context in [context(), external(65001)] {
            let error = read_body(&body(withdrawn, &base, announced), &context).unwrap_err();
            assert_eq!((error.code, error.subcode), (3, 10));
        }
    }
    let next_hop = "00020110 20010db8000000000000000000000001";
    for nlri in ["81", "4020010db8"] {
        let reach = family_reach(next_hop, nlri);
        let error = read_update(&[&reach, ORIGIN, AS_PATH_65001], &context()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 9));
    }
    let unreach = "900f00080001012100000000";
    let error = read_update(&[unreach], &context()).unwrap_err();
    assert_eq!((error.code, error.subcode), (3, 9));
}

/// RFC 4271 §6.3: what is no unicast prefix is ignored, the others count.
#[test]
fn prefixes_without_sense() {
    for nonsense in [
        "08e0",
        "08e0",
        "087f",
        "10a9fe",
        "08f0",
        "0800",
        "20ffffffff",
    ] {
        let bytes = hex(nonsense);
        let padded = format!(
            "{nonsense}{}",
            "00".repeat(usize::from(bytes[0]).div_ceil(8) + 1 - bytes.len())
        );
        let announced = format!("{padded}18c00002");
        let bytes = body("", &[ORIGIN, AS_PATH_65001, NEXT_HOP], &announced);
        let (update, faults) = read_body(&bytes, &context()).unwrap();
        assert_eq!(
            update.classic.unwrap().1,
            [prefix("192.0.2.0/24")],
            "{nonsense}"
        );
        assert_eq!(update.withdrawn.len(), 1);
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].outcome, Outcome::TreatAsWithdraw);
        assert!(matches!(faults[0].cause, Cause::Prefix(_)), "{faults:?}");
    }
}

/// ERR-003 (RFC 7606 §3 d, §7.3; RFC 4271 §6.3): NEXT_HOP missing, of a wrong length or no unicast
/// address makes a withdrawal of all routes; without classic routes it doesn't matter.
#[test]
fn next_hop_attribute() {
    for (next_hop, cause) in [
        ("", Cause::Missing(AttributeCode(3))),
        (
            "4003030a0000",
            Cause::Length {
                code: AttributeCode(3),
                length: 3,
            },
        ),
        ("40030400000000", Cause::NextHop("0.0.0.0".parse().unwrap())),
        (
            "400304e0000001",
            Cause::NextHop("224.0.0.1".parse().unwrap()),
        ),
    ] {
        let bytes = body("", &[ORIGIN, AS_PATH_65001, next_hop], "18c00002");
        let (update, faults) = read_body(&bytes, &context()).unwrap();
        assert_eq!(update.classic, None);
        assert_eq!(update.withdrawn, keys(&["192.0.2.0/24"]));
        assert_eq!(faults[0].cause, cause);
    }
    let attributes = [&reach(&[V3]), ORIGIN, AS_PATH_65001, "40030400000000"];
    let (update, faults) = read_update(&attributes, &context()).unwrap();
    assert_eq!((update.announced.len(), faults.len()), (1, 0));
}

/// RFC 4271 §4.3, RFC 4760 §3: both kinds of routes in one UPDATE, each with its own next hop; a fault
/// of their attributes concerns both.
#[test]
fn both_kinds_in_one_update() {
    let evpn = reach(&[V3]);
    let attributes = [&evpn, ORIGIN, AS_PATH_65001, "40030409090909"];
    let (mut update, faults) = read_body(&body("", &attributes, "18c00002"), &context()).unwrap();
    assert_eq!(faults, []);
    let (classic, _) = update.classic.clone().unwrap();
    assert_eq!(classic.next_hop.to_string(), "9.9.9.9");
    assert_eq!(
        update.attributes.clone().unwrap().next_hop.to_string(),
        "10.0.0.1"
    );
    let ipv4 = update.take(Family::IPV4_UNICAST);
    assert!(ipv4.classic.is_some() && ipv4.announced.is_empty());
    assert!(update.classic.is_none() && update.announced == [route(V3)]);

    let attributes = [&evpn, AS_PATH_65001, "40030409090909"];
    let (update, _) = read_body(&body("", &attributes, "18c00002"), &context()).unwrap();
    assert_eq!(update.withdrawn, [prefix("192.0.2.0/24").key(), key(V3)]);
    assert_eq!((update.classic, update.attributes), (None, None));
}

/// RFC 4724 §2: End-of-RIB by family; an empty UPDATE is that of IPv4 unicast.
#[test]
fn end_of_rib_of_each_family() {
    for family in Family::all_of(ALL) {
        let (update, _) = read_body(&end_of_rib(family)[19..], &context()).unwrap();
        assert_eq!(update.end_of_rib, Some(family));
    }
    let (update, _) = read_update(&["800f03000101"], &context()).unwrap();
    assert_eq!(update.end_of_rib, Some(Family::IPV4_UNICAST));
    let (update, _) = read_body(&[0; 4], &external(65001)).unwrap();
    assert_eq!(update, Update::default());
    let (update, _) = read_body(&body("00", &[], ""), &context()).unwrap();
    assert_eq!(update.end_of_rib, None);
}

/// What goes on the wire: IPv4 in the fields of the UPDATE where its next hop is IPv4, else in
/// MP_REACH_NLRI (RFC 8950 §3); withdrawals of IPv4 always in the field.
#[test]
fn written() {
    let written = |family, next_hop: &str, route: &str| {
        let advertisement = Advertisement {
            family,
            withdraw: keys(&[route]),
            announce: vec![(
                Arc::new(Attributes {
                    as_path: AsPath(vec![AsSegment::Sequence(vec![Asn(65001)])]),
                    ..Attributes::originated(next_hop.parse().unwrap())
                }),
                vec![prefix(route)],
            )],
            end_of_rib: true,
            refresh: true,
        };
        let context = Context {
            enhanced_refresh: true,
            ..context()
        };
        let mut out = Vec::new();
        let unsent = encode_advertisement(&advertisement, &context, MAX_LEN, &mut out);
        assert_eq!(unsent, []);
        out.iter()
            .map(|bytes| to_hex(&bytes[18..]))
            .collect::<Vec<_>>()
    };
    let path = AS_PATH_65001.replace(' ', "");
    let expected = [
        "0500010101".to_owned(),
        "02000520c61200010000".to_owned(),
        format!("0200000014{ORIGIN}{path}{NEXT_HOP}20c6120001"),
        "0200000000".to_owned(),
        "0500010201".to_owned(),
    ];
    assert_eq!(
        written(Family::IPV4_UNICAST, "10.0.0.1", "198.18.0.1/32"),
        expected
    );
    let link_local = "fe800000000000000000000000000001";
    let expected = format!("020000002a800e1a00010110{link_local}0020c6120001{ORIGIN}{path}");
    assert_eq!(
        written(Family::IPV4_UNICAST, "fe80::1", "198.18.0.1/32")[2],
        expected
    );
    let expected = [
        "0500020101".to_owned(),
        "020000000d800f0a0002013020010db80001".to_owned(),
        format!("020000002c800e1c00020110{link_local}003020010db80001{ORIGIN}{path}"),
        "0200000006800f03000201".to_owned(),
        "0500020201".to_owned(),
    ];
    assert_eq!(
        written(Family::IPV6_UNICAST, "fe80::1", "2001:db8:1::/48"),
        expected
    );
}

/// Full messages, none longer than allowed.
#[test]
fn packing_of_many_prefixes() {
    let routes: Vec<_> = (0..5000_u32)
        .map(|n| {
            Route::Unicast(
                IpNet::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 32).unwrap(),
            )
        })
        .collect();
    let advertisement = Advertisement {
        family: Family::IPV4_UNICAST,
        withdraw: routes.iter().map(Route::key).collect(),
        announce: vec![(
            Arc::new(Attributes {
                as_path: AsPath(vec![AsSegment::Sequence(vec![Asn(65001)])]),
                ..Attributes::originated("10.0.0.1".parse().unwrap())
            }),
            routes.clone(),
        )],
        ..Advertisement::default()
    };
    let mut out = Vec::new();
    encode_advertisement(&advertisement, &context(), MAX_LEN, &mut out);
    let mut withdrawn = Vec::new();
    let mut announced = Vec::new();
    for bytes in &out {
        assert!(bytes.len() <= MAX_LEN);
        let (update, faults) = read_body(&bytes[19..], &context()).unwrap();
        assert_eq!(faults, []);
        withdrawn.extend(update.withdrawn);
        announced.extend(update.classic.into_iter().flat_map(|(_, routes)| routes));
    }
    assert_eq!(withdrawn, advertisement.withdraw);
    assert_eq!(announced, routes);
    // 814 prefixes of 5 octets fit beside nothing, 810 beside 20 octets of attributes.
    assert_eq!(out.len(), 7 + 7);
}

fn unicast() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0x0100_0000..0x7f00_0000_u32, 8..=32_u8).prop_map(|(bits, length)| {
            IpNet::new(std::net::Ipv4Addr::from_bits(bits).into(), length).unwrap()
        }),
        (0_u128..1 << 120, 8..=128_u8).prop_map(|(low, length)| {
            IpNet::new(
                std::net::Ipv6Addr::from_bits(0x20 << 120 | low).into(),
                length,
            )
            .unwrap()
        }),
    ]
    .prop_map(|prefix| prefix.trunc())
}

proptest! {
    /// What is written is read, whatever the next hop's family.
    #[test]
    fn unicast_round_trip(prefixes in vec(unicast(), 1..300), v6_next_hop: bool, internal: bool) {
        let context = Context { internal, ..context() };
        for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
            let next_hop = match v6_next_hop || family == Family::IPV6_UNICAST {
                true => "2001:db8::1",
                false => "192.0.2.1",
            };
            let attributes = Arc::new(Attributes {
                local_pref: internal.then_some(100),
                as_path: AsPath(vec![AsSegment::Sequence(vec![Asn(65001)])]),
                ..Attributes::originated(next_hop.parse().unwrap())
            });
            let routes: Vec<_> = prefixes
                .iter()
                .filter(|prefix| Family::of_prefix(prefix) == family)
                .map(|prefix| Route::Unicast(*prefix))
                .collect();
            let advertisement = Advertisement {
                family,
                announce: vec![(attributes.clone(), routes.clone())],
                ..Advertisement::default()
            };
            let mut out = Vec::new();
            prop_assert_eq!(encode_advertisement(&advertisement, &context, MAX_LEN, &mut out), []);
            let mut read = Vec::new();
            for bytes in &out {
                let (update, faults) = read_body(&bytes[19..], &context).unwrap();
                prop_assert_eq!(faults, []);
                let multiprotocol = update.attributes.map(|with| (with, update.announced));
                for (found, routes) in multiprotocol.into_iter().chain(update.classic) {
                    prop_assert_eq!(&found, &attributes);
                    read.extend(routes);
                }
            }
            prop_assert_eq!(read, routes);
        }
    }

    /// ERR-021: nothing in any family panics, and what is accepted says the same when it is written
    /// and read again.
    #[test]
    fn damaged_unicast(at in 19_usize..90, octet: u8, cut in 0_usize..90) {
        let link_local = "fe800000000000000000000000000001";
        let reach = family_reach(&format!("00020110{link_local}"), "3020010db80001");
        let attributes = [&reach, ORIGIN, AS_PATH_65001, NEXT_HOP];
        let mut bytes = message(2, &body("20c6120002", &attributes, "18c0000200"));
        if let Some(found) = bytes.get_mut(at) {
            *found = octet;
        }
        let cut = bytes.len().saturating_sub(cut / 8).max(23);
        bytes.truncate(cut);
        bytes[16..18].copy_from_slice(&(cut as u16).to_be_bytes());
        let Ok(decoded) = read(&bytes, &context()) else {
            return Ok(());
        };
        let Message::Update(update) = decoded.message else {
            panic!("{:?}", decoded.message)
        };
        let mut out = Vec::new();
        update::encode(&update, &context(), EXTENDED_MAX_LEN, &mut out);
        prop_assert_eq!(said(out.iter().map(|bytes| &bytes[..])), said([&bytes[..]]));
    }
}

/// Routes with their next hops, and withdrawn keys, as sets.
fn said<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut all = Vec::new();
    for bytes in messages {
        let Message::Update(update) = read(bytes, &context()).unwrap().message else {
            panic!()
        };
        let multiprotocol = update.attributes.map(|with| (with, update.announced));
        for (attributes, routes) in multiprotocol.into_iter().chain(update.classic) {
            all.extend(routes.iter().map(|route| format!("{route} {attributes:?}")));
        }
        all.extend(update.withdrawn.iter().map(|key| format!("not {key}")));
        all.extend(update.end_of_rib.map(|family| format!("end {family:?}")));
    }
    all.sort();
    all
}
