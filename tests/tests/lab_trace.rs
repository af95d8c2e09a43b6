//! `trace`: what becomes of frames between two agents, as it happens.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vtep_tests::{
    Agent, Daemon, Lab, PacketSocket, Pair, Ping, Vm, agent_binary, eventually, test_frame,
    wait_flood,
};

/// A loaded machine needs time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `trace --json` that is running.
struct Tracing(Daemon);

impl Tracing {
    fn start(lab: &Lab, agent: &Agent, name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = agent.host().ns().command(agent_binary()?);
        command.args(["trace", "--json"]).args(arguments);
        command.arg("--socket").arg(agent.socket());
        Ok(Self(Daemon::spawn(lab, name, command)?))
    }

    fn frames(&self) -> Vec<Value> {
        let log = self.0.log();
        // The last line may not be complete.
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Does something until a frame with these fields is told of.
    fn wait(
        &self,
        fields: &[(&str, &str)],
        mut cause: impl FnMut() -> Result<()>,
    ) -> Result<Value> {
        eventually(PATIENCE, || {
            cause()?;
            let is = |frame: &Value| fields.iter().all(|(name, value)| frame[name] == *value);
            let frames = self.frames();
            let found = frames.iter().find(|frame| is(frame)).cloned();
            found.with_context(|| format!("no {fields:?} in {frames:?}"))
        })
    }
}

/// Both directions of a ping with their lookups, a drop with its reason, filters, one listener at a
/// time, and no trace of it when the listener is gone.
#[test]
fn frames_are_followed() -> Result<()> {
    let lab = Lab::new("trace")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    wait_flood(&pair.a1, "blue", 1)?;
    pair.pings()?;
    let ping = || Ping::to("10.0.0.2").until_answered(pair.vm1.ns());

    let mac = ["--mac", pair.vm2.mac()];
    let mut all = Tracing::start(&lab, &pair.a1, "trace-all", &mac)?;
    let out = all.wait(
        &[
            ("program", "access_tc"),
            ("verdict", "forwarded"),
            ("path", "tx_unicast"),
        ],
        ping,
    )?;
    for (field, value) in [
        ("port", "vnet-vm1"),
        ("device", "vnet-vm1"),
        ("bd", "blue"),
        ("destination", pair.vm2.mac()),
        ("lookup", "vtep"),
        ("target", "198.18.0.2"),
        ("ethertype", "0x0800"),
    ] {
        ensure!(out[field] == value, "{field}: {out}");
    }
    ensure!(out["vni"] == 100 && out["reason"].is_null(), "{out}");
    let back = [("source", pair.vm2.mac()), ("verdict", "forwarded")];
    let back = all.wait(&back, ping)?;
    for (field, value) in [
        ("device", "eth0"),
        ("bd", "blue"),
        ("lookup", "port"),
        ("target", "vnet-vm1"),
    ] {
        ensure!(back[field] == value, "{field}: {back}");
    }
    let path = back["path"].as_str().unwrap_or_default();
    ensure!(path.starts_with("rx_"), "{back}");

    let message = pair.a1.cli("trace --count 1")?.failed(1)?;
    ensure!(message.contains("another trace is running"), "{message}");
    all.0.terminate()?;

    // As soon as it is noticed that nobody listens.
    let drops = ["--drops", "--port", "vnet-vm1", "--count", "2"];
    let mut drops = eventually(PATIENCE, || {
        let mut drops = Tracing::start(&lab, &pair.a1, "trace-drops", &drops)?;
        let ended = drops.0.wait(Duration::from_millis(500))?;
        ensure!(ended.is_none(), "{}", drops.0.log());
        Ok(drops)
    })?;
    let socket = PacketSocket::open(pair.vm1.ns(), Vm::NIC)?;
    let vm1 = [2, 0, 0, 0, 0, 1];
    let dropped = drops.wait(&[("verdict", "dropped")], || {
        ping()?;
        socket.send(&test_frame(vm1, vm1))
    })?;
    ensure!(
        dropped["reason"] == "source_is_destination" && dropped["path"].is_null(),
        "{dropped}"
    );
    eventually(PATIENCE, || {
        socket.send(&test_frame(vm1, vm1))?;
        ensure!(drops.0.exit_status()?.is_some(), "it goes on");
        Ok(())
    })?;
    let frames = drops.frames();
    let only = |frame: &Value| frame["verdict"] == "dropped";
    ensure!(frames.len() == 2 && frames.iter().all(only), "{frames:?}");

    for (line, expected) in [
        ("trace --bd green", "green"),
        ("trace --port nothing0", "no port"),
    ] {
        let message = eventually(PATIENCE, || {
            let message = pair.a1.cli(line)?.failed(1)?;
            ensure!(!message.contains("another trace"), "{message}");
            Ok(message)
        })?;
        ensure!(message.contains(expected), "{message}");
    }
    // For people; the ping is long enough for a few.
    let traffic = Ping::to("10.0.0.2").start(&lab, pair.vm1.ns(), Duration::from_millis(10))?;
    let text = pair
        .a1
        .cli("trace --bd blue --rate 1000 --count 20")?
        .done()?;
    traffic.all_answered()?;
    ensure!(text.lines().count() == 20, "{text}");
    let line = "blue 02:00:00:00:00:01 > 02:00:00:00:00:02 0x0800 98 bytes: forwarded tx_unicast; \
                vtep 198.18.0.2";
    ensure!(text.contains(line), "{text}");
    Ok(())
}
