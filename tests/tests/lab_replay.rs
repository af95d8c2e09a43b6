//! What an agent did on a host is done again from its recording: the same to the bit.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{
    Agent, AgentConfig, CliOutput, Lab, PacketSocket, Pair, Ping, Vm, VmSpec, agent_binary,
    eventually, test_frame, wait_flood,
};

const PASSWORD: &str = "not-for-everybodys-eyes";

const TABLES: [&str; 7] = [
    "macs",
    "routes",
    "neighbors",
    "bds",
    "vteps",
    "flood",
    "uplinks",
];

/// Start, learning, a move, a peer that is lost and comes back, a reload, commands, a crash; then the
/// next agent takes over, and stops in good order.
#[test]
fn an_agents_life_is_replayed() -> Result<()> {
    let lab = Lab::new("replay")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vms = [
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    ];
    // Both are behind ports of the first host.
    let other = h1.vm("other", &VmSpec::new(3))?;
    let adjust = |config: AgentConfig| {
        let secret = format!(
            "[bgp.group.secret]\nasn = 65000\npassword = \"{PASSWORD}\"\n\
             [[bgp.dynamic]]\nprefix = \"198.18.99.0/24\"\ngroup = \"secret\""
        );
        config.vtep("on_stop = \"keep\"").tables(&secret).recorded()
    };
    let mut pair = Pair::join(&lab, [h1, h2], vms, adjust)?;
    let recording = pair.config1().recording();

    // Learning, and a MAC that moves here, there and back.
    pings(&pair)?;
    let moving = [2, 0, 0, 0, 0, 0x77];
    for (vm, field, place) in [
        (&pair.vm1, "port", json!(pair.vm1.port())),
        (&pair.vm2, "vtep", json!(pair.h2.address())),
        (&other, "port", json!(other.port())),
    ] {
        PacketSocket::open(vm.ns(), Vm::NIC)?.send(&test_frame([0xff; 6], moving))?;
        let fields = [("mac", json!("02:00:00:00:00:77")), (field, place)];
        pair.a1.wait_row("macs", &fields)?;
    }
    // The peer is lost, and comes back.
    pair.a2.daemon().kill()?;
    let config2 = AgentConfig::new(&pair.h2, Pair::ASN)
        .peer(pair.h1.address(), Pair::ASN)
        .bd("blue", 100, &["vnet-*"]);
    pair.a2 = Agent::start(&pair.h2, &config2)?;
    pair.a1.wait_established()?;
    pings(&pair)?;
    // A reload, and commands, one of which is refused.
    let config = pair.config1().bd("green", 300, &["eth7"]);
    pair.a1.reload(&config)?.done()?;
    pair.a1.cli("bd add red --vni 200")?.done()?;
    pair.a1.cli("bd add pink --vni 200")?.failed(1)?;
    pair.a1
        .cli("port add vnet9 --bd red --mac 02:00:00:00:00:99 --ip 10.9.9.9")?
        .done()?;
    wait_flood(&pair.a1, "blue", 1)?;

    same(&recording, &pair.a1)?;
    pair.a1.daemon().kill()?;
    let summary = replayed(&recording)?;
    let end = summary["end"].as_str().context("no end")?;
    ensure!(end.starts_with("cut off"), "{summary}");
    for kind in ["peer", "link", "paths", "event", "command"] {
        ensure!(
            summary["inputs"][kind].as_u64() > Some(0),
            "{kind}: {summary}"
        );
    }
    let mode = fs::metadata(&recording)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let content = fs::read(&recording)?;
    let has = |text: &str| {
        content
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    ensure!(has("blue") && !has(PASSWORD), "the password is in the file");

    // The next run: what the first one left in the maps is part of its recording.
    pair.a1 = Agent::start(&pair.h1, &config)?;
    pair.a1.wait_established()?;
    pings(&pair)?;
    same(&recording, &pair.a1)?;
    ensure!(pair.a1.stop()?.success(), "it failed");
    let summary = replayed(&recording)?;
    ensure!(summary["end"] == "the agent stopped", "{summary}");
    ensure!(summary["inputs"]["recovered"] == 1, "{summary}");
    // The one before is kept.
    let earlier = recording.with_extension("1");
    ensure!(
        replayed(&earlier)?["end"].as_str() == Some(end),
        "{earlier:?}"
    );

    // Turn by turn, and up to one.
    let lines = run(&earlier, &["--turns", "--until", "20"])?.done()?;
    for (number, line) in lines.lines().enumerate() {
        let turn: Value = serde_json::from_str(line)?;
        ensure!(turn["turn"] == number, "{turn}");
        ensure!(turn["found"] == turn["expected"], "{turn}");
    }
    ensure!(lines.lines().count() == 21, "{}", lines.lines().count());
    let message = run(&earlier, &["--show", "counters"])?.failed(1)?;
    ensure!(message.contains("no counters"), "{message}");
    damage(&earlier)
}

/// Damaged, cut off, foreign: each by its name.
fn damage(recording: &Path) -> Result<()> {
    let whole = fs::read(recording)?;
    let other = recording.with_file_name("damaged");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&other, &damaged)?;
    let message = run(&other, &[])?.failed(1)?;
    ensure!(message.contains("damaged after"), "{message}");
    fs::write(&other, &whole[..middle])?;
    ensure!(
        replayed(&other)?["end"]
            .as_str()
            .is_some_and(|end| end.starts_with("cut off")),
        "it is cut off"
    );
    fs::write(&other, "[vtep]\n")?;
    let message = run(&other, &[])?.failed(1)?;
    ensure!(message.contains("is no recording"), "{message}");
    Ok(())
}

fn pings(pair: &Pair) -> Result<()> {
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    Ping::to("fd00::1").until_answered(pair.vm2.ns())
}

/// Runs `replay` where there is nothing of the lab.
fn run(recording: &Path, arguments: &[&str]) -> Result<CliOutput> {
    let mut command = Command::new(agent_binary()?);
    command.arg("replay").arg(recording).args(arguments);
    CliOutput::of(&mut command)
}

/// The summary of a recording in which nothing differs.
fn replayed(recording: &Path) -> Result<Value> {
    let text = run(recording, &["--json"])?.done()?;
    let summary: Value = serde_json::from_str(&text)?;
    ensure!(summary["difference"].is_null(), "{summary}");
    Ok(summary)
}

/// What has been recorded so far leads to the tables that the agent shows, but for what is not the
/// core's; as soon as nothing happens between the two.
fn same(recording: &Path, agent: &Agent) -> Result<()> {
    eventually(Duration::from_secs(60), || {
        for table in TABLES {
            let shown = comparable(agent.show(table)?);
            let text = run(recording, &["--show", table, "--json"])?.done()?;
            let replayed = comparable(serde_json::from_str(&text)?);
            ensure!(shown == replayed, "{table}: {shown}\nnot {replayed}");
        }
        Ok(())
    })
}

fn comparable(mut table: Value) -> Value {
    for row in table.as_array_mut().into_iter().flatten() {
        if let Some(row) = row.as_object_mut() {
            row.retain(|key, _| !["age_s", "lease_s", "xdp", "state"].contains(&key.as_str()));
        }
    }
    table
}
