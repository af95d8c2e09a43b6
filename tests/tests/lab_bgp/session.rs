//! Sessions: from connection to NOTIFICATION.

use vtep_tests::{VmSpec, stays};

use super::*;

#[test]
fn bgp_001_session_opens_and_tells_its_routes() -> Result<()> {
    let bench = Bench::new("bgp001")?;
    let _vm = bench.dut.vm("vm1", &VmSpec::new(1))?;
    let (mut peer, open) = bench.connect()?;
    let address = bench.dut.address().octets();
    ensure!(open.body.starts_with(&[4, 0xfd, 0xe8]), "{open:02x?}");
    ensure!(open.body.get(5..9) == Some(&address[..]), "{open:02x?}");
    for capability in [&[1, 4, 0, 25, 0, 70][..], &[65, 4, 0, 0, 0xfd, 0xe8]] {
        let found = open
            .body
            .windows(capability.len())
            .any(|window| window == capability);
        ensure!(found, "no capability {capability:02x?} in {open:02x?}");
    }
    peer.send(&bench.open())?;
    peer.send(&BgpMessage::keepalive())?;
    peer.expect(BgpMessage::KEEPALIVE, SOON)?;

    // An IMET route for VNI 100, and End-of-RIB.
    let imet = [&[3, 17][..], &[0, 1], &address].concat();
    eventually(SOON, || {
        peer.receive(Duration::from_millis(200))?;
        let updates = || {
            let received = peer.received().iter();
            received.filter(|message| message.kind == BgpMessage::UPDATE)
        };
        ensure!(
            updates().any(|update| update.body == END_OF_RIB),
            "no End-of-RIB"
        );
        let told = |update: &BgpMessage| update.body.windows(8).any(|window| window == imet);
        ensure!(
            updates().any(told),
            "no IMET route: {:02x?}",
            peer.received()
        );
        Ok(())
    })
}

/// Checklist A9.2: a peer that knows us as another AS, with and without our own behind it.
#[test]
fn local_as_in_open_and_paths() -> Result<()> {
    const KNOWN: u32 = 65200;
    const PEER: u32 = 65100;
    for (lines, segment) in [
        (
            "local_as = 65200",
            &[2, 2, 0, 0, 0xfe, 0xb0, 0, 0, 0xfd, 0xe8][..],
        ),
        (
            "local_as = { asn = 65200, replace = true }",
            &[2, 1, 0, 0, 0xfe, 0xb0],
        ),
    ] {
        let bench = Bench::with_peer_lines("localas", PEER, lines)?;
        let (mut peer, open) = bench.connect()?;
        let [_, high, low, ..] = open.body[..] else {
            bail!("{open:02x?}");
        };
        ensure!(
            u32::from(u16::from_be_bytes([high, low])) == KNOWN,
            "{open:02x?}"
        );
        peer.send(&BgpMessage::open(PEER, HOLD, bench.peer.address()))?;
        peer.send(&BgpMessage::keepalive())?;
        // AS_PATH of four-octet numbers: flags, type, length, and the segment.
        let length = u8::try_from(segment.len())?;
        let path = [&[0x40, 2, length], segment].concat();
        eventually(SOON, || {
            peer.receive(Duration::from_millis(200))?;
            let told =
                |update: &BgpMessage| update.body.windows(path.len()).any(|window| window == path);
            ensure!(peer.received().iter().any(told), "{:02x?}", peer.received());
            Ok(())
        })?;
        let bgp = bench.agent.show("bgp")?;
        ensure!(bgp["peers"][0]["local_as"] == json!(KNOWN), "{bgp}");
    }
    Ok(())
}

/// Test id, bytes to send, code and subcode of the answer, its data where it is prescribed.
type Mistake = (&'static str, Vec<u8>, (u8, u8), &'static [u8]);

#[test]
fn bgp_002_005_to_010_and_015_mistakes_are_named() -> Result<()> {
    let open = |asn, hold, id: Ipv4Addr| BgpMessage::open(asn, hold, id).bytes();
    // What `Bench` gives to its hosts.
    let (dut, id) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2));
    let mut version5 = open(ASN, HOLD, id);
    version5[19] = 5;
    let mut marker = open(ASN, HOLD, id);
    marker[7] = 0xfe;
    let mut short = BgpMessage::keepalive().bytes();
    short[17] = 18;
    let long_keepalive = [open(ASN, HOLD, id), BgpMessage::new(4, &[0]).bytes()].concat();
    let early_update = [open(ASN, HOLD, id), update(&[]).bytes()].concat();
    let cases: [Mistake; 11] = [
        ("BGP-002", open(ASN, 2, id), (2, 6), &[]),
        ("BGP-005", marker, (1, 1), &[]),
        ("BGP-006 a", short, (1, 2), &[0, 18]),
        ("BGP-006 b", long_keepalive, (1, 2), &[0, 20]),
        ("BGP-007", BgpMessage::new(9, &[]).bytes(), (1, 3), &[9]),
        ("BGP-008", version5, (2, 1), &[0, 4]),
        ("BGP-009", open(65001, HOLD, id), (2, 2), &[]),
        (
            "BGP-010 a",
            open(ASN, HOLD, Ipv4Addr::UNSPECIFIED),
            (2, 3),
            &[],
        ),
        ("BGP-010 b", open(ASN, HOLD, dut), (2, 3), &[]),
        ("BGP-015", early_update, (5, 2), &[]),
        (
            "BGP-024",
            [vec![0xff; 16], vec![0x13, 0x88, 2]].concat(),
            (1, 2),
            &[0x13, 0x88],
        ),
    ];
    for (id, bytes, expected, data) in cases {
        // An agent of its own each: they rightly make peers wait longer after every error.
        let bench = Bench::new("mistake")?;
        bench.refused(id, &bytes, expected, data)?;
        // And a correct peer is let in afterwards.
        bench.establish().map(drop)?;
    }
    Ok(())
}

#[test]
fn bgp_003_hold_time_zero() -> Result<()> {
    let bench = Bench::new("bgp003")?;
    let mut peer = bench.establish_with(&BgpMessage::open(ASN, 0, bench.peer.address()))?;
    // No keepalives are due, and none missed.
    let before = peer.received().len();
    stays(Duration::from_secs(5), || {
        peer.receive(Duration::from_millis(100))?;
        let late = peer.received().iter().skip(before);
        ensure!(
            !late
                .into_iter()
                .any(|message| message.kind == BgpMessage::KEEPALIVE)
        );
        ensure!(!peer.is_closed());
        Ok(())
    })
}

#[test]
fn bgp_004_hold_timer_expires() -> Result<()> {
    let bench = Bench::new("bgp004")?;
    let mut peer = bench.establish_with(&BgpMessage::open(ASN, 3, bench.peer.address()))?;
    let start = std::time::Instant::now();
    peer.expect_close(SOON)?;
    ensure_notification("BGP-004", &peer, (4, 0), &[])?;
    let seconds = start.elapsed().as_secs_f32();
    ensure!((2.0..4.5).contains(&seconds), "after {seconds} s");
    Ok(())
}

#[test]
fn bgp_010_and_017_unusual_opens_are_accepted() -> Result<()> {
    let bench = Bench::new("bgp017")?;
    let peer = bench.establish_with(&BgpMessage::open(ASN, HOLD, Ipv4Addr::new(240, 0, 0, 1)))?;
    bench.hang_up(peer)?;
    // Each capability in a parameter of its own, and an unknown one.
    let mut body = vec![4, 0xfd, 0xe8, 0, 90];
    body.extend(bench.peer.address().octets());
    let parameters: [&[u8]; 3] = [
        &[2, 6, 1, 4, 0, 25, 0, 70],
        &[2, 6, 65, 4, 0, 0, 0xfd, 0xe8],
        &[2, 5, 200, 3, 1, 2, 3],
    ];
    let parameters = parameters.concat();
    body.push(u8::try_from(parameters.len())?);
    body.extend(parameters);
    bench
        .establish_with(&BgpMessage::new(BgpMessage::OPEN, &body))
        .map(drop)
}

#[test]
fn bgp_013_a_second_connection_is_refused() -> Result<()> {
    let bench = Bench::new("bgp013")?;
    let mut first = bench.establish()?;
    let mut second = ScriptedPeer::connect(&bench.peer, bench.dut.address())?;
    second.send(&bench.open())?;
    second.expect_close(SOON)?;
    let notification = second.received().last().and_then(BgpMessage::notification);
    ensure!(
        matches!(notification, Some((6, 7))),
        "{:02x?}",
        second.received()
    );
    first.receive(Duration::from_millis(200))?;
    ensure!(!first.is_closed());
    bench.agent.wait_established()
}

/// What a peer said is gone with its session.
#[test]
fn routes_of_a_lost_session_are_removed() -> Result<()> {
    let bench = Bench::new("lost")?;
    let mut peer = bench.establish()?;
    peer.send(&update(&[common(0), mp_reach(&rt2(1))].concat()))?;
    bench.has_mac(&mac(1))?;
    drop(peer);
    bench.has_no_mac(&mac(1))
}

/// The agent connects, and so does the peer: the connection of the side with the higher identifier
/// stays, the other ends with Cease/7.
#[test]
fn bgp_011_012_collision() -> Result<()> {
    for (id, router_id, theirs_stays) in [
        ("BGP-011", Ipv4Addr::new(198, 18, 9, 9), true),
        ("BGP-012", Ipv4Addr::new(198, 17, 0, 1), false),
    ] {
        let bench = Bench::new("collision")?;
        let mut ours = ScriptedPeer::accept(&bench.peer)?;
        let mut theirs = ScriptedPeer::connect(&bench.peer, bench.dut.address())?;
        ours.expect(BgpMessage::OPEN, SOON)?;
        theirs.expect(BgpMessage::OPEN, SOON)?;
        let open = BgpMessage::open(ASN, HOLD, router_id);
        ours.send(&open)?;
        theirs.send(&open)?;
        let (mut winner, mut loser) = match theirs_stays {
            true => (theirs, ours),
            false => (ours, theirs),
        };
        loser.expect_close(SOON).with_context(|| id.to_owned())?;
        ensure_notification(id, &loser, (6, 7), &[])?;
        winner.send(&BgpMessage::keepalive())?;
        winner.expect(BgpMessage::KEEPALIVE, SOON)?;
        bench.agent.wait_established()?;
        ensure!(!winner.is_closed(), "{id}");
    }
    Ok(())
}

/// The peer crashed without a word and comes back: no NOTIFICATION on the old connection, and its
/// routes stay.
#[test]
fn bgp_014_a_restarted_peer_takes_its_session_over() -> Result<()> {
    let bench = Bench::new("bgp014")?;
    let open = bench.open().with_capability(64, &[0, 120, 0, 25, 70, 0x80]);
    let mut old = bench.establish_with(&open)?;
    old.send(&update(&[common(0), mp_reach(&rt2(1))].concat()))?;
    old.send(&BgpMessage::new(BgpMessage::UPDATE, &END_OF_RIB))?;
    bench.has_mac(&mac(1))?;
    // However young the session is: the peer has sent routes on it, so it knew of it.
    let mut new = ScriptedPeer::connect(&bench.peer, bench.dut.address())?;
    new.send(&open)?;
    new.expect(BgpMessage::KEEPALIVE, SOON)?;
    old.expect_close(SOON)?;
    let ended = old
        .received()
        .iter()
        .any(|message| message.kind == BgpMessage::NOTIFICATION);
    ensure!(!ended, "{:02x?}", old.received());
    new.send(&BgpMessage::keepalive())?;
    bench.agent.wait_established()?;
    bench.has_mac(&mac(1))?;
    // End-of-RIB without the route: it is gone.
    new.send(&BgpMessage::new(BgpMessage::UPDATE, &END_OF_RIB))?;
    bench.has_no_mac(&mac(1))
}

/// The connection is reset once our OPEN is there: the agent waits in Active, and tries again.
#[test]
fn bgp_016_a_reset_in_open_sent() -> Result<()> {
    let bench = Bench::new("bgp016")?;
    let mut first = ScriptedPeer::accept(&bench.peer)?;
    first.expect(BgpMessage::OPEN, SOON)?;
    first.reset()?;
    eventually(SOON, || {
        let shown = bench.shown()?;
        ensure!(shown["state"] == "active", "{shown}");
        Ok(())
    })?;
    let mut second = ScriptedPeer::accept(&bench.peer)?;
    second.establish(&bench.open())?;
    bench.agent.wait_established()
}

/// The extended form of the parameters (RFC 9072 §2), although they are short.
#[test]
fn bgp_018_extended_parameters() -> Result<()> {
    let bench = Bench::new("bgp018")?;
    let mut open = bench.open();
    // Behind the fixed part and the length octet: one parameter with a length of one octet.
    let capabilities = open.body.split_off(12);
    open.body.truncate(9);
    let length = u16::try_from(capabilities.len())?;
    open.body.extend([255, 255]);
    open.body.extend((length + 3).to_be_bytes());
    open.body.push(2);
    open.body.extend(length.to_be_bytes());
    open.body.extend(capabilities);
    bench.establish_with(&open).map(drop)
}

/// The reason's length is a lie, or it is not UTF-8: the session ends, and the next one begins.
#[test]
fn bgp_021_malformed_shutdown_reasons() -> Result<()> {
    let bench = Bench::new("bgp021")?;
    for reason in [&[200, b'a', b'b'][..], &[3, 0xff, 0xfe, 0xfd], &[]] {
        let mut peer = bench.establish()?;
        let body = [&[6, 2], reason].concat();
        peer.send(&BgpMessage::new(BgpMessage::NOTIFICATION, &body))?;
        peer.expect_close(SOON)?;
        // Never answered (RFC 4271 §6.4).
        let answered = peer
            .received()
            .iter()
            .any(|message| message.kind == BgpMessage::NOTIFICATION);
        ensure!(!answered, "{:02x?}", peer.received());
        eventually(SOON, || {
            let shown = bench.shown()?;
            let error = shown["last_error"].as_str().unwrap_or_default();
            ensure!(error.contains("administrative shutdown"), "{shown}");
            Ok(())
        })?;
    }
    Ok(())
}
