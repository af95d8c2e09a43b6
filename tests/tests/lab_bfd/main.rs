//! BFD (RFC 5880, 5881, 5883) and what BGP makes of it (RFC 5882): against a scripted speaker, FRR,
//! BIRD, and between agents. Times are printed: see them with `--nocapture`.

mod agents;
mod bird;
mod frr;
mod rules;
mod unnumbered;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use vtep_tests::{Agent, AgentConfig, Host, Lab, Pair, Underlay, eventually};

const ASN: u32 = Pair::ASN;
/// For what may take some tries on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Default detection time: 3 x 300 ms.
const DETECTION: Duration = Duration::from_millis(900);

/// Two hosts.
struct Wire {
    underlay: Underlay,
    dut: Host,
    peer: Host,
}

impl Wire {
    fn new(name: &str) -> Result<Self> {
        let underlay = Lab::new(name)?.underlay()?;
        let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
        Ok(Self {
            underlay,
            dut,
            peer,
        })
    }

    /// The agent with the other host as its peer.
    fn agent(&self, peer_asn: u32, lines: &str) -> Result<Agent> {
        Agent::start(&self.dut, &self.config(peer_asn, lines))
    }

    fn config(&self, peer_asn: u32, lines: &str) -> AgentConfig {
        AgentConfig::new(&self.dut, ASN).peer_with(self.peer.address(), peer_asn, lines)
    }

    /// Cuts the peer off in the middle of the network: links stay up.
    fn cut(&self) -> Result<Instant> {
        self.underlay.ns().ip("link set to-peer nomaster\n")?;
        Ok(Instant::now())
    }

    /// Joins them again.
    fn mend(&self) -> Result<()> {
        self.underlay
            .ns()
            .ip(&format!("link set to-peer master {}\n", Underlay::BRIDGE))
    }
}

fn peer_row(agent: &Agent) -> Result<Value> {
    let bgp = agent.show("bgp")?;
    Ok(bgp["peers"][0].clone())
}

fn wait_bfd(agent: &Agent, state: &str) -> Result<Value> {
    eventually(PATIENCE, || {
        let peer = peer_row(agent)?;
        ensure!(peer["bfd"]["state"] == state, "{peer}");
        Ok(peer["bfd"].clone())
    })
}

/// Both up at the default intervals, with what was negotiated shown.
fn wait_up(agent: &Agent) -> Result<Value> {
    wait_bfd(agent, "up")?;
    // Until both Poll Sequences are over.
    eventually(PATIENCE, || {
        let bfd = peer_row(agent)?["bfd"].clone();
        ensure!(
            bfd["detection_ms"] == 900 && bfd["transmit_ms"] == 300,
            "{bfd}"
        );
        ensure!(bfd["remote_state"] == "up", "{bfd}");
        Ok(bfd)
    })
}

/// Until the BGP session with the only peer is no longer established; how long that took.
fn bgp_down(agent: &Agent, since: Instant) -> Result<Duration> {
    eventually(PATIENCE, || {
        let peer = peer_row(agent)?;
        ensure!(peer["state"] != "established", "{peer}");
        Ok(())
    })?;
    Ok(since.elapsed())
}
