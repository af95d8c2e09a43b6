//! What `[[bgp.peer]]` and `[bgp.group.NAME]` have in common.

use std::{net::IpAddr, path::Path, time::Duration};

use toml::Spanned;

use super::{
    Authentication, BfdConfig, MaxPrefixes, PeerAsn,
    authentication::authentication,
    bfd::bfd,
    diagnostic::Fault,
    field::{Result, asn, is_unicast, number, parse_with},
    raw::{self, Integer, Scalar},
};
use crate::types::{Asn, Families, LocalAs};

/// Longest shutdown communication that every implementation takes (RFC 8203 §2).
const MAX_COMMUNICATION: usize = 128;

/// What a peer says, or its group for it.
#[derive(Clone, Default)]
pub(super) struct Options {
    pub(super) asn: Option<PeerAsn>,
    pub(super) local_as: Option<LocalAs>,
    pub(super) families: Option<Families>,
    pub(super) local_address: Option<IpAddr>,
    pub(super) hold_time: Option<Duration>,
    pub(super) port: Option<u16>,
    pub(super) authentication: Option<Authentication>,
    pub(super) send_hold_time: Option<Duration>,
    pub(super) extended_messages: Option<bool>,
    pub(super) max_prefixes: Option<MaxPrefixes>,
    pub(super) ttl_security: Option<u8>,
    pub(super) allowas_in: Option<u8>,
    pub(super) rt_constraint: Option<bool>,
    pub(super) add_path: Option<bool>,
    pub(super) route_reflector_client: Option<bool>,
    pub(super) shutdown: Option<Option<String>>,
    pub(super) graceful_restart: Option<bool>,
    pub(super) restart_time: Option<Duration>,
    pub(super) long_lived_graceful_restart: Option<Duration>,
    pub(super) unicast_graceful_restart: Option<bool>,
    pub(super) strict_nlri: Option<bool>,
    pub(super) enforce_first_as: Option<bool>,
    pub(super) accept_as_sets: Option<bool>,
    pub(super) passive: Option<bool>,
    pub(super) multihop: Option<Option<u8>>,
    pub(super) bfd: Option<Option<BfdConfig>>,
}

impl Options {
    /// Fills in from the group what the peer leaves open.
    pub(super) fn or(self, group: Self) -> Self {
        Self {
            asn: self.asn.or(group.asn),
            local_as: self.local_as.or(group.local_as),
            families: self.families.or(group.families),
            local_address: self.local_address.or(group.local_address),
            hold_time: self.hold_time.or(group.hold_time),
            port: self.port.or(group.port),
            authentication: self.authentication.or(group.authentication),
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
            unicast_graceful_restart: self
                .unicast_graceful_restart
                .or(group.unicast_graceful_restart),
            strict_nlri: self.strict_nlri.or(group.strict_nlri),
            enforce_first_as: self.enforce_first_as.or(group.enforce_first_as),
            accept_as_sets: self.accept_as_sets.or(group.accept_as_sets),
            passive: self.passive.or(group.passive),
            multihop: self.multihop.or(group.multihop),
            bfd: self.bfd.or(group.bfd),
        }
    }
}

/// What a table says. `own` is our AS, `directory` where relative files of keys are.
pub(super) fn options(raw: &raw::Peer, own: Asn, directory: &Path) -> Result<Options> {
    Ok(Options {
        asn: raw.asn.as_ref().map(peer_asn).transpose()?,
        local_as: raw
            .local_as
            .as_ref()
            .map(|local| local_as(local, own))
            .transpose()?,
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
        authentication: authentication(raw, directory)?,
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
        unicast_graceful_restart: raw
            .unicast_graceful_restart
            .as_ref()
            .map(|raw| *raw.get_ref()),
        strict_nlri: raw.strict_nlri,
        enforce_first_as: raw.enforce_first_as,
        accept_as_sets: raw.accept_as_sets,
        passive: raw.passive,
        multihop: raw.multihop.as_ref().map(multihop).transpose()?,
        bfd: raw.bfd.as_ref().map(bfd).transpose()?,
    })
}

pub(super) fn ip(text: &Spanned<String>, key: &str) -> Result<IpAddr> {
    parse_with(text, key, "a unicast IP address", |text| {
        text.parse().ok().filter(|&address| is_unicast(address))
    })
}

pub(super) fn peer_asn(raw: &Spanned<Scalar>) -> Result<PeerAsn> {
    match raw.get_ref() {
        Scalar::Number(value) => {
            asn(&Spanned::new(raw.span(), Integer(*value)), "asn").map(PeerAsn::Is)
        }
        Scalar::Word(word) if word == "internal" => Ok(PeerAsn::Internal),
        Scalar::Word(word) if word == "external" => Ok(PeerAsn::External),
        other => Err(Fault::new(
            raw.span(),
            format!("asn is {other}, expected a number, \"internal\" or \"external\""),
        )),
    }
}

/// Another AS than ours, which would say nothing.
fn local_as(raw: &Spanned<raw::LocalAs>, own: Asn) -> Result<LocalAs> {
    let raw::LocalAs {
        asn: number,
        replace,
    } = *raw.get_ref();
    let asn = asn(&Spanned::new(raw.span(), Integer(number)), "local_as")?;
    match asn == own {
        true => Err(Fault::new(
            raw.span(),
            format!("local_as {asn} is our own AS, expected the one as which the peer knows us"),
        )),
        false => Ok(LocalAs { asn, replace }),
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
