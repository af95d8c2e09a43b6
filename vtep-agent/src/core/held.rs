//! Remote entries that an earlier run installed and no peer has confirmed yet.
//!
//! Each is treated as a route of its own, so that everything that depends on it stays as it is. A real
//! route to the same MAC or VTEP takes its place. What is left when the peers have said everything
//! goes (RFC 4724 §4.1).

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use vtep_common::abi::{
    BdId, BdRef, Encapsulation, FdbFlags, FdbWord, FloodClasses, FloodSpan, MAX_FLOOD_MEMBERS,
    SourceKey, VtepAddr,
};

use super::{
    Core,
    recovery::{Bindings, arp_nd},
};
use crate::{
    bgp::wire::{ArpNd, RouteKey},
    evpn::{Imported, Pruned, Receiver, Remote, RemoteId},
    intent::Intent,
    types::{EthernetTag, Mac, RouteDistinguisher, hash::HashMap},
};

/// The RD of what no peer has said. Type 0 with administrator 0, which is reserved (RFC 7607).
const NOBODY: RouteDistinguisher = RouteDistinguisher([0; 8]);

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Held {
    macs: HashMap<(BdId, Mac), Vec<Imported>>,
    receivers: HashMap<(BdId, Ipv4Addr), Vec<Imported>>,
    /// VTEPs that may send, whatever else is known of them.
    vteps: Vec<(BdId, Ipv4Addr)>,
}

impl Held {
    /// Peers have confirmed everything.
    pub(super) fn is_empty(&self) -> bool {
        self.macs.is_empty() && self.receivers.is_empty()
    }
}

impl Core {
    /// Holds every remote entry of these tables whose bridge domain is there again.
    pub(super) fn hold(&mut self, tables: &Intent, mut bindings: Bindings, now: Instant) {
        for (key, word) in tables.fdb.iter() {
            let Some(remote) = remote(tables, *word, now).filter(|_| self.has(word.bd())) else {
                continue;
            };
            let (bd, mac) = (key.bd(), key.mac());
            let ips = bindings.remove(&(bd, mac)).unwrap_or_default();
            let ips = ips.into_iter().map(|(ip, flags)| (Some(ip), arp_nd(flags)));
            for (ip, flags) in std::iter::once((None, ArpNd::default())).chain(ips) {
                let id = RemoteId {
                    rd: NOBODY,
                    tag: EthernetTag::default(),
                    ip,
                };
                let route = Imported::Mac(mac, id, Remote { flags, ..remote });
                self.exchange(bd, None, Some(route.clone()), now);
                self.held.macs.entry((bd, mac)).or_default().push(route);
            }
        }
        for (bd, receiver) in receivers(tables) {
            if self.has(bd) {
                let key = RouteKey::Imet {
                    rd: NOBODY,
                    // Downstream VNIs may differ.
                    tag: EthernetTag(receiver.vni),
                    originator: IpAddr::V4(receiver.next_hop),
                };
                let route = Imported::Receiver(key, receiver);
                self.exchange(bd.bd, None, Some(route.clone()), now);
                let at = (bd.bd, receiver.next_hop);
                self.held.receivers.entry(at).or_default().push(route);
            }
        }
        let reached = tables.vteps.iter();
        let reached = reached.filter_map(|(_, vtep)| Some((BdId(0), v4(vtep.address)?)));
        let sources = tables.sources.iter().map(|(SourceKey(key), _)| {
            let address = Ipv4Addr::from((key as u32).to_ne_bytes());
            (BdId((key >> 32) as u16), address)
        });
        for (bd, address) in reached.chain(sources) {
            if bd == BdId(0) || self.bds.contains_key(&bd) {
                self.acquire(bd, address, now);
                self.held.vteps.push((bd, address));
            }
        }
    }

    /// A peer speaks of this itself.
    pub(super) fn confirm(&mut self, bd: BdId, route: &Imported, now: Instant) {
        let held = match route {
            Imported::Mac(mac, ..) => self.held.macs.remove(&(bd, *mac)),
            Imported::Receiver(_, receiver) => self.held.receivers.remove(&(bd, receiver.next_hop)),
            Imported::Replicator(..) => None,
        };
        for route in held.unwrap_or_default() {
            self.exchange(bd, Some(route), None, now);
        }
    }

    /// Peers have said everything: what nobody has confirmed goes.
    pub(super) fn release_held(&mut self, now: Instant) {
        let held = std::mem::take(&mut self.held);
        let macs = held.macs.len();
        if macs + held.receivers.len() > 0 {
            tracing::info!(
                macs,
                flood = held.receivers.len(),
                "entries of an earlier run that no peer has confirmed go"
            );
        }
        self.release(held, now);
    }

    /// The bridge domain goes.
    pub(super) fn release_held_of(&mut self, bd: BdId, now: Instant) {
        let held = Held {
            macs: self.held.macs.extract_if(|(of, _), _| *of == bd).collect(),
            receivers: self
                .held
                .receivers
                .extract_if(|(of, _), _| *of == bd)
                .collect(),
            vteps: self
                .held
                .vteps
                .extract_if(.., |(of, _)| *of == bd)
                .collect(),
        };
        self.release(held, now);
    }

    fn release(&mut self, held: Held, now: Instant) {
        let macs = held.macs.into_iter().map(|((bd, _), routes)| (bd, routes));
        let receivers = held.receivers.into_iter();
        let receivers = receivers.map(|((bd, _), routes)| (bd, routes));
        for (bd, routes) in macs.chain(receivers) {
            for route in routes {
                self.exchange(bd, Some(route), None, now);
            }
        }
        for (bd, address) in held.vteps {
            let check = self.config.vtep.source_check;
            self.nexthops.release(bd, address, check, &mut self.intent);
        }
    }

    /// That very incarnation of the bridge domain.
    fn has(&self, bd: BdRef) -> bool {
        self.bds.get(&bd.bd).is_some_and(|domain| domain.id == bd)
    }
}

/// Where an FDB entry leads to, if that is another VTEP.
fn remote(tables: &Intent, word: FdbWord, now: Instant) -> Option<Remote> {
    let flags = word.flags();
    if flags.has(FdbFlags::LOCAL) || flags.has(FdbFlags::BLACK_HOLE) {
        return None;
    }
    let group = tables.groups.get(word.target())?;
    let member = group.members.first()?;
    let vxlan = member.encapsulation == Encapsulation::Vxlan as u8;
    if group.bd != word.bd() || group.count != 1 || !vxlan {
        return None;
    }
    Some(Remote {
        next_hop: v4(tables.vteps.get(member.vtep)?.address)?,
        vni: member.vni,
        // The lowest: nobody has to outdo what nobody says.
        sequence: 0,
        sticky: flags.has(FdbFlags::PINNED),
        flags: ArpNd::default(),
        received: now,
        unreachable: false,
        long_lived_stale: false,
    })
}

/// The remote halves of all flood lists.
fn receivers(tables: &Intent) -> Vec<(BdRef, Receiver)> {
    let mut receivers = Vec::new();
    for (index, entry) in tables.bds.iter() {
        let span = FloodSpan::from_bits(entry.flood);
        let first = span.offset.saturating_add(span.ports.into());
        let end = first.saturating_add(span.vteps.into());
        let members = (first..end.min(MAX_FLOOD_MEMBERS)).filter_map(|at| tables.flood.get(at));
        for member in members {
            let bd = member.bd;
            let ours = (u32::from(bd.bd.0), bd.generation) == (index, entry.generation);
            let vtep = tables.vteps.get(member.target);
            if let Some(next_hop) = vtep.and_then(|vtep| v4(vtep.address)).filter(|_| ours) {
                // A replicator is used again when it has said so, and that for long enough.
                if member
                    .skip
                    .has(FloodClasses::DIRECT.with(FloodClasses::UNKNOWN))
                    && !member.skip.has(FloodClasses::ASSISTED)
                {
                    continue;
                }
                let receiver = Receiver {
                    next_hop,
                    vni: member.vni,
                    pruned: Pruned {
                        broadcast: member.skip.has(FloodClasses::DIRECT),
                        unknown: member.skip.has(FloodClasses::UNKNOWN),
                    },
                };
                receivers.push((bd, receiver));
            }
        }
    }
    receivers
}

/// The address, if it is IPv4.
pub(super) fn v4(address: VtepAddr) -> Option<Ipv4Addr> {
    std::net::Ipv6Addr::from(address.0).to_ipv4_mapped()
}
