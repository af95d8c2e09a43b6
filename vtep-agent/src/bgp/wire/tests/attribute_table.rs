//! Every attribute that the codec knows, with each of the mistakes that any of them can have
//! (RFC 7606 §3), and the forms of what surrounds the routes.

use super::{
    errors::{assert_discarded, assert_kept, assert_withdrawn, duplicate, length},
    *,
};

/// Flags, code and value of a well-formed attribute of an internal, four-octet session.
type Attribute = (u8, u8, &'static str);

const KNOWN: [Attribute; 15] = [
    (0x40, 1, "00"),
    (0x40, 2, "0201 0000fde9"),
    (0x40, 3, "c0000201"),
    (0x80, 4, "00000001"),
    (0x40, 5, "00000064"),
    (0x40, 6, ""),
    (0xc0, 7, "0000fde90a000001"),
    (0xc0, 8, "fde90001"),
    (0x80, 9, "0a000009"),
    (0x80, 10, "0a000001"),
    (0xc0, 16, "0002fde900002774"),
    (0xc0, 22, "0006002774 0a000001"),
    (0xc0, 23, "00080000"),
    (0xc0, 25, "000220010db8000000000000000000000001 2774"),
    (0xc0, 32, "0000fde90000000100000002"),
];

fn attribute(flags: u8, code: u8, value: &str) -> String {
    let octets = hex(value).len();
    match flags & 0x10 {
        0 => format!("{flags:02x}{code:02x}{octets:02x}{value}"),
        _ => format!("{flags:02x}{code:02x}{octets:04x}{value}"),
    }
}

/// A route with this in place of the attribute of the same type, or beside what it needs.
fn read_with(code: u8, attributes: &str) -> Result<(Update, Vec<Fault>), Notification> {
    let needed = [(1, ORIGIN), (2, AS_PATH), (5, LOCAL_PREF)];
    let others = needed.iter().filter(|(other, _)| *other != code);
    let others: String = others.map(|(_, attribute)| *attribute).collect();
    read_update(&[&reach(&[V3]), &others, attributes], &Context::default())
}

/// RFC 4271 §4.3: the length in one octet or in two, and Partial as it comes.
#[test]
fn well_formed() {
    for (flags, code, value) in KNOWN {
        for more in [0, 0x10, 0x20, 0x30] {
            assert_kept(read_with(code, &attribute(flags | more, code, value)));
        }
    }
}

/// RFC 7606 §3 c.
#[test]
fn wrong_flags() {
    for (flags, code, value) in KNOWN {
        for wrong in [flags ^ 0x80, flags ^ 0x40, flags ^ 0xc0] {
            let cause = Cause::Flags {
                code: AttributeCode(code),
                flags: wrong,
            };
            assert_withdrawn(read_with(code, &attribute(wrong, code, value)), cause);
        }
    }
}

/// RFC 7606 §3 g: the first counts, the second is not even looked into.
#[test]
fn twice() {
    for (flags, code, value) in KNOWN {
        let first = attribute(flags, code, value);
        let alone = assert_kept(read_with(code, &first));
        for second in [first.clone(), attribute(flags ^ 0xc0, code, "ff")] {
            let both = read_with(code, &[&first[..], &second].concat());
            let update = assert_discarded(both, duplicate(code));
            assert_eq!(*update.attributes.unwrap(), alone);
        }
    }
}

/// RFC 7606 §7: nothing at all is no value, but for AS_PATH and ATOMIC_AGGREGATE.
#[test]
fn empty() {
    for (flags, code, _) in KNOWN {
        let result = read_with(code, &attribute(flags, code, ""));
        match code {
            2 | 6 => drop(assert_kept(result)),
            7 => drop(assert_discarded(result, length(code, 0))),
            23 => assert_withdrawn(result, Cause::Malformed(AttributeCode(code))),
            _ => assert_withdrawn(result, length(code, 0)),
        }
    }
}

/// One octet more than there may be, for those whose length is fixed or a multiple.
#[test]
fn one_octet_too_many() {
    for (flags, code, value) in KNOWN {
        let longer = attribute(flags, code, &format!("{value}00"));
        let octets = hex(value).len() + 1;
        let result = read_with(code, &longer);
        match code {
            2 | 23 => assert_withdrawn(result, Cause::Malformed(AttributeCode(code))),
            6 | 7 => drop(assert_discarded(result, length(code, octets))),
            _ => assert_withdrawn(result, length(code, octets)),
        }
    }
}

/// RFC 4760 §3, RFC 7606 §7.11: 4 octets, 16, and 32 for a global and a link-local address.
#[test]
fn next_hop_lengths() {
    for octets in 0..=48_usize {
        let next_hop = "0a".repeat(octets);
        let value = format!("001946{octets:02x}{next_hop}00{V3}");
        let reach = format!("900e{:04x}{value}", value.len() / 2);
        let result = read_update(&[&reach, ORIGIN, AS_PATH, LOCAL_PREF], &Context::default());
        match octets {
            4 | 16 | 32 => drop(assert_kept(result)),
            _ => {
                let error = result.unwrap_err();
                assert_eq!((error.code, error.subcode), (3, 9), "{octets} octets");
                assert_eq!(to_hex(&error.data), reach);
            }
        }
    }
}

/// Next hops that no frame can be sent to: treat-as-withdraw.
#[test]
fn next_hops_that_are_no_hosts() {
    for address in ["00000000", "7f000001", "e0000001", "ffffffff"] {
        let value = format!("00194604{address}00{V3}");
        let reach = format!("900e{:04x}{value}", value.len() / 2);
        let attributes = [&reach, ORIGIN, AS_PATH, LOCAL_PREF];
        let bits = u32::from_str_radix(address, 16).unwrap();
        let cause = Cause::NextHop(std::net::Ipv4Addr::from_bits(bits).into());
        assert_withdrawn(read_update(&attributes, &Context::default()), cause);
    }
}

/// Families that the session doesn't have are passed over, whatever their routes look like; the same
/// attributes of our family would end the session (RFC 4760 §7).
#[test]
fn unknown_families() {
    for family in ["001941", "001900", "0019ff", "400446", "000085"] {
        let reach = format!("900e000a {family} 00 00 ffffffffff");
        let unreach = format!("900f0008 {family} ffffffffff");
        let marker = format!("900f0003 {family}");
        for attributes in [
            vec![&reach[..], ORIGIN, AS_PATH, LOCAL_PREF],
            vec![&unreach],
            vec![&marker],
        ] {
            let (update, faults) = read_update(&attributes, &Context::default()).unwrap();
            assert_eq!((update, faults), (Update::default(), vec![]), "{family}");
        }
    }
}

/// RFC 4724 §2: an empty MP_UNREACH_NLRI alone, whatever the form of its length.
#[test]
fn end_of_rib_forms() {
    let read = |attributes: &[&str]| {
        let (update, faults) = read_update(attributes, &Context::default()).unwrap();
        assert_eq!(faults, []);
        update.end_of_rib
    };
    for marker in ["800f03001946", "900f0003001946", "a00f03001946"] {
        assert_eq!(read(&[marker]), Some(Family::EVPN), "{marker}");
    }
    // Routes beside it, or attributes, and it is an UPDATE like others.
    assert_eq!(read(&[&unreach(&[V3])]), None);
    assert_eq!(read(&["800f03001946", ORIGIN]), None);
    assert_eq!(
        read(&["800f03001946", &reach(&[V3]), ORIGIN, AS_PATH, LOCAL_PREF]),
        None
    );
    // MP_REACH_NLRI without routes says nothing.
    assert_eq!(read(&[&reach(&[]), ORIGIN, AS_PATH, LOCAL_PREF]), None);
}
