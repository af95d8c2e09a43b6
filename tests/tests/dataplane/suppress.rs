//! ARP and ND suppression (RFC 9161).

use std::net::{Ipv4Addr, Ipv6Addr};

use vtep_common::{
    DropReason, Mac,
    abi::{BdFlags, FdbFlags, FdbWord, NeighborFlags},
};

use crate::{
    frames::{arp, icmp6, icmp6_checksum, ip6, solicitation, solicited_node, udp4},
    rig::*,
};

const IP1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const IP9: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

fn request(source: Mac, spa: Ipv4Addr, tpa: Ipv4Addr) -> Vec<u8> {
    arp((source, Mac::BROADCAST), 1, (source, spa), (Mac::ZERO, tpa))
}

/// Flooded to the other local port and both VTEPs, none of it answered.
#[track_caller]
fn assert_flooded(rig: &mut Rig, frame: &[u8]) {
    let (arp_before, nd_before, copies) = rig.bd_counters(BLUE.bd);
    let run = rig.access(frame);
    assert!(run.drops.is_empty(), "{:?}", run.drops);
    assert_eq!(
        rig.bd_counters(BLUE.bd),
        (arp_before, nd_before, copies + 3)
    );
}

/// PX-001, PX-006.
#[test]
fn arp_requests_for_known_addresses_are_answered() {
    let mut rig = Rig::new();
    rig.neighbor(BLUE.bd, IP9.into(), VM9, NeighborFlags::default());
    for spa in [IP1, Ipv4Addr::UNSPECIFIED] {
        let run = rig.access(&request(VM1, spa, IP9));
        run.assert_verdict(TC_REDIRECT);
        assert_eq!(run.bytes, arp((VM9, VM1), 2, (VM9, IP9), (VM1, spa)));
    }
    assert_eq!(rig.bd_counters(BLUE.bd), (2, 0, 0));
    assert_eq!(rig.port_counters(SLOT1).1, 2);
}

/// PX-002.
#[test]
fn arp_requests_for_unknown_addresses_are_flooded() {
    let mut rig = Rig::new();
    assert_flooded(&mut rig, &request(VM1, IP1, IP9));
    rig.neighbor(RED.bd, IP9.into(), VM9, NeighborFlags::default());
    assert_flooded(&mut rig, &request(VM1, IP1, IP9));
}

/// C4.6 (RFC 9161 §3.6): where it is asked for, requests for addresses that nobody has go nowhere;
/// what announces goes on.
#[test]
fn requests_for_unknown_addresses_may_be_dropped() {
    let mut rig = Rig::new();
    rig.neighbor(BLUE.bd, IP9.into(), VM9, NeighborFlags::default());
    rig.blue_policy(default_policy().with(BdFlags::DROP_UNKNOWN_NEIGHBORS));
    let unknown = Ipv4Addr::new(10, 0, 0, 50);
    rig.access(&request(VM1, IP1, unknown))
        .assert_dropped(DropReason::UnknownNeighbor);
    let (group, mac) = solicited_node(ip6(50));
    let asks = solicitation(ip6(50), &[1, 1, 2, 0, 0, 0, 0, 1]);
    rig.access(&icmp6((VM1, mac), (ip6(1), group), &asks))
        .assert_dropped(DropReason::UnknownNeighbor);
    rig.access(&request(VM1, IP1, IP9))
        .assert_verdict(TC_REDIRECT);
    let (arp_before, nd_before, copies) = rig.bd_counters(BLUE.bd);
    let run = rig.access(&request(VM1, IP1, IP1));
    assert!(run.drops.is_empty(), "gratuitous: {:?}", run.drops);
    let after = rig.bd_counters(BLUE.bd);
    assert_eq!(after, (arp_before, nd_before, copies + 3));
}

/// PX-003, PX-004, PX-007.
#[test]
fn arp_that_must_not_be_answered() {
    let mut rig = Rig::new();
    // The entry is on the asker's own port.
    let neighbour = Mac([2, 0, 0, 0, 0, 0x12]);
    rig.fdb(BLUE, neighbour, FdbWord::new(BLUE, SLOT1, FdbFlags::LOCAL));
    rig.neighbor(BLUE.bd, IP9.into(), neighbour, NeighborFlags::default());
    assert_flooded(&mut rig, &request(VM1, IP1, IP9));
    // Gratuitous.
    rig.neighbor(BLUE.bd, IP1.into(), VM9, NeighborFlags::default());
    assert_flooded(&mut rig, &request(VM1, IP1, IP1));
    // A VM that has just moved here probes for its own address.
    rig.neighbor(BLUE.bd, IP1.into(), VM1, NeighborFlags::default());
    assert_flooded(&mut rig, &request(VM1, Ipv4Addr::UNSPECIFIED, IP1));
    // Suppression off.
    rig.neighbor(BLUE.bd, IP9.into(), VM9, NeighborFlags::default());
    rig.blue_policy(default_policy_without(BdFlags::SUPPRESS));
    assert_flooded(&mut rig, &request(VM1, IP1, IP9));
}

/// PX-017, PX-019: nobody answers for a duplicate or anycast address; its owners are asked, also where
/// unknown addresses are not asked for.
#[test]
fn addresses_that_answer_for_themselves() {
    let mut rig = Rig::new();
    rig.blue_policy(default_policy().with(BdFlags::DROP_UNKNOWN_NEIGHBORS));
    rig.neighbor(BLUE.bd, IP9.into(), VM9, NeighborFlags::WITHHELD);
    for spa in [IP1, Ipv4Addr::UNSPECIFIED] {
        assert_flooded(&mut rig, &request(VM1, spa, IP9));
    }
    let withheld = NeighborFlags::OVERRIDE.with(NeighborFlags::WITHHELD);
    rig.neighbor6(ip6(9), VM9, withheld);
    let (group, mac) = solicited_node(ip6(9));
    for source in [ip6(1), Ipv6Addr::UNSPECIFIED] {
        let ns = icmp6((VM1, mac), (source, group), &solicitation(ip6(9), &[]));
        assert_flooded(&mut rig, &ns);
    }
}

/// PX-020 (RFC 9161 §3.4): a request for a known address goes to its owner alone, as it is but for its
/// destination; one for an unknown address to all.
#[test]
fn px_020_requests_may_go_to_the_owner() {
    let mut rig = Rig::new();
    let (group, mac) = solicited_node(ip6(9));
    let arp_request = request(VM1, IP1, IP9);
    let asks = |options: &[u8]| icmp6((VM1, mac), (ip6(1), group), &solicitation(ip6(9), options));
    let plain = asks(&sllao(VM1));
    let nonce = asks(&[14, 1, 1, 2, 3, 4, 5, 6]);
    let options = default_policy().with(BdFlags::FORWARD_OPTIONS);
    let always = options.with(BdFlags::FORWARD_REQUESTS);
    rig.blue_policy(always);
    for frame in [&arp_request, &plain, &nonce] {
        assert_flooded(&mut rig, frame);
    }
    let known = NeighborFlags::OVERRIDE;
    rig.neighbor(BLUE.bd, IP9.into(), VM9, known);
    rig.neighbor6(ip6(9), VM9, known);
    let before = rig.bd_counters(BLUE.bd);
    let assert_to_owner = |rig: &mut Rig, frame: &[u8]| {
        let run = rig.access(frame);
        run.assert_verdict(TC_REDIRECT);
        assert_eq!(run.bytes[50..], [&VM9.0[..], &frame[6..]].concat());
    };
    for frame in [&arp_request, &plain, &nonce] {
        assert_to_owner(&mut rig, frame);
    }
    rig.blue_policy(options);
    assert_to_owner(&mut rig, &nonce);
    assert_eq!(
        rig.bd_counters(BLUE.bd),
        before,
        "nothing answered, nothing flooded"
    );
    rig.access(&arp_request).assert_verdict(TC_REDIRECT);
    rig.access(&plain).assert_verdict(TC_REDIRECT);
    let (arp, nd, copies) = rig.bd_counters(BLUE.bd);
    assert_eq!((arp, nd, copies), (before.0 + 1, before.1 + 1, before.2));
    // A VM that has just moved here asks for its own address.
    rig.neighbor6(ip6(9), VM1, known);
    rig.blue_policy(always);
    assert_flooded(&mut rig, &nonce);
}

fn default_policy_without(flag: BdFlags) -> BdFlags {
    BdFlags(default_policy().0 & !flag.0)
}

/// PX-010 (RFC 9161 §3.3): unicast requests (NUD) are forwarded to who is asked.
#[test]
fn unicast_requests_are_forwarded() {
    let mut rig = Rig::new();
    rig.neighbor(BLUE.bd, IP9.into(), VM9, NeighborFlags::default());
    let frame = arp((VM1, VM9), 1, (VM1, IP1), (VM9, IP9));
    let run = rig.access(&frame);
    run.assert_verdict(TC_REDIRECT);
    assert_eq!(run.bytes[50..], frame);
    rig.neighbor6(ip6(9), VM9, NeighborFlags::default());
    let frame = icmp6((VM1, VM9), (ip6(1), ip6(9)), &solicitation(ip6(9), &[]));
    assert_eq!(rig.access(&frame).bytes[50..], frame);
    assert_eq!(rig.bd_counters(BLUE.bd), (0, 0, 0));
}

fn sllao(mac: Mac) -> Vec<u8> {
    [&[1, 1][..], &mac.0].concat()
}

/// PX-008, PX-013.
#[test]
fn solicitations_for_known_addresses_are_answered() {
    let mut rig = Rig::new();
    let (group, mac) = solicited_node(ip6(9));
    for (flags, wire) in [
        (NeighborFlags::OVERRIDE, 0x60),
        (NeighborFlags::OVERRIDE.with(NeighborFlags::ROUTER), 0xe0),
        (NeighborFlags::default(), 0x40),
    ] {
        rig.neighbor6(ip6(9), VM9, flags);
        let ns = icmp6(
            (VM1, mac),
            (ip6(1), group),
            &solicitation(ip6(9), &sllao(VM1)),
        );
        let run = rig.access(&ns);
        run.assert_verdict(TC_REDIRECT);
        assert_advertisement(&run.bytes, VM1, (ip6(9), ip6(1)), wire);
    }
    assert_eq!(rig.bd_counters(BLUE.bd).1, 3);
}

/// PX-009, PX-007.
#[test]
fn duplicate_address_detection() {
    let mut rig = Rig::new();
    let (group, mac) = solicited_node(ip6(9));
    let dad = icmp6(
        (VM1, mac),
        (Ipv6Addr::UNSPECIFIED, group),
        &solicitation(ip6(9), &[]),
    );
    rig.neighbor6(ip6(9), VM9, NeighborFlags::OVERRIDE);
    let run = rig.access(&dad);
    run.assert_verdict(TC_REDIRECT);
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    assert_advertisement(
        &run.bytes,
        Mac([0x33, 0x33, 0, 0, 0, 1]),
        (ip6(9), all_nodes),
        0x20,
    );
    rig.neighbor6(ip6(9), VM1, NeighborFlags::OVERRIDE);
    assert_flooded(&mut rig, &dad);
}

/// PX-022: a DHCP discovery goes to everybody, as it is.
#[test]
fn dhcp_discoveries_are_flooded() {
    let mut rig = Rig::new();
    let mut frame = udp4(VM1, Mac::BROADCAST, 244);
    frame[26..30].fill(0);
    frame[30..34].fill(0xff);
    frame[34..38].copy_from_slice(&[0, 68, 0, 67]);
    assert_flooded(&mut rig, &frame);
}

/// PX-011: options that we do not know may be a question that only the owner can answer.
#[test]
fn solicitations_with_other_options_are_flooded() {
    let mut rig = Rig::new();
    let (group, mac) = solicited_node(ip6(9));
    rig.neighbor6(ip6(9), VM9, NeighborFlags::OVERRIDE);
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    for options in [nonce.to_vec(), [sllao(VM1), nonce.to_vec()].concat()] {
        let ns = icmp6((VM1, mac), (ip6(1), group), &solicitation(ip6(9), &options));
        assert_flooded(&mut rig, &ns);
    }
    let mut wrong_hop_limit = icmp6(
        (VM1, mac),
        (ip6(1), group),
        &solicitation(ip6(9), &sllao(VM1)),
    );
    wrong_hop_limit[21] = 64;
    assert_flooded(&mut rig, &wrong_hop_limit);
}

#[track_caller]
fn assert_advertisement(
    frame: &[u8],
    to: Mac,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    flags: u8,
) {
    assert_eq!(frame.len(), 14 + 40 + 32);
    assert_eq!(frame[0..6], to.0);
    assert_eq!(frame[6..12], VM9.0);
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    assert_eq!(u16::from_be_bytes([frame[18], frame[19]]), 32);
    assert_eq!((frame[20], frame[21]), (58, 255));
    assert_eq!(frame[22..38], source.octets());
    assert_eq!(frame[38..54], destination.octets());
    let message = &frame[54..];
    assert_eq!((message[0], message[1], message[4]), (136, 0, flags));
    assert_eq!(message[8..24], source.octets());
    assert_eq!(message[24..26], [2, 1]);
    assert_eq!(message[26..32], VM9.0);
    assert_eq!(icmp6_checksum(source, destination, message), 0);
}
