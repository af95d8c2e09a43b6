//! Addresses of the MACs of a bridge domain: how they are learned, confirmed, and go.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use super::BridgeDomain;
use crate::{
    bgp::wire::ArpNd,
    evpn::{Binding, BindingOrigin, Origin, Slot, probe},
    types::Mac,
};

impl BridgeDomain {
    /// A MAC that we have on `slot` showed that it has an address.
    pub fn bind(&mut self, mac: Mac, slot: Slot, ip: IpAddr, flags: ArpNd, now: Instant) {
        let here = self.macs.local(mac).is_some_and(|local| local.slot == slot);
        if !here || !is_host_address(ip) {
            return;
        }
        let binding = Binding {
            mac,
            origin: BindingOrigin::Learned,
            flags,
            since: now,
        };
        if let Some(previous) = self.neighbors.bind(ip, binding) {
            self.macs.touch(mac);
            if let Some(previous) = previous {
                self.macs.touch(previous);
                self.ask_former(previous, ip, now);
            }
        }
        let learned = self.neighbors.is_learned(mac, ip);
        let ageing = self.config.ageing.filter(|_| learned);
        self.probes.confirmed(mac, ip, ageing, now);
    }

    /// A MAC that was behind another VTEP speaks here: whether its addresses came along, only its
    /// owner can say (RFC 9135 §7.2), and hypervisors announce a VM with no more than its MAC.
    pub(super) fn ask_arrived(&mut self, mac: Mac, slot: Slot, now: Instant) {
        let ips: Vec<_> = self.macs.remote_ips(mac).take(probe::MOST).collect();
        for ip in ips {
            self.probes.ask(mac, ip, slot, now);
        }
    }

    /// Another VTEP claims a MAC of ours. It has it already; should its owner still be here, the
    /// answer takes the MAC back (RFC 9135 §7.1). Not for a duplicate: whoever loses it would answer.
    pub(super) fn ask_departed(
        &mut self,
        mac: Mac,
        slot: Slot,
        ips: &BTreeSet<IpAddr>,
        now: Instant,
    ) {
        if !self.config.learning || self.macs.duplicate(mac).is_some() {
            return;
        }
        for ip in ips.iter().take(probe::MOST) {
            self.probes.ask(mac, *ip, slot, now);
        }
    }

    /// Another MAC has an address of ours now. Its former owner is asked: if both go on to answer, the
    /// address moves until it is found to be a duplicate (RFC 9161 §3.7 b).
    pub(super) fn ask_former(&mut self, mac: Mac, ip: IpAddr, now: Instant) {
        self.probes.forget(mac, ip);
        let slot = self.macs.local(mac).map(|local| local.slot);
        if let Some(slot) = slot.filter(|_| self.neighbors.duplicate(ip).is_none()) {
            self.probes.ask(mac, ip, slot, now);
        }
    }

    /// It is time to confirm a learned address.
    pub(super) fn ask_owner(&mut self, mac: Mac, ip: IpAddr, now: Instant) {
        let learned = self.neighbors.is_learned(mac, ip);
        if let Some(local) = self.macs.local(mac).filter(|_| learned)
            && self.config.ageing.is_some()
        {
            self.probes.ask(mac, ip, local.slot, now);
        }
    }

    /// Nobody answers for an address.
    pub(super) fn give_up(&mut self, mac: Mac, ip: IpAddr) {
        if self.neighbors.is_learned(mac, ip) {
            tracing::debug!(bd = %self.config.name, %mac, %ip, "address given up: no answer");
            self.neighbors.unbind(ip, mac);
            self.macs.touch(mac);
        }
    }

    /// After the owner of `mac` may have changed: addresses follow the MAC. The answer is those that
    /// went with it.
    pub(super) fn settle(&mut self, mac: Mac, now: Instant) -> BTreeSet<IpAddr> {
        let Some(local) = self.macs.local(mac) else {
            let ips = self.neighbors.release(mac);
            for ip in &ips {
                self.probes.forget(mac, *ip);
            }
            return ips;
        };
        if local.origin != Origin::Declared {
            return BTreeSet::new();
        }
        for ip in self.declared.get(&mac).into_iter().flatten() {
            let binding = Binding {
                mac,
                origin: BindingOrigin::Declared,
                flags: ArpNd {
                    router: false,
                    override_: ip.is_ipv6(),
                    immutable: true,
                },
                since: now,
            };
            if let Some(Some(previous)) = self.neighbors.bind(*ip, binding) {
                self.macs.touch(previous);
            }
        }
        BTreeSet::new()
    }
}

/// Can be a host's own address.
pub fn is_host_address(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let mapped = ip.to_canonical() != ip;
    !(mapped || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast)
}
