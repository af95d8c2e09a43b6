//! Of a bridge domain.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use serde::Serialize;

use super::{duplicate::Duplicate, list};
use crate::{
    config::{
        AutoRt, BdConfig, BgpConfig, DuplicateAction, DuplicateIpAction, FloodPolicy, Replication,
        UnicastForward, UnknownNeighbors,
    },
    types::RouteTarget,
};

#[derive(Debug, Serialize)]
pub(super) struct Bd {
    name: String,
    vni: u32,
    /// `null`: `router_id:index`, the index being chosen once and kept in the state directory.
    rd: Option<String>,
    rt_import: Vec<String>,
    rt_export: Vec<String>,
    ports: Vec<Port>,
    suppress: bool,
    flood: &'static str,
    learning: bool,
    dhcp_snooping: bool,
    source_filter: bool,
    server_guard: bool,
    /// 0: no limit.
    bum_rate: u32,
    /// 0: no limit.
    learn_rate: u32,
    unknown_neighbors: UnknownNeighbors,
    downstream_vni: bool,
    any_ethernet_tag: bool,
    ageing: u64,
    max_macs_per_port: u32,
    /// `null`: as for all.
    duplicate: Option<Duplicate<DuplicateAction>>,
    /// `null`: as for all.
    duplicate_ip: Option<Duplicate<DuplicateIpAction>>,
    anycast: BTreeSet<IpAddr>,
    unicast_forward: UnicastForward,
    replication: Replication,
    prune: Vec<&'static str>,
    honor_prune: bool,
}

#[derive(Debug, Serialize)]
struct Port {
    name: String,
    vlan: Option<u16>,
}

impl Bd {
    pub(super) fn new(bd: &BdConfig, bgp: &BgpConfig) -> Self {
        let import = match &bd.rt_import {
            Some(targets) => targets.iter().map(ToString::to_string).collect(),
            None => bgp
                .auto_import(bd.vni)
                .iter()
                .map(ToString::to_string)
                .collect(),
        };
        let export = match (&bd.rt_export, bgp.auto_rt) {
            (Some(targets), _) => targets.iter().map(ToString::to_string).collect(),
            (None, AutoRt::As) => vec![RouteTarget::auto(bgp.asn, bd.vni).to_string()],
            (None, AutoRt::Rfc8365) => {
                vec![RouteTarget::auto_rfc8365(bgp.asn, bd.vni).to_string()]
            }
        };
        Self {
            name: bd.name.to_string(),
            vni: bd.vni.get(),
            rd: bd.rd.map(|rd| rd.to_string()),
            rt_import: import,
            rt_export: export,
            ports: bd
                .ports
                .iter()
                .map(|port| Port {
                    name: port.pattern.clone(),
                    vlan: port.vlan,
                })
                .collect(),
            suppress: bd.suppress,
            flood: match bd.flood {
                FloodPolicy::All => "all",
                FloodPolicy::NoUnknown => "no-unknown",
                FloodPolicy::None => "none",
            },
            learning: bd.learning,
            dhcp_snooping: bd.dhcp_snooping,
            source_filter: bd.source_filter,
            server_guard: bd.server_guard,
            bum_rate: bd.bum_rate,
            learn_rate: bd.learn_rate,
            unknown_neighbors: bd.unknown_neighbors,
            downstream_vni: bd.downstream_vni,
            any_ethernet_tag: bd.any_ethernet_tag,
            ageing: bd.ageing.map_or(0, |ageing| ageing.as_secs()),
            max_macs_per_port: bd.max_macs_per_port,
            duplicate: bd.duplicate.as_ref().map(Duplicate::macs),
            duplicate_ip: bd.duplicate_ip.as_ref().map(Duplicate::ips),
            anycast: bd.anycast.clone(),
            unicast_forward: bd.unicast_forward,
            replication: bd.replication,
            prune: [
                ("broadcast", bd.prune.broadcast),
                ("unknown", bd.prune.unknown),
            ]
            .into_iter()
            .filter_map(|(name, pruned)| pruned.then_some(name))
            .collect(),
            honor_prune: bd.honor_prune,
        }
    }
}

/// A bridge domain, with what its automatic RD is made of.
pub(super) struct WithRouterId<'a>(pub(super) &'a Bd, pub(super) Ipv4Addr);

impl fmt::Display for WithRouterId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bd, router_id) = self;
        writeln!(f, "Bridge domain {}, VNI {}", bd.name, bd.vni)?;
        match &bd.rd {
            Some(rd) => write!(f, "  RD {rd}")?,
            None => write!(f, "  RD {router_id}:n, n chosen once and kept")?,
        }
        let import = list(&bd.rt_import, "nothing");
        let export = list(&bd.rt_export, "nothing");
        writeln!(f, "; imports {import}, exports {export}")?;
        let ports: Vec<_> = bd
            .ports
            .iter()
            .map(|port| match port.vlan {
                Some(vlan) => format!("{} VLAN {vlan}", port.name),
                None => port.name.clone(),
            })
            .collect();
        writeln!(f, "  ports: {}", list(&ports, "none"))?;
        let suppress = match bd.suppress {
            true => "answers ARP and ND",
            false => "does not answer ARP and ND",
        };
        let flood = match bd.flood {
            "all" => "floods broadcast, multicast and unknown unicast",
            "no-unknown" => "floods broadcast and multicast, drops unknown unicast",
            _ => "floods nothing",
        };
        writeln!(f, "  {suppress}; {flood}")?;
        if bd.downstream_vni {
            writeln!(f, "  sends with the VNIs of other VTEPs' routes")?;
        }
        if bd.any_ethernet_tag {
            writeln!(f, "  uses routes with any Ethernet tag")?;
        }
        if bd.suppress && bd.unknown_neighbors == UnknownNeighbors::Drop {
            writeln!(f, "  drops ARP and ND requests for unknown addresses")?;
        }
        if bd.replication == Replication::ArLeaf {
            writeln!(
                f,
                "  leaves copies to a replicator, as long as there is one"
            )?;
        }
        if !bd.prune.is_empty() {
            let kinds = bd.prune.join(" and ");
            writeln!(f, "  asks other VTEPs for no {kinds} traffic")?;
        }
        if !bd.honor_prune {
            writeln!(f, "  sends other VTEPs also what they ask not to be sent")?;
        }
        match bd.unicast_forward {
            UnicastForward::Never => {}
            UnicastForward::Options => writeln!(
                f,
                "  sends solicitations that it cannot answer to the address's owner alone"
            )?,
            UnicastForward::Always => {
                writeln!(
                    f,
                    "  sends ARP and ND requests to the address's owner alone"
                )?;
            }
        }
        let ageing = match bd.ageing {
            0 => "never aged".to_owned(),
            seconds => format!("aged after {seconds} s"),
        };
        match bd.learning {
            true => write!(
                f,
                "  learns up to {} MACs per port, {ageing}",
                bd.max_macs_per_port
            )?,
            false => f.write_str("  does not learn")?,
        }
        if bd.learning && !bd.dhcp_snooping {
            f.write_str("; learns nothing from DHCP")?;
        }
        if bd.source_filter && bd.server_guard {
            f.write_str("; declared endpoints are neither routers nor DHCP servers")?;
        }
        if !bd.source_filter {
            f.write_str("; declared endpoints are no source filter")?;
        }
        let duplicate = bd.duplicate.iter().map(|duplicate| &duplicate.text);
        let duplicate_ip = bd.duplicate_ip.iter().map(|duplicate| &duplicate.text);
        for text in duplicate.chain(duplicate_ip) {
            write!(f, "; {text}")?;
        }
        writeln!(f)?;
        if !bd.anycast.is_empty() {
            let anycast: Vec<_> = bd.anycast.iter().map(ToString::to_string).collect();
            writeln!(f, "  anycast: {}", anycast.join(", "))?;
        }
        Ok(())
    }
}
