//! Copies of a BUM frame (RFC 7432 §11, ingress replication).

use core::{ffi::c_void, ptr};

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_loop};
use vtep_common::{
    DropReason,
    abi::{BdRef, FloodClasses, FloodSpan, Path},
    wire::{Frame as _, access, ethernet::Header, underlay::port},
};

use crate::{
    count, dhcp,
    encap::{self, Tunnel},
    maps::{Maps, flood},
    skb::Skb,
};

/// State of a walk over a flood list. One for both kinds of receivers.
#[repr(C)]
struct Walk {
    skb: Skb,
    /// Index of the first member.
    offset: u32,
    bd: BdRef,
    /// Slot that gets no copy; 0 for none.
    except: u32,
    /// Receivers that were tried.
    receivers: u32,
    /// Copies that were made.
    copies: u32,
    /// What is flooded.
    class: FloodClasses,
    tunnel: Tunnel,
}

/// Sends a copy to every port of the list but `except`. Gives how many ports there were.
#[inline(always)]
pub fn to_ports(skb: Skb, bd: BdRef, span: FloodSpan, except: u32) -> u32 {
    dhcp::flooded(skb, bd, except);
    let walk = Walk::new(skb, bd, span.offset, Tunnel::NONE);
    let walk = Walk { except, ..walk };
    walk.run(span.ports, copy_to_port)
}

/// Sends a copy of an encapsulated frame to every VTEP of the list that takes frames of its class.
/// Gives how many there were.
#[inline(always)]
pub fn to_vteps(skb: Skb, bd: BdRef, span: FloodSpan, tunnel: Tunnel, class: FloodClasses) -> u32 {
    let offset = span.offset.wrapping_add(span.ports.into());
    let walk = Walk::new(skb, bd, offset, tunnel);
    let walk = Walk { class, ..walk };
    walk.run(span.vteps, copy_to_vtep)
}

impl Walk {
    #[inline(always)]
    fn new(skb: Skb, bd: BdRef, offset: u32, tunnel: Tunnel) -> Self {
        Self {
            skb,
            offset,
            bd,
            except: 0,
            receivers: 0,
            copies: 0,
            class: FloodClasses::ASSISTED,
            tunnel,
        }
    }

    #[inline(always)]
    fn run(mut self, members: u16, step: extern "C" fn(u32, *mut Self) -> i64) -> u32 {
        if members == 0 {
            return 0;
        }
        // SAFETY: the callback gets the pointer to the walk, which outlives the loop.
        unsafe {
            bpf_loop(
                members.into(),
                step as *mut c_void,
                ptr::from_mut(&mut self).cast(),
                0,
            );
        }
        count::bd(self.bd.bd, |counters| {
            counters.flood_copies += u64::from(self.copies)
        });
        self.receivers
    }
}

/// What kind of flooded frame it is. A function of its own for the verifier, which goes through it
/// once and not once per path that leads to flooding.
#[unsafe(no_mangle)]
extern "C" fn class_of(context: *mut __sk_buff) -> u32 {
    let packet = Skb::new(context).packet();
    let class = packet
        .view::<14>(0)
        .map(|header| access::flood_class(packet, &Header::read(header)));
    class.unwrap_or(FloodClasses::UNKNOWN).0
}

/// What kind of flooded frame it is, untagged as it came.
#[inline(always)]
pub fn class(skb: Skb) -> FloodClasses {
    FloodClasses(class_of(skb.as_ptr()))
}

extern "C" fn copy_to_port(index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the pointer that [`Walk::run`] gave to the loop.
    let walk = unsafe { &mut *walk };
    let Some(member) = flood.get(walk.offset.wrapping_add(index)) else {
        return 1;
    };
    if member.bd != walk.bd || member.target == walk.except {
        return 0;
    }
    walk.receivers += 1;
    let sent = port(&Maps, walk.bd, member.target).and_then(|port| {
        walk.skb.retag(port.entry.vlan)?;
        walk.skb.send_copy(port.entry.ifindex)
    });
    match sent {
        Ok(()) => {
            walk.copies += 1;
            count::to_port(member.target, walk.skb.len());
        }
        Err(reason) => count::dropped(reason),
    }
    0
}

extern "C" fn copy_to_vtep(index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the pointer that [`Walk::run`] gave to the loop.
    let walk = unsafe { &mut *walk };
    let Some(member) = flood.get(walk.offset.wrapping_add(index)) else {
        return 1;
    };
    if member.bd != walk.bd || member.skip.has(walk.class) {
        return 0;
    }
    walk.receivers += 1;
    match send_to_vtep(walk.skb, &walk.tunnel, member.target, member.vni) {
        Ok(()) => {
            walk.copies += 1;
            count::path(Path::TxFlood, walk.tunnel.frame);
        }
        Err(reason) => count::dropped(reason),
    }
    0
}

#[inline(always)]
fn send_to_vtep(skb: Skb, tunnel: &Tunnel, vtep: u32, vni: u32) -> Result<(), DropReason> {
    let (vtep, path) = encap::route(vtep, tunnel.hash)?;
    if !tunnel.fits(path) {
        return Err(DropReason::TooBigSilent);
    }
    tunnel.write(skb, vtep, path, vni)?;
    skb.retag(path.vlan)?;
    skb.send_copy(path.ifindex)
}
