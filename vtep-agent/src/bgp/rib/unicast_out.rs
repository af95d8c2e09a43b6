//! What we tell peers of the unicast families: our own prefixes, with ourselves as next hop. A host is
//! no transit: what one peer announced is told to no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Advertisement,
    adj_out::{towards_external, towards_internal},
};
use crate::{
    bgp::{
        peer::Session,
        wire::{Attributes, Family, Route, RouteKey},
    },
    types::{Asn, LocalAs, PeerId},
};

/// Prefixes that lead to this host, and which peers know which of them.
#[derive(Debug)]
pub struct UnicastOut {
    asn: Asn,
    prefixes: BTreeSet<IpNet>,
    peers: BTreeMap<PeerId, BTreeMap<Family, Told>>,
}

/// What a peer was told of one family.
#[derive(Debug)]
struct Told {
    /// Ourselves, in the peer's eyes. `None`: the session has no address that routes of the family
    /// may have as next hop.
    next_hop: Option<IpAddr>,
    internal: bool,
    local_as: Option<LocalAs>,
    prefixes: BTreeSet<IpNet>,
    /// Everything is to be sent.
    dump: Option<Dump>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dump {
    Initial,
    Refresh,
}

impl UnicastOut {
    /// No peers.
    pub fn new(asn: Asn, prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            asn,
            prefixes: prefixes.into_iter().collect(),
            peers: BTreeMap::new(),
        }
    }

    /// Announces these prefixes and no others.
    pub fn set(&mut self, prefixes: impl IntoIterator<Item = IpNet>) {
        self.prefixes = prefixes.into_iter().collect();
    }

    /// A session is established: it gets everything, and End-of-RIB.
    pub fn up(&mut self, peer: PeerId, session: &Session) {
        let families = Family::all_of(session.families).filter(|family| *family != Family::EVPN);
        let told = families.map(|family| {
            let told = Told {
                next_hop: next_hop(session, family),
                internal: session.internal,
                local_as: session.local_as,
                prefixes: BTreeSet::new(),
                dump: Some(Dump::Initial),
            };
            (family, told)
        });
        self.peers.insert(peer, told.collect());
    }

    /// A session is gone.
    pub fn down(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// A peer asked for everything of a family again (RFC 2918 §4).
    pub fn refresh(&mut self, peer: PeerId, family: Family) {
        let told = self.peers.get_mut(&peer);
        if let Some(told) = told.and_then(|families| families.get_mut(&family)) {
            told.dump.get_or_insert(Dump::Refresh);
        }
    }

    /// What has to be sent now, by peer.
    pub fn flush(&mut self) -> Vec<(PeerId, Advertisement)> {
        let mut sent = Vec::new();
        for (peer, families) in &mut self.peers {
            for (family, told) in families {
                let advertisement = told.flush(*family, &self.prefixes, self.asn);
                sent.extend(advertisement.map(|advertisement| (*peer, advertisement)));
            }
        }
        sent
    }

    /// Our prefixes of a family, and how many peers were told.
    pub fn announced(&self, family: Family) -> impl Iterator<Item = (IpNet, usize)> {
        let of_family = move |prefix: &&IpNet| Family::of_prefix(prefix) == family;
        self.prefixes.iter().filter(of_family).map(move |prefix| {
            let told = self
                .peers
                .values()
                .filter_map(move |peer| peer.get(&family));
            let count = told.filter(|told| told.prefixes.contains(prefix)).count();
            (*prefix, count)
        })
    }

    /// Number of prefixes that this peer was told.
    pub fn sent(&self, peer: PeerId) -> usize {
        let families = self.peers.get(&peer).into_iter().flatten();
        families.map(|(_, told)| told.prefixes.len()).sum()
    }
}

impl Told {
    fn flush(
        &mut self,
        family: Family,
        prefixes: &BTreeSet<IpNet>,
        asn: Asn,
    ) -> Option<Advertisement> {
        let wanted: BTreeSet<_> = prefixes
            .iter()
            .filter(|prefix| self.next_hop.is_some() && Family::of_prefix(prefix) == family)
            .copied()
            .collect();
        let dump = self.dump.take();
        let withdraw = self.prefixes.difference(&wanted);
        let withdraw: Vec<_> = withdraw.map(|prefix| RouteKey::Unicast(*prefix)).collect();
        let announce: Vec<_> = wanted
            .iter()
            .filter(|prefix| dump.is_some() || !self.prefixes.contains(*prefix))
            .map(|prefix| Route::Unicast(*prefix))
            .collect();
        self.prefixes = wanted;
        if dump.is_none() && withdraw.is_empty() && announce.is_empty() {
            return None;
        }
        let attributes = self.next_hop.map(|next_hop| {
            let attributes = Attributes::originated(next_hop);
            Arc::new(match self.internal {
                true => towards_internal(&attributes),
                false => towards_external(&attributes, self.local_as, asn),
            })
        });
        Some(Advertisement {
            family,
            withdraw,
            announce: attributes
                .filter(|_| !announce.is_empty())
                .map(|attributes| (attributes, announce))
                .into_iter()
                .collect(),
            end_of_rib: dump == Some(Dump::Initial),
            refresh: dump == Some(Dump::Refresh),
        })
    }
}

/// Our end of the session, where routes of the family may have it as next hop (RFC 4760 §3,
/// RFC 8950 §4).
fn next_hop(session: &Session, family: Family) -> Option<IpAddr> {
    let address = session.local?.address;
    let allowed = match family {
        Family::IPV4_UNICAST => address.is_ipv4() || session.extended_next_hop,
        _ => address.is_ipv6(),
    };
    allowed.then_some(address)
}
