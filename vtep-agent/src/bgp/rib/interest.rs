//! What a peer asked for by route target membership (RFC 4684), as a filter of what it is told.

use std::collections::{BTreeMap, BTreeSet};

use super::target_routes::TargetRoutes;
use crate::bgp::wire::{Attributes, RouteKey, TargetPrefix};
use crate::types::hash::{HashMap, HashSet};

/// Prefixes of route targets. Several memberships may have the same one: each AS asks for itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Interest {
    /// How many ask for a prefix, by its length.
    prefixes: BTreeMap<u8, HashMap<TargetPrefix, u32>>,
}

/// What a peer asks for, and what it asked for when it was last told something.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) now: Interest,
    pub(super) told: Interest,
    /// Prefixes in which the two may differ.
    changed: BTreeSet<TargetPrefix>,
}

impl Interest {
    /// Whether a route with these attributes is asked for.
    pub(super) fn covers(&self, attributes: &Attributes) -> bool {
        self.prefixes.iter().any(|(&length, prefixes)| {
            let asked = |target| prefixes.contains_key(&TargetPrefix::of(target, length));
            length == 0 || attributes.constrained_targets().any(asked)
        })
    }

    fn count(&self, prefix: TargetPrefix) -> u32 {
        let same_length = self.prefixes.get(&prefix.length);
        same_length
            .and_then(|prefixes| prefixes.get(&prefix))
            .copied()
            .unwrap_or(0)
    }

    fn set(&mut self, prefix: TargetPrefix, count: u32) {
        if count > 0 {
            let same_length = self.prefixes.entry(prefix.length).or_default();
            same_length.insert(prefix, count);
        } else if let Some(same_length) = self.prefixes.get_mut(&prefix.length) {
            same_length.remove(&prefix);
            if same_length.is_empty() {
                self.prefixes.remove(&prefix.length);
            }
        }
    }
}

impl Wants {
    /// One membership more, or one less.
    pub(super) fn change(&mut self, prefix: TargetPrefix, wanted: bool) {
        let count = self.now.count(prefix);
        let count = match wanted {
            true => count + 1,
            false => count.saturating_sub(1),
        };
        self.now.set(prefix, count);
        self.changed.insert(prefix);
    }

    /// Of `keys`, at least those of routes that are asked for now and were not before, or the other
    /// way round. `targets` are those of the same routes.
    pub(super) fn affected<'a>(
        &self,
        targets: &'a TargetRoutes,
        keys: impl Iterator<Item = &'a RouteKey>,
    ) -> HashSet<&'a RouteKey> {
        let asked = |interest: &Interest, prefix| interest.count(prefix) > 0;
        let differs =
            |prefix: &&TargetPrefix| asked(&self.now, **prefix) != asked(&self.told, **prefix);
        let changed: Vec<_> = self.changed.iter().filter(differs).collect();
        // Everything, routes without a target too.
        if changed.iter().any(|prefix| prefix.length == 0) {
            return keys.collect();
        }
        let affected = changed
            .into_iter()
            .flat_map(|prefix| targets.under(*prefix));
        affected.collect()
    }

    /// The peer was told what follows from what it asks for now.
    pub(super) fn settle(&mut self) {
        for prefix in std::mem::take(&mut self.changed) {
            self.told.set(prefix, self.now.count(prefix));
        }
    }
}
