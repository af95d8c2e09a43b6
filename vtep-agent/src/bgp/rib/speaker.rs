//! What is wrong with a path, whatever others there are (RFC 4271 §9.1.2, RFC 4456 §8).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::decision;
use crate::{
    bgp::{
        peer::Session,
        wire::{Attributes, Route},
    },
    config::PrefixRule,
    types::Asn,
};

/// Who we are, for loop detection, and which prefixes we take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP identifier, which is also our cluster id.
    pub router_id: Ipv4Addr,
    /// Our VTEP addresses.
    pub addresses: Vec<IpAddr>,
    /// Unicast prefixes that are ours: nobody else is believed about them.
    pub own: Vec<IpNet>,
    /// Unicast prefixes that are accepted; all when empty.
    pub import: Vec<PrefixRule>,
}

/// Why a path is never used (RFC 4271 §9.1.2, RFC 4456 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Our AS, or the one as which the peer knows us, is in its AS_PATH.
    AsLoop,
    /// We originated it.
    OriginatorLoop,
    /// It was reflected by us.
    ClusterLoop,
    /// Its next hop is one of our own addresses.
    OwnNextHop,
    /// Its next hop is unspecified, multicast or loopback.
    InvalidNextHop,
    /// The prefix is, or lies within, one of ours.
    OwnPrefix,
    /// The configuration doesn't list the prefix.
    NotListed,
}

impl Speaker {
    pub(super) fn judge(&self, attributes: &Attributes, session: &Session) -> Option<Rejected> {
        let next_hop = attributes.next_hop.to_canonical();
        if let Some(looped) = self.looped(attributes, session) {
            Some(looped)
        } else if self.addresses.contains(&next_hop) {
            Some(Rejected::OwnNextHop)
        } else if next_hop.is_unspecified() || next_hop.is_multicast() || next_hop.is_loopback() {
            Some(Rejected::InvalidNextHop)
        } else {
            None
        }
    }

    /// The path has been here before. Of the AS numbers that we have, the peer knows one.
    pub(super) fn looped(&self, attributes: &Attributes, session: &Session) -> Option<Rejected> {
        let known = session.local_as.map(|local| local.asn);
        let path = &attributes.as_path;
        let most = session.allowas_in.into();
        let looped = |asn| decision::occurrences(path, asn) > most;
        if looped(self.asn) || known.is_some_and(looped) {
            Some(Rejected::AsLoop)
        } else if attributes.originator_id == Some(self.router_id) {
            Some(Rejected::OriginatorLoop)
        } else if attributes.cluster_list.contains(&self.router_id) {
            Some(Rejected::ClusterLoop)
        } else {
            None
        }
    }

    /// What the prefix alone says.
    pub(super) fn judge_route(&self, route: &Route) -> Option<Rejected> {
        let Route::Unicast(prefix) = route else {
            return None;
        };
        if self.own.iter().any(|own| own.contains(prefix)) {
            Some(Rejected::OwnPrefix)
        } else if !self.import.is_empty() && !self.import.iter().any(|rule| rule.matches(prefix)) {
            Some(Rejected::NotListed)
        } else {
            None
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsLoop => "rejected: our AS is in its AS_PATH",
            Self::OriginatorLoop => "rejected: we are its originator",
            Self::ClusterLoop => "rejected: our cluster id is in its CLUSTER_LIST",
            Self::OwnNextHop => "rejected: the next hop is our own address",
            Self::InvalidNextHop => "rejected: the next hop is no unicast address",
            Self::OwnPrefix => "rejected: the prefix is ours",
            Self::NotListed => "rejected: underlay.import does not list the prefix",
        })
    }
}
