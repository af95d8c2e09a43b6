//! The headers that encapsulation puts in front of a frame (RFC 7348 §5).

use super::{BytesMut, View, checksum::Sum, ethernet::ethertype, ip};

/// Outer Ethernet (untagged), IPv4, UDP and VXLAN headers together.
pub const LENGTH: u32 = 50;
/// The same without outer Ethernet: what the inner frame adds to, within the underlay's MTU.
pub const IP_OVERHEAD: u32 = 36;
/// Offset of the VXLAN header's end from the start of the IP header.
pub const INNER: u32 = IP_OVERHEAD;

/// Hop limit of outer headers.
const TTL: u8 = 64;
/// The I flag: the VNI is valid.
pub const VNI_VALID: u8 = 0x08;
/// Source ports are taken from the dynamic range (RFC 7348 §5): 49152 and 14 bits of the flow's hash.
const SOURCE_PORT_BASE: u16 = 0xc000;

/// The fields of the outer headers that differ from frame to frame.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Outer Ethernet destination, as [`Mac::to_bits`](crate::Mac::to_bits).
    pub destination_mac: u64,
    /// Outer Ethernet source.
    pub source_mac: u64,
    /// Our VTEP address.
    pub source_be: u32,
    /// The remote VTEP's address.
    pub destination_be: u32,
    /// IPv4 identification. Rises by one per packet: a constant would keep the receiver from merging
    /// what is inside.
    pub id: u16,
    /// ECN codepoint, already decided (RFC 6040 §4.1).
    pub ecn: u8,
    /// Length of the inner frame, bytes.
    pub frame: u32,
    /// The flow's hash: selects the source port.
    pub hash: u32,
    /// UDP destination port in wire order.
    pub port_be: u16,
    /// The VNI.
    pub vni: u32,
}

impl Outer {
    /// Writes all 50 bytes. The UDP checksum is zero (RFC 7348 §5, RFC 8365 §5.1).
    #[inline(always)]
    pub fn write<B: BytesMut, const N: usize>(&self, to: View<B, N>) {
        to.set_mac::<0, 4>(self.destination_mac);
        to.set_mac::<6, 10>(self.source_mac);
        to.set_u16::<12>(ethertype::IPV4);

        // Only a GSO frame can be longer than the field; its segments get lengths of their own.
        let total = saturate(self.frame + IP_OVERHEAD);
        let first = word(ip::V4_NO_OPTIONS, self.ecn);
        let length = total.to_be();
        let id = self.id.to_be();
        let ttl = word(TTL, ip::protocol::UDP);
        let check = Sum::default()
            .with(first)
            .with(length)
            .with(id)
            .with(ip::DF)
            .with(ttl)
            .with(self.source_be)
            .with(self.destination_be)
            .checksum();
        to.set_u16::<14>(first);
        to.set_u16::<16>(length);
        to.set_u16::<18>(id);
        to.set_u16::<20>(ip::DF);
        to.set_u16::<22>(ttl);
        to.set_u16::<24>(check);
        // Halves, since the addresses lie 2 bytes off a word: bytes 26–29 and 30–33.
        to.set_u32::<26>(self.source_be);
        to.set_u32::<30>(self.destination_be);

        to.set_u16::<34>((SOURCE_PORT_BASE | (self.hash & 0x3fff) as u16).to_be());
        to.set_u16::<36>(self.port_be);
        to.set_u16::<38>((total - ip::V4_HEADER as u16).to_be());
        to.set_u16::<40>(0);

        to.set_u32::<42>((u32::from(VNI_VALID) << 24).to_be());
        to.set_u32::<46>((self.vni << 8).to_be());
    }
}

/// Two bytes in wire order as one loaded word.
const fn word(first: u8, second: u8) -> u16 {
    u16::from_ne_bytes([first, second])
}

const fn saturate(length: u32) -> u16 {
    if length > 0xffff {
        0xffff
    } else {
        length as u16
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::{Mac, wire::Frame};

    #[test]
    fn golden() {
        let mut bytes = [0xaa; 50];
        let cells = Cell::from_mut(&mut bytes[..]).as_slice_of_cells();
        Outer {
            destination_mac: Mac([2, 0, 0, 0, 1, 2]).to_bits(),
            source_mac: Mac([2, 0, 0, 0, 1, 1]).to_bits(),
            source_be: u32::from_ne_bytes([192, 0, 2, 1]),
            destination_be: u32::from_ne_bytes([192, 0, 2, 2]),
            id: 0x1234,
            ecn: 0b10,
            frame: 60,
            hash: 0xffff_0001,
            port_be: 4789_u16.to_be(),
            vni: 0x01_0203,
        }
        .write(cells.view::<50>(0).unwrap());
        #[rustfmt::skip]
        let want = [
            2, 0, 0, 0, 1, 2,  2, 0, 0, 0, 1, 1,  0x08, 0x00,
            0x45, 0x02, 0, 96,  0x12, 0x34, 0x40, 0x00,  64, 17, 0x00, 0x00,
            192, 0, 2, 1,  192, 0, 2, 2,
            0xc0, 0x01, 0x12, 0xb5, 0, 76, 0, 0,
            0x08, 0, 0, 0,  0x01, 0x02, 0x03, 0,
        ];
        let mut got = bytes;
        got[24..26].fill(0);
        assert_eq!(got, want);
        assert!(super::super::checksum::ipv4_header_is_valid(
            (&bytes[14..]).view::<20>(0).unwrap()
        ));
    }

    #[test]
    fn a_length_that_does_not_fit_saturates() {
        assert_eq!(saturate(0x1_0000), 0xffff);
    }
}
