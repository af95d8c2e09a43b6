//! The command line: what is refused, with which words and exit status, and what is idempotent.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, CliOutput, Host, Lab, Namespace, Pair, Ping, VmSpec, agent_binary,
    eventually,
};

const ASN: u32 = Pair::ASN;

/// Runs `check` on a configuration file.
fn check(lab: &Lab, text: &str) -> Result<CliOutput> {
    let file = lab.directory().join("check.toml");
    fs::write(&file, text)?;
    let mut command = Command::new(agent_binary()?);
    CliOutput::of(command.args(["check", "--config"]).arg(&file))
}

/// An agent on a host without peers, and without uplinks: those of the file cannot be detached.
fn alone(lab: &Lab) -> Result<(Host, Agent)> {
    let host = lab.underlay()?.host("h1")?;
    let config = AgentConfig::new(&host, ASN)
        .vtep("uplinks = []")
        .bd("blue", 100, &["vnet-vm1"]);
    let agent = Agent::start(&host, &config)?;
    Ok((host, agent))
}

/// Nothing of vtep on any device.
fn nothing_attached(ns: &Namespace) -> Result<()> {
    let attached = ns.attached()?;
    ensure!(attached == "[] []", "{attached}");
    Ok(())
}

/// The message must name every one of these.
fn names(message: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(message.contains(word), "no {word:?} in: {message}");
    }
    Ok(())
}

#[test]
fn a_good_configuration_is_explained() -> Result<()> {
    let lab = Lab::new("check")?;
    let host = lab.underlay()?.host("h1")?;
    let config = AgentConfig::new(&host, ASN).bd("blue", 100, &["vnet-*"]);
    let stdout = check(&lab, &config.text())?.done()?;
    names(&stdout, &["blue", "100"])
}

/// Every mistake is one line with the place of it, status 1, and nothing happens.
#[test]
fn mistakes_in_the_configuration_are_named() -> Result<()> {
    let lab = Lab::new("mistakes")?;
    let host = lab.underlay()?.host("h1")?;
    let base = AgentConfig::new(&host, ASN);
    let cases: [(AgentConfig, &[&str]); 8] = [
        (base.clone().vtep("no_such_key = 1"), &["no_such_key", ":"]),
        (base.clone().bgp("no_such_key = 1"), &["no_such_key"]),
        (base.clone().bd("blue", 0, &[]), &["vni"]),
        (base.clone().bd("blue", 16_777_216, &[]), &["vni"]),
        (
            base.clone().bd("blue", 100, &[]).bd("red", 100, &[]),
            &["100", "blue"],
        ),
        (
            base.clone().bd("blue", 100, &[]).bd("blue", 200, &[]),
            &["blue"],
        ),
        (base.clone().vtep("xdp = \"fast\""), &["fast"]),
        (base.clone().vtep("address = \"2001:db8::1\""), &["IPv6"]),
    ];
    for (config, words) in cases {
        let message = check(&lab, &config.text())?.failed(1)?;
        let lower = message.to_lowercase();
        let found = words
            .iter()
            .all(|word| lower.contains(&word.to_lowercase()));
        ensure!(found, "no {words:?} in: {message}");
        // The daemon says the same and does not start.
        let mut agent = Agent::spawn(&host, &config)?;
        let status = agent.daemon().wait(Duration::from_secs(10))?;
        ensure!(
            status.and_then(|status| status.code()) == Some(1),
            "{status:?}"
        );
        nothing_attached(host.ns())?;
    }
    Ok(())
}

/// What is no text, and what has no end, is refused like any other mistake.
#[test]
fn files_that_are_no_configuration_are_refused() -> Result<()> {
    let lab = Lab::new("files")?;
    let file = lab.directory().join("latin1.toml");
    fs::write(&file, b"[vtep]\naddress = \"198.18.0.1\" # \xfc\n")?;
    for (path, words) in [
        (file.as_path(), ["latin1.toml:2:26", "UTF-8"]),
        (Path::new("/dev/zero"), ["/dev/zero", "more than"]),
    ] {
        let mut command = Command::new(agent_binary()?);
        let output = CliOutput::of(command.args(["check", "--config"]).arg(path))?;
        names(&output.failed(1)?, &words)?;
    }
    let peer = "[[bgp.peer]]\naddress = \"198.18.0.2\"\nasn = 1\npassword_file = \"/dev/zero\"\n";
    let text = format!("[vtep]\naddress = \"198.18.0.1\"\n[bgp]\nasn = 1\n{peer}");
    names(&check(&lab, &text)?.failed(1)?, &["8:17", "/dev/zero"])
}

/// An unknown key's line and column are those of the file.
#[test]
fn an_unknown_key_has_a_place() -> Result<()> {
    let lab = Lab::new("place")?;
    let text = "[vtep]\naddress = \"198.18.0.1\"\n  colour = \"blue\"\n[bgp]\nasn = 65000\n";
    let message = check(&lab, text)?.failed(1)?;
    names(&message, &["check.toml", "colour", "3"])
}

#[test]
fn a_vtep_address_must_be_local() -> Result<()> {
    let lab = Lab::new("address")?;
    let host = lab.underlay()?.host("h1")?;
    let config = AgentConfig::new(&host, ASN).vtep("address = \"192.0.2.77\"");
    let mut agent = Agent::spawn(&host, &config)?;
    let status = agent.daemon().wait(Duration::from_secs(10))?;
    ensure!(
        status.and_then(|status| status.code()) == Some(1),
        "{status:?}"
    );
    names(&agent.daemon().log(), &["192.0.2.77"])?;
    nothing_attached(host.ns())
}

/// Without privileges: one line, status 1.
#[test]
fn privileges_are_asked_for() -> Result<()> {
    let lab = Lab::new("privileges")?;
    let host = lab.underlay()?.host("h1")?;
    let file = lab.directory().join("vtep.toml");
    // Paths that everybody may write to: the only thing missing is the privilege.
    let open = lab.directory().join("open");
    fs::create_dir(&open)?;
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let config = AgentConfig::new(&host, ASN)
        .vtep(&format!("socket = \"{}/s\"", open.display()))
        .vtep(&format!("state_dir = \"{}/state\"", open.display()));
    fs::write(&file, config.text())?;
    let binary = open.join("vtep-agent");
    fs::copy(agent_binary()?, &binary)?;
    // As `nobody`, once inside the namespace: entering it takes root.
    let mut command = host.ns().command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .args(["run", "--config"])
        .arg(&file);
    let message = CliOutput::of(&mut command)?.failed(1)?;
    ensure!(
        message.contains("root") || message.contains("CAP_") || message.contains("privilege"),
        "{message}"
    );
    nothing_attached(host.ns())
}

/// Without an agent: one line that names the socket, status 1.
#[test]
fn commands_without_an_agent_fail() -> Result<()> {
    let lab = Lab::new("nobody")?;
    let socket = lab.directory().join("none.sock");
    for line in [
        "show macs",
        "bd add blue --vni 100",
        "attach eth0",
        "reload",
    ] {
        let mut command = Command::new(agent_binary()?);
        command.args(line.split(' ')).arg("--socket").arg(&socket);
        names(&CliOutput::of(&mut command)?.failed(1)?, &["none.sock"])?;
    }
    Ok(())
}

#[test]
fn usage_errors_have_status_two() -> Result<()> {
    for line in [
        "",
        "no-such-command",
        "show nonsense",
        "bd add",
        "bd add blue",
        "port add x",
    ] {
        let mut command = Command::new(agent_binary()?);
        let output = CliOutput::of(command.args(line.split_whitespace()))?;
        ensure!(output.status == Some(2), "{line}: {output:?}");
        ensure!(!output.stderr.is_empty(), "{line}: {output:?}");
    }
    for line in [
        "--help",
        "run --help",
        "show --help",
        "bd add --help",
        "port add --help",
        "replay --help",
    ] {
        let mut command = Command::new(agent_binary()?);
        let output = CliOutput::of(command.args(line.split_whitespace()))?;
        names(&output.done()?, &["Usage"])?;
    }
    Ok(())
}

/// What cannot be done is refused in one line, with status 1, and nothing is half done.
#[test]
fn impossible_requests_are_refused() -> Result<()> {
    let lab = Lab::new("refused")?;
    let (_host, agent) = alone(&lab)?;
    let before = [
        agent.show("bds")?,
        agent.show("ports")?,
        agent.show("uplinks")?,
    ];
    for (line, words) in [
        ("attach no-such-nic", ["no-such-nic", ""]),
        ("port add vnet-x --bd no-such-bd", ["no-such-bd", ""]),
        ("bd add red --vni 100", ["100", "blue"]),
        (
            "bd add blue --vni 200",
            ["blue has VNI 100", "change it there"],
        ),
        (
            "port add vnet-x --bd blue --mac 02:00:00:00:00:01 --ip ::ffff:10.0.0.1",
            ["10.0.0.1", ""],
        ),
        (
            "port add vnet-x --bd blue --ip 10.0.0.1 --mac 01:00:5e:00:00:01",
            ["01:00:5e:00:00:01", ""],
        ),
    ] {
        let output = agent.cli(line)?;
        // A value that clap refuses is a matter of usage.
        let status = if output.status == Some(2) { 2 } else { 1 };
        if status == 1 {
            names(&output.failed(1)?, &words)?;
        } else {
            names(&output.stderr, &words)?;
        }
    }
    // The largest that the header has room for.
    agent.cli("bd add last --vni 16777215")?.done()?;
    agent.cli("bd del last")?.done()?;
    for wrong in ["0", "16777216", "blue"] {
        let output = agent.cli(&format!("bd add red --vni {wrong}"))?;
        ensure!(matches!(output.status, Some(1 | 2)), "{output:?}");
        ensure!(output.stderr.contains(wrong), "{output:?}");
    }
    let after = [
        agent.show("bds")?,
        agent.show("ports")?,
        agent.show("uplinks")?,
    ];
    ensure!(after == before, "before: {before:?}\nafter: {after:?}");
    Ok(())
}

/// Doing what is done already is done.
#[test]
fn commands_are_idempotent() -> Result<()> {
    let lab = Lab::new("idempotent")?;
    let (host, agent) = alone(&lab)?;
    let _vm1 = host.vm("vm1", &VmSpec::new(1))?;
    let _y = host.vm("y", &VmSpec::new(9).silent())?;
    for line in [
        "attach eth0",
        "bd add red --vni 200",
        "port add vnet-x --bd red",
        "port add vnet-y --bd red --mac 02:00:00:00:00:09 --ip 10.0.0.9",
        "port add vnet-y --bd red --mac 02:00:00:00:00:0a --ip 10.0.0.10",
    ] {
        for _ in 0..2 {
            agent.cli(line)?.done()?;
        }
    }
    for mac in ["02:00:00:00:00:09", "02:00:00:00:00:0a"] {
        agent.wait_row(
            "macs",
            &[("mac", json!(mac)), ("origin", json!("declared"))],
        )?;
    }
    for line in [
        "port del vnet-y --mac 02:00:00:00:00:0a",
        "port del vnet-y",
        "port del vnet-x",
        "bd del red",
        "detach eth0",
    ] {
        for _ in 0..2 {
            agent.cli(line)?.done()?;
        }
    }
    ensure!(agent.row("macs", &[("bd", json!("red"))]).is_err());
    ensure!(agent.row("bds", &[("name", json!("red"))]).is_err());
    Ok(())
}

/// Objects of the command line survive a restart; those of the file win over them.
#[test]
fn objects_survive_a_restart() -> Result<()> {
    let lab = Lab::new("survive")?;
    let (host, mut agent) = alone(&lab)?;
    let red = "bd add red --vni 200 --set flood=none --set duplicate={action=\"freeze\"}";
    agent.cli(red)?.done()?;
    agent
        .cli("port add vnet-r --bd red --mac 02:00:00:00:00:09 --ip 10.0.0.9")?
        .done()?;
    ensure!(agent.stop()?.success());
    let config = AgentConfig::new(&host, ASN).bd("blue", 100, &["vnet-vm1"]);
    let agent = Agent::start(&host, &config)?;
    agent.wait_row("bds", &[("name", json!("red")), ("vni", json!(200))])?;
    agent.wait_row(
        "ports",
        &[("name", json!("vnet-r")), ("state", json!("waiting"))],
    )?;
    // With everything that was set.
    agent.cli(red)?.done()?;
    let error = agent.cli("bd add red --vni 200")?.failed(1)?;
    names(&error, &["red", "other settings"])
}

/// `reload` applies the difference: what stays keeps forwarding, and what the command line made is
/// not touched. A file with a mistake changes nothing.
#[test]
fn reload_applies_the_difference() -> Result<()> {
    let lab = Lab::new("reload")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    pair.a1.cli("bd add made --vni 300")?.done()?;

    let more = pair.config1().bd("red", 200, &["vnet-r*"]);
    pair.a1.reload(&more)?.done()?;
    pair.a1
        .wait_row("bds", &[("name", json!("red")), ("vni", json!(200))])?;
    pair.a1.row("bds", &[("name", json!("made"))])?;
    Ping::to("10.0.0.2").count(20).all_answered(pair.vm1.ns())?;

    let message = pair
        .a1
        .reload(&more.clone().vtep("no_such_key = 1"))?
        .failed(1)?;
    names(&message, &["no_such_key"])?;
    pair.a1.row("bds", &[("name", json!("red"))])?;
    Ping::to("10.0.0.2").count(20).all_answered(pair.vm1.ns())?;

    pair.a1.reload(&pair.config1())?.done()?;
    eventually(Duration::from_secs(10), || {
        ensure!(pair.a1.row("bds", &[("name", json!("red"))]).is_err());
        Ok(())
    })?;
    pair.a1.row("bds", &[("name", json!("made"))])?;
    Ping::to("10.0.0.2").count(20).all_answered(pair.vm1.ns())
}

/// An uplink that does not exist yet is waited for, with a warning.
#[test]
fn a_missing_uplink_is_waited_for() -> Result<()> {
    let lab = Lab::new("uplink")?;
    let underlay = lab.underlay()?;
    let host = underlay.host("h1")?;
    let config = AgentConfig::new(&host, ASN).vtep("uplinks = [\"eth0\", \"eth1\"]");
    let mut agent = Agent::start(&host, &config)?;
    agent.row(
        "uplinks",
        &[("name", json!("eth1")), ("state", json!("waiting"))],
    )?;
    names(&agent.daemon().log(), &["eth1"])?;
    underlay.link(&host, "eth1", "to-h1-2")?;
    agent.wait_row(
        "uplinks",
        &[("name", json!("eth1")), ("state", json!("up"))],
    )?;
    Ok(())
}

/// Tables for people, JSON for programs: both have what was asked for.
#[test]
fn show_prints_tables_and_json() -> Result<()> {
    let lab = Lab::new("show")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    pair.a1
        .wait_row("neighbors", &[("ip", json!("10.0.0.2"))])?;
    for (table, word) in [
        ("bgp", "198.18.0.2"),
        ("routes", "[3]:[0]:[32]:[198.18.0.2]"),
        ("bds", "blue"),
        ("ports", "vnet-vm1"),
        ("macs", "02:00:00:00:00:02"),
        ("neighbors", "10.0.0.2"),
        ("vteps", "198.18.0.2"),
        ("flood", "198.18.0.2"),
        ("counters", "suppressed"),
        ("uplinks", "eth0"),
    ] {
        names(&pair.a1.cli(&format!("show {table}"))?.done()?, &[word])?;
        names(&pair.a1.show(table)?.to_string(), &[word])?;
    }
    // Keys as FRR prints them.
    pair.a1.wait_row(
        "routes",
        &[
            ("type", json!(2)),
            (
                "key",
                json!("[2]:[0]:[48]:[02:00:00:00:00:02]:[32]:[10.0.0.2]"),
            ),
            ("next_hop", json!("198.18.0.2")),
            ("best", json!(true)),
            ("installed", json!(true)),
        ],
    )?;
    // Only the rows of one bridge domain.
    let blue = pair.a1.show("macs --bd blue")?;
    ensure!(
        blue.as_array().is_some_and(|rows| !rows.is_empty()),
        "{blue}"
    );
    Ok(())
}
