//! Which bridge domains a route is for, and whether it can be used there.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use vtep_common::abi::BdId;

use super::{Pruned, Receiver, Remote, RemoteId, Replicator};
use crate::{
    bgp::{
        rib::{Best, LLGR_STALE},
        wire::{
            ArpNd, Attributes, Encapsulation, Imet, MacIp, PmsiTunnel, Route, RouteKey, TunnelType,
        },
    },
    config::BdConfig,
    types::{Esi, EthernetTag, ImportTarget, Mac, RouteTarget, Vni, hash::HashMap},
};

/// Bridge domains by what they import. A route costs as many look-ups as it has targets.
#[derive(Debug, Default)]
pub struct TargetIndex {
    exact: HashMap<RouteTarget, Vec<BdId>>,
    /// By the lower 16 bits of the number, which every form of target has.
    any_admin: HashMap<u16, Vec<(u32, BdId)>>,
    targets: BTreeMap<BdId, Vec<ImportTarget>>,
}

/// A route in the form in which a bridge domain uses it.
#[derive(Clone, Debug, PartialEq)]
pub enum Imported {
    /// Type 2.
    Mac(Mac, RemoteId, Remote),
    /// Type 3.
    Receiver(RouteKey, Receiver),
    /// Type 3, of an AR-REPLICATOR.
    Replicator(RouteKey, Replicator),
}

/// Why a bridge domain imports a route and yet doesn't use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unused {
    /// RFC 8365 §6: no encapsulation in common.
    Encapsulation(Vec<Encapsulation>),
    /// RFC 8365 §5.1.3: 0 in VLAN-based service.
    EthernetTag(EthernetTag),
    /// With global VNIs the label must be the bridge domain's.
    Vni {
        /// What the route carries.
        label: u32,
        /// What we have.
        vni: Vni,
    },
    /// RFC 7432 §9.2.2: needs the per-ES Ethernet A-D route, which is not processed.
    Segment(Esi),
    /// RFC 9014 §3.5.1: where unknown MACs are sent; here they are flooded.
    UnknownMacRoute,
    /// RFC 7432 §11.2: without PMSI tunnel attribute.
    NoTunnel,
    /// A tunnel type that we don't replicate to.
    Tunnel(TunnelType),
    /// The underlay is IPv4.
    NextHopFamily(IpAddr),
    /// A route type that bridge domains don't use.
    RouteType(u8),
}

/// How `route` is used in a bridge domain that imports it.
pub fn import(best: &Best, bd: &BdConfig) -> Result<Imported, Unused> {
    let attributes = &best.attributes;
    encapsulation(attributes)?;
    match &best.route {
        Route::MacIp(route) => mac_ip(route, best, bd),
        Route::Imet(route) => imet(route, best, bd),
        route => Err(Unused::RouteType(route.route_type())),
    }
}

impl TargetIndex {
    /// Sets what `bd` imports, in place of what it imported.
    pub fn set(&mut self, bd: BdId, targets: &[ImportTarget]) {
        self.remove(bd);
        for target in targets {
            match target {
                ImportTarget::Exact(target) => self.exact.entry(*target).or_default().push(bd),
                ImportTarget::AnyAdmin(number) => self
                    .any_admin
                    .entry(*number as u16)
                    .or_default()
                    .push((*number, bd)),
            }
        }
        self.targets.insert(bd, targets.to_vec());
    }

    /// `bd` imports nothing any more.
    pub fn remove(&mut self, bd: BdId) {
        for target in self.targets.remove(&bd).unwrap_or_default() {
            match target {
                ImportTarget::Exact(target) => {
                    if let Some(bds) = self.exact.get_mut(&target) {
                        bds.retain(|other| *other != bd);
                        if bds.is_empty() {
                            self.exact.remove(&target);
                        }
                    }
                }
                ImportTarget::AnyAdmin(number) => {
                    let low = number as u16;
                    if let Some(bds) = self.any_admin.get_mut(&low) {
                        bds.retain(|(_, other)| *other != bd);
                        if bds.is_empty() {
                            self.any_admin.remove(&low);
                        }
                    }
                }
            }
        }
    }

    /// What `bd` imports.
    pub fn get(&self, bd: BdId) -> &[ImportTarget] {
        self.targets.get(&bd).map_or(&[], Vec::as_slice)
    }

    /// Bridge domains that import a route with these attributes, each once, in order.
    pub fn matching(&self, attributes: &Attributes) -> Vec<BdId> {
        let targets = attributes.route_targets();
        let mut found: Vec<_> = targets.flat_map(|target| self.importing(target)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether any bridge domain imports a route with these attributes.
    pub fn has_match(&self, attributes: &Attributes) -> bool {
        let mut targets = attributes.route_targets();
        targets.any(|target| self.importing(target).next().is_some())
    }

    fn importing(&self, target: RouteTarget) -> impl Iterator<Item = BdId> {
        let exact = self.exact.get(&target).into_iter().flatten().copied();
        let low = target.local_admin() as u16;
        let wildcard = self.any_admin.get(&low).into_iter().flatten();
        let wildcard = wildcard.filter_map(move |(number, bd)| {
            ImportTarget::AnyAdmin(*number)
                .matches(target)
                .then_some(*bd)
        });
        exact.chain(wildcard)
    }
}

/// Without the community the configured encapsulation is meant (RFC 8365 §6).
fn encapsulation(attributes: &Attributes) -> Result<(), Unused> {
    let mut tunnels = attributes.tunnels().peekable();
    if tunnels.peek().is_none() || tunnels.any(|tunnel| tunnel == Encapsulation::VXLAN) {
        Ok(())
    } else {
        Err(Unused::Encapsulation(attributes.tunnels().collect()))
    }
}

fn mac_ip(route: &MacIp, best: &Best, bd: &BdConfig) -> Result<Imported, Unused> {
    tag(route.tag, bd)?;
    if route.mac.is_zero() {
        return Err(Unused::UnknownMacRoute);
    }
    label(route.label1, bd)?;
    if !route.esi.is_reserved() {
        return Err(Unused::Segment(route.esi));
    }
    let mobility = best.attributes.mac_mobility().unwrap_or_default();
    let remote = Remote {
        next_hop: next_hop(&best.attributes)?,
        vni: route.label1,
        sequence: mobility.sequence,
        sticky: mobility.sticky,
        unreachable: false,
        long_lived_stale: best.attributes.communities.contains(&LLGR_STALE),
        flags: arp_nd(route.ip, &best.attributes),
        received: best.received,
    };
    let id = RemoteId {
        rd: route.rd,
        tag: route.tag,
        ip: route.ip,
    };
    Ok(Imported::Mac(route.mac, id, remote))
}

fn imet(route: &Imet, best: &Best, bd: &BdConfig) -> Result<Imported, Unused> {
    tag(route.tag, bd)?;
    let tunnel = best.attributes.pmsi.as_ref().ok_or(Unused::NoTunnel)?;
    if tunnel.tunnel_type != TunnelType::INGRESS_REPLICATION && !tunnel.is_replicator() {
        return Err(Unused::Tunnel(tunnel.tunnel_type));
    }
    // Where one address has both roles, the VNI tells them apart (RFC 9574 §8).
    if !tunnel.is_replicator() || tunnel.label == 0 {
        label(tunnel.label, bd)?;
    }
    // The copy goes to the next hop, not to the originator nor to the tunnel identifier (RFC 9574
    // §4, RFC 9572 §5.2).
    let next_hop = next_hop(&best.attributes)?;
    let (key, vni) = (best.route.key(), tunnel.label);
    if tunnel.is_replicator() {
        let selective = tunnel.has(PmsiTunnel::LEAF_INFORMATION);
        let replicator = Replicator {
            next_hop,
            vni,
            selective,
        };
        return Ok(Imported::Replicator(key, replicator));
    }
    let receiver = Receiver {
        next_hop,
        vni,
        pruned: Pruned {
            broadcast: tunnel.has(PmsiTunnel::PRUNE_BROADCAST),
            unknown: tunnel.has(PmsiTunnel::PRUNE_UNKNOWN),
        },
    };
    Ok(Imported::Receiver(key, receiver))
}

fn tag(tag: EthernetTag, bd: &BdConfig) -> Result<(), Unused> {
    match bd.any_ethernet_tag || tag == EthernetTag::default() {
        true => Ok(()),
        false => Err(Unused::EthernetTag(tag)),
    }
}

/// The VNI to send with: that of the bridge domain, or with downstream assignment the receiver's own
/// (RFC 8365 §5.1.3).
fn label(label: u32, bd: &BdConfig) -> Result<(), Unused> {
    match label == bd.vni.get() || bd.downstream_vni && label != 0 {
        true => Ok(()),
        false => Err(Unused::Vni { label, vni: bd.vni }),
    }
}

fn next_hop(attributes: &Attributes) -> Result<Ipv4Addr, Unused> {
    match attributes.next_hop.to_canonical() {
        IpAddr::V4(address) => Ok(address),
        other => Err(Unused::NextHopFamily(other)),
    }
}

/// Flags of the binding. R and O mean nothing for IPv4 (RFC 9047 §3.2). For IPv6 both are set when the
/// community is absent: a host that is taken for a router loses nothing, but a router that is not is
/// given up as such by those that ask for it (RFC 4861 §7.2.5).
fn arp_nd(ip: Option<IpAddr>, attributes: &Attributes) -> ArpNd {
    let received = attributes
        .ext_communities
        .iter()
        .find_map(|community| community.arp_nd());
    match ip {
        Some(IpAddr::V6(_)) => received.unwrap_or(ArpNd {
            router: true,
            override_: true,
            immutable: false,
        }),
        _ => ArpNd {
            immutable: received.is_some_and(|flags| flags.immutable),
            ..ArpNd::default()
        },
    }
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encapsulation(tunnels) => {
                f.write_str("not used: VXLAN is not among its encapsulations (")?;
                for (index, tunnel) in tunnels.iter().enumerate() {
                    let separator = if index > 0 { ", " } else { "" };
                    write!(f, "{separator}{}", encapsulation_name(*tunnel))?;
                }
                f.write_str(")")
            }
            Self::EthernetTag(tag) => write!(f, "not used: Ethernet tag {tag}, expected 0"),
            Self::Vni { label, vni } if *label >> 4 == vni.get() => write!(
                f,
                "not used: label {label} is the bridge domain's VNI {vni} shifted as for MPLS"
            ),
            Self::Vni { label, vni } => write!(
                f,
                "not used: VNI {label} is not the bridge domain's VNI {vni}"
            ),
            Self::Segment(esi) => write!(
                f,
                "not used: no Ethernet A-D route per ES of segment {esi} is known"
            ),
            Self::UnknownMacRoute => {
                f.write_str("not used: unknown MAC route; unknown unicast is flooded")
            }
            Self::NoTunnel => f.write_str("not used: no PMSI tunnel attribute"),
            Self::Tunnel(kind) => write!(
                f,
                "not used: PMSI tunnel type {} is neither ingress replication nor a replicator's",
                kind.0
            ),
            Self::NextHopFamily(next_hop) => {
                write!(f, "not used: next hop {next_hop}, the underlay is IPv4")
            }
            Self::RouteType(number) => {
                write!(f, "not used: bridge domains don't use route type {number}")
            }
        }
    }
}

/// IANA's name in lower case, or the number.
pub fn encapsulation_name(tunnel: Encapsulation) -> String {
    match tunnel {
        Encapsulation::VXLAN => "vxlan".to_owned(),
        Encapsulation::NVGRE => "nvgre".to_owned(),
        Encapsulation::MPLS => "mpls".to_owned(),
        Encapsulation::GENEVE => "geneve".to_owned(),
        Encapsulation(number) => number.to_string(),
    }
}
