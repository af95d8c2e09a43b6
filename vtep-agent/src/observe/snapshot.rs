use std::collections::BTreeMap;

use vtep_common::{
    DropReason,
    abi::{BdCounters, Path, PortCounters, Traffic},
};

/// Everything that one scrape reports, gathered by the daemon when it is asked.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// BGP peers.
    pub peers: Vec<PeerMetrics>,
    /// Bridge domains.
    pub bds: Vec<BdMetrics>,
    /// VM ports that exist.
    pub ports: Vec<PortMetrics>,
    /// `path_counters`; a path that is not here counts as zero.
    pub paths: Vec<PathMetrics>,
    /// `drops`; a reason that is not here counts as zero.
    pub drops: Vec<(DropReason, u64)>,
    /// BPF maps.
    pub maps: Vec<MapMetrics>,
    /// Map writes since the start by kind: `insert`, `update`, `delete` and so on.
    pub reconcile_operations: BTreeMap<&'static str, u64>,
    /// Map writes that failed.
    pub reconcile_errors: u64,
    /// Times that all maps were compared with what was written to them.
    pub audits: u64,
    /// Entries that differed, by map.
    pub audit_differences: Vec<(&'static str, u64)>,
    /// Learning events that did not reach the agent.
    pub events_lost: u64,
    /// Learning events that ports' budgets withheld.
    pub events_limited: u64,
    /// TCP segments that the host dropped because of their signature, by what was wrong with it.
    pub signature_failures: BTreeMap<&'static str, u64>,
    /// BFD packets discarded, by reason.
    pub bfd_discards: Vec<(&'static str, u64)>,
    /// Routes in the host's routing tables.
    pub host_routes: HostRouteMetrics,
    /// What `show status` says.
    pub state: &'static str,
}

/// Routes in the host's routing tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostRouteMetrics {
    /// As they are wanted.
    pub installed: u64,
    /// Missing, or not with all their next hops.
    pub failed: u64,
    /// Requests that the kernel refused since the start.
    pub errors: u64,
}

/// A BGP peer.
#[derive(Clone, Debug)]
pub struct PeerMetrics {
    /// Its address or interface.
    pub name: String,
    /// The session is established.
    pub up: bool,
    /// Its BFD session, if there is one.
    pub bfd: Option<BfdMetrics>,
    /// Messages since the start, by direction (`sent`, `received`) and type (`open`, `update`,
    /// `notification`, `keepalive`, `route_refresh`).
    pub messages: BTreeMap<(&'static str, &'static str), u64>,
    /// Its adj-rib-in, by EVPN route type, and by name of a unicast family.
    pub routes: BTreeMap<String, u64>,
    /// Malformed UPDATEs since the start, by what RFC 7606 has done with them
    /// (`attribute_discard`, `treat_as_withdraw`, `session_reset` and so on).
    pub update_errors: BTreeMap<&'static str, u64>,
}

/// The BFD session of a peer.
#[derive(Clone, Copy, Debug)]
pub struct BfdMetrics {
    /// It is up.
    pub up: bool,
    /// Packets received, without those discarded.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
}

/// A bridge domain.
#[derive(Clone, Debug)]
pub struct BdMetrics {
    /// Its name.
    pub name: String,
    /// MACs.
    pub macs: Origins,
    /// IP to MAC bindings.
    pub neighbors: Origins,
    /// Other VTEPs.
    pub remote_vteps: u64,
    /// MACs that changed place since the start.
    pub mac_moves: u64,
    /// MACs that are duplicates now.
    pub duplicate_macs: u64,
    /// Addresses that are duplicates now.
    pub duplicate_ips: u64,
    /// A replicator makes the copies of what is broadcast.
    pub assisted: bool,
    /// Probes of endpoints since the start, by result.
    pub probes: [(&'static str, u64); 3],
    /// What became of bindings from DHCP since the start.
    pub dhcp_bindings: Vec<(&'static str, u64)>,
    /// What was not taken from DHCP since the start, by reason.
    pub dhcp_refused: Vec<(&'static str, u64)>,
    /// What the datapath counts.
    pub counters: BdCounters,
}

/// A number by origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// From frames.
    pub learned: u64,
    /// By an orchestrator.
    pub declared: u64,
    /// From BGP.
    pub remote: u64,
}

/// A VM port. Ports of one device in one bridge domain are added up.
#[derive(Clone, Debug)]
pub struct PortMetrics {
    /// Device.
    pub port: String,
    /// Bridge domain.
    pub bd: String,
    /// What the datapath counts.
    pub counters: PortCounters,
}

/// A way through the datapath.
#[derive(Clone, Copy, Debug)]
pub struct PathMetrics {
    /// Which.
    pub path: Path,
    /// Packets and bytes.
    pub traffic: Traffic,
}

/// A BPF map.
#[derive(Clone, Debug)]
pub struct MapMetrics {
    /// Its name.
    pub map: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Entries that fit.
    pub capacity: u64,
    /// Writes that are still to be done.
    pub pending: u64,
}

impl Origins {
    /// With the names that the `origin` label has.
    pub fn by_name(self) -> [(&'static str, u64); 3] {
        [
            ("learned", self.learned),
            ("declared", self.declared),
            ("remote", self.remote),
        ]
    }
}
