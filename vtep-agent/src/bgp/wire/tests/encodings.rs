//! EVPN encodings and what a receiver makes of their fields.

use std::net::IpAddr;

use super::{
    sending::{advertised, announcement, attributes_of, updates},
    *,
};
use crate::{
    bgp::rib::Advertisement,
    types::{Esi, Mac},
};

/// What becomes of a route: kept, or the cause with the keys that are withdrawn.
fn outcome(nlri: &str, communities: &str) -> Result<Route, (Outcome, Cause, Vec<RouteKey>)> {
    let attributes = [&reach(&[nlri]), ORIGIN, AS_PATH, LOCAL_PREF, communities];
    let (mut update, mut faults) = read_update(&attributes, &Context::default()).unwrap();
    match faults.pop() {
        None => Ok(update.announced.pop().unwrap()),
        Some(fault) => {
            assert_eq!(update.announced, []);
            assert_eq!(fault.bytes, hex(nlri));
            Err((fault.outcome, fault.cause, update.withdrawn))
        }
    }
}

fn assert_discarded(nlri: &str, cause: Cause) {
    let expected = (Outcome::NlriDiscard, cause, vec![]);
    assert_eq!(outcome(nlri, ""), Err(expected), "{nlri}");
}

fn assert_withdrawn(nlri: &str, communities: &str, cause: Cause) {
    let expected = (Outcome::TreatAsWithdraw, cause, vec![key(nlri)]);
    assert_eq!(outcome(nlri, communities), Err(expected), "{nlri}");
}

/// ENC-005.
#[test]
fn enc_005_largest_vni() {
    let Route::MacIp(largest) = route(V3) else {
        panic!()
    };
    let bytes = encoded(&Route::MacIp(MacIp {
        label1: 16_777_214,
        ..largest
    }));
    assert!(to_hex(&bytes).ends_with("fffffe"));
}

/// ENC-013.
#[test]
fn enc_013_segment_and_labels_are_outside_the_key() {
    let Route::MacIp(route) = route(V5) else {
        panic!()
    };
    let other = MacIp {
        esi: Esi([1; 10]),
        label1: 7,
        label2: None,
        ..route
    };
    assert_eq!(Route::MacIp(route).key(), Route::MacIp(other).key());
    let Route::IpPrefix(route) = super::route(V10) else {
        panic!()
    };
    let other = IpPrefix {
        esi: Esi([1; 10]),
        label: 7,
        ..route
    };
    assert_eq!(Route::IpPrefix(route).key(), Route::IpPrefix(other).key());
    let flags_differ = format!("{}01", &V13[..V13.len() - 2]);
    assert_eq!(key(V13), key(&flags_differ));
}

/// ENC-014.
#[test]
fn enc_014_ip_prefix_of_33_octets() {
    let cause = Cause::RouteLength {
        route_type: 5,
        length: 33,
    };
    assert_discarded(&format!("0521{}", &V10[4..V10.len() - 2]), cause);
}

/// ENC-015.
#[test]
fn enc_015_host_bits_are_cleared() {
    let host_bits = V10.replace("c6336400", "c63364ff");
    assert_ne!(host_bits, V10);
    assert_eq!(outcome(&host_bits, ""), Ok(route(V10)));
}

/// ENC-018: the first is used, and the only one that goes on.
#[test]
fn enc_018_two_router_macs() {
    let communities = "c01018 06030200000000fe 0002fde900002774 06030200000000fd";
    let attributes = [&reach(&[V5]), ORIGIN, AS_PATH, LOCAL_PREF, communities];
    let (update, faults) = read_update(&attributes, &Context::default()).unwrap();
    assert_eq!(faults, []);
    let attributes = attributes_of(&update);
    assert_eq!(attributes.router_mac(), Some(Mac([2, 0, 0, 0, 0, 0xfe])));
    assert_eq!(attributes.ext_communities.len(), 2);
}

/// RFC 9012 §4.1: a tunnel TLV without sub-TLVs means what the community means.
#[test]
fn barebones_tunnel_attribute() {
    let both = [COMMUNITIES, "c0170d 00130000 00090005 0103000000"].concat();
    let attributes = [&reach(&[V5]), ORIGIN, AS_PATH, LOCAL_PREF, &both];
    let (update, _) = read_update(&attributes, &Context::default()).unwrap();
    let tunnels: Vec<_> = attributes_of(&update).tunnels().collect();
    assert_eq!(tunnels, [Encapsulation::VXLAN, Encapsulation::GENEVE]);
}

/// ENC-020: MAC 0 without an address is the unknown MAC route, with an address it is nothing.
#[test]
fn enc_020_unknown_mac_route() {
    let zero = |nlri: &str| nlri.replace("020000000001", "000000000000");
    assert!(outcome(&zero(V3), "").is_ok());
    assert_withdrawn(&zero(V4), "", Cause::Mac(Mac::ZERO));
}

/// ENC-022: a withdrawal with other labels and another segment has the key of the announcement,
/// and ours have zeros there.
#[test]
fn enc_022_withdrawal() {
    let other = V5
        .replace("00277400c351", "00000800000f")
        .replace("0007000000", "0007001122");
    let (update, _) = read_update(&[&unreach(&[&other])], &Context::default()).unwrap();
    assert_eq!(update.withdrawn, [key(V5)]);

    for nlri in NLRI {
        let advertisement = Advertisement {
            withdraw: vec![key(nlri)],
            ..Advertisement::default()
        };
        let messages = advertised(&advertisement, &Context::default(), MAX_LEN);
        let expected = Update {
            withdrawn: vec![key(nlri)],
            ..Update::default()
        };
        assert_eq!(updates(&messages, &Context::default()), [expected]);
    }
    let message = nlri::withdrawal(&key(V5));
    assert!(to_hex(&encoded(&message)).ends_with("c000020a000000"));
}

/// Every length but those of the table (RFC 7432 §7, RFC 9136 §3.1).
#[test]
fn lengths() {
    for nlri in [V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11] {
        let value = &hex(nlri)[2..];
        let route_type = hex(nlri)[0];
        for length in 0..value.len() {
            let read = nlri::decode(route_type, &value[..length]);
            // A symmetric route without its second label is an asymmetric one.
            let shorter = route_type == 2 && matches!((value.len(), length), (40, 37) | (52, 49));
            assert_eq!(read.is_ok(), shorter, "{nlri} cut to {length}");
        }
        let longer = [value, &[0]].concat();
        assert!(nlri::decode(route_type, &longer).is_err(), "{nlri}");
    }
}

/// RFC 9135 §9.1.2 and RFC 7432 §7.2.
#[test]
fn mac_ip_fields() {
    let mac_length = |bits: &str| V3.replacen("3002", &format!("{bits}02"), 1);
    assert_discarded(&mac_length("00"), Cause::MacLength(0));
    assert_discarded(&mac_length("20"), Cause::MacLength(0x20));
    let ip_length = V4.replacen("0120c0", "0121c0", 1);
    assert_discarded(&ip_length, Cause::IpLength(0x21));

    let group = V3.replace("020000000001", "030000000001");
    assert_withdrawn(&group, "", Cause::Mac(Mac([3, 0, 0, 0, 0, 1])));
    let broadcast = V3.replace("020000000001", "ffffffffffff");
    assert_withdrawn(&broadcast, "", Cause::Mac(Mac::BROADCAST));
    for (hex, text) in [
        ("00000000", "0.0.0.0"),
        ("e0000001", "224.0.0.1"),
        ("7f000001", "127.0.0.1"),
        ("ffffffff", "255.255.255.255"),
    ] {
        let ip: IpAddr = text.parse().unwrap();
        assert_withdrawn(&V4.replace("c000020a", hex), "", Cause::Ip(ip));
    }
}

#[test]
fn originators() {
    assert_discarded(&V7.replacen("0020", "0021", 1), Cause::IpLength(0x21));
    let zero = V7.replace("200a000001", "2000000000");
    assert_withdrawn(&zero, "", Cause::Ip("0.0.0.0".parse().unwrap()));
    let zero = V9.replace("200a000001", "2000000000");
    assert_withdrawn(&zero, "", Cause::Ip("0.0.0.0".parse().unwrap()));
}

/// RFC 7432 §8.2.1: 0 and MAX-ESI are no segments.
#[test]
fn reserved_segments() {
    for esi in [Esi::ZERO, Esi::MAX] {
        let nlri = V2.replace("00112233445566778899", &to_hex(&esi.0));
        assert_withdrawn(&nlri, "", Cause::Esi(esi));
    }
}

/// RFC 9746 §2.2: single-active with a split horizon type, and VXLAN with one.
#[test]
fn split_horizon_type() {
    for (flags, rest, excluded) in [
        ("01", "", false),
        ("80", "", false),
        ("41", "", true),
        ("40", "030c000000000008", true),
        ("00", "030c000000000008", false),
    ] {
        let value = format!("0601{flags}0000000000{rest}");
        let communities = format!("c010{:02x}{value}", value.len() / 2);
        match excluded {
            true => assert_withdrawn(V1, &communities, Cause::SplitHorizon),
            false => assert_eq!(outcome(V1, &communities), Ok(route(V1))),
        }
        assert_eq!(outcome(V2, &communities), Ok(route(V2)));
    }
}

/// RFC 9136 §3.1, §3.2.
#[test]
fn ip_prefix_fields() {
    let prefix_length = V10.replace("18c63364", "21c63364");
    assert_discarded(&prefix_length, Cause::PrefixLength(33));
    let two_indices = V12.replace("006300000000", "006300010000");
    assert_withdrawn(&two_indices, "", Cause::TwoOverlayIndices);
    let no_label = format!("{}000000", &V10[..V10.len() - 6]);
    assert_withdrawn(&no_label, "", Cause::NoLabel);
    let router_mac = |mac: &str| format!("c010080603{mac}");
    assert_eq!(
        outcome(&no_label, &router_mac("0200000000fe")),
        Ok(route(&no_label))
    );
    assert_withdrawn(
        V10,
        &router_mac("0300000000fe"),
        Cause::RouterMac(Mac([3, 0, 0, 0, 0, 0xfe])),
    );
    assert_eq!(outcome(V12, ""), Ok(route(V12)));
}

/// RFC 9251 §9.7: without their key, types 6 to 8 end the session.
#[test]
fn multicast_routes_without_a_key() {
    for nlri in [V13, V15, V16] {
        let cut = format!(
            "{}{:02x}{}",
            &nlri[..2],
            nlri.len() / 2 - 3,
            &nlri[4..nlri.len() - 2]
        );
        let attributes = [&reach(&[&cut]), ORIGIN, AS_PATH, LOCAL_PREF];
        let error = read_update(&attributes, &Context::default()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 9), "{nlri}");
    }
}

/// A next hop that can't be a tunnel endpoint; IPv6, alone and with a link-local address (RFC 2545).
#[test]
fn next_hops() {
    let read = |next_hop: &str| {
        let value = format!("001946{:02x}{next_hop}00{V3}", next_hop.len() / 2);
        let mp_reach = format!("800e{:02x}{value}", value.len() / 2);
        read_update(
            &[&mp_reach, ORIGIN, AS_PATH, LOCAL_PREF],
            &Context::default(),
        )
        .unwrap()
    };
    for bad in [
        "00000000",
        "e0000001",
        "7f000001",
        "ff02000000000000000000000000000a",
    ] {
        let (update, faults) = read(bad);
        assert_eq!(update.withdrawn, [key(V3)]);
        assert!(matches!(faults[0].cause, Cause::NextHop(_)), "{bad}");
    }
    let global = "20010db8000000000000000000000001";
    let link_local = "fe800000000000000000000000000001";
    for next_hop in [global.to_owned(), [global, link_local].concat()] {
        let (update, faults) = read(&next_hop);
        let expected: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(update.attributes.unwrap().next_hop, expected);
        assert_eq!(faults, []);
    }
}

/// RFC 7911 §3: the path identifier is in front of each NLRI, and stays with a route that is treated
/// as withdrawn; without one there is no NLRI. What we send has none.
#[test]
fn path_identifiers() {
    let context = Context {
        add_path: true,
        ..Context::default()
    };
    let read = |attributes: &[&str]| read_update(attributes, &context);
    let nlri = [&format!("00000001{V3}")[..], &format!("ffffffff{V3}")];
    let ids = [PathId(1), PathId(u32::MAX)];
    let (update, faults) = read(&[&reach(&nlri), ORIGIN, AS_PATH, LOCAL_PREF]).unwrap();
    assert_eq!(update.identified.announced, ids.map(|id| (id, route(V3))));
    assert_eq!((&update.announced[..], &faults[..]), (&[][..], &[][..]));
    let advertisement = announcement(attributes_of(&update), vec![route(V3)]);
    let ours = advertised(&advertisement, &context, MAX_LEN);
    assert_eq!(
        updates(&ours, &Context::default())[0].announced,
        [route(V3)]
    );

    // Each in its own way: MP_UNREACH_NLRI, an attribute that is missing, a route that is unusable.
    let gone = ids.map(|id| (id, key(V3)));
    let (update, _) = read(&[&unreach(&nlri)]).unwrap();
    assert_eq!(update.identified.withdrawn, gone);
    let (update, faults) = read(&[&reach(&nlri), ORIGIN, LOCAL_PREF]).unwrap();
    assert_eq!(
        (update.identified.withdrawn, faults.len()),
        (gone.into(), 1)
    );
    let group = V3.replace("020000000001", "030000000001");
    let (update, faults) = read(&[
        &reach(&[&format!("00000007{group}"), nlri[0]]),
        ORIGIN,
        AS_PATH,
        LOCAL_PREF,
    ])
    .unwrap();
    assert_eq!(update.identified.withdrawn, [(PathId(7), key(&group))]);
    assert_eq!(update.identified.announced, [(PathId(1), route(V3))]);
    assert_eq!(faults[0].bytes, hex(&group));

    assert!(read(&[&reach(&["000000"]), ORIGIN, AS_PATH, LOCAL_PREF]).is_err());
    let (update, _) = read(&[&unreach(&[])]).unwrap();
    assert_eq!(update.end_of_rib, Some(Family::EVPN));
}
