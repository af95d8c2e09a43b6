//! Whatever comes and goes leaves nothing behind.

use super::*;
use crate::{
    bgp::wire::MacMobility,
    core::DeclaredEndpoint,
    evpn::{BindingOrigin, Census, Origin, Winner},
    reconcile::{Entry, Key, Map, Reconciler, TableError, Tables},
};

const VTEPS: u8 = 5;

/// Maps that take everything.
struct Maps;

impl Tables for Maps {
    fn update(&mut self, _: Entry) -> Result<(), TableError> {
        Ok(())
    }

    fn delete(&mut self, _: Key) -> Result<(), TableError> {
        Ok(())
    }

    fn capacity(&self, _: Map) -> u32 {
        u32::MAX
    }
}

/// One day in the life of a VTEP: sessions, routes, moves, VMs, ports, bridge domains. No day has the
/// MACs, addresses, VTEPs or names of another.
fn day(fixture: &mut Fixture, number: u8) {
    let mac = |n| Mac([2, 0, 0, 0, number, n]);
    fixture.up(RR);
    for vtep in 1..=VTEPS {
        let vtep = Ipv4Addr::new(198, 19, number, vtep);
        fixture.announce(rt3(vtep));
        for n in 1..=20 {
            fixture.announce(rt2(vtep, mac(n), None, 0));
            fixture.announce(rt2(vtep, mac(n), Some(&format!("10.{number}.0.{n}")), 0));
            fixture.announce(rt2(vtep, mac(n), Some(&format!("fd00::{number}:{n}")), 0));
        }
    }
    for n in 1..=10 {
        fixture.frame(TAP1, mac(n));
        fixture.arp(TAP1, mac(n), &format!("10.{number}.0.{n}"));
        fixture.frame(TAP2, mac(n));
        fixture.arp(TAP2, mac(n + 100), &format!("10.{number}.0.{n}"));
        // Another address, and another MAC for it.
        fixture.frame(TAP2, mac(n + 100));
        fixture.arp(TAP2, mac(n + 100), &format!("10.{number}.1.{n}"));
    }
    for n in 5..=15 {
        fixture.announce(rt2(V1, mac(n), Some(&format!("10.{number}.0.{n}")), 7));
    }
    let sticky = MacMobility {
        sequence: 0,
        sticky: true,
    };
    fixture.announce(rt2_with(V2, mac(1), None, sticky));
    fixture.withdraw(&rt2(V2, mac(1), None, 0).0);
    fixture.withdraw(&rt2(V1, mac(5), Some(&format!("10.{number}.0.5")), 0).0);

    let bd = name(&format!("bd{number}"));
    let config = BdConfig::new(bd.clone(), vni(20_000 + u32::from(number)));
    fixture.command(Command::AddBd(Box::new(config))).unwrap();
    let ifindex = 1000 + u32::from(number);
    let port = format!("vnet{number}");
    fixture.link(ifindex, &port);
    let endpoint = DeclaredEndpoint {
        mac: mac(200),
        ips: vec![Ipv4Addr::new(10, number, 9, 9).into()],
        sticky: true,
    };
    let add = Command::AddPort {
        bd: bd.clone(),
        port: pattern(&port, None),
        endpoint: Some(endpoint),
    };
    fixture.command(add).unwrap();
    fixture.frame(ifindex, mac(201));
    fixture.handle(Input::Peer(RR, PeerEvent::Refresh(Family::EVPN)));

    // Before the evening.
    check_census(&fixture.core);
    fixture.command(Command::DeleteBd(bd)).unwrap();
    fixture.handle(Input::LinkGone(ifindex));
    for (ifindex, name) in [(TAP1, "tap1"), (TAP2, "tap2")] {
        fixture.handle(Input::LinkGone(ifindex));
        fixture.link(ifindex, name);
    }
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    fixture.outputs.clear();
    for _ in 0..20 {
        fixture.advance(Duration::from_secs(60));
    }
    check_census(&fixture.core);
    assert_eq!(fixture.core.deadline(), None, "nothing is left to forget");
}

/// The numbers that are kept are those that a walk through the tables finds.
fn check_census(core: &Core) {
    for bd in core.bds.values() {
        let (mut macs, mut neighbors) = (Census::default(), Census::default());
        for (_, winner) in bd.macs().iter() {
            *match winner {
                Winner::Local(local) if local.origin == Origin::Declared => &mut macs.declared,
                Winner::Local(_) => &mut macs.learned,
                Winner::Remote(..) => &mut macs.remote,
            } += 1;
        }
        for (_, binding) in bd.neighbors().iter() {
            *match binding.origin {
                BindingOrigin::Declared => &mut neighbors.declared,
                BindingOrigin::Learned => &mut neighbors.learned,
                BindingOrigin::Remote => &mut neighbors.remote,
            } += 1;
        }
        assert_eq!(
            (bd.macs().census(), bd.neighbors().census()),
            (macs, neighbors)
        );
    }
}

/// The whole core as text is a measure of every table in it, whatever tables there will be. The first
/// days give indexes and numbers their widths.
#[test]
fn days_leave_nothing_behind() {
    let mut fixture = Fixture::new();
    let mut reconciler = Reconciler::new();
    let mut sizes = Vec::new();
    let mut tables = Vec::new();
    for number in 10..30 {
        day(&mut fixture, number);
        let now = fixture.now;
        let outcome = reconciler.apply(fixture.core.intent_mut(), &mut Maps, now);
        assert_eq!(outcome.pending, 0);
        tables.push(reconciler.entries().collect::<Vec<_>>());
        // A stable RD is worth remembering; everything else of a bridge domain goes.
        fixture
            .core
            .state
            .rd_index
            .retain(|bd, _| *bd == name("blue"));
        sizes.push(format!("{:?}", fixture.core).len());
    }
    assert!(
        tables.windows(2).all(|days| days[0] == days[1]),
        "{tables:?}"
    );
    let (first, last) = (sizes[5], sizes[sizes.len() - 1]);
    assert!(last <= first + first / 50, "{sizes:?}");
    let core = &fixture.core;
    assert!(core.intent.fdb.is_empty() && core.intent.arp.is_empty() && core.intent.nd.is_empty());
    assert!(core.intent.groups.is_empty() && core.intent.vteps.is_empty());
    assert!(core.intent.sources.is_empty());
    assert_eq!(core.adj_in.paths().count(), 0);
}

/// The same inputs at the same times: the same tables to the last bit, in the same order. Nothing else
/// decides, no seed of one table's own and no address.
#[test]
fn a_run_can_be_repeated() {
    let now = Instant::now();
    let run = || {
        let mut fixture = Fixture::new_at(now);
        for number in 10..13 {
            day(&mut fixture, number);
        }
        fixture.up(RR);
        for n in 1..=100 {
            fixture.announce(rt2(V1, Mac([2, 0, 0, 0, 0, n]), None, 0));
            fixture.frame(TAP1, Mac([2, 0, 0, 0, 1, n]));
        }
        format!("{:?}{:?}", fixture.core, fixture.outputs)
    };
    let first = run();
    // Made outside, at another place: as whatever else goes on in a process.
    let other: HashSet<FdbKey> = HashSet::default();
    assert!(first == run(), "{other:?}");
}
