//! What RFC 5880 to 5882 say, with a scripted speaker.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use vtep_tests::{BfdSpeaker, BgpMessage, ScriptedPeer, eventually, stays};

use crate::{ASN, DETECTION, PATIENCE, Wire, peer_row, wait_bfd};

const SINGLE: &str = "bfd = { multihop = false }";

/// A session with a peer that never sends anything more.
fn establish(wire: &Wire) -> Result<ScriptedPeer> {
    eventually(PATIENCE, || {
        let mut peer = ScriptedPeer::connect(&wire.peer, wire.dut.address())?;
        peer.establish(&BgpMessage::open(ASN, 90, wire.peer.address()))?;
        Ok(peer)
    })
}

#[test]
fn bgp_028_a_failed_path_ends_the_session() -> Result<()> {
    let wire = Wire::new("bgp028")?;
    let agent = wire.agent(ASN, SINGLE)?;
    let speaker = BfdSpeaker::start(&wire.peer, wire.dut.address())?;
    let mut peer = establish(&wire)?;
    agent.wait_established()?;
    wait_bfd(&agent, "up")?;
    // Their 3 x our 300 ms, once the peer's Poll-free 100 ms are known.
    eventually(PATIENCE, || {
        let heard = speaker.last().context("nothing heard")?;
        ensure!(heard.source_port >= 49152, "{heard:?}");
        ensure!((heard.state, heard.multiplier) == (3, 3), "{heard:?}");
        ensure!(
            heard.desired_min_tx == 300_000 && heard.required_min_rx == 300_000,
            "{heard:?}"
        );
        Ok(())
    })?;

    let silent = speaker.fall_silent();
    peer.expect_close(Duration::from_secs(10))?;
    let after = silent.elapsed();
    println!("BGP-028: closed {after:?} after the last BFD packet, detection time {DETECTION:?}");
    let notification = peer.received().last().and_then(BgpMessage::notification);
    ensure!(notification == Some((6, 10)), "{notification:?}");
    ensure!(after > DETECTION - Duration::from_millis(50), "{after:?}");
    ensure!(after < DETECTION + Duration::from_secs(2), "{after:?}");
    let row = peer_row(&agent)?;
    ensure!(
        row["bfd"]["last_down"] == "control detection time expired",
        "{row}"
    );
    ensure!(
        row["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("BFD down")),
        "{row}"
    );
    eventually(PATIENCE, || {
        let said = speaker.last().context("nothing heard")?;
        ensure!((said.state, said.diagnostic) == (1, 1), "{said:?}");
        Ok(())
    })?;
    let metrics = agent.metrics()?;
    let name = wire.peer.address().to_string();
    ensure!(metrics.value("vtep_bfd_up", &[&name])? == 0.0);
    ensure!(metrics.value("vtep_bfd_packets_total", &[&name, "received"])? >= 2.0);

    // BGP may come back without BFD, and BFD comes back by itself.
    let _peer = establish(&wire)?;
    agent.wait_established()?;
    speaker.speak();
    wait_bfd(&agent, "up")?;
    agent.wait_established()
}

#[test]
fn bgp_029_admin_down_of_the_peer_changes_nothing() -> Result<()> {
    let wire = Wire::new("bgp029")?;
    let agent = wire.agent(ASN, SINGLE)?;
    let speaker = BfdSpeaker::start(&wire.peer, wire.dut.address())?;
    let mut peer = establish(&wire)?;
    wait_bfd(&agent, "up")?;
    speaker.force(Some(0));
    let bfd = wait_bfd(&agent, "down")?;
    ensure!(bfd["remote_state"] == "admin_down", "{bfd}");
    let mut established = || {
        peer.receive(Duration::from_millis(20))?;
        ensure!(!peer.is_closed(), "{:?}", peer.received());
        let row = peer_row(&agent)?;
        ensure!(row["state"] == "established", "{row}");
        Ok(())
    };
    stays(Duration::from_secs(2), &mut established)?;
    // The silence that usually follows, and the return.
    speaker.fall_silent();
    stays(Duration::from_secs(2), &mut established)?;
    speaker.force(None);
    speaker.speak();
    wait_bfd(&agent, "up")?;
    established()
}

#[test]
fn bgp_030_packets_from_afar_are_discarded() -> Result<()> {
    let wire = Wire::new("bgp030")?;
    let agent = wire.agent(ASN, SINGLE)?;
    let speaker = BfdSpeaker::start(&wire.peer, wire.dut.address())?;
    speaker.set_ttl(254);
    eventually(PATIENCE, || {
        let discards = agent
            .metrics()?
            .value("vtep_bfd_discards_total", &["ttl"])?;
        ensure!(discards > 5.0, "{discards} discards");
        Ok(())
    })?;
    let bfd = peer_row(&agent)?["bfd"].clone();
    ensure!(
        bfd["state"] == "down" && bfd["remote_state"].is_null(),
        "{bfd}"
    );
    ensure!(
        bfd["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("TTL")),
        "{bfd}"
    );
    // BFD that never came up is in nobody's way.
    let _peer = establish(&wire)?;
    agent.wait_established()?;
    speaker.set_ttl(255);
    wait_bfd(&agent, "up").map(drop)
}

/// Strict: no session without BFD, none that outlives it.
#[test]
fn strict_sessions_need_bfd() -> Result<()> {
    let wire = Wire::new("strict")?;
    let agent = wire.agent(ASN, "bfd = { multihop = false, strict = true }")?;
    let mut early = ScriptedPeer::connect(&wire.peer, wire.dut.address())?;
    early.expect_close(Duration::from_secs(10))?;
    ensure!(early.received().is_empty(), "{:?}", early.received());
    let row = peer_row(&agent)?;
    ensure!(row["state"] == "idle", "{row}");

    let speaker = BfdSpeaker::start(&wire.peer, wire.dut.address())?;
    let mut peer = establish(&wire)?;
    agent.wait_established()?;
    // The intervals of a running session are negotiated, and BGP doesn't notice.
    let slower = wire.config(
        ASN,
        "bfd = { multihop = false, strict = true, interval = 500 }",
    );
    agent.reload(&slower)?.done()?;
    eventually(PATIENCE, || {
        let heard = speaker.last().context("nothing heard")?;
        ensure!(
            heard.desired_min_tx == 500_000 && heard.state == 3,
            "{heard:?}"
        );
        Ok(())
    })?;
    peer.receive(Duration::from_millis(100))?;
    ensure!(!peer.is_closed(), "{:?}", peer.received());
    speaker.fall_silent();
    peer.expect_close(Duration::from_secs(20))?;
    let mut again = ScriptedPeer::connect(&wire.peer, wire.dut.address())?;
    again.expect_close(Duration::from_secs(10))?;
    ensure!(again.received().is_empty(), "{:?}", again.received());
    Ok(())
}

/// RFC 5880 §6.8.16: a clean stop says AdminDown; a crash can't.
#[test]
fn a_clean_stop_is_told_from_a_crash() -> Result<()> {
    let wire = Wire::new("stop")?;
    let speaker = BfdSpeaker::start(&wire.peer, wire.dut.address())?;
    let mut agent = wire.agent(ASN, SINGLE)?;
    wait_bfd(&agent, "up")?;
    agent.stop()?;
    eventually(PATIENCE, || {
        let last = speaker.last().context("nothing heard")?;
        ensure!((last.state, last.diagnostic) == (0, 7), "{last:?}");
        Ok(())
    })?;
    // A new one has other discriminators, and the old session doesn't disturb it.
    let mut agent = wire.agent(ASN, SINGLE)?;
    wait_bfd(&agent, "up")?;
    eventually(PATIENCE, || {
        let last = speaker.last().context("nothing heard")?;
        ensure!(last.state == 3, "{last:?}");
        Ok(())
    })?;
    agent.daemon().kill()?;
    let last = speaker.last().context("nothing heard")?;
    ensure!(last.state == 3, "{last:?}");
    Ok(())
}
