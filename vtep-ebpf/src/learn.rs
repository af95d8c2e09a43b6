//! Events to the agent about who is behind a port.

use vtep_common::{
    Mac,
    abi::{ArpKey, BdFlags, Event, EventKind, NdKey, Stat},
    wire::{
        access::{Ingress, Sender},
        arp,
        ethernet::{Header, ethertype},
        nd::{self, address_bytes},
    },
};

use crate::{
    count, limit,
    maps::{arp_entry, events, nd_entry},
    skb::Skb,
};

/// Reports what the frame says about its sender and the agent does not know yet.
#[inline(always)]
pub fn report(skb: Skb, ingress: &Ingress<'_>, header: &Header, sender: Sender) {
    if !ingress.domain.flags.has(BdFlags::LEARN) {
        return;
    }
    if sender == Sender::New {
        send(ingress, EventKind::Mac, 0, header.source, [0; 4]);
    }
    match header.ethertype_be {
        ethertype::ARP => {
            let Some(message) = arp::Message::parse(skb.packet()) else {
                return;
            };
            if message.binds() && !(sender == Sender::Here && is_bound(ingress, &message)) {
                let mapped = [0, 0, 0xffff_u32.to_be(), message.sender_be];
                send(ingress, EventKind::Arp, 0, message.sender_mac, mapped);
            }
        }
        ethertype::IPV6 => {
            let Some(message) = nd::Advertisement::parse(skb.packet()) else {
                return;
            };
            if !(sender == Sender::Here && is_announced(ingress, &message)) {
                send(
                    ingress,
                    EventKind::Na,
                    message.flags,
                    message.mac,
                    message.target,
                );
            }
        }
        ethertype::RARP if sender == Sender::New => {
            send(ingress, EventKind::Rarp, 0, header.source, [0; 4]);
        }
        _ => {}
    }
}

#[inline(always)]
fn is_bound(ingress: &Ingress<'_>, message: &arp::Message) -> bool {
    let key = ArpKey::from_parts(ingress.bd.bd, message.sender_be);
    matches!(arp_entry(key), Some(entry)
        if entry.bd() == ingress.bd.bd && entry.mac_bits() == message.sender_mac)
}

#[inline(always)]
fn is_announced(ingress: &Ingress<'_>, message: &nd::Advertisement) -> bool {
    let key = NdKey {
        address: address_bytes(message.target),
        bd: ingress.bd.bd,
        reserved: 0,
    };
    matches!(nd_entry(&key), Some(entry)
        if entry.bd() == ingress.bd.bd && entry.mac_bits() == message.mac)
}

#[inline(always)]
fn send(ingress: &Ingress<'_>, kind: EventKind, flags: u8, mac: u64, ip: [u32; 4]) {
    let port = ingress.port;
    if !limit::learn(port.slot, port.entry.learn_rate) {
        count::stat(Stat::EventsLimited);
        return;
    }
    let event = Event {
        kind: kind as u8,
        flags,
        vlan: port.entry.vlan,
        slot: port.slot,
        bd: ingress.bd,
        mac: Mac::from_bits(mac),
        reserved: 0,
        ip: address_bytes(ip),
    };
    if events.output(event, 0).is_err() {
        count::stat(Stat::EventsLost);
    }
}
