//! Inclusive multicast routes as a scripted peer sends them.

use std::net::Ipv4Addr;

use crate::BgpMessage;

/// An inclusive multicast route of a VTEP (RFC 7432 §7.3, RFC 8365 §9) for VNI 100, target 65000:100.
#[derive(Clone, Copy, Debug)]
pub struct Imet {
    /// The VTEP: next hop and originator.
    pub address: Ipv4Addr,
    /// Type of its tunnel: 6 for ingress replication, 10 for a replicator (RFC 9574 §4).
    pub tunnel: u8,
    /// Flags of its tunnel attribute.
    pub flags: u8,
}

impl Imet {
    /// Of a VTEP that knows nothing but ingress replication.
    pub fn new(address: Ipv4Addr) -> Self {
        Self {
            address,
            tunnel: 6,
            flags: 0,
        }
    }

    /// The UPDATE that announces it.
    pub fn announce(&self) -> BgpMessage {
        let address = self.address.octets();
        let reach = [&[0, 25, 70, 4][..], &address, &[0], &self.nlri()].concat();
        let communities = [
            0x00, 0x02, 0xfd, 0xe8, 0, 0, 0, 100, 0x03, 0x0c, 0, 0, 0, 0, 0, 8,
        ];
        // The label is the VNI (RFC 8365 §5.1.3).
        let tunnel = [&[self.flags, self.tunnel, 0, 0, 100][..], &address].concat();
        let attributes = [
            attribute(0x80, 14, &reach),
            attribute(0x40, 1, &[0]),
            attribute(0x40, 2, &[]),
            attribute(0x40, 5, &[0, 0, 0, 100]),
            attribute(0xc0, 16, &communities),
            attribute(0xc0, 22, &tunnel),
        ];
        BgpMessage::update(&attributes.concat())
    }

    /// The UPDATE that withdraws it.
    pub fn withdraw(&self) -> BgpMessage {
        let unreach = [&[0, 25, 70][..], &self.nlri()].concat();
        BgpMessage::update(&attribute(0x80, 15, &unreach))
    }

    fn nlri(&self) -> Vec<u8> {
        let address = self.address.octets();
        [
            &[3, 17, 0, 1][..],
            &address,
            &[0, 100, 0, 0, 0, 0, 32],
            &address,
        ]
        .concat()
    }
}

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, code, value.len() as u8][..], value].concat()
}
