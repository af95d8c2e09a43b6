//! FRR 8.4 with a bridge and a vxlan device of Linux.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{Agent, Frr, LinuxBd, Ping, Vm, VmSpec, eventually, stays, wait_flood};

use crate::{ASN, KEY, PATIENCE, VNI, Wire, peer_row, wait_established, wait_mac};

/// The agent with VM 1, FRR with VM 2.
struct Mixed {
    frr: Frr,
    vm1: Vm,
    vm2: Vm,
    wire: Wire,
}

impl Mixed {
    fn new(name: &str, lines: &[&str]) -> Result<Self> {
        let wire = Wire::new(name)?;
        let vm1 = wire.dut.vm("vm1", &VmSpec::new(1))?;
        let vm2 = wire.peer.vm("vm2", &VmSpec::new(2))?;
        LinuxBd::create(&wire.peer, VNI)?.plug(&vm2)?;
        let frr = Frr::start_with(&wire.peer, &conf(&wire, lines))?;
        Ok(Self {
            frr,
            vm1,
            vm2,
            wire,
        })
    }

    /// Up, with the VMs known on both sides.
    fn wait_known(&self, agent: &Agent) -> Result<()> {
        wait_established(agent)?;
        Ping::to("10.0.0.2").until_answered(self.vm1.ns())?;
        wait_mac(agent, self.vm2.mac(), &self.wire.peer)?;
        self.wait_remote()
    }

    /// FRR has VM 1 behind the agent.
    fn wait_remote(&self) -> Result<()> {
        eventually(PATIENCE, || {
            let mac = self.frr.mac(VNI, self.vm1.mac())?;
            let vtep = self.wire.dut.address().to_string();
            ensure!(
                mac["type"] == "remote" && mac["remoteVtep"] == vtep,
                "{mac}"
            );
            Ok(())
        })
    }

    /// FRR has no VM 1.
    fn wait_forgotten(&self) -> Result<()> {
        eventually(PATIENCE, || {
            let mac = self.frr.mac(VNI, self.vm1.mac());
            ensure!(mac.is_err(), "{mac:?}");
            Ok(())
        })
    }

    /// What FRR says about its neighbor.
    fn neighbor(&self) -> Result<String> {
        let dut = self.wire.dut.address();
        self.frr.vtysh(&format!("show bgp neighbors {dut} json"))
    }
}

/// FRR's configuration, with lines for the neighbor (`neighbor A …`).
fn conf(wire: &Wire, lines: &[&str]) -> String {
    let (dut, peer) = (wire.dut.address(), wire.peer.address());
    let lines: String = lines
        .iter()
        .map(|line| format!(" neighbor {dut} {line}\n"))
        .collect();
    format!(
        "router bgp {ASN}\n bgp router-id {peer}\n bgp graceful-restart\n \
         no bgp default ipv4-unicast\n neighbor {dut} remote-as {ASN}\n \
         neighbor {dut} timers connect 1\n neighbor {dut} advertisement-interval 0\n{lines} \
         address-family l2vpn evpn\n  neighbor {dut} activate\n  advertise-all-vni\n \
         exit-address-family\n"
    )
}

#[test]
fn bgp_025_frr_md5() -> Result<()> {
    let wire = Wire::new("frrmd5")?;
    let key = format!("password {KEY}");
    let _frr = Frr::start_with(&wire.peer, &conf(&wire, &[&key]))?;
    wire.keys_are_compared(ASN, "", true)
}

/// RR-001 (RFC 2918): FRR asks for our routes, and sends its own again; neither is noticed by the VMs.
#[test]
fn frr_refresh_both_ways() -> Result<()> {
    let mixed = Mixed::new("frrrefresh", &[])?;
    let wire = &mixed.wire;
    let agent = wire.agent(ASN, "")?;
    mixed.wait_known(&agent)?;
    let increases = |direction: &str, kind: &str, before: f64| {
        eventually(PATIENCE, || {
            let now = wire.messages(&agent, direction, kind)?;
            ensure!(now > before, "{direction} {kind}: {now}, {before} before");
            Ok(())
        })
    };
    let asked = wire.messages(&agent, "received", "route_refresh")?;
    let sent = wire.messages(&agent, "sent", "update")?;
    mixed.frr.vtysh("clear bgp l2vpn evpn * soft in")?;
    increases("received", "route_refresh", asked)?;
    increases("sent", "update", sent)?;
    let received = wire.messages(&agent, "received", "update")?;
    mixed.frr.vtysh("clear bgp l2vpn evpn * soft out")?;
    increases("received", "update", received)?;
    mixed.wait_known(&agent)?;
    Ping::to("10.0.0.2").count(20).all_answered(mixed.vm1.ns())
}

/// BGP-020 (RFC 9003), both ways.
#[test]
fn frr_shutdown_communication() -> Result<()> {
    const OURS: &str = "new kernel at ten";
    const THEIRS: &str = "replacing a line card";
    let mixed = Mixed::new("frrshut", &[])?;
    let (wire, dut) = (&mixed.wire, mixed.wire.dut.address());
    let agent = wire.agent(ASN, "")?;
    wait_established(&agent)?;
    let shut = wire.config(ASN, &format!("shutdown = \"{OURS}\""));
    agent.reload(&shut)?.done()?;
    eventually(PATIENCE, || {
        let neighbor = mixed.neighbor()?;
        ensure!(neighbor.contains(OURS), "{neighbor}");
        Ok(())
    })?;
    agent.reload(&wire.config(ASN, ""))?.done()?;
    wait_established(&agent)?;
    mixed.frr.vtysh(&format!(
        "configure terminal\nrouter bgp {ASN}\nneighbor {dut} shutdown message {THEIRS}"
    ))?;
    eventually(PATIENCE, || {
        let peer = peer_row(&agent)?;
        let why = peer["last_error"].as_str().unwrap_or_default();
        ensure!(why.contains(THEIRS), "{peer}");
        Ok(())
    })
}

/// GR-001 (RFC 4724 §4.2): FRR 8.4 lists L2VPN EVPN in its capability, so its routes stay while bgpd is
/// away. But its zebra takes what came from us out of the kernel at once: the way back is gone until
/// bgpd has told it again.
#[test]
fn frr_restarts() -> Result<()> {
    let mut mixed = Mixed::new("frrgr", &[])?;
    let agent = mixed.wire.agent(ASN, "")?;
    mixed.wait_known(&agent)?;
    mixed.frr.bgpd().kill()?;
    eventually(PATIENCE, || {
        let peer = peer_row(&agent)?;
        ensure!(peer["state"] != "established", "{peer}");
        ensure!(peer["routes_stale"] != 0, "{peer}");
        ensure!(peer["routes_stale"] == peer["routes_received"], "{peer}");
        Ok(())
    })?;
    wait_mac(&agent, mixed.vm2.mac(), &mixed.wire.peer)?;
    wait_flood(&agent, "blue", 1)?;
    mixed.wait_forgotten()?;
    mixed.frr.restart_bgpd()?;
    mixed.wait_known(&agent)?;
    eventually(PATIENCE, || {
        let peer = peer_row(&agent)?;
        ensure!(peer["routes_stale"] == 0, "{peer}");
        Ok(())
    })?;
    Ping::to("10.0.0.2").count(20).all_answered(mixed.vm1.ns())
}

/// As a helper FRR 8.4 keeps nothing of the EVPN family: a crash of the agent is seen behind FRR, though
/// our datapath goes on. After the restart everything is back.
#[test]
fn frr_keeps_nothing_of_a_restarting_agent() -> Result<()> {
    let mixed = Mixed::new("frrus", &[])?;
    let mut agent = mixed.wire.agent(ASN, "")?;
    mixed.wait_known(&agent)?;
    agent.daemon().kill()?;
    mixed.wait_forgotten()?;
    let agent = mixed.wire.agent(ASN, "")?;
    mixed.wait_known(&agent)?;
    stays(Duration::from_secs(3), || {
        agent
            .row("macs", &[("mac", json!(mixed.vm2.mac()))])
            .map(drop)
    })?;
    Ping::to("10.0.0.2").count(20).all_answered(mixed.vm1.ns())
}
