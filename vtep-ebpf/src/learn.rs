//! Events to the agent about who is behind a port.

use vtep_common::{
    Mac,
    abi::{ArpKey, BdFlags, Event, EventKind, NdKey, PortRef, Stat},
    wire::{
        Tables as _,
        access::{Ingress, Sender},
        arp,
        ethernet::{Header, ethertype},
        nd,
    },
};

use zerocopy::transmute;

use crate::{
    count, dhcp, limit,
    maps::{Maps, arp_entry, events, nd_entry},
    skb::Skb,
};

/// Reports what the frame says about its sender and the agent does not know yet; if it is an answer
/// to the agent, also what the agent knows.
#[inline(always)]
pub fn report(skb: Skb, ingress: &Ingress<'_>, header: &Header, sender: Sender, to_agent: bool) {
    if !ingress.domain.flags.has(BdFlags::LEARN) {
        return;
    }
    if sender == Sender::New {
        send(ingress, EventKind::Mac, 0, header.source, [0; 4]);
    }
    let here = sender == Sender::Here && !to_agent;
    match header.ethertype_be {
        ethertype::ARP => {
            let Some(message) = arp::Message::parse(skb.packet()) else {
                return;
            };
            if message.binds() && !(here && is_bound(ingress, &message)) {
                let mapped = [0, 0, 0xffff_u32.to_be(), message.sender_be];
                send(ingress, EventKind::Arp, 0, message.sender_mac, mapped);
            }
        }
        ethertype::IPV4 => dhcp::sent(skb, ingress, header),
        ethertype::IPV6 => {
            dhcp::sent(skb, ingress, header);
            let Some(message) = nd::Advertisement::parse(skb.packet()) else {
                return;
            };
            if !(here && is_announced(ingress, &message)) {
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
    let key = NdKey::from_parts(ingress.bd.bd, message.target);
    matches!(nd_entry(&key), Some(entry)
        if entry.bd() == ingress.bd.bd && entry.mac_bits() == message.mac)
}

#[inline(always)]
fn send(ingress: &Ingress<'_>, kind: EventKind, flags: u8, mac: u64, ip: [u32; 4]) {
    let at = PortRef::new(ingress.bd, ingress.port.slot);
    let what = u32::from(u16::from_le_bytes([kind as u8, flags]));
    let [head, tail]: [u64; 2] = transmute!(ip);
    send_event(at.0, what, mac, head, tail);
}

/// Sends one event, within the port's budget. `at` is a [`PortRef`], `what` the kind and, above it,
/// the flags; `head` and `tail` are the address.
///
/// A function of its own for the verifier, which goes through it once and not once per caller.
#[unsafe(no_mangle)]
extern "C" fn send_event(at: u64, what: u32, mac: u64, head: u64, tail: u64) -> i32 {
    let at = PortRef(at);
    let Some(port) = Maps.port(at.slot()) else {
        return 0;
    };
    if !limit::learn(at.slot(), port.learn_rate) {
        count::stat(Stat::EventsLimited);
        return 0;
    }
    let event = Event {
        kind: what as u8,
        flags: (what >> 8) as u8,
        vlan: port.vlan,
        slot: at.slot(),
        bd: at.bd(),
        mac: Mac::from_bits(mac),
        reserved: 0,
        ip: transmute!([head, tail]),
    };
    if events.output(event, 0).is_err() {
        count::stat(Stat::EventsLost);
    }
    0
}
