//! Errors in UPDATEs: what RFC 7606 makes of them, as seen from both ends.

use super::*;

#[test]
fn err_008_unknown_route_types_do_no_harm() -> Result<()> {
    let bench = Bench::new("err008")?;
    let mut peer = bench.establish()?;
    // Types that nobody knows, and some that are carried opaquely.
    let unknown = |kind: u8| [&[kind, 20, 0, 1, 198, 18, 0, 2, 0, 1][..], &[kind; 12]].concat();
    let nlri = [rt2(1), unknown(42), unknown(9), unknown(10), rt2(2)].concat();
    peer.send(&update(&[common(0), mp_reach(&nlri)].concat()))?;
    bench.has_mac(&mac(1))?;
    bench.has_mac(&mac(2))?;
    ensure!(!peer.is_closed());
    bench.agent.wait_established()
}

#[test]
fn err_001_a_malformed_attribute_withdraws() -> Result<()> {
    let bench = Bench::new("err001")?;
    let mut peer = bench.establish()?;
    peer.send(&update(
        &[common(0), mp_reach(&[rt2(1), rt2(2)].concat())].concat(),
    ))?;
    bench.has_mac(&mac(1))?;
    bench.has_mac(&mac(2))?;
    // ORIGIN 7: treat-as-withdraw (RFC 7606 §7.1).
    peer.send(&update(&[common(7), mp_reach(&rt2(1))].concat()))?;
    bench.has_no_mac(&mac(1))?;
    bench.has_mac(&mac(2))?;
    // And an orderly withdraw.
    peer.send(&update(&mp_unreach(&rt2(2))))?;
    bench.has_no_mac(&mac(2))?;
    bench.agent.wait_established()
}

#[test]
fn err_005_and_015_reset_the_session() -> Result<()> {
    let bench = Bench::new("err005")?;
    let two = [common(0), mp_reach(&rt2(1)), mp_reach(&rt2(2))].concat();
    let mut too_long = update(&common(0));
    too_long.body[2] = 0x7f;
    for (id, message) in [("ERR-005", update(&two)), ("ERR-015", too_long)] {
        let mut peer = bench.establish()?;
        peer.send(&message)?;
        peer.expect_close(SOON)?;
        ensure_notification(id, &peer, (3, 1), &[])?;
    }
    Ok(())
}

/// A route is replaced by the same with something wrong: the id, the attributes, and whether the route
/// is still there afterwards.
type Malformed = (&'static str, Vec<u8>, bool);

/// Attributes of an internal peer with `more` behind them, around [`rt2`] with this octet.
fn announced(last_octet: u8, more: &[u8]) -> Vec<u8> {
    [&common(0)[..], &mp_reach(&rt2(last_octet)), more].concat()
}

/// Every error that costs routes or attributes, and none of them the session.
#[test]
fn err_002_003_004_006_010_012_013_014_016_018_019_022_are_survived() -> Result<()> {
    let bench = Bench::new("err002")?;
    let mut peer = bench.establish()?;
    let without = |code: u8| {
        let attributes = [
            attribute(0x40, 1, &[0]),
            attribute(0x40, 2, &[]),
            attribute(0x40, 5, &[0, 0, 0, 100]),
            attribute(0xc0, 16, &[[0x00, 0x02, 0xfd, 0xe8, 0, 0, 0, 100]].concat()),
        ];
        attributes
            .into_iter()
            .filter(|attribute| attribute.get(1) != Some(&code))
            .collect::<Vec<_>>()
            .concat()
    };
    let reach = mp_reach(&rt2(1));
    let targets = [0x00, 0x02, 0xfd, 0xe8, 0, 0, 0, 100];
    let unknown = [[0x06, 0x7f, 1, 2, 3, 4, 5, 6], [0x80, 9, 1, 2, 3, 4, 5, 6]].concat();
    let short_route = [&[2, 34][..], &rt2(9).split_off(2), &[0]].concat();
    let odd_order = [
        attribute(0x40, 3, &[198, 18, 0, 9]),
        attribute(0x40, 5, &[0, 0, 0, 100]),
        attribute(0xc0, 16, &targets),
        attribute(0x40, 2, &[]),
        attribute(0x40, 1, &[0]),
        reach.clone(),
    ]
    .concat();
    let with = |attribute: Vec<u8>| [without(0), reach.clone(), attribute].concat();
    let replaced =
        |code: u8, attribute: Vec<u8>| [without(code), attribute, reach.clone()].concat();
    let cases: [Malformed; 14] = [
        (
            "ERR-002",
            replaced(2, attribute(0x40, 2, &[2, 3, 0, 0, 0xfd, 0xe8])),
            false,
        ),
        (
            "ERR-003",
            replaced(16, attribute(0xc0, 16, &[0; 12])),
            false,
        ),
        (
            "ERR-004",
            replaced(16, attribute(0xc0, 16, &[&unknown[..], &targets].concat())),
            true,
        ),
        ("ERR-006", with(attribute(0xc0, 16, &unknown)), true),
        (
            "ERR-010",
            [without(0), mp_reach(&[rt2(1), short_route].concat())].concat(),
            true,
        ),
        ("ERR-012", with(attribute(0x80, 10, &[1; 6])), false),
        ("ERR-013", replaced(2, Vec::new()), false),
        ("ERR-014 a", with(attribute(0x40, 6, &[1])), true),
        ("ERR-014 b", with(attribute(0xc0, 7, &[1; 7])), true),
        ("ERR-016", odd_order, true),
        (
            "ERR-018",
            with(attribute(0xc0, 22, &[0, 0x0a, 0, 0, 100, 198, 18, 0, 2])),
            true,
        ),
        (
            "ERR-018",
            with(attribute(0xc0, 22, &[0, 0x55, 0, 0, 100, 1, 2, 3])),
            true,
        ),
        (
            "ERR-019",
            with(attribute(0xc0, 23, &[0, 8, 0, 9, 1])),
            false,
        ),
        (
            "ERR-022",
            with(attribute(0xc0, 17, &[2, 1, 0, 0, 0xfd, 0xe8])),
            true,
        ),
    ];
    for (id, attributes, stays) in cases {
        let step = || id.to_owned();
        peer.send(&update(&announced(1, &[])))?;
        bench.has_mac(&mac(1)).with_context(step)?;
        peer.send(&update(&attributes))?;
        // Behind it on the wire: once this is there, the other was read.
        peer.send(&update(&announced(2, &[])))?;
        bench.has_mac(&mac(2)).with_context(step)?;
        match stays {
            true => bench.has_mac(&mac(1)).with_context(step)?,
            false => bench.has_no_mac(&mac(1)).with_context(step)?,
        }
        peer.send(&update(&mp_unreach(&rt2(2))))?;
        bench.has_no_mac(&mac(2)).with_context(step)?;
        ensure!(!peer.is_closed(), "{id}");
    }
    bench.agent.wait_established()
}

/// What can't be delimited: the session ends, with an UPDATE message error.
#[test]
fn err_007_009_reset_the_session() -> Result<()> {
    let bench = Bench::new("err007")?;
    let next_hop = attribute(
        0x80,
        14,
        &[&[0, 25, 70, 5, 198, 18, 0, 2, 0, 0][..], &rt2(1)].concat(),
    );
    let mut overrun = rt2(1);
    overrun[1] = 99;
    for (id, reach) in [("ERR-007", next_hop), ("ERR-009", mp_reach(&overrun))] {
        let mut peer = bench.establish()?;
        peer.send(&update(&[common(0), reach].concat()))?;
        peer.expect_close(SOON)?;
        let last = peer.received().last().and_then(BgpMessage::notification);
        ensure!(matches!(last, Some((3, _))), "{id}: {last:?}");
    }
    Ok(())
}

/// ERR-010, ENC-014: a route whose length doesn't fit its type ends the session where that is asked for.
#[test]
fn err_010_and_enc_014_strict() -> Result<()> {
    let bench = Bench::with_peer_lines("err010", ASN, "strict_nlri = true")?;
    let mac_ip = [&[2, 34][..], &rt2(9).split_off(2), &[0]].concat();
    let prefix = [&[5, 33][..], &[0, 1, 198, 18, 0, 2, 0, 1], &[0; 25]].concat();
    for (id, short) in [("ERR-010", mac_ip), ("ENC-014", prefix)] {
        let mut peer = bench.establish()?;
        let nlri = [rt2(1), short].concat();
        peer.send(&update(&[common(0), mp_reach(&nlri)].concat()))?;
        peer.expect_close(SOON)?;
        ensure_notification(id, &peer, (3, 9), &mp_reach(&nlri))?;
    }
    Ok(())
}

/// The attributes of an external peer that mean nothing there.
#[test]
fn err_011_012_attributes_of_internal_peers_are_discarded() -> Result<()> {
    const EXTERNAL: u32 = 65001;
    let bench = Bench::with_peer("err011", EXTERNAL)?;
    let open = BgpMessage::open(EXTERNAL, HOLD, bench.peer.address());
    let mut peer = bench.establish_with(&open)?;
    let attributes = [
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe9]),
        attribute(0x40, 5, &[0, 0, 0, 200]),
        attribute(0x80, 10, &[1; 6]),
        attribute(0xc0, 16, &[0x00, 0x02, 0xfd, 0xe8, 0, 0, 0, 100]),
        mp_reach(&rt2(1)),
    ];
    peer.send(&update(&attributes.concat()))?;
    bench.has_mac(&mac(1))?;
    bench.agent.wait_established()
}

/// Nothing happens, and nothing is held against the peer.
#[test]
fn err_017_withdrawing_what_was_never_announced() -> Result<()> {
    let bench = Bench::new("err017")?;
    let mut peer = bench.establish()?;
    peer.send(&update(&announced(1, &[])))?;
    peer.send(&update(&mp_unreach(&[rt2(7), rt2(8)].concat())))?;
    peer.send(&update(&announced(2, &[])))?;
    bench.has_mac(&mac(1))?;
    bench.has_mac(&mac(2))?;
    bench.agent.wait_established()?;
    let shown = bench.shown()?;
    let error = shown["last_error"].as_str().unwrap_or_default();
    ensure!(!error.contains("UPDATE"), "{shown}");
    Ok(())
}
