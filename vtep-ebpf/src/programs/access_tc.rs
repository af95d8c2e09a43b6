//! TC ingress on a VM port. Nothing that a VM sends reaches the host's stack: every verdict is a
//! redirect or a drop.

use aya_ebpf::{macros::classifier, programs::TcContext};
use vtep_common::{
    DropReason,
    abi::{BdFlags, Fate, FloodSpan, PROBE_MAC, Path, PortFlags, PortKey, Settings},
    wire::{
        Frame as _, Tables as _,
        access::{self, Forward, Ingress},
        ethernet::{Header, ethertype},
        icmp, nd,
    },
};

use crate::{
    count, deliver, dhcp,
    encap::{self, Tunnel},
    flood, guard, learn, limit,
    maps::{self, Maps},
    memory,
    skb::{self, DROP, Skb},
    suppress::{self, Outcome},
    too_big,
    trace::{self, Done},
};

/// What is looked at: Ethernet, IPv6, a neighbour discovery message with its options.
const HEADERS: u32 = nd::JUDGED;

#[classifier]
pub fn access_tc(context: TcContext) -> i32 {
    let skb = Skb::new(context.skb.skb);
    trace::access(skb);
    let verdict = admit(skb).and_then(|(settings, ingress)| {
        count::from_port(ingress.port.slot, skb.len());
        let verdict = run(skb, settings, &ingress);
        if verdict.is_err() {
            count::port_dropped(ingress.port.slot);
        }
        verdict
    });
    trace::conclude(verdict, DROP)
}

/// The port and bridge domain that the device and the frame's tag select, and the settings.
#[inline(always)]
fn admit<'a>(skb: Skb) -> Result<(&'a Settings, Ingress<'a>), DropReason> {
    let mut vlan = 0;
    if skb.vlan_present() != 0 {
        if skb.vlan_proto() as u16 != ethertype::C_TAG {
            return Err(DropReason::PortVlan);
        }
        vlan = skb.vlan_tci() as u16 & 0x0fff;
    }
    let settings = Maps.settings().ok_or(DropReason::PortVlan)?;
    let key = PortKey::new(skb.ifindex(), vlan);
    let at = memory::port(settings, key).ok_or(DropReason::PortVlan)?;
    Ok((settings, Ingress::new(&Maps, at)?))
}

#[inline(always)]
fn run(skb: Skb, settings: &Settings, ingress: &Ingress<'_>) -> Result<Done<i32>, DropReason> {
    skb.pull(HEADERS)?;
    let mut header = Header::read(skb.packet().view::<14>(0).ok_or(DropReason::Truncated)?);
    if ethertype::is_tag(header.ethertype_be) {
        return Err(DropReason::InnerVlan);
    }
    header.check()?;
    if ingress.port.entry.flags.has(PortFlags::GUARDED) {
        guard::check(skb, ingress.port.slot)?;
    }
    let sender = memory::sender(settings, ingress, header.source)?;
    skb.retag(0)?;
    let to_agent = header.destination == PROBE_MAC.to_bits();
    learn::report(skb, ingress, &header, sender, to_agent);
    if to_agent {
        return Ok(Done::new(DROP, Fate::Agent));
    }
    if ingress.domain.flags.has(BdFlags::SUPPRESS) {
        match suppress::answer(skb, ingress, &header) {
            Outcome::Answered(sent) => {
                return sent.map(|action| Done::new(action, Fate::Answered));
            }
            Outcome::ToOwner(mac) => {
                header.destination = mac;
                let frame = skb.packet().view::<14>(0).ok_or(DropReason::Helper)?;
                frame.set_mac::<0, 4>(mac);
            }
            Outcome::Forward => {}
        }
    }
    match access::forward(&Maps, ingress, &header)? {
        Forward::Port(port) => {
            count::path(Path::Local, skb.len());
            dhcp::delivered(skb, port, header.ethertype_be, Some(ingress.port.slot));
            let action = deliver::to_port(skb, port, header.ethertype_be)?;
            Ok(Done::new(action, Fate::Took(Path::Local)))
        }
        Forward::Group(group) => to_group(skb, ingress, &header, group),
        Forward::Flood => to_all(skb, ingress, &header),
    }
}

/// To the VTEP behind which the destination is.
#[inline(always)]
fn to_group(
    skb: Skb,
    ingress: &Ingress<'_>,
    header: &Header,
    group: u32,
) -> Result<Done<i32>, DropReason> {
    let tunnel = Tunnel::new(skb, ingress.domain, header)?;
    let group = maps::groups.get(group).ok_or(DropReason::NoPath)?;
    let member = access::member(group, ingress.bd, tunnel.hash)?;
    let (vtep, path) = encap::route(member.vtep, tunnel.hash)?;
    if !tunnel.fits(path) {
        let action = too_big::refuse(skb, ingress, header, icmp::room(path.mtu))?;
        return Ok(Done::new(action, Fate::Answered));
    }
    encap::make_room(skb, header)?;
    tunnel.write(skb, vtep, path, member.vni)?;
    skb.retag(path.vlan)?;
    count::path(Path::TxUnicast, tunnel.frame);
    let action = skb::redirect(path.ifindex);
    Ok(Done::new(action, Fate::Took(Path::TxUnicast)))
}

/// To everybody else in the bridge domain: local ports first, then, encapsulated once, all VTEPs.
#[inline(always)]
fn to_all(skb: Skb, ingress: &Ingress<'_>, header: &Header) -> Result<Done<i32>, DropReason> {
    if suppress::refuses(skb, ingress) {
        return Err(DropReason::UnknownNeighbor);
    }
    let slot = ingress.port.slot;
    if !limit::bum(slot, ingress.port.entry.bum_rate) {
        return Err(DropReason::BumRate);
    }
    let span = FloodSpan::from_bits(ingress.domain.flood);
    let class = flood::class(skb);
    let mut receivers = flood::to_ports(skb, ingress.bd, span, slot);
    if span.vteps != 0 {
        skb.retag(0)?;
        let tunnel = Tunnel::new(skb, ingress.domain, header)?;
        encap::make_room(skb, header)?;
        receivers += flood::to_vteps(skb, ingress.bd, span, tunnel, class);
    }
    if receivers == 0 {
        Err(DropReason::NoReceiver)
    } else {
        Ok(Done::new(DROP, Fate::Took(Path::TxFlood)))
    }
}
