//! One file per attach point.

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// XDP on an uplink.
#[xdp(frags)]
pub fn underlay_xdp(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// A surviving panic path is an endless loop, which the verifier refuses to load.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
