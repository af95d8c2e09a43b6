//! What is in AS_PATH and AS4_PATH.

use super::{
    errors::{assert_discarded, assert_kept, assert_withdrawn, with},
    *,
};

/// ERR-022: from a four-octet peer; malformed from a two-octet one (RFC 6793 §6).
#[test]
fn err_022_as4_path() {
    assert_discarded(
        with("c01106 0201 0000fde9"),
        Cause::NotForSession(AttributeCode(17)),
    );
    let two_octet = Context {
        four_octet_as: false,
        ..Context::default()
    };
    let attributes = [
        &reach(&[V3]),
        ORIGIN,
        AS_PATH,
        LOCAL_PREF,
        "c01106 0202 0000fde9",
    ];
    assert_discarded(
        read_update(&attributes, &two_octet),
        Cause::Malformed(AttributeCode(17)),
    );
}

/// RFC 6793 §4.2.3.
#[test]
fn as4_path_from_a_two_octet_peer() {
    let two_octet = Context {
        four_octet_as: false,
        ..external(65001)
    };
    let read = |aggregators: &str| {
        let as_path = "400206 0202 fde9 5ba0";
        let as4_path = "c01106 0201 fa56ea01";
        let attributes = [&reach(&[V3]), ORIGIN, as_path, as4_path, aggregators];
        assert_kept(read_update(&attributes, &two_octet))
    };
    let merged = [Asn(65001), Asn(4_200_000_001)];
    assert!(read("").as_path.iter().eq(merged));

    let attributes = read("c00706 5ba00a000001 c01208 fa56ea010a000001");
    assert!(attributes.as_path.iter().eq(merged));
    assert_eq!(to_hex(&attributes.other[0].value), "fa56ea010a000001");
    // An AGGREGATOR other than AS_TRANS makes both AS4 attributes void.
    let attributes = read("c00706 fde90a000001 c01208 fa56ea010a000001");
    assert!(attributes.as_path.iter().eq([Asn(65001), Asn::TRANS]));
    assert_eq!(to_hex(&attributes.other[0].value), "0000fde90a000001");
}

/// RFC 4271 §6.3, RFC 7607 §2, RFC 9774 §3, RFC 5065 §5.
#[test]
fn as_path_contents() {
    let read = |as_path: &str, context: &Context| {
        let internal = if context.internal { LOCAL_PREF } else { "" };
        read_update(&[&reach(&[V3]), ORIGIN, as_path, internal], context)
    };
    let other_first = external(65002);
    assert_withdrawn(
        read(AS_PATH_65001, &other_first),
        Cause::FirstAs(Asn(65002)),
    );
    let lenient = Context {
        enforce_first_as: false,
        ..other_first
    };
    assert_kept(read(AS_PATH_65001, &lenient));
    assert_withdrawn(read(AS_PATH, &external(65001)), Cause::FirstAs(Asn(65001)));

    let zero = "400206 0201 00000000";
    assert_withdrawn(
        read(zero, &Context::default()),
        Cause::AsZero(AttributeCode(2)),
    );
    let set = "400206 0101 0000fde9";
    assert_withdrawn(read(set, &Context::default()), Cause::AsSet);
    let with_sets = Context {
        accept_as_sets: true,
        ..Context::default()
    };
    assert_kept(read(set, &with_sets));
    let confederation = "40020c 0301 0000fc00 0201 0000fde9";
    assert_withdrawn(
        read(confederation, &external(65001)),
        Cause::ConfederationSegment,
    );
    assert_kept(read(confederation, &Context::default()));
}

/// RFC 9774 §3: AS_SETs of an AS4_PATH count as those of an AS_PATH do.
#[test]
fn sets_in_as4_path() {
    let read = |segment: &str, accept_as_sets| {
        let two_octet = Context {
            four_octet_as: false,
            accept_as_sets,
            ..Context::default()
        };
        let as_path = "400206 0202 fde9 5ba0";
        let as4_path = format!("c01106 {segment}01 fa56ea01");
        let attributes = [&reach(&[V3]), ORIGIN, as_path, &as4_path, LOCAL_PREF];
        read_update(&attributes, &two_octet)
    };
    for set in ["01", "04"] {
        assert_withdrawn(read(set, false), Cause::AsSet);
    }
    assert_kept(read("01", true));
    assert_kept(read("02", false));
}
