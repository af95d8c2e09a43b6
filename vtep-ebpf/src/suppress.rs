//! Answers to ARP requests and neighbour solicitations from the tables (RFC 9161 §3.1), so that
//! they need not be flooded.

use aya_ebpf::bindings::__sk_buff;
use vtep_common::{
    DropReason,
    abi::{ArpKey, BdFlags, BdId, FdbKey, NdKey, NeighborEntry, NeighborFlags},
    wire::{
        Frame as _, Tables as _,
        access::Ingress,
        arp,
        ethernet::{self, Header, ethertype},
        nd,
    },
};

use crate::{
    count, deliver,
    maps::{Maps, arp_entry, nd_entry},
    packet::Packet,
    skb::Skb,
};

/// What becomes of a request.
pub enum Outcome {
    /// It was answered.
    Answered(Result<i32, DropReason>),
    /// It goes to the owner of the address alone, which has this MAC.
    ToOwner(u64),
    /// It is a frame as any other.
    Forward,
}

/// Answers the frame if it asks for what the tables know.
#[inline(always)]
pub fn answer(skb: Skb, ingress: &Ingress<'_>, header: &Header) -> Outcome {
    let outcome = match header.ethertype_be {
        ethertype::ARP if header.destination == ethernet::BROADCAST => answer_arp(skb, ingress),
        ethertype::IPV6 if header.is_group() => answer_nd(skb, ingress, header),
        _ => None,
    };
    outcome.unwrap_or(Outcome::Forward)
}

#[inline(always)]
fn answer_arp(skb: Skb, ingress: &Ingress<'_>) -> Option<Outcome> {
    let message = arp::Message::parse(skb.packet())?;
    if !message.is_question() {
        return None;
    }
    let entry = arp_entry(ArpKey::from_parts(ingress.bd.bd, message.target_be))?;
    if !is_answered_for(ingress, entry, message.sender_mac) {
        return None;
    }
    if ingress.domain.flags.has(BdFlags::FORWARD_REQUESTS) {
        return Some(Outcome::ToOwner(entry.mac_bits()));
    }
    arp::answer(skb.packet().view(0)?, &message, entry.mac_bits());
    count::bd(ingress.bd.bd, |counters| counters.suppressed_arp += 1);
    let sent = deliver::to_port(skb, ingress.port, ethertype::ARP);
    Some(Outcome::Answered(sent))
}

#[inline(always)]
fn answer_nd(skb: Skb, ingress: &Ingress<'_>, header: &Header) -> Option<Outcome> {
    let flags = ingress.domain.flags;
    let message = nd::Solicitation::parse(skb.packet());
    let (target, asker) = match &message {
        Some(message) => (message.target, message.asker),
        None if flags.has(BdFlags::FORWARD_OPTIONS) => {
            (nd::Solicitation::target_of(skb.packet())?, header.source)
        }
        None => return None,
    };
    let entry = nd_entry(&NdKey::from_parts(ingress.bd.bd, target))?;
    if !is_answered_for(ingress, entry, asker) {
        return None;
    }
    match message {
        Some(message) if !flags.has(BdFlags::FORWARD_REQUESTS) => {
            let sent = send_advertisement(skb, ingress, &message, entry);
            Some(Outcome::Answered(sent))
        }
        _ => Some(Outcome::ToOwner(entry.mac_bits())),
    }
}

#[inline(always)]
fn send_advertisement(
    skb: Skb,
    ingress: &Ingress<'_>,
    message: &nd::Solicitation,
    entry: NeighborEntry,
) -> Result<i32, DropReason> {
    if skb.len() != nd::FRAME as u32 {
        skb.resize(nd::FRAME as u32)?;
    }
    let frame = skb.packet().view(0).ok_or(DropReason::Helper)?;
    message.answer(frame, entry.mac_bits(), entry.flags());
    count::bd(ingress.bd.bd, |counters| counters.suppressed_nd += 1);
    deliver::to_port(skb, ingress.port, ethertype::IPV6)
}

/// The frame, sent to a group, asks for an address that nobody is known to have, and the bridge domain
/// does not flood such questions.
#[inline(always)]
pub fn refuses(skb: Skb, ingress: &Ingress<'_>) -> bool {
    let policy = BdFlags::SUPPRESS.with(BdFlags::DROP_UNKNOWN_NEIGHBORS);
    ingress.domain.flags.has(policy) && asks_for_unknown(skb.as_ptr(), ingress.bd.bd.0.into()) != 0
}

/// A function of its own for the verifier, which goes through it once and not once per path that
/// leads to flooding. 1 for yes.
#[unsafe(no_mangle)]
extern "C" fn asks_for_unknown(context: *mut __sk_buff, bd: u32) -> i32 {
    let (packet, bd) = (Skb::new(context).packet(), BdId(bd as u16));
    let asks = if let Some(message) = arp_question(packet) {
        arp_entry(ArpKey::from_parts(bd, message.target_be)).is_none()
    } else if let Some(message) = nd_question(packet) {
        nd_entry(&NdKey::from_parts(bd, message.target)).is_none()
    } else {
        false
    };
    asks.into()
}

#[inline(always)]
fn arp_question(packet: Packet) -> Option<arp::Message> {
    let header = Header::read(packet.view::<14>(0)?);
    if header.ethertype_be != ethertype::ARP || !header.is_group() {
        return None;
    }
    arp::Message::parse(packet).filter(|message| message.is_question())
}

#[inline(always)]
fn nd_question(packet: Packet) -> Option<nd::Solicitation> {
    let header = Header::read(packet.view::<14>(0)?);
    if header.ethertype_be != ethertype::IPV6 || !header.is_group() {
        return None;
    }
    nd::Solicitation::parse(packet)
}

/// Whether somebody else may answer for the neighbour. Not to itself: a VM that has just moved here
/// would take its own address for taken. Not where its owner is on the port that asks, and answers for
/// itself.
#[inline(always)]
fn is_answered_for(ingress: &Ingress<'_>, entry: NeighborEntry, asker: u64) -> bool {
    let owner = FdbKey::from_parts(ingress.bd.bd, entry.mac_bits());
    entry.bd() == ingress.bd.bd
        && entry.mac_bits() != asker
        && !entry.flags().has(NeighborFlags::WITHHELD)
        && !ingress.owns(Maps.fdb(owner))
}
