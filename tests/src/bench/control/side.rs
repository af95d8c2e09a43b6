//! Who takes the table in: vtep with its BPF maps, or FRR with the kernel's devices.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use vtep_common::{
    Mac,
    abi::{BdId, FdbKey},
};
use vtep_tests::{Agent, AgentConfig, Fabric, Frr, Host, LinuxBd, Memory, mac_text};

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

    /// Whether the MAC that the fabric announces last is in the tables that forward. Asks the kernel, and
    /// costs the side under test next to nothing.
    pub(super) fn has_last(&self, fabric: &Fabric) -> Result<bool> {
        let (vtep, bd) = (fabric.vteps, fabric.bds);
        let mac = Fabric::mac(vtep, bd, fabric.macs);
        match self {
            Self::Vtep(agent) => {
                let fdb = fdb(agent.host())?;
                // Which number the agent gave the bridge domain doesn't matter: no other has this MAC.
                let keys = (0..=bd).map(|id| FdbKey::new(BdId(id), Mac(mac)).0);
                Ok(keys.into_iter().any(|key| fdb.get(&key, 0).is_ok()))
            }
            Self::Frr(frr) => {
                let (mac, vni) = (mac_text(mac), Fabric::vni(bd));
                let get = format!("fdb get {mac} dev vx{vni} self");
                let output = frr
                    .host()
                    .ns()
                    .command("bridge")
                    .args(get.split(' '))
                    .output()?;
                Ok(output.status.success())
            }
        }
    }

    /// MACs of the fabric in the tables that forward, counted by the kernel.
    pub(super) fn installed(&self) -> Result<usize> {
        match self {
            Self::Vtep(agent) => Ok(fdb(agent.host())?.keys().count()),
            Self::Frr(frr) => count(frr.host(), "bridge", &["fdb", "show"], |line| {
                line.contains(" dst 198.19.") && !line.starts_with("00:00:00:00:00:00")
            }),
        }
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

/// The pinned FDB of an agent.
fn fdb(host: &Host) -> Result<HashMap<MapData, u64, [u64; 2]>> {
    let pins = host.lab().bpffs().join(host.name());
    let versions = fs::read_dir(&pins)?.filter_map(Result::ok);
    let pin = versions
        .map(|version| version.path().join("maps/fdb"))
        .find(|path| path.exists())
        .with_context(|| format!("no pinned FDB in {}", pins.display()))?;
    Ok(HashMap::try_from(Map::HashMap(MapData::from_pin(pin)?))?)
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
