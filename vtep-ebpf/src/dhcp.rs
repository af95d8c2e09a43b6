//! Copies of DHCP messages to the agent. The messages themselves go where they go.

use aya_ebpf::bindings::__sk_buff;
use vtep_common::{
    Mac,
    abi::{BdFlags, BdRef, DhcpEvent, Event, EventKind, PortRef, Stat},
    wire::{
        Frame as _, access::Ingress, dhcp, ethernet, ethernet::Header, underlay, underlay::Port,
    },
};

use crate::{
    count, limit,
    maps::{Maps, events},
    skb::Skb,
};

/// The slot that stands for the overlay: no port has it.
const OVERLAY: u32 = 0;

/// Reports what a VM says to DHCP servers.
#[inline(always)]
pub fn sent(skb: Skb, ingress: &Ingress<'_>, header: &Header) {
    if ingress.domain.flags.has(BdFlags::DHCP)
        && dhcp::is_to_server(skb.packet(), header.ethertype_be)
    {
        let slot = ingress.port.slot;
        report(skb, EventKind::DhcpSent, ingress.bd, slot, slot);
    }
}

/// Reports what a DHCP server says to the VM behind a port; `from` is the port that it came from.
#[inline(always)]
pub fn delivered(skb: Skb, port: Port<'_>, ethertype_be: u16, from: Option<u32>) {
    if dhcp::is_to_client(skb.packet(), ethertype_be) {
        let from = from.unwrap_or(OVERLAY);
        report(
            skb,
            EventKind::DhcpDelivered,
            port.entry.bd,
            port.slot,
            from,
        );
    }
}

/// Reports what a DHCP server says to several; `from` is the slot that it came from, 0 for the overlay.
#[inline(always)]
pub fn flooded(skb: Skb, bd: BdRef, from: u32) {
    let packet = skb.packet();
    if let Some(header) = packet.view::<14>(0)
        && dhcp::is_to_client(packet, Header::read(header).ethertype_be)
    {
        report(skb, EventKind::DhcpDelivered, bd, 0, from);
    }
}

#[inline(always)]
fn report(skb: Skb, kind: EventKind, bd: BdRef, slot: u32, from: u32) {
    let at = PortRef::new(bd, slot);
    let what = kind as u64 | u64::from(from) << 32;
    report_dhcp(skb.as_ptr(), at.0, what);
}

/// Sends a copy of the packet, within the budget of the port that gets it or, if several do, of where it
/// came from. `at` is a [`PortRef`], `what` the kind and, above it, the slot that it came from.
///
/// A function of its own for the verifier, which goes through it once and not once per caller.
#[unsafe(no_mangle)]
extern "C" fn report_dhcp(context: *mut __sk_buff, at: u64, what: u64) -> i32 {
    let (skb, at, from) = (Skb::new(context), PortRef(at), (what >> 32) as u32);
    let bd = at.bd();
    if !matches!(underlay::domain(&Maps, bd), Ok(domain) if domain.flags.has(BdFlags::DHCP)) {
        return 0;
    }
    let charged = if at.slot() == 0 { from } else { at.slot() };
    if !limit::dhcp(charged) {
        count::stat(Stat::EventsLimited);
        return 0;
    }
    let Some(header) = skb.packet().view::<14>(0) else {
        return 0;
    };
    let header = Header::read(header);
    let sent = what as u8 == EventKind::DhcpSent as u8;
    let mac = if sent {
        header.source
    } else {
        header.destination
    };
    let event = Event {
        kind: what as u8,
        slot: at.slot(),
        bd,
        mac: Mac::from_bits(mac),
        ..Event::default()
    };
    send(skb, event, from);
    0
}

#[inline(always)]
fn send(skb: Skb, event: Event, from: u32) {
    const MOST: u32 = DhcpEvent::COPY as u32;
    let behind = skb.len().wrapping_sub(ethernet::HEADER);
    let length = if behind > MOST { MOST } else { behind };
    let Some(mut record) = events.reserve_untyped::<DhcpEvent>(0) else {
        count::stat(Stat::EventsLost);
        return;
    };
    let to = record.as_mut_ptr();
    // SAFETY: the record has room for all of this. Padding there is none, and the bytes behind the copy
    // are of no meaning.
    let copied = unsafe {
        (&raw mut (*to).event).write(event);
        (&raw mut (*to).from).write(from);
        (&raw mut (*to).length).write(length);
        skb.copy::<MOST>(ethernet::HEADER, (&raw mut (*to).packet).cast(), length)
    };
    if copied.is_ok() {
        record.submit(0);
    } else {
        record.discard(0);
        count::stat(Stat::EventsLost);
    }
}
