//! Gratuitous ARP and unsolicited neighbour advertisements: VMs hear of addresses that have another
//! MAC than they may have in their caches (RFC 9161 §3.2).
//!
//! A route brings them, so peers decide how many there are; ports are sent a bounded number in a
//! second, and what doesn't fit into the queue is left out. Caches get over that: an entry is confirmed by its
//! owner before it is used for long (RFC 4861 §7.3, and stacks do so for ARP).

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use vtep_common::abi::{BdId, NeighborFlags};

use super::{Core, Output, publish::advertised, recovery::arp_nd};
use crate::evpn::announcement;
use crate::types::hash::HashSet;

/// Addresses that wait.
const MOST: usize = 8192;
/// Frames of one turn, at least those of one address.
const FRAMES: usize = 200;
/// Time between two turns.
const TURN: Duration = Duration::from_millis(100);

/// Addresses that VMs are to hear of.
#[derive(Debug, Default)]
pub(super) struct Unsolicited {
    queue: VecDeque<(BdId, IpAddr)>,
    waiting: HashSet<(BdId, IpAddr)>,
    next: Option<Instant>,
}

impl Unsolicited {
    /// These addresses have a new MAC.
    pub(super) fn extend(&mut self, bd: BdId, ips: Vec<IpAddr>) {
        for ip in ips {
            if self.queue.len() < MOST && self.waiting.insert((bd, ip)) {
                self.queue.push_back((bd, ip));
            }
        }
    }

    /// Nobody has to hear of what waits.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.waiting.clear();
    }

    /// When [`Core::announce_to_vms`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next.filter(|_| !self.queue.is_empty())
    }

    fn pop(&mut self) -> Option<(BdId, IpAddr)> {
        let next = self.queue.pop_front()?;
        self.waiting.remove(&next);
        Some(next)
    }
}

impl Core {
    /// Sends what waits, as far as this turn goes.
    pub(super) fn announce_to_vms(&mut self, now: Instant) {
        if self.unsolicited.next.is_some_and(|next| next > now) {
            return;
        }
        let mut frames = 0;
        while frames < FRAMES
            && let Some((bd, ip)) = self.unsolicited.pop()
        {
            frames += self.announce_to_vms_of(bd, ip);
        }
        if frames > 0 {
            self.unsolicited.next = Some(now + TURN);
        }
    }

    /// The answer is how many ports there were.
    fn announce_to_vms_of(&mut self, bd: BdId, ip: IpAddr) -> usize {
        let Some(bd) = self.bds.get(&bd).filter(|bd| bd.config.suppress) else {
            return 0;
        };
        // It may have changed again, or be nobody's by now.
        let Some(entry) = advertised(bd, ip) else {
            return 0;
        };
        if entry.flags().has(NeighborFlags::WITHHELD) {
            return 0;
        }
        let local = bd.macs().local(entry.mac()).map(|local| local.slot);
        let ports = self.flood_ports(bd).filter(|port| Some(port.slot) != local);
        let frames: Vec<_> = ports
            .map(|port| {
                let flags = arp_nd(entry.flags());
                let frame = announcement(ip, entry.mac(), flags, port.vlan);
                Output::Transmit(port.ifindex, frame)
            })
            .collect();
        let sent = frames.len();
        self.outputs.extend(frames);
        sent
    }
}
