//! Of duplicates.

use std::time::Duration;

use serde::Serialize;

use crate::config::{DuplicateAction, DuplicateIpAction, DuplicateIpPolicy, DuplicatePolicy};

#[derive(Debug, Serialize)]
pub(super) struct Duplicate<A> {
    moves: u32,
    window: u64,
    action: A,
    /// 0: by command only.
    recovery: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_mac: Option<String>,
    #[serde(skip)]
    pub(super) text: String,
}

impl Duplicate<DuplicateAction> {
    pub(super) fn macs(policy: &DuplicatePolicy) -> Self {
        Self {
            moves: policy.moves,
            window: policy.window.as_secs(),
            action: policy.action,
            recovery: seconds(policy.recovery),
            as_mac: None,
            text: policy.to_string(),
        }
    }
}

impl Duplicate<DuplicateIpAction> {
    pub(super) fn ips(policy: &DuplicateIpPolicy) -> Self {
        Self {
            moves: policy.moves,
            window: policy.window.as_secs(),
            action: policy.action,
            recovery: seconds(policy.recovery),
            as_mac: policy.as_mac.map(|mac| mac.to_string()),
            text: policy.to_string(),
        }
    }
}

fn seconds(recovery: Option<Duration>) -> u64 {
    recovery.map_or(0, |time| time.as_secs())
}
