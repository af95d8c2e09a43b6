//! What goes into the core and what comes out.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use vtep_common::abi::{Adjacency, DhcpEvent, Event, FdbKey};

use crate::{
    bgp::{
        peer::PeerEvent,
        rib::Advertisement,
        wire::{Family, Update},
    },
    config::{BdConfig, Config, PortPattern, XdpMode},
    types::{BdName, IfName, Mac, PeerId},
};

use serde::{Deserialize, Serialize};

/// Something happened. The core's whole state is a function of the sequence of these.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// A BGP session came, went, or delivered an UPDATE.
    Peer(PeerId, PeerEvent),
    /// UPDATEs in the order in which they came, from any peers. What comes of one is done once for all:
    /// flood lists, next hops, entries of maps.
    Updates(Vec<(PeerId, Box<Update>)>),
    /// A network device appeared or changed.
    Link(Link),
    /// A network device is gone.
    LinkGone(u32),
    /// The underlay paths to a tracked next hop, empty when unreachable, and the metric of the kernel's
    /// route to it, 0 when unreachable. At most
    /// [`VtepEntry::PATHS`](vtep_common::abi::VtepEntry::PATHS) are used.
    Paths(IpAddr, Vec<Adjacency>, u32),
    /// A record of the ring buffer.
    Event(Event),
    /// A record of the ring buffer with a DHCP message.
    Dhcp(#[serde(with = "dhcp")] Box<DhcpEvent>),
    /// How long ago local MACs were last seen, from a scan of the `fdb` map.
    Idle(Vec<(FdbKey, Duration)>),
    /// What an earlier run knew of local endpoints has all been handed in; of no meaning unless
    /// [`Start::forwarding_preserved`](super::Start::forwarding_preserved).
    Recovered,
    /// Time passed; see [`Core::deadline`](super::Core::deadline).
    Tick,
}

/// A request of an operator or orchestrator. Answered at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Applies a new configuration file; touches only what the file owns.
    Reload(Box<Config>),
    /// `attach NIC`; the mode is the configured one when `None`.
    Attach(IfName, Option<XdpMode>),
    /// `detach NIC`
    Detach(IfName),
    /// `bd add`
    AddBd(Box<BdConfig>),
    /// `bd del`
    DeleteBd(BdName),
    /// `port add`
    AddPort {
        /// The bridge domain.
        bd: BdName,
        /// The device, which may not exist yet. Never a glob.
        port: PortPattern,
        /// A declared endpoint behind it.
        endpoint: Option<DeclaredEndpoint>,
    },
    /// `port del`: the port, or one declared endpoint of it.
    DeletePort {
        /// The device.
        device: IfName,
        /// VLAN on the port; `None` for the untagged port.
        vlan: Option<u16>,
        /// Only this endpoint.
        mac: Option<Mac>,
    },
    /// `drain`: withdraws everything, and detaches every device after this time, or the configured
    /// one.
    Drain(Option<Duration>),
    /// `clear duplicates`: lets the duplicate MACs of this bridge domain, or of all, go.
    ClearDuplicates(Option<BdName>),
}

/// An endpoint that an orchestrator declares: never aged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredEndpoint {
    /// The VM's MAC.
    pub mac: Mac,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Announced with the sticky flag (RFC 7432 §15.2).
    pub sticky: bool,
}

/// What the daemon is to do.
#[derive(Clone, Debug, Serialize)]
pub enum Output {
    /// Announce and withdraw routes at a peer.
    Send(PeerId, Advertisement),
    /// End the session of a peer that sent more routes of a family than this limit of its.
    TooManyRoutes(PeerId, Family, u32),
    /// Watch the underlay paths to this address and report them as [`Input::Paths`]: once, also when
    /// they are watched already, and then whenever they change.
    Track(IpAddr),
    /// Stop watching.
    Untrack(IpAddr),
    /// Keep this route to the prefix in the kernel's routing table, or none of ours.
    HostRoute(IpNet, Option<HostRoute>),
    /// What there is of host routes was said: others that an earlier run made are not needed.
    HostRoutesComplete,
    /// Send this frame out of a port's device.
    Transmit(u32, Vec<u8>),
    /// Attach the access program to this device.
    AttachPort(u32, IfName),
    /// Detach it.
    DetachPort(u32, IfName),
    /// Attach the underlay programs.
    AttachUplink(u32, IfName, XdpMode),
    /// Detach them.
    DetachUplink(u32, IfName),
    /// Write this to the state directory.
    Persist(Box<super::State>),
    /// [`Core::settled`](super::Core::settled) became true.
    Settled,
    /// Peers may come from these prefixes without being configured.
    DynamicPeers(Vec<crate::config::DynamicPeers>),
    /// The configured peers are now these (ids stay with addresses).
    Peers(Vec<(PeerId, crate::config::PeerConfig)>),
}

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostRoute {
    /// Routing table.
    pub table: u32,
    /// Metric (priority); the lowest of several routes to a prefix is used.
    pub metric: u32,
    /// Source address of what the host itself sends that way; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    /// At least one; used together (ECMP).
    pub next_hops: Vec<HostNextHop>,
}

/// A next hop, on a link of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostNextHop {
    /// The router, perhaps of the other family (RFC 8950).
    pub gateway: IpAddr,
    /// Index of its interface; `None` where the address says it.
    pub interface: Option<u32>,
}

/// A network device as the core sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Index in our namespace.
    pub ifindex: u32,
    /// Name.
    pub name: IfName,
    /// Its MAC; zero when it has none.
    pub mac: Mac,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// A veth whose other end is in another namespace, with no qdisc of its own.
    pub redirect_peer: bool,
    /// Takes redirected XDP frames (`NETDEV_XDP_ACT_NDO_XMIT`), and is no tap.
    pub redirect_xdp: bool,
}

/// Without what is behind the packet, which is anything.
mod dhcp {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use vtep_common::abi::{DhcpEvent, Event};

    #[expect(clippy::borrowed_box, reason = "that is what serde asks with")]
    pub(super) fn serialize<S: Serializer>(
        dhcp: &Box<DhcpEvent>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        (dhcp.event, dhcp.from, dhcp.length, dhcp.packet()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Box<DhcpEvent>, D::Error> {
        let (event, from, length, copied) =
            <(Event, u32, u32, Vec<u8>)>::deserialize(deserializer)?;
        let mut packet = [0; DhcpEvent::COPY];
        for (to, octet) in packet.iter_mut().zip(copied) {
            *to = octet;
        }
        Ok(Box::new(DhcpEvent {
            event,
            from,
            length,
            packet,
        }))
    }
}
