//! What outlives the agent.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    config::{BdConfig, FloodPolicy, PortPattern, UnknownNeighbors, XdpMode},
    types::{BdName, IfName, ImportTarget, Mac, RouteDistinguisher, RouteTarget, Vni},
};

/// What outlives the agent, in `state_dir/state.json`: what operators and orchestrators made at run
/// time, and numbers that must not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Index of each bridge domain's automatic RD: stable, so that a restart does not change every
    /// route's key.
    pub rd_index: BTreeMap<BdName, u16>,
    /// Bridge domains made by `bd add`.
    #[serde(default)]
    pub bds: BTreeMap<BdName, SavedBd>,
    /// Ports made by `port add`.
    #[serde(default)]
    pub ports: Vec<SavedPort>,
    /// Endpoints declared by `port add … --mac`.
    #[serde(default)]
    pub endpoints: Vec<SavedEndpoint>,
    /// Uplinks attached by `attach`; the configured mode when `None`.
    #[serde(default)]
    pub uplinks: BTreeMap<IfName, Option<XdpMode>>,
    /// The agent is leaving the fabric. An orderly end forgets it, a crash does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// A bridge domain. The fields are those of [`BdConfig`], identifiers as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedBd {
    vni: u32,
    #[serde(default)]
    ports: Vec<(String, Option<u16>)>,
    rd: Option<String>,
    rt_import: Option<Vec<String>>,
    rt_export: Option<Vec<String>>,
    suppress: bool,
    flood: String,
    learning: bool,
    ageing_s: Option<u64>,
    max_macs_per_port: u32,
    #[serde(default = "yes")]
    source_filter: bool,
    #[serde(default)]
    limits: Option<SavedLimits>,
    /// Everything else of [`BdConfig`] that is not as by default, in its own form.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    settings: Map<String, Value>,
}

/// Added to [`SavedBd`] later; absent in older files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct SavedLimits {
    bum_rate: u32,
    learn_rate: u32,
    unknown_neighbors: UnknownNeighbors,
}

fn yes() -> bool {
    true
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPort {
    /// The device.
    pub device: IfName,
    /// VLAN on it.
    pub vlan: Option<u16>,
    /// The bridge domain.
    pub bd: BdName,
}

/// An endpoint behind a port, whoever made the port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedEndpoint {
    /// The device.
    pub device: IfName,
    /// VLAN on it.
    pub vlan: Option<u16>,
    /// The bridge domain.
    pub bd: BdName,
    /// The MAC.
    pub mac: Mac,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Must not move.
    pub sticky: bool,
}

impl SavedBd {
    /// To be saved.
    pub fn new(config: &BdConfig) -> Self {
        let flood = match config.flood {
            FloodPolicy::All => "all",
            FloodPolicy::NoUnknown => "no-unknown",
            FloodPolicy::None => "none",
        };
        let mut saved = Self {
            vni: config.vni.get(),
            ports: config
                .ports
                .iter()
                .map(|port| (port.pattern.clone(), port.vlan))
                .collect(),
            rd: config.rd.map(|rd| rd.to_string()),
            rt_import: texts(config.rt_import.as_deref()),
            rt_export: texts(config.rt_export.as_deref()),
            suppress: config.suppress,
            flood: flood.to_owned(),
            learning: config.learning,
            ageing_s: config.ageing.map(|ageing| ageing.as_secs()),
            max_macs_per_port: config.max_macs_per_port,
            source_filter: config.source_filter,
            limits: Some(SavedLimits {
                bum_rate: config.bum_rate,
                learn_rate: config.learn_rate,
                unknown_neighbors: config.unknown_neighbors,
            }),
            settings: Map::new(),
        };
        let without = saved.config(&config.name);
        let without = without.and_then(|config| fields(&config));
        let without = without.unwrap_or_default();
        let all = fields(config).unwrap_or_default().into_iter();
        saved.settings = all
            .filter(|(key, value)| without.get(key) != Some(value))
            .collect();
        saved
    }

    /// As configuration; `None` when the file was damaged.
    pub fn config(&self, name: &BdName) -> Option<BdConfig> {
        let vni = Vni::new(self.vni)?;
        let default = with_settings(BdConfig::new(name.clone(), vni), &self.settings)?;
        let limits = self.limits.unwrap_or(SavedLimits {
            bum_rate: default.bum_rate,
            learn_rate: default.learn_rate,
            unknown_neighbors: default.unknown_neighbors,
        });
        Some(BdConfig {
            name: name.clone(),
            vni,
            ports: self
                .ports
                .iter()
                .map(|(pattern, vlan)| PortPattern {
                    pattern: pattern.clone(),
                    vlan: *vlan,
                })
                .collect(),
            rd: parsed::<RouteDistinguisher>(self.rd.as_ref())?,
            rt_import: parsed_list::<ImportTarget>(self.rt_import.as_deref())?,
            rt_export: parsed_list::<RouteTarget>(self.rt_export.as_deref())?,
            suppress: self.suppress,
            flood: match self.flood.as_str() {
                "all" => FloodPolicy::All,
                "no-unknown" => FloodPolicy::NoUnknown,
                "none" => FloodPolicy::None,
                _ => return None,
            },
            learning: self.learning,
            ageing: self.ageing_s.map(Duration::from_secs),
            max_macs_per_port: self.max_macs_per_port,
            bum_rate: limits.bum_rate,
            learn_rate: limits.learn_rate,
            unknown_neighbors: limits.unknown_neighbors,
            source_filter: self.source_filter,
            ..default
        })
    }
}

fn fields(config: &BdConfig) -> Option<Map<String, Value>> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

fn with_settings(default: BdConfig, settings: &Map<String, Value>) -> Option<BdConfig> {
    if settings.is_empty() {
        return Some(default);
    }
    let mut fields = fields(&default)?;
    fields.extend(settings.clone());
    serde_json::from_value(Value::Object(fields)).ok()
}

fn texts<T: ToString>(values: Option<&[T]>) -> Option<Vec<String>> {
    values.map(|values| values.iter().map(ToString::to_string).collect())
}

/// `Some(None)` when absent, `None` when it cannot be parsed.
fn parsed<T: std::str::FromStr>(text: Option<&String>) -> Option<Option<T>> {
    text.map_or(Some(None), |text| text.parse().ok().map(Some))
}

fn parsed_list<T: std::str::FromStr>(texts: Option<&[String]>) -> Option<Option<Vec<T>>> {
    let Some(texts) = texts else {
        return Some(None);
    };
    let values: Option<Vec<T>> = texts.iter().map(|text| text.parse().ok()).collect();
    values.map(Some)
}
