//! Reading VXLAN frames off the underlay (RFC 7348 §5).

use std::net::Ipv4Addr;

use anyhow::Result;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use crate::{Frame, Host};

/// UDP port of VXLAN (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;

/// The headers around a tenant's frame, and the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Sending VTEP.
    pub source: Ipv4Addr,
    /// Receiving VTEP.
    pub destination: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN, as in the header.
    pub tos: u8,
    /// The Don't Fragment flag.
    pub dont_fragment: bool,
    /// UDP source port.
    pub source_port: u16,
    /// UDP checksum as sent; 0 means none.
    pub udp_checksum: u16,
    /// VXLAN flags.
    pub flags: u8,
    /// VXLAN network identifier.
    pub vni: u32,
    /// The tenant's frame, from its destination MAC on.
    pub inner: Vec<u8>,
}

impl Vxlan {
    /// A frame from one host's uplink to another's, as the kernel would send it but for the UDP
    /// checksum, which is filled in.
    ///
    /// # Errors
    ///
    /// When a host's MAC cannot be read or the frame is too long for IPv4.
    pub fn frame(from: &Host, to: &Host, vni: u32, inner: &[u8]) -> Result<Vec<u8>> {
        let [_, vni @ ..] = vni.to_be_bytes();
        let payload = [&[0x08, 0, 0, 0][..], &vni, &[0], inner].concat();
        let builder = PacketBuilder::ethernet2(from.mac()?, to.mac()?)
            .ipv4(from.address().octets(), to.address().octets(), 64)
            .udp(50000, VXLAN_PORT);
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut frame, &payload)?;
        Ok(frame)
    }

    /// The parts of a VXLAN frame over IPv4; `None` for any other frame.
    pub fn parse(frame: &Frame) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(&frame.bytes).ok()?;
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) =
            (packet.net, packet.transport)
        else {
            return None;
        };
        if udp.destination_port() != VXLAN_PORT {
            return None;
        }
        let (&[flags, _, _, _, v0, v1, v2, _], inner) = udp.payload().split_first_chunk::<8>()?;
        Some(Self {
            source: ip.header().source_addr(),
            destination: ip.header().destination_addr(),
            ttl: ip.header().ttl(),
            tos: (ip.header().dcp().value() << 2) | ip.header().ecn().value(),
            dont_fragment: ip.header().dont_fragment(),
            source_port: udp.source_port(),
            udp_checksum: udp.checksum(),
            flags,
            vni: u32::from_be_bytes([0, v0, v1, v2]),
            inner: inner.to_vec(),
        })
    }
}
