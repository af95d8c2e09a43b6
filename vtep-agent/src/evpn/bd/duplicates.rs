//! MACs and addresses that are in more places than one.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use super::BridgeDomain;
use crate::{
    config::{DuplicateIpPolicy, DuplicatePolicy},
    types::Mac,
};

impl BridgeDomain {
    /// What makes a MAC a duplicate, and what is done with it.
    pub fn set_duplicate_policy(&mut self, policy: DuplicatePolicy) {
        self.macs.set_policy(policy);
    }

    /// What makes an address a duplicate, what is done with it, and which addresses several hosts
    /// have on purpose.
    pub fn set_address_policy(&mut self, policy: DuplicateIpPolicy, anycast: BTreeSet<IpAddr>) {
        let before = std::mem::replace(&mut self.as_mac, policy.as_mac);
        for mac in before.into_iter().chain(policy.as_mac) {
            self.macs.touch(mac);
        }
        self.neighbors.set_policy(policy);
        self.neighbors.set_anycast(anycast);
        self.touch_owners_of_duplicates();
    }

    /// Duplicate MACs and addresses are as all others again.
    pub fn clear_duplicates(&mut self, now: Instant) {
        for mac in self.macs.clear_duplicates(now) {
            self.settle(mac, now);
        }
        let cleared = self.neighbors.clear_duplicates();
        self.forgive(cleared);
    }

    /// The anti-spoofing MAC (RFC 9161 §3.7 c): nobody's, frames from and to it are dropped.
    pub fn as_mac(&self) -> Option<Mac> {
        self.as_mac
    }

    /// Addresses that are not duplicates any more, with the MACs that had them.
    pub(super) fn forgive(&mut self, over: Vec<(IpAddr, Mac)>) {
        for (ip, mac) in over {
            tracing::info!(bd = %self.config.name, %ip, "no duplicate address any more");
            self.macs.touch(mac);
            if let Some(as_mac) = self.as_mac {
                self.macs.touch(as_mac);
            }
        }
    }

    fn touch_owners_of_duplicates(&mut self) {
        for (_, found) in self.neighbors.duplicates() {
            self.macs.touch(found.mac);
        }
    }

    /// RFC 7432 §15.1: the operator is alerted.
    pub(super) fn report_duplicates(&mut self) {
        for mac in self.macs.take_found() {
            if let Some(duplicate) = self.macs.duplicate(mac) {
                tracing::warn!(
                    bd = %self.config.name, %mac, moves = duplicate.moves,
                    action = duplicate.action.name(), "duplicate MAC: it moves to and fro"
                );
            }
        }
        for ip in self.neighbors.take_found() {
            let Some(found) = self.neighbors.duplicate(ip).copied() else {
                continue;
            };
            tracing::warn!(
                bd = %self.config.name, %ip, mac = %found.mac, moves = found.moves,
                action = found.action.name(), "duplicate address: its MAC changes to and fro"
            );
            self.macs.touch(found.mac);
            if let Some(as_mac) = self.as_mac {
                self.macs.touch(as_mac);
            }
        }
    }
}
