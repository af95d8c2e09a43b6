//! The source filter of ports with declared endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vtep_common::{
    DropReason, Mac,
    abi::{FdbFlags, FdbWord, GuardFlags, PortFlags, link_local},
};

use crate::{
    frames::{advertisement, arp, ethernet, icmp6, ip6, solicitation, solicited_node, udp4, udp6},
    rig::*,
};

const IP1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const IP2: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const STRANGER: Mac = Mac([0x02, 0, 0, 0, 0, 0x77]);

/// VM1 is declared with 10.0.0.1 and an IPv6 address.
fn guarded() -> Rig {
    let mut rig = Rig::new();
    rig.port(
        SLOT1,
        LOOPBACK,
        BLUE,
        PortFlags::ACTIVE.with(PortFlags::GUARDED),
    );
    rig.guard_mac(SLOT1, VM1, GuardFlags::ADDRESSES);
    for address in [IpAddr::from(IP1), ip6(1).into()] {
        rig.guard(SLOT1, address, VM1);
    }
    rig
}

/// Without addresses.
fn guarded_mac_only() -> Rig {
    let mut rig = guarded();
    rig.guard_mac(SLOT1, VM1, GuardFlags::default());
    rig
}

/// A frame whose bytes at `at` are others.
fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn from4(source: Ipv4Addr) -> Vec<u8> {
    with(&udp4(VM1, VM9, 10), 26, &source.octets())
}

fn from6(source: Ipv6Addr) -> Vec<u8> {
    with(&udp6(VM1, VM9, 10), 22, &source.octets())
}

fn request(sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    arp((VM1, Mac::BROADCAST), 1, sender, (Mac::ZERO, target))
}

fn option(kind: u8, mac: Mac) -> Vec<u8> {
    let mut option = vec![kind, 1];
    option.extend(mac.0);
    option
}

fn asks(source: Ipv6Addr, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let (group, mac) = solicited_node(target);
    icmp6((VM1, mac), (source, group), &solicitation(target, options))
}

fn announces(source: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let all = (Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap());
    icmp6(
        (VM1, all.0),
        (source, all.1),
        &advertisement(target, 0x20, mac),
    )
}

#[track_caller]
fn assert_passed(rig: &mut Rig, frame: &[u8]) {
    let run = rig.access(frame);
    assert!(run.drops.is_empty(), "{:?}", run.drops);
}

#[test]
fn a_strange_mac_is_dropped_and_not_reported() {
    let mut rig = guarded();
    for frame in [
        udp4(STRANGER, VM9, 10),
        ethernet(STRANGER, Mac::BROADCAST, 0x8035, &[0; 46]),
        arp((STRANGER, Mac::BROADCAST), 1, (VM1, IP1), (Mac::ZERO, IP2)),
    ] {
        rig.access(&frame).assert_dropped(DropReason::SourceSpoofed);
    }
    assert!(rig.events().is_empty());
    assert_eq!(rig.port_counters(SLOT1), (3, 0, 3));
    // Declared, but on another port.
    rig.guard_mac(SLOT2, STRANGER, GuardFlags::default());
    rig.access(&udp4(STRANGER, VM9, 10))
        .assert_dropped(DropReason::SourceSpoofed);
}

/// What another VTEP claims meanwhile is reported: the VM takes its MAC back.
#[test]
fn a_declared_mac_that_is_elsewhere_passes() {
    let mut rig = guarded();
    rig.fdb(BLUE, VM1, FdbWord::new(BLUE, 1, FdbFlags::default()));
    rig.access(&from4(IP1)).assert_verdict(TC_REDIRECT);
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn ipv4_sources() {
    let mut rig = guarded();
    assert_passed(&mut rig, &from4(IP1));
    for address in [IP2, Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        rig.access(&from4(address))
            .assert_dropped(DropReason::IpSpoofed);
    }
    // A DHCP client without an address yet.
    let discover = with(&from4(Ipv4Addr::UNSPECIFIED), 0, &[0xff; 6]);
    assert_passed(&mut rig, &discover);
    // An address of another endpoint of the same port.
    rig.guard(SLOT1, IP2.into(), VM2);
    rig.access(&from4(IP2))
        .assert_dropped(DropReason::IpSpoofed);
}

#[test]
fn ipv6_sources() {
    let mut rig = guarded();
    for own in [ip6(1), link_local(VM1)] {
        assert_passed(&mut rig, &from6(own));
    }
    for strange in [ip6(2), link_local(VM2), Ipv6Addr::UNSPECIFIED] {
        rig.access(&from6(strange))
            .assert_dropped(DropReason::IpSpoofed);
    }
    // A listener report before there is an address (RFC 3590).
    let report = with(
        &from6(Ipv6Addr::UNSPECIFIED),
        0,
        &[0x33, 0x33, 0, 0, 0, 0x16],
    );
    assert_passed(&mut rig, &report);
}

#[test]
fn arp_senders() {
    let mut rig = guarded();
    assert_passed(&mut rig, &request((VM1, IP1), IP2));
    assert_passed(&mut rig, &request((VM1, IP1), IP1));
    let probe = |target| request((VM1, Ipv4Addr::UNSPECIFIED), target);
    assert_passed(&mut rig, &probe(IP1));
    let reply = arp((VM1, VM2), 2, (VM1, IP2), (VM2, IP1));
    let other_format = with(&request((VM1, IP1), IP2), 14, &[0, 6]);
    for frame in [
        request((VM1, IP2), IP1),
        request((VM2, IP1), IP2),
        request((VM1, IP2), IP2),
        // RFC 5227: a probe for somebody else's address is a claim to it.
        probe(IP2),
        reply,
        other_format,
        request((VM1, IP1), IP2)[..40].to_vec(),
    ] {
        rig.access(&frame).assert_dropped(DropReason::ArpSpoofed);
    }
    // As hypervisors send for a VM that has moved.
    let rarp = |mac: Mac| {
        let nobody = (mac, Ipv4Addr::UNSPECIFIED);
        let frame = arp((VM1, Mac::BROADCAST), 3, nobody, nobody);
        with(&frame, 12, &[0x80, 0x35])
    };
    assert_passed(&mut rig, &rarp(VM1));
    rig.access(&rarp(VM2))
        .assert_dropped(DropReason::ArpSpoofed);
}

#[test]
fn nd_claims() {
    let mut rig = guarded();
    assert_passed(&mut rig, &asks(ip6(1), ip6(50), &option(1, VM1)));
    assert_passed(&mut rig, &announces(ip6(1), ip6(1), VM1));
    assert_passed(&mut rig, &announces(link_local(VM1), ip6(1), VM1));
    // Duplicate address detection, with a nonce (RFC 7527) and without.
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    assert_passed(&mut rig, &asks(Ipv6Addr::UNSPECIFIED, ip6(1), &[]));
    assert_passed(&mut rig, &asks(Ipv6Addr::UNSPECIFIED, ip6(1), &nonce));
    // Several options, and every one of them is looked at.
    let several = |last: Mac| [&nonce[..], &option(1, VM1), &nonce, &option(2, last)].concat();
    assert_passed(&mut rig, &asks(ip6(1), ip6(50), &several(VM1)));
    let five = [&several(VM1)[..], &nonce].concat();
    let long = [14, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
    let odd = [&option(1, VM1)[..], &[0; 4]].concat();
    let cut_short = {
        let mut frame = asks(ip6(1), ip6(50), &several(VM1));
        frame.truncate(14 + 40 + 24 + 16);
        frame
    };
    let hidden = {
        // An advertisement behind destination options.
        let mut frame = announces(ip6(1), ip6(2), VM2);
        frame[20] = 60;
        frame.splice(54..54, [58, 0, 1, 4, 0, 0, 0, 0]);
        frame
    };
    for frame in [
        asks(ip6(1), ip6(50), &option(1, VM2)),
        asks(Ipv6Addr::UNSPECIFIED, ip6(50), &[]),
        announces(ip6(1), ip6(2), VM1),
        announces(ip6(1), ip6(1), VM2),
        asks(ip6(1), ip6(50), &several(VM2)),
        asks(ip6(1), ip6(50), &five),
        asks(ip6(1), ip6(50), &long),
        asks(ip6(1), ip6(50), &odd),
        cut_short,
        announces(ip6(1), ip6(1), VM1)[..80].to_vec(),
        hidden,
    ] {
        rig.access(&frame).assert_dropped(DropReason::NdSpoofed);
    }
    rig.access(&announces(ip6(2), ip6(2), VM1))
        .assert_dropped(DropReason::IpSpoofed);
}

/// Router advertisements, redirects and DHCP answers pass unless the endpoint is a client; then its
/// questions do.
#[test]
fn routers_and_dhcp_servers() {
    let mut rig = guarded();
    let router = |kind: u8| {
        let all = (Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap());
        let message = [&[kind, 0, 0, 0][..], &[0; 36]].concat();
        icmp6((VM1, all.0), (link_local(VM1), all.1), &message)
    };
    let from_port = |port: u16| with(&from4(IP1), 34, &port.to_be_bytes());
    let behind_options = {
        let mut frame = from_port(67);
        frame[14] = 0x46;
        frame.splice(34..34, [1, 1, 1, 1]);
        frame
    };
    let from_port6 = |port: u16| with(&from6(ip6(1)), 54, &port.to_be_bytes());
    let answers = [
        router(134),
        router(137),
        from_port(67),
        behind_options,
        from_port6(547),
    ];
    for frame in &answers {
        assert_passed(&mut rig, frame);
    }
    for flags in [GuardFlags::ADDRESSES, GuardFlags::default()] {
        rig.guard_mac(SLOT1, VM1, flags.with(GuardFlags::CLIENT));
        for frame in &answers {
            rig.access(frame).assert_dropped(DropReason::ServerSpoofed);
        }
        for frame in [
            router(133),
            from_port(68),
            from_port6(546),
            asks(ip6(1), ip6(50), &option(1, VM1)),
            request((VM1, IP1), IP2),
        ] {
            assert_passed(&mut rig, &frame);
        }
    }
}

#[test]
fn a_mac_without_addresses_uses_any_under_its_own_name() {
    let mut rig = guarded_mac_only();
    for frame in [
        from4(IP2),
        from6(ip6(2)),
        request((VM1, IP2), IP1),
        announces(ip6(2), ip6(2), VM1),
    ] {
        assert_passed(&mut rig, &frame);
    }
    rig.access(&request((VM2, IP2), IP1))
        .assert_dropped(DropReason::ArpSpoofed);
    rig.access(&announces(ip6(2), ip6(2), VM2))
        .assert_dropped(DropReason::NdSpoofed);
    rig.access(&udp4(STRANGER, VM9, 10))
        .assert_dropped(DropReason::SourceSpoofed);
}

/// Every truncation of what passes gets a verdict, and none of them an answer.
#[test]
fn truncations() {
    let mut rig = guarded();
    for frame in [
        request((VM1, IP1), IP2),
        announces(ip6(1), ip6(1), VM1),
        from4(IP1),
    ] {
        // `BPF_PROG_TEST_RUN` itself refuses IP frames without a whole header.
        let least = match frame[12..14] {
            [0x08, 0x00] => 34,
            [0x86, 0xdd] => 54,
            _ => 14,
        };
        for length in least..frame.len() {
            let run = rig.access(&frame[..length]);
            assert!(
                run.verdict == TC_SHOT || run.verdict == TC_REDIRECT,
                "{length}: {run:?}"
            );
        }
    }
}
