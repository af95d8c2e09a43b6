//! What a configuration will do, in words and as data (`vtep-agent check`).

mod bd;
mod duplicate;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::Serialize;

use self::duplicate::Duplicate;

use super::{
    Authentication, BgpConfig, Config, Diagnostic, DuplicateAction, DuplicateIpAction, Hops,
    OnStop, PeerAsn, PeerConfig, SourceCheck, UnknownVni, VtepConfig, XdpMode, underlay,
};
use crate::types::Asn;
use bd::{Bd, WithRouterId};

/// A configuration with everything derived that can be derived without touching the host.
#[derive(Debug, Serialize)]
pub struct Explanation {
    valid: bool,
    vtep: Vtep,
    bgp: Bgp,
    /// `null` without a peer that has a unicast family.
    underlay: Option<underlay::Explained>,
    bds: Vec<Bd>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Vtep {
    addresses: Vec<Ipv4Addr>,
    router_id: Ipv4Addr,
    port: u16,
    uplinks: Vec<String>,
    xdp: XdpMode,
    source_check: &'static str,
    unknown_vni: &'static str,
    max_macs: u32,
    on_stop: &'static str,
    drain_time: u64,
    pin_dir: PathBuf,
    state_dir: PathBuf,
    socket: PathBuf,
    metrics: Option<SocketAddr>,
    duplicate: Duplicate<DuplicateAction>,
    duplicate_ip: Duplicate<DuplicateIpAction>,
}

#[derive(Debug, Serialize)]
struct Bgp {
    asn: u32,
    listen: bool,
    peers: Vec<Peer>,
    dynamic: Vec<Dynamic>,
}

#[derive(Debug, Serialize)]
struct Dynamic {
    prefix: String,
    limit: u16,
    /// What they have in common; its address is the prefix's first.
    peer: Peer,
}

#[derive(Debug, Serialize)]
struct Peer {
    /// `null` for a peer known by its interface.
    address: Option<IpAddr>,
    interface: Option<String>,
    port: u16,
    /// `null`: any but ours.
    asn: Option<u32>,
    internal: bool,
    /// The AS as which it knows us; `null`: our own.
    local_as: Option<u32>,
    /// Paths towards it don't show our own AS behind that.
    replace_as: bool,
    families: Vec<&'static str>,
    /// `null`: the kernel's choice.
    local_address: Option<IpAddr>,
    hold_time: u64,
    graceful_restart: bool,
    restart_time: u64,
    /// `null`: no long-lived graceful restart.
    long_lived_graceful_restart: Option<u64>,
    unicast_graceful_restart: bool,
    strict_nlri: bool,
    enforce_first_as: bool,
    accept_as_sets: bool,
    max_prefixes: Option<u32>,
    ttl_security: Option<u8>,
    allowas_in: u8,
    rt_constraint: bool,
    add_path: bool,
    route_reflector_client: bool,
    shutdown: Option<String>,
    passive: bool,
    multihop: Option<u8>,
    password: bool,
    tcp_ao: bool,
    bfd: Option<Bfd>,
}

#[derive(Debug, Serialize)]
struct Bfd {
    /// Milliseconds.
    interval: u128,
    multiplier: u8,
    /// Largest number of hops; `null`: single hop.
    multihop: Option<u8>,
    strict: bool,
}

impl Explanation {
    /// Explains `config`; `warnings` are those of [`Config::load`].
    pub fn new(config: &Config, warnings: &[Diagnostic]) -> Self {
        let Config {
            vtep,
            bgp,
            underlay,
            bds,
        } = config;
        let mut warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        if vtep.uplinks.is_empty() {
            warnings.push("no uplinks: nothing is received until `vtep-agent attach NIC`".into());
        }
        if bgp.peers.is_empty() && bgp.dynamic.is_empty() {
            warnings.push("no [[bgp.peer]]: other VTEPs will not be known".into());
        }
        Self {
            valid: true,
            vtep: Vtep::new(vtep),
            bgp: Bgp {
                asn: bgp.asn.0,
                listen: bgp.listen,
                peers: bgp
                    .peers
                    .iter()
                    .map(|peer| Peer::new(peer, bgp, vtep))
                    .collect(),
                dynamic: bgp
                    .dynamic
                    .iter()
                    .map(|dynamic| Dynamic {
                        prefix: dynamic.prefix.to_string(),
                        limit: dynamic.limit,
                        peer: Peer::new(dynamic.template(), bgp, vtep),
                    })
                    .collect(),
            },
            underlay: underlay::Explained::new(underlay, &bgp.peers),
            bds: bds.iter().map(|bd| Bd::new(bd, bgp)).collect(),
            warnings,
        }
    }
}

impl Vtep {
    fn new(vtep: &VtepConfig) -> Self {
        Self {
            addresses: vtep.addresses.clone(),
            router_id: vtep.router_id,
            port: vtep.port,
            uplinks: vtep.uplinks.iter().map(ToString::to_string).collect(),
            xdp: vtep.xdp,
            source_check: match vtep.source_check {
                SourceCheck::Off => "off",
                SourceCheck::Loose => "loose",
                SourceCheck::Strict => "strict",
            },
            unknown_vni: match vtep.unknown_vni {
                UnknownVni::Drop => "drop",
                UnknownVni::Pass => "pass",
            },
            max_macs: vtep.max_macs,
            on_stop: match vtep.on_stop {
                OnStop::Clean => "clean",
                OnStop::Keep => "keep",
            },
            drain_time: vtep.drain_time.as_secs(),
            pin_dir: vtep.pin_dir.clone(),
            state_dir: vtep.state_dir.clone(),
            socket: vtep.socket.clone(),
            metrics: vtep.metrics,
            duplicate: Duplicate::macs(&vtep.duplicate),
            duplicate_ip: Duplicate::ips(&vtep.duplicate_ip),
        }
    }
}

impl Peer {
    fn new(peer: &PeerConfig, bgp: &BgpConfig, vtep: &VtepConfig) -> Self {
        let asn = match peer.asn {
            PeerAsn::Is(Asn(asn)) => Some(asn),
            PeerAsn::Internal => Some(peer.known_asn(bgp.asn).0),
            PeerAsn::External => None,
        };
        Self {
            address: peer.name.address(),
            interface: peer.name.interface().map(ToString::to_string),
            port: peer.port,
            asn,
            internal: peer.is_internal(bgp.asn),
            local_as: peer.local_as.map(|local| local.asn.0),
            replace_as: peer.local_as.is_some_and(|local| local.replace),
            families: peer.families.names().collect(),
            local_address: peer.source(bgp.asn, vtep.address()),
            hold_time: peer.hold_time.as_secs(),
            max_prefixes: peer.max_prefixes.map(|max| max.limit),
            ttl_security: peer.ttl_security,
            allowas_in: peer.allowas_in,
            rt_constraint: peer.rt_constraint,
            add_path: peer.add_path,
            route_reflector_client: peer.route_reflector_client,
            shutdown: peer.shutdown.clone(),
            graceful_restart: peer.graceful_restart,
            restart_time: peer.restart_time.as_secs(),
            long_lived_graceful_restart: peer
                .long_lived_graceful_restart
                .map(|time| time.as_secs()),
            unicast_graceful_restart: peer.unicast_graceful_restart,
            strict_nlri: peer.checks.strict_nlri,
            enforce_first_as: peer.checks.enforce_first_as,
            accept_as_sets: peer.checks.accept_as_sets,
            passive: peer.passive,
            multihop: peer.multihop,
            password: matches!(peer.authentication, Some(Authentication::Md5(_))),
            tcp_ao: matches!(peer.authentication, Some(Authentication::Ao(_))),
            bfd: peer.bfd.map(|bfd| Bfd {
                interval: bfd.interval.as_millis(),
                multiplier: bfd.multiplier.get(),
                multihop: match peer.bfd_hops(bgp.asn) {
                    Some(Hops::Multi(hops)) => Some(hops),
                    _ => None,
                },
                strict: bfd.strict,
            }),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.vtep.fmt(f)?;
        self.bgp.fmt(f)?;
        if let Some(underlay) = &self.underlay {
            underlay.fmt(f)?;
        }
        if self.bds.is_empty() {
            writeln!(f, "No bridge domains in the file")?;
        }
        for bd in &self.bds {
            write!(f, "{}", WithRouterId(bd, self.vtep.router_id))?;
        }
        for warning in &self.warnings {
            writeln!(f, "Warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Vtep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "VTEP {}, router id {}, UDP port {}",
            list(&self.addresses, "no address"),
            self.router_id,
            self.port
        )?;
        let xdp = match self.xdp {
            XdpMode::Auto => "native XDP where the driver has it, else TC",
            XdpMode::Native => "native XDP",
            XdpMode::Generic => "generic XDP",
            XdpMode::Off => "TC only",
        };
        writeln!(f, "  uplinks: {} ({xdp})", list(&self.uplinks, "none"))?;
        let sources = match self.source_check {
            "strict" => "next hops of the bridge domain's routes",
            "loose" => "next hops of any imported route",
            _ => "any address",
        };
        let unknown = match self.unknown_vni {
            "pass" => "are left to the host",
            _ => "are dropped",
        };
        writeln!(f, "  accepts frames from {sources}; unknown VNIs {unknown}")?;
        writeln!(f, "  up to {} MACs; {}", self.max_macs, self.duplicate.text)?;
        writeln!(f, "  {}", self.duplicate_ip.text)?;
        let stop = match self.on_stop {
            "keep" => "forwarding goes on when the agent stops",
            _ => "withdraws, detaches and unpins when it stops",
        };
        writeln!(f, "  {stop}")?;
        writeln!(f, "  a drain forwards for {} s more", self.drain_time)?;
        writeln!(
            f,
            "  pins in {}, state in {}, control socket {}",
            self.pin_dir.display(),
            self.state_dir.display(),
            self.socket.display()
        )?;
        match self.metrics {
            Some(address) => writeln!(f, "  metrics at http://{address}/metrics"),
            None => writeln!(f, "  no metrics"),
        }
    }
}

impl fmt::Display for Bgp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listen = match self.listen {
            true => "accepts connections on port 179",
            false => "only connects out",
        };
        writeln!(f, "BGP AS {}, {listen}", self.asn)?;
        self.peers.iter().try_for_each(|peer| peer.fmt(f))?;
        for dynamic in &self.dynamic {
            let Dynamic { prefix, limit, .. } = dynamic;
            writeln!(f, "  up to {limit} peers that connect from {prefix}, like")?;
            write!(f, "  {}", dynamic.peer)?;
        }
        Ok(())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, &self.interface) {
            (Some(address), _) => write!(f, "  peer {address}")?,
            (None, Some(interface)) => write!(f, "  peer behind {interface}")?,
            (None, None) => f.write_str("  peer")?,
        }
        if self.port != 179 {
            write!(f, " port {}", self.port)?;
        }
        match (self.asn, self.internal) {
            (None, _) => f.write_str(", any external AS")?,
            (Some(asn), true) => write!(f, ", AS {asn} (internal)")?,
            (Some(asn), false) => write!(f, ", AS {asn} (external)")?,
        }
        if self.families != ["evpn"] {
            write!(f, ", {}", self.families.join(" and "))?;
        }
        if let Some(local) = self.local_as {
            write!(f, ", which knows us as AS {local}")?;
        }
        if self.replace_as {
            f.write_str(" only")?;
        }
        if let Some(local) = self.local_address {
            write!(f, ", from {local}")?;
        }
        match self.hold_time {
            0 => f.write_str(", no hold time")?,
            seconds => write!(f, ", hold time {seconds} s")?,
        }
        if let Some(hops) = self.multihop {
            write!(f, ", up to {hops} hops away")?;
        }
        if let Some(hops) = self.ttl_security {
            write!(f, ", at most {hops} hops away (TTL security)")?;
        }
        if let Some(limit) = self.max_prefixes {
            write!(f, ", at most {limit} routes")?;
        }
        if self.allowas_in > 0 {
            write!(f, ", our AS up to {} times in its paths", self.allowas_in)?;
        }
        if self.route_reflector_client {
            f.write_str(", route reflector client")?;
        }
        if self.add_path {
            f.write_str(", several paths")?;
        }
        if !self.rt_constraint {
            f.write_str(", no route target constraint")?;
        }
        if self.shutdown.is_some() {
            f.write_str(", shut down")?;
        }
        if !self.graceful_restart {
            f.write_str(", no graceful restart")?;
        }
        if let Some(seconds) = self.long_lived_graceful_restart {
            write!(f, ", stale routes for {seconds} s more")?;
        }
        if self.unicast_graceful_restart {
            f.write_str(", unicast routes over a restart")?;
        }
        if self.strict_nlri {
            f.write_str(", a route of wrong length ends the session")?;
        }
        if !self.enforce_first_as {
            f.write_str(", any AS in front of its paths")?;
        }
        if self.accept_as_sets {
            f.write_str(", AS sets")?;
        }
        if self.passive {
            f.write_str(", passive")?;
        }
        if self.password {
            f.write_str(", TCP MD5")?;
        }
        if self.tcp_ao {
            f.write_str(", TCP-AO")?;
        }
        if let Some(bfd) = &self.bfd {
            write!(f, ", BFD {} x {} ms", bfd.multiplier, bfd.interval)?;
            match bfd.multihop {
                Some(u8::MAX) => f.write_str(" (multihop)")?,
                Some(hops) => write!(f, " (multihop, up to {hops})")?,
                None => f.write_str(" (single hop)")?,
            }
            if bfd.strict {
                f.write_str(", no session without it")?;
            }
        }
        writeln!(f)
    }
}

pub(super) fn list<T: ToString>(items: &[T], none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}
