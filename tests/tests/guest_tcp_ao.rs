//! TCP-AO (RFC 5925) between agents. Few kernels have it: `cargo xtask vm --kernel newest` runs these
//! tests on one that does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use vtep_tests::{Agent, AgentConfig, Host, Lab, Namespace, Underlay, eventually};

const AS1: u32 = 65001;
const AS2: u32 = 65002;

/// The guest's processor is emulated.
const SOON: Duration = Duration::from_secs(60);

/// Seconds.
const HOLD: u64 = 6;

struct Peers {
    hosts: [Host; 2],
    agents: [Agent; 2],
    _underlay: Underlay,
    _lab: Lab,
}

impl Peers {
    /// Two external peers, each with its own lines about the other.
    fn start(name: &str, lines: [&str; 2]) -> Result<Self> {
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let hosts = [underlay.host("h1")?, underlay.host("h2")?];
        let [first, second] = configs(&hosts, lines);
        let agents = [
            Agent::start(&hosts[0], &first)?,
            Agent::start(&hosts[1], &second)?,
        ];
        Ok(Self {
            hosts,
            agents,
            _underlay: underlay,
            _lab: lab,
        })
    }

    fn reload(&self, side: usize, lines: &str) -> Result<()> {
        let configs = configs(&self.hosts, [lines, lines]);
        self.agents[side].reload(&configs[side])?.done()?;
        Ok(())
    }

    /// Segments with wrong signatures and with unknown ids, on each side.
    fn dropped(&self) -> Result<Vec<[u64; 2]>> {
        let of = |host: &Host| {
            let counter = |name| counter(host.ns(), name);
            Ok([counter("TCPAOBad")?, counter("TCPAOKeyNotFound")?])
        };
        self.hosts.iter().map(of).collect()
    }

    /// One session, which has been up for so many seconds.
    fn uptime(&self) -> Result<u64> {
        let bgp = self.agents[0].show("bgp")?;
        let uptime = bgp["peers"][0]["uptime_s"].as_u64();
        uptime.with_context(|| format!("not up: {bgp}"))
    }

    /// The session lives on what is exchanged from now on.
    fn outlives_the_hold_time(&self) -> Result<()> {
        let before = self.uptime()?;
        eventually(SOON, || {
            let now = self.uptime()?;
            ensure!(now > before + 2 * HOLD, "up for {now} s, {before} s before");
            Ok(())
        })
    }
}

fn configs(hosts: &[Host; 2], lines: [&str; 2]) -> [AgentConfig; 2] {
    let [first, second] = hosts;
    let lines = lines.map(|lines| format!("{lines}\nhold_time = {HOLD}"));
    [
        AgentConfig::new(first, AS1).peer_with(second.address(), AS2, &lines[0]),
        AgentConfig::new(second, AS2).peer_with(first.address(), AS1, &lines[1]),
    ]
}

/// A counter of the namespace's TCP; those that are zero are there too.
fn counter(ns: &Namespace, name: &str) -> Result<u64> {
    let text = ns.run(&format!("nstat -asz TcpExt{name}"))?;
    let value = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(&format!("TcpExt{name}"))).then(|| words.next())?
    });
    value
        .with_context(|| format!("no {name} in {text}"))?
        .parse()
        .context("not a number")
}

const OLD: &str = "{ send_id = 1, recv_id = 101, key = \"old\" }";
const OLD_THERE: &str = "{ send_id = 101, recv_id = 1, key = \"old\" }";
const NEW: &str = "{ send_id = 2, algorithm = \"aes-128-cmac-96\", key = \"new\" }";

fn keys(keys: &[&str]) -> String {
    format!("tcp_ao = [{}]", keys.join(", "))
}

/// BGP-027 (RFC 5925 §7): another key on both sides, then preferred, then alone, and one session.
#[test]
#[ignore = "needs CONFIG_TCP_AO: cargo xtask vm --kernel newest"]
fn tcp_ao_keys_roll_over() -> Result<()> {
    let peers = Peers::start("aoroll", [&keys(&[OLD]), &keys(&[OLD_THERE])])?;
    eventually(SOON, || peers.uptime())?;
    let up = Instant::now();
    // Those from before the second agent had its keys.
    let dropped = peers.dropped()?;
    for side in &peers.hosts {
        ensure!(counter(side.ns(), "TCPAOGood")? > 0, "not signed");
    }
    let steps = [
        [keys(&[OLD, NEW]), keys(&[OLD_THERE, NEW])],
        [keys(&[NEW, OLD]), keys(&[NEW, OLD_THERE])],
        [keys(&[NEW]), keys(&[NEW])],
    ];
    for step in steps {
        for (side, lines) in step.iter().enumerate() {
            peers.reload(side, lines)?;
        }
        peers.outlives_the_hold_time()?;
        // Seconds are rounded, and asking takes a while.
        let since = up.elapsed().as_secs();
        ensure!(peers.uptime()? + 2 >= since, "another session");
    }
    // Nothing was ever signed with a key that the other side didn't have.
    ensure!(peers.dropped()? == dropped, "from {dropped:?}");
    // The old key is gone for connections to come, too.
    peers.reload(0, &keys(&[OLD]))?;
    eventually(SOON, || {
        let bgp = peers.agents[1].show("bgp")?;
        ensure!(bgp["peers"][0]["state"] != "established", "{bgp}");
        Ok(())
    })?;
    eventually(SOON, || {
        let bgp = peers.agents[1].show("bgp")?;
        let error = bgp["peers"][0]["last_error"].as_str().unwrap_or_default();
        ensure!(error.contains("the ids may differ"), "{bgp}");
        Ok(())
    })
}

/// Another key, and no key: no session, and a hint at the reason.
#[test]
#[ignore = "needs CONFIG_TCP_AO: cargo xtask vm --kernel newest"]
fn tcp_ao_with_a_wrong_key() -> Result<()> {
    let wrong = "tcp_ao = [{ send_id = 101, recv_id = 1, key = \"wrong\" }]";
    for (theirs, hint) in [
        (wrong, "the keys may differ"),
        ("", "the peer may have no key"),
    ] {
        let peers = Peers::start("aowrong", [&keys(&[OLD]), theirs])?;
        eventually(SOON, || {
            let bgp = peers.agents[0].show("bgp")?;
            let error = bgp["peers"][0]["last_error"].as_str().unwrap_or_default();
            ensure!(error.contains(hint), "{bgp}");
            Ok(())
        })?;
        ensure!(peers.uptime().is_err(), "up with {theirs:?}");
    }
    Ok(())
}

/// A prefix has keys for whoever connects from it, with each algorithm; they change under way.
#[test]
#[ignore = "needs CONFIG_TCP_AO: cargo xtask vm --kernel newest"]
fn tcp_ao_of_a_prefix() -> Result<()> {
    for algorithm in ["hmac-sha-1-96", "aes-128-cmac-96", "hmac-sha-256-128"] {
        let key = format!("{{ send_id = 7, algorithm = \"{algorithm}\", key = \"s3cret\" }}");
        let lab = Lab::new("aoprefix")?;
        let underlay = lab.underlay()?;
        let hosts = [underlay.host("h1")?, underlay.host("h2")?];
        let [_, second] = configs(&hosts, ["", &keys(&[&key])]);
        let range = |lines: &str| {
            AgentConfig::new(&hosts[0], AS1).tables(&format!(
                "[bgp.group.g]\nasn = \"external\"\n{lines}\n[[bgp.dynamic]]\n\
                 prefix = \"198.18.0.0/24\"\ngroup = \"g\""
            ))
        };
        let first = Agent::start(&hosts[0], &range(&keys(&[&key])))?;
        let second = Agent::start(&hosts[1], &second)?;
        second.wait_established()?;
        ensure!(
            counter(hosts[0].ns(), "TCPAOGood")? > 0,
            "not signed with {algorithm}"
        );
        let more = keys(&[&key, "{ send_id = 8, key = \"more\" }"]);
        first.reload(&range(&more))?.done()?;
        let [_, config] = configs(&hosts, ["", &more]);
        second.reload(&config)?.done()?;
        eventually(SOON, || {
            let bgp = first.show("bgp")?;
            let uptime = bgp["peers"][0]["uptime_s"].as_u64();
            ensure!(uptime.is_some_and(|uptime| uptime > 2 * HOLD), "{bgp}");
            Ok(())
        })?;
        ensure!(counter(hosts[0].ns(), "TCPAOBad")? == 0, "wrong signatures");
    }
    Ok(())
}
