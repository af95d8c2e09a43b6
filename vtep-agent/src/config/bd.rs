//! What a bridge domain is told.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{DuplicateIpPolicy, DuplicatePolicy};
use crate::types::{BdName, ImportTarget, RouteDistinguisher, RouteTarget, Vni};

/// `[[bd]]`, or a bridge domain made by CLI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BdConfig {
    /// Name.
    pub name: BdName,
    /// VNI.
    pub vni: Vni,
    /// Ports, by pattern.
    pub ports: Vec<PortPattern>,
    /// RD; `None` for `router_id:index`.
    pub rd: Option<RouteDistinguisher>,
    /// Imported targets; `None` for `*:VNI`.
    pub rt_import: Option<Vec<ImportTarget>>,
    /// Exported targets; `None` for automatic.
    pub rt_export: Option<Vec<RouteTarget>>,
    /// Answer ARP and ND.
    pub suppress: bool,
    /// Flooding policy.
    pub flood: FloodPolicy,
    /// Learn from frames.
    pub learning: bool,
    /// Age of learned endpoints; `None`: never aged.
    pub ageing: Option<Duration>,
    /// Most MACs of one port.
    pub max_macs_per_port: u32,
    /// Flooded frames per second that one port may send; 0: no limit.
    pub bum_rate: u32,
    /// Learning events per second that one port may cause; 0: no limit.
    pub learn_rate: u32,
    /// ARP and ND requests for addresses that nobody is known to have.
    pub unknown_neighbors: UnknownNeighbors,
    /// Send to another VTEP with the VNI that its route carries, whatever ours is (RFC 8365 §5.1.3).
    pub downstream_vni: bool,
    /// Use routes with Ethernet tags other than 0, too.
    pub any_ethernet_tag: bool,
    /// Learn from what DHCP servers say to VMs.
    pub dhcp_snooping: bool,
    /// Ports with declared endpoints send from nothing else.
    pub source_filter: bool,
    /// Declared endpoints are neither routers nor DHCP servers.
    pub server_guard: bool,
    /// Duplicate MACs; `None` as `[vtep]` has it.
    pub duplicate: Option<DuplicatePolicy>,
    /// Duplicate addresses; `None` as `[vtep]` has it.
    pub duplicate_ip: Option<DuplicateIpPolicy>,
    /// Addresses that several hosts have on purpose.
    pub anycast: BTreeSet<IpAddr>,
    /// Which ARP and ND requests go to the address's owner.
    pub unicast_forward: UnicastForward,
    /// Who makes the copies of broadcast and multicast.
    pub replication: Replication,
    /// What other VTEPs are asked not to send us.
    pub prune: Pruned,
    /// Other VTEPs are not sent what they ask not to be.
    pub honor_prune: bool,
}

/// Flooding policy of a bridge domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FloodPolicy {
    /// Broadcast, multicast and unknown unicast.
    All,
    /// Broadcast and multicast.
    NoUnknown,
    /// Nothing.
    None,
}

/// What becomes of ARP and ND requests for addresses that nobody is known to have (RFC 9161 §3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownNeighbors {
    /// They are flooded.
    Flood,
    /// They are dropped: all VMs are declared, or speak first.
    Drop,
}

/// Which ARP and ND requests for addresses that are known are not answered on the spot, but sent on to
/// the address's owner alone (RFC 9161 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnicastForward {
    /// None: those that only the owner can answer are flooded.
    Never,
    /// Those that only the owner can answer.
    Options,
    /// All.
    Always,
}

/// Who makes the copies of broadcast and multicast for other VTEPs (RFC 9574).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replication {
    /// We do.
    Ingress,
    /// A replicator does, as long as there is one.
    ArLeaf,
}

/// What other VTEPs are asked not to send us (RFC 9574 §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// BM: broadcast and multicast.
    pub broadcast: bool,
    /// U: unknown unicast.
    pub unknown: bool,
}

/// Which devices are ports of a bridge domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortPattern {
    /// A device name, or a glob with `*`, `?` and `[…]`.
    pub pattern: String,
    /// VLAN on the port, 1 to 4094; `None` for untagged.
    pub vlan: Option<u16>,
}

impl BdConfig {
    /// A bridge domain with the defaults of the configuration file and no ports.
    pub fn new(name: BdName, vni: Vni) -> Self {
        Self {
            name,
            vni,
            ports: Vec::new(),
            rd: None,
            rt_import: None,
            rt_export: None,
            suppress: true,
            flood: FloodPolicy::All,
            learning: true,
            ageing: Some(Duration::from_secs(300)),
            max_macs_per_port: 1024,
            bum_rate: 20_000,
            learn_rate: 1000,
            unknown_neighbors: UnknownNeighbors::Flood,
            downstream_vni: false,
            any_ethernet_tag: false,
            dhcp_snooping: true,
            source_filter: true,
            server_guard: false,
            duplicate: None,
            duplicate_ip: None,
            anycast: BTreeSet::new(),
            unicast_forward: UnicastForward::Never,
            replication: Replication::Ingress,
            prune: Pruned::default(),
            honor_prune: true,
        }
    }
}
