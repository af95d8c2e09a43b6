//! The lab that most tests start from, and what they look for in it.

use std::time::Duration;

use crate::{Agent, AgentConfig, Frame, Host, Iperf, Lab, Ping, Underlay, Vm, VmSpec, eventually};
use anyhow::{Result, ensure};
use serde_json::json;

/// Two hosts with an agent and a VM each, in bridge domain `blue`, VNI 100; iBGP between them.
#[derive(Debug)]
pub struct Pair {
    // Dropped in this order: agents before what they are attached to.
    /// The agent of the first host.
    pub a1: Agent,
    /// The agent of the second host.
    pub a2: Agent,
    /// VM number 1, on the first host.
    pub vm1: Vm,
    /// VM number 2, on the second host.
    pub vm2: Vm,
    /// The first host.
    pub h1: Host,
    /// The second host.
    pub h2: Host,
    /// The lab.
    pub lab: Lab,
    config1: AgentConfig,
}

impl Pair {
    /// AS of everybody.
    pub const ASN: u32 = 65000;

    /// Agents with defaults, established.
    ///
    /// # Errors
    ///
    /// When an agent does not start or the session does not come up.
    pub fn start(lab: &Lab, underlay: &Underlay) -> Result<Self> {
        Self::start_with(lab, underlay, |config| config)
    }

    /// Agents with a configuration as you like it, established.
    ///
    /// # Errors
    ///
    /// When an agent does not start or the session does not come up.
    pub fn start_with(
        lab: &Lab,
        underlay: &Underlay,
        adjust: impl Fn(AgentConfig) -> AgentConfig,
    ) -> Result<Self> {
        let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
        let vms = [
            h1.vm("vm1", &VmSpec::new(1))?,
            h2.vm("vm2", &VmSpec::new(2))?,
        ];
        Self::join(lab, [h1, h2], vms, adjust)
    }

    /// Agents on two hosts that are there already, established.
    ///
    /// # Errors
    ///
    /// When an agent does not start or the session does not come up.
    pub fn join(
        lab: &Lab,
        [h1, h2]: [Host; 2],
        [vm1, vm2]: [Vm; 2],
        adjust: impl Fn(AgentConfig) -> AgentConfig,
    ) -> Result<Self> {
        let config = |here: &Host, there: &Host| {
            adjust(
                AgentConfig::new(here, Self::ASN)
                    .peer(there.address(), Self::ASN)
                    .bd("blue", 100, &["vnet-*"]),
            )
        };
        let config1 = config(&h1, &h2);
        let a1 = Agent::start(&h1, &config1)?;
        let a2 = Agent::start(&h2, &config(&h2, &h1))?;
        a1.wait_established()?;
        a2.wait_established()?;
        Ok(Self {
            a1,
            a2,
            vm1,
            vm2,
            h1,
            h2,
            lab: lab.clone(),
            config1,
        })
    }

    /// Starts the first agent again after it was stopped.
    ///
    /// # Errors
    ///
    /// When an agent does not start or the session does not come up.
    pub fn restart_a1(&mut self) -> Result<()> {
        self.a1 = Agent::start(&self.h1, &self.config1)?;
        self.a1.wait_established()
    }

    /// Traffic of every kind between the VMs: pings without a loss after the first, full frames,
    /// and streams, in both directions.
    ///
    /// # Errors
    ///
    /// When something gets lost.
    pub fn traffic(&self) -> Result<()> {
        self.pings()?;
        self.streams()
    }

    /// The pings of [`Pair::traffic`].
    ///
    /// # Errors
    ///
    /// When something gets lost.
    pub fn pings(&self) -> Result<()> {
        pings(&self.vm1, &self.vm2)
    }

    fn streams(&self) -> Result<()> {
        let (vm1, vm2) = (self.vm1.ns(), self.vm2.ns());
        for address in ["10.0.0.2", "fd00::2"] {
            for iperf in [Iperf::tcp(1), Iperf::tcp(1).reverse()] {
                let tcp = iperf.run(&self.lab, vm1, vm2, address)?;
                ensure!(tcp.bits_per_second > 1e7, "{address} {iperf:?}: {tcp:?}");
            }
            // A rate that an emulated processor can take, too.
            for iperf in [Iperf::udp(1, "5M"), Iperf::udp(1, "5M").reverse()] {
                let udp = iperf.run(&self.lab, vm1, vm2, address)?;
                ensure!(udp.bits_per_second > 2e6, "{address} {iperf:?}: {udp:?}");
                ensure!(udp.loss < 0.2, "{address} {iperf:?}: {udp:?}");
            }
        }
        Ok(())
    }

    /// The first agent's configuration.
    pub fn config1(&self) -> AgentConfig {
        self.config1.clone()
    }
}

/// An agent on each host with `blue`, VNI 100, all of them peers of each other that flood to each
/// other. `bd` is more lines of the bridge domain's table.
///
/// # Errors
///
/// When an agent does not start or a session does not come up.
pub fn mesh(
    hosts: &[Host],
    bd: &str,
    adjust: impl Fn(AgentConfig) -> AgentConfig,
) -> Result<Vec<Agent>> {
    let start = |host: &Host| {
        let others = hosts.iter().filter(|other| other.name() != host.name());
        let config = others.fold(AgentConfig::new(host, Pair::ASN), |config, other| {
            config.peer(other.address(), Pair::ASN)
        });
        let lines = format!("ports = [\"vnet-*\"]\n{bd}");
        Agent::start(host, &adjust(config.bd_with("blue", 100, &lines)))
    };
    let agents = hosts.iter().map(start).collect::<Result<Vec<_>>>()?;
    for agent in &agents {
        agent.wait_established()?;
        wait_flood(agent, "blue", hosts.len() - 1)?;
    }
    Ok(agents)
}

/// Waits until an agent floods a bridge domain to a number of VTEPs.
///
/// # Errors
///
/// When it does not.
pub fn wait_flood(agent: &Agent, bd: &str, vteps: usize) -> Result<()> {
    eventually(Duration::from_secs(30), || {
        let row = agent.row("flood", &[("bd", json!(bd))])?;
        let count = row["vteps"].as_array().map_or(0, Vec::len);
        ensure!(count == vteps, "{count} VTEPs, not {vteps}: {row}");
        Ok(())
    })
}

/// A frame with the EtherType for experiments (IEEE 802 §9.2.4) and a payload that is easy to see.
pub fn test_frame(destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    [&destination[..], &source, &[0x88, 0xb5], &[0x5a; 64]].concat()
}

/// How many of the frames are exactly this one.
pub fn count(frames: &[Frame], frame: &[u8]) -> usize {
    frames.iter().filter(|seen| seen.bytes == frame).count()
}

/// Pings between VM 1 and VM 2, both ways, IPv4 and IPv6, up to the VMs' MTU.
///
/// # Errors
///
/// When something gets lost.
pub fn pings(vm1: &Vm, vm2: &Vm) -> Result<()> {
    let (vm1, vm2) = (vm1.ns(), vm2.ns());
    for (from, targets) in [
        (vm1, ["10.0.0.2", "fd00::2"]),
        (vm2, ["10.0.0.1", "fd00::1"]),
    ] {
        for target in targets {
            Ping::to(target).until_answered(from)?;
            Ping::to(target).count(40).all_answered(from)?;
        }
    }
    for (from, target) in [(vm1, "10.0.0.2"), (vm2, "10.0.0.1")] {
        Ping::to(target)
            .size(1472)
            .dont_fragment()
            .all_answered(from)?;
    }
    // 1500 bytes with IPv6 and ICMPv6 headers.
    Ping::to("fd00::2")
        .size(1452)
        .dont_fragment()
        .all_answered(vm1)
}
