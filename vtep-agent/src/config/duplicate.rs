//! `duplicate = { … }` and `duplicate_ip = { … }` of `[vtep]` and `[[bd]]`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    field::{Result, number_or, parse_with},
    raw,
};
use crate::types::Mac;

/// N of RFC 7432 §15.1 and RFC 9161 §3.7.
const MOVES: u32 = 5;
/// M of RFC 7432 §15.1 and RFC 9161 §3.7, seconds.
const WINDOW: u32 = 180;
/// Seconds.
const RECOVERY: u32 = 600;
/// The hold-down timer of RFC 9161 §3.7, seconds.
const IP_RECOVERY: u32 = 540;

/// What makes a MAC a duplicate (RFC 7432 §15.1), and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuplicatePolicy {
    /// So many moves, at least 2,
    pub moves: u32,
    /// within this time.
    pub window: Duration,
    /// What is done.
    pub action: DuplicateAction,
    /// When it is undone; `None`: by `vtep-agent clear duplicates` only.
    pub recovery: Option<Duration>,
}

/// What is done with a duplicate MAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DuplicateAction {
    /// It is logged, shown and counted.
    #[default]
    Warn,
    /// It stays where it is, whatever frames and routes say.
    Freeze,
    /// Frames from and to it are dropped, and it is not announced.
    Drop,
}

/// What makes an address a duplicate (RFC 9161 §3.7), and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuplicateIpPolicy {
    /// So many changes of its MAC, at least 2,
    pub moves: u32,
    /// within this time.
    pub window: Duration,
    /// What is done.
    pub action: DuplicateIpAction,
    /// When it is undone; `None`: by `vtep-agent clear duplicates` only.
    pub recovery: Option<Duration>,
    /// Anti-spoofing MAC: what VMs are told that the address has; frames to it are dropped.
    pub as_mac: Option<Mac>,
}

/// What is done with a duplicate address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DuplicateIpAction {
    /// It is logged, shown and counted.
    Warn,
    /// It stays with the MAC that it has, and is not answered for.
    #[default]
    Block,
}

impl DuplicatePolicy {
    pub(super) fn new(raw: &raw::Duplicate) -> Result<Self> {
        let default = Self::default();
        let recovery = number_or(&raw.recovery, "recovery", 0..=86_400, RECOVERY)?;
        let window = number_or(&raw.window, "window", 1..=3600, WINDOW)?;
        Ok(Self {
            moves: number_or(&raw.moves, "moves", 2..=1000, default.moves)?,
            window: Duration::from_secs(window.into()),
            action: raw.action.unwrap_or(default.action),
            recovery: (recovery != 0).then(|| Duration::from_secs(recovery.into())),
        })
    }
}

impl DuplicateIpPolicy {
    pub(super) fn new(raw: &raw::DuplicateIp) -> Result<Self> {
        let default = Self::default();
        let recovery = number_or(&raw.recovery, "recovery", 0..=86_400, IP_RECOVERY)?;
        let window = number_or(&raw.window, "window", 1..=3600, WINDOW)?;
        let as_mac = raw.as_mac.as_ref().map(|text| {
            parse_with(text, "as_mac", "a MAC address of no group", |text| {
                text.parse().ok().filter(|mac: &Mac| mac.is_station())
            })
        });
        Ok(Self {
            moves: number_or(&raw.moves, "moves", 2..=1000, default.moves)?,
            window: Duration::from_secs(window.into()),
            action: raw.action.unwrap_or(default.action),
            recovery: (recovery != 0).then(|| Duration::from_secs(recovery.into())),
            as_mac: as_mac.transpose()?,
        })
    }
}

impl Default for DuplicateIpPolicy {
    fn default() -> Self {
        Self {
            moves: MOVES,
            window: Duration::from_secs(WINDOW.into()),
            action: DuplicateIpAction::Block,
            recovery: Some(Duration::from_secs(IP_RECOVERY.into())),
            as_mac: None,
        }
    }
}

impl DuplicateIpAction {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Block => "block",
        }
    }
}

impl Default for DuplicatePolicy {
    fn default() -> Self {
        Self {
            moves: MOVES,
            window: Duration::from_secs(WINDOW.into()),
            action: DuplicateAction::Warn,
            recovery: Some(Duration::from_secs(RECOVERY.into())),
        }
    }
}

impl DuplicateAction {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Freeze => "freeze",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for DuplicatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (moves, window) = (self.moves, self.window.as_secs());
        let action = self.action.name();
        write!(f, "duplicate MACs ({moves} moves in {window} s): {action}")?;
        write_recovery(f, self.recovery)
    }
}

impl fmt::Display for DuplicateIpPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (moves, window) = (self.moves, self.window.as_secs());
        let action = self.action.name();
        write!(f, "duplicate IPs ({moves} moves in {window} s): {action}")?;
        if let Some(mac) = self.as_mac {
            write!(f, ", told to be at {mac}")?;
        }
        write_recovery(f, self.recovery)
    }
}

fn write_recovery(f: &mut fmt::Formatter<'_>, recovery: Option<Duration>) -> fmt::Result {
    match recovery {
        Some(recovery) => write!(f, ", for {} s", recovery.as_secs()),
        None => f.write_str(", until cleared"),
    }
}
