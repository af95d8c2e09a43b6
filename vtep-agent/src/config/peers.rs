//! `[[bgp.peer]]` and the groups that give them defaults.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    ops::Range,
    path::Path,
    time::Duration,
};

use toml::Spanned;

use super::{
    BfdConfig, Hops, MaxPrefixes, PeerAsn, PeerConfig, Secret,
    bfd::bfd,
    diagnostic::Fault,
    field::{self, Distinct, Result, asn, is_unicast, number, parse_with},
    raw::{self, Integer, Scalar},
};
use crate::types::{Asn, Families, PeerName};

/// Largest key of TCP MD5 signatures in Linux (`TCP_MD5SIG_MAXKEYLEN`).
const MAX_PASSWORD: usize = 80;

/// Longest shutdown communication that every implementation takes (RFC 8203 §2).
const MAX_COMMUNICATION: usize = 128;

/// What a peer says, or its group for it.
#[derive(Clone, Default)]
struct Options {
    asn: Option<PeerAsn>,
    families: Option<Families>,
    local_address: Option<IpAddr>,
    hold_time: Option<Duration>,
    port: Option<u16>,
    password: Option<Secret>,
    send_hold_time: Option<Duration>,
    extended_messages: Option<bool>,
    max_prefixes: Option<MaxPrefixes>,
    ttl_security: Option<u8>,
    allowas_in: Option<u8>,
    rt_constraint: Option<bool>,
    add_path: Option<bool>,
    route_reflector_client: Option<bool>,
    shutdown: Option<Option<String>>,
    graceful_restart: Option<bool>,
    restart_time: Option<Duration>,
    long_lived_graceful_restart: Option<Duration>,
    passive: Option<bool>,
    multihop: Option<Option<u8>>,
    bfd: Option<Option<BfdConfig>>,
}

/// `[bgp.group.NAME]` by name.
pub(super) struct Groups<'a> {
    options: BTreeMap<&'a str, Options>,
    local_asn: Asn,
}

impl<'a> Groups<'a> {
    /// All groups. `directory` is where relative password files are.
    pub(super) fn read(raw: &'a raw::Bgp, directory: &Path) -> Result<Self> {
        let mut groups = BTreeMap::new();
        for (name, raw) in &raw.group {
            for (key, text) in [
                ("address", &raw.address),
                ("interface", &raw.interface),
                ("group", &raw.group),
            ] {
                if let Some(text) = text {
                    return Err(Fault::new(
                        text.span(),
                        format!("bgp.group.{name} has the key {key}, which only a peer can have"),
                    ));
                }
            }
            groups.insert(name.as_str(), options(raw, directory)?);
        }
        Ok(Self {
            options: groups,
            local_asn: asn(&raw.asn)?,
        })
    }

    /// What the peers of a prefix have in common; `network` is its first address, `key` its place.
    pub(super) fn template(
        &self,
        group: &Spanned<String>,
        asn: Option<&Spanned<Scalar>>,
        network: IpAddr,
        key: &Spanned<String>,
    ) -> Result<PeerConfig> {
        let own = Options {
            asn: asn.map(peer_asn).transpose()?,
            ..Options::default()
        };
        let options = own.or(self.get(group)?);
        let table = Spanned::new(key.span(), raw::Peer::default());
        let peer = peer(&table, network.into(), key, options)?;
        self.check_reflector(&peer, key.span())?;
        Ok(peer)
    }

    fn get(&self, name: &Spanned<String>) -> Result<Options> {
        self.options
            .get(name.get_ref().as_str())
            .cloned()
            .ok_or_else(|| unknown_group(name, &self.options))
    }

    fn check_reflector(&self, peer: &PeerConfig, span: Range<usize>) -> Result<()> {
        match peer.route_reflector_client && !peer.is_internal(self.local_asn) {
            true => Err(Fault::new(
                span,
                "route_reflector_client is for internal peers",
            )),
            false => Ok(()),
        }
    }
}

/// All peers, groups resolved. `directory` is where relative password files are.
pub(super) fn peers(
    raw: &raw::Bgp,
    groups: &Groups<'_>,
    vteps: &[Ipv4Addr],
    directory: &Path,
) -> Result<Vec<PeerConfig>> {
    let mut addresses = Distinct::new("address");
    let mut interfaces = Distinct::new("interface");
    let mut peers = Vec::with_capacity(raw.peer.len());
    for peer_table in &raw.peer {
        let raw = peer_table.get_ref();
        let own = options(raw, directory)?;
        let group = match &raw.group {
            None => Options::default(),
            Some(name) => groups.get(name)?,
        };
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
        let peer = peer(peer_table, name, key, own.or(group))?;
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

fn peer(
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
    if options.ttl_security.is_some() && options.multihop.flatten().is_some() {
        return Err(Fault::new(
            span_of(&raw.ttl_security).unwrap_or(key.span()),
            "ttl_security and multihop exclude each other: ttl_security says how many hops",
        ));
    }
    Ok(PeerConfig {
        families: options.families.unwrap_or(default.families),
        local_address: options.local_address,
        hold_time,
        send_hold_time: options.send_hold_time,
        extended_messages: options
            .extended_messages
            .unwrap_or(default.extended_messages),
        port: options.port.unwrap_or(default.port),
        password: options.password,
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
        passive: options.passive.unwrap_or(default.passive),
        multihop: options.multihop.flatten(),
        bfd: options.bfd.flatten(),
        ..default
    })
}

fn options(raw: &raw::Peer, directory: &Path) -> Result<Options> {
    Ok(Options {
        asn: raw.asn.as_ref().map(peer_asn).transpose()?,
        families: raw.families.as_ref().map(families).transpose()?,
        local_address: raw
            .local_address
            .as_ref()
            .map(|text| ip(text, "local_address"))
            .transpose()?,
        hold_time: raw.hold_time.as_ref().map(hold_time).transpose()?,
        port: raw
            .port
            .as_ref()
            .map(|port| number(port, "port", 1..=u16::MAX))
            .transpose()?,
        password: password(raw, directory)?,
        send_hold_time: raw
            .send_hold_time
            .as_ref()
            .map(send_hold_time)
            .transpose()?,
        extended_messages: raw.extended_messages,
        max_prefixes: raw.max_prefixes.as_ref().map(max_prefixes).transpose()?,
        ttl_security: raw
            .ttl_security
            .as_ref()
            .map(|hops| number(hops, "ttl_security", 1..=254))
            .transpose()?,
        allowas_in: raw
            .allowas_in
            .as_ref()
            .map(|times| number(times, "allowas_in", 0..=10))
            .transpose()?,
        rt_constraint: raw.rt_constraint,
        add_path: raw.add_path,
        route_reflector_client: raw
            .route_reflector_client
            .as_ref()
            .map(|raw| *raw.get_ref()),
        shutdown: raw.shutdown.as_ref().map(shutdown).transpose()?,
        graceful_restart: raw.graceful_restart,
        restart_time: raw
            .restart_time
            .as_ref()
            .map(|time| number(time, "restart_time", 1..=4095).map(Duration::from_secs))
            .transpose()?,
        long_lived_graceful_restart: raw
            .long_lived_graceful_restart
            .as_ref()
            .map(long_lived)
            .transpose()?,
        passive: raw.passive,
        multihop: raw.multihop.as_ref().map(multihop).transpose()?,
        bfd: raw.bfd.as_ref().map(bfd).transpose()?,
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

fn ip(text: &Spanned<String>, key: &str) -> Result<IpAddr> {
    parse_with(text, key, "a unicast IP address", |text| {
        text.parse().ok().filter(|&address| is_unicast(address))
    })
}

fn peer_asn(raw: &Spanned<Scalar>) -> Result<PeerAsn> {
    match raw.get_ref() {
        Scalar::Number(value) => asn(&Spanned::new(raw.span(), Integer(*value))).map(PeerAsn::Is),
        Scalar::Word(word) if word == "internal" => Ok(PeerAsn::Internal),
        Scalar::Word(word) if word == "external" => Ok(PeerAsn::External),
        other => Err(Fault::new(
            raw.span(),
            format!("asn is {other}, expected a number, \"internal\" or \"external\""),
        )),
    }
}

fn families(raw: &Spanned<Vec<Spanned<String>>>) -> Result<Families> {
    let mut families = Families::NONE;
    for name in raw.get_ref() {
        let member = match name.get_ref().as_str() {
            "evpn" => &mut families.evpn,
            "ipv4" => &mut families.ipv4,
            "ipv6" => &mut families.ipv6,
            other => {
                let message = format!("family {other:?}, expected \"evpn\", \"ipv4\" or \"ipv6\"");
                return Err(Fault::new(name.span(), message));
            }
        };
        if std::mem::replace(member, true) {
            return Err(Fault::new(
                name.span(),
                format!("family {} is there twice", name.get_ref()),
            ));
        }
    }
    match families.is_empty() {
        true => Err(Fault::new(
            raw.span(),
            "families is empty, expected \"evpn\", \"ipv4\" or \"ipv6\"",
        )),
        false => Ok(families),
    }
}

/// Zero, or at least three seconds (RFC 4271 §4.2).
fn hold_time(raw: &Spanned<Integer>) -> Result<Duration> {
    match raw.get_ref().0 {
        seconds @ (0 | 3..=65535) => Ok(Duration::from_secs(seconds.unsigned_abs())),
        seconds => Err(Fault::new(
            raw.span(),
            format!("hold_time is {seconds}, expected 0 or 3 to 65535 seconds"),
        )),
    }
}

/// Longer than the hold time (RFC 9687 §4.4), which the caller checks, or zero.
fn send_hold_time(raw: &Spanned<Integer>) -> Result<Duration> {
    number(raw, "send_hold_time", 0..=65535).map(Duration::from_secs)
}

/// 24 bits (RFC 9494 §3).
fn long_lived(raw: &Spanned<Integer>) -> Result<Duration> {
    let seconds = number(raw, "long_lived_graceful_restart", 1..=0xff_ffff)?;
    Ok(Duration::from_secs(seconds))
}

fn max_prefixes(raw: &Spanned<raw::MaxPrefixes>) -> Result<MaxPrefixes> {
    let raw::MaxPrefixes { limit, warn_only } = *raw.get_ref();
    let limit = number(
        &Spanned::new(raw.span(), Integer(limit)),
        "max_prefixes",
        1..=u32::MAX,
    )?;
    Ok(MaxPrefixes { limit, warn_only })
}

/// `true`, or a text for the peer's operator.
fn shutdown(raw: &Spanned<Scalar>) -> Result<Option<String>> {
    match raw.get_ref() {
        Scalar::Flag(down) => Ok(down.then(String::new)),
        Scalar::Word(text) if text.len() <= MAX_COMMUNICATION => Ok(Some(text.clone())),
        Scalar::Word(text) => Err(Fault::new(
            raw.span(),
            format!(
                "shutdown has {} bytes, expected at most {MAX_COMMUNICATION}",
                text.len()
            ),
        )),
        other => Err(Fault::new(
            raw.span(),
            format!("shutdown is {other}, expected true, false or a text"),
        )),
    }
}

/// A number of hops; `true` for any number.
pub(super) fn multihop(raw: &Spanned<Scalar>) -> Result<Option<u8>> {
    match raw.get_ref() {
        Scalar::Number(hops) => number(
            &Spanned::new(raw.span(), Integer(*hops)),
            "multihop",
            1..=u8::MAX,
        )
        .map(Some),
        Scalar::Flag(any) => Ok(any.then_some(u8::MAX)),
        other => Err(Fault::new(
            raw.span(),
            format!("multihop is {other}, expected 1 to 255 hops, true or false"),
        )),
    }
}

fn password(raw: &raw::Peer, directory: &Path) -> Result<Option<Secret>> {
    let (key, span, password) = match (&raw.password, &raw.password_file) {
        (None, None) => return Ok(None),
        (Some(password), None) => ("password", password.span(), password.get_ref().clone()),
        (None, Some(file)) => {
            let path = directory.join(file.get_ref());
            let text = std::fs::read_to_string(&path).map_err(|error| {
                let path = path.display();
                Fault::new(
                    file.span(),
                    format!("password_file: cannot read {path}: {error}"),
                )
            })?;
            let password = text.trim_end_matches(['\r', '\n']).to_owned();
            ("password_file", file.span(), password)
        }
        (Some(_), Some(file)) => {
            return Err(Fault::new(
                file.span(),
                "password and password_file exclude each other",
            ));
        }
    };
    match password.len() {
        1..=MAX_PASSWORD => Ok(Some(password.into())),
        length => Err(Fault::new(
            span,
            format!("{key} has {length} bytes, expected 1 to {MAX_PASSWORD}"),
        )),
    }
}

fn unknown_group(name: &Spanned<String>, groups: &BTreeMap<&str, Options>) -> Fault {
    let known = match groups.is_empty() {
        true => "there is no [bgp.group.NAME] table".to_owned(),
        false => {
            let names: Vec<_> = groups.keys().copied().collect();
            format!("expected one of {}", names.join(", "))
        }
    };
    let message = format!("group {:?} is not defined, {known}", name.get_ref());
    Fault::new(name.span(), message)
}

impl Options {
    /// Fills in from the group what the peer leaves open.
    fn or(self, group: Self) -> Self {
        Self {
            asn: self.asn.or(group.asn),
            families: self.families.or(group.families),
            local_address: self.local_address.or(group.local_address),
            hold_time: self.hold_time.or(group.hold_time),
            port: self.port.or(group.port),
            password: self.password.or(group.password),
            send_hold_time: self.send_hold_time.or(group.send_hold_time),
            extended_messages: self.extended_messages.or(group.extended_messages),
            max_prefixes: self.max_prefixes.or(group.max_prefixes),
            ttl_security: self.ttl_security.or(group.ttl_security),
            allowas_in: self.allowas_in.or(group.allowas_in),
            rt_constraint: self.rt_constraint.or(group.rt_constraint),
            add_path: self.add_path.or(group.add_path),
            route_reflector_client: self.route_reflector_client.or(group.route_reflector_client),
            shutdown: self.shutdown.or(group.shutdown),
            graceful_restart: self.graceful_restart.or(group.graceful_restart),
            restart_time: self.restart_time.or(group.restart_time),
            long_lived_graceful_restart: self
                .long_lived_graceful_restart
                .or(group.long_lived_graceful_restart),
            passive: self.passive.or(group.passive),
            multihop: self.multihop.or(group.multihop),
            bfd: self.bfd.or(group.bfd),
        }
    }
}
