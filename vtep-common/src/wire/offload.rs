//! Which inner frames XDP may redirect to a port, and which must pass through the stack.

use super::{
    Frame,
    checksum::Sum,
    ethernet::{self, ethertype},
    ip::{self, protocol},
};

/// Whether a frame, whose untagged Ethernet header is at `at`, can leave by XDP redirect and lose
/// nothing. Constant for all frames of a flow, so that none overtakes another.
///
/// TCP must pass: GRO merges it in the stack, which is worth more than the redirect. So must what
/// has a checksum that its sender left to hardware: a redirected frame has no memory of that. The
/// field then holds the folded pseudo-header sum, not complemented.
#[inline(always)]
pub fn may_redirect<F: Frame>(frame: F, at: u32, ethertype_be: u16) -> bool {
    let packet = at + ethernet::HEADER;
    match ethertype_be {
        ethertype::IPV4 => v4(frame, packet),
        ethertype::IPV6 => v6(frame, packet),
        _ => true,
    }
}

#[inline(always)]
fn v4<F: Frame>(frame: F, at: u32) -> bool {
    let Some(packet) = frame.view::<28>(at) else {
        return false;
    };
    if packet.u8::<0>() != ip::V4_NO_OPTIONS
        || packet.u16::<6>() & (ip::MF | ip::FRAGMENT_OFFSET) != 0
    {
        return false;
    }
    match packet.u8::<9>() {
        protocol::ICMP => true,
        protocol::UDP => {
            let pseudo = Sum::default()
                .with(packet.u32::<12>())
                .with(packet.u32::<16>())
                .with(u16::from(protocol::UDP).to_be())
                .with(packet.u16::<24>());
            packet.u16::<26>() != pseudo.fold()
        }
        _ => false,
    }
}

#[inline(always)]
fn v6<F: Frame>(frame: F, at: u32) -> bool {
    let Some(packet) = frame.view::<48>(at) else {
        return false;
    };
    match packet.u8::<6>() {
        protocol::ICMPV6 => true,
        protocol::UDP => {
            let pseudo = Sum::default()
                .with(packet.u32::<8>())
                .with(packet.u32::<12>())
                .with(packet.u32::<16>())
                .with(packet.u32::<20>())
                .with(packet.u32::<24>())
                .with(packet.u32::<28>())
                .with(packet.u32::<32>())
                .with(packet.u32::<36>())
                .with(u16::from(protocol::UDP).to_be())
                .with(packet.u16::<44>());
            packet.u16::<46>() != pseudo.fold()
        }
        _ => false,
    }
}
