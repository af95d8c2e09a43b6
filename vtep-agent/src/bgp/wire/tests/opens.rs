//! OPENs that are unusual, and those that are wrong (RFC 4271 §6.2, RFC 5492, RFC 9072).

use super::*;

/// An OPEN of AS 65001 with these optional parameters, their length octet included.
fn open(parameters: &str) -> Result<Open, Notification> {
    let body = hex(&format!("04fde9005a0a000001{parameters}"));
    match read(&message(1, &body), &Context::default())?.message {
        Message::Open(open) => Ok(open),
        other => panic!("{other:?}"),
    }
}

/// With capabilities in one parameter.
fn with(capabilities: &str) -> Result<Open, Notification> {
    let octets = hex(capabilities).len();
    open(&format!("{:02x}02{octets:02x}{capabilities}", octets + 2))
}

fn assert_refused(result: Result<Open, Notification>, subcode: u8) {
    let error = result.unwrap_err();
    assert_eq!((error.code, error.subcode), (2, subcode), "{error:?}");
}

const EVPN: &str = "010400190046";
const ASN: &str = "41040000fde9";

/// BGP-017: one parameter, one each, some in each, an empty one among them: all the same.
#[test]
fn capabilities_in_any_number_of_parameters() {
    let expected = with(&[EVPN, "0200", ASN].concat()).unwrap();
    assert_eq!(expected.capabilities.len(), 3);
    for parameters in [
        "16 0206 010400190046 0202 0200 0206 41040000fde9",
        "14 0208 010400190046 0200 0206 41040000fde9 0200",
        "14 0200 0206 010400190046 0208 0200 41040000fde9",
    ] {
        let octets = hex(parameters).len() - 1;
        let parameters = format!("{octets:02x}{}", &parameters[2..]);
        assert_eq!(open(&parameters).unwrap(), expected, "{parameters}");
    }
    // None at all is an OPEN of 1995.
    assert_eq!(open("00").unwrap().capabilities, []);
}

/// RFC 5492 §4: the same again changes nothing, and neither do unknown ones of any length.
#[test]
fn repeated_and_unknown_capabilities() {
    let open = with(&[EVPN, EVPN, ASN, ASN, "c800", "c801ff", EVPN].concat()).unwrap();
    assert_eq!(open.asn, Asn(65001));
    assert!(
        open.capabilities
            .contains(&Capability::Multiprotocol(Family::EVPN))
    );
}

/// Known capabilities of a length that they can't have are as good as absent, except for the two that
/// decide what the session is.
#[test]
fn capabilities_of_wrong_lengths() {
    for (capability, code) in [
        ("020100", 2),
        ("050100", 5),
        ("060100", 6),
        ("4001ff", 64),
        ("4003007800", 64),
        ("40050078001946", 64),
        ("45050019460100", 69),
        ("460100", 70),
        ("4706 001946800000", 71),
        ("4900", 73),
        ("49020561", 73),
    ] {
        let open = with(&[EVPN, capability].concat()).unwrap();
        let value = hex(capability)[2..].to_vec().into();
        let unknown = Capability::Unknown { code, value };
        assert_eq!(open.capabilities[1], unknown, "{capability}");
        assert_eq!(open.graceful_restart(), None);
        assert_eq!(open.hostname(), None);
    }
    for capability in ["0103001900", "01050019004600", "4102fde9", "4100"] {
        assert_refused(with(capability), 0);
    }
}

/// RFC 9072 §2, BGP-018: lengths of two octets for all parameters, and only the octet behind the first
/// length decides.
#[test]
fn extended_parameters() {
    let expected = with(&[EVPN, ASN].concat()).unwrap();
    for parameters in [
        "ffff000f 02000c 010400190046 41040000fde9",
        "ffff0012 020006 010400190046 020006 41040000fde9",
        "01ff000f 02000c 010400190046 41040000fde9",
    ] {
        assert_eq!(open(parameters).unwrap(), expected, "{parameters}");
    }
    assert_eq!(open("ffff0000").unwrap().capabilities, []);
    // A parameter of more than 255 octets: 50 unknown capabilities of 6.
    let many = "c80401020304".repeat(50);
    let parameters = format!("ffff012f 02012c {many}");
    assert_eq!(open(&parameters).unwrap().capabilities.len(), 50);
    // The usual form may be as long as 255 octets.
    let parameters = format!(
        "ff 02fd {} c800c8{}{}",
        "c80401020304".repeat(41),
        "03",
        "010203"
    );
    assert_eq!(open(&parameters).unwrap().capabilities.len(), 43);

    assert_refused(open("ffff0004 010001 00"), 4);
    assert_refused(open("ffff0009 020007 010400190046"), 0);
    assert_refused(open("ffff000a 020006 010400190046"), 0);
    assert_refused(open("ffff0008 020006 010400190046"), 0);
    assert_refused(open("ffff00"), 0);
    assert_refused(open("ffff0002 0200"), 0);
}

/// What is wrong first is said: version, then parameters, then AS, identifier and hold time.
#[test]
fn several_mistakes() {
    let refused = |body: &str| {
        let error = read(&message(1, &hex(body)), &Context::default()).unwrap_err();
        (error.code, error.subcode, to_hex(&error.data))
    };
    assert_eq!(refused("03fde900010000000000"), (2, 1, "0004".into()));
    assert_eq!(refused("04fde9000100000000020100"), (2, 4, String::new()));
    assert_eq!(refused("04000000010000000000"), (2, 2, String::new()));
    assert_eq!(refused("04fde900010000000000"), (2, 3, String::new()));
    assert_eq!(refused("04fde900010a00000100"), (2, 6, String::new()));
    // AS 0 in the capability alone.
    assert_eq!(
        refused("04fde9005a0a00000108 0206 410400000000"),
        (2, 2, String::new())
    );
}
