//! Malformed UPDATEs and the outcome that RFC 7606 gives them.

use super::*;
use Outcome::{AttributeDiscard, NlriDiscard, TreatAsWithdraw};

/// A well-formed internal RT-2 with one more attribute.
pub(super) fn with(extra: &str) -> Result<(Update, Vec<Fault>), Notification> {
    let attributes = [&reach(&[V3]), ORIGIN, AS_PATH, LOCAL_PREF, extra];
    read_update(&attributes, &Context::default())
}

/// All routes treated as withdrawn for one reason.
pub(super) fn assert_withdrawn(result: Result<(Update, Vec<Fault>), Notification>, cause: Cause) {
    let (update, faults) = result.unwrap();
    assert_eq!(update.announced, []);
    assert_eq!(update.attributes, None);
    assert_eq!(update.withdrawn, [key(V3)]);
    let found: Vec<_> = faults
        .iter()
        .map(|fault| (fault.outcome, &fault.cause))
        .collect();
    assert_eq!(found, [(TreatAsWithdraw, &cause)]);
}

/// The route kept, an attribute dropped.
pub(super) fn assert_discarded(
    result: Result<(Update, Vec<Fault>), Notification>,
    cause: Cause,
) -> Update {
    let (update, faults) = result.unwrap();
    assert_eq!(update.announced, [route(V3)]);
    assert_eq!(update.withdrawn, []);
    let found: Vec<_> = faults
        .iter()
        .map(|fault| (fault.outcome, &fault.cause))
        .collect();
    assert_eq!(found, [(AttributeDiscard, &cause)]);
    update
}

pub(super) fn assert_kept(result: Result<(Update, Vec<Fault>), Notification>) -> Attributes {
    let (update, faults) = result.unwrap();
    assert_eq!(update.announced, [route(V3)]);
    assert_eq!(faults, []);
    Attributes::clone(&update.attributes.unwrap())
}

pub(super) fn assert_reset<T: std::fmt::Debug>(
    result: Result<T, Notification>,
    subcode: u8,
) -> Notification {
    let error = result.unwrap_err();
    assert_eq!((error.code, error.subcode), (3, subcode));
    error
}

pub(super) fn length(code: u8, length: usize) -> Cause {
    Cause::Length {
        code: AttributeCode(code),
        length,
    }
}

pub(super) fn duplicate(code: u8) -> Cause {
    Cause::Duplicate(AttributeCode(code))
}

/// ERR-001; RFC 7606 §6: the fault shows the attribute in hexadecimal.
#[test]
fn err_001_origin_out_of_range() {
    let attributes = [&reach(&[V3]), "40010107", AS_PATH, LOCAL_PREF];
    let result = read_update(&attributes, &Context::default());
    assert_withdrawn(result.clone(), Cause::Origin(7));
    assert_eq!(
        result.unwrap().1[0].to_string(),
        "ORIGIN has value 7, treat-as-withdraw, 40010107"
    );
    let attributes = [&reach(&[V3]), "4001020000", AS_PATH, LOCAL_PREF];
    assert_withdrawn(read_update(&attributes, &Context::default()), length(1, 2));
}

/// ERR-002: overrun, underrun, empty segment, unknown segment type (RFC 7606 §7.2).
#[test]
fn err_002_as_path() {
    for value in [
        "06 0202 0000fde9",
        "07 0201 0000fde9 00",
        "02 0200",
        "06 0501 0000fde9",
    ] {
        let as_path = format!("4002{value}");
        let attributes = [&reach(&[V3]), ORIGIN, &as_path, LOCAL_PREF];
        let result = read_update(&attributes, &Context::default());
        assert_withdrawn(result, Cause::Malformed(AttributeCode(2)));
    }
}

/// ERR-003.
#[test]
fn err_003_extended_communities_length() {
    assert_withdrawn(with("c0100c0002fde900002774030c0000"), length(16, 12));
    assert_withdrawn(with("c01000"), length(16, 0));
}

/// ERR-004.
#[test]
fn err_004_unknown_extended_communities() {
    let attributes = assert_kept(with("c01010067f010203040506 8042010203040506"));
    assert_eq!(attributes.ext_communities.len(), 2);
}

/// ERR-005: both MP attributes, with the attribute list as the culprit (RFC 7606 §3 g).
#[test]
fn err_005_mp_attribute_twice() {
    assert_reset(with(&reach(&[V4])), 1);
    let twice = [unreach(&[V4]), unreach(&[V5])].concat();
    assert_reset(with(&twice), 1);
}

/// ERR-006.
#[test]
fn err_006_attribute_twice() {
    let other = "c010080002fde900000001";
    let update = assert_discarded(with(&[COMMUNITIES, other].concat()), duplicate(16));
    let targets: Vec<_> = update
        .attributes
        .unwrap()
        .route_targets()
        .map(|target| target.to_string())
        .collect();
    assert_eq!(targets, ["65001:10100"]);
}

/// ERR-007: reset, and the attribute as data.
#[test]
fn err_007_next_hop_length() {
    let mp_reach = format!("800e{:02x}001946050a0000010000{V3}", 5 + 5 + V3.len() / 2);
    let attributes = [&mp_reach, ORIGIN, AS_PATH, LOCAL_PREF];
    let error = assert_reset(read_update(&attributes, &Context::default()), 9);
    assert_eq!(to_hex(&error.data), mp_reach);
}

/// ERR-008: an unknown type between two routes is carried and harms neither.
#[test]
fn err_008_unknown_route_type() {
    let unknown = "2a03010203";
    let attributes = [&reach(&[V3, unknown, V5]), ORIGIN, AS_PATH, LOCAL_PREF];
    let (update, faults) = read_update(&attributes, &Context::default()).unwrap();
    assert_eq!(update.announced, [route(V3), route(unknown), route(V5)]);
    assert!(matches!(
        update.announced[1],
        Route::Opaque { route_type: 42, .. }
    ));
    assert_eq!(faults, []);
}

/// ERR-009.
#[test]
fn err_009_nlri_overrun() {
    for nlri in [&V3[..V3.len() - 2], "02", "2aff00"] {
        let attributes = [&reach(&[nlri]), ORIGIN, AS_PATH, LOCAL_PREF];
        assert_reset(read_update(&attributes, &Context::default()), 9);
        assert_reset(read_update(&[&unreach(&[nlri])], &Context::default()), 9);
    }
}

/// ERR-010.
#[test]
fn err_010_route_length() {
    let bad = format!("0222{}00", &V3[4..]);
    let attributes = [&reach(&[V5, &bad, V7]), ORIGIN, AS_PATH, LOCAL_PREF];
    let (update, faults) = read_update(&attributes, &Context::default()).unwrap();
    assert_eq!(update.announced, [route(V5), route(V7)]);
    let expected = Fault {
        outcome: NlriDiscard,
        cause: Cause::RouteLength {
            route_type: 2,
            length: 34,
        },
        bytes: hex(&bad).into(),
    };
    assert_eq!(faults, [expected]);

    let strict = Context {
        strict_nlri: true,
        ..Context::default()
    };
    assert_reset(read_update(&attributes, &strict), 9);
}

/// ERR-011.
#[test]
fn err_011_local_preference_from_an_external_peer() {
    let attributes = [&reach(&[V3]), ORIGIN, AS_PATH_65001, LOCAL_PREF];
    let result = read_update(&attributes, &external(65001));
    let update = assert_discarded(result, Cause::NotForSession(AttributeCode(5)));
    assert_eq!(update.attributes.unwrap().local_pref, None);
    // Even a malformed one.
    let attributes = [&reach(&[V3]), ORIGIN, AS_PATH_65001, "40050100"];
    let result = read_update(&attributes, &external(65001));
    assert_discarded(result, Cause::NotForSession(AttributeCode(5)));
}

/// ERR-012, and the same for ORIGINATOR_ID.
#[test]
fn err_012_reflection_attributes() {
    for (code, attribute) in [(10, "800a040a000001"), (9, "8009040a000001")] {
        let attributes = [&reach(&[V3]), ORIGIN, AS_PATH_65001, attribute];
        let result = read_update(&attributes, &external(65001));
        assert_discarded(result, Cause::NotForSession(AttributeCode(code)));
        assert_kept(with(attribute));
    }
    assert_withdrawn(with("800a060a0000010000"), length(10, 6));
    assert_withdrawn(with("800a00"), length(10, 0));
    assert_withdrawn(with("800905 0a00000100"), length(9, 5));
}

/// ERR-013, and the other mandatory attributes.
#[test]
fn err_013_missing_attributes() {
    for (missing, rest) in [
        (2, [ORIGIN, LOCAL_PREF]),
        (1, [AS_PATH, LOCAL_PREF]),
        (5, [ORIGIN, AS_PATH]),
    ] {
        let attributes = [&reach(&[V3]), rest[0], rest[1]];
        let result = read_update(&attributes, &Context::default());
        assert_withdrawn(result, Cause::Missing(AttributeCode(missing)));
    }
    // LOCAL_PREF is nothing for external peers.
    let attributes = [&reach(&[V3]), ORIGIN, AS_PATH_65001];
    assert_kept(read_update(&attributes, &external(65001)));
}

/// ERR-014.
#[test]
fn err_014_aggregation() {
    assert_discarded(with("40060100"), length(6, 1));
    assert_discarded(with("c00707 0000fde90a0000"), length(7, 7));
    // RFC 7607 §2.
    assert_discarded(
        with("c00708 000000000a000001"),
        Cause::AsZero(AttributeCode(7)),
    );
    let attributes = assert_kept(with("400600 c007080000fde90a000001"));
    let codes: Vec<_> = attributes.other.iter().map(|raw| raw.code).collect();
    assert_eq!(codes, [6, 7]);
}

/// ERR-015, and the same of withdrawn routes (RFC 7606 §3 b).
#[test]
fn err_015_total_length() {
    for body in ["0000 0005 40010100", "0005 0000", "0000 0001"] {
        assert_reset(read(&message(2, &hex(body)), &Context::default()), 1);
    }
}

/// ERR-016.
#[test]
fn err_016_any_order_and_a_next_hop() {
    let attributes = [
        COMMUNITIES,
        LOCAL_PREF,
        "400304c0000201",
        AS_PATH,
        ORIGIN,
        &reach(&[V3]),
    ];
    let kept = assert_kept(read_update(&attributes, &Context::default()));
    assert_eq!(kept.next_hop.to_string(), "10.0.0.1");
    assert_withdrawn(with("400303c00002"), length(3, 3));
}

/// ERR-018.
#[test]
fn err_018_other_tunnel_types() {
    for tunnel_type in ["0a", "55"] {
        let pmsi = format!("c0160900{tunnel_type}0027740a000001");
        let attributes = assert_kept(with(&pmsi));
        let expected = TunnelType(u8::from_str_radix(tunnel_type, 16).unwrap());
        assert_eq!(attributes.pmsi.unwrap().tunnel_type, expected);
    }
    // An ingress replication endpoint of three octets; no room for the label.
    assert_withdrawn(with("c01608 00060027740a0000"), length(22, 8));
    assert_withdrawn(with("c01604 00000027"), length(22, 4));
    // The endpoint may be IPv6 (RFC 6514 §5).
    assert_kept(with("c01615 0006002774 20010db8000000000000000000000001"));
}

/// ERR-019.
#[test]
fn err_019_tunnel_encapsulation() {
    let malformed = || Cause::Malformed(AttributeCode(23));
    for value in ["03 000800", "05 0008000400", "07 00080003 040500", "00"] {
        assert_withdrawn(with(&format!("c017{value}")), malformed());
    }
    // An unknown tunnel type with a short and a long sub-TLV is passed on.
    let attributes = assert_kept(with("c0170a 7f000006 0100 80 000100"));
    assert_eq!(attributes.other[0].code, 23);
}

/// ERR-020; what isn't transitive is dropped (RFC 4271 §5).
#[test]
fn err_020_unknown_attributes() {
    let attributes = assert_kept(with("c0c803010203"));
    let expected = RawAttribute {
        flags: 0xe0,
        code: 200,
        value: Bytes::from_static(&[1, 2, 3]),
    };
    assert_eq!(attributes.other, [expected]);
    assert_eq!(assert_kept(with("80c803010203")).other, []);
    assert_withdrawn(
        with("40c803010203"),
        Cause::Unrecognized(AttributeCode(200)),
    );
}

/// RFC 7606 §3 c: flags of known attributes, MP attributes among them.
#[test]
fn flags() {
    let flags = |code, flags| Cause::Flags {
        code: AttributeCode(code),
        flags,
    };
    assert_withdrawn(with("8010080002fde900002774"), flags(16, 0x80));
    assert_withdrawn(with("c0040400000001"), flags(4, 0xc0));
    let attributes = [&reach(&[V3]), "c0010100", AS_PATH, LOCAL_PREF];
    let result = read_update(&attributes, &Context::default());
    assert_withdrawn(result, flags(1, 0xc0));
    let mp_reach = reach(&[V3]).replacen("90", "d0", 1);
    let attributes = [&mp_reach, ORIGIN, AS_PATH, LOCAL_PREF];
    assert_reset(read_update(&attributes, &Context::default()), 4);
    // Partial and the unused bits are no error.
    assert_kept(with("ff10 00080002fde900002774"));
}

/// RFC 7606 §3 j: an overrun after MP_REACH_NLRI, one of MP_REACH_NLRI, one without any.
#[test]
fn attribute_overrun() {
    assert_withdrawn(with("c010ff0002"), Cause::AttributesOverrun);
    assert_withdrawn(with("c0"), Cause::AttributesOverrun);
    let mp_reach = reach(&[V3]);
    let cut = &mp_reach[..mp_reach.len() - 2];
    assert_reset(read_update(&[ORIGIN, cut], &Context::default()), 1);
    assert_reset(read_update(&[ORIGIN, "c010ff"], &Context::default()), 1);
}

/// RFC 7606 §5.2: nothing to withdraw.
#[test]
fn malformed_attribute_without_reachable_routes() {
    let attributes = [&unreach(&[V3]), "40010107"];
    assert_reset(read_update(&attributes, &Context::default()), 6);
    // Attribute discard is no reason.
    let attributes = [&unreach(&[V3]), "40060100"];
    let (update, _) = read_update(&attributes, &Context::default()).unwrap();
    assert_eq!(update.withdrawn, [key(V3)]);
}

/// RFC 7606 §5.3, MP attributes too short for their own header.
#[test]
fn short_mp_attributes() {
    for attribute in ["800e0400194604", "800f020019", "800e00", "800e05001946040a"] {
        assert_reset(read_update(&[attribute], &Context::default()), 9);
    }
}

/// RFC 7606 §7.8, RFC 8092 §5, RFC 7606 §7.15, §7.4.
#[test]
fn other_lengths() {
    assert_withdrawn(with("c00805 0000000100"), length(8, 5));
    assert_withdrawn(with("c00800"), length(8, 0));
    assert_withdrawn(with("c02008 0000fde900000001"), length(32, 8));
    assert_withdrawn(with("c01908 0000fde900000001"), length(25, 8));
    assert_withdrawn(with("800403 000001"), length(4, 3));
    let attributes = [&reach(&[V3]), ORIGIN, AS_PATH, "400503000064"];
    let result = read_update(&attributes, &Context::default());
    assert_withdrawn(result, length(5, 3));
}

/// The strongest action wins, and every fault is reported (RFC 7606 §3 h).
#[test]
fn several_faults() {
    let (update, faults) = with("40060100 c01000 c00800").unwrap();
    assert_eq!(update.withdrawn, [key(V3)]);
    let outcomes: Vec<_> = faults.iter().map(|fault| fault.outcome).collect();
    assert_eq!(
        outcomes,
        [AttributeDiscard, TreatAsWithdraw, TreatAsWithdraw]
    );
}

/// Other families are skipped, unless the message can't be read (RFC 7606 §5.3).
#[test]
fn other_families() {
    let ipv6 = "800e1a 000201 10 20010db8000000000000000000000001 00 2020010db8";
    let attributes = [ipv6, ORIGIN, AS_PATH, LOCAL_PREF];
    let (update, faults) = read_update(&attributes, &Context::default()).unwrap();
    assert_eq!((update, faults), (Update::default(), vec![]));

    let ipv4 = |nlri: &str| {
        let body = [update_body(&[ORIGIN, AS_PATH, LOCAL_PREF]), hex(nlri)].concat();
        read(&message(2, &body), &Context::default())
    };
    assert!(ipv4("180a0000").is_ok());
    assert_reset(ipv4("210a00000000"), 10);
    assert_reset(ipv4("180a00"), 10);
    // End-of-RIB of IPv4 unicast is none of EVPN.
    let empty = read(&message(2, &[0; 4]), &Context::default()).unwrap();
    assert_eq!(empty.message, Message::Update(Update::default()));
}
