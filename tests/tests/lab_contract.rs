//! What the contract promises of one agent, beyond the words of its commands: signals, pins and
//! settings that it leaves behind, limits, and what cannot be saved.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{
    Agent, AgentConfig, CliOutput, Host, Lab, Metrics, Pair, Ping, VmSpec, agent_binary, eventually,
};

const ASN: u32 = Pair::ASN;

fn config(host: &Host) -> AgentConfig {
    AgentConfig::new(host, ASN).bd("blue", 100, &["vnet-*"])
}

fn declare(agent: &Agent, number: u8) -> Result<()> {
    let line =
        format!("port add vnet-vm1 --bd blue --mac 02:00:00:00:01:0{number} --ip 10.0.1.{number}");
    agent.cli(&line)?.done().map(drop)
}

/// An uplink of the file is taken out of service and put back in another mode; reload restores it.
#[test]
fn an_uplink_of_the_file_is_detached_and_attached() -> Result<()> {
    let lab = Lab::new("detach")?;
    let host = lab.underlay()?.host("h1")?;
    let config = config(&host);
    let agent = Agent::start(&host, &config)?;
    for _ in 0..2 {
        agent.cli("detach eth0")?.done()?;
        ensure!(agent.show("uplinks")? == json!([]));
    }
    for (line, mode) in [
        ("attach eth0 --xdp generic", "generic"),
        ("detach eth0", ""),
        ("attach eth0 --xdp off", "off"),
    ] {
        agent.cli(line)?.done()?;
        if !mode.is_empty() {
            agent.row("uplinks", &[("name", json!("eth0")), ("xdp", json!(mode))])?;
        }
    }
    agent.cli("attach eth0 --xdp native")?.failed(1)?;
    agent.reload(&config)?.done()?;
    agent.row("uplinks", &[("xdp", json!("native"))])?;
    Ok(())
}

/// What cannot be saved is an error, although it was done.
#[test]
fn an_object_that_is_not_saved_is_an_error() -> Result<()> {
    let lab = Lab::new("unsaved")?;
    let host = lab.underlay()?.host("h1")?;
    // Nobody makes a directory there.
    let config = config(&host).vtep("state_dir = \"/proc/vtep-agent-state\"");
    let agent = Agent::start(&host, &config)?;
    let message = agent.cli("bd add red --vni 200")?.failed(1)?;
    ensure!(message.contains("/proc/vtep-agent-state"), "{message}");
    agent.row("bds", &[("name", json!("red"))])?;
    let (status, reasons) = Metrics::get(host.ns(), "/readyz")?;
    ensure!(status == 503 && reasons.contains("state.json"), "{reasons}");
    Ok(())
}

/// A full map is seen in `show`, metrics and readiness, and recovers.
#[test]
fn a_full_map_is_seen() -> Result<()> {
    let lab = Lab::new("full")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start_with(&lab, &underlay, |config| config.vtep("max_macs = 4"))?;
    // First, so that it is others' endpoints which find no room.
    for number in 1..=2 {
        let line = format!("port add vnet-vm2 --bd blue --mac 02:00:00:00:02:0{number}");
        pair.a2.cli(&line)?.done()?;
    }
    for number in 1..=4 {
        declare(&pair.a1, number)?;
    }
    // One agent takes no more than fit; what others announce comes on top of that.
    let refusal = declare(&pair.a1, 5).expect_err("a fifth of four endpoints was taken");
    ensure!(
        format!("{refusal:?}").contains("vtep.max_macs"),
        "{refusal:?}"
    );
    pair.a2
        .wait_row("macs", &[("mac", json!("02:00:00:00:01:04"))])?;
    eventually(Duration::from_secs(5), || {
        let counters = pair.a2.show("counters")?;
        ensure!(
            counters["unwritten"]["fdb"].as_u64() >= Some(2),
            "{counters}"
        );
        Ok(())
    })?;
    ensure!(
        pair.a2
            .metrics()?
            .value("vtep_map_pending", &["map=\"fdb\""])?
            >= 2.0
    );
    let (status, reasons) = Metrics::get(pair.h2.ns(), "/readyz")?;
    ensure!(
        status == 503 && reasons.contains("fdb is full"),
        "{reasons}"
    );
    pair.a2.wait_row(
        "routes",
        &[("best", json!(true)), ("installed", json!(false))],
    )?;
    for number in 1..=4 {
        let line = format!("port del vnet-vm1 --mac 02:00:00:00:01:0{number}");
        pair.a1.cli(&line)?.done()?;
    }
    eventually(Duration::from_secs(10), || {
        ensure!(pair.a2.show("counters")?["unwritten"] == json!({}));
        Ok(())
    })
}

/// A MAC is forgotten soon after a short ageing time.
#[test]
fn short_ageing() -> Result<()> {
    let lab = Lab::new("ageing")?;
    let host = lab.underlay()?.host("h1")?;
    let vm1 = host.vm("vm1", &VmSpec::new(1))?;
    let config =
        AgentConfig::new(&host, ASN).bd_with("blue", 100, "ports = [\"vnet-*\"]\nageing = 1");
    let agent = Agent::start(&host, &config)?;
    // Nobody answers; the request is what is learned from.
    let _ = Ping::to("10.0.0.2").count(1).run(vm1.ns());
    agent.wait_row("macs", &[("origin", json!("learned"))])?;
    // A VM that answers the agent's questions would stay.
    vm1.ns()
        .ip("link set eth0 arp off\naddr flush dev eth0\n")?;
    eventually(Duration::from_secs(30), || {
        let macs = agent.show("macs")?;
        ensure!(macs == json!([]), "{macs}");
        Ok(())
    })
}

/// Whenever SIGTERM comes, no pins are left. Before the first instruction of ours it simply kills.
#[test]
fn sigterm_while_starting() -> Result<()> {
    let lab = Lab::new("early")?;
    let host = lab.underlay()?.host("h1")?;
    for delay in [20, 60, 120, 250] {
        let mut agent = Agent::spawn(&host, &config(&host))?;
        thread::sleep(Duration::from_millis(delay));
        let status = agent.stop()?;
        let killed = agent.daemon().log().is_empty() && status.code().is_none();
        ensure!(status.success() || killed, "after {delay} ms: {status}");
        let pins = lab.bpffs().join("h1");
        ensure!(!pins.exists(), "after {delay} ms: {}", pins.display());
    }
    Ok(())
}

/// A clean stop restores a port also when the run before left it forwarding.
#[test]
fn a_clean_stop_after_one_that_kept_forwarding() -> Result<()> {
    let lab = Lab::new("kept")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start(&lab, &underlay)?;
    let ns = pair.h1.ns().clone();
    let ipv6_off = || ns.run("sysctl -n net.ipv6.conf.vnet-vm1.disable_ipv6");
    let keep = pair.config1().vtep("on_stop = \"keep\"");
    pair.a1.reload(&keep)?.done()?;
    ensure!(pair.a1.stop()?.success());
    ensure!(ipv6_off()?.trim() == "1", "the port is still one");
    ensure!(lab.bpffs().join("h1").exists());

    pair.restart_a1()?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    ensure!(pair.a1.stop()?.success());
    ensure!(ipv6_off()?.trim() == "0");
    ensure!(!lab.bpffs().join("h1").exists());
    let managed = ns.run("ip neigh show")?;
    ensure!(!managed.contains("managed"), "{managed}");
    Ok(())
}

/// `clear counters` has `show counters` and `show ports` begin at 0; metrics never go back.
#[test]
fn counters_are_cleared() -> Result<()> {
    let lab = Lab::new("clear")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    let pings = Ping::to("10.0.0.2").count(50);
    let shown = || -> Result<[u64; 4]> {
        let counters = pair.a1.show("counters")?;
        let port = pair.a1.row("ports", &[("name", json!("vnet-vm1"))])?;
        let number = |value: &Value| value.as_u64().context("no number");
        Ok([
            number(&counters["rx"]["packets"])?,
            number(&counters["tx"]["packets"])?,
            number(&port["rx_packets"])?,
            number(&port["tx_packets"])?,
        ])
    };
    let metric = || {
        let labels = ["port=\"vnet-vm1\"", "direction=\"rx\""];
        pair.a1.metrics()?.value("vtep_port_packets_total", &labels)
    };
    pings.all_answered(pair.vm1.ns())?;
    let (before, counted) = (shown()?, metric()?);
    ensure!(before.iter().all(|count| *count >= 50), "{before:?}");
    pair.a1.cli("clear counters")?.done()?;
    let after = shown()?;
    ensure!(after.iter().all(|count| *count < 50), "{after:?}");
    ensure!(metric()? >= counted);
    pings.all_answered(pair.vm1.ns())?;
    let again = shown()?;
    ensure!(again.iter().all(|count| *count >= 50), "{again:?}");
    let message = pair.a1.cli("clear counters --bd blue")?.failed(2)?;
    ensure!(message.contains("leave out"), "{message}");
    Ok(())
}

/// What `reload` cannot change is refused, the place of the control socket too.
#[test]
fn another_socket_needs_a_restart() -> Result<()> {
    let lab = Lab::new("socket")?;
    let host = lab.underlay()?.host("h1")?;
    let config = config(&host).vtep("uplinks = []");
    let agent = Agent::start(&host, &config)?;
    let moved = config.clone().vtep("socket = \"/nowhere/agent.sock\"");
    let message = agent.reload(&moved)?.failed(1)?;
    ensure!(message.contains("vtep.socket"), "{message}");
    agent.reload(&config)?.done()?;
    Ok(())
}

/// Two agents that share nothing else overwrite each other's objects: the second one says so.
#[test]
fn a_shared_state_directory_is_warned_of() -> Result<()> {
    let lab = Lab::new("shared")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let state = format!("state_dir = \"{}/shared\"", lab.directory().display());
    let warned = |agent: &mut Agent| agent.daemon().log().contains("set another state_dir");
    let mut first = Agent::start(&h1, &config(&h1).vtep(&state))?;
    let mut second = Agent::start(&h2, &config(&h2).vtep(&state))?;
    ensure!(!warned(&mut first), "{}", first.daemon().log());
    ensure!(warned(&mut second), "{}", second.daemon().log());
    second.stop()?;
    first.stop()?;
    // Its log goes on where it ended.
    let mut again = Agent::start(&h1, &config(&h1).vtep(&state))?;
    ensure!(!warned(&mut again), "{}", again.daemon().log());
    Ok(())
}

/// Here another speaker has the BGP port.
#[test]
fn a_start_that_is_refused_leaves_nothing() -> Result<()> {
    let lab = Lab::new("refusal")?;
    let host = lab.underlay()?.host("h1")?;
    let _first = Agent::start(&host, &config(&host).vtep("uplinks = []"))?;
    let pins = lab.bpffs().join("second");
    let path = |name: &str| lab.directory().join(name).display().to_string();
    let second = AgentConfig::new(&host, ASN)
        .vtep("uplinks = []")
        .vtep("metrics = \"\"")
        .vtep(&format!("pin_dir = \"{}\"", pins.display()))
        .vtep(&format!("state_dir = \"{}\"", path("second-state")))
        .vtep(&format!("socket = \"{}\"", path("second.sock")));
    let file = lab.directory().join("second.toml");
    fs::write(&file, second.text())?;
    let mut command = host.ns().command(agent_binary()?);
    let output = CliOutput::of(command.args(["run", "--config"]).arg(&file))?;
    ensure!(output.status == Some(1), "{output:?}");
    ensure!(output.stderr.contains("listen = false"), "{output:?}");
    let left = fs::read_dir(&pins).map_or(0, Iterator::count);
    ensure!(left == 0, "{left} pins are left");
    Ok(())
}
