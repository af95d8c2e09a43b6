//! Records for whoever traces frames. While nobody does, either end of a program looks at one flag,
//! and that is all.
//!
//! What is known of a frame is noted when it comes in, in this CPU's `trace_frame`, and sent with the
//! verdict. It is found out here, by functions of their own, and not taken from the programs: they and
//! what the verifier has to prove of them stay as they are.

use core::ptr;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::bpf_ktime_get_coarse_ns,
};
use vtep_common::{
    DropReason,
    abi::{BdRef, Fate, FdbKey, FdbWord, PortKey, SettingsFlags, Trace, TraceProgram, XdpMeta},
    wire::{
        Frame as _, Tables as _,
        ethernet::{self, Header, ethertype},
        outer, rate,
    },
};

use crate::{
    count,
    maps::{self, Maps, trace_filter, trace_frame, traces},
    packet::Packet,
    skb::Skb,
    xdp::Xdp,
};

/// What a program does with a frame: the action that the kernel gets, and what that means.
#[derive(Clone, Copy)]
pub struct Done<T> {
    pub action: T,
    pub fate: Fate,
}

impl<T> Done<T> {
    #[inline(always)]
    pub fn new(action: T, fate: Fate) -> Self {
        Self { action, fate }
    }
}

/// A frame from a port.
#[inline(always)]
pub fn access(skb: Skb) {
    if is_on() {
        trace_access(skb.as_ptr());
    }
}

/// A frame from the underlay, in TC.
#[inline(always)]
pub fn underlay(skb: Skb) {
    if is_on() {
        trace_underlay(skb.as_ptr());
    }
}

/// A frame from the underlay, in XDP.
#[inline(always)]
pub fn underlay_xdp(context: *mut xdp_md) {
    if is_on() {
        trace_underlay_xdp(context);
    }
}

/// A frame from the host's vxlan device.
#[inline(always)]
pub fn overlay(skb: Skb) {
    if is_on() {
        trace_overlay(skb.as_ptr());
    }
}

/// What the kernel gets for the frame that came in last, which is traced and, with `drop` for an
/// action, counted.
#[inline(always)]
pub fn conclude<T>(verdict: Result<Done<T>, DropReason>, drop: T) -> T {
    if is_on() {
        match &verdict {
            Ok(done) => trace_verdict(done.fate.code(), 0),
            Err(reason) => trace_verdict(Fate::Dropped.code(), *reason as u32),
        };
    }
    match verdict {
        Ok(done) => done.action,
        Err(reason) => {
            count::dropped(reason);
            drop
        }
    }
}

#[inline(always)]
fn is_on() -> bool {
    matches!(Maps.settings(), Some(settings) if settings.flags.has(SettingsFlags::TRACE))
}

#[unsafe(no_mangle)]
extern "C" fn trace_access(context: *mut __sk_buff) -> i32 {
    let skb = Skb::new(context);
    let vlan = match skb.vlan_present() {
        0 => 0,
        _ => skb.vlan_tci() as u16 & 0x0fff,
    };
    let at = maps::port_at(PortKey::new(skb.ifindex(), vlan)).unwrap_or_default();
    note(Trace {
        bd: at.bd(),
        slot: at.slot(),
        vlan,
        program: TraceProgram::Access as u8,
        ..seen(skb.packet(), 0, skb.ifindex(), skb.len())
    })
}

#[unsafe(no_mangle)]
extern "C" fn trace_underlay(context: *mut __sk_buff) -> i32 {
    let skb = Skb::new(context);
    let program = TraceProgram::Underlay as u8;
    if let Some(meta) = skb.metadata().view::<16>(0)
        && meta.u32::<0>() == XdpMeta::MAGIC
    {
        return note(Trace {
            bd: BdRef::from_bits(meta.u32::<8>()),
            program,
            ..seen(skb.packet(), 0, skb.ifindex(), skb.len())
        });
    }
    note(Trace {
        program,
        ..encapsulated(skb.packet(), skb.ifindex(), skb.len())
    })
}

#[unsafe(no_mangle)]
extern "C" fn trace_underlay_xdp(context: *mut xdp_md) -> i32 {
    let xdp = Xdp::new(context);
    note(Trace {
        program: TraceProgram::UnderlayXdp as u8,
        ..encapsulated(xdp.packet(), xdp.ifindex(), xdp.length())
    })
}

#[unsafe(no_mangle)]
extern "C" fn trace_overlay(context: *mut __sk_buff) -> i32 {
    let skb = Skb::new(context);
    let Ok(tunnel) = skb.tunnel() else {
        return 0;
    };
    note(Trace {
        bd: Maps.vni(tunnel.vni).unwrap_or_default(),
        vni: tunnel.vni,
        outer_source_be: tunnel.source_be,
        program: TraceProgram::Overlay as u8,
        ..seen(skb.packet(), 0, skb.ifindex(), skb.len())
    })
}

/// Sends what was noted, if it is wanted and there is budget.
#[unsafe(no_mangle)]
extern "C" fn trace_verdict(fate: u32, reason: u32) -> i32 {
    let (Some(frame), Some(filter)) = (trace_frame.get_ptr_mut(0), trace_filter.get_ptr_mut(0))
    else {
        return 0;
    };
    if fate == Fate::NotOurs.code() {
        return 0;
    }
    // SAFETY: pointers from the maps, valid for the program's run; the frame is this CPU's, and the
    // bucket is written as one aligned word. Processors race for it, see `rate`.
    unsafe {
        (*frame).fate = fate as u8;
        (*frame).reason = reason as u8;
        if !(*filter).takes(&*frame) {
            return 0;
        }
        let bucket = &raw mut (*filter).bucket;
        let now = bpf_ktime_get_coarse_ns();
        let Some(next) = rate::take(ptr::read_volatile(bucket), now, (*filter).rate) else {
            return 0;
        };
        ptr::write_volatile(bucket, next);
        // A reader that does not keep up misses some.
        let _ = traces.output(*frame, 0);
    }
    0
}

/// What the frame at `at` says of itself.
#[inline(always)]
fn seen(packet: Packet, at: u32, ifindex: u32, length: u32) -> Trace {
    let mut trace = Trace {
        ifindex,
        length,
        ..Trace::default()
    };
    if let Some(view) = packet.view::<14>(at) {
        let header = Header::read(view);
        trace.destination = header.destination;
        trace.source = header.source;
        trace.ethertype_be = header.ethertype_be;
    }
    trace
}

/// As above, of a frame in VXLAN without options in its outer header. What is odd shows as zeros.
#[inline(always)]
fn encapsulated(packet: Packet, ifindex: u32, length: u32) -> Trace {
    let outer_at = match packet.view::<14>(0) {
        Some(view) if view.u16::<12>() == ethertype::C_TAG => ethernet::HEADER + ethernet::TAG,
        _ => ethernet::HEADER,
    };
    let Some(headers) = packet.view::<36>(outer_at) else {
        return seen(packet, 0, ifindex, length);
    };
    let vni = headers.be32::<32>() >> 8;
    Trace {
        bd: Maps.vni(vni).unwrap_or_default(),
        vni,
        outer_source_be: headers.u32::<12>(),
        ..seen(packet, outer_at + outer::INNER, ifindex, length)
    }
}

/// Keeps it until there is a verdict.
#[inline(always)]
fn note(mut trace: Trace) -> i32 {
    let key = FdbKey::from_parts(trace.bd.bd, trace.destination);
    trace.word = match maps::fdb_entry(key) {
        Some(entry) => entry.word(),
        None => FdbWord::default(),
    };
    if let Some(frame) = trace_frame.get_ptr_mut(0) {
        // SAFETY: this CPU's element.
        unsafe { *frame = trace };
    }
    0
}
