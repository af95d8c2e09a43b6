//! What a running agent may do, thread by thread, and that it is enough.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{Agent, AgentConfig, Lab, Pair, Ping, VmSpec, eventually};

/// A loaded machine needs time.
const PATIENCE: Duration = Duration::from_secs(60);

/// CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF (linux/capability.h).
const NEEDED: u64 = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// Every thread has these five capabilities and can get no other, and with them the agent attaches
/// to new ports and uplinks, reloads, and takes over what an agent before it left.
#[test]
fn five_capabilities_are_enough() -> Result<()> {
    let lab = Lab::new("privileges")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start_with(&lab, &underlay, |config| config.vtep("on_stop = \"keep\""))?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    has_given_up(&mut pair.a1)?;
    pair.a1
        .daemon()
        .wait_for_log("privileges given up", PATIENCE)?;

    // A port that comes, by command and by glob; an uplink that goes and comes back.
    let h1 = pair.h1.clone();
    let late = h1.vm("late", &VmSpec::new(3))?;
    Ping::to("10.0.0.2").until_answered(late.ns())?;
    pair.a1.cli("bd add red --vni 200")?.done()?;
    pair.a1.cli("detach eth0")?.done()?;
    pair.a1.cli("attach eth0")?.done()?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    // Everything again, without XDP: this makes a vxlan device.
    let config = pair.config1().vtep("xdp = \"off\"");
    pair.a1.reload(&config)?.done()?;
    pair.a1
        .wait_row("uplinks", &[("name", json!("eth0")), ("xdp", json!("off"))])?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;

    // The next one finds what this one left, after a crash and after a stop.
    for crash in [true, false] {
        match crash {
            true => pair.a1.daemon().kill()?,
            false => drop(pair.a1.stop()?),
        }
        pair.restart_a1()?;
        has_given_up(&mut pair.a1)?;
        Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
        eventually(PATIENCE, || {
            let status = pair.a1.show("status")?;
            ensure!(status["ready"] == true, "{status}");
            Ok(())
        })?;
        let log = pair.a1.daemon().log();
        ensure!(!log.contains("not permitted"), "{log}");
    }
    Ok(())
}

/// BGP-025: keys for sockets of later. A peer with a password comes by `reload`, goes, and comes back;
/// once it connects to us, so that the key of the listening socket counts, and once we connect to it.
#[test]
fn md5_keys_after_the_start() -> Result<()> {
    let lab = Lab::new("keys")?;
    let underlay = lab.underlay()?;
    let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
    for passive in [true, false] {
        let lines = |passive| format!("password = \"s3cret\"\npassive = {passive}");
        let there = AgentConfig::new(&peer, Pair::ASN).peer_with(
            dut.address(),
            Pair::ASN,
            &lines(!passive),
        );
        let _there = Agent::start(&peer, &there)?;
        let alone = AgentConfig::new(&dut, Pair::ASN);
        let both = alone
            .clone()
            .peer_with(peer.address(), Pair::ASN, &lines(passive));
        let mut agent = Agent::start(&dut, &alone)?;
        has_given_up(&mut agent)?;
        for _ in 0..2 {
            agent.reload(&both)?.done()?;
            eventually(PATIENCE, || {
                let row = agent.show("bgp")?["peers"][0].clone();
                ensure!(row["state"] == "established", "passive {passive}: {row}");
                Ok(())
            })?;
            agent.reload(&alone)?.done()?;
            eventually(PATIENCE, || {
                let bgp = agent.show("bgp")?;
                let peers = bgp["peers"].as_array();
                ensure!(peers.is_some_and(Vec::is_empty), "{bgp}");
                Ok(())
            })?;
        }
        let log = agent.daemon().log();
        ensure!(!log.contains("not permitted"), "{log}");
    }
    Ok(())
}

fn has_given_up(agent: &mut Agent) -> Result<()> {
    let tasks = format!("/proc/{}/task", agent.daemon().pid());
    let mut threads = BTreeSet::new();
    for task in fs::read_dir(&tasks)? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).with_context(|| format!("no {name}"))
        };
        for (set, wanted) in [
            ("CapEff:", NEEDED),
            ("CapPrm:", NEEDED),
            ("CapBnd:", NEEDED),
            ("CapInh:", 0),
            ("CapAmb:", 0),
        ] {
            let found = u64::from_str_radix(field(set)?, 16)?;
            ensure!(found == wanted, "{set} {found:x}, not {wanted:x}: {status}");
        }
        ensure!(field("NoNewPrivs:")? == "1", "{status}");
        threads.insert(field("Name:")?.to_owned());
    }
    println!("{threads:?}");
    ensure!(threads.len() >= 3, "not all threads: {threads:?}");
    Ok(())
}
