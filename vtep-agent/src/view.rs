//! What `show` prints, as data: the JSON of the control socket is these types, field by field.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

/// `show status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// `running`, `restarting`, `draining` or `drained`.
    pub state: String,
    /// Seconds until programs are detached; only while `draining`.
    pub remaining_s: Option<u64>,
    /// As `/readyz`: the agent does all that it should.
    pub ready: bool,
    /// Why it is not ready, a line each.
    pub reasons: Vec<String>,
}

/// `show bgp`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bgp {
    /// Our AS.
    pub asn: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// The agent was restarted, and keeps what was installed before until every peer has sent its
    /// End-of-RIB.
    #[serde(default)]
    pub restarting: bool,
    /// Every peer, by address, then by interface.
    pub peers: Vec<Peer>,
}

/// A peer in `show bgp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its address; `null` for a peer behind an interface as long as it has not shown itself.
    pub address: Option<IpAddr>,
    /// The interface that it is known by, if it is not known by its address.
    #[serde(default)]
    pub interface: Option<String>,
    /// It is not configured: it came from a prefix that may.
    #[serde(default)]
    pub dynamic: bool,
    /// Its AS; `null` for an `external` peer that was never up.
    pub asn: Option<u32>,
    /// The AS as which it knows us, of its `local_as`; `null`: our own.
    #[serde(default)]
    pub local_as: Option<u32>,
    /// The name that it gave itself.
    #[serde(default)]
    pub hostname: Option<String>,
    /// RFC 4271 state in lower case.
    pub state: String,
    /// Time in `established`.
    pub uptime_s: Option<u64>,
    /// Hold time that both sides agreed on, 0 for none; `null` without a session.
    #[serde(default)]
    pub hold_time_s: Option<u64>,
    /// Its BGP identifier: of this session or the last; `null` before.
    #[serde(default)]
    pub router_id: Option<Ipv4Addr>,
    /// Routes in its adj-rib-in.
    pub routes_received: u64,
    /// Those that some bridge domain imports, or that the underlay accepts.
    pub routes_accepted: u64,
    /// Those that are kept while the peer restarts.
    #[serde(default)]
    pub routes_stale: u64,
    /// Routes in its adj-rib-out.
    pub routes_sent: u64,
    /// Families of the session: `evpn`, `ipv4`, `ipv6`.
    #[serde(default)]
    pub families: Vec<String>,
    /// Capabilities that both sides have, by name.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// How long the peer's routes are kept while it restarts; `null`: it doesn't restart gracefully.
    #[serde(default)]
    pub restart_time_s: Option<u64>,
    /// Graceful restart as agreed on in this session or the last; `null`: not at all.
    #[serde(default)]
    pub graceful_restart: Option<GracefulRestart>,
    /// Why the session last went down, or the last malformed UPDATE.
    pub last_error: Option<String>,
    /// Its BFD session; `null`: none is configured.
    #[serde(default)]
    pub bfd: Option<Bfd>,
    /// Route target memberships of this session; `null`: none are exchanged.
    #[serde(default)]
    pub rt_constraint: Option<RtConstraint>,
}

/// Route target memberships in `show bgp` (RFC 4684). One is `ASN:TARGET`, the AS being the one that
/// asks, with a prefix length if not all of it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RtConstraint {
    /// How many the peer sent: what it asks for.
    pub received: u64,
    /// How many we sent: what it is asked for.
    pub sent: u64,
    /// The peer has sent all of its own, or was waited for long enough: until then it gets no routes.
    pub complete: bool,
    /// Those received, the first [`RtConstraint::LISTED`] of them.
    pub received_targets: Vec<String>,
    /// Those sent, as many.
    pub sent_targets: Vec<String>,
}

impl RtConstraint {
    /// Most memberships that are listed for each direction; all are counted.
    pub const LISTED: usize = 256;
}

/// The BFD session of a peer in `show bgp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bfd {
    /// `admin_down`, `down`, `init` or `up`,
    pub state: String,
    /// for so many seconds.
    pub state_s: u64,
    /// The peer's state; `null` when it is not heard.
    pub remote_state: Option<String>,
    /// Multihop (RFC 5883).
    pub multihop: bool,
    /// Interval at which we send, without jitter; `null`: the peer wants no periodic packets.
    pub transmit_ms: Option<u64>,
    /// How long the peer may be silent; `null` when it is not heard.
    pub detection_ms: Option<u64>,
    /// Why it last left `up`.
    pub last_down: Option<String>,
    /// How long ago.
    pub last_down_s: Option<u64>,
    /// What keeps it from coming up, as far as the agent sees.
    pub problem: Option<String>,
}

/// Graceful restart of a peer in `show bgp` (RFC 4724, RFC 8538, RFC 9494).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// A NOTIFICATION that is no hard reset ends no routes either: N bit of both.
    pub notification: bool,
    /// R bit of the peer's OPEN: it had restarted.
    pub restarting: bool,
    /// F bit of its OPEN: its forwarding went on.
    pub forwarding_preserved: bool,
    /// How much longer its routes stay as long-lived stale ones; `null`: not at all.
    pub long_lived_s: Option<u64>,
    /// It ended its first routes of this session (End-of-RIB).
    pub end_of_rib: bool,
    /// Why its stale routes are kept; `null` while there are none.
    pub stale_reason: Option<String>,
}

/// An element of `show routes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// EVPN route type.
    #[serde(rename = "type")]
    pub route_type: u8,
    /// Route distinguisher.
    pub rd: String,
    /// As FRR prints it.
    pub key: String,
    /// Next hop.
    pub next_hop: Option<IpAddr>,
    /// Where it came from; `null` for our own.
    pub peer: Option<IpAddr>,
    /// Which of the peer's paths it is; `null` when the peer sends one for each route.
    #[serde(default)]
    pub path_id: Option<u32>,
    /// Best of its key.
    pub best: bool,
    /// In use in some bridge domain (a route of our own: announced).
    pub installed: bool,
    /// Kept while its peer restarts, until the peer sends it again or ends its routes.
    #[serde(default)]
    pub stale: bool,
    /// Why it is kept.
    #[serde(default)]
    pub stale_reason: Option<String>,
    /// Why it is not best or not installed.
    pub reason: Option<String>,
    /// Path attributes.
    pub attributes: RouteAttributes,
}

/// Attributes in `show routes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteAttributes {
    /// `AS:n` and so on.
    pub route_targets: Vec<String>,
    /// Label 1, or the label of the PMSI tunnel attribute.
    pub vni: Option<u32>,
    /// MAC mobility sequence, 0 without the community.
    pub sequence: Option<u32>,
    /// MAC mobility's sticky flag.
    pub sticky: bool,
    /// Ethernet segment; `null` when single-homed.
    pub esi: Option<String>,
    /// AS path as text.
    pub as_path: Option<String>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ORIGINATOR_ID.
    pub originator_id: Option<Ipv4Addr>,
    /// Tunnel types of the encapsulation communities, by name.
    pub encapsulations: Vec<String>,
}

/// An element of `show routes --family ipv4` and `ipv6`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnicastRoute {
    /// The prefix.
    pub prefix: String,
    /// Next hop; `null` for our own.
    pub next_hop: Option<IpAddr>,
    /// Where it came from; `null` for our own.
    pub peer: Option<IpAddr>,
    /// Best of its prefix.
    pub best: bool,
    /// In the host's routing table, perhaps beside others (a route of our own: announced).
    pub installed: bool,
    /// Not sent again yet since its peer began to send everything again.
    pub stale: bool,
    /// Why it is not installed.
    pub reason: Option<String>,
    /// Path attributes.
    pub attributes: UnicastAttributes,
}

/// Attributes in `show routes --family ipv4` and `ipv6`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnicastAttributes {
    /// AS path as text.
    pub as_path: Option<String>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// `igp`, `egp` or `incomplete`.
    pub origin: Option<String>,
}

/// An element of `show bds`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bd {
    /// Name.
    pub name: String,
    /// VNI.
    pub vni: u32,
    /// RD.
    pub rd: String,
    /// Imported targets.
    pub rt_import: Vec<String>,
    /// Exported targets.
    pub rt_export: Vec<String>,
    /// Ports that exist.
    pub ports: u64,
    /// MACs behind them.
    pub local_macs: u64,
    /// MACs behind other VTEPs.
    pub remote_macs: u64,
    /// Other VTEPs.
    pub vteps: u64,
}

/// An element of `show macs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MacEntry {
    /// Bridge domain.
    pub bd: String,
    /// Its VNI.
    pub vni: u32,
    /// The MAC.
    pub mac: String,
    /// `learned`, `declared` or `remote`.
    pub origin: String,
    /// Port, when local.
    pub port: Option<String>,
    /// VTEP, when remote.
    pub vtep: Option<IpAddr>,
    /// Ethernet segment.
    pub esi: Option<String>,
    /// Mobility sequence.
    pub seq: u32,
    /// Sticky.
    pub sticky: bool,
    /// Found on too many places in too short a time.
    pub duplicate: bool,
    /// What is done with a duplicate: `warn`, `freeze` or `drop`.
    #[serde(default)]
    pub duplicate_action: Option<String>,
    /// Moves that made it one.
    #[serde(default)]
    pub moves: Option<u32>,
    /// Since it was last seen (learned), declared, or received.
    pub age_s: u64,
}

/// An element of `show neighbors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Bridge domain.
    pub bd: String,
    /// Address.
    pub ip: IpAddr,
    /// Its MAC.
    pub mac: String,
    /// `learned`, `declared` or `remote`.
    pub origin: String,
    /// What a learned one is known from: `arp`, `nd`, or `dhcp` while a lease lasts.
    #[serde(default)]
    pub source: Option<String>,
    /// Seconds of the DHCP lease that are left; `null`: there is none, or it has no end.
    #[serde(default)]
    pub lease_s: Option<u64>,
    /// R flag (IPv6).
    pub router: bool,
    /// O flag (IPv6).
    #[serde(default)]
    pub r#override: bool,
    /// I flag (RFC 9047): declared, here or elsewhere.
    #[serde(default)]
    pub immutable: bool,
    /// Several hosts have it on purpose, and answer for themselves.
    #[serde(default)]
    pub anycast: bool,
    /// Its MAC changed too often in too short a time.
    #[serde(default)]
    pub duplicate: bool,
    /// What is done with a duplicate: `warn` or `block`.
    #[serde(default)]
    pub duplicate_action: Option<String>,
    /// Changes of MAC that made it one.
    #[serde(default)]
    pub moves: Option<u32>,
}

/// An element of `show vteps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vtep {
    /// Address.
    pub address: IpAddr,
    /// Bridge domains that it is in.
    pub bds: Vec<String>,
    /// MACs behind it.
    pub macs: u64,
    /// There is an underlay path.
    pub reachable: bool,
    /// Metric of the kernel's route to it, the IGP cost of the decision; `None`: unreachable, or not yet
    /// known.
    #[serde(default)]
    pub metric: Option<u32>,
}

/// An element of `show flood`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flood {
    /// Bridge domain.
    pub bd: String,
    /// Its VNI.
    pub vni: u32,
    /// Local receivers.
    pub ports: Vec<String>,
    /// Remote receivers.
    pub vteps: Vec<FloodVtep>,
    /// VTEPs that offer to make the copies (RFC 9574).
    #[serde(default)]
    pub replicators: Vec<Replicator>,
}

/// A replicator in `show flood`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replicator {
    /// Its AR-IP.
    pub address: IpAddr,
    /// VNI towards it.
    pub vni: u32,
    /// `active` (it makes the copies), `standby`, `activating`, `unreachable`, `selective`, or `unused`
    /// where the bridge domain is no AR-LEAF.
    pub state: String,
}

/// A remote receiver in `show flood`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloodVtep {
    /// Address.
    pub address: IpAddr,
    /// VNI towards it.
    pub vni: u32,
    /// What it asks not to be sent, and is not: `broadcast` (and multicast), `unknown` (unicast).
    #[serde(default)]
    pub pruned: Vec<String>,
}

/// An element of `show ports`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Device.
    pub name: String,
    /// `null` while waiting.
    pub ifindex: Option<u32>,
    /// Bridge domain.
    pub bd: String,
    /// VLAN on the port.
    pub vlan: Option<u16>,
    /// `up`, `down` or `waiting`.
    pub state: String,
    /// Frames from the VM.
    pub rx_packets: u64,
    /// Frames to the VM.
    pub tx_packets: u64,
    /// Frames from the VM that were dropped.
    pub drops: u64,
    /// Whether frames from anybody but the port's declared endpoints are dropped.
    #[serde(default)]
    pub source_filter: bool,
    /// Bytes from the VM.
    pub rx_bytes: u64,
    /// Bytes to the VM.
    pub tx_bytes: u64,
    /// Slot in the datapath's tables.
    #[serde(skip)]
    pub slot: Option<u32>,
}

/// An element of `show uplinks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uplink {
    /// Device.
    pub name: String,
    /// `null` while waiting.
    pub ifindex: Option<u32>,
    /// `native`, `generic` or `off`.
    pub xdp: String,
    /// `up`, `down` or `waiting`.
    pub state: String,
    /// MTU; `null` while waiting.
    pub mtu: Option<u32>,
}

/// `show counters`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Dropped frames by reason; every reason is there.
    pub drops: BTreeMap<String, u64>,
    /// Decapsulated.
    pub rx: Traffic,
    /// Encapsulated.
    pub tx: Traffic,
    /// Answered on the spot.
    pub suppressed: Suppressed,
    /// Copies of BUM frames.
    pub flood_copies: u64,
    /// Entries that could not be written yet, by BPF map; those of a full map stay here. Maps that
    /// are complete are left out.
    pub unwritten: BTreeMap<String, u64>,
    /// How full each BPF map is.
    #[serde(default)]
    pub maps: BTreeMap<String, MapFill>,
    /// Times that all maps were compared with what was written to them.
    #[serde(default)]
    pub audits: u64,
    /// Entries that differed and were written again, by BPF map; only where there were any.
    #[serde(default)]
    pub audit_differences: BTreeMap<String, u64>,
}

/// A line of `trace`: what one program did with a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TracedFrame {
    /// `access_tc`, `underlay_xdp`, `underlay_tc` or `overlay_tc`.
    pub program: String,
    /// The device that it runs on.
    pub device: Option<String>,
    /// `forwarded`, `dropped`, `answered` (ARP, ND, too big), `agent` (for the agent itself) or
    /// `passed` (to the next program).
    pub verdict: String,
    /// Which way it was forwarded: direction and path as in `vtep_packets_total`.
    pub path: Option<String>,
    /// Why it was dropped.
    pub reason: Option<String>,
    /// Bridge domain, if there is one.
    pub bd: Option<String>,
    /// VNI: that of the frame, or of the bridge domain.
    pub vni: Option<u32>,
    /// The port that it came from.
    pub port: Option<String>,
    /// The VTEP that it came from.
    pub vtep: Option<Ipv4Addr>,
    /// Source of the tenant's frame.
    pub source: String,
    /// Its destination.
    pub destination: String,
    /// Its EtherType, or that of its first tag.
    pub ethertype: String,
    /// VLAN on the port.
    pub vlan: Option<u16>,
    /// Bytes, as it came.
    pub length: u32,
    /// What the table of MACs says of the destination: `port`, `vtep`, `group` (broadcast and
    /// multicast are not looked up), `unknown`, `black_hole` or `stale`.
    pub lookup: String,
    /// The port or the VTEPs that it names.
    pub target: Option<String>,
}

/// Use of a BPF map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapFill {
    /// Entries that the agent wrote.
    pub entries: u64,
    /// Room.
    pub capacity: u64,
}

/// Packets and bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes of the tenants' frames.
    pub bytes: u64,
}

/// Suppressed requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Suppressed {
    /// ARP requests.
    pub arp: u64,
    /// Neighbour solicitations.
    pub nd: u64,
}
