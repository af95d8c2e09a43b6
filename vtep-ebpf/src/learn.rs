//! Events to the agent about who is behind a port.

use vtep_common::{
    Mac,
    abi::{ArpKey, BdFlags, Event, EventKind, Stat},
    wire::{
        access::{Ingress, Sender},
        arp,
        ethernet::{Header, ethertype},
    },
};

use crate::{
    count, limit,
    maps::{arp_entry, events},
    skb::Skb,
};

/// Reports what the frame says about its sender and the agent does not know yet.
#[inline(always)]
pub fn report(skb: Skb, ingress: &Ingress<'_>, header: &Header, sender: Sender) {
    if !ingress.domain.flags.has(BdFlags::LEARN) {
        return;
    }
    if sender == Sender::New {
        send(ingress, EventKind::Mac, header.source, [0; 4]);
    }
    match header.ethertype_be {
        ethertype::ARP => {
            let Some(message) = arp::Message::parse(skb.packet()) else {
                return;
            };
            if message.binds() && !(sender == Sender::Here && is_bound(ingress, &message)) {
                let mapped = [0, 0, 0xffff_0000, message.sender_be];
                send(ingress, EventKind::Arp, message.sender_mac, mapped);
            }
        }
        ethertype::RARP if sender == Sender::New => {
            send(ingress, EventKind::Rarp, header.source, [0; 4]);
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
fn send(ingress: &Ingress<'_>, kind: EventKind, mac: u64, ip: [u32; 4]) {
    let port = ingress.port;
    if !limit::learn(port.slot, port.entry.learn_rate) {
        count::stat(Stat::EventsLimited);
        return;
    }
    let event = Event {
        kind: kind as u8,
        flags: 0,
        vlan: port.entry.vlan,
        slot: port.slot,
        bd: ingress.bd,
        mac: Mac::from_bits(mac),
        reserved: 0,
        ip: bytes(ip),
    };
    if events.output(event, 0).is_err() {
        count::stat(Stat::EventsLost);
    }
}

/// Words as they were loaded, as bytes.
#[inline(always)]
fn bytes(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute(words) }
}
