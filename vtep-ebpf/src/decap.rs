//! Decapsulation in TC.

use aya_ebpf::bindings::__sk_buff;
use vtep_common::{
    DropReason,
    wire::{
        Frame as _,
        ecn::Remark,
        ethernet::{self, Header, ethertype},
        ip,
        underlay::Inner,
    },
};

use crate::skb::Skb;

/// Turns the outer frame into the inner one.
#[inline(always)]
pub fn decapsulate(skb: Skb, inner: &Inner) -> Result<(), DropReason> {
    remark(skb, inner)?;
    let Header {
        destination,
        source,
        ethertype_be,
    } = inner.header;
    let ends = u64::from(inner.payload()) | u64::from(inner.end) << 32;
    let destination = destination | u64::from(ethertype_be) << 48;
    match strip_outer(skb.as_ptr(), ends, destination, source) {
        0 => Ok(()),
        _ => Err(DropReason::Helper),
    }
}

/// Writes the ECN field. Through helpers, not directly: rare, and they keep the checksum over the
/// whole packet right that a device may have noted.
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

/// Leaves the payload between the offsets in the lower and upper half of `ends`, behind an Ethernet
/// header with `source`, `destination` and, above the latter, the EtherType. 0 when done.
///
/// A function of its own for the verifier, which goes through it once and not once per caller.
#[unsafe(no_mangle)]
extern "C" fn strip_outer(
    context: *mut __sk_buff,
    ends: u64,
    destination: u64,
    source: u64,
) -> i32 {
    let header = Header {
        destination,
        source,
        ethertype_be: (destination >> 48) as u16,
    };
    let stripped = strip(Skb::new(context), ends as u32, (ends >> 32) as u32, &header);
    i32::from(stripped.is_err())
}

#[inline(always)]
fn strip(skb: Skb, payload: u32, end: u32, header: &Header) -> Result<(), DropReason> {
    // The outer frame's padding goes. What is too short for the kernel to shrink is made long
    // enough, and cut off afterwards; not before, since the transport header that the stack has
    // noted in the outer packet forbids that.
    let v6 = header.ethertype_be == ethertype::IPV6;
    let shortest = payload + if v6 { ip::V6_HEADER } else { ip::V4_HEADER };
    let length = if end < shortest { shortest } else { end };
    if length != skb.len() {
        skb.resize(length)?;
    }
    skb.shrink_tunnel(payload - ethernet::HEADER, v6)?;
    if end < length {
        skb.resize(ethernet::HEADER + end - payload)?;
    }
    let to = skb.packet().view::<14>(0).ok_or(DropReason::Helper)?;
    to.set_mac::<0, 4>(header.destination);
    to.set_mac::<6, 10>(header.source);
    to.set_u16::<12>(header.ethertype_be);
    skb.reset_queue();
    Ok(())
}
