//! Who takes the table in: vtep with its BPF maps, or FRR with the kernel's devices.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use vtep_common::abi::FdbKey;
use vtep_tests::{Agent, AgentConfig, Fabric, Frr, Host, LinuxBd, Memory, Vm};

use super::look::{self, Look};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    Vtep,
    Frr,
}

impl Speaker {
    pub(crate) const ALL: [Self; 2] = [Self::Vtep, Self::Frr];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vtep => "vtep",
            Self::Frr => "FRR",
        }
    }
}

/// One of them at work on a host.
pub(super) enum Side {
    Vtep { agent: Agent, config: AgentConfig },
    Frr(Frr),
}

impl Side {
    /// With a session to the reflector, which is to accept it, all bridge domains of the fabric, and perhaps
    /// a VM in the first one.
    pub(super) fn start(
        speaker: Speaker,
        host: &Host,
        reflector: &Host,
        fabric: &Fabric,
        vm: Option<&Vm>,
    ) -> Result<Self> {
        let first = |vni| vm.filter(|_| vni == Fabric::vni(1));
        match speaker {
            Speaker::Vtep => {
                // One more MAC may come later, and a VM has one, too.
                let room = (fabric.routes() + 2).next_power_of_two().max(1 << 18);
                let mut config = AgentConfig::new(host, Fabric::ASN)
                    .vtep(&format!("max_macs = {room}"))
                    .peer(reflector.address(), Fabric::ASN);
                for vni in fabric.vnis() {
                    let ports: Vec<_> = first(vni).map(Vm::port).into_iter().collect();
                    config = config.bd(&format!("bd{vni}"), vni, &ports);
                }
                Ok(Self::Vtep {
                    agent: Agent::start(host, &config)?,
                    config,
                })
            }
            Speaker::Frr => {
                for vni in fabric.vnis() {
                    let bd = LinuxBd::create(host, vni)?;
                    first(vni).map_or(Ok(()), |vm| bd.plug(vm))?;
                }
                let peers = [(reflector.address(), Fabric::ASN)];
                Ok(Self::Frr(Frr::start(host, Fabric::ASN, &peers)?))
            }
        }
    }

    /// Its tables.
    pub(super) fn look(&self, fabric: &Fabric) -> Result<Look> {
        match self {
            Self::Vtep { agent, .. } => Look::map(agent.host(), fabric.bds),
            Self::Frr(frr) => Look::devices(frr.host(), fabric),
        }
    }

    /// MACs of the fabric in the tables that forward, counted by the kernel.
    pub(super) fn installed(&self) -> Result<usize> {
        match self {
            Self::Vtep { agent, .. } => {
                let keys = look::fdb(agent.host())?
                    .keys()
                    .collect::<Result<Vec<_>, _>>()?;
                let macs = keys.into_iter().map(|key| FdbKey(key).mac());
                Ok(macs.filter(|mac| Fabric::has(mac.0)).count())
            }
            Self::Frr(frr) => count(frr.host(), "bridge", &["fdb", "show"], |line| {
                line.contains(" dst 198.19.") && !line.starts_with("00:00:00:00:00:00")
            }),
        }
    }

    /// Fails when one of its processes has ended: FRR's zebra is known to.
    pub(super) fn check(&mut self) -> Result<()> {
        match self {
            Self::Vtep { agent, .. } => agent.daemon().check(),
            Self::Frr(frr) => frr.check(),
        }
    }

    /// Kills its processes, as a crash would, and starts them again; waits for nothing.
    pub(super) fn crash(&mut self) -> Result<()> {
        match self {
            Self::Vtep { agent, config, .. } => {
                agent.daemon().kill()?;
                let host = agent.host().clone();
                *agent = Agent::spawn(&host, config)?;
                Ok(())
            }
            Self::Frr(frr) => frr.crash(),
        }
    }

    /// Memory of the processes.
    pub(super) fn memory(&self) -> Result<Memory> {
        match self {
            Self::Vtep { agent, .. } => agent.memory(),
            Self::Frr(frr) => frr.memory(),
        }
    }
}

/// Counts lines of what a program prints.
fn count(
    host: &Host,
    program: &str,
    arguments: &[&str],
    counts: impl Fn(&str) -> bool,
) -> Result<usize> {
    let mut child = host
        .ns()
        .command(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let output = child.stdout.take().context("no output")?;
    let mut found = 0;
    for line in BufReader::new(output).lines() {
        found += usize::from(counts(&line?));
    }
    ensure!(child.wait()?.success(), "{program} failed");
    Ok(found)
}
