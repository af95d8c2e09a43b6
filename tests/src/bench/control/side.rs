//! Who takes the table in: vtep with its BPF maps, or FRR with the kernel's devices.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use vtep_tests::{Agent, AgentConfig, Fabric, Frr, Host, LinuxBd, Memory};

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
    Vtep(Agent),
    Frr(Frr),
}

impl Side {
    /// With a session to the reflector, which is to accept it, and all bridge domains of the fabric.
    pub(super) fn start(
        speaker: Speaker,
        host: &Host,
        reflector: &Host,
        fabric: &Fabric,
    ) -> Result<Self> {
        match speaker {
            Speaker::Vtep => {
                let room = fabric.routes().next_power_of_two().max(1 << 18);
                let mut config = AgentConfig::new(host, Fabric::ASN)
                    .vtep(&format!("max_macs = {room}"))
                    .peer(reflector.address(), Fabric::ASN);
                for vni in fabric.vnis() {
                    config = config.bd_with(&format!("bd{vni}"), vni, "");
                }
                Ok(Self::Vtep(Agent::start(host, &config)?))
            }
            Speaker::Frr => {
                for vni in fabric.vnis() {
                    LinuxBd::create(host, vni)?;
                }
                let peers = [(reflector.address(), Fabric::ASN)];
                Ok(Self::Frr(Frr::start(host, Fabric::ASN, &peers)?))
            }
        }
    }

    /// MACs of the fabric in the tables that forward.
    pub(super) fn installed(&self) -> Result<usize> {
        match self {
            Self::Vtep(agent) => {
                let entries = agent
                    .metrics()?
                    .value("vtep_map_entries", &["map=\"fdb\""])?;
                Ok(entries as usize)
            }
            Self::Frr(frr) => count(frr.host(), "bridge", &["fdb", "show"], |line| {
                line.contains(" dst 198.19.") && !line.starts_with("00:00:00:00:00:00")
            }),
        }
    }

    /// Fails unless the kernel's own count is the one that [`Side::installed`] told.
    pub(super) fn confirm(&self, macs: usize) -> Result<()> {
        let Self::Vtep(agent) = self else {
            // It was the kernel's.
            return Ok(());
        };
        let host = agent.host();
        let pins = host.lab().bpffs().join(host.name());
        let versions = fs::read_dir(&pins)?.filter_map(Result::ok);
        let map = versions
            .map(|version| version.path().join("maps/fdb"))
            .find(|path| path.exists())
            .with_context(|| format!("no pinned FDB in {}", pins.display()))?;
        let map = map.to_str().context("an odd path")?;
        let arguments = ["map", "dump", "pinned", map];
        let found = count(host, "bpftool", &arguments, |line| line.contains("key"))?;
        ensure!(found == macs, "{found} entries in {map}, not {macs}");
        Ok(())
    }

    /// Fails when one of its processes has ended: FRR's zebra is known to.
    pub(super) fn check(&mut self) -> Result<()> {
        match self {
            Self::Vtep(agent) => agent.daemon().check(),
            Self::Frr(frr) => frr.check(),
        }
    }

    /// Memory of the processes.
    pub(super) fn memory(&self) -> Result<Memory> {
        match self {
            Self::Vtep(agent) => agent.memory(),
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
