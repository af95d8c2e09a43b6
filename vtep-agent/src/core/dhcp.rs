//! DHCP messages of VMs and to them.

use std::time::Instant;

use vtep_common::abi::{DhcpEvent, EventKind};

use super::Core;
use crate::evpn::Slot;

impl Core {
    /// A record of the ring buffer. What it was written for may be gone by now.
    pub(super) fn dhcp_event(&mut self, record: &DhcpEvent, now: Instant) {
        let event = record.event;
        let port = |slot: u32| (slot != 0).then_some(Slot(slot));
        let slot = port(event.slot);
        let is_of_bd = |slot| self.ports.get(slot).map(|port| port.bd) == Some(event.bd);
        if slot.is_some_and(|slot| !is_of_bd(slot)) {
            return;
        }
        let wanted = self
            .bds
            .get(&event.bd.bd)
            .is_some_and(|bd| bd.id == event.bd && bd.config.learning && bd.config.dhcp_snooping);
        let Some(bd) = self.bd_mut(event.bd.bd).filter(|_| wanted) else {
            return;
        };
        match (event.kind(), slot) {
            (Some(EventKind::DhcpSent), Some(slot)) => {
                bd.dhcp_sent(event.mac, slot, record.packet(), now);
            }
            (Some(EventKind::DhcpDelivered), to) => {
                let from = port(record.from);
                bd.dhcp_delivered(event.mac, to, from, record.packet(), now);
            }
            _ => {}
        }
    }
}
