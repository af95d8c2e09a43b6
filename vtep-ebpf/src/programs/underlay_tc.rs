//! TC ingress on an uplink: finishes what the XDP half has stripped, and decapsulates the rest.

use aya_ebpf::{macros::classifier, programs::TcContext};
use vtep_common::{
    DropReason,
    abi::{BdRef, Fate, Path, SettingsFlags, XdpMeta},
    wire::{
        Frame as _, Tables as _, offload,
        underlay::{self, Inner, Received, Verdict},
    },
};

use crate::{
    count, decap, deliver, dhcp, flood,
    maps::Maps,
    skb::{DROP, NOT_OURS, Skb},
    trace::{self, Done},
};

/// What the decision looks at: Ethernet, outer headers, inner Ethernet with a tag, and an IPv6
/// header with ports behind it.
const HEADERS: u32 = 14 + 36 + 4 + STRIPPED_HEADERS;
/// What is looked at once the outer headers are gone.
const STRIPPED_HEADERS: u32 = vtep_common::wire::dhcp::HEADERS;

#[classifier]
pub fn underlay_tc(context: TcContext) -> i32 {
    let skb = Skb::new(context.skb.skb);
    trace::underlay(skb);
    trace::conclude(run(skb), DROP)
}

#[inline(always)]
fn run(skb: Skb) -> Result<Done<i32>, DropReason> {
    if let Some(meta) = skb.metadata().view::<16>(0) {
        let magic = meta.u32::<0>();
        if magic == XdpMeta::MAGIC {
            return stripped(skb, meta.u32::<4>(), BdRef::from_bits(meta.u32::<8>()));
        }
        if (magic ^ XdpMeta::MAGIC) >> 8 == 0 {
            return Err(DropReason::Metadata);
        }
    }
    skb.pull(HEADERS)?;
    let received = Received {
        vlan: vlan(skb),
        gso: skb.gso_size() != 0,
    };
    match underlay::decide(skb.packet(), received, &Maps) {
        Verdict::NotOurs => Ok(Done::new(NOT_OURS, Fate::NotOurs)),
        Verdict::Drop(reason) => Err(reason),
        Verdict::Port(inner, _) if is_for_device(skb, &inner) => {
            Ok(Done::new(NOT_OURS, Fate::Passed))
        }
        Verdict::Port(inner, port) => {
            decap::decapsulate(skb, &inner)?;
            count::path(Path::RxTc, skb.len());
            dhcp::delivered(skb, port, inner.header.ethertype_be, None);
            let action = deliver::to_port(skb, port, inner.header.ethertype_be)?;
            Ok(Done::new(action, Fate::Took(Path::RxTc)))
        }
        Verdict::Flood(inner, span) => {
            decap::decapsulate(skb, &inner)?;
            count::path(Path::RxFlood, skb.len());
            match flood::to_ports(skb, inner.bd, span, 0) {
                0 => Err(DropReason::NoReceiver),
                // Every port has its copy.
                _ => Ok(Done::new(DROP, Fate::Took(Path::RxFlood))),
            }
        }
    }
}

/// Inner TCP is left to the host's vxlan device, where the setting says so: `overlay_tc` sees it
/// again. A merged packet that is decapsulated here keeps tunnel offload marks, which make some
/// devices (tap) segment it in software.
#[inline(always)]
fn is_for_device(skb: Skb, inner: &Inner) -> bool {
    matches!(Maps.settings(), Some(settings) if settings.flags.has(SettingsFlags::TCP_TO_DEVICE))
        && offload::is_tcp(skb.packet(), inner.payload(), inner.header.ethertype_be)
}

/// The VLAN identifier that was taken out of the bytes.
#[inline(always)]
fn vlan(skb: Skb) -> Option<u16> {
    (skb.vlan_present() != 0).then(|| skb.vlan_tci() as u16 & 0x0fff)
}

/// A frame that the XDP half has decided on and stripped. Some devices take the tag out of the bytes
/// before XDP sees them: only here shows that the frame is not from the underlay's VLAN.
#[inline(always)]
fn stripped(skb: Skb, slot: u32, bd: BdRef) -> Result<Done<i32>, DropReason> {
    let settings = Maps.settings().ok_or(DropReason::StaleEntry)?;
    if !underlay::is_underlay_vlan(settings, vlan(skb)) {
        return Err(DropReason::OuterHeader);
    }
    let port = underlay::port(&Maps, bd, slot)?;
    skb.pull(STRIPPED_HEADERS)?;
    let header = skb.packet().view::<14>(0).ok_or(DropReason::Truncated)?;
    let ethertype_be = header.u16::<12>();
    count::path(Path::RxXdpPass, skb.len());
    skb.reset_queue();
    dhcp::delivered(skb, port, ethertype_be, None);
    let action = deliver::to_port(skb, port, ethertype_be)?;
    Ok(Done::new(action, Fate::Took(Path::RxXdpPass)))
}
