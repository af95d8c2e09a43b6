//! Decapsulation in TC.

use vtep_common::{
    DropReason,
    wire::{Frame as _, ecn::Remark, ethernet, ip, underlay::Inner},
};

use crate::skb::Skb;

/// Shortest payload behind an Ethernet header that the kernel leaves when it shrinks an IPv4 packet.
const SHRINKABLE: u32 = ip::V4_HEADER;

/// Turns the outer frame into the inner one.
#[inline(always)]
pub fn decapsulate(skb: Skb, inner: &Inner) -> Result<(), DropReason> {
    let payload = inner.payload();
    // The outer frame's padding goes. What is too short for the kernel to shrink is made long
    // enough, and cut off afterwards; not before, since the transport header that the stack has
    // noted in the outer packet forbids that.
    let shortest = payload + SHRINKABLE;
    let length = if inner.end < shortest {
        shortest
    } else {
        inner.end
    };
    if length != skb.len() {
        skb.resize(length)?;
    }
    remark(skb, inner)?;
    skb.shrink(payload - ethernet::HEADER)?;
    if inner.end < length {
        skb.resize(ethernet::HEADER + inner.end - payload)?;
    }
    let header = skb.packet().view::<14>(0).ok_or(DropReason::Helper)?;
    header.set_mac::<0, 4>(inner.header.destination);
    header.set_mac::<6, 10>(inner.header.source);
    header.set_u16::<12>(inner.header.ethertype_be);
    skb.reset_queue();
    Ok(())
}

/// Through helpers, not directly: rare, and they keep the checksum over the whole packet right that
/// a device may have noted.
#[inline(always)]
fn remark(skb: Skb, inner: &Inner) -> Result<(), DropReason> {
    match inner.remark {
        Remark::None => Ok(()),
        Remark::V4 { first, check } => {
            skb.store(inner.payload(), &first)?;
            skb.store(inner.payload() + 10, &check)
        }
        Remark::V6 { second } => skb.store(inner.payload() + 1, &second),
    }
}
