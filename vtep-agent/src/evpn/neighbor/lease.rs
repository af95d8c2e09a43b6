//! Bindings that a DHCP server's word made.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use super::NeighborTable;
use crate::types::{Mac, hash::HashMap};

/// Which local bindings are known from DHCP, and when their leases are over. There is one for each such
/// binding, and none without.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// `None`: without an end.
    ends: HashMap<(Mac, IpAddr), Option<Instant>>,
    due: BTreeSet<(Instant, Mac, IpAddr)>,
}

impl Leases {
    fn set(&mut self, mac: Mac, ip: IpAddr, end: Option<Instant>) {
        self.remove(mac, ip);
        self.ends.insert((mac, ip), end);
        self.due.extend(end.map(|end| (end, mac, ip)));
    }

    pub(super) fn get(&self, mac: Mac, ip: IpAddr) -> Option<Option<Instant>> {
        self.ends.get(&(mac, ip)).copied()
    }

    pub(super) fn remove(&mut self, mac: Mac, ip: IpAddr) {
        if let Some(Some(end)) = self.ends.remove(&(mac, ip)) {
            self.due.remove(&(end, mac, ip));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(end, ..)| *end)
    }
}

impl NeighborTable {
    /// The learned binding of a local MAC is a DHCP server's doing, for as long as `end` says.
    pub fn set_lease(&mut self, ip: IpAddr, mac: Mac, end: Option<Instant>) {
        if self.is_learned(mac, ip) {
            self.leases.set(mac, ip, end);
        }
    }

    /// A DHCP server bound the address to that local MAC. When the lease ends: `None` within for one
    /// without an end.
    pub fn lease(&self, ip: IpAddr, mac: Mac) -> Option<Option<Instant>> {
        self.leases.get(mac, ip)
    }

    /// Leases that are over, which are leases no more. Their bindings are still there.
    pub fn take_ended(&mut self, now: Instant) -> Vec<(Mac, IpAddr)> {
        let over = self.leases.due.iter().take_while(|(end, ..)| *end <= now);
        let over: Vec<_> = over.map(|(_, mac, ip)| (*mac, *ip)).collect();
        for (mac, ip) in &over {
            self.leases.remove(*mac, *ip);
        }
        over
    }
}
