//! What is sent: packing into messages, and what a kind of session leaves out.

use std::sync::Arc;

use super::*;
use crate::types::Mac;

pub(super) fn advertised(
    advertisement: &Advertisement,
    context: &Context,
    max_len: usize,
) -> Vec<Bytes> {
    let mut out = Vec::new();
    assert_eq!(
        encode_advertisement(advertisement, context, max_len, &mut out),
        []
    );
    assert!(out.iter().all(|message| message.len() <= max_len));
    out
}

pub(super) fn announcement(attributes: Attributes, routes: Vec<Route>) -> Advertisement {
    Advertisement {
        announce: vec![(Arc::new(attributes), routes)],
        ..Advertisement::default()
    }
}

pub(super) fn attributes() -> Attributes {
    Attributes {
        local_pref: Some(100),
        ..Attributes::originated("10.0.0.1".parse().unwrap())
    }
}

/// Routes that differ in their MAC address.
pub(super) fn mac_routes(count: u16) -> Vec<Route> {
    (0..count)
        .map(|number| match route(V5) {
            Route::MacIp(route) => {
                let [a, b] = number.to_be_bytes();
                let mac = Mac([2, 0, 0, 0, a, b]);
                Route::MacIp(MacIp { mac, ..route })
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

pub(super) fn updates(messages: &[Bytes], context: &Context) -> Vec<Update> {
    messages
        .iter()
        .map(|bytes| match read(bytes, context).unwrap().message {
            Message::Update(update) => update,
            other => panic!("{other:?}"),
        })
        .collect()
}

pub(super) fn attributes_of(update: &Update) -> Attributes {
    Attributes::clone(update.attributes.as_ref().unwrap())
}

/// Messages are filled, none exceeds the limit, MP_REACH_NLRI and MP_UNREACH_NLRI are never
/// together, and withdrawals come first.
#[test]
fn packing() {
    let routes = mac_routes(1000);
    let advertisement = Advertisement {
        withdraw: routes.iter().map(Route::key).collect(),
        end_of_rib: true,
        ..announcement(attributes(), routes.clone())
    };
    // Of 42 octets each, 96 routes fit beside the attributes and 96 withdrawals of 39.
    for (max_len, announcing, withdrawing) in [(MAX_LEN, 11, 10), (EXTENDED_MAX_LEN, 1, 1)] {
        let messages = advertised(&advertisement, &Context::default(), max_len);
        let read = updates(&messages, &Context::default());
        assert_eq!(read.len(), announcing + withdrawing + 1);
        let (first, rest) = read.split_at(withdrawing);
        assert!(first.iter().all(|update| update.announced.is_empty()));
        assert!(rest.iter().all(|update| update.withdrawn.is_empty()));
        let withdrawn: Vec<_> = first.iter().flat_map(|update| &update.withdrawn).collect();
        assert!(withdrawn.into_iter().eq(&advertisement.withdraw));
        let announced: Vec<_> = rest.iter().flat_map(|update| &update.announced).collect();
        assert!(announced.into_iter().eq(&routes));
        assert_eq!(read.last().unwrap().end_of_rib, Some(Family::EVPN));
        for message in &messages {
            assert!(matches!(message[24], 14 | 15), "the first attribute is MP");
        }
    }
}

/// RFC 8654 §4: what fits no message is withdrawn and reported.
#[test]
fn attributes_too_large() {
    let attributes = Attributes {
        communities: vec![0xfde9_0001; 1100],
        ..attributes()
    };
    let advertisement = announcement(attributes, vec![route(V3), route(V5)]);
    let mut out = Vec::new();
    let context = Context::default();
    let unsent = encode_advertisement(&advertisement, &context, MAX_LEN, &mut out);
    assert_eq!(unsent, [key(V3), key(V5)]);
    let read = updates(&out, &context);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].withdrawn, unsent);
    assert_eq!(
        advertised(&advertisement, &context, EXTENDED_MAX_LEN).len(),
        1
    );
}

/// RFC 7313 §4.1.
#[test]
fn enhanced_refresh_encloses_the_answer() {
    let advertisement = Advertisement {
        refresh: true,
        ..announcement(attributes(), vec![route(V7)])
    };
    let context = Context {
        enhanced_refresh: true,
        ..Context::default()
    };
    let messages = advertised(&advertisement, &context, MAX_LEN);
    assert_eq!(messages.len(), 3);
    assert_eq!(to_hex(&messages[0][18..]), "0500190146");
    assert_eq!(to_hex(&messages[2][18..]), "0500190246");
    assert_eq!(
        advertised(&advertisement, &Context::default(), MAX_LEN).len(),
        1
    );
}

/// RFC 4271 §5.1.5, RFC 4456 §8: what is for internal peers stays with them.
#[test]
fn local_attributes_by_kind_of_session() {
    let attributes = Attributes {
        originator_id: Some("10.0.0.9".parse().unwrap()),
        cluster_list: vec!["10.0.0.8".parse().unwrap()],
        as_path: AsPath(vec![AsSegment::Sequence(vec![Asn(65001)])]),
        ..attributes()
    };
    let advertisement = announcement(attributes.clone(), vec![route(V7)]);
    let context = external(65001);
    let messages = advertised(&advertisement, &context, MAX_LEN);
    let read = attributes_of(&updates(&messages, &context)[0]);
    let expected = Attributes {
        local_pref: None,
        originator_id: None,
        cluster_list: vec![],
        ..attributes.clone()
    };
    assert_eq!(read, expected);

    let without = Attributes {
        local_pref: None,
        ..attributes.clone()
    };
    let advertisement = announcement(without, vec![route(V7)]);
    let messages = advertised(&advertisement, &Context::default(), MAX_LEN);
    let read = attributes_of(&updates(&messages, &Context::default())[0]);
    assert_eq!(read, attributes);
}

/// RFC 6793 §4.2.2: four-octet numbers survive a two-octet session.
#[test]
fn two_octet_session() {
    let context = Context {
        four_octet_as: false,
        ..Context::default()
    };
    let aggregator = RawAttribute {
        flags: 0xc0,
        code: 7,
        value: hex("fa56ea010a000001").into(),
    };
    let attributes = Attributes {
        as_path: AsPath(vec![AsSegment::Sequence(vec![
            Asn(65001),
            Asn(4_200_000_001),
        ])]),
        other: vec![aggregator],
        ..attributes()
    };
    let advertisement = announcement(attributes.clone(), vec![route(V7)]);
    let messages = advertised(&advertisement, &context, MAX_LEN);
    let bytes = to_hex(&messages[0]);
    assert!(bytes.contains("4002060202fde95ba0"), "{bytes}");
    assert!(bytes.contains("c0110a0202"), "{bytes}");
    assert_eq!(attributes_of(&updates(&messages, &context)[0]), attributes);
}
