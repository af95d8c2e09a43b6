//! `[[bd]]`

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use toml::Spanned;
use vtep_common::abi::MAX_BDS;

use super::{
    BdConfig, DuplicateIpPolicy, DuplicatePolicy, PortPattern, Pruned,
    diagnostic::Fault,
    field::{Distinct, Result, each, is_unicast, name, number, number_or, parse, parse_with},
    glob,
    raw::{self, OneOrMany},
};
use crate::types::{BdName, IfName, Vni};

/// Most frames or events per second: one every nanosecond.
const MAX_RATE: u32 = 1_000_000_000;

/// All bridge domains, each by itself and against the others.
pub(super) fn bds(
    raw: &[Spanned<raw::Bd>],
    uplinks: &[IfName],
    warnings: &mut Vec<Fault>,
) -> Result<Vec<BdConfig>> {
    // Index 0 of the datapath's table is never used.
    let limit = MAX_BDS as usize - 1;
    if let Some(excess) = raw.get(limit) {
        return Err(Fault::new(
            excess.span(),
            format!("more than {limit} bridge domains"),
        ));
    }
    let mut names = Distinct::new("name");
    let mut vnis = Distinct::new("vni");
    let mut rds = Distinct::new("rd");
    let mut ports = Ports::new(uplinks);
    let mut bds = Vec::with_capacity(raw.len());
    for raw in raw {
        let raw = raw.get_ref();
        let bd = bd(raw)?;
        let owner = format!("bridge domain {}", bd.name);
        names.insert(bd.name.clone(), raw.name.span(), "another bridge domain")?;
        vnis.insert(bd.vni, raw.vni.span(), &owner)?;
        if let (Some(rd), Some(text)) = (bd.rd, &raw.rd) {
            rds.insert(rd, text.span(), &owner)?;
        }
        for (port, raw) in bd.ports.iter().zip(&raw.ports) {
            warnings.extend(ports.insert(port, raw, &bd.name)?);
        }
        bds.push(bd);
    }
    Ok(bds)
}

/// One bridge domain by itself.
pub(super) fn bd(raw: &raw::Bd) -> Result<BdConfig> {
    let name = name(&raw.name)?;
    let vni = number(&raw.vni, "vni", 1..=Vni::MAX)?;
    let vni = Vni::new(vni)
        .ok_or_else(|| Fault::new(raw.vni.span(), format!("vni {vni} is not usable")))?;
    let default = BdConfig::new(name, vni);
    let ageing = number_or(&raw.ageing, "ageing", 0..=u32::MAX, 300)?;
    Ok(BdConfig {
        ports: raw.ports.iter().map(port).collect::<Result<_>>()?,
        rd: match &raw.rd {
            Some(text) if text.get_ref() != "auto" => Some(parse(text, "rd")?),
            _ => None,
        },
        rt_import: targets(&raw.rt_import, "rt_import")?,
        rt_export: targets(&raw.rt_export, "rt_export")?,
        suppress: raw.suppress.unwrap_or(default.suppress),
        flood: raw.flood.unwrap_or(default.flood),
        learning: raw.learning.unwrap_or(default.learning),
        bum_rate: number_or(&raw.bum_rate, "bum_rate", 0..=MAX_RATE, default.bum_rate)?,
        learn_rate: number_or(
            &raw.learn_rate,
            "learn_rate",
            0..=MAX_RATE,
            default.learn_rate,
        )?,
        unknown_neighbors: raw.unknown_neighbors.unwrap_or(default.unknown_neighbors),
        downstream_vni: raw.downstream_vni.unwrap_or(default.downstream_vni),
        any_ethernet_tag: raw.any_ethernet_tag.unwrap_or(default.any_ethernet_tag),
        dhcp_snooping: raw.dhcp_snooping.unwrap_or(default.dhcp_snooping),
        source_filter: raw.source_filter.unwrap_or(default.source_filter),
        server_guard: raw.server_guard.unwrap_or(default.server_guard),
        ageing: (ageing != 0).then(|| Duration::from_secs(ageing.into())),
        max_macs_per_port: number_or(
            &raw.max_macs_per_port,
            "max_macs_per_port",
            1..=u32::MAX,
            default.max_macs_per_port,
        )?,
        duplicate: raw
            .duplicate
            .as_ref()
            .map(DuplicatePolicy::new)
            .transpose()?,
        duplicate_ip: raw
            .duplicate_ip
            .as_ref()
            .map(DuplicateIpPolicy::new)
            .transpose()?,
        anycast: anycast(raw.anycast.as_ref())?,
        unicast_forward: raw.unicast_forward.unwrap_or(default.unicast_forward),
        replication: raw.replication.unwrap_or(default.replication),
        prune: pruned(raw.prune.as_ref())?,
        honor_prune: raw.honor_prune.unwrap_or(default.honor_prune),
        ..default
    })
}

fn port(raw: &Spanned<raw::Port>) -> Result<PortPattern> {
    let raw::Port { name, vlan } = raw.get_ref();
    let fault = if glob::is_glob(name) {
        glob::fault(name).map(|fault| format!("port {name:?} is not a valid glob: {fault}"))
    } else {
        let parsed: std::result::Result<IfName, _> = name.parse();
        parsed.err().map(|error| error.to_string())
    };
    if let Some(fault) = fault {
        return Err(Fault::new(raw.span(), fault));
    }
    let vlan = vlan
        .as_ref()
        .map(|vlan| number(vlan, "vlan", 1..=4094))
        .transpose()?;
    Ok(PortPattern {
        pattern: name.clone(),
        vlan,
    })
}

/// Addresses that hosts can have.
fn anycast(raw: Option<&Spanned<Vec<Spanned<String>>>>) -> Result<BTreeSet<IpAddr>> {
    let texts = raw.into_iter().flat_map(|raw| raw.get_ref());
    let ip = |text: &Spanned<String>| {
        parse_with(text, "anycast", "an address that a host can have", |text| {
            text.parse().ok().filter(|ip| is_unicast(*ip))
        })
    };
    texts.map(ip).collect()
}

fn pruned(raw: Option<&Spanned<Vec<Spanned<String>>>>) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    for text in raw.into_iter().flat_map(|raw| raw.get_ref()) {
        let expected = "\"broadcast\" or \"unknown\"";
        let flag = parse_with(text, "prune", expected, |text| match text {
            "broadcast" => Some(&mut pruned.broadcast),
            "unknown" => Some(&mut pruned.unknown),
            _ => None,
        })?;
        *flag = true;
    }
    Ok(pruned)
}

/// `None` for `"auto"`.
fn targets<T>(raw: &Option<Spanned<OneOrMany>>, key: &str) -> Result<Option<Vec<T>>>
where
    T: std::str::FromStr<Err: std::fmt::Display> + PartialEq,
{
    let Some(raw) = raw else {
        return Ok(None);
    };
    if matches!(raw.get_ref(), OneOrMany::One(text) if text == "auto") {
        return Ok(None);
    }
    let mut targets = Vec::new();
    for text in each(raw) {
        let target = parse(&text, key)?;
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        return Err(Fault::new(
            raw.span(),
            format!("{key} is empty, expected \"auto\" or a list such as [\"65000:100\"]"),
        ));
    }
    Ok(Some(targets))
}

/// Which ports the bridge domains have claimed.
struct Ports<'a> {
    uplinks: &'a [IfName],
    owners: HashMap<PortPattern, BdName>,
    globs: Claims,
    literals: Claims,
}

/// Claims by the literal prefix of their pattern.
#[derive(Default)]
struct Claims(BTreeMap<String, Vec<(PortPattern, BdName)>>);

impl<'a> Ports<'a> {
    fn new(uplinks: &'a [IfName]) -> Self {
        Self {
            uplinks,
            owners: HashMap::new(),
            globs: Claims::default(),
            literals: Claims::default(),
        }
    }

    /// Claims `port` for `bd`. A frame of one device and VLAN belongs to one bridge domain; where
    /// globs leave that to the devices that will exist, there is a warning.
    fn insert(
        &mut self,
        port: &PortPattern,
        raw: &Spanned<raw::Port>,
        bd: &BdName,
    ) -> Result<Vec<Fault>> {
        let fault = |message: String| Fault::new(raw.span(), message);
        let mut warnings = Vec::new();
        for uplink in self.uplinks.iter().filter(|uplink| port.matches(uplink)) {
            let message = format!("{uplink} is an uplink, it cannot be a port of {bd} as well");
            if !port.is_glob() {
                return Err(fault(message));
            }
            let pattern = &port.pattern;
            warnings.push(fault(format!("{pattern} matches {uplink}: {message}")));
        }
        if let Some(owner) = self.owners.insert(port.clone(), bd.clone()) {
            return Err(fault(format!(
                "port {port} belongs to bridge domain {owner} already; \
                 a port in two bridge domains needs distinct vlans"
            )));
        }
        let mut rivals = self.globs.rivals(port, bd);
        if port.is_glob() {
            rivals.extend(self.literals.rivals(port, bd));
            self.globs.insert(port, bd);
        } else {
            self.literals.insert(port, bd);
        }
        warnings.extend(rivals.into_iter().map(|(other, owner)| {
            fault(format!(
                "port {port} and port {other} of bridge domain {owner} can mean the same device, \
                 which then belongs to the first"
            ))
        }));
        Ok(warnings)
    }
}

impl Claims {
    fn insert(&mut self, port: &PortPattern, bd: &BdName) {
        let prefix = glob::prefix(&port.pattern).to_owned();
        let claims = self.0.entry(prefix).or_default();
        claims.push((port.clone(), bd.clone()));
    }

    /// Claims of other bridge domains to devices that `port` may mean as well.
    fn rivals(&self, port: &PortPattern, bd: &BdName) -> Vec<(PortPattern, BdName)> {
        let prefix = glob::prefix(&port.pattern);
        let shorter = prefix
            .char_indices()
            .filter_map(|(end, _)| self.0.get(&prefix[..end]));
        let longer = self
            .0
            .range(prefix.to_owned()..)
            .take_while(|(other, _)| other.starts_with(prefix))
            .map(|(_, claims)| claims);
        let claims = shorter.chain(longer).flatten();
        claims
            .filter(|(other, owner)| {
                owner != bd
                    && other.vlan == port.vlan
                    && glob::may_overlap(&other.pattern, &port.pattern)
            })
            .cloned()
            .collect()
    }
}
