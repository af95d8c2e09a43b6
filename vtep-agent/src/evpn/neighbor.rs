//! Address bindings of a bridge domain, for ARP and ND suppression (RFC 9161) and MAC/IP routes.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use crate::{
    bgp::wire::ArpNd,
    types::{
        Mac, RouteDistinguisher,
        hash::{HashMap, HashSet},
    },
};

/// Most addresses that one local MAC may have by learning: a VM that answers for a whole subnet does
/// not fill the tables of every VTEP.
const MAX_IPS_PER_MAC: usize = 64;

/// Who has which address.
#[derive(Debug, Default)]
pub struct NeighborTable {
    /// In boxes: a table has room for up to twice what is in it.
    entries: HashMap<IpAddr, Box<Neighbor>>,
    /// Addresses of local MACs.
    local: HashMap<Mac, BTreeSet<IpAddr>>,
    dirty: HashSet<IpAddr>,
}

/// How a binding is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingOrigin {
    /// From ARP or a neighbour advertisement of a VM.
    Learned,
    /// From the operator or orchestrator.
    Declared,
    /// From a MAC/IP route.
    Remote,
}

/// Address, MAC and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The MAC.
    pub mac: Mac,
    /// How it is known.
    pub origin: BindingOrigin,
    /// Router, override, immutable (RFC 9047 §2).
    pub flags: ArpNd,
    /// Since when.
    pub since: Instant,
}

/// Everybody who says something about one address.
#[derive(Debug, Default)]
struct Neighbor {
    local: Option<Binding>,
    remote: Vec<(RouteDistinguisher, Binding)>,
}

impl NeighborTable {
    /// A local MAC showed that it has an address. `None`: refused, or known already; otherwise the
    /// local MAC that had it before, if any other one did.
    pub fn bind(&mut self, ip: IpAddr, binding: Binding) -> Option<Option<Mac>> {
        let known = self.local.get(&binding.mac).map_or(0, BTreeSet::len);
        let entry = self.entries.get(&ip);
        let current = entry.and_then(|entry| entry.local);
        let immutable_elsewhere = entry.is_some_and(|entry| {
            entry
                .all()
                .any(|other| other.flags.immutable && other.mac != binding.mac)
        });
        if binding.origin == BindingOrigin::Learned {
            let declared = current.is_some_and(|c| c.origin == BindingOrigin::Declared);
            let new = current.is_none_or(|c| c.mac != binding.mac);
            if immutable_elsewhere || declared || new && known >= MAX_IPS_PER_MAC {
                return None;
            }
        }
        if let Some(current) = current
            && current.mac == binding.mac
            && current.origin == binding.origin
            && current.flags == binding.flags
        {
            // Seen again. It is the newest only if another VTEP claims it as well.
            if entry.is_none_or(|entry| entry.remote.is_empty()) {
                return None;
            }
        }
        let previous = current
            .map(|current| current.mac)
            .filter(|mac| *mac != binding.mac);
        if previous.is_some() {
            self.unbind(ip);
        }
        self.entries.entry(ip).or_default().local = Some(binding);
        self.local.entry(binding.mac).or_default().insert(ip);
        self.dirty.insert(ip);
        Some(previous)
    }

    /// Takes the binding of a local MAC to `ip` away.
    pub fn unbind(&mut self, ip: IpAddr) {
        let Some(entry) = self.entries.get_mut(&ip) else {
            return;
        };
        if let Some(binding) = entry.local.take() {
            self.dirty.insert(ip);
            if let Some(ips) = self.local.get_mut(&binding.mac) {
                ips.remove(&ip);
                if ips.is_empty() {
                    self.local.remove(&binding.mac);
                }
            }
        }
        if entry.remote.is_empty() {
            self.entries.remove(&ip);
        }
    }

    /// A MAC is no longer local: its addresses, which are the answer, go with it.
    pub fn release(&mut self, mac: Mac) -> BTreeSet<IpAddr> {
        let ips = self.local.get(&mac).cloned().unwrap_or_default();
        for ip in &ips {
            self.unbind(*ip);
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
        let entry = self.entries.entry(ip).or_default();
        let position = entry
            .remote
            .iter()
            .position(|(other, binding)| *other == rd && binding.mac == mac);
        self.dirty.insert(ip);
        let mut displaced = None;
        match (position, flags) {
            (Some(index), Some(flags)) => entry.remote[index].1.flags = flags,
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
                if entry.remote.is_empty() {
                    entry.remote.reserve_exact(1);
                }
                entry.remote.push((rd, binding));
                displaced = entry
                    .local
                    .filter(|local| local.origin == BindingOrigin::Learned && local.mac != mac)
                    .map(|local| local.mac);
            }
            (None, None) => {}
        }
        if entry.local.is_none() && entry.remote.is_empty() {
            self.entries.remove(&ip);
        }
        if displaced.is_some() {
            self.unbind(ip);
        }
        displaced
    }

    /// Addresses whose binding may have changed since the last call.
    pub fn take_dirty(&mut self) -> HashSet<IpAddr> {
        std::mem::take(&mut self.dirty)
    }

    /// The binding in force: an immutable one first (RFC 9047 §3.2), then a declared one, then the
    /// newest.
    pub fn get(&self, ip: IpAddr) -> Option<&Binding> {
        self.entries.get(&ip)?.selected()
    }

    /// Addresses of which something is known, in no particular order.
    pub fn known(&self) -> impl Iterator<Item = IpAddr> {
        self.entries.keys().copied()
    }

    /// All bindings in force, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Binding)> {
        self.entries
            .iter()
            .filter_map(|(ip, entry)| Some((*ip, entry.selected()?)))
    }

    /// How each binding in force is known.
    pub fn origins(&self) -> impl Iterator<Item = BindingOrigin> {
        self.entries.values().filter_map(|entry| match entry.local {
            None if entry.remote.is_empty() => None,
            None => Some(BindingOrigin::Remote),
            Some(local) if entry.remote.is_empty() => Some(local.origin),
            Some(_) => entry.selected().map(|binding| binding.origin),
        })
    }

    /// The address was learned of this MAC, which is local.
    pub fn is_learned(&self, mac: Mac, ip: IpAddr) -> bool {
        let local = self.entries.get(&ip).and_then(|entry| entry.local);
        local.is_some_and(|local| local.mac == mac && local.origin == BindingOrigin::Learned)
    }

    /// Addresses of a local MAC, in order.
    pub fn of_local(&self, mac: Mac) -> impl Iterator<Item = (IpAddr, &Binding)> {
        self.local
            .get(&mac)
            .into_iter()
            .flatten()
            .filter_map(|ip| Some((*ip, self.entries.get(ip)?.local.as_ref()?)))
    }
}

impl Neighbor {
    fn all(&self) -> impl Iterator<Item = &Binding> {
        self.local
            .iter()
            .chain(self.remote.iter().map(|(_, binding)| binding))
    }

    fn selected(&self) -> Option<&Binding> {
        self.all().max_by_key(|binding| {
            (
                binding.origin == BindingOrigin::Declared,
                binding.flags.immutable,
                binding.since,
                binding.mac,
            )
        })
    }
}
