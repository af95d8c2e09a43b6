//! Which inner frames XDP may redirect to a port, and which must pass through the stack.

use super::{
    Frame,
    checksum::Sum,
    dhcp,
    ethernet::{self, ethertype},
    ip::{self, protocol},
};

/// Whether a frame, whose untagged Ethernet header is at `at`, can leave by XDP redirect and lose
/// nothing. Constant for all frames of a flow, so that none overtakes another.
///
/// TCP must pass: GRO merges it in the stack, which is worth more than the redirect. So must what
/// has a checksum that its sender left to hardware: a redirected frame has no memory of that. The
/// field then holds the folded pseudo-header sum, not complemented. And so must what DHCP servers say
/// to clients, which TC looks at.
#[inline(always)]
pub fn may_redirect<F: Frame>(frame: F, at: u32, ethertype_be: u16) -> bool {
    let packet = at + ethernet::HEADER;
    match ethertype_be {
        ethertype::IPV4 => v4(frame, packet),
        ethertype::IPV6 => v6(frame, packet),
        _ => true,
    }
}

/// The IP packet at `at` is TCP, or a fragment of it. Constant for all frames of a flow.
#[inline(always)]
pub fn is_tcp<F: Frame>(frame: F, at: u32, ethertype_be: u16) -> bool {
    let Some(packet) = frame.view::<20>(at) else {
        return false;
    };
    match ethertype_be {
        ethertype::IPV4 => packet.u8::<9>() == protocol::TCP,
        ethertype::IPV6 => packet.u8::<6>() == protocol::TCP,
        _ => false,
    }
}

#[inline(always)]
fn v4<F: Frame>(frame: F, at: u32) -> bool {
    let Some(packet) = frame.view::<28>(at) else {
        return false;
    };
    if packet.u8::<0>() != ip::V4_NO_OPTIONS
        || packet.u16::<6>() & (ip::MF | ip::FRAGMENT_OFFSET) != 0
    {
        return false;
    }
    match packet.u8::<9>() {
        protocol::ICMP => true,
        protocol::UDP => {
            let pseudo = Sum::default()
                .with(packet.u32::<12>())
                .with(packet.u32::<16>())
                .with(u16::from(protocol::UDP).to_be())
                .with(packet.u16::<24>());
            packet.u16::<26>() != pseudo.fold() && !dhcp::is_v4_to_client(packet.u32::<20>())
        }
        _ => false,
    }
}

#[inline(always)]
fn v6<F: Frame>(frame: F, at: u32) -> bool {
    let Some(packet) = frame.view::<48>(at) else {
        return false;
    };
    match packet.u8::<6>() {
        protocol::ICMPV6 => true,
        protocol::UDP => {
            let pseudo = Sum::default()
                .with(packet.u32::<8>())
                .with(packet.u32::<12>())
                .with(packet.u32::<16>())
                .with(packet.u32::<20>())
                .with(packet.u32::<24>())
                .with(packet.u32::<28>())
                .with(packet.u32::<32>())
                .with(packet.u32::<36>())
                .with(u16::from(protocol::UDP).to_be())
                .with(packet.u16::<44>());
            packet.u16::<46>() != pseudo.fold() && !dhcp::is_v6_to_client(packet.u32::<40>())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{v4, v6};

    fn redirects(frame: &[u8], ethertype_be: u16) -> bool {
        may_redirect(frame, 0, ethertype_be)
    }

    #[test]
    fn by_protocol() {
        assert!(redirects(&[0; 42], ethertype::ARP));
        for (protocol, want) in [
            (protocol::ICMP, true),
            (protocol::UDP, true),
            (protocol::TCP, false),
            (132, false),
        ] {
            assert_eq!(
                redirects(&v4(protocol), ethertype::IPV4),
                want,
                "{protocol}"
            );
        }
        for (next, want) in [
            (protocol::ICMPV6, true),
            (protocol::UDP, true),
            (protocol::TCP, false),
            (0, false),
        ] {
            assert_eq!(redirects(&v6(next), ethertype::IPV6), want, "{next}");
        }
    }

    #[test]
    fn tcp() {
        for protocol in [protocol::TCP, protocol::UDP] {
            let want = protocol == protocol::TCP;
            assert_eq!(is_tcp(&v4(protocol)[..], 14, ethertype::IPV4), want);
            assert_eq!(is_tcp(&v6(protocol)[..], 14, ethertype::IPV6), want);
        }
        assert!(!is_tcp(&v4(protocol::TCP)[..33], 14, ethertype::IPV4));
        assert!(!is_tcp(&v4(protocol::TCP)[..], 14, ethertype::ARP));
    }

    #[test]
    fn fragments_options_and_short_packets_pass() {
        let mut fragment = v4(protocol::UDP);
        fragment[20] = 0x20;
        assert!(!redirects(&fragment, ethertype::IPV4));
        let mut options = v4(protocol::ICMP);
        options[14] = 0x46;
        assert!(!redirects(&options, ethertype::IPV4));
        assert!(!redirects(&v4(protocol::UDP)[..41], ethertype::IPV4));
        assert!(!redirects(&v6(protocol::UDP)[..61], ethertype::IPV6));
    }

    /// What a veth sender with checksum offload leaves in the field.
    #[test]
    fn a_checksum_left_to_hardware_passes() {
        let mut frame = v4(protocol::UDP);
        let mut sum = 0_u32;
        for pair in frame[26..34].chunks(2).chain([&frame[38..40], &[0, 17]]) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        let folded = ((sum & 0xffff) + (sum >> 16)) as u16;
        frame[40..42].copy_from_slice(&folded.to_be_bytes());
        assert!(!redirects(&frame, ethertype::IPV4));
        frame[40..42].copy_from_slice(&(!folded).to_be_bytes());
        assert!(redirects(&frame, ethertype::IPV4));
    }
}
