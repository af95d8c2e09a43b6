//! The agent's BGP against a scripted peer, over TCP: sessions, errors in UPDATEs, and route refresh
//! of docs/conformance.md. Tests have the ids of its rows in their names.

mod add_path;
mod crowd;
mod errors;
mod igp_cost;
mod long_lived;
mod refresh;
mod session;

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use vtep_tests::{Agent, AgentConfig, BgpMessage, Host, Lab, Pair, ScriptedPeer, eventually};

const ASN: u32 = Pair::ASN;
const HOLD: u16 = 90;
const SOON: Duration = Duration::from_secs(10);

/// An agent on one host and room for the scripted peer on another.
struct Bench {
    agent: Agent,
    config: AgentConfig,
    dut: Host,
    peer: Host,
}

impl Bench {
    fn new(name: &str) -> Result<Self> {
        Self::with_peer(name, ASN)
    }

    /// With a scripted peer in another AS.
    fn with_peer(name: &str, asn: u32) -> Result<Self> {
        Self::with_peer_lines(name, asn, "")
    }

    /// With more lines of the peer's table.
    fn with_peer_lines(name: &str, asn: u32, lines: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
        let config = AgentConfig::new(&dut, ASN)
            .peer_with(peer.address(), asn, lines)
            .bd("blue", 100, &["vnet-*"]);
        let agent = Agent::start(&dut, &config)?;
        Ok(Self {
            agent,
            config,
            dut,
            peer,
        })
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

    /// Ends a session; the agent has seen it, and refuses the next connection for no collision.
    fn hang_up(&self, peer: ScriptedPeer) -> Result<()> {
        drop(peer);
        eventually(SOON, || {
            let shown = self.shown()?;
            ensure!(shown["state"] != "established", "{shown}");
            Ok(())
        })
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

    /// What `show bgp` says of the peer.
    fn shown(&self) -> Result<Value> {
        let bgp = self.agent.show("bgp")?;
        let peer = bgp["peers"].get(0).context("show bgp has no peer")?;
        Ok(peer.clone())
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

/// End-of-RIB for L2VPN EVPN (RFC 4724 §2).
const END_OF_RIB: [u8; 10] = [0, 0, 0, 6, 0x80, 15, 3, 0, 25, 70];

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

fn mp_unreach(nlri: &[u8]) -> Vec<u8> {
    attribute(0x80, 15, &[&[0, 25, 70], nlri].concat())
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
    BgpMessage::update(attributes)
}
