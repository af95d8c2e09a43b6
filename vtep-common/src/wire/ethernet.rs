//! Ethernet headers.

use super::{Bytes, View};
use crate::DropReason;

/// Length of an untagged header.
pub const HEADER: u32 = 14;
/// Length of one VLAN tag.
pub const TAG: u32 = 4;

/// EtherTypes in wire order, as loaded without a swap.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800_u16.to_be();
    /// ARP.
    pub const ARP: u16 = 0x0806_u16.to_be();
    /// Reverse ARP (RFC 903), as hypervisors send for a VM that has just moved.
    pub const RARP: u16 = 0x8035_u16.to_be();
    /// 802.1Q customer tag.
    pub const C_TAG: u16 = 0x8100_u16.to_be();
    /// IPv6.
    pub const IPV6: u16 = 0x86dd_u16.to_be();
    /// 802.1ad service tag.
    pub const S_TAG: u16 = 0x88a8_u16.to_be();

    /// A VLAN tag follows.
    pub const fn is_tag(ethertype_be: u16) -> bool {
        ethertype_be == C_TAG || ethertype_be == S_TAG
    }
}

/// The three fields of an untagged header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// As [`Mac::to_bits`](crate::Mac::to_bits).
    pub destination: u64,
    /// As [`Mac::to_bits`](crate::Mac::to_bits).
    pub source: u64,
    /// EtherType or length, in wire order.
    pub ethertype_be: u16,
}

impl Header {
    /// Reads the header at the start of a view.
    #[inline(always)]
    pub fn read<B: Bytes, const N: usize>(view: View<B, N>) -> Self {
        Self {
            destination: view.mac::<0, 4>(),
            source: view.mac::<6, 10>(),
            ethertype_be: view.u16::<12>(),
        }
    }

    /// The destination is a group address.
    #[inline(always)]
    pub const fn is_group(&self) -> bool {
        is_group(self.destination)
    }

    /// What no frame may have, from the overlay or from a port: a source that is no station, one
    /// address for both, or a link-local control destination (802.1Q §8.6.3).
    #[inline(always)]
    pub const fn check(&self) -> Result<(), DropReason> {
        if !is_station(self.source) {
            Err(DropReason::InvalidSource)
        } else if self.source == self.destination {
            Err(DropReason::SourceIsDestination)
        } else if is_link_local_control(self.destination) {
            Err(DropReason::LinkLocalControl)
        } else {
            Ok(())
        }
    }
}

/// `ff:ff:ff:ff:ff:ff` as bits.
pub const BROADCAST: u64 = 0xffff_ffff_ffff;

/// Group bit of an address given as bits.
pub const fn is_group(mac: u64) -> bool {
    mac & 1 != 0
}

/// Neither a group address nor zero.
pub const fn is_station(mac: u64) -> bool {
    !is_group(mac) && mac != 0
}

/// `01-80-C2-00-00-00` to `-0F`.
const fn is_link_local_control(mac: u64) -> bool {
    mac & 0xf0ff_ffff_ffff == 0x0000_00c2_8001
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;

    fn header(destination: [u8; 6], source: [u8; 6]) -> Header {
        Header {
            destination: Mac(destination).to_bits(),
            source: Mac(source).to_bits(),
            ethertype_be: ethertype::IPV4,
        }
    }

    #[test]
    fn bits_and_mac_agree() {
        for last in 0..=0xff {
            let mac = Mac([0x01, 0x80, 0xc2, 0, 0, last]);
            assert_eq!(
                is_link_local_control(mac.to_bits()),
                mac.is_link_local_control(),
                "{mac}"
            );
        }
        for first in 0..=0xff {
            let mac = Mac([first, 0, 0, 0, 0, 0]);
            assert_eq!(is_station(mac.to_bits()), mac.is_station(), "{mac}");
        }
    }

    #[test]
    fn refused_addresses() {
        const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
        const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
        assert_eq!(header(A, B).check(), Ok(()));
        assert_eq!(header(A, A).check(), Err(DropReason::SourceIsDestination));
        assert_eq!(header(A, [0; 6]).check(), Err(DropReason::InvalidSource));
        assert_eq!(header(A, [0xff; 6]).check(), Err(DropReason::InvalidSource));
        let bpdu = [0x01, 0x80, 0xc2, 0, 0, 0];
        assert_eq!(header(bpdu, B).check(), Err(DropReason::LinkLocalControl));
    }
}
