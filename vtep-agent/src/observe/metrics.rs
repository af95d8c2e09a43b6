use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, Result, TextEncoder,
};
use vtep_common::{DropReason, abi::Path};

use super::snapshot::Snapshot;

/// Upper bounds of `vtep_convergence_seconds`: 0.1 ms to 10 s.
const CONVERGENCE_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// What is observed between scrapes. A clone shares it.
#[derive(Clone, Debug)]
pub struct Metrics {
    convergence: Histogram,
}

impl Metrics {
    /// Nothing observed yet.
    ///
    /// # Errors
    ///
    /// Only if the histogram's definition were invalid.
    pub fn new() -> Result<Self> {
        let options = HistogramOpts::new(
            "vtep_convergence_seconds",
            "Time from a received UPDATE to the written map.",
        );
        Ok(Self {
            convergence: Histogram::with_opts(options.buckets(CONVERGENCE_BUCKETS.to_vec()))?,
        })
    }

    /// Notes how long an UPDATE took from the socket to the maps.
    pub fn observe_convergence(&self, duration: Duration) {
        self.convergence.observe(duration.as_secs_f64());
    }

    /// The text format, version 0.0.4.
    ///
    /// # Errors
    ///
    /// Only if a metric's definition were invalid.
    pub fn render(&self, snapshot: &Snapshot) -> Result<String> {
        let page = Page(Registry::new());
        page.gauge(
            "vtep_build_info",
            "Version of the agent, always 1.",
            ["version"],
        )?
        .set([env!("CARGO_PKG_VERSION")], 1);
        page.peers(snapshot)?;
        page.bfd(snapshot)?;
        page.bds(snapshot)?;
        page.traffic(snapshot)?;
        page.agent(snapshot)?;
        page.0.register(Box::new(self.convergence.clone()))?;
        TextEncoder::new().encode_to_string(&page.0.gather())
    }
}

/// One scrape: families are made from the snapshot, so that nothing outlives the peer, port or
/// bridge domain that it is about.
struct Page(Registry);

/// A family of counters with `N` labels.
struct Counters<const N: usize>(IntCounterVec);

/// A family of gauges with `N` labels.
struct Gauges<const N: usize>(IntGaugeVec);

impl Page {
    fn peers(&self, snapshot: &Snapshot) -> Result<()> {
        let up = self.gauge("vtep_bgp_peer_up", "The session is established.", ["peer"])?;
        let messages = self.counter(
            "vtep_bgp_messages_total",
            "BGP messages.",
            ["peer", "direction", "type"],
        )?;
        let routes = self.gauge(
            "vtep_bgp_routes",
            "Routes in the peer's adj-rib-in by EVPN route type or unicast family.",
            ["peer", "type"],
        )?;
        let errors = self.counter(
            "vtep_bgp_update_errors_total",
            "Malformed UPDATEs by what was done with them (RFC 7606).",
            ["peer", "outcome"],
        )?;
        for peer in &snapshot.peers {
            let name = peer.name.as_str();
            up.set([name], peer.up.into());
            for (&(direction, kind), &count) in &peer.messages {
                messages.add([name, direction, kind], count);
            }
            for (kind, &count) in &peer.routes {
                routes.set([name, kind], count);
            }
            for (&outcome, &count) in &peer.update_errors {
                errors.add([name, outcome], count);
            }
        }
        Ok(())
    }

    fn bfd(&self, snapshot: &Snapshot) -> Result<()> {
        let up = self.gauge("vtep_bfd_up", "The peer's BFD session is up.", ["peer"])?;
        let packets = self.counter(
            "vtep_bfd_packets_total",
            "BFD packets, without those discarded.",
            ["peer", "direction"],
        )?;
        for peer in &snapshot.peers {
            if let Some(bfd) = &peer.bfd {
                let name = peer.name.as_str();
                up.set([name], bfd.up.into());
                packets.add([name, "received"], bfd.received);
                packets.add([name, "sent"], bfd.sent);
            }
        }
        let discards = self.counter(
            "vtep_bfd_discards_total",
            "BFD packets discarded by reason.",
            ["reason"],
        )?;
        for &(reason, count) in &snapshot.bfd_discards {
            discards.add([reason], count);
        }
        Ok(())
    }

    fn bds(&self, snapshot: &Snapshot) -> Result<()> {
        let macs = self.gauge("vtep_macs", "MAC addresses.", ["bd", "origin"])?;
        let neighbors = self.gauge("vtep_neighbors", "IP to MAC bindings.", ["bd", "origin"])?;
        let vteps = self.gauge("vtep_remote_vteps", "Other VTEPs.", ["bd"])?;
        let suppressed = self.counter(
            "vtep_suppressed_total",
            "ARP requests and neighbour solicitations answered on the spot.",
            ["bd", "protocol"],
        )?;
        let copies = self.counter(
            "vtep_flood_copies_total",
            "Copies made of broadcast, unknown unicast and multicast frames.",
            ["bd"],
        )?;
        let moves = self.counter("vtep_mac_moves_total", "MACs that changed place.", ["bd"])?;
        let duplicates = self.gauge(
            "vtep_duplicate_macs",
            "MACs that are duplicates now.",
            ["bd"],
        )?;
        let duplicate_ips = self.gauge(
            "vtep_duplicate_ips",
            "Addresses that are duplicates now.",
            ["bd"],
        )?;
        let assisted = self.gauge(
            "vtep_assisted_replication",
            "A replicator makes the copies of broadcast and multicast (RFC 9574).",
            ["bd"],
        )?;
        let probes = self.counter(
            "vtep_endpoint_probes_total",
            "Questions to VMs whether they still have an address, and what came of them.",
            ["bd", "result"],
        )?;
        let bindings = self.counter(
            "vtep_dhcp_bindings_total",
            "Addresses of VMs learned from DHCP, and what became of them.",
            ["bd", "event"],
        )?;
        let refused = self.counter(
            "vtep_dhcp_refused_total",
            "What was not learned from DHCP by reason.",
            ["bd", "reason"],
        )?;
        for bd in &snapshot.bds {
            let name = bd.name.as_str();
            for (origin, count) in bd.macs.by_name() {
                macs.set([name, origin], count);
            }
            for (origin, count) in bd.neighbors.by_name() {
                neighbors.set([name, origin], count);
            }
            vteps.set([name], bd.remote_vteps);
            suppressed.add([name, "arp"], bd.counters.suppressed_arp);
            suppressed.add([name, "nd"], bd.counters.suppressed_nd);
            copies.add([name], bd.counters.flood_copies);
            moves.add([name], bd.mac_moves);
            duplicates.set([name], bd.duplicate_macs);
            duplicate_ips.set([name], bd.duplicate_ips);
            assisted.set([name], bd.assisted.into());
            for (result, count) in bd.probes {
                probes.add([name, result], count);
            }
            for &(event, count) in &bd.dhcp_bindings {
                bindings.add([name, event], count);
            }
            for &(reason, count) in &bd.dhcp_refused {
                refused.add([name, reason], count);
            }
        }
        Ok(())
    }

    fn traffic(&self, snapshot: &Snapshot) -> Result<()> {
        let labels = ["direction", "path"];
        let help = "Tenants' frames by their way through the datapath.";
        let packets = self.counter("vtep_packets_total", help, labels)?;
        let help = "Bytes of tenants' frames by their way through the datapath.";
        let bytes = self.counter("vtep_bytes_total", help, labels)?;
        for path in Path::ALL {
            packets.add([path.direction(), path.name()], 0);
            bytes.add([path.direction(), path.name()], 0);
        }
        for path in &snapshot.paths {
            let labels = [path.path.direction(), path.path.name()];
            packets.add(labels, path.traffic.packets);
            bytes.add(labels, path.traffic.bytes);
        }

        let labels = ["port", "bd", "direction"];
        let help = "Frames from (rx) and to (tx) a VM port.";
        let packets = self.counter("vtep_port_packets_total", help, labels)?;
        let help = "Bytes from (rx) and to (tx) a VM port.";
        let bytes = self.counter("vtep_port_bytes_total", help, labels)?;
        for port in &snapshot.ports {
            let directions = [("rx", port.counters.rx), ("tx", port.counters.tx)];
            for (direction, traffic) in directions {
                let labels = [port.port.as_str(), port.bd.as_str(), direction];
                packets.add(labels, traffic.packets);
                bytes.add(labels, traffic.bytes);
            }
        }

        let drops = self.counter("vtep_drops_total", "Frames refused by reason.", ["reason"])?;
        for reason in DropReason::ALL {
            drops.add([reason.name()], 0);
        }
        for (reason, count) in &snapshot.drops {
            drops.add([reason.name()], *count);
        }
        Ok(())
    }

    fn agent(&self, snapshot: &Snapshot) -> Result<()> {
        let state = self.gauge("vtep_state", "What the agent is doing, 1.", ["state"])?;
        for known in ["running", "restarting", "draining", "drained"] {
            state.set([known], u64::from(known == snapshot.state));
        }
        let entries = self.gauge("vtep_map_entries", "Entries in use of a BPF map.", ["map"])?;
        let capacity = self.gauge("vtep_map_capacity", "Size of a BPF map.", ["map"])?;
        let pending = self.gauge(
            "vtep_map_pending",
            "Writes to a BPF map that are still to be done; stays above 0 when it is full.",
            ["map"],
        )?;
        for map in &snapshot.maps {
            entries.set([map.map], map.entries);
            capacity.set([map.map], map.capacity);
            pending.set([map.map], map.pending);
        }
        let operations = self.counter(
            "vtep_reconcile_operations_total",
            "Writes to BPF maps by kind.",
            ["op"],
        )?;
        for (&operation, &count) in &snapshot.reconcile_operations {
            operations.add([operation], count);
        }
        self.counter(
            "vtep_reconcile_errors_total",
            "Writes to BPF maps that failed.",
            [],
        )?
        .add([], snapshot.reconcile_errors);
        self.counter(
            "vtep_audits_total",
            "Times that all BPF maps were compared with what was written to them.",
            [],
        )?
        .add([], snapshot.audits);
        let differences = self.counter(
            "vtep_audit_differences_total",
            "Entries of BPF maps that were not as written, and were written again.",
            ["map"],
        )?;
        for &(map, count) in &snapshot.audit_differences {
            differences.add([map], count);
        }
        let routes = self.gauge(
            "vtep_host_routes",
            "Routes of the underlay in the host's routing tables.",
            ["state"],
        )?;
        routes.set(["installed"], snapshot.host_routes.installed);
        routes.set(["failed"], snapshot.host_routes.failed);
        self.counter(
            "vtep_host_route_errors_total",
            "Changes of the host's routing tables that the kernel refused.",
            [],
        )?
        .add([], snapshot.host_routes.errors);
        self.counter(
            "vtep_events_lost_total",
            "Learning events that did not reach the agent.",
            [],
        )?
        .add([], snapshot.events_lost);
        self.counter(
            "vtep_events_limited_total",
            "Learning events that the budget of a port withheld.",
            [],
        )?
        .add([], snapshot.events_limited);
        let signatures = self.counter(
            "vtep_tcp_signature_failures_total",
            "TCP segments that the host dropped because of their MD5 or AO signature.",
            ["reason"],
        )?;
        for (&reason, &count) in &snapshot.signature_failures {
            signatures.add([reason], count);
        }
        Ok(())
    }

    fn counter<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Counters<N>> {
        let family = IntCounterVec::new(Opts::new(name, help), &labels)?;
        self.0.register(Box::new(family.clone()))?;
        Ok(Counters(family))
    }

    fn gauge<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Gauges<N>> {
        let family = IntGaugeVec::new(Opts::new(name, help), &labels)?;
        self.0.register(Box::new(family.clone()))?;
        Ok(Gauges(family))
    }
}

impl<const N: usize> Counters<N> {
    fn add(&self, labels: [&str; N], count: u64) {
        self.0.with_label_values(&labels).inc_by(count);
    }
}

impl<const N: usize> Gauges<N> {
    fn set(&self, labels: [&str; N], value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.with_label_values(&labels).set(value);
    }
}
