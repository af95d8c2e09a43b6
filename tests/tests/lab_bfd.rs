//! BFD (RFC 5880, 5881, 5883) and what BGP makes of it (RFC 5882): against a scripted speaker, FRR,
//! BIRD, and between agents. Times are printed: see them with `--nocapture`.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use vtep_tests::{
    Agent, AgentConfig, BfdSpeaker, BgpMessage, Bird, Frr, Host, Lab, Pair, ScriptedPeer, Underlay,
    eventually, stays,
};

const ASN: u32 = Pair::ASN;
/// For what may take some tries on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Default detection time: 3 x 300 ms.
const DETECTION: Duration = Duration::from_millis(900);

/// Two hosts.
struct Wire {
    underlay: Underlay,
    dut: Host,
    peer: Host,
}

impl Wire {
    fn new(name: &str) -> Result<Self> {
        let underlay = Lab::new(name)?.underlay()?;
        let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
        Ok(Self {
            underlay,
            dut,
            peer,
        })
    }

    /// The agent with the other host as its peer.
    fn agent(&self, peer_asn: u32, lines: &str) -> Result<Agent> {
        Agent::start(&self.dut, &self.config(peer_asn, lines))
    }

    fn config(&self, peer_asn: u32, lines: &str) -> AgentConfig {
        AgentConfig::new(&self.dut, ASN).peer_with(self.peer.address(), peer_asn, lines)
    }

    /// Cuts the peer off in the middle of the network: links stay up.
    fn cut(&self) -> Result<Instant> {
        self.underlay.ns().ip("link set to-peer nomaster\n")?;
        Ok(Instant::now())
    }
}

fn peer_row(agent: &Agent) -> Result<Value> {
    let bgp = agent.show("bgp")?;
    Ok(bgp["peers"][0].clone())
}

fn wait_bfd(agent: &Agent, state: &str) -> Result<Value> {
    eventually(PATIENCE, || {
        let peer = peer_row(agent)?;
        ensure!(peer["bfd"]["state"] == state, "{peer}");
        Ok(peer["bfd"].clone())
    })
}

/// Both up at the default intervals, with what was negotiated shown.
fn wait_up(agent: &Agent) -> Result<Value> {
    wait_bfd(agent, "up")?;
    // Until both Poll Sequences are over.
    eventually(PATIENCE, || {
        let bfd = peer_row(agent)?["bfd"].clone();
        ensure!(
            bfd["detection_ms"] == 900 && bfd["transmit_ms"] == 300,
            "{bfd}"
        );
        ensure!(bfd["remote_state"] == "up", "{bfd}");
        Ok(bfd)
    })
}

/// A session with a peer that never sends anything more.
fn establish(wire: &Wire) -> Result<ScriptedPeer> {
    eventually(PATIENCE, || {
        let mut peer = ScriptedPeer::connect(&wire.peer, wire.dut.address())?;
        peer.establish(&BgpMessage::open(ASN, 90, wire.peer.address()))?;
        Ok(peer)
    })
}

/// Until the BGP session with the only peer is no longer established; how long that took.
fn bgp_down(agent: &Agent, since: Instant) -> Result<Duration> {
    eventually(PATIENCE, || {
        let peer = peer_row(agent)?;
        ensure!(peer["state"] != "established", "{peer}");
        Ok(())
    })?;
    Ok(since.elapsed())
}

const SINGLE: &str = "bfd = { multihop = false }";

#[test]
fn bgp_028_a_failed_path_ends_the_session() -> Result<()> {
    let wire = Wire::new("bgp028")?;
    let agent = wire.agent(ASN, SINGLE)?;
    let speaker = BfdSpeaker::start(&wire.peer, wire.dut.address())?;
    let mut peer = establish(&wire)?;
    agent.wait_established()?;
    wait_bfd(&agent, "up")?;
    // Their 3 x our 300 ms, once the peer's Poll-free 100 ms are known.
    let heard = speaker.last().context("nothing heard")?;
    ensure!(heard.source_port >= 49152, "{heard:?}");
    ensure!((heard.state, heard.multiplier) == (3, 3), "{heard:?}");
    ensure!(
        heard.desired_min_tx == 300_000 && heard.required_min_rx == 300_000,
        "{heard:?}"
    );

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

/// Two agents, multihop as internal peers are: up, cut, and up again.
#[test]
fn agents_notice_a_cut() -> Result<()> {
    let wire = Wire::new("cut")?;
    let dut = wire.agent(ASN, "bfd = true")?;
    let config = AgentConfig::new(&wire.peer, ASN).peer_with(wire.dut.address(), ASN, "bfd = true");
    let peer = Agent::start(&wire.peer, &config)?;
    for agent in [&dut, &peer] {
        agent.wait_established()?;
        let bfd = wait_up(agent)?;
        ensure!(bfd["multihop"] == true, "{bfd}");
    }
    let cut = wire.cut()?;
    for (name, agent) in [("dut", &dut), ("peer", &peer)] {
        let after = bgp_down(agent, cut)?;
        println!("two agents: {name} has BGP down {after:?} after the cut");
        ensure!(after < Duration::from_secs(10), "{after:?}");
    }
    wire.underlay
        .ns()
        .ip(&format!("link set to-peer master {}\n", Underlay::BRIDGE))?;
    for agent in [&dut, &peer] {
        agent.wait_established()?;
        wait_up(agent)?;
    }
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
    agent.daemon().kill()?;
    let last = speaker.last().context("nothing heard")?;
    ensure!(last.state == 3, "{last:?}");
    Ok(())
}

fn frr_conf(wire: &Wire, neighbor: &str) -> String {
    let (dut, peer) = (wire.dut.address(), wire.peer.address());
    let mut conf = format!(
        "router bgp 65001\n bgp router-id {peer}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n neighbor {dut} remote-as {ASN}\n \
         neighbor {dut} timers connect 1\n"
    );
    for line in neighbor.lines() {
        conf += &format!(" neighbor {dut} {line}\n");
    }
    conf + &format!(
        " address-family l2vpn evpn\n  neighbor {dut} activate\n  advertise-all-vni\n \
         exit-address-family\n"
    )
}

/// What FRR says of its BFD session with a peer.
fn frr_session(frr: &Frr, peer: Ipv4Addr) -> Result<Value> {
    let table = frr.show("show bfd peers json")?;
    let sessions = table.as_array().context("not a list")?;
    let of_peer = |session: &&Value| session["peer"] == peer.to_string();
    sessions
        .iter()
        .find(of_peer)
        .cloned()
        .with_context(|| format!("FRR has no session with {peer}: {table}"))
}

fn with_frr(name: &str, neighbor: &str, agent_lines: &str, multihop: bool) -> Result<()> {
    let wire = Wire::new(name)?;
    let dut = wire.dut.address();
    let frr = Frr::start_with_bfd(&wire.peer, &frr_conf(&wire, neighbor))?;
    let mut agent = wire.agent(65001, agent_lines)?;
    agent.wait_established()?;
    let bfd = wait_up(&agent)?;
    ensure!(bfd["multihop"] == multihop, "{bfd}");
    let session = eventually(PATIENCE, || {
        let session = frr_session(&frr, dut)?;
        ensure!(session["status"] == "up", "{session}");
        Ok(session)
    })?;
    ensure!(session["multihop"] == multihop, "{session}");

    // AdminDown of FRR: BGP stays.
    let shut = match multihop {
        true => format!("peer {dut} multihop local-address {}", wire.peer.address()),
        false => format!(
            "peer {dut} local-address {} interface {}",
            wire.peer.address(),
            Host::UPLINK
        ),
    };
    let shutdown = |word: &str| {
        frr.vtysh(&format!("configure terminal\nbfd\n{shut}\n{word}"))
            .map(drop)
    };
    shutdown("shutdown")?;
    let admin = eventually(PATIENCE, || {
        let bfd = peer_row(&agent)?["bfd"].clone();
        ensure!(
            bfd["remote_state"] == "admin_down",
            "{bfd}; {}",
            frr.vtysh("show bfd peers")?
        );
        Ok(bfd)
    });
    admin?;
    stays(Duration::from_secs(3), || {
        let row = peer_row(&agent)?;
        ensure!(row["state"] == "established", "{row}");
        Ok(())
    })?;
    shutdown("no shutdown")?;
    wait_up(&agent)?;
    agent.wait_established()?;

    // A cut.
    let cut = wire.cut()?;
    let ours = bgp_down(&agent, cut)?;
    let theirs = eventually(PATIENCE, || {
        let session = frr_session(&frr, dut)?;
        ensure!(session["status"] == "down", "{session}");
        Ok(cut.elapsed())
    })?;
    println!("{name}: BGP down {ours:?} after the cut, FRR's BFD within {theirs:?}");
    ensure!(ours < Duration::from_secs(10), "{ours:?}");
    wire.underlay
        .ns()
        .ip(&format!("link set to-peer master {}\n", Underlay::BRIDGE))?;
    wait_up(&agent)?;
    agent.wait_established()?;

    // A clean stop: FRR hears AdminDown.
    agent.stop()?;
    eventually(PATIENCE, || {
        let session = frr_session(&frr, dut)?;
        let ok =
            session["status"] == "down" && session["remote-diagnostic"] == "administratively down";
        ensure!(ok, "{session}");
        Ok(())
    })
}

#[test]
fn frr_single_hop() -> Result<()> {
    with_frr("frr1", "bfd", "bfd = true", false)
}

#[test]
fn frr_multihop() -> Result<()> {
    let neighbor = "ebgp-multihop 5\nupdate-source 198.18.0.2\nbfd";
    with_frr("frrm", neighbor, "multihop = 5\nbfd = true", true)
}

fn with_bird(name: &str, multihop: bool) -> Result<()> {
    let wire = Wire::new(name)?;
    let (dut, peer) = (wire.dut.address(), wire.peer.address());
    let neighbor = match multihop {
        true => format!("neighbor {dut} local {peer} multihop on;"),
        false => format!("neighbor {dut} dev \"{}\" local {peer};", Host::UPLINK),
    };
    let times = "interval 300 ms; multiplier 3; idle tx interval 1 s;";
    let bird = Bird::start(
        &wire.peer,
        &format!(
            "protocol bfd bfd1 {{ interface \"*\" {{ {times} }}; multihop {{ {times} }}; {neighbor} }}\n"
        ),
    )?;
    let agent = wire.agent(ASN, &format!("bfd = {{ multihop = {multihop} }}"))?;
    wait_up(&agent)?;
    let birds_state = |expected: &str| {
        eventually(PATIENCE, || {
            let sessions = bird.birdc("show bfd sessions bfd1")?;
            let line = sessions
                .lines()
                .find(|line| line.contains(&dut.to_string()));
            let Some(line) = line else {
                bail!("BIRD has no session: {sessions}");
            };
            ensure!(line.contains(expected), "{line}");
            Ok(())
        })
    };
    birds_state("Up")?;
    let cut = wire.cut()?;
    wait_bfd(&agent, "down")?;
    println!("{name}: BFD down {:?} after the cut", cut.elapsed());
    birds_state("Down")?;
    wire.underlay
        .ns()
        .ip(&format!("link set to-peer master {}\n", Underlay::BRIDGE))?;
    wait_up(&agent)?;
    birds_state("Up")
}

#[test]
fn bird_single_hop() -> Result<()> {
    with_bird("bird1", false)
}

#[test]
fn bird_multihop() -> Result<()> {
    with_bird("birdm", true)
}

/// 256 sessions at 300 ms come up, and stay up; what the thread costs is printed.
#[test]
fn many_sessions() -> Result<()> {
    const SESSIONS: usize = 256;
    let wire = Wire::new("many")?;
    // BIRD knows one session for each address of ours.
    let pairs: Vec<(Ipv4Addr, Ipv4Addr)> = (0..SESSIONS)
        .map(|n| {
            let n = u32::try_from(n)?;
            let of = |net: u32| Ipv4Addr::from_bits(0xc612_0000 + (net << 8) + n);
            Ok((of(1), of(2)))
        })
        .collect::<Result<_>>()?;
    let add = |address: &Ipv4Addr| format!("addr add {address}/15 dev {}\n", Host::UPLINK);
    let batch: String = pairs.iter().map(|(_, peer)| add(peer)).collect();
    wire.peer.ns().ip(&batch)?;
    let batch: String = pairs.iter().map(|(dut, _)| add(dut)).collect();
    wire.dut.ns().ip(&batch)?;
    let neighbor =
        |(dut, peer): &(Ipv4Addr, Ipv4Addr)| format!("neighbor {dut} local {peer} multihop on;\n");
    let neighbors: String = pairs.iter().map(neighbor).collect();
    let bird = Bird::start(
        &wire.peer,
        &format!(
            "protocol bfd bfd1 {{ multihop {{ interval 300 ms; multiplier 3; }};\n{neighbors} }}\n"
        ),
    )?;
    let config = pairs
        .iter()
        .fold(AgentConfig::new(&wire.dut, ASN), |config, (dut, peer)| {
            let lines = format!("local_address = \"{dut}\"\npassive = true\nbfd = true");
            config.peer_with(*peer, ASN, &lines)
        });
    let mut agent = Agent::start(&wire.dut, &config)?;
    let all_up = |agent: &Agent| {
        let bgp = agent.show("bgp")?;
        let peers = bgp["peers"].as_array().context("no peers")?;
        let down: Vec<_> = peers
            .iter()
            .filter(|peer| peer["bfd"]["state"] != "up")
            .collect();
        ensure!(down.is_empty(), "{} not up: {:?}", down.len(), down.first());
        ensure!(peers.len() == SESSIONS);
        Ok(bgp)
    };
    eventually(PATIENCE, || all_up(&agent))
        .with_context(|| bird.birdc("show bfd sessions bfd1").unwrap_or_default())?;
    // Until the last Poll Sequences are over.
    eventually(PATIENCE, || {
        let bgp = all_up(&agent)?;
        let peers = bgp["peers"].as_array().context("no peers")?;
        ensure!(peers.iter().all(|peer| peer["bfd"]["detection_ms"] == 900));
        Ok(())
    })?;
    let pid = agent.daemon().pid();
    let (start, before) = (Instant::now(), thread_ticks(pid)?);
    stays(Duration::from_secs(10), || all_up(&agent).map(drop))?;
    let ticks = thread_ticks(pid)? - before;
    // USER_HZ is 100 everywhere.
    let share = ticks as f64 / start.elapsed().as_secs_f64();
    println!("{SESSIONS} BFD sessions at 300 ms: the thread takes {share:.1} % of a core");
    Ok(())
}

/// User and system time of the agent's thread `bfd`, in ticks of 10 ms.
fn thread_ticks(pid: u32) -> Result<u64> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        if let Some((_, rest)) = stat.split_once(" (bfd) ") {
            // Fields 14 and 15 of proc(5); the third follows the name.
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let field = |index: usize| -> Result<u64> {
                Ok(fields.get(index).context("a short stat")?.parse()?)
            };
            return Ok(field(11)? + field(12)?);
        }
    }
    bail!("process {pid} has no thread bfd")
}
