//! To a VM port.

use vtep_common::{DropReason, abi::PortFlags, wire::underlay::Port};

use crate::{
    count,
    skb::{self, Skb},
};

/// Hands a tenant's frame to a port, under the port's VLAN. `ethertype_be` is the frame's.
#[inline(always)]
pub fn to_port(skb: Skb, port: Port<'_>, ethertype_be: u16) -> Result<i32, DropReason> {
    skb.retag(port.entry.vlan)?;
    count::to_port(port.slot, skb.len());
    // The peer's stack goes by `protocol`, which is still the outer header's after decapsulation.
    if port.entry.flags.has(PortFlags::REDIRECT_PEER) && skb.protocol() == ethertype_be.into() {
        // Kernels before 6.15 leave the type as it was found by the outer or a foreign address.
        skb.set_to_host()?;
        return Ok(skb::redirect_peer(port.entry.ifindex));
    }
    Ok(skb::redirect(port.entry.ifindex))
}
