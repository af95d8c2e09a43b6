//! Which frames belong together: a hash of what is the same in all packets of a flow.

use super::{
    Frame,
    ethernet::ethertype,
    ip::{self, protocol},
};

/// The hash of an untagged frame's flow, from addresses and ports of TCP and UDP. All 32 bits depend on all of
/// them. `None` for fragments, of which not all have ports, for options and extension headers, and for
/// other protocols.
#[inline(always)]
pub fn hash<F: Frame>(frame: F, ethertype_be: u16) -> Option<u32> {
    match ethertype_be {
        ethertype::IPV4 => {
            let packet = frame.view::<38>(0)?;
            if packet.u8::<14>() != ip::V4_NO_OPTIONS
                || packet.u16::<20>() & (ip::MF | ip::FRAGMENT_OFFSET) != 0
            {
                return None;
            }
            let ends = pair(packet.u32::<26>(), packet.u32::<30>());
            let ports = with_ports(packet.u8::<23>(), packet.u32::<34>())?;
            Some(finish(mix(mix(0, ends), ports)))
        }
        ethertype::IPV6 => {
            let packet = frame.view::<58>(0)?;
            let ports = with_ports(packet.u8::<20>(), packet.u32::<54>())?;
            let source = mix(
                mix(0, pair(packet.u32::<22>(), packet.u32::<26>())),
                pair(packet.u32::<30>(), packet.u32::<34>()),
            );
            let ends = mix(
                mix(source, pair(packet.u32::<38>(), packet.u32::<42>())),
                pair(packet.u32::<46>(), packet.u32::<50>()),
            );
            Some(finish(mix(ends, ports)))
        }
        _ => None,
    }
}

/// The ports with the protocol, where the word behind the IP header is ports.
#[inline(always)]
fn with_ports(next: u8, ports: u32) -> Option<u64> {
    match next {
        protocol::TCP | protocol::UDP => Some(pair(ports, next.into())),
        _ => None,
    }
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// One round of a multiplicative hash: odd constants of MurmurHash3's finaliser (Appleby).
#[inline(always)]
const fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed >> 33
}

#[inline(always)]
const fn finish(state: u64) -> u32 {
    (state.wrapping_mul(0xc4ce_b9fe_1a85_ec53) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::wire::testing::{v4, v6};

    /// Every bit of addresses, ports and protocol counts, and nothing else does.
    #[test]
    fn what_a_flow_is() {
        for (frame, ethertype_be, flow) in [
            (v4(protocol::UDP), ethertype::IPV4, 26..38),
            (v6(protocol::UDP), ethertype::IPV6, 22..58),
        ] {
            let want = hash(&frame[..], ethertype_be).unwrap();
            let changed = |at: usize, bit: u8| {
                let mut frame = frame.clone();
                frame[at] ^= bit;
                hash(&frame[..], ethertype_be).unwrap()
            };
            for (at, bit) in flow.clone().flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                assert_ne!(changed(at, 1 << bit), want, "bit {bit} of byte {at}");
            }
            for at in [0, 6, 19, flow.end, flow.end + 4] {
                assert_eq!(changed(at, 0xff), want, "byte {at}");
            }
        }
        let of = |protocol| hash(&v4(protocol)[..], ethertype::IPV4);
        assert_ne!(of(protocol::TCP), of(protocol::UDP));
    }

    /// Both halves of the hash spread flows that differ in little: 1,000 of them over 16,384 values have
    /// some 970 different ones.
    #[test]
    fn flows_spread() {
        for change in [35, 37, 29, 33] {
            let mut frame = v4(protocol::UDP);
            let (mut low, mut high) = (HashSet::new(), HashSet::new());
            for n in 0..1000_u16 {
                frame[change - 1..=change].copy_from_slice(&n.to_be_bytes());
                let hash = hash(&frame[..], ethertype::IPV4).unwrap();
                low.insert(hash & 0x3fff);
                high.insert(hash >> 18);
            }
            let found = (low.len(), high.len());
            assert!(found.0 > 900 && found.1 > 900, "byte {change}: {found:?}");
        }
    }

    #[test]
    fn what_has_no_ports_where_they_are_looked_for() {
        let v4_with = |at: usize, value: u8| {
            let mut frame = v4(protocol::UDP);
            frame[at] = value;
            hash(&frame[..], ethertype::IPV4)
        };
        assert!(v4_with(20, 0x40).is_some(), "DF");
        for (at, value) in [(14, 0x46), (20, 0x20), (21, 1), (23, protocol::ICMP)] {
            assert_eq!(v4_with(at, value), None, "{value:#x} at {at}");
        }
        assert_eq!(hash(&v6(protocol::FRAGMENT)[..], ethertype::IPV6), None);
        assert_eq!(hash(&v4(protocol::UDP)[..37], ethertype::IPV4), None);
        assert_eq!(hash(&v6(protocol::UDP)[..57], ethertype::IPV6), None);
        assert_eq!(hash(&v4(protocol::UDP)[..], ethertype::ARP), None);
    }
}
