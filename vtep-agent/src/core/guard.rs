//! The source filter of ports with declared endpoints.

use std::collections::{BTreeMap, BTreeSet};

use vtep_common::abi::{GuardEntry, GuardFlags, GuardKey};

use super::Core;
use crate::evpn::Slot;

impl Core {
    /// Brings the filter of a port, and the port's entry with it, in line with what is declared.
    pub(super) fn sync_guard(&mut self, slot: Slot) {
        let wanted = self.wanted_guard(slot);
        let before = if wanted.is_empty() {
            self.guards.remove(&slot)
        } else {
            let keys = wanted.keys().copied().collect();
            self.guards.insert(slot, keys)
        };
        for key in before.into_iter().flatten() {
            if !wanted.contains_key(&key) {
                self.intent.guards.remove(key);
            }
        }
        for (key, entry) in wanted {
            self.intent.guards.set(key, entry);
        }
        self.republish_port(slot);
    }

    /// The port is gone.
    pub(super) fn remove_guard(&mut self, slot: Slot) {
        for key in self.guards.remove(&slot).into_iter().flatten() {
            self.intent.guards.remove(key);
        }
    }

    /// Nothing when nothing is declared, or the bridge domain does without.
    fn wanted_guard(&self, slot: Slot) -> BTreeMap<GuardKey, GuardEntry> {
        let port = self.ports.get(slot).filter(|port| {
            let bd = self.bds.get(&port.bd.bd);
            bd.is_some_and(|bd| bd.config.source_filter)
        });
        let endpoints = port.map(|port| self.endpoints(port)).unwrap_or_default();
        let bd = port.and_then(|port| self.bds.get(&port.bd.bd));
        let client = bd.is_some_and(|bd| bd.config.server_guard);
        let mut wanted = BTreeMap::new();
        for endpoint in &endpoints {
            for ip in &endpoint.ips {
                let entry = GuardEntry::new(slot.0, endpoint.mac, GuardFlags::ADDRESSES);
                wanted.insert(GuardKey::new(slot.0, *ip), entry);
            }
        }
        // Last: by these the MACs are known.
        for endpoint in &endpoints {
            let flags = GuardFlags::default()
                .with_if(GuardFlags::ADDRESSES, !endpoint.ips.is_empty())
                .with_if(GuardFlags::CLIENT, client);
            let entry = GuardEntry::new(slot.0, endpoint.mac, flags);
            wanted.insert(GuardKey::of_mac(slot.0, endpoint.mac), entry);
        }
        wanted
    }
}

/// Keys of `guards` by the port that they are for.
pub(super) type Guards = BTreeMap<Slot, BTreeSet<GuardKey>>;
