//! `[underlay]`: routes of the host itself.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    PeerConfig,
    diagnostic::Fault,
    explain::list,
    field::{Result, number_or, parse_with},
    raw,
};

/// Most next hops of one route.
const MAX_ECMP: usize = 64;
/// Behind the kernel's own routes (IPv4 0, IPv6 256) and the usual DHCP client (100), before static
/// IPv6 routes (1024); no routing daemon has it.
const DEFAULT_METRIC: u32 = 512;
/// `RT_TABLE_MAIN`
const MAIN_TABLE: u32 = 254;

/// `[underlay]`, for peers with a unicast family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderlayConfig {
    /// Prefixes that lead to this host; host bits zero.
    pub announce: Vec<IpNet>,
    /// Prefixes that are accepted; everything when empty.
    pub import: Vec<PrefixRule>,
    /// Most next hops of one route, at least 1.
    pub ecmp: usize,
    /// Paths through different ASes are used together when their AS_PATHs are equally long.
    pub multipath_relax: bool,
    /// The kernel's routing table.
    pub table: u32,
    /// Metric of the routes, at least 1.
    pub metric: u32,
}

/// Some prefixes: `198.18.0.0/16 le 32` is that one and all within it of up to 32 bits, without `le`
/// it is that one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixRule {
    /// The prefix, host bits zero.
    pub prefix: IpNet,
    /// Longest length.
    pub le: u8,
}

impl UnderlayConfig {
    /// What there is without the table: the VTEP addresses are announced, everything is accepted.
    pub fn new(vteps: &[Ipv4Addr]) -> Self {
        Self {
            announce: vteps.iter().map(|&vtep| IpAddr::V4(vtep).into()).collect(),
            import: Vec::new(),
            ecmp: 8,
            multipath_relax: false,
            table: MAIN_TABLE,
            metric: DEFAULT_METRIC,
        }
    }
}

impl PrefixRule {
    /// Whether a prefix is meant.
    pub fn matches(&self, prefix: &IpNet) -> bool {
        self.prefix.contains(prefix) && prefix.prefix_len() <= self.le
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let prefix = prefix(words.next()?)?;
        let le = match words.next() {
            None => prefix.prefix_len(),
            Some("le") => words.next()?.parse().ok()?,
            Some(_) => return None,
        };
        let range = prefix.prefix_len()..=prefix.max_prefix_len();
        (words.next().is_none() && range.contains(&le)).then_some(Self { prefix, le })
    }
}

impl fmt::Display for PrefixRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)?;
        match self.le == self.prefix.prefix_len() {
            true => Ok(()),
            false => write!(f, " le {}", self.le),
        }
    }
}

/// What `check` says of it.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    announce: Vec<String>,
    /// Empty: everything.
    import: Vec<String>,
    ecmp: usize,
    multipath_relax: bool,
    table: u32,
    metric: u32,
}

impl Explained {
    /// `None` when no peer has a unicast family.
    pub(super) fn new(underlay: &UnderlayConfig, peers: &[PeerConfig]) -> Option<Self> {
        let texts = |items: &[IpNet]| items.iter().map(ToString::to_string).collect();
        peers
            .iter()
            .any(|peer| peer.families.unicast())
            .then(|| Self {
                announce: texts(&underlay.announce),
                import: underlay.import.iter().map(ToString::to_string).collect(),
                ecmp: underlay.ecmp,
                multipath_relax: underlay.multipath_relax,
                table: underlay.table,
                metric: underlay.metric,
            })
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let announce = list(&self.announce, "nothing");
        let import = list(&self.import, "everything");
        writeln!(f, "Host routes: announces {announce}, accepts {import}")?;
        let paths = match self.multipath_relax {
            true => "with AS_PATHs of one length",
            false => "with one AS_PATH",
        };
        writeln!(
            f,
            "  into table {} with metric {}, up to {} next hops of paths {paths}",
            self.table, self.metric, self.ecmp
        )
    }
}

pub(super) fn underlay(
    raw: Option<&Spanned<raw::Underlay>>,
    vteps: &[Ipv4Addr],
) -> Result<UnderlayConfig> {
    let default = UnderlayConfig::new(vteps);
    let Some(raw) = raw.map(Spanned::get_ref) else {
        return Ok(default);
    };
    Ok(UnderlayConfig {
        announce: match &raw.announce {
            Some(texts) => announce(texts)?,
            None => default.announce,
        },
        import: match &raw.import {
            Some(texts) => import(texts)?,
            None => default.import,
        },
        ecmp: number_or(&raw.ecmp, "ecmp", 1..=MAX_ECMP, default.ecmp)?,
        multipath_relax: raw.multipath_relax.unwrap_or(default.multipath_relax),
        table: table(raw, default.table)?,
        // IPv6 takes 0 for "no metric" and makes 1024 of it.
        metric: number_or(&raw.metric, "metric", 1..=u32::MAX, default.metric)?,
    })
}

/// Neither the kernel's own (`local`, where an entry would take the host's addresses away) nor
/// `unspec`.
fn table(raw: &raw::Underlay, default: u32) -> Result<u32> {
    let table = number_or(&raw.table, "table", 1..=u32::MAX, default)?;
    match (&raw.table, table) {
        (Some(raw), 255) => Err(Fault::new(
            raw.span(),
            "table 255 is the kernel's own, expected 254 (main) or another",
        )),
        _ => Ok(table),
    }
}

fn announce(texts: &[Spanned<String>]) -> Result<Vec<IpNet>> {
    let mut distinct = BTreeSet::new();
    for text in texts {
        distinct.insert(parse_with(
            text,
            "announce",
            "a prefix such as 198.18.0.1/32, its host bits zero",
            prefix,
        )?);
    }
    Ok(distinct.into_iter().collect())
}

/// An empty list would be read as "nothing", and mean "everything".
fn import(texts: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<PrefixRule>> {
    if texts.get_ref().is_empty() {
        return Err(Fault::new(
            texts.span(),
            "import is empty: remove the key to accept everything, or list prefixes",
        ));
    }
    let rule = |text| {
        parse_with(
            text,
            "import",
            "a prefix such as 0.0.0.0/0 or 198.18.0.0/16 le 32, its host bits zero",
            PrefixRule::parse,
        )
    };
    texts.get_ref().iter().map(rule).collect()
}

fn prefix(text: &str) -> Option<IpNet> {
    let prefix: IpNet = text.parse().ok()?;
    (prefix.addr() == prefix.network()).then_some(prefix)
}
