//! RFC 9251: multicast routes that are of no use to anybody are treated as withdrawn.

use super::*;

/// EVI-RT communities (RFC 9251 §9.5) with targets of the three short forms.
const EVI_RT: [&str; 3] = ["060afde900002774", "060bc6120001006f", "060c00010000006f"];
/// An ES-Import target and a route target, which are none.
const OTHERS: &str = "06020011223344550002fde900002774";

fn communities(values: &str) -> String {
    format!("c010{:02x}{values}", values.len() / 2)
}

/// What becomes of a route with these attributes besides the mandatory ones.
fn outcome(nlri: &str, more: &str) -> Result<(), Cause> {
    let attributes = [&reach(&[nlri]), ORIGIN, AS_PATH, LOCAL_PREF, more];
    let (update, mut faults) = read_update(&attributes, &Context::default()).unwrap();
    let Some(fault) = faults.pop() else {
        assert_eq!(update.announced, [route(nlri)]);
        return Ok(());
    };
    assert_eq!(update.withdrawn, [key(nlri)]);
    assert_eq!((update.announced, &faults[..]), (vec![], &[][..]));
    assert_eq!(fault.outcome, Outcome::TreatAsWithdraw);
    assert_eq!(fault.bytes, hex(nlri));
    Err(fault.cause)
}

/// RFC 9251 §9.5: types 7 and 8 say by one community which EVI they are for; type 6 has none.
#[test]
fn one_evi_target() {
    for nlri in [V15, V16] {
        for target in EVI_RT {
            assert_eq!(
                outcome(nlri, &communities(&[OTHERS, target].concat())),
                Ok(())
            );
        }
        // An IPv6 address specific one is in an attribute of its own (RFC 5701).
        let long = format!("c01914060d{}0001", "20".repeat(16));
        assert_eq!(outcome(nlri, &long), Ok(()));

        assert_eq!(outcome(nlri, ""), Err(Cause::EviTargets(0)));
        assert_eq!(
            outcome(nlri, &communities(OTHERS)),
            Err(Cause::EviTargets(0))
        );
        let two = communities(&EVI_RT[..2].concat());
        assert_eq!(outcome(nlri, &two), Err(Cause::EviTargets(2)));
        let both = [&communities(EVI_RT[0]), &long[..]].concat();
        assert_eq!(outcome(nlri, &both), Err(Cause::EviTargets(2)));
    }
    assert_eq!(outcome(V13, ""), Ok(()));
}

/// RFC 9251 §4.1.2, §9.1, §10: IGMPv1 doesn't count, and MLD has no version 3. A type 6 route without
/// versions may be one of RFC 9625 §3.3.
#[test]
fn versions() {
    let one = communities(EVI_RT[0]);
    let v6 = |nlri: &str| {
        let group = format!("80ff3e{}", "11".repeat(14));
        let longer = nlri.replace("20ef010101", &group);
        format!(
            "{}{:02x}{}",
            &longer[..2],
            longer.len() / 2 - 2,
            &longer[4..]
        )
    };
    // Flags, and whether they are fit for IPv4 and IPv6 in types 7 and 8.
    for (flags, ipv4, ipv6) in [
        ("00", false, false),
        ("01", false, true),
        ("02", true, true),
        ("03", true, true),
        ("04", true, false),
        ("06", true, false),
        ("08", false, false),
        ("0c", true, false),
        ("0a", true, true),
    ] {
        for (nlri, fit) in [
            (V15.to_owned(), ipv4),
            (V16.to_owned(), ipv4),
            (v6(V15), ipv6),
            (v6(V16), ipv6),
            (V13.to_owned(), ipv4 || flags == "00" || flags == "08"),
            (v6(V13), ipv6 || flags == "00" || flags == "08"),
        ] {
            let nlri = format!("{}{flags}", &nlri[..nlri.len() - 2]);
            let expected = match fit {
                true => Ok(()),
                false => Err(Cause::MulticastFlags(hex(flags)[0])),
            };
            assert_eq!(outcome(&nlri, &one), expected, "{nlri}");
        }
    }
    // For every source and group: no address says which protocol is meant.
    let all = "061400010a0000010007000000000000200a00000101";
    assert_eq!(outcome(all, ""), Ok(()));
}
