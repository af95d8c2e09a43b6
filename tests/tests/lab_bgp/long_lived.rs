//! Long-lived graceful restart (RFC 9494) with a reflector's peers: one that goes away for good, one
//! with a worse path, and two clients, of which one knows stale routes.

use std::time::Instant;

use super::*;

/// How long a route may take from one end to the other.
const PATIENCE: Duration = Duration::from_secs(30);
const RESTART_TIME: Duration = Duration::from_secs(8);
const STALE_TIME: Duration = Duration::from_secs(20);
/// Community LLGR_STALE (RFC 9494 §5).
const LLGR_STALE: [u8; 4] = [0xff, 0xff, 0, 6];
/// Path attribute COMMUNITIES (RFC 1997).
const COMMUNITIES: u8 = 8;

/// Graceful restart with the F bit for EVPN (RFC 4724 §3).
fn graceful(open: &BgpMessage) -> BgpMessage {
    let seconds = RESTART_TIME.as_secs() as u8;
    open.clone()
        .with_capability(64, &[0, seconds, 0, 25, 70, 0x80])
}

/// The long-lived half, likewise (RFC 9494 §3).
fn long_lived(open: &BgpMessage) -> BgpMessage {
    let seconds = STALE_TIME.as_secs() as u8;
    graceful(open).with_capability(71, &[0, 25, 70, 0x80, 0, 0, seconds])
}

fn connect(from: &Host, to: &Host, with: fn(&BgpMessage) -> BgpMessage) -> Result<ScriptedPeer> {
    let mut peer = ScriptedPeer::connect(from, to.address())?;
    // No hold time: a script sends nothing in between.
    peer.establish(&with(&BgpMessage::open(ASN, 0, from.address())))?;
    Ok(peer)
}

/// These routes from a VTEP.
fn routes(vtep: &Host, local_pref: u8, nlri: &[Vec<u8>]) -> BgpMessage {
    let mut value = vec![0, 25, 70, 4];
    value.extend(vtep.address().octets());
    value.push(0);
    value.extend(nlri.concat());
    let communities = [
        [0x00, 0x02, 0xfd, 0xe8, 0, 0, 0, 100],
        [0x03, 0x0c, 0, 0, 0, 0, 0, 8],
    ];
    let attributes = [
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[]),
        attribute(0x40, 5, &[0, 0, 0, local_pref]),
        attribute(0xc0, 16, &communities.concat()),
        attribute(0x80, BgpMessage::MP_REACH_NLRI, &value),
    ];
    update(&attributes.concat())
}

/// A client of ours, which only listens.
struct Client(ScriptedPeer);

impl Client {
    /// The last UPDATE about a route: whether it is there, and marked as stale.
    fn last(&mut self, nlri: &[u8]) -> Result<Option<(bool, bool)>> {
        while self.0.receive(Duration::from_millis(100))?.is_some() {}
        let of = |message: &BgpMessage, code| {
            // Label 1 and what follows is no part of the key; a withdrawal needs none.
            let key = &nlri[..nlri.len() - 3];
            let all = message.evpn_nlri(code).unwrap_or_default();
            all.windows(key.len()).any(|window| window == key)
        };
        Ok(self.0.received().iter().rev().find_map(|message| {
            let there = of(message, BgpMessage::MP_REACH_NLRI);
            let communities = message.attribute(COMMUNITIES).unwrap_or_default();
            let stale = communities.chunks(4).any(|one| one == LLGR_STALE);
            let gone = of(message, BgpMessage::MP_UNREACH_NLRI);
            (there || gone).then_some((there, stale))
        }))
    }

    fn wait(&mut self, nlri: &[u8], expected: (bool, bool)) -> Result<()> {
        eventually(PATIENCE, || {
            let last = self.last(nlri)?;
            ensure!(last == Some(expected), "{last:?}, not {expected:?}");
            Ok(())
        })
    }
}

/// GR-010 (RFC 9494 §4.2, §4.3): routes of a peer that stays away are used beyond its restart time where
/// there is nothing else, told as stale to those who know that and taken back from the others, and gone
/// when the peer's stale time is over.
#[test]
fn gr_010_a_peer_that_stays_away() -> Result<()> {
    let lab = Lab::new("llgr")?;
    let underlay = lab.underlay()?;
    let dut = underlay.host("dut")?;
    let (away, other) = (underlay.host("away")?, underlay.host("other")?);
    let (knows, ignores) = (underlay.host("knows")?, underlay.host("ignores")?);
    let mut config = AgentConfig::new(&dut, ASN).bd("blue", 100, &["vnet-*"]);
    let hours = "long_lived_graceful_restart = 7200";
    for (host, client) in [
        (&away, false),
        (&other, false),
        (&knows, true),
        (&ignores, true),
    ] {
        let lines = format!("{hours}\nroute_reflector_client = {client}\npassive = true");
        config = config.peer_with(host.address(), ASN, &lines);
    }
    let agent = Agent::start(&dut, &config)?;
    let mut knowing = Client(connect(&knows, &dut, long_lived)?);
    let mut ignorant = Client(connect(&ignores, &dut, graceful)?);
    let mut second = connect(&other, &dut, long_lived)?;
    let mut first = connect(&away, &dut, long_lived)?;

    let (alone, both) = (rt2(1), rt2(2));
    first.send(&routes(&away, 200, &[alone.clone(), both.clone()]))?;
    second.send(&routes(&other, 100, std::slice::from_ref(&both)))?;
    let vtep = |last_octet: u8| -> Result<String> {
        let row = agent.row("macs", &[("mac", json!(mac(last_octet)))])?;
        Ok(row["vtep"].as_str().unwrap_or_default().to_owned())
    };
    let wait_vtep = |last_octet: u8, host: &Host| {
        eventually(PATIENCE, || {
            let vtep = vtep(last_octet)?;
            ensure!(vtep == host.address().to_string(), "{vtep}");
            Ok(())
        })
    };
    let stale_reason = || -> Result<String> {
        let routes = agent.show("routes")?;
        let routes = routes.as_array().context("no list")?;
        let peer = json!(away.address().to_string());
        let mut theirs = routes.iter().filter(|route| route["peer"] == peer);
        let reason = theirs.find_map(|route| route["stale_reason"].as_str());
        Ok(reason.context("no route is stale")?.to_owned())
    };
    wait_vtep(1, &away)?;
    wait_vtep(2, &away)?;
    knowing.wait(&alone, (true, false))?;
    ignorant.wait(&alone, (true, false))?;

    // Its restart time: nothing changes.
    let start = Instant::now();
    first.reset()?;
    let reason = eventually(PATIENCE, stale_reason)?;
    ensure!(!reason.contains("beyond"), "{reason}");
    ensure!(vtep(2)? == away.address().to_string());
    ensure!(knowing.last(&alone)? == Some((true, false)));

    // Its stale time: the last choice.
    wait_vtep(2, &other)?;
    ensure!(start.elapsed() >= RESTART_TIME);
    let reason = stale_reason()?;
    ensure!(reason.contains("beyond its restart time"), "{reason}");
    ensure!(vtep(1)? == away.address().to_string());
    knowing.wait(&alone, (true, true))?;
    ignorant.wait(&alone, (false, false))?;
    for client in [&mut knowing, &mut ignorant] {
        client.wait(&both, (true, false))?;
    }

    // And no longer.
    eventually(RESTART_TIME + STALE_TIME + PATIENCE, || {
        let vtep = vtep(1);
        ensure!(vtep.is_err(), "{vtep:?}");
        Ok(())
    })?;
    let lasted = start.elapsed();
    println!("gone after {lasted:.1?}");
    ensure!(lasted >= RESTART_TIME + STALE_TIME - Duration::from_secs(1));
    knowing.wait(&alone, (false, false))?;
    wait_vtep(2, &other)
}
