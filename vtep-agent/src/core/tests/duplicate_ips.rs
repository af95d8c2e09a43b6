//! Checklist D6: duplicate and anycast addresses (RFC 9161 §3.2.1, §3.7).

use vtep_common::abi::{ArpKey, NdKey, NeighborEntry, NeighborFlags, PROBE_MAC};

use super::*;
use crate::config::{DuplicateIpAction, DuplicateIpPolicy};

const IP: &str = "10.0.0.1";
const AS_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xff]);

fn fixture(policy: DuplicateIpPolicy) -> Fixture {
    let mut config = config();
    config.vtep.duplicate_ip = policy;
    started(config)
}

/// With a VM on each port.
fn started(config: Config) -> Fixture {
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.link(TAP2, "tap2");
    fixture.up(RR);
    fixture.frame(TAP1, mac(1));
    fixture.frame(TAP2, mac(2));
    fixture.outputs.clear();
    fixture
}

fn entry(fixture: &Fixture) -> NeighborEntry {
    let key = ArpKey::new(fixture.bd(), IP.parse().unwrap());
    *fixture.core.intent.arp.get(key).unwrap()
}

fn is_withheld(fixture: &Fixture) -> bool {
    entry(fixture).flags().has(NeighborFlags::WITHHELD)
}

fn row(fixture: &Fixture) -> view::Neighbor {
    let rows = fixture.core.neighbors(None, fixture.now).unwrap();
    let found = rows
        .iter()
        .find(|row| row.ip == IP.parse::<IpAddr>().unwrap());
    found.unwrap().clone()
}

/// `moves` changes between two local VMs.
fn alternate(fixture: &mut Fixture, moves: u32, pause: Duration) {
    fixture.arp(TAP1, mac(1), IP);
    for n in 1..=moves {
        fixture.advance(pause);
        let (port, last) = if n % 2 == 1 { (TAP2, 2) } else { (TAP1, 1) };
        fixture.arp(port, mac(last), IP);
    }
}

/// Questions since the last call: device, destination.
fn asked(fixture: &mut Fixture) -> Vec<(u32, Mac)> {
    let mut asked = Vec::new();
    fixture.outputs.retain(|output| match output {
        Output::Transmit(ifindex, frame) if frame[6..12] == PROBE_MAC.0 => {
            asked.push((*ifindex, Mac(frame[..6].try_into().unwrap())));
            false
        }
        _ => true,
    });
    asked
}

/// PX-017: nobody answers for it, it stays as it is for 540 s, and whoever had it is asked.
#[test]
fn px_017_two_vms_with_one_address() {
    let mut fixture = fixture(DuplicateIpPolicy::default());
    fixture.arp(TAP1, mac(1), IP);
    asked(&mut fixture);
    fixture.arp(TAP2, mac(2), IP);
    assert_eq!(asked(&mut fixture), [(TAP1, mac(1))], "the Confirm message");
    for (port, last) in [(TAP1, 1), (TAP2, 2), (TAP1, 1)] {
        fixture.arp(port, mac(last), IP);
        assert!(!is_withheld(&fixture) && !row(&fixture).duplicate);
    }
    fixture.arp(TAP2, mac(2), IP);
    assert!(is_withheld(&fixture));
    let found = row(&fixture);
    assert_eq!((found.duplicate, found.moves), (true, Some(5)));
    assert_eq!(found.duplicate_action.as_deref(), Some("block"));
    assert_eq!(fixture.core.bd_stats()[0].duplicate_ips, 1);
    fixture.sent();
    asked(&mut fixture);
    // Neither frames nor routes change it.
    fixture.arp(TAP1, mac(1), IP);
    fixture.announce(rt2(V1, mac(9), Some(IP), 0));
    assert_eq!(entry(&fixture).mac(), mac(2));
    assert_eq!(fixture.announced(), []);
    assert_eq!(asked(&mut fixture), []);
    fixture.withdraw(&rt2(V1, mac(9), Some(IP), 0).0);
    // RFC 9161 §3.7 d.
    fixture.advance(Duration::from_secs(539));
    assert!(is_withheld(&fixture));
    fixture.advance(Duration::from_secs(1));
    assert!(!is_withheld(&fixture) && !row(&fixture).duplicate);
    fixture.arp(TAP1, mac(1), IP);
    assert_eq!(entry(&fixture).mac(), mac(1));
}

/// PX-017 by routes: another VTEP's VM and ours, each taking the address from the other.
#[test]
fn px_017_across_vteps() {
    let mut fixture = fixture(DuplicateIpPolicy::default());
    fixture.arp(TAP1, mac(1), IP);
    for _ in 0..2 {
        fixture.advance(Duration::from_secs(1));
        fixture.announce(rt2(V1, mac(9), Some(IP), 0));
        assert_eq!(entry(&fixture).mac(), mac(9));
        assert!(asked(&mut fixture).contains(&(TAP1, mac(1))));
        fixture.advance(Duration::from_millis(1));
        fixture.arp(TAP1, mac(1), IP);
        fixture.withdraw(&rt2(V1, mac(9), Some(IP), 0).0);
    }
    assert!(!is_withheld(&fixture));
    fixture.announce(rt2(V1, mac(9), Some(IP), 0));
    assert!(is_withheld(&fixture));
}

/// PX-017 where both are elsewhere: a third party stops answering as well.
#[test]
fn px_017_between_others() {
    let mut fixture = fixture(DuplicateIpPolicy::default());
    for n in 0..=5 {
        fixture.advance(Duration::from_secs(1));
        let (from, to) = if n % 2 == 0 { (V2, V1) } else { (V1, V2) };
        fixture.announce(rt2(to, mac(n % 2 + 8), Some(IP), 0));
        fixture.withdraw(&rt2(from, mac((n + 1) % 2 + 8), Some(IP), 0).0);
        assert_eq!(is_withheld(&fixture), n == 5, "{n}");
    }
}

/// M of RFC 9161 §3.7: moves further apart are none too many. A MAC that takes its address along to
/// another VTEP does not change the address's MAC.
#[test]
fn px_017_not_every_move() {
    let mut fixture = fixture(DuplicateIpPolicy::default());
    alternate(&mut fixture, 20, Duration::from_secs(50));
    assert!(!is_withheld(&fixture));
    fixture.advance(Duration::from_secs(200));
    fixture.arp(TAP1, mac(1), IP);
    for n in 1..10 {
        fixture.announce(rt2(V2, mac(1), Some(IP), 2 * n - 1));
        assert!(!row(&fixture).duplicate);
        fixture.frame(TAP1, mac(1));
        fixture.arp(TAP1, mac(1), IP);
        fixture.withdraw(&rt2(V2, mac(1), Some(IP), 0).0);
    }
    assert!(!row(&fixture).duplicate);
}

/// RFC 9161 §3.7: only what an advertisement would replace in a cache counts, and nothing that is
/// declared.
#[test]
fn px_017_exempt() {
    let mut fixture = fixture(DuplicateIpPolicy::default());
    for n in 0..10 {
        let (vtep, last) = if n % 2 == 0 { (V1, 8) } else { (V2, 9) };
        let (route, mut attributes) = rt2(vtep, mac(last), Some(IP), 0);
        let immutable = crate::bgp::wire::ExtCommunity([6, 8, 0x08, 0, 0, 0, 0, 0]);
        attributes.ext_communities.push(immutable);
        fixture.withdraw(&route);
        fixture.advance(Duration::from_secs(1));
        fixture.announce((route, attributes));
    }
    assert!(!row(&fixture).duplicate);
}

/// `clear duplicates`, and the operator's other way: a declaration.
#[test]
fn px_017_corrective_action() {
    let mut fixture = fixture(DuplicateIpPolicy {
        recovery: None,
        ..DuplicateIpPolicy::default()
    });
    alternate(&mut fixture, 5, Duration::from_secs(1));
    fixture.advance(Duration::from_secs(100_000));
    fixture.frame(TAP1, mac(1));
    fixture.frame(TAP2, mac(2));
    fixture.arp(TAP2, mac(2), IP);
    assert!(is_withheld(&fixture));
    fixture.command(Command::ClearDuplicates(None)).unwrap();
    assert!(!is_withheld(&fixture));
    alternate(&mut fixture, 6, Duration::from_secs(1));
    assert!(is_withheld(&fixture));
    fixture
        .command(Command::AddPort {
            bd: name("blue"),
            port: pattern("tap1", None),
            endpoint: Some(super::super::DeclaredEndpoint {
                mac: mac(1),
                ips: vec![IP.parse().unwrap()],
                sticky: false,
            }),
        })
        .unwrap();
    assert!(!is_withheld(&fixture) && !row(&fixture).duplicate);
    assert_eq!(entry(&fixture).mac(), mac(1));
}

/// PX-017 with `action = "warn"`: it is seen, and goes on as before.
#[test]
fn px_017_warn() {
    let mut fixture = fixture(DuplicateIpPolicy {
        action: DuplicateIpAction::Warn,
        as_mac: Some(AS_MAC),
        ..DuplicateIpPolicy::default()
    });
    alternate(&mut fixture, 5, Duration::from_secs(1));
    assert!(row(&fixture).duplicate && !is_withheld(&fixture));
    fixture.arp(TAP1, mac(1), IP);
    assert_eq!(entry(&fixture).mac(), mac(1));
}

/// PX-018: VMs and VTEPs are told that the address has the anti-spoofing MAC, frames to which go
/// nowhere.
#[test]
fn px_018_anti_spoofing_mac() {
    let mut fixture = fixture(DuplicateIpPolicy {
        as_mac: Some(AS_MAC),
        ..DuplicateIpPolicy::default()
    });
    let black_hole = |fixture: &Fixture, mac| {
        let word = fixture.fdb(mac);
        word.is_some_and(|word| word.flags().has(FdbFlags::BLACK_HOLE))
    };
    assert!(black_hole(&fixture, AS_MAC), "before it is needed");
    alternate(&mut fixture, 4, Duration::from_secs(1));
    fixture.outputs.clear();
    fixture.arp(TAP2, mac(2), IP);
    assert_eq!(
        (entry(&fixture).mac(), is_withheld(&fixture)),
        (AS_MAC, false)
    );
    let mut told: Vec<_> = fixture
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Transmit(ifindex, frame) if frame[6..12] == AS_MAC.0 => Some(*ifindex),
            _ => None,
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [TAP1, TAP2]);
    let sent = fixture.sent();
    let announced: Vec<_> = sent
        .announce
        .iter()
        .flat_map(|(_, routes)| routes)
        .collect();
    let [Route::MacIp(route)] = announced[..] else {
        panic!("{announced:?}");
    };
    assert_eq!((route.mac, route.ip), (AS_MAC, Some(IP.parse().unwrap())));
    let withdrawn = rt2_key(mac(1));
    assert!(sent.withdraw.iter().any(|key| key.to_string() == withdrawn));
    // Another VTEP that does the same changes nothing.
    fixture.announce(rt2(V1, AS_MAC, Some(IP), 0));
    assert!(black_hole(&fixture, AS_MAC));
    fixture.frame(TAP1, AS_MAC);
    assert!(!fixture.is_local(AS_MAC));
    // And it ends.
    fixture.sent();
    fixture.withdraw(&rt2(V1, AS_MAC, Some(IP), 0).0);
    fixture.command(Command::ClearDuplicates(None)).unwrap();
    let sent = fixture.sent();
    assert_eq!((sent.announce.len(), sent.withdraw.len()), (1, 1));
    assert_eq!(entry(&fixture).mac(), mac(2));
}

fn rt2_key(mac: Mac) -> String {
    format!("[2]:[0]:[48]:[{mac}]:[32]:[{IP}]")
}

/// PX-019: each keeps its own, all are announced, nobody is a duplicate, nobody answers for another,
/// and so the owners do.
#[test]
fn px_019_anycast() {
    let mut config = config();
    config.bds[0].anycast = ["fd00::53".parse().unwrap(), IP.parse().unwrap()].into();
    let mut fixture = started(config);
    for _ in 0..10 {
        for (port, last) in [(TAP1, 1), (TAP2, 2)] {
            fixture.advance(Duration::from_secs(1));
            fixture.arp(port, mac(last), IP);
            let ip = Some("fd00::53".parse().unwrap());
            fixture.event(port, EventKind::Na, mac(last), ip, 0x40);
        }
        fixture.announce(rt2(V1, mac(9), Some(IP), 0));
        fixture.announce(rt2(V2, mac(8), Some("fd00::53"), 0));
    }
    assert!(is_withheld(&fixture) && !row(&fixture).duplicate && row(&fixture).anycast);
    let nd = NdKey::new(fixture.bd(), "fd00::53".parse().unwrap());
    let flags = fixture.core.intent.nd.get(nd).unwrap().flags();
    assert!(flags.has(NeighborFlags::WITHHELD));
    assert_eq!(
        asked(&mut fixture),
        [],
        "nobody is asked whether it is still his"
    );
    let sent = fixture.sent();
    assert!(sent.withdraw.is_empty(), "{:?}", sent.withdraw);
    let mut announced: Vec<_> = sent
        .announce
        .iter()
        .flat_map(|(attributes, routes)| {
            let flags = attributes.ext_communities.iter().find_map(|c| c.arp_nd());
            routes.iter().map(move |route| (route, flags))
        })
        .filter_map(|(route, flags)| match route {
            Route::MacIp(route) => Some((route.mac, route.ip?.to_string(), flags)),
            _ => None,
        })
        .collect();
    announced.sort_unstable_by_key(|(mac, ip, _)| (*mac, ip.clone()));
    announced.dedup();
    let none = Some(crate::bgp::wire::ArpNd::default());
    let each = |last| {
        [
            (mac(last), IP.to_owned(), None),
            (mac(last), "fd00::53".to_owned(), none),
        ]
    };
    assert_eq!(announced, [each(1), each(2)].concat());
    // Who leaves takes only his own along.
    fixture.handle(Input::LinkGone(TAP1));
    let sent = fixture.sent();
    assert_eq!(sent.withdraw.len(), 3, "{:?}", sent.withdraw);
}
