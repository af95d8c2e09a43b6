//! Tells a VM that its packet does not fit into the underlay. Never fragments.

use core::ptr;

use aya_ebpf::{bindings::__sk_buff, helpers};
use vtep_common::{
    DropReason,
    abi::Stat,
    wire::{
        Frame as _,
        access::Ingress,
        checksum::Sum,
        ethernet::{self, Header},
        icmp::{self, Sender},
    },
};

use crate::{count, deliver, limit, skb::Skb};

/// How much of the packet is kept aside, at its end, while its front is cut off: more than where any checksum
/// that the VM left to hardware can start. Cutting past that makes the kernel forget it; otherwise
/// it would be filled into the quote.
const ASIDE: u32 = 96;

/// Sends the message if there is someone to tell and the port's budget allows, else refuses the
/// frame in silence. `room` is what would fit.
#[inline(always)]
pub fn refuse(
    skb: Skb,
    ingress: &Ingress<'_>,
    header: &Header,
    room: u32,
) -> Result<i32, DropReason> {
    let sender = Sender::of(skb.packet(), header.ethertype_be).ok_or(DropReason::TooBigSilent)?;
    let quote = match sender {
        Sender::V4 { .. } => icmp::V4_QUOTE,
        Sender::V6 => icmp::V6_QUOTE,
    };
    if skb.len() < ethernet::HEADER + quote || !limit::too_big(ingress.port.slot) {
        return Err(DropReason::TooBigSilent);
    }
    let written = match sender {
        Sender::V4 { .. } => write_too_big_v4(skb.as_ptr(), room),
        Sender::V6 => write_too_big_v6(skb.as_ptr(), room),
    };
    if written != 0 {
        return Err(DropReason::Helper);
    }
    count::dropped(DropReason::TooBig);
    count::port_dropped(ingress.port.slot);
    count::stat(Stat::TooBigSent);
    deliver::to_port(skb, ingress.port, header.ethertype_be)
}

/// Turns the frame into the ICMP message, apart from delivering it.
///
/// A function of its own for the verifier, which goes through it once. 0 when done.
#[unsafe(no_mangle)]
extern "C" fn write_too_big_v4(context: *mut __sk_buff, room: u32) -> i32 {
    let skb = Skb::new(context);
    result(v4(skb, room))
}

/// As [`write_too_big_v4`], for IPv6.
#[unsafe(no_mangle)]
extern "C" fn write_too_big_v6(context: *mut __sk_buff, room: u32) -> i32 {
    let skb = Skb::new(context);
    result(v6(skb, room))
}

#[inline(always)]
fn v4(skb: Skb, room: u32) -> Result<(), DropReason> {
    let frame = skb.packet().view::<34>(0).ok_or(DropReason::Helper)?;
    let header = Header::read(frame);
    let (source_be, destination_be) = (frame.u32::<26>(), frame.u32::<30>());
    quote(skb, icmp::V4_QUOTE, 28)?;
    let sum = sum::<512>(skb, 42)?.with(sum::<36>(skb, 42 + 512)?.fold());
    let to = skb.packet().view(0).ok_or(DropReason::Helper)?;
    icmp::write_v4(to, &header, source_be, destination_be, room, sum);
    Ok(())
}

#[inline(always)]
fn v6(skb: Skb, room: u32) -> Result<(), DropReason> {
    let header = Header::read(skb.packet().view::<14>(0).ok_or(DropReason::Helper)?);
    quote(skb, icmp::V6_QUOTE, 48)?;
    let sum = sum::<512>(skb, 62)?
        .with(sum::<512>(skb, 62 + 512)?.fold())
        .with(sum::<208>(skb, 62 + 1024)?.fold());
    let to = skb.packet().view(0).ok_or(DropReason::Helper)?;
    icmp::write_v6(to, &header, room, sum);
    Ok(())
}

const _: () = assert!(icmp::V4_QUOTE == 512 + 36 && icmp::V6_QUOTE == 512 + 512 + 208);

/// Leaves the first `bytes` of the packet, `headers` bytes behind the Ethernet header.
#[inline(always)]
fn quote(skb: Skb, bytes: u32, headers: u32) -> Result<(), DropReason> {
    let aside = ethernet::HEADER + bytes;
    skb.resize(aside)?;
    skb.resize(aside + ASIDE)?;
    copy(skb, ethernet::HEADER, aside)?;
    skb.shrink(ASIDE)?;
    skb.grow(ASIDE + headers)?;
    copy(skb, aside + headers, ethernet::HEADER + headers)?;
    skb.resize(aside + headers)?;
    skb.pull(aside + headers)
}

/// Copies [`ASIDE`] bytes, in parts that are small enough for the stack.
#[inline(always)]
fn copy(skb: Skb, from: u32, to: u32) -> Result<(), DropReason> {
    const PART: u32 = 32;
    let mut at = 0;
    while at < ASIDE {
        let part = skb.load::<{ PART as usize / 4 }>(from + at)?;
        skb.store(to + at, &part)?;
        at += PART;
    }
    Ok(())
}

/// The sum over `N` bytes at `at`. The helper takes up to 512.
#[inline(always)]
fn sum<const N: usize>(skb: Skb, at: u32) -> Result<Sum, DropReason> {
    let bytes = skb.packet().bytes::<N>(at).ok_or(DropReason::Helper)?;
    // SAFETY: N bytes of the packet, as just checked.
    let sum =
        unsafe { helpers::bpf_csum_diff(ptr::null_mut(), 0, bytes.as_ptr().cast(), N as u32, 0) };
    Ok(Sum::default().with(sum as u32))
}

#[inline(always)]
const fn result(written: Result<(), DropReason>) -> i32 {
    match written {
        Ok(()) => 0,
        Err(_) => 1,
    }
}
