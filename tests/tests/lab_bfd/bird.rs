//! BIRD's BFD, single hop and multihop, and with many sessions.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use vtep_tests::{Agent, AgentConfig, Bird, Host, eventually, stays};

use crate::{ASN, PATIENCE, Wire, wait_bfd, wait_up};

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
    wire.mend()?;
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
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
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
