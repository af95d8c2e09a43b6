//! What `show` prints, in a fixed order.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use vtep_common::abi::BdId;

use super::{CommandError, Core};
use crate::{
    bgp::{rib::Reach, wire::Membership},
    config::{FloodPolicy, PeerConfig, Replication, XdpMode},
    evpn::{BindingOrigin, BridgeDomain, Census, DhcpCounts, Local, Origin, ProbeCounts, Winner},
    types::{BdName, Mac, PeerId, hash::HashMap},
    view,
};

/// A bridge domain in numbers.
#[derive(Clone, Debug)]
pub struct BdStats {
    /// Its name.
    pub name: BdName,
    /// Its index in the datapath's tables.
    pub id: BdId,
    /// MACs.
    pub macs: Census,
    /// IP to MAC bindings.
    pub neighbors: Census,
    /// Other VTEPs.
    pub vteps: u64,
    /// MACs that changed place since the start.
    pub mac_moves: u64,
    /// MACs that move too often.
    pub duplicate_macs: u64,
    /// Addresses whose MAC changes too often.
    pub duplicate_ips: u64,
    /// What VMs were asked.
    pub probes: ProbeCounts,
    /// What DHCP has brought.
    pub dhcp: DhcpCounts,
    /// A replicator makes the copies of what is broadcast.
    pub assisted: bool,
}

impl Core {
    /// `show bds`
    ///
    /// # Errors
    ///
    /// When there is no such bridge domain.
    pub fn bds(&self, bd: Option<&BdName>) -> Result<Vec<view::Bd>, CommandError> {
        let vteps = self.nexthops.count_by_bd();
        let selected = self.selected(bd)?.into_iter();
        Ok(selected.map(|bd| self.bd_view(bd, &vteps)).collect())
    }

    /// What metrics report of every bridge domain.
    pub fn bd_stats(&self) -> Vec<BdStats> {
        let vteps = self.nexthops.count_by_bd();
        let by_name = self.names.values().filter_map(|id| self.bds.get(id));
        by_name
            .map(|bd| BdStats {
                assisted: self.active_replicator(bd).is_some(),
                ..stats_of(bd, &vteps)
            })
            .collect()
    }

    /// A row of `show macs`; `None` for a MAC that nobody has.
    pub(super) fn mac_view(&self, bd: BdId, mac: Mac, now: Instant) -> Option<view::MacEntry> {
        let bd = self.bds.get(&bd)?;
        let duplicate = bd.macs().duplicate(mac);
        let (origin, port, vtep, mobility, since) = match bd.macs().winner(mac) {
            // A black-holed one may have no owner left.
            None => ("learned", None, None, (0, false), duplicate?.since),
            Some(Winner::Local(local)) => (
                origin_name(local),
                self.ports
                    .get(local.slot)
                    .map(|port| port.device.to_string()),
                None,
                (local.mobility.sequence, local.mobility.sticky),
                local.since,
            ),
            Some(Winner::Remote(_, remote)) => (
                "remote",
                None,
                Some(IpAddr::V4(remote.next_hop)),
                (remote.sequence, remote.sticky),
                remote.received,
            ),
        };
        Some(view::MacEntry {
            bd: bd.config.name.to_string(),
            vni: bd.config.vni.get(),
            mac: mac.to_string(),
            origin: origin.to_owned(),
            port,
            vtep,
            esi: None,
            seq: mobility.0,
            sticky: mobility.1,
            duplicate: duplicate.is_some(),
            duplicate_action: duplicate.map(|found| found.action.name().to_owned()),
            moves: duplicate.map(|found| found.moves),
            age_s: now.saturating_duration_since(since).as_secs(),
        })
    }

    /// A row of `show neighbors`; `None` for an address that nobody has.
    pub(super) fn neighbor_view(
        &self,
        bd: BdId,
        ip: IpAddr,
        now: Instant,
    ) -> Option<view::Neighbor> {
        let bd = self.bds.get(&bd)?;
        let binding = bd.neighbors().get(ip)?;
        let duplicate = bd.neighbors().duplicate(ip);
        let learned = binding.origin == BindingOrigin::Learned;
        let lease = bd.neighbors().lease(ip, binding.mac).filter(|_| learned);
        let source = match lease {
            Some(_) => "dhcp",
            None if ip.is_ipv4() => "arp",
            None => "nd",
        };
        Some(view::Neighbor {
            bd: bd.config.name.to_string(),
            ip,
            mac: binding.mac.to_string(),
            origin: match binding.origin {
                BindingOrigin::Learned => "learned",
                BindingOrigin::Declared => "declared",
                BindingOrigin::Remote => "remote",
            }
            .to_owned(),
            source: learned.then(|| source.to_owned()),
            lease_s: lease
                .flatten()
                .map(|end| end.saturating_duration_since(now).as_secs()),
            router: binding.flags.router,
            r#override: binding.flags.override_,
            immutable: binding.flags.immutable,
            anycast: bd.neighbors().is_anycast(ip),
            duplicate: duplicate.is_some(),
            duplicate_action: duplicate.map(|found| found.action.name().to_owned()),
            moves: duplicate.map(|found| found.moves),
        })
    }

    /// `show vteps`
    ///
    /// # Errors
    ///
    /// When there is no such bridge domain.
    pub fn vteps(&self, bd: Option<&BdName>) -> Result<Vec<view::Vtep>, CommandError> {
        let filter = self.filter(bd)?;
        let mut macs: HashMap<Ipv4Addr, u64> = HashMap::default();
        for bd in self.selected(bd)? {
            for (_, winner) in bd.macs().iter() {
                if let Winner::Remote(_, remote) = winner {
                    *macs.entry(remote.next_hop).or_default() += 1;
                }
            }
        }
        let vteps = self
            .nexthops
            .iter()
            .filter(|(_, vtep)| filter.is_none_or(|filter| vtep.serves(filter)))
            .map(|(address, vtep)| {
                let mut bds: Vec<_> = vtep
                    .bds()
                    .filter_map(|id| Some(self.bds.get(&id)?.config.name.to_string()))
                    .collect();
                bds.sort_unstable();
                view::Vtep {
                    address: IpAddr::V4(address),
                    bds,
                    macs: macs.get(&address).copied().unwrap_or(0),
                    reachable: vtep.is_reachable(),
                    metric: match self.adj_in.reach(address.into()) {
                        Some(Reach::Cost(metric)) => Some(metric),
                        Some(Reach::Lost) | None => None,
                    },
                }
            });
        Ok(vteps.collect())
    }

    /// `show flood`: what the datapath replicates to.
    ///
    /// # Errors
    ///
    /// When there is no such bridge domain.
    pub fn flood(&self, bd: Option<&BdName>) -> Result<Vec<view::Flood>, CommandError> {
        let lists = self.selected(bd)?.into_iter().map(|bd| {
            let mut ports: Vec<_> = self.flood_ports(bd).map(|p| p.device.to_string()).collect();
            ports.sort_unstable();
            let mut vteps = bd.receivers().distinct();
            let unused = bd.config.replication == Replication::Ingress;
            let replicators = self.replicators(bd).into_iter();
            if bd.config.flood == FloodPolicy::None {
                ports.clear();
                vteps.clear();
            }
            view::Flood {
                bd: bd.config.name.to_string(),
                vni: bd.config.vni.get(),
                ports,
                vteps: vteps
                    .into_iter()
                    .filter(|receiver| self.nexthops.reachable(receiver.next_hop).is_some())
                    .map(|receiver| view::FloodVtep {
                        address: IpAddr::V4(receiver.next_hop),
                        vni: receiver.vni,
                        pruned: [
                            ("broadcast", receiver.pruned.broadcast),
                            ("unknown", receiver.pruned.unknown),
                        ]
                        .into_iter()
                        .filter(|(_, pruned)| *pruned && bd.config.honor_prune)
                        .map(|(name, _)| name.to_owned())
                        .collect(),
                    })
                    .collect(),
                replicators: replicators
                    .map(|(replicator, state)| view::Replicator {
                        address: IpAddr::V4(replicator.next_hop),
                        vni: replicator.vni,
                        state: if unused { "unused" } else { state.name() }.to_owned(),
                    })
                    .collect(),
            }
        });
        Ok(lists.collect())
    }

    /// `show ports`, counters zero: those are the datapath's, by [`view::Port::slot`].
    ///
    /// # Errors
    ///
    /// When there is no such bridge domain.
    pub fn ports(&self, bd: Option<&BdName>) -> Result<Vec<view::Port>, CommandError> {
        self.filter(bd)?;
        let existing = self.ports.iter().filter_map(|port| {
            let bd = &self.bds.get(&port.bd.bd)?.config.name;
            let state = if port.link.up { "up" } else { "down" };
            let view = port_view(port.device.as_str(), bd, port.vlan, state);
            Some(view::Port {
                ifindex: Some(port.ifindex),
                slot: Some(port.slot.0),
                source_filter: self.guards.contains_key(&port.slot),
                ..view
            })
        });
        let wanted = self.ports.exact_claims().map(|(device, claim)| {
            let view = port_view(device, &claim.bd, claim.vlan, "waiting");
            (device.to_owned(), claim.vlan, view)
        });
        // Their bridge domain may have left the file.
        let saved = self.state.ports.iter().map(|port| {
            let view = port_view(port.device.as_str(), &port.bd, port.vlan, "waiting");
            (port.device.to_string(), port.vlan, view)
        });
        let mut ports: BTreeMap<_, _> = saved
            .chain(wanted)
            .map(|(device, vlan, view)| ((device, vlan), view))
            .collect();
        ports.extend(existing.map(|port| ((port.name.clone(), port.vlan), port)));
        let ports = ports.into_values();
        Ok(ports
            .filter(|port| bd.is_none_or(|bd| port.bd == bd.as_str()))
            .collect())
    }

    /// `show uplinks`. `xdp` is the mode asked for; how it is attached, the daemon knows.
    pub fn uplinks(&self) -> Vec<view::Uplink> {
        let uplinks = self.uplinks.iter().map(|(name, uplink)| {
            let link = uplink.link.as_ref();
            view::Uplink {
                name: name.to_string(),
                ifindex: link.map(|link| link.ifindex),
                xdp: match uplink.mode {
                    XdpMode::Generic => "generic",
                    XdpMode::Native => "native",
                    XdpMode::Auto | XdpMode::Off => "off",
                }
                .to_owned(),
                state: match link {
                    Some(link) if link.up => "up",
                    Some(_) => "down",
                    None => "waiting",
                }
                .to_owned(),
                mtu: link.map(|link| link.mtu),
            }
        });
        uplinks.collect()
    }

    /// The route target memberships exchanged with a peer; `None` when the session has none.
    pub fn rt_constraint(&self, peer: PeerId) -> Option<view::RtConstraint> {
        let exchanged = self.memberships.exchanged(peer)?;
        let received = exchanged.received.iter();
        let sent = exchanged.sent.keys();
        Some(view::RtConstraint {
            received: received.len() as u64,
            sent: sent.len() as u64,
            complete: exchanged.complete,
            received_targets: listed(received),
            sent_targets: listed(sent),
        })
    }

    /// Name of a bridge domain by its index in the datapath's tables.
    pub fn bd_by_id(&self, id: BdId) -> Option<&BdName> {
        Some(&self.bds.get(&id)?.config.name)
    }

    /// Configured peers and their ids.
    pub fn peers(&self) -> &[(PeerId, PeerConfig)] {
        self.peers.configured()
    }

    /// What `--bd` names.
    pub(super) fn filter(&self, bd: Option<&BdName>) -> Result<Option<BdId>, CommandError> {
        let Some(name) = bd else {
            return Ok(None);
        };
        match self.names.get(name) {
            Some(id) => Ok(Some(*id)),
            None => Err(CommandError::UnknownBd(name.clone())),
        }
    }

    /// In the order of their names.
    pub(super) fn selected(&self, bd: Option<&BdName>) -> Result<Vec<&BridgeDomain>, CommandError> {
        let filter = self.filter(bd)?;
        let ids = self.names.values();
        Ok(ids
            .filter(|id| filter.is_none_or(|filter| filter == **id))
            .filter_map(|id| self.bds.get(id))
            .collect())
    }

    fn bd_view(&self, bd: &BridgeDomain, vteps: &HashMap<BdId, u64>) -> view::Bd {
        let macs = bd.macs().census();
        view::Bd {
            name: bd.config.name.to_string(),
            vni: bd.config.vni.get(),
            rd: bd.originator().rd().to_string(),
            rt_import: bd.rt_import.iter().map(ToString::to_string).collect(),
            rt_export: bd.rt_export.iter().map(ToString::to_string).collect(),
            ports: self.ports.of_bd(bd.id).count() as u64,
            local_macs: macs.learned + macs.declared,
            remote_macs: macs.remote,
            vteps: vteps.get(&bd.id.bd).copied().unwrap_or(0),
        }
    }
}

fn stats_of(bd: &BridgeDomain, vteps: &HashMap<BdId, u64>) -> BdStats {
    BdStats {
        name: bd.config.name.clone(),
        id: bd.id.bd,
        macs: bd.macs().census(),
        neighbors: bd.neighbors().census(),
        vteps: vteps.get(&bd.id.bd).copied().unwrap_or(0),
        mac_moves: bd.macs().moves(),
        duplicate_macs: bd.macs().duplicates().count() as u64,
        duplicate_ips: bd.neighbors().duplicates().count() as u64,
        probes: bd.probe_counts(),
        dhcp: bd.dhcp_counts(),
        assisted: false,
    }
}

fn port_view(device: &str, bd: &BdName, vlan: Option<u16>, state: &str) -> view::Port {
    view::Port {
        name: device.to_owned(),
        ifindex: None,
        bd: bd.to_string(),
        vlan,
        state: state.to_owned(),
        rx_packets: 0,
        tx_packets: 0,
        drops: 0,
        source_filter: false,
        rx_bytes: 0,
        tx_bytes: 0,
        slot: None,
    }
}

fn origin_name(local: &Local) -> &'static str {
    match local.origin {
        Origin::Learned => "learned",
        Origin::Declared => "declared",
    }
}

/// As many as an answer of any size can bear.
fn listed<'a>(memberships: impl Iterator<Item = &'a Membership>) -> Vec<String> {
    let memberships = memberships.take(view::RtConstraint::LISTED);
    memberships.map(ToString::to_string).collect()
}
