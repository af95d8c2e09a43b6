//! The source filter of a port with declared endpoints: a frame speaks for nobody but its sender.

use super::{
    Frame, arp,
    ethernet::{Header, ethertype},
    ip::{FRAGMENT_OFFSET, protocol},
    nd,
    nd::Address,
};
use crate::DropReason;

/// The modified EUI-64 link-local address of a MAC as it stands in a frame; see
/// [`link_local`](crate::abi::link_local).
#[inline(always)]
pub const fn link_local(mac_bits: u64) -> Address {
    let [a, b, c, d, e, f, ..] = mac_bits.to_le_bytes();
    [
        0xfe80_0000_u32.to_be(),
        0,
        u32::from_ne_bytes([a ^ 2, b, c, 0xff]),
        u32::from_ne_bytes([0xfe, d, e, f]),
    ]
}

/// Judges an untagged frame from a MAC that is declared. `restricted`: it may use only addresses for
/// which `owns` holds (IPv4 mapped into IPv6); its ARP and ND must name its own MAC in any case.
///
/// # Errors
/// [`DropReason::IpSpoofed`], [`DropReason::ArpSpoofed`], [`DropReason::NdSpoofed`]; also for what
/// cannot be judged, such as headers that are cut short.
#[inline(always)]
pub fn check<F: Frame>(
    frame: F,
    header: &Header,
    restricted: bool,
    owns: impl Fn(Address) -> bool,
) -> Result<(), DropReason> {
    match header.ethertype_be {
        ethertype::ARP | ethertype::RARP => {
            let message = arp::Message::parse(frame).ok_or(DropReason::ArpSpoofed)?;
            // A probe claims the address that it asks for (RFC 5227 §2.1.1).
            let claimed_be = match message.sender_be {
                0 => message.target_be,
                sender_be => sender_be,
            };
            let own = message.sender_mac == header.source
                && (!restricted || claimed_be == 0 || owns(mapped(claimed_be)));
            own.then_some(()).ok_or(DropReason::ArpSpoofed)
        }
        ethertype::IPV4 if restricted => {
            let packet = frame.view::<34>(0).ok_or(DropReason::IpSpoofed)?;
            let source_be = packet.u32::<26>();
            // Who has no address yet asks everybody (RFC 2131 §4.1, RFC 3376 §4.2.13).
            let own = source_be == 0 && header.is_group() || owns(mapped(source_be));
            own.then_some(()).ok_or(DropReason::IpSpoofed)
        }
        ethertype::IPV6 => check_v6(frame, header, restricted, owns),
        _ => Ok(()),
    }
}

/// The frame is what only a router or a DHCP server sends: a router advertisement or redirect (RFC 4861
/// §4.2, §4.5), or from a DHCP server's port (RFC 2131 §4.1, RFC 8415 §7.2). Later fragments have no
/// port, and are nothing without the first.
#[inline(always)]
pub fn serves<F: Frame>(frame: F, header: &Header) -> bool {
    match header.ethertype_be {
        ethertype::IPV4 => {
            let Some(packet) = frame.view::<34>(0) else {
                return false;
            };
            let whole = packet.u16::<20>() & FRAGMENT_OFFSET == 0;
            let port = 14 + u32::from(packet.u8::<14>() & 0x0f) * 4;
            packet.u8::<23>() == protocol::UDP
                && whole
                && matches!(frame.view::<2>(port), Some(port) if port.be16::<0>() == DHCP_SERVER)
        }
        ethertype::IPV6 => {
            let Some(packet) = frame.view::<56>(0) else {
                return false;
            };
            match packet.u8::<20>() {
                protocol::ICMPV6 => {
                    let kind = packet.u8::<54>();
                    kind == nd::kind::ROUTER_ADVERTISEMENT || kind == nd::kind::REDIRECT
                }
                protocol::UDP => packet.be16::<54>() == DHCPV6_SERVER,
                _ => false,
            }
        }
        _ => false,
    }
}

/// UDP ports.
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;

#[inline(always)]
fn check_v6<F: Frame>(
    frame: F,
    header: &Header,
    restricted: bool,
    owns: impl Fn(Address) -> bool,
) -> Result<(), DropReason> {
    let claim = nd::Claim::of(frame, header.source)?;
    if !restricted {
        return Ok(());
    }
    let source = claim.source;
    if source == [0; 4] {
        // Duplicate address detection, multicast listener reports (RFC 4862 §5.4, RFC 3590).
        if !header.is_group() {
            return Err(DropReason::IpSpoofed);
        }
    } else if !owns(source) {
        return Err(DropReason::IpSpoofed);
    }
    match claim.target {
        Some(target) if target != source && !owns(target) => Err(DropReason::NdSpoofed),
        _ => Ok(()),
    }
}

#[inline(always)]
const fn mapped(address_be: u32) -> Address {
    [0, 0, 0xffff_u32.to_be(), address_be]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;

    #[test]
    fn what_is_cut_short_is_not_believed() {
        const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
        for (ethertype_be, length) in [
            (ethertype::ARP, 42),
            (ethertype::IPV4, 34),
            (ethertype::IPV6, 54),
        ] {
            let header = Header {
                destination: MAC.to_bits(),
                source: MAC.to_bits(),
                ethertype_be,
            };
            let frame = [0; 64];
            for end in 0..length {
                assert!(check(&frame[..end], &header, true, |_| true).is_err());
            }
        }
    }

    #[test]
    fn link_local_as_in_the_tables() {
        let mac = Mac([0xfe, 1, 0x82, 3, 0x84, 0xff]);
        let octets = crate::abi::link_local(mac).octets();
        for (index, word) in link_local(mac.to_bits()).into_iter().enumerate() {
            assert_eq!(word.to_ne_bytes(), octets[index * 4..index * 4 + 4]);
        }
    }
}
