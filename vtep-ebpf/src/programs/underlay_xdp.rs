//! XDP on an uplink: drops what is refused, and finishes known unicast to a port.
//!
//! Everything else passes to the TC half as it is.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};
use vtep_common::{
    DropReason,
    abi::{Fate, Path, PortFlags, XdpMeta},
    wire::{
        Frame as _, Tables as _,
        ecn::Remark,
        offload,
        underlay::{self, Inner, Port, Received, Verdict},
    },
};

use crate::{
    count,
    maps::{Maps, redirect},
    packet::Packet,
    trace::{self, Done},
    xdp::Xdp,
};

/// In the driver. Takes frames of several buffers, so that a large MTU does not rule it out.
#[xdp(frags)]
pub fn underlay_xdp(context: XdpContext) -> u32 {
    entry::<true>(&context)
}

/// On socket buffers (generic XDP). Two things differ:
///
/// - Without `frags`: a program with it makes the kernel (6.18) copy a buffer into a new one that
///   has no length of the link-layer header, and TC programs then see the frame without it.
/// - Without redirect: GRO has happened already, and a devmap is for one flavour of programs.
#[xdp]
pub fn underlay_xdp_generic(context: XdpContext) -> u32 {
    entry::<false>(&context)
}

#[inline(always)]
fn entry<const NATIVE: bool>(context: &XdpContext) -> u32 {
    trace::underlay_xdp(context.ctx);
    trace::conclude(run::<NATIVE>(Xdp::new(context.ctx)), XDP_DROP)
}

#[inline(always)]
fn run<const NATIVE: bool>(xdp: Xdp) -> Result<Done<u32>, DropReason> {
    let pass = |fate| Ok(Done::new(XDP_PASS, fate));
    let packet = xdp.packet();
    match underlay::decide(packet, Received::default(), &Maps) {
        Verdict::NotOurs => pass(Fate::NotOurs),
        Verdict::Flood(..) => pass(Fate::Passed),
        Verdict::Drop(_) if NATIVE && in_several_buffers(xdp, packet) => pass(Fate::NotOurs),
        Verdict::Drop(reason) => Err(reason),
        Verdict::Port(inner, port) => {
            let padded = packet.length() != inner.end;
            if inner.priority_tag
                || port.entry.vlan != 0
                || NATIVE && padded && in_several_buffers(xdp, packet)
            {
                return pass(Fate::Passed);
            }
            finish::<NATIVE>(xdp, &inner, port)
        }
    }
}

/// Helpers reach only the first buffer, and only TC sees the whole frame. The outer IP packet of such a
/// frame is longer than the first buffer and has been refused for that: who asks only then, and before
/// anything is cut off at the end, asks seldom. An IP packet that ends just where the first buffer
/// does, with padding in the next, is taken for the whole frame; the padding stays.
#[inline(always)]
fn in_several_buffers(xdp: Xdp, packet: Packet) -> bool {
    packet.length() != xdp.length()
}

/// A stripped frame to the uplink's own address would look like the host's.
#[inline(always)]
fn is_uplink_mac(destination: u64) -> bool {
    match Maps.settings() {
        Some(settings) => settings.uplink_macs.contains(&destination),
        None => true,
    }
}

#[inline(always)]
fn finish<const NATIVE: bool>(
    xdp: Xdp,
    inner: &Inner,
    port: Port<'_>,
) -> Result<Done<u32>, DropReason> {
    let packet = xdp.packet();
    if NATIVE
        && port.entry.flags.has(PortFlags::REDIRECT_XDP)
        && offload::may_redirect(packet, inner.at, inner.header.ethertype_be)
        // Only notes the target. Takes effect when the program returns this action.
        && let Ok(action) = redirect.redirect(port.entry.ifindex, 0)
    {
        edit(xdp, inner)?;
        xdp.strip(inner.at)?;
        let bytes = inner.end - inner.at;
        count::path(Path::RxXdpRedirect, bytes);
        count::to_port(port.slot, bytes);
        return Ok(Done::new(action, Fate::Took(Path::RxXdpRedirect)));
    }
    if is_uplink_mac(inner.header.destination) || !xdp.reserve_metadata(size_of::<XdpMeta>() as u32)
    {
        return Ok(Done::new(XDP_PASS, Fate::Passed));
    }
    // From here on the metadata says that the frame is stripped: no way back.
    edit(xdp, inner)?;
    let meta = xdp.metadata().view::<16>(0).ok_or(DropReason::Helper)?;
    meta.set_u32::<0>(XdpMeta::MAGIC);
    meta.set_u32::<4>(port.slot);
    meta.set_u32::<8>(inner.bd.to_bits());
    meta.set_u32::<12>(0);
    xdp.strip(inner.at)?;
    Ok(Done::new(XDP_PASS, Fate::Passed))
}

/// Cuts the outer frame's padding off and writes the ECN field.
#[inline(always)]
fn edit(xdp: Xdp, inner: &Inner) -> Result<(), DropReason> {
    let packet = xdp.packet();
    if inner.remark != Remark::None {
        let header = packet
            .view::<20>(inner.payload())
            .ok_or(DropReason::Helper)?;
        inner.remark.apply(header);
    }
    match packet.length() - inner.end {
        0 => Ok(()),
        padding => xdp.trim(padding),
    }
}
