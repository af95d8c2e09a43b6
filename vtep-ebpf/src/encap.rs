//! Encapsulation: headers in front of a tenant's frame, and the way to a VTEP.

use core::ptr;

use vtep_common::{
    DropReason,
    abi::{Adjacency, BdEntry, VtepEntry},
    wire::{
        Frame as _, Tables as _, access, ecn,
        ethernet::{self, Header, ethertype},
        flow, icmp,
        outer::{self, Outer},
    },
};

use crate::{
    maps::{Maps, packet_ids, vteps},
    skb::Skb,
};

/// What all copies of one encapsulated frame have in common.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tunnel {
    /// Our VTEP address.
    source_be: u32,
    /// UDP destination port.
    port_be: u32,
    /// ECN codepoint of the outer header.
    ecn: u32,
    /// Length of the tenant's frame.
    pub frame: u32,
    /// Length of its IP packet, or of one segment: what must fit into the underlay.
    packet: u32,
    /// The flow's hash.
    pub hash: u32,
    /// Outer IP packets that the frame becomes.
    segments: u32,
}

impl Tunnel {
    /// No tunnel: what copies to ports have.
    pub const NONE: Self = Self {
        source_be: 0,
        port_be: 0,
        ecn: 0,
        frame: 0,
        packet: 0,
        hash: 0,
        segments: 0,
    };

    /// Before anything is changed. `header` is the frame's.
    #[inline(always)]
    pub fn new(skb: Skb, domain: &BdEntry, header: &Header) -> Result<Self, DropReason> {
        let settings = Maps.settings().ok_or(DropReason::NoPath)?;
        let segments = skb.gso_segs();
        Ok(Self {
            source_be: domain.source.v4_be(),
            port_be: settings.port_be.into(),
            ecn: ecn::encapsulate(skb.packet(), ethernet::HEADER, header.ethertype_be).into(),
            frame: skb.len(),
            packet: icmp::packet_length(skb.packet(), header.ethertype_be, skb.gso_size()),
            hash: hash(skb, header),
            segments: if segments == 0 { 1 } else { segments },
        })
    }

    /// The frame fits into the path.
    #[inline(always)]
    pub fn fits(&self, path: &Adjacency) -> bool {
        self.packet <= icmp::room(path.mtu)
    }

    /// Writes the outer headers for one VTEP into the room that [`make_room`] has made.
    #[inline(always)]
    pub fn write(
        &self,
        skb: Skb,
        vtep: &VtepEntry,
        path: &Adjacency,
        vni: u32,
    ) -> Result<(), DropReason> {
        let room = skb.packet().view::<50>(0).ok_or(DropReason::Helper)?;
        Outer {
            destination_mac: path.destination.to_bits(),
            source_mac: path.source.to_bits(),
            source_be: self.source_be,
            destination_be: vtep.address.v4_be(),
            id: next_id(self.segments),
            ecn: self.ecn as u8,
            frame: self.frame,
            hash: self.hash,
            port_be: self.port_be as u16,
            vni,
        }
        .write(room);
        Ok(())
    }
}

/// Puts 50 bytes in front of the frame, whose own header `header` is.
#[inline(always)]
pub fn make_room(skb: Skb, header: &Header) -> Result<(), DropReason> {
    let protocol = skb.protocol() as u16;
    let is_ip = protocol == ethertype::IPV4 || protocol == ethertype::IPV6;
    if is_ip && skb.grow_tunnel(outer::LENGTH).is_ok() {
        let inner = skb
            .packet()
            .view::<14>(outer::LENGTH)
            .ok_or(DropReason::Helper)?;
        inner.set_mac::<0, 4>(header.destination);
        inner.set_mac::<6, 10>(header.source);
        inner.set_u16::<12>(header.ethertype_be);
        return Ok(());
    }
    // What is no IP packet, and what is a tunnel of the VM's own already. Segmentation offload does
    // not survive here.
    if skb.gso_size() != 0 {
        return Err(DropReason::Helper);
    }
    skb.prepend(outer::LENGTH)
}

/// A VTEP and the path to it for a flow.
#[inline(always)]
pub fn route<'a>(vtep: u32, hash: u32) -> Result<(&'a VtepEntry, &'a Adjacency), DropReason> {
    let vtep = vteps.get(vtep).ok_or(DropReason::NoPath)?;
    Ok((vtep, access::path(vtep, hash)?))
}

/// The flow's hash; what is no IP packet has its addresses as its flow.
///
/// For the kernel's the frame is dissected down to its last header, which costs more than all else here
/// together. It is told of ours, since devices with several queues and qdiscs ask for it.
#[inline(always)]
fn hash(skb: Skb, header: &Header) -> u32 {
    if let Some(hash) = flow::hash(skb.packet(), header.ethertype_be) {
        skb.set_flow_hash(hash);
        return hash;
    }
    match header.ethertype_be {
        ethertype::IPV4 | ethertype::IPV6 => skb.flow_hash(),
        _ => {
            // A multiplicative hash (Knuth): the upper half depends on all bits.
            let macs = header.destination ^ header.source.rotate_left(24);
            (macs.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
        }
    }
}

/// Identification of the first of `segments` outer packets.
#[inline(always)]
fn next_id(segments: u32) -> u16 {
    let Some(counter) = packet_ids.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's element, aligned.
    unsafe {
        let id = ptr::read_volatile(counter);
        ptr::write_volatile(counter, id.wrapping_add(segments));
        id as u16
    }
}
