//! GoBGP 3.10 as a peer with routes of its own, and as a route reflector between two agents.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{
    Agent, AgentConfig, GoBgpOptions, Host, Lab, Ping, RouteReflector, Vm, VmSpec, eventually,
    stays, wait_flood,
};

use crate::{
    ASN, KEY, PATIENCE, VNI, Wire, has_capability, peer_row, wait_established, wait_mac,
    wait_no_mac,
};

const MAC: &str = "02:00:00:00:0e:01";

#[test]
fn bgp_025_gobgp_md5() -> Result<()> {
    let wire = Wire::new("gobgpmd5")?;
    let options = GoBgpOptions {
        password: Some(KEY),
        ..GoBgpOptions::default()
    };
    let _gobgp = RouteReflector::start_with(&wire.peer, ASN, &[wire.dut.address()], options)?;
    wire.keys_are_compared(ASN, "", false)
}

/// RT-2 and RT-3 of GoBGP's own, sent again, and withdrawn. GoBGP keeps what it received and never asks
/// for a refresh: `softresetin` is its own affair.
#[test]
fn gobgp_as_a_peer() -> Result<()> {
    let wire = Wire::new("gobgppeer")?;
    let (dut, peer) = (wire.dut.address(), wire.peer.address());
    let gobgp = RouteReflector::start(&wire.peer, ASN, &[dut])?;
    let agent = wire.agent(ASN, "")?;
    wait_established(&agent)?;
    let route =
        |verb: &str, route: &str| gobgp.command(&format!("global rib {verb} -a evpn {route}"));
    let mac =
        format!("macadv {MAC} 10.0.0.9 etag 0 label 100 rd {peer}:1 rt 65000:100 encap vxlan");
    let imet = format!(
        "multicast {peer} etag 0 rd {peer}:1 rt 65000:100 encap vxlan pmsi ingress-repl 100 {peer}"
    );
    route("add", &mac)?;
    route("add", &imet)?;
    wait_mac(&agent, MAC, &wire.peer)?;
    wait_flood(&agent, "blue", 1)?;
    agent.wait_row(
        "neighbors",
        &[("ip", json!("10.0.0.9")), ("mac", json!(MAC))],
    )?;

    let received = wire.messages(&agent, "received", "update")?;
    gobgp.command(&format!("neighbor {dut} softresetout"))?;
    eventually(PATIENCE, || {
        let now = wire.messages(&agent, "received", "update")?;
        ensure!(now > received, "{now} updates, {received} before");
        Ok(())
    })?;
    wait_mac(&agent, MAC, &wire.peer)?;
    wait_established(&agent)?;

    route("del", &mac)?;
    wait_no_mac(&agent, MAC)?;
    route("del", &imet)?;
    wait_flood(&agent, "blue", 0)
}

/// Two agents with a VM each behind a reflector.
struct Reflected {
    reflector: RouteReflector,
    hosts: [Host; 2],
    agents: [Agent; 2],
    vms: [Vm; 2],
}

impl Reflected {
    /// Lines of `[bgp]` and bridge domains are the two agents' own.
    fn start(
        name: &str,
        options: GoBgpOptions,
        config: impl Fn(usize, AgentConfig) -> AgentConfig,
    ) -> Result<Self> {
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let hosts = [underlay.host("h1")?, underlay.host("h2")?];
        let rr = underlay.host("rr")?;
        let [h1, h2] = &hosts;
        let vms = [
            h1.vm("vm1", &VmSpec::new(1))?,
            h2.vm("vm2", &VmSpec::new(2))?,
        ];
        let clients = [h1.address(), h2.address()];
        let reflector = RouteReflector::start_with(&rr, ASN, &clients, options)?;
        let start = |number: usize, host: &Host| {
            let common = AgentConfig::new(host, ASN)
                .bgp("arp_nd_flags = false")
                .peer(rr.address(), ASN)
                .bd("blue", VNI, &["vnet-*"]);
            Agent::start(host, &config(number, common))
        };
        let agents = [start(0, h1)?, start(1, h2)?];
        let reflected = Self {
            reflector,
            hosts,
            agents,
            vms,
        };
        reflected.wait_known()?;
        Ok(reflected)
    }

    /// Up, and each agent knows the other one's VM.
    fn wait_known(&self) -> Result<()> {
        for agent in &self.agents {
            wait_established(agent)?;
        }
        self.wait_macs()
    }

    fn wait_macs(&self) -> Result<()> {
        let [vm1, vm2] = &self.vms;
        let [a1, a2] = &self.agents;
        let [h1, h2] = &self.hosts;
        Ping::to("10.0.0.2").until_answered(vm1.ns())?;
        wait_mac(a1, vm2.mac(), h2)?;
        wait_mac(a2, vm1.mac(), h1)
    }

    /// Both ways.
    fn all_answered(&self) -> Result<()> {
        Ping::to("10.0.0.2")
            .count(20)
            .all_answered(self.vms[0].ns())?;
        Ping::to("10.0.0.1")
            .count(20)
            .all_answered(self.vms[1].ns())
    }
}

const GRACEFUL: GoBgpOptions = GoBgpOptions {
    password: None,
    graceful_restart: true,
    rt_constraint: false,
};

/// GR-001 (RFC 4724 §4.2): what a killed reflector had told us is stale, and used; when it is back and
/// has sent its End-of-RIB, nothing is stale any more.
#[test]
fn gobgp_reflector_restarts_gracefully() -> Result<()> {
    let mut lab = Reflected::start("gobgpgr", GRACEFUL, |_, config| config)?;
    ensure!(has_capability(&lab.agents[0], "graceful_restart")?);
    lab.reflector.daemon().kill()?;
    for agent in &lab.agents {
        eventually(PATIENCE, || {
            let peer = peer_row(agent)?;
            ensure!(peer["state"] != "established", "{peer}");
            ensure!(peer["routes_received"] == peer["routes_stale"], "{peer}");
            ensure!(peer["routes_stale"] != 0, "{peer}");
            Ok(())
        })?;
    }
    lab.all_answered()?;
    lab.reflector.restart()?;
    lab.wait_known()?;
    for agent in &lab.agents {
        eventually(PATIENCE, || {
            let peer = peer_row(agent)?;
            ensure!(peer["routes_stale"] == 0, "{peer}");
            ensure!(peer["routes_received"] != 0, "{peer}");
            Ok(())
        })?;
    }
    lab.all_answered()
}

/// GR-006 (RFC 4724 §4.1): GoBGP keeps the routes of a killed agent, so that the other one loses
/// neither routes nor traffic, until it is back and has said everything again.
#[test]
fn gobgp_reflector_keeps_routes_of_a_restarting_agent() -> Result<()> {
    let mut lab = Reflected::start("gobgpus", GRACEFUL, |_, config| config)?;
    let config = AgentConfig::new(&lab.hosts[0], ASN)
        .bgp("arp_nd_flags = false")
        .peer(lab.reflector.host().address(), ASN)
        .bd("blue", VNI, &["vnet-*"]);
    lab.agents[0].daemon().kill()?;
    let kept = |lab: &Reflected| {
        let vtep = json!(lab.hosts[0].address().to_string());
        let row = [("mac", json!(lab.vms[0].mac())), ("vtep", vtep)];
        lab.agents[1].row("macs", &row).map(drop)
    };
    eventually(PATIENCE, || {
        let rib = lab.reflector.gobgp("global rib -a evpn")?;
        ensure!(stale_paths(&rib) > 0, "no stale path: {rib}");
        Ok(())
    })?;
    lab.all_answered()?;
    stays(Duration::from_secs(3), || kept(&lab))?;
    lab.agents[0] = Agent::start(&lab.hosts[0], &config)?;
    wait_established(&lab.agents[0])?;
    eventually(PATIENCE, || {
        kept(&lab)?;
        let rib = lab.reflector.gobgp("global rib -a evpn")?;
        ensure!(stale_paths(&rib) == 0, "{rib}");
        Ok(())
    })?;
    lab.all_answered()
}

/// Paths that GoBGP marks as stale.
fn stale_paths(rib: &Value) -> usize {
    let prefixes = rib.as_object().into_iter().flat_map(|rib| rib.values());
    let paths = prefixes.filter_map(Value::as_array).flatten();
    paths.filter(|path| path["stale"] == true).count()
}

/// RTC-001, RTC-004, RTC-005 (RFC 4684) with a reflector: an agent is told of what it imports and of
/// nothing else, and of more as soon as it imports more, in the same session (RR-003).
///
/// Without graceful restart GoBGP sends no End-of-RIB, and the agent waits the 60 seconds of §6 for more
/// memberships before it announces anything.
#[test]
fn gobgp_reflector_with_route_target_constraint() -> Result<()> {
    let options = GoBgpOptions {
        rt_constraint: true,
        ..GRACEFUL
    };
    let lab = Reflected::start("gobgprtc", options, |number, config| {
        let config = config.bgp("auto_rt_import = \"own-as\"");
        match number {
            0 => config,
            _ => config.bd("red", 200, &[]),
        }
    })?;
    let [a1, _] = &lab.agents;
    ensure!(has_capability(a1, "rt_constraint")?, "{}", peer_row(a1)?);
    let red = |agent: &Agent| -> Result<usize> {
        let routes = agent.show("routes")?;
        let routes = routes.as_array().context("no list")?;
        let targets = routes
            .iter()
            .map(|route| &route["attributes"]["route_targets"]);
        Ok(targets
            .filter(|list| **list == json!(["65000:200"]))
            .count())
    };
    stays(Duration::from_secs(3), || {
        ensure!(red(a1)? == 0, "routes of a bridge domain that is not here");
        Ok(())
    })?;
    let sessions = opens(a1)?;
    a1.cli("bd add red --vni 200")?.done()?;
    wait_flood(a1, "red", 1)?;
    ensure!(opens(a1)? == sessions, "the session flapped");
    a1.cli("bd del red")?.done()?;
    eventually(PATIENCE, || {
        let count = red(a1)?;
        ensure!(count == 0, "{count} routes are left");
        Ok(())
    })?;
    ensure!(opens(a1)? == sessions, "the session flapped");
    lab.all_answered()
}

/// OPEN messages that an agent has sent to its peer.
fn opens(agent: &Agent) -> Result<f64> {
    let peer = peer_row(agent)?;
    let peer = peer["address"].as_str().context("no address")?;
    agent
        .metrics()?
        .value("vtep_bgp_messages_total", &[peer, "sent", "open"])
}
