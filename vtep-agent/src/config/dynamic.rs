//! `[[bgp.dynamic]]`: peers that nobody lists, by the prefix of their addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    PeerConfig,
    diagnostic::Fault,
    field::{Distinct, Result, is_unicast, number_or, parse_with},
    groups::Groups,
    raw,
};

/// Peers of one prefix at a time, unless configured otherwise.
const LIMIT: u16 = 100;

/// Most peers of one prefix.
const MAX_LIMIT: u16 = 4096;

/// `[[bgp.dynamic]]`: whoever connects from an address of the prefix is a peer, as its group says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicPeers {
    /// Addresses that may connect.
    pub prefix: IpNet,
    /// How many of them at a time.
    pub limit: u16,
    /// What they have in common.
    template: PeerConfig,
}

impl DynamicPeers {
    /// Peers like `template`, whatever its name.
    pub fn new(prefix: IpNet, limit: u16, template: PeerConfig) -> Self {
        let template = PeerConfig {
            name: prefix.network().into(),
            passive: true,
            ..template
        };
        Self {
            prefix,
            limit,
            template,
        }
    }

    /// The one that an address belongs to: that with the longest prefix.
    pub fn of(all: &[Self], address: IpAddr) -> Option<&Self> {
        all.iter()
            .filter(|range| range.prefix.contains(&address))
            .max_by_key(|range| range.prefix.prefix_len())
    }

    /// The peer with this address.
    pub fn peer(&self, address: IpAddr) -> PeerConfig {
        PeerConfig {
            name: address.into(),
            ..self.template.clone()
        }
    }

    /// What all of them have in common; its name is the prefix's first address.
    pub fn template(&self) -> &PeerConfig {
        &self.template
    }
}

/// All prefixes; `listen` as in `[bgp]`, `peers` those that are configured by address.
pub(super) fn dynamic(
    raw: &[Spanned<raw::Dynamic>],
    groups: &Groups<'_>,
    listen: bool,
    peers: &[PeerConfig],
) -> Result<Vec<DynamicPeers>> {
    let mut prefixes = Distinct::new("prefix");
    let mut all = Vec::new();
    for table in raw {
        let raw = table.get_ref();
        if !listen {
            return Err(Fault::new(
                table.span(),
                "dynamic peers connect to us, and listen = false in [bgp] forbids it",
            ));
        }
        let key = &raw.prefix;
        let prefix = prefix(key)?;
        prefixes.insert(prefix, key.span(), "another [[bgp.dynamic]]")?;
        let template = groups.template(&raw.group, raw.asn.as_ref(), prefix.network(), key)?;
        if template.bfd.is_some() {
            let group = &raw.group;
            let text = format!(
                "group {:?} has bfd, which peers by prefix cannot have",
                group.get_ref()
            );
            return Err(Fault::new(group.span(), text));
        }
        check_keys(&template, prefix, key, peers, &all)?;
        let limit = number_or(&raw.limit, "limit", 1..=MAX_LIMIT, LIMIT)?;
        all.push(DynamicPeers::new(prefix, limit, template));
    }
    Ok(all)
}

/// The kernel finds keys of TCP-AO by address and id, without regard to the length of prefixes, and
/// takes no prefix of all addresses.
fn check_keys(
    template: &PeerConfig,
    prefix: IpNet,
    key: &Spanned<String>,
    peers: &[PeerConfig],
    others: &[DynamicPeers],
) -> Result<()> {
    let Some(own) = &template.authentication else {
        return Ok(());
    };
    if own.ao().is_some() && prefix.prefix_len() == 0 {
        let message = format!("prefix {prefix} has tcp_ao, for which it must be longer than 0");
        return Err(Fault::new(key.span(), message));
    }
    let peers = peers
        .iter()
        .filter(|peer| peer.name.address().is_some_and(|at| prefix.contains(&at)))
        .map(|peer| (format!("peer {}", peer.name), &peer.authentication));
    let others = others
        .iter()
        .filter(|other| other.prefix.contains(&prefix) || prefix.contains(&other.prefix))
        .map(|other| {
            let name = format!("prefix {}", other.prefix);
            (name, &other.template.authentication)
        });
    for (name, authentication) in peers.chain(others) {
        let conflict = authentication
            .as_ref()
            .and_then(|other| own.conflict(other));
        if let Some(conflict) = conflict {
            let message =
                format!("prefix {prefix} and {name} share addresses, and {name} has {conflict}");
            return Err(Fault::new(key.span(), message));
        }
    }
    Ok(())
}

fn prefix(key: &Spanned<String>) -> Result<IpNet> {
    let prefix: IpNet = parse_with(key, "prefix", "ADDRESS/LENGTH", |text| text.parse().ok())?;
    if prefix != prefix.trunc() {
        return Err(Fault::new(
            key.span(),
            format!(
                "prefix {prefix} has bits of a host, expected {}",
                prefix.trunc()
            ),
        ));
    }
    let network = prefix.network();
    let link_local = matches!(network, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if link_local || (prefix.prefix_len() > 0 && !is_unicast(network)) {
        return Err(Fault::new(
            key.span(),
            format!(
                "prefix is {prefix}, expected one of unicast addresses that are not link-local"
            ),
        ));
    }
    Ok(prefix)
}
