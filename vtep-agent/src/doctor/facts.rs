//! What `doctor` looks at.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::clock;
use crate::{
    config::{Config, DEFAULT_PIN_DIR},
    control::{self, Message, Table},
    dataplane,
    kernel::{self, Nic},
    tcp_ao,
    types::IfName,
    view::{Bgp, Counters, Port, Uplink, Vtep},
};

/// Everything.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The machine.
    pub host: HostFacts,
    /// Devices that the agent or the configuration names; `None`: there is no such device.
    pub nics: BTreeMap<String, Option<Nic>>,
    /// What the agent says, or why it says nothing.
    pub agent: Result<AgentFacts, String>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// What keeps the programs from being loaded, each with its own remedy.
    pub obstacles: Vec<String>,
    /// The kernel has tcx links (6.6).
    pub tcx: bool,
    /// BPF programs are compiled (`net.core.bpf_jit_enable`). `None`: cannot be read.
    pub jit: Option<bool>,
    /// Where pins are.
    pub pin_dir: PathBuf,
    /// That is on a bpffs.
    pub bpffs: bool,
    /// The clock is kept in step by NTP or alike. `None`: the kernel does not say.
    pub clock_synchronised: Option<bool>,
    /// What peers are configured to sign with and the kernel cannot do.
    pub signatures: Option<String>,
    /// Why the configuration file cannot be used, if there is one.
    pub configuration: Option<String>,
}

/// What the agent says of itself.
#[derive(Clone, Debug)]
pub struct AgentFacts {
    /// `show bgp`
    pub bgp: Bgp,
    /// `show uplinks`
    pub uplinks: Vec<Uplink>,
    /// `show ports`
    pub ports: Vec<Port>,
    /// `show vteps`
    pub vteps: Vec<Vtep>,
    /// `show counters`
    pub counters: Counters,
}

impl Facts {
    /// Asks the kernel, and the agent at its socket. The configuration tells where pins are and names
    /// the uplinks of an agent that does not run.
    pub fn gather(config: Option<&Path>, socket: &Path) -> Self {
        let (config, configuration) = match config.map(Config::load) {
            Some(Ok((config, _))) => (Some(config), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let agent = AgentFacts::ask(socket).map_err(|error| error.to_string());
        let mut names: Vec<IfName> = Vec::new();
        if let Ok(agent) = &agent {
            let uplinks = agent.uplinks.iter().map(|uplink| &uplink.name);
            let ports = agent.ports.iter().map(|port| &port.name);
            names.extend(uplinks.chain(ports).filter_map(|name| name.parse().ok()));
        } else if let Some(config) = &config {
            names.extend(config.vtep.uplinks.iter().cloned());
        }
        let nics = names.iter().filter_map(|name| {
            // Without netlink there is nothing to say of devices; `obstacles` has the reason.
            Some((name.to_string(), kernel::nic(name).ok()?))
        });
        let unsupported = |config: &Config| tcp_ao::check_kernel(&config.bgp).err();
        let signatures = config.as_ref().and_then(unsupported);
        let pin_dir = config.map_or_else(|| DEFAULT_PIN_DIR.into(), |config| config.vtep.pin_dir);
        Self {
            nics: nics.collect(),
            agent,
            host: HostFacts {
                obstacles: dataplane::obstacles()
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                tcx: dataplane::has_tcx(),
                jit: fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")
                    .ok()
                    .map(|text| text.trim() != "0"),
                bpffs: dataplane::is_on_bpffs(&pin_dir),
                pin_dir,
                clock_synchronised: clock::is_synchronised(),
                signatures: signatures.map(|error| error.to_string()),
                configuration,
            },
        }
    }
}

impl AgentFacts {
    fn ask(socket: &Path) -> Result<Self, anyhow::Error> {
        Ok(Self {
            bgp: show(socket, Table::Bgp)?,
            uplinks: show(socket, Table::Uplinks)?,
            ports: show(socket, Table::Ports)?,
            vteps: show(socket, Table::Vteps)?,
            counters: show(socket, Table::Counters)?,
        })
    }
}

fn show<T: DeserializeOwned>(socket: &Path, what: Table) -> Result<T, anyhow::Error> {
    let data = control::call(
        socket,
        &Message::Show {
            what,
            bd: None,
            family: None,
        },
    )?;
    serde_json::from_value(data).map_err(|error| {
        anyhow::anyhow!("its tables are of another version than this command: {error}")
    })
}
