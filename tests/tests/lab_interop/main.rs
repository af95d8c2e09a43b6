//! Interoperation with each implementation that a fabric may have, beyond what the labs of single
//! features show: sessions, refresh, authentication and restarts of either side. What was found is
//! summed up in `docs/interop.md`.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod graceful;
mod reflected;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{Agent, AgentConfig, Host, Lab, PacketSocket, Vm, eventually, test_frame};

const ASN: u32 = vtep_tests::Pair::ASN;
const VNI: u32 = 100;
/// For what may take some tries on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "s3cret";

/// The agent's host, and that of its peer.
struct Wire {
    dut: Host,
    peer: Host,
}

impl Wire {
    fn new(name: &str) -> Result<Self> {
        let underlay = Lab::new(name)?.underlay()?;
        let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
        Ok(Self { dut, peer })
    }

    /// The agent with its one peer and the bridge domain `blue`.
    fn config(&self, peer_asn: u32, lines: &str) -> AgentConfig {
        AgentConfig::new(&self.dut, ASN)
            .peer_with(self.peer.address(), peer_asn, lines)
            .bd("blue", VNI, &["vnet-*"])
    }

    fn agent(&self, peer_asn: u32, lines: &str) -> Result<Agent> {
        Agent::start(&self.dut, &self.config(peer_asn, lines))
    }

    /// Messages of a type that went to or came from the peer.
    fn messages(&self, agent: &Agent, direction: &str, kind: &str) -> Result<f64> {
        let peer = self.peer.address().to_string();
        let labels = [&peer, direction, kind];
        agent.metrics()?.value("vtep_bgp_messages_total", &labels)
    }

    /// BGP-025 (RFC 2385): with the wrong key no session, and whoever drops the other's segments counts
    /// them; with the right one, which the agent is told on the way, there is one. The peer has
    /// [`KEY`]. One that connects to us is also named in `last_error`; of one that waits we hear
    /// nothing that could be wrong.
    fn keys_are_compared(&self, peer_asn: u32, lines: &str, connects: bool) -> Result<()> {
        let agent = self.agent(peer_asn, &format!("password = \"wrong\"\n{lines}"))?;
        eventually(PATIENCE, || {
            let peer = peer_row(&agent)?;
            ensure!(peer["state"] != "established", "{peer}");
            match connects {
                true => {
                    let metrics = agent.metrics()?;
                    let wrong = metrics.value("vtep_tcp_signature_failures_total", &["wrong"])?;
                    let why = peer["last_error"].as_str().unwrap_or_default();
                    ensure!(wrong > 0.0 && why.contains("wrong signature"), "{peer}");
                }
                false => {
                    // `-s` leaves nstat's own history alone.
                    let counters = self.peer.ns().run("nstat -asz TcpExtTCPMD5Failure")?;
                    let mut words = counters.split_whitespace();
                    words.find(|word| *word == "TcpExtTCPMD5Failure");
                    let dropped: u64 = words.next().context("no counter")?.parse()?;
                    ensure!(dropped > 0, "{counters}; {peer}");
                }
            }
            Ok(())
        })?;
        let right = self.config(peer_asn, &format!("password = \"{KEY}\"\n{lines}"));
        agent.reload(&right)?.done()?;
        wait_established(&agent)
    }
}

/// The only peer in `show bgp`.
fn peer_row(agent: &Agent) -> Result<Value> {
    Ok(agent.show("bgp")?["peers"][0].clone())
}

fn wait_established(agent: &Agent) -> Result<()> {
    eventually(PATIENCE, || {
        let peer = peer_row(agent)?;
        ensure!(peer["state"] == "established", "{peer}");
        Ok(())
    })
}

/// Waits until so many of the peer's routes are there, and so many of them are stale.
fn wait_routes(agent: &Agent, received: u64, stale: u64) -> Result<()> {
    eventually(PATIENCE, || {
        let peer = peer_row(agent)?;
        ensure!(
            peer["routes_received"] == received && peer["routes_stale"] == stale,
            "not {received} received and {stale} stale: {peer}"
        );
        Ok(())
    })
}

fn has_capability(agent: &Agent, name: &str) -> Result<bool> {
    let peer = peer_row(agent)?;
    let names = peer["capabilities"].as_array();
    Ok(names.is_some_and(|names| names.contains(&json!(name))))
}

/// Waits for a MAC of another VTEP.
fn wait_mac(agent: &Agent, mac: &str, vtep: &Host) -> Result<()> {
    eventually(PATIENCE, || {
        let vtep = vtep.address().to_string();
        agent.row("macs", &[("mac", json!(mac)), ("vtep", json!(vtep))])
    })
    .map(drop)
}

fn wait_no_mac(agent: &Agent, mac: &str) -> Result<()> {
    eventually(PATIENCE, || {
        let row = agent.row("macs", &[("mac", json!(mac))]);
        ensure!(row.is_err(), "{row:?}");
        Ok(())
    })
}

/// The agent learns a VM by a broadcast of it.
fn speak(agent: &Agent, vm: &Vm, number: u8) -> Result<()> {
    let frame = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, number]);
    eventually(PATIENCE, || {
        PacketSocket::open(vm.ns(), Vm::NIC)?.send(&frame)?;
        agent.row("macs", &[("mac", json!(vm.mac()))])
    })
    .map(drop)
}
