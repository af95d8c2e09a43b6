//! Address bindings of a bridge domain, for ARP and ND suppression (RFC 9161) and MAC/IP routes.

mod duplicate;
mod entry;
mod lease;

pub use duplicate::DuplicateIp;
pub use entry::{Binding, BindingOrigin};

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use self::{entry::Entries, lease::Leases};
use super::{Census, mac::take_distinct, moves::Moves};
use crate::{
    bgp::wire::ArpNd,
    config::DuplicateIpPolicy,
    types::{Mac, RouteDistinguisher, hash::HashMap},
};

/// Most addresses that one local MAC may have by learning: a VM that answers for a whole subnet does
/// not fill the tables of every VTEP.
const MAX_IPS_PER_MAC: usize = 64;

/// Who has which address.
#[derive(Debug, Default)]
pub struct NeighborTable {
    entries: Entries,
    /// Addresses of local MACs.
    local: HashMap<Mac, BTreeSet<IpAddr>>,
    leases: Leases,
    /// Addresses that several hosts have on purpose.
    anycast: BTreeSet<IpAddr>,
    /// Some are there twice.
    dirty: Vec<IpAddr>,
    /// Addresses that VMs may have in their caches with another MAC.
    news: Vec<IpAddr>,
    policy: DuplicateIpPolicy,
    /// Changes of the MAC of an address within the last while.
    recent: Moves<IpAddr>,
    duplicates: BTreeMap<IpAddr, DuplicateIp>,
    found: Vec<IpAddr>,
}

impl NeighborTable {
    /// A local MAC showed that it has an address. `None`: refused, or known already; otherwise the
    /// local MAC that had it before, if any other one did.
    pub fn bind(&mut self, ip: IpAddr, binding: Binding) -> Option<Option<Mac>> {
        let mac = binding.mac;
        if binding.origin == BindingOrigin::Declared {
            // RFC 9161 §3.7 c: the operator has decided.
            self.let_go(ip);
        }
        let shared = self.anycast.contains(&ip);
        let before = self.get(ip).copied();
        let known = self.local.get(&mac).map_or(0, BTreeSet::len);
        let entry = self.entries.get(ip);
        let rival = |local: &&Binding| !shared || local.mac == mac;
        let current = entry.and_then(|entry| entry.local.iter().find(rival));
        let current = current.copied();
        let immutable_elsewhere = !shared
            && entry.is_some_and(|entry| {
                let mut all = entry.all();
                all.any(|other| other.flags.immutable && other.mac != mac)
            });
        if binding.origin == BindingOrigin::Learned {
            let declared = current.is_some_and(|c| c.origin == BindingOrigin::Declared);
            let new = current.is_none_or(|c| c.mac != mac);
            let full = new && known >= MAX_IPS_PER_MAC;
            if immutable_elsewhere || declared || full || self.holds_against(ip, mac) {
                return None;
            }
        }
        if let Some(current) = current
            && current.mac == mac
            && current.origin == binding.origin
            && current.flags == binding.flags
        {
            // Seen again. It is the newest only if another VTEP claims it as well.
            if shared || entry.is_none_or(|entry| entry.remote.is_empty()) {
                return None;
            }
        }
        let previous = current.map(|current| current.mac);
        let lease = self.lease(ip, mac);
        if let Some(previous) = previous {
            self.unbind(ip, previous);
        }
        self.entries.entry(ip).local.push(binding);
        self.local.entry(mac).or_default().insert(ip);
        if let Some(end) = lease {
            self.set_lease(ip, mac, end);
        }
        self.dirty.push(ip);
        self.claimed(ip, before, binding.since);
        Some(previous.filter(|previous| *previous != mac))
    }

    /// Takes the binding of a local MAC to `ip` away.
    pub fn unbind(&mut self, ip: IpAddr, mac: Mac) {
        self.leases.remove(mac, ip);
        let Some(entry) = self.entries.get_mut(ip) else {
            return;
        };
        let before = entry.local.len();
        entry.local.retain(|binding| binding.mac != mac);
        if entry.local.len() != before {
            self.dirty.push(ip);
            if let Some(ips) = self.local.get_mut(&mac) {
                ips.remove(&ip);
                if ips.is_empty() {
                    self.local.remove(&mac);
                }
            }
        }
        if entry.is_empty() {
            self.entries.remove(ip);
        }
    }

    /// A MAC is no longer local: its addresses, which are the answer, go with it.
    pub fn release(&mut self, mac: Mac) -> BTreeSet<IpAddr> {
        let ips = self.local.get(&mac).cloned().unwrap_or_default();
        for ip in &ips {
            self.unbind(*ip, mac);
        }
        ips
    }

    /// What a MAC/IP route says of `ip`; `None` flags when it is withdrawn. An older learned binding
    /// to another MAC gives way to it, and its MAC is the answer: that VM has to show again that the
    /// address is its own.
    pub fn set_remote(
        &mut self,
        ip: IpAddr,
        rd: RouteDistinguisher,
        mac: Mac,
        flags: Option<ArpNd>,
        now: Instant,
    ) -> Option<Mac> {
        let before = self.get(ip).copied();
        let stays = self.anycast.contains(&ip) || self.holds_against(ip, mac);
        let entry = self.entries.entry(ip);
        let position = entry
            .remote
            .iter()
            .position(|(other, binding)| *other == rd && binding.mac == mac);
        self.dirty.push(ip);
        let mut displaced = None;
        match (position, flags) {
            (Some(index), Some(flags)) => {
                let known = &mut entry.remote[index].1;
                if known.flags != flags {
                    // Of several immutable ones the latest counts (RFC 9047 §3.2).
                    (known.flags, known.since) = (flags, now);
                }
            }
            (Some(index), None) => {
                entry.remote.swap_remove(index);
            }
            (None, Some(flags)) => {
                let binding = Binding {
                    mac,
                    origin: BindingOrigin::Remote,
                    flags,
                    since: now,
                };
                entry.remote.push((rd, binding));
                let local = entry.local.first().filter(|_| !stays);
                displaced = local
                    .filter(|local| local.origin == BindingOrigin::Learned && local.mac != mac)
                    .map(|local| local.mac);
            }
            (None, None) => {}
        }
        if entry.is_empty() {
            self.entries.remove(ip);
        }
        if let Some(displaced) = displaced {
            self.unbind(ip, displaced);
        }
        if flags.is_some() {
            self.claimed(ip, before, now);
        }
        displaced
    }

    /// Addresses that several hosts have on purpose: each keeps its own, and none is a duplicate
    /// (RFC 9161 §3.2.1).
    pub fn set_anycast(&mut self, anycast: BTreeSet<IpAddr>) {
        let changed: Vec<_> = self
            .anycast
            .symmetric_difference(&anycast)
            .copied()
            .collect();
        for ip in &changed {
            self.let_go(*ip);
        }
        self.dirty.extend(changed);
        self.anycast = anycast;
    }

    /// Several hosts have the address on purpose.
    pub fn is_anycast(&self, ip: IpAddr) -> bool {
        self.anycast.contains(&ip)
    }

    /// Addresses whose binding may have changed since the last call.
    pub fn take_dirty(&mut self) -> Vec<IpAddr> {
        take_distinct(&mut self.dirty)
    }

    /// Addresses that have a new MAC since the last call, of which VMs do not know from its owner.
    pub fn take_news(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.news)
    }

    /// The binding in force: that which a duplicate is held with; an immutable one (RFC 9047 §3.2),
    /// a declared one first; then the newest.
    pub fn get(&self, ip: IpAddr) -> Option<&Binding> {
        self.entries.get(ip)?.selected(self.held(ip))
    }

    /// Addresses of which something is known, in no particular order.
    pub fn known(&self) -> impl Iterator<Item = IpAddr> {
        self.entries.iter().map(|(ip, _)| ip)
    }

    /// All bindings in force, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Binding)> {
        self.entries
            .iter()
            .filter_map(|(ip, entry)| Some((ip, entry.selected(self.held(ip))?)))
    }

    /// How many bindings are in force, by how they are known. Looks at those only that a local MAC
    /// claims: all others are remote.
    pub fn census(&self) -> Census {
        let claimed: BTreeSet<_> = self.local.values().flatten().collect();
        let mut census = Census {
            remote: (self.entries.len() - claimed.len()) as u64,
            ..Census::default()
        };
        for ip in claimed {
            census.change(None, self.get(*ip).map(|binding| binding.origin));
        }
        census
    }

    /// The address was learned of this MAC, which is local.
    pub fn is_learned(&self, mac: Mac, ip: IpAddr) -> bool {
        self.local_binding(ip, mac)
            .is_some_and(|local| local.origin == BindingOrigin::Learned)
    }

    /// Addresses of a local MAC, in order.
    pub fn of_local(&self, mac: Mac) -> impl Iterator<Item = (IpAddr, &Binding)> {
        let ips = self.local.get(&mac).into_iter().flatten();
        ips.filter_map(move |ip| Some((*ip, self.local_binding(*ip, mac)?)))
    }

    fn local_binding(&self, ip: IpAddr, mac: Mac) -> Option<&Binding> {
        let mut local = self.entries.get(ip)?.local.iter();
        local.find(|binding| binding.mac == mac)
    }

    /// Somebody claims the address: what that changes.
    fn claimed(&mut self, ip: IpAddr, before: Option<Binding>, now: Instant) {
        let Some(after) = self.get(ip).copied() else {
            return;
        };
        if before.is_some_and(|before| before.mac == after.mac) {
            return;
        }
        // What was learned here, all have heard (RFC 9161 §3.2).
        if after.origin != BindingOrigin::Learned && !self.anycast.contains(&ip) {
            self.news.push(ip);
        }
        if let Some(before) = before {
            self.note_move(ip, before, after, now);
        }
    }
}
