//! The configuration, parsed and checked: whoever holds a [`Config`] need not validate it again.

mod authentication;
mod bd;
mod bds;
mod bfd;
mod diagnostic;
mod duplicate;
mod dynamic;
mod explain;
mod field;
mod glob;
mod groups;
mod options;
mod parse;
mod peer_config;
mod peers;
mod raw;
mod secret;
mod settings;
mod underlay;
mod vtep;

pub use authentication::{AoAlgorithm, AoKey, AoKeys, Authentication};
pub use bd::{
    BdConfig, FloodPolicy, PortPattern, Pruned, Replication, UnicastForward, UnknownNeighbors,
};
pub use bfd::{BfdConfig, Hops};
pub use diagnostic::{ConfigError, Diagnostic};
pub use duplicate::{DuplicateAction, DuplicateIpAction, DuplicateIpPolicy, DuplicatePolicy};
pub use dynamic::DynamicPeers;
pub use explain::Explanation;
pub use peer_config::{MaxPrefixes, PeerAsn, PeerConfig, UpdateChecks};
pub use secret::Secret;
pub use settings::{BdSettings, setting};
pub use underlay::{PrefixRule, UnderlayConfig};
pub use vtep::MAX_DRAIN_TIME;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::types::{Asn, IfName, ImportTarget, RouteTarget, Vni};

/// The configuration file unless the command line names another.
pub const DEFAULT_CONFIG: &str = "/etc/vtep/vtep.toml";
/// Where pins are unless the file says otherwise.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/vtep";
/// Where the control socket is unless the file or `--socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/vtep/agent.sock";

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// The control socket that the command line names instead of the file's.
    pub socket: Option<PathBuf>,
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `[vtep]`
    pub vtep: VtepConfig,
    /// `[bgp]`
    pub bgp: BgpConfig,
    /// `[underlay]`
    pub underlay: UnderlayConfig,
    /// `[[bd]]`, names, VNIs and ports distinct.
    pub bds: Vec<BdConfig>,
}

/// `[vtep]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VtepConfig {
    /// Our VTEP addresses, at least one, at most [`vtep_common::abi::MAX_LOCAL_VTEPS`]. The first is
    /// the source of what we send and the next hop of what we announce.
    pub addresses: Vec<Ipv4Addr>,
    /// BGP identifier and the first half of automatic RDs.
    pub router_id: Ipv4Addr,
    /// Uplinks attached at start, at most [`vtep_common::abi::MAX_UPLINKS`].
    pub uplinks: Vec<IfName>,
    /// How programs are attached to uplinks.
    pub xdp: XdpMode,
    /// UDP port of VXLAN.
    pub port: u16,
    /// Where maps and links are pinned.
    pub pin_dir: PathBuf,
    /// Objects made by CLI, RD indexes.
    pub state_dir: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Group that may use it, by name or number; `None`: the group that the agent runs in.
    pub socket_group: Option<String>,
    /// Where metrics are served; `None` when off.
    pub metrics: Option<SocketAddr>,
    /// What SIGTERM leaves behind.
    pub on_stop: OnStop,
    /// How long `drain` goes on forwarding once everything is withdrawn.
    pub drain_time: Duration,
    /// What becomes of frames for VNIs that we don't have.
    pub unknown_vni: UnknownVni,
    /// Which outer sources are accepted.
    pub source_check: SourceCheck,
    /// Size of the FDB and of each neighbour table.
    pub max_macs: u32,
    /// Duplicate MACs, where a bridge domain does not say otherwise.
    pub duplicate: DuplicatePolicy,
    /// Duplicate addresses, where the bridge domain does not say otherwise.
    pub duplicate_ip: DuplicateIpPolicy,
}

impl VtepConfig {
    /// Our first VTEP address: the source of what we send and the next hop of what we announce.
    pub fn address(&self) -> Ipv4Addr {
        self.addresses.first().copied().unwrap_or(self.router_id)
    }
}

/// How programs are attached to an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native XDP where the driver has it, TC otherwise.
    Auto,
    /// Native XDP or an error.
    Native,
    /// Generic XDP.
    Generic,
    /// TC only.
    Off,
}

/// What a clean stop leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// Withdraw, detach, unpin.
    Clean,
    /// Forwarding goes on.
    Keep,
}

/// What becomes of a VXLAN frame with an unknown VNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownVni {
    /// Drop and count.
    Drop,
    /// Leave it to the host.
    Pass,
}

/// Which outer sources are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceCheck {
    /// All.
    Off,
    /// Next hops of any imported route.
    Loose,
    /// Next hops of routes imported into the frame's bridge domain.
    Strict,
}

/// `[bgp]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpConfig {
    /// Our AS.
    pub asn: Asn,
    /// Accept connections on port 179.
    pub listen: bool,
    /// Form of automatic route targets.
    pub auto_rt: AutoRt,
    /// What bridge domains import that don't say it.
    pub auto_rt_import: AutoRtImport,
    /// Announce the ARP/ND flags of every binding (RFC 9047), not only those of routers.
    pub arp_nd_flags: bool,
    /// How long the End-of-RIB of peers is waited for after a restart (RFC 4724 §4.1).
    pub selection_deferral: Duration,
    /// `[[bgp.peer]]`, groups resolved, names distinct.
    pub peers: Vec<PeerConfig>,
    /// `[[bgp.dynamic]]`, prefixes distinct.
    pub dynamic: Vec<DynamicPeers>,
}

/// Form of automatic route targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoRt {
    /// `AS:VNI`.
    As,
    /// RFC 8365 §5.1.2.1; automatic import takes both.
    Rfc8365,
}

/// Automatic import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoRtImport {
    /// `*:VNI`.
    AnyAs,
    /// Both automatic forms with our AS. Unlike a wildcard it can be said by route target membership
    /// (RFC 4684).
    OwnAs,
}

impl BgpConfig {
    /// What a bridge domain imports that doesn't say it.
    pub fn auto_import(&self, vni: Vni) -> Vec<ImportTarget> {
        match self.auto_rt_import {
            AutoRtImport::AnyAs => vec![ImportTarget::AnyAdmin(vni.get())],
            AutoRtImport::OwnAs => vec![
                ImportTarget::Exact(RouteTarget::auto(self.asn, vni)),
                ImportTarget::Exact(RouteTarget::auto_rfc8365(self.asn, vni)),
            ],
        }
    }
}

impl PortPattern {
    /// Whether the pattern is a glob; otherwise it is one device's name.
    pub fn is_glob(&self) -> bool {
        glob::is_glob(&self.pattern)
    }

    /// Whether a device of this name is meant.
    pub fn matches(&self, device: &IfName) -> bool {
        glob::matches(&self.pattern, device.as_str())
    }
}

impl fmt::Display for PortPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)?;
        match self.vlan {
            Some(vlan) => write!(f, " (VLAN {vlan})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
