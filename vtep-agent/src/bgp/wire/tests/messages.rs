//! Framing, OPEN, NOTIFICATION, ROUTE-REFRESH.

use std::net::Ipv4Addr;

use super::*;

fn refused(bytes: &[u8], max_len: usize) -> (u8, u8, String) {
    let error = next_frame(&mut BytesMut::from(bytes), max_len).unwrap_err();
    (error.code, error.subcode, to_hex(&error.data))
}

fn open_error(body: &[u8]) -> (u8, u8, String) {
    let error = read(&message(1, body), &Context::default()).unwrap_err();
    (error.code, error.subcode, to_hex(&error.data))
}

/// An OPEN's body with optional parameters, AS 65001, hold time 90.
fn open_body(parameters: &str) -> Vec<u8> {
    hex(&format!("04fde9005a0a000001{parameters}"))
}

fn capabilities(parameters: &str) -> Vec<Capability> {
    match read(&message(1, &open_body(parameters)), &Context::default())
        .unwrap()
        .message
    {
        Message::Open(open) => open.capabilities,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_come_apart_at_any_boundary() {
    let bytes = [hex(V22), message(4, &[]), hex(V19), hex(V20)].concat();
    let mut buffer = BytesMut::new();
    let mut kinds = Vec::new();
    for byte in &bytes {
        buffer.extend_from_slice(&[*byte]);
        while let Some(frame) = next_frame(&mut buffer, MAX_LEN).unwrap() {
            kinds.push(frame.kind());
        }
    }
    use MessageType::{Keepalive, Open, Update};
    assert_eq!(kinds, [Open, Keepalive, Update, Update]);
    assert!(buffer.is_empty());
}

/// BGP-005.
#[test]
fn marker_with_a_zero_bit() {
    let mut bytes = message(4, &[]);
    bytes[7] = 0xfe;
    assert_eq!(refused(&bytes, MAX_LEN), (1, 1, String::new()));
}

/// BGP-006.
#[test]
fn bad_lengths() {
    let mut short = message(4, &[]);
    short[17] = 18;
    assert_eq!(refused(&short, MAX_LEN), (1, 2, "0012".into()));
    assert_eq!(refused(&message(4, &[0]), MAX_LEN), (1, 2, "0014".into()));
    for (kind, least) in [(1, 29), (2, 23), (3, 21), (5, 23)] {
        let short = message(kind, &vec![0; least - HEADER_LEN - 1]);
        let data = format!("{:04x}", least - 1);
        assert_eq!(refused(&short, MAX_LEN), (1, 2, data));
    }
}

/// BGP-007.
#[test]
fn bad_type() {
    assert_eq!(refused(&message(9, &[]), MAX_LEN), (1, 3, "09".into()));
}

/// BGP-023, BGP-024; RFC 8654 §4: OPEN stays at 4096.
#[test]
fn extended_messages() {
    let long = message(2, &[0; 5000 - HEADER_LEN]);
    assert_eq!(refused(&long, MAX_LEN), (1, 2, "1388".into()));
    let mut buffer = BytesMut::from(&long[..]);
    assert!(next_frame(&mut buffer, EXTENDED_MAX_LEN).unwrap().is_some());
    let open = message(1, &[0; 5000 - HEADER_LEN]);
    assert_eq!(refused(&open, EXTENDED_MAX_LEN), (1, 2, "1388".into()));
}

/// BGP-002.
#[test]
fn hold_time_of_one_or_two() {
    for hold in ["0001", "0002"] {
        let body = hex(&format!("04fde9{hold}0a00000100"));
        assert_eq!(open_error(&body), (2, 6, String::new()));
    }
    assert!(
        read(
            &message(1, &hex("04fde900000a00000100")),
            &Context::default()
        )
        .is_ok()
    );
}

/// BGP-008.
#[test]
fn version() {
    assert_eq!(
        open_error(&hex("05fde9005a0a00000100")),
        (2, 1, "0004".into())
    );
}

/// BGP-009: the capability decides; RFC 7607 §2: AS 0 is refused.
#[test]
fn four_octet_as() {
    match read(&hex(V22), &Context::default()).unwrap().message {
        Message::Open(open) => assert_eq!(open.asn, Asn(4_200_000_001)),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        open_error(&hex("040000005a0a00000100")),
        (2, 2, String::new())
    );
}

/// BGP-010: any identifier but zero (RFC 6286 §2.2).
#[test]
fn identifiers() {
    assert_eq!(
        open_error(&hex("04fde9005a0000000000")),
        (2, 3, String::new())
    );
    assert!(
        read(
            &message(1, &hex("04fde9005af000000100")),
            &Context::default()
        )
        .is_ok()
    );
}

/// BGP-017.
#[test]
fn a_parameter_per_capability_and_an_unknown_one() {
    let read = capabilities("10 0206 010400190046 0202 0200 0202 c800");
    let unknown = Capability::Unknown {
        code: 200,
        value: Bytes::new(),
    };
    assert_eq!(
        read,
        [
            Capability::Multiprotocol(Family::EVPN),
            Capability::RouteRefresh,
            unknown
        ]
    );
}

/// BGP-018: the extended form, also when it isn't needed and when the legacy length lies
/// (RFC 9072 §2).
#[test]
fn extended_optional_parameters() {
    let expected = [Capability::Multiprotocol(Family::EVPN)];
    assert_eq!(capabilities("ffff0009 020006 010400190046"), expected);
    assert_eq!(capabilities("01ff0009 020006 010400190046"), expected);
}

/// RFC 9072 §2: sent when more than 255 octets are needed.
#[test]
fn many_capabilities_take_the_extended_form() {
    let open = Message::Open(Open {
        asn: Asn(65001),
        hold_time: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        capabilities: vec![
            Capability::Unknown {
                code: 200,
                value: Bytes::from_static(&[7; 200]),
            };
            3
        ],
    });
    let mut out = BytesMut::new();
    open.encode(&Context::default(), &mut out);
    assert_eq!(to_hex(&out[28..35]), "ffff026102025e");
    assert_eq!(read(&out, &Context::default()).unwrap().message, open);
}

#[test]
fn malformed_parameters() {
    // An unknown parameter; a parameter, a capability and the whole running over; octets left.
    for (parameters, subcode) in [
        ("03 0101ff", 4),
        ("03 0205ff", 0),
        ("04 0202 4104", 0),
        ("09 0202", 0),
        ("00 ff", 0),
        ("06 0204 01020019", 0),
    ] {
        let (code, read, _) = open_error(&open_body(parameters));
        assert_eq!((code, read), (2, subcode), "{parameters}");
    }
}

/// RFC 4724 §3: the last instance counts.
#[test]
fn several_graceful_restart_capabilities() {
    let open = match read(
        &message(1, &open_body("0a 0208 40020078 4002805a")),
        &Context::default(),
    )
    .unwrap()
    .message
    {
        Message::Open(open) => open,
        other => panic!("{other:?}"),
    };
    let last = open.graceful_restart().unwrap();
    assert!(last.restarting);
    assert_eq!(last.restart_time, 90);
}

#[test]
fn route_refresh() {
    let refresh = Message::RouteRefresh(RouteRefresh {
        family: Family::EVPN,
        subtype: RouteRefresh::REQUEST,
    });
    let mut out = BytesMut::new();
    refresh.encode(&Context::default(), &mut out);
    assert_eq!(out, message(5, &hex("00190046"))[..]);
    assert_eq!(read(&out, &Context::default()).unwrap().message, refresh);
}

/// RFC 7313 §5: data is the whole message.
#[test]
fn route_refresh_with_a_wrong_length() {
    let bytes = message(5, &hex("0019014600"));
    let error = read(&bytes, &Context::default()).unwrap_err();
    assert_eq!((error.code, error.subcode), (7, 1));
    assert_eq!(error.data, bytes);
    // A request may carry outbound route filters.
    assert!(read(&message(5, &hex("0019004600")), &Context::default()).is_ok());
}

/// BGP-022: the layout of Cease/1.
#[test]
fn notification() {
    let cease = Message::Notification(Notification::with_data(6, 1, &hex("0019460000000a")));
    let mut out = BytesMut::new();
    cease.encode(&Context::default(), &mut out);
    assert_eq!(out, message(3, &hex("06010019460000000a"))[..]);
    assert_eq!(read(&out, &Context::default()).unwrap().message, cease);
}

/// However much is wrong, the NOTIFICATION is a message.
#[test]
fn notification_data_is_bounded() {
    let notification = Message::Notification(Notification {
        code: 3,
        subcode: 9,
        data: Bytes::from(vec![0; EXTENDED_MAX_LEN]),
    });
    let mut out = BytesMut::new();
    notification.encode(&Context::default(), &mut out);
    assert_eq!(out.len(), MAX_LEN);
}
