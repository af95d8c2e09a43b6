//! Checklist C9 and D9: assisted replication as a leaf, and pruned flood lists (RFC 9574).

use vtep_common::abi::FloodClasses;

use super::*;
use crate::{
    bgp::wire::{Imet, PmsiTunnel, TunnelType},
    config::{Pruned, Replication},
    evpn::ACTIVATION,
};

/// AR-IP and IR-IP of a replicator.
const AR_IP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 31);
const IR_IP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 32);
/// AR-IP of another one.
const AR_IP2: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 41);

fn leaf(change: impl FnOnce(&mut BdConfig)) -> Fixture {
    let mut config = config();
    config.bds[0].replication = Replication::ArLeaf;
    change(&mut config.bds[0]);
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.link(TAP2, "tap2");
    fixture.up(RR);
    fixture.announce(rt3(V1));
    fixture.announce(rt3(V2));
    fixture.announce(with_flags(rt3(IR_IP), PmsiTunnel::AR_REPLICATOR));
    fixture.outputs.clear();
    fixture
}

fn with_flags((route, mut attributes): (Route, Attributes), flags: u8) -> (Route, Attributes) {
    attributes.pmsi.as_mut().unwrap().flags = flags;
    (route, attributes)
}

/// The Replicator-AR route of a replicator, as its own router sends it.
fn replicator(ar_ip: Ipv4Addr, flags: u8) -> (Route, Attributes) {
    let (_, mut attributes) = rt3(ar_ip);
    let pmsi = attributes.pmsi.as_mut().unwrap();
    pmsi.tunnel_type = TunnelType::ASSISTED_REPLICATION;
    pmsi.flags = PmsiTunnel::AR_REPLICATOR | flags;
    let route = Route::Imet(Imet {
        rd: RouteDistinguisher::ipv4(IR_IP, 8),
        tag: Default::default(),
        originator: ar_ip.into(),
    });
    (route, attributes)
}

/// VTEPs that get a copy of such frames, in order.
fn receivers(fixture: &Fixture, class: FloodClasses) -> Vec<Ipv4Addr> {
    let entry = fixture.core.intent.bds.get(fixture.bd().0.into()).unwrap();
    let span = FloodSpan::from_bits(entry.flood);
    let first = span.offset + u32::from(span.ports);
    let members = (first..first + u32::from(span.vteps))
        .map(|index| *fixture.core.intent.flood.get(index).unwrap())
        .filter(|member| !member.skip.has(class));
    let mut vteps: Vec<_> = members
        .map(|member| fixture.vtep(member.target).unwrap())
        .collect();
    vteps.sort_unstable();
    vteps
}

const EVERYBODY: [Ipv4Addr; 3] = [V1, V2, IR_IP];

#[track_caller]
fn assert_by_ingress_replication(fixture: &Fixture) {
    for class in [
        FloodClasses::ASSISTED,
        FloodClasses::DIRECT,
        FloodClasses::UNKNOWN,
    ] {
        assert_eq!(receivers(fixture, class), EVERYBODY, "{class:?}");
    }
}

fn states(fixture: &Fixture) -> Vec<(String, String)> {
    let list = fixture.core.flood(None).unwrap().remove(0);
    let states = list.replicators.into_iter();
    states
        .map(|replicator| (replicator.address.to_string(), replicator.state))
        .collect()
}

fn active(fixture: &Fixture) -> String {
    let mut states = states(fixture).into_iter();
    states.find(|(_, state)| state == "active").unwrap().0
}

/// AR-001: three seconds by ingress replication, then one copy to the AR-IP of what is broadcast; AR-003:
/// multicast of link-local scope, IGMP and MLD, and unknown unicast go to everybody as before.
#[test]
fn ar_001_003_a_replicator_appears() {
    let mut fixture = leaf(|_| {});
    assert_by_ingress_replication(&fixture);
    fixture.announce(replicator(AR_IP, 0));
    assert_by_ingress_replication(&fixture);
    assert_eq!(states(&fixture), [(AR_IP.to_string(), "activating".into())]);
    fixture.advance(ACTIVATION - Duration::from_millis(1));
    assert_by_ingress_replication(&fixture);
    assert_eq!(
        fixture.core.deadline(),
        Some(fixture.now + Duration::from_millis(1))
    );
    fixture.advance(Duration::from_millis(1));
    assert_eq!(receivers(&fixture, FloodClasses::ASSISTED), [AR_IP]);
    assert_eq!(receivers(&fixture, FloodClasses::DIRECT), EVERYBODY);
    assert_eq!(receivers(&fixture, FloodClasses::UNKNOWN), EVERYBODY);
    assert_eq!(active(&fixture), AR_IP.to_string());
    assert!(fixture.core.bd_stats()[0].assisted);
    assert!(fixture.route(&replicator(AR_IP, 0).0).installed);
    // The same route again is not a new replicator.
    fixture.announce(replicator(AR_IP, PmsiTunnel::PRUNE_UNKNOWN));
    assert_eq!(receivers(&fixture, FloodClasses::ASSISTED), [AR_IP]);
}

/// AR-002: without the replicator, be it withdrawn or out of reach, everything at once as without one.
#[test]
fn ar_002_the_replicator_goes() {
    let mut fixture = leaf(|_| {});
    fixture.announce(replicator(AR_IP, 0));
    fixture.advance(ACTIVATION);
    fixture.handle(Input::Paths(AR_IP.into(), Vec::new(), 0));
    assert_by_ingress_replication(&fixture);
    assert_eq!(states(&fixture)[0].1, "unreachable");
    fixture.handle(Input::Paths(AR_IP.into(), vec![path()], 0));
    assert_eq!(receivers(&fixture, FloodClasses::ASSISTED), [AR_IP]);
    fixture.withdraw(&replicator(AR_IP, 0).0);
    assert_by_ingress_replication(&fixture);
    assert!(!fixture.core.bd_stats()[0].assisted);
    // Its other tunnel type would be another replicator, or none.
    fixture.announce(replicator(AR_IP, 0));
    fixture.advance(ACTIVATION);
    let (route, mut attributes) = replicator(AR_IP, 0);
    attributes.pmsi.as_mut().unwrap().tunnel_type = TunnelType::INGRESS_REPLICATION;
    fixture.announce((route, attributes));
    assert_eq!(
        receivers(&fixture, FloodClasses::ASSISTED),
        [V1, V2, AR_IP, IR_IP]
    );
}

/// AR-002: of two replicators exactly one is used, and the other one at once when it goes.
#[test]
fn ar_002_another_replicator() {
    let mut fixture = leaf(|_| {});
    fixture.announce(replicator(AR_IP, 0));
    fixture.announce(replicator(AR_IP2, 0));
    fixture.advance(ACTIVATION);
    let first = active(&fixture);
    assert_eq!(receivers(&fixture, FloodClasses::ASSISTED).len(), 1);
    let gone: Ipv4Addr = first.parse().unwrap();
    let other = if gone == AR_IP { AR_IP2 } else { AR_IP };
    fixture.withdraw(&replicator(gone, 0).0);
    assert_eq!(receivers(&fixture, FloodClasses::ASSISTED), [other]);
    // A new one is not used before its time, whoever it is.
    fixture.announce(replicator(gone, 0));
    assert_eq!(receivers(&fixture, FloodClasses::ASSISTED), [other]);
    fixture.advance(ACTIVATION);
    assert_eq!(active(&fixture), first);
}

/// Leaves and bridge domains are spread over replicators.
#[test]
fn replicators_share_the_load() {
    use crate::evpn::{ReceiverTable, Replicator, ReplicatorState};
    let now = Instant::now();
    let mut table = ReceiverTable::default();
    for ar_ip in [AR_IP, AR_IP2] {
        let replicator = Replicator {
            next_hop: ar_ip,
            vni: VNI,
            selective: false,
        };
        table.set_replicator(self::replicator(ar_ip, 0).0.key(), Some(replicator), now);
    }
    table.activate(now + ACTIVATION);
    let first = |vni| {
        let states = table.replicators((US, vni), |_| true);
        let active = states
            .iter()
            .find(|(_, state)| *state == ReplicatorState::Active);
        u32::from(active.unwrap().0.next_hop == AR_IP)
    };
    let share: u32 = (0..1000).map(first).sum();
    assert!((400..600).contains(&share), "{share} of 1000");
}

/// AR-004, PFL-003: what our own route says.
#[test]
fn ar_004_pfl_003_our_own_flags() {
    let flags = |fixture: &Fixture| {
        let bd = &fixture.core.bds[&fixture.bd()];
        let pmsi = bd.imet().1.pmsi.clone().unwrap();
        assert_eq!(pmsi.tunnel_type, TunnelType::INGRESS_REPLICATION);
        pmsi.flags
    };
    assert_eq!(flags(&Fixture::new()), 0);
    assert_eq!(flags(&leaf(|_| {})), 0x10);
    let all = |bd: &mut BdConfig| {
        bd.prune = Pruned {
            broadcast: true,
            unknown: true,
        };
    };
    assert_eq!(flags(&leaf(all)), 0x16);
    // Changed while running: told at once, by that route alone.
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.sent();
    let mut other = config();
    other.bds[0].prune.unknown = true;
    fixture.command(Command::Reload(Box::new(other))).unwrap();
    let sent = fixture.sent();
    assert!(sent.withdraw.is_empty(), "{:?}", sent.withdraw);
    let [(attributes, routes)] = &sent.announce[..] else {
        panic!("{:?}", sent.announce);
    };
    assert_eq!(attributes.pmsi.as_ref().unwrap().flags, 0x02);
    assert!(matches!(routes[..], [Route::Imet(_)]));
}

/// AR-006: the reserved type is that of a VTEP that knows nothing of this.
#[test]
fn ar_006_reserved_type() {
    let mut fixture = leaf(|_| {});
    fixture.announce(with_flags(rt3(V1), PmsiTunnel::AR_TYPE));
    fixture.announce(replicator(AR_IP, PmsiTunnel::AR_LEAF));
    fixture.advance(ACTIVATION);
    assert_by_ingress_replication(&fixture);
    assert_eq!(states(&fixture), []);
}

/// AR-005 is not built: replicators that copy only for leaves that ask for it are not used; where not all
/// are of that kind, none is (RFC 9574 §6.1).
#[test]
fn selective_replicators() {
    let mut fixture = leaf(|_| {});
    fixture.announce(replicator(AR_IP, PmsiTunnel::LEAF_INFORMATION));
    fixture.advance(ACTIVATION);
    assert_by_ingress_replication(&fixture);
    assert!(
        fixture
            .reason(&replicator(AR_IP, 0).0)
            .contains("selective")
    );
    fixture.announce(replicator(AR_IP2, 0));
    fixture.advance(ACTIVATION);
    assert_eq!(receivers(&fixture, FloodClasses::ASSISTED).len(), 1);
}

/// Whoever is no leaf makes all copies, and says why the route is not used.
#[test]
fn not_a_leaf() {
    let mut fixture = leaf(|bd| bd.replication = Replication::Ingress);
    fixture.announce(replicator(AR_IP, 0));
    fixture.advance(ACTIVATION);
    assert_by_ingress_replication(&fixture);
    assert_eq!(states(&fixture)[0].1, "unused");
    assert!(fixture.reason(&replicator(AR_IP, 0).0).contains("itself"));
    let mut other = config();
    other.bds[0].replication = Replication::ArLeaf;
    fixture.command(Command::Reload(Box::new(other))).unwrap();
    assert_eq!(receivers(&fixture, FloodClasses::ASSISTED), [AR_IP]);
}

/// RFC 9574 §8: one address as replicator and as VTEP, told apart by VNI or, if by nothing, with one copy
/// of everything.
#[test]
fn one_address_for_both_roles() {
    for vni in [VNI, VNI + 1] {
        let mut fixture = leaf(|_| {});
        let (route, mut attributes) = replicator(IR_IP, 0);
        attributes.pmsi.as_mut().unwrap().label = vni;
        fixture.announce((route, attributes));
        fixture.advance(ACTIVATION);
        assert_eq!(receivers(&fixture, FloodClasses::ASSISTED), [IR_IP]);
        assert_eq!(receivers(&fixture, FloodClasses::DIRECT), EVERYBODY);
        let list = fixture.core.flood(None).unwrap().remove(0);
        assert_eq!(list.replicators[0].vni, vni);
    }
}

/// PFL-001: each list on its own; of two routes with one next hop both have to ask for it.
#[test]
fn pfl_001_pruned_lists() {
    let lists = |fixture: &Fixture| {
        let of = |class| receivers(fixture, class);
        (
            of(FloodClasses::ASSISTED),
            of(FloodClasses::DIRECT),
            of(FloodClasses::UNKNOWN),
        )
    };
    let all = vec![V1, V2];
    let mut fixture = Fixture::new();
    fixture.announce(rt3(V1));
    fixture.announce(with_flags(rt3(V2), PmsiTunnel::PRUNE_UNKNOWN));
    assert_eq!(lists(&fixture), (all.clone(), all.clone(), vec![V1]));
    assert_eq!(
        fixture.core.flood(None).unwrap()[0].vteps[1].pruned,
        ["unknown"]
    );
    fixture.announce(with_flags(rt3(V2), PmsiTunnel::PRUNE_BROADCAST));
    assert_eq!(lists(&fixture), (vec![V1], vec![V1], all.clone()));
    let (Route::Imet(imet), attributes) = rt3(V2) else {
        unreachable!();
    };
    let rd = RouteDistinguisher::ipv4(V2, 8);
    let other = Route::Imet(Imet { rd, ..imet });
    fixture.announce((other.clone(), attributes));
    assert_eq!(lists(&fixture), (all.clone(), all.clone(), all.clone()));
    fixture.withdraw(&other);
    assert_eq!(lists(&fixture).0, [V1]);
    let mut deaf = config();
    deaf.bds[0].honor_prune = false;
    fixture.command(Command::Reload(Box::new(deaf))).unwrap();
    assert_eq!(lists(&fixture), (all.clone(), all.clone(), all));
}
