//! `[[bgp.peer]]`

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::Range,
};

use toml::Spanned;

use super::{
    Hops, PeerConfig, UpdateChecks,
    diagnostic::Fault,
    field::{self, Distinct, Result},
    groups::Groups,
    options::{Options, ip},
    raw,
};
use crate::types::PeerName;

/// All peers, groups resolved.
pub(super) fn peers(
    raw: &raw::Bgp,
    groups: &Groups<'_>,
    vteps: &[Ipv4Addr],
) -> Result<Vec<PeerConfig>> {
    let mut addresses = Distinct::new("address");
    let mut interfaces = Distinct::new("interface");
    let mut peers = Vec::with_capacity(raw.peer.len());
    for peer_table in &raw.peer {
        let raw = peer_table.get_ref();
        let options = groups.resolve(raw)?;
        let key = match (&raw.address, &raw.interface) {
            (Some(key), None) | (None, Some(key)) => key,
            (Some(_), Some(interface)) => {
                return Err(Fault::new(
                    interface.span(),
                    "address and interface exclude each other",
                ));
            }
            (None, None) => {
                return Err(Fault::new(
                    peer_table.span(),
                    "peer without address, expected address = \"…\" or interface = \"…\"",
                ));
            }
        };
        let name = name(raw, key, vteps)?;
        let peer = peer(peer_table, name, key, options)?;
        let reflector = span_of(&raw.route_reflector_client);
        groups.check_reflector(&peer, reflector.unwrap_or(key.span()))?;
        match &peer.name {
            PeerName::Address(address) => addresses.insert(*address, key.span(), "another peer")?,
            PeerName::Interface(device) => {
                interfaces.insert(device.clone(), key.span(), "another peer")?;
            }
        }
        peers.push(peer);
    }
    Ok(peers)
}

/// One peer; `key` is what names it.
pub(super) fn peer(
    table: &Spanned<raw::Peer>,
    name: PeerName,
    key: &Spanned<String>,
    options: Options,
) -> Result<PeerConfig> {
    let raw = table.get_ref();
    if let PeerName::Interface(_) = &name {
        let local = options.local_address.is_some();
        let multihop = options.multihop.flatten().is_some();
        let bfd = options.bfd.flatten().and_then(|bfd| bfd.hops);
        let far = bfd.is_some_and(Hops::is_multihop);
        for (option, given, span) in [
            ("local_address", local, span_of(&raw.local_address)),
            ("multihop", multihop, span_of(&raw.multihop)),
            ("multihop in bfd", far, span_of(&raw.bfd)),
        ] {
            if given {
                return Err(Fault::new(
                    span.unwrap_or(key.span()),
                    format!("{option} is not for a peer that is known by its interface"),
                ));
            }
        }
    }
    if let Some(local) = options.local_address
        && let Some(address) = name.address()
        && local.is_ipv4() != address.is_ipv4()
    {
        let span = span_of(&raw.local_address).unwrap_or(key.span());
        return Err(Fault::new(
            span,
            format!("local_address {local} and address {address} are of different families"),
        ));
    }
    let asn = options.asn.ok_or_else(|| {
        Fault::new(
            key.span(),
            format!("peer {name} has no asn, expected a number, \"internal\" or \"external\""),
        )
    })?;
    let default = PeerConfig::new(name, asn);
    let hold_time = options.hold_time.unwrap_or(default.hold_time);
    if let Some(send) = options.send_hold_time.filter(|send| !send.is_zero())
        && send <= hold_time
    {
        return Err(Fault::new(
            span_of(&raw.send_hold_time).unwrap_or(key.span()),
            format!(
                "send_hold_time {} is not longer than hold_time {}",
                send.as_secs(),
                hold_time.as_secs()
            ),
        ));
    }
    let graceful_restart = options.graceful_restart.unwrap_or(default.graceful_restart);
    if options.long_lived_graceful_restart.is_some() && !graceful_restart {
        return Err(Fault::new(
            span_of(&raw.long_lived_graceful_restart).unwrap_or(key.span()),
            "long_lived_graceful_restart needs graceful_restart",
        ));
    }
    let unicast_graceful_restart = options
        .unicast_graceful_restart
        .unwrap_or(default.unicast_graceful_restart);
    if unicast_graceful_restart && !graceful_restart {
        return Err(Fault::new(
            span_of(&raw.unicast_graceful_restart).unwrap_or(key.span()),
            "unicast_graceful_restart needs graceful_restart",
        ));
    }
    if options.ttl_security.is_some() && options.multihop.flatten().is_some() {
        return Err(Fault::new(
            span_of(&raw.ttl_security).unwrap_or(key.span()),
            "ttl_security and multihop exclude each other: ttl_security says how many hops",
        ));
    }
    Ok(PeerConfig {
        local_as: options.local_as,
        families: options.families.unwrap_or(default.families),
        local_address: options.local_address,
        hold_time,
        send_hold_time: options.send_hold_time,
        extended_messages: options
            .extended_messages
            .unwrap_or(default.extended_messages),
        port: options.port.unwrap_or(default.port),
        authentication: options.authentication,
        max_prefixes: options.max_prefixes,
        ttl_security: options.ttl_security,
        allowas_in: options.allowas_in.unwrap_or(default.allowas_in),
        rt_constraint: options.rt_constraint.unwrap_or(default.rt_constraint),
        add_path: options.add_path.unwrap_or(default.add_path),
        route_reflector_client: options
            .route_reflector_client
            .unwrap_or(default.route_reflector_client),
        shutdown: options.shutdown.flatten(),
        graceful_restart,
        restart_time: options.restart_time.unwrap_or(default.restart_time),
        long_lived_graceful_restart: options.long_lived_graceful_restart,
        unicast_graceful_restart,
        checks: UpdateChecks {
            strict_nlri: options.strict_nlri.unwrap_or(default.checks.strict_nlri),
            enforce_first_as: options
                .enforce_first_as
                .unwrap_or(default.checks.enforce_first_as),
            accept_as_sets: options
                .accept_as_sets
                .unwrap_or(default.checks.accept_as_sets),
        },
        passive: options.passive.unwrap_or(default.passive),
        multihop: options.multihop.flatten(),
        bfd: options.bfd.flatten(),
        ..default
    })
}

/// What the peer is known by; `key` is the one of the two that is there.
fn name(raw: &raw::Peer, key: &Spanned<String>, vteps: &[Ipv4Addr]) -> Result<PeerName> {
    if raw.interface.is_some() {
        return field::name(key).map(PeerName::Interface);
    }
    let address = ip(key, "address")?;
    if vteps.iter().any(|&vtep| IpAddr::from(vtep) == address) {
        return Err(Fault::new(
            key.span(),
            format!("address {address} is our own VTEP address, expected the peer's"),
        ));
    }
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Err(Fault::new(
            key.span(),
            format!("address {address} is link-local, expected interface = \"…\" instead"),
        ));
    }
    Ok(address.into())
}

fn span_of<T>(key: &Option<Spanned<T>>) -> Option<Range<usize>> {
    key.as_ref().map(Spanned::span)
}
