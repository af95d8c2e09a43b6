//! Route target membership (RFC 4684 §4).

use std::sync::Arc;

use netgauze_bgp_pkt::{
    BgpMessage,
    path_attribute::{MpReach, MpUnreach, PathAttributeValue as Value},
};
use proptest::{collection::vec, prelude::*};

use super::{differential::their_reading, *};
use crate::{bgp::rib::Advertisement, types::RouteTarget};

const WHOLE: &str = "60 0000fde9 0002fde900002774";

fn context() -> Context {
    Context {
        rt_constraint: true,
        ..Context::default()
    }
}

fn attributes() -> Attributes {
    Attributes {
        local_pref: Some(100),
        ..Attributes::originated("10.0.0.1".parse().unwrap())
    }
}

fn whole() -> Membership {
    Membership::new(Asn(65001), "65001:10100".parse().unwrap())
}

fn reach(nlri: &str) -> String {
    let value = format!("000184040a00000100{nlri}").replace(' ', "");
    format!("900e{:04x}{value}", value.len() / 2)
}

fn announced(nlri: &str, context: &Context) -> Result<(Vec<Route>, Vec<Fault>), Notification> {
    let (update, faults) = read_update(&[&reach(nlri), ORIGIN, AS_PATH, LOCAL_PREF], context)?;
    Ok((update.announced, faults))
}

fn written(advertisement: &Advertisement) -> Vec<Bytes> {
    let mut out = Vec::new();
    assert_eq!(
        encode_advertisement(advertisement, &context(), MAX_LEN, &mut out),
        []
    );
    out
}

#[test]
fn vectors() {
    let target: RouteTarget = "65001:10100".parse().unwrap();
    for (nlri, length, text) in [
        (WHOLE, 64, "65001:65001:10100"),
        ("00", 0, "default"),
        ("20 0000fde9", 0, "65001:0000000000000000/32"),
        ("48 0000fde9 0002fde900", 40, "65001:0002fde900000000/72"),
        // Bits outside the prefix don't count.
        ("43 0000fde9 0002fde9ff", 35, "65001:0002fde9e0000000/67"),
    ] {
        let (routes, faults) = announced(nlri, &context()).unwrap();
        assert_eq!(faults, []);
        let [Route::Membership(membership)] = routes[..] else {
            panic!("{routes:?}")
        };
        assert_eq!(membership.to_string(), text);
        assert_eq!(membership.targets().length, length);
        let covered = membership.targets() == TargetPrefix::of(target, length);
        assert_eq!(covered, !text.ends_with("/67"), "{text}");
    }
    assert_eq!(
        announced(WHOLE, &context()).unwrap().0,
        [Route::Membership(whole())]
    );
}

/// The AS is not cut, and there is nothing behind the target (RFC 4684 §4): one such NLRI is dropped,
/// what is behind it is not. One that overruns the attribute resets the session (RFC 7606 §5.3).
#[test]
fn lengths() {
    for bad in ["01 80", "1f 0000fde8", "61 0000fde9 0002fde900002774 00"] {
        let (routes, faults) = announced(&format!("{bad} {WHOLE}"), &context()).unwrap();
        assert_eq!(routes, [Route::Membership(whole())], "{bad}");
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].outcome, Outcome::NlriDiscard);
        assert_eq!(faults[0].bytes, hex(bad));
        let strict = Context {
            strict_nlri: true,
            ..context()
        };
        assert!(announced(bad, &strict).is_err());
    }
    assert!(announced("60 0000fde9 0002fde9", &context()).is_err());
}

/// A session without the family skips it.
#[test]
fn not_negotiated() {
    let (routes, faults) = announced(WHOLE, &Context::default()).unwrap();
    assert_eq!((routes, faults), (vec![], vec![]));
}

/// Next hop of 16 octets (RFC 4684 §4), withdrawal, End-of-RIB.
#[test]
fn messages() {
    let next_hop = "20010db8000000000000000000000001";
    let value = format!("00018410{next_hop}00{WHOLE}").replace(' ', "");
    let reach = format!("900e{:04x}{value}", value.len() / 2);
    let (update, _) = read_update(&[&reach, ORIGIN, AS_PATH, LOCAL_PREF], &context()).unwrap();
    assert_eq!(update.announced, [Route::Membership(whole())]);
    assert_eq!(
        update.attributes.unwrap().next_hop,
        "2001:db8::1".parse::<std::net::IpAddr>().unwrap()
    );

    let key = RouteKey::Membership(whole());
    let out = written(&Advertisement {
        family: Family::RTC,
        withdraw: vec![key.clone()],
        end_of_rib: true,
        ..Advertisement::default()
    });
    let header = "ffffffffffffffffffffffffffffffff";
    let expected = [
        format!("{header}002a02 0000 0013 800f10 000184 {WHOLE}"),
        format!("{header}001d02 0000 0006 800f03 000184"),
    ];
    let expected = expected.map(|text| text.replace(' ', ""));
    assert_eq!(
        out.iter().map(|bytes| to_hex(bytes)).collect::<Vec<_>>(),
        expected
    );
    let updates = out
        .iter()
        .map(|bytes| match read(bytes, &context()).unwrap().message {
            Message::Update(update) => (update.withdrawn, update.end_of_rib),
            other => panic!("{other:?}"),
        });
    assert_eq!(
        updates.collect::<Vec<_>>(),
        [(vec![key], None), (vec![], Some(Family::RTC))]
    );
}

/// Lengths as far as the other codec has them: whole octets.
fn nlri() -> impl Strategy<Value = Vec<u8>> {
    (0..=9_usize, any::<[u8; 12]>()).prop_map(|(octets, bytes)| match octets {
        0 => vec![0],
        octets => {
            let octets = octets + 3;
            let mut nlri = vec![octets as u8 * 8];
            nlri.extend(&bytes[..octets]);
            nlri
        }
    })
}

proptest! {
    /// What is read is written as it was, and means the same to an independent codec.
    #[test]
    fn round_trip(memberships in vec(nlri(), 1..50)) {
        let (routes, faults) = announced(&to_hex(&memberships.concat()), &context()).unwrap();
        prop_assert_eq!(faults, []);
        let out = written(&Advertisement {
            family: Family::RTC,
            withdraw: routes.iter().map(Route::key).collect(),
            announce: vec![(Arc::new(attributes()), routes)],
            ..Advertisement::default()
        });
        let (mut theirs_announced, mut theirs_withdrawn) = (Vec::new(), Vec::new());
        for bytes in out {
            let BgpMessage::Update(update) = their_reading(&bytes) else {
                panic!()
            };
            for attribute in update.path_attributes() {
                let (nlri, to) = match attribute.value() {
                    Value::MpReach(MpReach::RouteTargetMembership { nlri, .. }) => {
                        (nlri, &mut theirs_announced)
                    }
                    Value::MpUnreach(MpUnreach::RouteTargetMembership { nlri }) => {
                        (nlri, &mut theirs_withdrawn)
                    }
                    _ => continue,
                };
                to.extend(nlri.iter().map(|nlri| match nlri.membership() {
                    None => vec![0],
                    Some(membership) => {
                        let target = membership.route_target();
                        let length = vec![(4 + target.len()) as u8 * 8];
                        [length, membership.origin_as().to_be_bytes().to_vec(), target.to_vec()].concat()
                    }
                }));
            }
        }
        prop_assert_eq!(&theirs_announced, &memberships);
        prop_assert_eq!(&theirs_withdrawn, &memberships);
    }

    #[test]
    fn prefixes_cover_what_begins_like_them(target: [u8; 8], other: [u8; 8], length in 0..=64_u8) {
        let prefix = TargetPrefix::of(RouteTarget(target), length);
        let mask = u64::MAX.checked_shl(64 - u32::from(length)).unwrap_or(0);
        let bits = |octets| u64::from_be_bytes(octets) & mask;
        prop_assert_eq!(bits(prefix.octets), u64::from_be_bytes(prefix.octets));
        let covers = TargetPrefix::of(RouteTarget(other), length) == prefix;
        prop_assert_eq!(covers, bits(target) == bits(other));
    }
}
