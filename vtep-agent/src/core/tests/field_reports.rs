//! What users of other EVPN implementations report, each reproduced here.

use vtep_common::abi::ArpKey;

use super::*;

const IP: &str = "10.0.0.1";
const VRRP: Mac = Mac([0, 0, 0x5e, 0, 1, 1]);

fn bound_to(fixture: &Fixture, ip: &str) -> Option<Mac> {
    let key = ArpKey::new(fixture.bd(), ip.parse().unwrap());
    fixture.core.intent.arp.get(key).map(|entry| entry.mac())
}

/// FRR issue 21472: the old host's withdrawal, late, removed the entry at the new host.
#[test]
fn the_old_hosts_late_withdrawal_takes_nothing_away() {
    let mut fixture = Fixture::new();
    for ip in [None, Some(IP)] {
        fixture.announce(rt2(V1, mac(1), ip, 0));
    }
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), IP);
    fixture.sent();
    for ip in [Some(IP), None] {
        fixture.withdraw(&rt2(V1, mac(1), ip, 0).0);
        assert!(fixture.is_local(mac(1)));
        assert_eq!(bound_to(&fixture, IP), Some(mac(1)));
    }
    let sent = fixture.sent();
    assert!(sent.announce.is_empty() && sent.withdraw.is_empty());
}

/// FRR issue 21473: after some twenty migrations an entry of a route that was gone stayed, and the new
/// host did not announce. Here with withdrawals before and after the next announcement.
#[test]
fn no_entry_is_stuck_after_many_migrations() {
    for late in [false, true] {
        let mut fixture = Fixture::new();
        let mut sequence = 0;
        let mut old: Option<Route> = None;
        for number in 0..60 {
            if let Some(route) = old.take_if(|_| !late) {
                fixture.withdraw(&route);
            }
            if number % 3 == 0 {
                fixture.sent();
                fixture.frame(TAP1, mac(1));
                assert!(fixture.is_local(mac(1)), "{number}");
                let announced = fixture.announced();
                assert_eq!(announced.len(), 1, "{number}: {announced:?}");
                assert!(announced[0].1 >= sequence, "{number}: {announced:?}");
                sequence = announced[0].1;
            } else {
                let vtep = [V1, V2][number % 3 - 1];
                sequence += 1;
                let route = rt2(vtep, mac(1), None, sequence);
                fixture.announce(route.clone());
                assert_eq!(fixture.vtep_of(mac(1)), Some(vtep), "{number}");
                if let Some(route) = old.replace(route.0) {
                    fixture.withdraw(&route);
                }
                assert_eq!(fixture.vtep_of(mac(1)), Some(vtep), "{number}");
            }
        }
        if let Some(route) = old {
            fixture.withdraw(&route);
        }
        assert_eq!(fixture.fdb(mac(1)), None);
        assert_eq!(fixture.core.adj_out.routes().count(), 1, "our RT-3");
    }
}

/// FRR issue 10468: a peer that starts anew with a lower sequence number is believed once the route
/// with the higher one is gone, whatever was remembered.
#[test]
fn a_lower_sequence_is_believed_when_it_is_the_only_one() {
    let mut fixture = Fixture::new();
    let high = rt2(V1, mac(1), None, 9);
    fixture.announce(high.clone());
    fixture.announce(rt2(V2, mac(1), None, 0));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V1));
    fixture.withdraw(&high.0);
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    // The same route, with its number reset.
    fixture.announce(rt2(V2, mac(1), None, 5));
    fixture.announce(rt2(V2, mac(1), None, 0));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    assert_eq!(fixture.core.macs(None, fixture.now).unwrap()[0].seq, 0);
}

/// FRR issue 2129: half a minute of stale ARP after a migration. Bindings follow routes at once.
#[test]
fn bindings_follow_at_once() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(1), Some(IP), 0));
    fixture.announce(rt2(V2, mac(1), Some(IP), 1));
    fixture.withdraw(&rt2(V1, mac(1), Some(IP), 0).0);
    assert_eq!(bound_to(&fixture, IP), Some(mac(1)));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    // The address passes to another VM.
    fixture.now += Duration::from_secs(1);
    fixture.announce(rt2(V1, mac(2), Some(IP), 0));
    assert_eq!(bound_to(&fixture, IP), Some(mac(2)));
    fixture.withdraw(&rt2(V1, mac(2), Some(IP), 0).0);
    assert_eq!(bound_to(&fixture, IP), Some(mac(1)));
}

/// FRR issue 9327: with a MAC that several hosts share in turn, routes and forwarding disagreed until
/// a restart.
#[test]
fn a_shared_mac_forwards_where_its_route_says() {
    let mut fixture = Fixture::new();
    for round in 0..20 {
        let sequence = 3 * round;
        fixture.announce(rt2(V1, VRRP, None, sequence));
        assert_eq!(fixture.vtep_of(VRRP), Some(V1), "{round}");
        fixture.announce(rt2(V2, VRRP, None, sequence + 1));
        assert_eq!(fixture.vtep_of(VRRP), Some(V2), "{round}");
        fixture.frame(TAP1, VRRP);
        assert!(fixture.is_local(VRRP), "{round}");
    }
}

/// FRR issue 17383: a virtual address that passes to the other router took the first one's own
/// routes along.
#[test]
fn a_virtual_address_leaves_alone() {
    let mut fixture = Fixture::new();
    let (own, shared) = ("10.0.0.2", "10.0.0.254");
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), own);
    fixture.arp(TAP1, mac(1), shared);
    fixture.frame(TAP2, mac(2));
    fixture.sent();
    fixture.arp(TAP2, mac(2), shared);
    let sent = fixture.sent();
    assert_eq!((sent.withdraw.len(), sent.announce.len()), (1, 1));
    assert_eq!(bound_to(&fixture, shared), Some(mac(2)));
    assert_eq!(bound_to(&fixture, own), Some(mac(1)));
    assert!(fixture.is_local(mac(1)) && fixture.is_local(mac(2)));
}
