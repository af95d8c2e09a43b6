//! Addresses that several hosts have and should not (RFC 9161 §3.7): found by how often their MAC
//! changes, then left as they are and not answered for.

use std::{net::IpAddr, time::Instant};

use super::{Binding, BindingOrigin, NeighborTable};
use crate::{
    config::{DuplicateIpAction, DuplicateIpPolicy},
    types::Mac,
};

/// An address whose MAC changes too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateIp {
    /// What is done with it.
    pub action: DuplicateIpAction,
    /// The MAC that it had last, with which it stays while it is blocked.
    pub mac: Mac,
    /// Most changes within the window.
    pub moves: u32,
    /// Since when.
    pub since: Instant,
    /// When it is let go; `None`: by the operator only.
    pub until: Option<Instant>,
}

impl DuplicateIp {
    /// It stays as it is, and nobody answers for it.
    pub fn is_blocked(&self) -> bool {
        self.action == DuplicateIpAction::Block
    }
}

impl NeighborTable {
    /// What makes a duplicate, and what is done with one. Those found already stay as they are.
    pub fn set_policy(&mut self, policy: DuplicateIpPolicy) {
        if policy.as_mac != self.policy.as_mac {
            self.dirty.extend(self.duplicates.keys());
        }
        self.policy = policy;
    }

    /// The address is a duplicate.
    pub fn duplicate(&self, ip: IpAddr) -> Option<&DuplicateIp> {
        self.duplicates.get(&ip)
    }

    /// All duplicates, in order.
    pub fn duplicates(&self) -> impl Iterator<Item = (IpAddr, &DuplicateIp)> {
        self.duplicates.iter().map(|(ip, found)| (*ip, found))
    }

    /// The address is a duplicate that nobody is to reach: all traffic to it goes to this MAC, which
    /// is nobody's (RFC 9161 §3.7 c).
    pub fn decoy(&self, ip: IpAddr) -> Option<Mac> {
        let blocked = self.duplicate(ip).is_some_and(DuplicateIp::is_blocked);
        self.policy.as_mac.filter(|_| blocked)
    }

    /// Duplicates found since the last call.
    pub fn take_found(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.found)
    }

    /// Lets all duplicates go. The answer is which, and the MAC that each was held with.
    pub fn clear_duplicates(&mut self) -> Vec<(IpAddr, Mac)> {
        let ips: Vec<_> = self.duplicates.keys().copied().collect();
        ips.into_iter().filter_map(|ip| self.let_go(ip)).collect()
    }

    /// Lets go what was held long enough, which is the answer, and forgets old changes.
    pub fn expire(&mut self, now: Instant) -> Vec<(IpAddr, Mac)> {
        self.recent.purge(self.policy.window, now);
        let is_over = |found: &DuplicateIp| found.until.is_some_and(|until| until <= now);
        let duplicates = self.duplicates.iter();
        let over: Vec<_> = duplicates
            .filter(|(_, found)| is_over(found))
            .map(|(ip, _)| *ip)
            .collect();
        over.into_iter().filter_map(|ip| self.let_go(ip)).collect()
    }

    /// When [`NeighborTable::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        let until = self.duplicates.values().filter_map(|found| found.until);
        until
            .chain(self.recent.next_purge(self.policy.window))
            .chain(self.leases.next())
            .min()
    }

    /// The MAC that a duplicate stays with.
    pub(super) fn held(&self, ip: IpAddr) -> Option<Mac> {
        if self.duplicates.is_empty() {
            return None;
        }
        let found = self.duplicate(ip).filter(|found| found.is_blocked());
        found.map(|found| found.mac)
    }

    /// The address is a duplicate that stays with another MAC.
    pub(super) fn holds_against(&self, ip: IpAddr, mac: Mac) -> bool {
        self.held(ip).is_some_and(|held| held != mac)
    }

    /// The address starts anew.
    pub(super) fn let_go(&mut self, ip: IpAddr) -> Option<(IpAddr, Mac)> {
        let found = self.duplicates.remove(&ip)?;
        self.recent.forget(ip);
        self.dirty.push(ip);
        Some((ip, found.mac))
    }

    /// Counts a change of an address's MAC. What somebody declared is not subject to this, nor what
    /// would not replace an entry in a cache (RFC 9161 §3.7).
    pub(super) fn note_move(&mut self, ip: IpAddr, before: Binding, after: Binding, now: Instant) {
        let policy = self.policy;
        let moves_freely = |binding: &Binding| {
            let fixed = binding.flags.immutable || binding.origin == BindingOrigin::Declared;
            let replaces = ip.is_ipv4() || binding.flags.override_;
            !fixed && replaces && policy.as_mac != Some(binding.mac)
        };
        if !moves_freely(&before) || !moves_freely(&after) || self.is_anycast(ip) {
            return;
        }
        let moves = self.recent.record(ip, policy.window, now);
        if moves < policy.moves {
            return;
        }
        let until = policy.recovery.map(|recovery| now + recovery);
        if let Some(known) = self.duplicates.get_mut(&ip) {
            known.until = until;
            known.moves = known.moves.max(moves);
            known.mac = after.mac;
            return;
        }
        let duplicate = DuplicateIp {
            action: policy.action,
            mac: after.mac,
            moves,
            since: now,
            until,
        };
        self.duplicates.insert(ip, duplicate);
        if self.decoy(ip).is_some() {
            self.news.push(ip);
        }
        self.found.push(ip);
        self.dirty.push(ip);
    }
}
