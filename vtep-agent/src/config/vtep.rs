//! `[vtep]`

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use toml::Spanned;
use vtep_common::abi::{DEFAULT_MAX_MACS, MAX_LOCAL_VTEPS, MAX_UPLINKS};

use super::{
    DEFAULT_PIN_DIR, DEFAULT_SOCKET, DuplicateIpPolicy, DuplicatePolicy, OnStop, SourceCheck,
    UnknownVni, VtepConfig, XdpMode,
    diagnostic::Fault,
    field::{Result, each, is_unicast, name, number_or, parse_with, path_or},
    glob,
    raw::{self, OneOrMany},
};
use crate::types::IfName;

/// Largest path of a Unix socket: `sun_path` less its terminator.
const MAX_SOCKET_PATH: usize = 107;

/// Seconds. Peers remove what is withdrawn within a second; a route reflector under load takes longer.
const DEFAULT_DRAIN_TIME: u64 = 10;

/// Longest `drain_time`, seconds.
pub const MAX_DRAIN_TIME: u64 = 3600;

/// Largest FDB: 16 Mi entries, about 1 GiB of preallocated map.
const MAX_MACS: u32 = 1 << 24;

pub(super) fn vtep(raw: &raw::Vtep, warnings: &mut Vec<Fault>) -> Result<VtepConfig> {
    let addresses = vtep_addresses(&raw.address)?;
    if addresses.iter().any(Ipv4Addr::is_loopback) {
        warnings.push(Fault::new(
            raw.address.span(),
            "no other host reaches a VTEP at a loopback address",
        ));
    }
    let router_id = match &raw.router_id {
        None => addresses[0],
        Some(text) => parse_with(
            text,
            "router_id",
            "an IPv4 address that is not 0.0.0.0",
            |id| id.parse().ok().filter(|id: &Ipv4Addr| !id.is_unspecified()),
        )?,
    };
    let uplinks = match &raw.uplinks {
        Some(names) => uplinks(names, warnings)?,
        None => Vec::new(),
    };
    Ok(VtepConfig {
        addresses,
        router_id,
        uplinks,
        xdp: raw.xdp.unwrap_or(XdpMode::Auto),
        port: number_or(&raw.port, "port", 1..=u16::MAX, 4789)?,
        pin_dir: path_or(&raw.pin_dir, "pin_dir", DEFAULT_PIN_DIR)?,
        state_dir: path_or(&raw.state_dir, "state_dir", "/var/lib/vtep")?,
        socket: socket(&raw.socket)?,
        socket_group: raw.socket_group.as_ref().map(socket_group).transpose()?,
        metrics: metrics(raw.metrics.as_ref())?,
        on_stop: raw.on_stop.unwrap_or(OnStop::Clean),
        drain_time: Duration::from_secs(number_or(
            &raw.drain_time,
            "drain_time",
            0..=MAX_DRAIN_TIME,
            DEFAULT_DRAIN_TIME,
        )?),
        unknown_vni: raw.unknown_vni.unwrap_or(UnknownVni::Drop),
        source_check: raw.source_check.unwrap_or(SourceCheck::Loose),
        max_macs: number_or(&raw.max_macs, "max_macs", 1..=MAX_MACS, DEFAULT_MAX_MACS)?,
        duplicate: match &raw.duplicate {
            Some(raw) => DuplicatePolicy::new(raw)?,
            None => DuplicatePolicy::default(),
        },
        duplicate_ip: match &raw.duplicate_ip {
            Some(raw) => DuplicateIpPolicy::new(raw)?,
            None => DuplicateIpPolicy::default(),
        },
    })
}

fn vtep_addresses(raw: &Spanned<OneOrMany>) -> Result<Vec<Ipv4Addr>> {
    let mut addresses = Vec::new();
    for text in each(raw) {
        let address = parse_with(&text, "address", "an IPv4 address", |text| {
            text.parse().ok()
        })?;
        let IpAddr::V4(address) = address else {
            return Err(Fault::new(
                text.span(),
                format!(
                    "address {address}: IPv6 underlay is not supported yet, expected an IPv4 address"
                ),
            ));
        };
        if !is_unicast(address.into()) {
            return Err(Fault::new(
                text.span(),
                format!("address {address} is not a unicast address"),
            ));
        }
        if addresses.contains(&address) {
            return Err(Fault::new(
                text.span(),
                format!("address {address} is there twice"),
            ));
        }
        addresses.push(address);
    }
    match addresses.len() {
        0 => Err(Fault::new(
            raw.span(),
            "address is empty, expected at least one IPv4 address",
        )),
        count if count > MAX_LOCAL_VTEPS => Err(Fault::new(
            raw.span(),
            format!("{count} addresses, expected at most {MAX_LOCAL_VTEPS}"),
        )),
        _ => Ok(addresses),
    }
}

fn uplinks(raw: &Spanned<Vec<Spanned<String>>>, warnings: &mut Vec<Fault>) -> Result<Vec<IfName>> {
    let mut uplinks = Vec::new();
    for text in raw.get_ref() {
        let name: IfName = name(text)?;
        if uplinks.contains(&name) {
            return Err(Fault::new(
                text.span(),
                format!("uplink {name} is there twice"),
            ));
        }
        if glob::is_glob(name.as_str()) {
            let message =
                format!("uplink {name} is no glob: only a device of that very name is meant");
            warnings.push(Fault::new(text.span(), message));
        }
        uplinks.push(name);
    }
    if uplinks.len() > MAX_UPLINKS {
        return Err(Fault::new(
            raw.span(),
            format!("{} uplinks, expected at most {MAX_UPLINKS}", uplinks.len()),
        ));
    }
    Ok(uplinks)
}

fn socket(raw: &Option<Spanned<String>>) -> Result<PathBuf> {
    let path = path_or(raw, "socket", DEFAULT_SOCKET)?;
    let length = path.as_os_str().len();
    match raw {
        Some(text) if length > MAX_SOCKET_PATH => Err(Fault::new(
            text.span(),
            format!("socket has {length} bytes, expected at most {MAX_SOCKET_PATH}"),
        )),
        _ => Ok(path),
    }
}

fn socket_group(raw: &Spanned<String>) -> Result<String> {
    parse_with(raw, "socket_group", "a group's name or number", |text| {
        let usable = !text.is_empty() && !text.contains([':', '\0', '\n']);
        usable.then(|| text.to_owned())
    })
}

fn metrics(raw: Option<&Spanned<String>>) -> Result<Option<SocketAddr>> {
    let Some(text) = raw else {
        return Ok(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9473))));
    };
    if text.get_ref().is_empty() {
        return Ok(None);
    }
    let expected = "ADDRESS:PORT such as 127.0.0.1:9473, or \"\" for off";
    parse_with(text, "metrics", expected, |text| {
        text.parse()
            .ok()
            .filter(|address: &SocketAddr| address.port() != 0)
    })
    .map(Some)
}
