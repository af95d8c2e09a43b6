//! From a port: source check, learning, and that nothing ever reaches the host.

use std::net::Ipv4Addr;

use vtep_common::{
    DropReason, Mac,
    abi::{
        BdFlags, EventKind, FdbFlags, FdbWord, NeighborFlags, PROBE_MAC, PortEntry, PortFlags, Stat,
    },
};

use crate::{
    frames::{advertisement, arp, ethernet, icmp6, ip6, solicitation, solicited_node, udp4},
    rig::*,
};

const STRANGER: Mac = Mac([0x02, 0, 0, 0, 0, 0x77]);

#[test]
fn refused_sources_and_destinations() {
    let mut rig = Rig::new();
    for (frame, reason) in [
        (udp4(Mac::ZERO, VM9, 10), DropReason::InvalidSource),
        (udp4(Mac::BROADCAST, VM9, 10), DropReason::InvalidSource),
        (udp4(VM1, VM1, 10), DropReason::SourceIsDestination),
        (
            udp4(VM1, Mac([1, 0x80, 0xc2, 0, 0, 0]), 10),
            DropReason::LinkLocalControl,
        ),
        (
            udp4(VM1, Mac([1, 0x80, 0xc2, 0, 0, 0x0e]), 10),
            DropReason::LinkLocalControl,
        ),
    ] {
        rig.access(&frame).assert_dropped(reason);
    }
    assert_eq!(rig.port_counters(SLOT1), (5, 0, 5));
}

#[test]
fn a_port_without_bridge_domain_forwards_nothing() {
    let mut rig = Rig::new();
    rig.port(SLOT1, LOOPBACK, RED, PortFlags::ACTIVE);
    rig.access(&udp4(VM1, VM9, 10))
        .assert_dropped(DropReason::StaleEntry);
}

#[test]
fn a_new_source_is_reported_and_forwarded() {
    let mut rig = Rig::new();
    let run = rig.access(&udp4(STRANGER, VM9, 10));
    run.assert_verdict(TC_REDIRECT);
    let events = rig.events();
    assert_eq!(events.len(), 1);
    let event = events[0];
    assert_eq!(event.kind(), Some(EventKind::Mac));
    assert_eq!(
        (event.mac, event.slot, event.bd, event.vlan),
        (STRANGER, SLOT1, BLUE, 0)
    );
    // Known here: stamped, not reported.
    rig.access(&udp4(VM1, VM9, 10));
    assert!(rig.events().is_empty());
    assert_eq!(rig.seen(BLUE, VM1), 77);
}

#[test]
fn a_source_that_is_elsewhere_is_a_move() {
    let mut rig = Rig::new();
    for (mac, word) in [
        (VM2, FdbWord::new(BLUE, SLOT2, FdbFlags::LOCAL)),
        (STRANGER, FdbWord::new(BLUE, 1, FdbFlags::default())),
    ] {
        rig.fdb(BLUE, mac, word);
        rig.access(&udp4(mac, VM9, 10)).assert_verdict(TC_REDIRECT);
        assert_eq!(
            rig.events()
                .iter()
                .map(|event| event.mac)
                .collect::<Vec<_>>(),
            [mac]
        );
        let pinned = FdbWord::new(
            BLUE,
            word.target(),
            FdbFlags(word.flags().0 | FdbFlags::PINNED.0),
        );
        rig.fdb(BLUE, mac, pinned);
        rig.access(&udp4(mac, VM9, 10))
            .assert_dropped(DropReason::SourceSpoofed);
        assert!(rig.events().is_empty());
    }
    rig.fdb(
        BLUE,
        VM1,
        FdbWord::new(BLUE, SLOT1, FdbFlags::LOCAL.with(FdbFlags::BLACK_HOLE)),
    );
    rig.access(&udp4(VM1, VM9, 10))
        .assert_dropped(DropReason::BlackHole);
}

/// C4.5: an answer to the agent is a sign of life of a MAC that is known, too; it ends here.
#[test]
fn answers_to_the_agent() {
    let ip = Ipv4Addr::new(10, 0, 0, 1);
    let mut rig = Rig::new();
    rig.neighbor(BLUE.bd, ip.into(), VM1, NeighborFlags::default());
    rig.neighbor(BLUE.bd, ip6(1).into(), VM1, NeighborFlags::default());
    let link_local = "fe80::76:74ff:fe65:7000".parse().unwrap();
    let answers = [
        arp(
            (VM1, PROBE_MAC),
            2,
            (VM1, ip),
            (PROBE_MAC, Ipv4Addr::UNSPECIFIED),
        ),
        icmp6(
            (VM1, PROBE_MAC),
            (ip6(1), link_local),
            &advertisement(ip6(1), 0x60, VM1),
        ),
    ];
    for (answer, kind) in answers.iter().zip([EventKind::Arp, EventKind::Na]) {
        let run = rig.access(answer);
        run.assert_verdict(TC_SHOT);
        assert!(run.drops.is_empty(), "{:?}", run.drops);
        let events = rig.events();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].kind(), events[0].mac), (Some(kind), VM1));
    }
    assert_eq!(rig.seen(BLUE, VM1), 77);
    assert_eq!(rig.bd_counters(BLUE.bd), (0, 0, 0), "not flooded");
    // Nothing else that is sent there goes anywhere.
    let run = rig.access(&udp4(VM1, PROBE_MAC, 10));
    run.assert_verdict(TC_SHOT);
    assert!(run.drops.is_empty() && rig.events().is_empty());
}

#[test]
fn mac_limit() {
    let mut rig = Rig::new();
    rig.port(
        SLOT1,
        LOOPBACK,
        BLUE,
        PortFlags::ACTIVE.with(PortFlags::MAC_LIMIT),
    );
    rig.access(&udp4(STRANGER, VM9, 10))
        .assert_dropped(DropReason::MacLimit);
    rig.access(&udp4(VM1, VM9, 10)).assert_verdict(TC_REDIRECT);
    assert!(rig.events().is_empty());
}

#[test]
fn learning_off_and_learning_budget() {
    let mut rig = Rig::new();
    rig.blue_policy(BdFlags::ACTIVE);
    rig.access(&udp4(STRANGER, VM9, 10))
        .assert_verdict(TC_REDIRECT);
    assert!(rig.events().is_empty());
    rig.blue_policy(default_policy());
    let entry = PortEntry {
        ifindex: LOOPBACK,
        bd: BLUE,
        flags: PortFlags::ACTIVE,
        learn_rate: 4,
        ..PortEntry::default()
    };
    rig.port_entry(SLOT1, entry);
    for n in 0..40 {
        rig.access(&udp4(Mac([2, 1, 1, 1, 1, n]), VM9, 10))
            .assert_verdict(TC_REDIRECT);
    }
    let events = rig.events().len();
    assert!(
        (4..=8).contains(&events),
        "{events} events with a budget of 4 a second"
    );
    assert_eq!(rig.stat(Stat::EventsLimited) as usize, 40 - events);
    assert_eq!(rig.stat(Stat::EventsLost), 0);
}

#[test]
fn arp_senders_are_reported() {
    let mut rig = Rig::new();
    let ip = Ipv4Addr::new(10, 0, 0, 1);
    let request = arp(
        (VM1, Mac::BROADCAST),
        1,
        (VM1, ip),
        (Mac::ZERO, Ipv4Addr::new(10, 0, 0, 50)),
    );
    rig.access(&request);
    let events = rig.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind(), Some(EventKind::Arp));
    assert_eq!(
        (events[0].mac, events[0].ip),
        (VM1, ip.to_ipv6_mapped().octets())
    );
    // Known: silent.
    rig.neighbor(BLUE.bd, ip.into(), VM1, Default::default());
    rig.access(&request);
    assert!(rig.events().is_empty());
    // A probe binds nothing (PX-006).
    let probe = arp(
        (VM1, Mac::BROADCAST),
        1,
        (VM1, Ipv4Addr::UNSPECIFIED),
        (Mac::ZERO, ip),
    );
    rig.access(&probe);
    assert!(rig.events().is_empty());
}

/// PX-012 and RFC 9161 §3.2: a binding comes from an advertisement, never from a solicitation.
#[test]
fn nd_targets_are_reported_from_advertisements_only() {
    let mut rig = Rig::new();
    let all_nodes = (Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap());
    let na = icmp6(
        (VM1, all_nodes.0),
        (ip6(1), all_nodes.1),
        &advertisement(ip6(1), 0xa0, VM1),
    );
    rig.access(&na);
    let events = rig.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind(), Some(EventKind::Na));
    assert_eq!(
        (events[0].mac, events[0].ip, events[0].flags),
        (VM1, ip6(1).octets(), 0xa0)
    );
    let (group, mac) = solicited_node(ip6(50));
    let mut options = vec![1, 1];
    options.extend(VM1.0);
    let ns = icmp6(
        (VM1, mac),
        (ip6(1), group),
        &solicitation(ip6(50), &options),
    );
    rig.access(&ns);
    assert!(rig.events().is_empty());
    let mut spoiled = na.clone();
    spoiled[21] = 254; // hop limit
    rig.access(&spoiled);
    assert!(rig.events().is_empty());
}

#[test]
fn rarp_of_a_moved_vm_is_reported() {
    let mut rig = Rig::new();
    rig.fdb(BLUE, STRANGER, FdbWord::new(BLUE, 1, FdbFlags::default()));
    let frame = ethernet(STRANGER, Mac::BROADCAST, 0x8035, &[0; 46]);
    rig.access(&frame);
    let kinds: Vec<_> = rig
        .events()
        .iter()
        .filter_map(|event| event.kind())
        .collect();
    assert!(
        kinds.contains(&EventKind::Rarp) || kinds.contains(&EventKind::Mac),
        "{kinds:?}"
    );
}
