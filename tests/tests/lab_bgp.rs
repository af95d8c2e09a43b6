//! The agent's BGP against a scripted peer: the session and error lists of the conformance plan,
//! over TCP. A test's name is the id of its entry.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, BgpMessage, Host, Lab, Pair, ScriptedPeer, VmSpec, eventually, stays,
};

const ASN: u32 = Pair::ASN;
const HOLD: u16 = 90;
const SOON: Duration = Duration::from_secs(10);

/// An agent on one host and room for the scripted peer on another.
struct Bench {
    agent: Agent,
    dut: Host,
    peer: Host,
}

impl Bench {
    fn new(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
        let config =
            AgentConfig::new(&dut, ASN)
                .peer(peer.address(), ASN)
                .bd("blue", 100, &["vnet-*"]);
        let agent = Agent::start(&dut, &config)?;
        Ok(Self { agent, dut, peer })
    }

    /// A connection on which the agent has sent its OPEN. The agent may hold off after an error.
    fn connect(&self) -> Result<(ScriptedPeer, BgpMessage)> {
        eventually(Duration::from_secs(60), || {
            let mut peer = ScriptedPeer::connect(&self.peer, self.dut.address())?;
            let open = peer.receive(Duration::from_secs(2))?.context("no OPEN")?;
            ensure!(open.kind == BgpMessage::OPEN, "{open:02x?}");
            Ok((peer, open))
        })
    }

    /// A session.
    fn establish(&self) -> Result<ScriptedPeer> {
        self.establish_with(&self.open())
    }

    fn establish_with(&self, open: &BgpMessage) -> Result<ScriptedPeer> {
        let (mut peer, _) = self.connect()?;
        peer.send(open)?;
        peer.send(&BgpMessage::keepalive())?;
        peer.expect(BgpMessage::KEEPALIVE, SOON)?;
        self.agent.wait_established()?;
        Ok(peer)
    }

    fn open(&self) -> BgpMessage {
        BgpMessage::open(ASN, HOLD, self.peer.address())
    }

    /// Sends something after the agent's OPEN and expects a NOTIFICATION and the end.
    fn refused(&self, id: &str, bytes: &[u8], expected: (u8, u8), data: &[u8]) -> Result<()> {
        let (mut peer, _) = self.connect()?;
        peer.send_raw(bytes)?;
        peer.expect_close(SOON).with_context(|| id.to_owned())?;
        ensure_notification(id, &peer, expected, data)
    }

    fn has_mac(&self, mac: &str) -> Result<()> {
        self.agent
            .wait_row("macs", &[("mac", json!(mac)), ("origin", json!("remote"))])
            .map(drop)
    }

    fn has_no_mac(&self, mac: &str) -> Result<()> {
        eventually(SOON, || {
            let row = self.agent.row("macs", &[("mac", json!(mac))]);
            ensure!(row.is_err(), "{row:?}");
            Ok(())
        })
    }
}

fn ensure_notification(
    id: &str,
    peer: &ScriptedPeer,
    expected: (u8, u8),
    data: &[u8],
) -> Result<()> {
    let last = peer.received().last().context("nothing received")?;
    ensure!(last.notification() == Some(expected), "{id}: {last:02x?}");
    let sent = last.body.get(2..).unwrap_or_default();
    ensure!(
        data.is_empty() || sent == data,
        "{id}: data {sent:02x?}, not {data:02x?}"
    );
    Ok(())
}

/// RT-2 without an address (RFC 7432 §7.2), RD 198.18.0.2:1, VNI 100.
fn rt2(last_octet: u8) -> Vec<u8> {
    let mut nlri = vec![2, 33, 0, 1, 198, 18, 0, 2, 0, 1];
    nlri.extend([0; 10 + 4]);
    nlri.extend([48, 0x02, 0, 0, 0, 0x0e, last_octet, 0, 0, 0, 100]);
    nlri
}

fn mac(last_octet: u8) -> String {
    format!("02:00:00:00:0e:{last_octet:02x}")
}

/// A path attribute with a length of two octets.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[flags | 0x10, code], &length[..], value].concat()
}

fn mp_reach(nlri: &[u8]) -> Vec<u8> {
    let next_hop = [0, 25, 70, 4, 198, 18, 0, 2, 0];
    attribute(0x80, 14, &[&next_hop, nlri].concat())
}

/// ORIGIN, an empty AS_PATH, LOCAL_PREF, and the target 65000:100 with VXLAN encapsulation.
fn common(origin: u8) -> Vec<u8> {
    let communities = [
        [0x00, 0x02, 0xfd, 0xe8, 0, 0, 0, 100],
        [0x03, 0x0c, 0, 0, 0, 0, 0, 8],
    ];
    [
        attribute(0x40, 1, &[origin]),
        attribute(0x40, 2, &[]),
        attribute(0x40, 5, &[0, 0, 0, 100]),
        attribute(0xc0, 16, &communities.concat()),
    ]
    .concat()
}

fn update(attributes: &[u8]) -> BgpMessage {
    let length = u16::try_from(attributes.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    BgpMessage::new(
        BgpMessage::UPDATE,
        &[&[0, 0], &length[..], attributes].concat(),
    )
}

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

    // An IMET route for VNI 100, and End-of-RIB for L2VPN EVPN (RFC 4724 §2).
    let end_of_rib = [0, 0, 0, 6, 0x80, 15, 3, 0, 25, 70];
    let imet = [&[3, 17][..], &[0, 1], &address].concat();
    eventually(SOON, || {
        peer.receive(Duration::from_millis(200))?;
        let updates = || {
            let received = peer.received().iter();
            received.filter(|message| message.kind == BgpMessage::UPDATE)
        };
        ensure!(
            updates().any(|update| update.body == end_of_rib),
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
    bench.establish_with(&BgpMessage::open(ASN, HOLD, Ipv4Addr::new(240, 0, 0, 1)))?;
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
    let unreach = attribute(0x80, 15, &[&[0, 25, 70][..], &rt2(2)].concat());
    peer.send(&update(&unreach))?;
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
