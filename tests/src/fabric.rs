//! What a route reflector says of a large fabric, in bytes made here: no code shared with the agent.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::{BgpMessage, Host};

/// AS of the fabric; all is iBGP.
const ASN: u16 = 65000;
/// Type 2 routes in a message, of 39 octets each.
const IN_MESSAGE: usize = 100;

/// VTEPs that all have MACs in the same bridge domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fabric {
    /// VTEPs.
    pub vteps: u16,
    /// Bridge domains.
    pub bds: u16,
    /// MACs, with one IPv4 address each, of every VTEP in every bridge domain.
    pub macs: u16,
}

impl Fabric {
    /// AS number of the fabric.
    pub const ASN: u32 = ASN as u32;
    /// Prefix of the VTEP addresses.
    pub const PREFIX: &'static str = "198.19.0.0/16";

    /// MACs in all, each a type 2 route.
    pub fn routes(&self) -> usize {
        usize::from(self.vteps) * usize::from(self.bds) * usize::from(self.macs)
    }

    /// Makes its VTEPs reachable from a host, behind the one that announces them.
    ///
    /// # Errors
    ///
    /// When the route is refused.
    pub fn route(from: &Host, reflector: &Host) -> Result<()> {
        let via = reflector.address();
        from.ns()
            .ip(&format!("route add {} via {via}\n", Self::PREFIX))
    }

    /// Whether a MAC can be one of a fabric's, and not a VM's of the lab.
    pub fn has(mac: [u8; 6]) -> bool {
        !mac.starts_with(&[0x02, 0, 0])
    }

    /// The one that is announced last, and withdrawn last.
    pub fn last(&self) -> Station {
        Station {
            vtep: self.vteps,
            bd: self.bds,
            number: self.macs,
        }
    }

    /// VNIs of the bridge domains.
    pub fn vnis(&self) -> impl Iterator<Item = u32> + use<> {
        (1..=self.bds).map(Self::vni)
    }

    /// Address of the Nth VTEP.
    pub fn vtep(number: u16) -> Ipv4Addr {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(198, 19, high, low)
    }

    /// VNI of a bridge domain.
    pub fn vni(bd: u16) -> u32 {
        10_000 + u32::from(bd)
    }

    /// The UPDATEs that announce everything: for each VTEP and bridge domain one with the IMET route
    /// (RFC 7432 §7.3) and those with the MACs (§7.2); then End-of-RIB (RFC 4724 §2).
    pub fn announcements(&self) -> Vec<u8> {
        let mut stream = Vec::new();
        self.each(|vtep, bd| stream.extend(self.announcements_of(vtep, bd)));
        stream.extend(update(&unreach(&[])));
        stream
    }

    /// Those of one bridge domain alone, whatever its number.
    pub fn announcements_in(&self, bd: u16) -> Vec<u8> {
        let vteps = 1..=self.vteps;
        vteps
            .flat_map(|vtep| self.announcements_of(vtep, bd))
            .collect()
    }

    fn announcements_of(&self, vtep: u16, bd: u16) -> Vec<u8> {
        let address = Self::vtep(vtep);
        let tunnel = [&[0, 6][..], &label(bd), &address.octets()].concat();
        let pmsi = attribute(0xc0, 22, &tunnel);
        let imet = reach(address, &imet(address, bd));
        let mut stream = update(&[imet, common(bd, &[]), pmsi].concat());
        stream.extend(self.mac_announcements(vtep, bd));
        stream
    }

    /// Those with the MACs of one VTEP in one bridge domain.
    pub fn mac_announcements(&self, vtep: u16, bd: u16) -> Vec<u8> {
        let announce = |macs: Vec<u8>| {
            let attributes = [reach(Self::vtep(vtep), &macs), common(bd, &[])];
            update(&attributes.concat())
        };
        let parts = self.mac_routes(vtep, bd).into_iter();
        parts.flat_map(announce).collect()
    }

    /// The UPDATEs that withdraw the MACs.
    pub fn withdrawals(&self) -> Vec<u8> {
        let mut stream = Vec::new();
        self.each(|vtep, bd| stream.extend(self.mac_withdrawals(vtep, bd)));
        stream
    }

    /// Those for the MACs of one VTEP in one bridge domain.
    pub fn mac_withdrawals(&self, vtep: u16, bd: u16) -> Vec<u8> {
        let parts = self.mac_routes(vtep, bd).into_iter();
        parts.flat_map(|macs| update(&unreach(&macs))).collect()
    }

    fn each(&self, mut of: impl FnMut(u16, u16)) {
        for vtep in 1..=self.vteps {
            for bd in 1..=self.bds {
                of(vtep, bd);
            }
        }
    }

    /// MACs of a VTEP in a bridge domain: those of the Nth VTEP are 02:NN:NN:BD:MM:MM, all from 1 on.
    pub fn mac(vtep: u16, bd: u16, number: u16) -> [u8; 6] {
        let ([high, low], [n_high, n_low]) = (vtep.to_be_bytes(), number.to_be_bytes());
        [0x02, high, low, bd as u8, n_high, n_low]
    }

    /// As many routes in each part as fit into one message.
    fn mac_routes(&self, vtep: u16, bd: u16) -> Vec<Vec<u8>> {
        let route = |number: &u16| {
            let number = *number;
            Station { vtep, bd, number }.nlri(vtep)
        };
        let numbers: Vec<_> = (1..=self.macs).collect();
        numbers
            .chunks(IN_MESSAGE)
            .map(|part| part.iter().flat_map(route).collect())
            .collect()
    }
}

/// One of the MACs of a [`Fabric`], by the VTEP that has it at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// The VTEP.
    pub vtep: u16,
    /// Bridge domain.
    pub bd: u16,
    /// Its number there, from 1 on.
    pub number: u16,
}

impl Station {
    /// Its MAC.
    pub fn mac(self) -> [u8; 6] {
        Fabric::mac(self.vtep, self.bd, self.number)
    }

    /// The UPDATE of a VTEP that has it, after so many moves (RFC 7432 §7.7, §15).
    pub fn announcement(self, at: u16, moves: u32) -> Vec<u8> {
        // The MAC mobility community; without it the sequence number is 0.
        let mobility = [&[0x06, 0, 0, 0][..], &moves.to_be_bytes()].concat();
        let more = if moves > 0 { &mobility[..] } else { &[] };
        let reach = reach(Fabric::vtep(at), &self.nlri(at));
        update(&[reach, common(self.bd, more)].concat())
    }

    /// The UPDATE of a VTEP that has it no longer.
    pub fn withdrawal(self, at: u16) -> Vec<u8> {
        update(&unreach(&self.nlri(at)))
    }

    /// As a VTEP announces it (RFC 7432 §7.2).
    fn nlri(self, at: u16) -> Vec<u8> {
        let ([_, low], [n_high, n_low]) = (self.vtep.to_be_bytes(), self.number.to_be_bytes());
        let mut nlri = vec![2, 37];
        nlri.extend(rd(Fabric::vtep(at), self.bd));
        // No Ethernet segment, no tag.
        nlri.extend([0; 10 + 4]);
        nlri.push(48);
        nlri.extend(self.mac());
        nlri.extend([32, 10, low, n_high, n_low]);
        nlri.extend(label(self.bd));
        nlri
    }
}

/// A VNI in a label field (RFC 8365 §5.1.3).
fn label(bd: u16) -> [u8; 3] {
    let [_, label @ ..] = Fabric::vni(bd).to_be_bytes();
    label
}

/// Type 1: `VTEP:BD`.
fn rd(vtep: Ipv4Addr, bd: u16) -> Vec<u8> {
    [&[0, 1][..], &vtep.octets(), &bd.to_be_bytes()].concat()
}

fn imet(vtep: Ipv4Addr, bd: u16) -> Vec<u8> {
    [&[3, 17][..], &rd(vtep, bd), &[0; 4], &[32], &vtep.octets()].concat()
}

/// ORIGIN, an empty AS_PATH, LOCAL_PREF; the target `AS:VNI`, VXLAN encapsulation, and more extended
/// communities.
fn common(bd: u16, more: &[u8]) -> Vec<u8> {
    let [asn, vni] = [u32::from(ASN), Fabric::vni(bd)].map(u32::to_be_bytes);
    let target = [&[0x00, 0x02][..], asn.get(2..).unwrap_or_default(), &vni].concat();
    let vxlan = [0x03, 0x0c, 0, 0, 0, 0, 0, 8];
    [
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[]),
        attribute(0x40, 5, &[0, 0, 0, 100]),
        attribute(0xc0, 16, &[&target[..], &vxlan, more].concat()),
    ]
    .concat()
}

/// MP_REACH_NLRI of L2VPN EVPN (RFC 4760 §3).
fn reach(next_hop: Ipv4Addr, nlri: &[u8]) -> Vec<u8> {
    let head = [&[0, 25, 70, 4][..], &next_hop.octets(), &[0]].concat();
    attribute(0x80, 14, &[&head, nlri].concat())
}

/// MP_UNREACH_NLRI (RFC 4760 §4).
fn unreach(nlri: &[u8]) -> Vec<u8> {
    attribute(0x80, 15, &[&[0, 25, 70][..], nlri].concat())
}

/// A path attribute with a length of two octets.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[flags | 0x10, code], &length[..], value].concat()
}

fn update(attributes: &[u8]) -> Vec<u8> {
    BgpMessage::update(attributes).bytes()
}
