//! TC ingress on the host's one collect-metadata vxlan device: frames that the stack has
//! decapsulated, which is inner TCP where the settings say so.
//!
//! Nothing from the overlay reaches the host's stack: every verdict is a redirect or a drop.

use aya_ebpf::{macros::classifier, programs::TcContext};
use vtep_common::{
    DropReason,
    abi::{Fate, Path},
    wire::{
        dhcp::HEADERS,
        underlay::{self, Verdict},
    },
};

use crate::{
    count, deliver, dhcp, flood,
    maps::Maps,
    skb::{DROP, Skb},
    trace::{self, Done},
};

#[classifier]
pub fn overlay_tc(context: TcContext) -> i32 {
    let skb = Skb::new(context.skb.skb);
    trace::overlay(skb);
    trace::conclude(run(skb), DROP)
}

#[inline(always)]
fn run(skb: Skb) -> Result<Done<i32>, DropReason> {
    let tunnel = skb.tunnel()?;
    // A priority tag has VLAN identifier 0, and goes (802.1Q §6.9).
    if skb.vlan_tci() & 0x0fff != 0 {
        return Err(DropReason::InnerVlan);
    }
    skb.retag(0)?;
    skb.pull(HEADERS)?;
    match underlay::decide_decapsulated(skb.packet(), tunnel.vni, tunnel.source_be, &Maps) {
        Verdict::NotOurs => Err(DropReason::UnknownVni),
        Verdict::Drop(reason) => Err(reason),
        Verdict::Port(inner, port) => {
            skb.reset_queue();
            count::path(Path::RxDevice, skb.len());
            dhcp::delivered(skb, port, inner.header.ethertype_be, None);
            let action = deliver::to_port(skb, port, inner.header.ethertype_be)?;
            Ok(Done::new(action, Fate::Took(Path::RxDevice)))
        }
        Verdict::Flood(inner, span) => {
            count::path(Path::RxFlood, skb.len());
            match flood::to_ports(skb, inner.bd, span, 0) {
                0 => Err(DropReason::NoReceiver),
                // Every port has its copy.
                _ => Ok(Done::new(DROP, Fate::Took(Path::RxFlood))),
            }
        }
    }
}
