//! What an earlier run left in the datapath's tables keeps its place, and comes back or is held.

use super::*;
use crate::{
    config::DynamicPeers,
    intent::Installed,
    reconcile::{Entry, Key, Map, Outcome, Reconciler, TableError, Tables},
};

/// Nothing is to be written to these.
struct Untouchable;

impl Tables for Untouchable {
    fn update(&mut self, entry: Entry) -> Result<(), TableError> {
        panic!("{entry:?} is written")
    }

    fn delete(&mut self, key: Key) -> Result<(), TableError> {
        panic!("{key:?} is deleted")
    }

    fn capacity(&self, _: Map) -> u32 {
        u32::MAX
    }
}

/// An agent that has run for a while: its places are not those of a fresh one. MAC 1 is here with
/// sequence number 4, MAC 2 without; 3 and 4 are behind V1 and V2.
fn earlier() -> Fixture {
    let mut fixture = Fixture::new();
    for (bd, number) in [("red", 200), ("green", 300)] {
        let config = BdConfig::new(name(bd), vni(number));
        fixture.command(Command::AddBd(Box::new(config))).unwrap();
    }
    fixture.command(Command::DeleteBd(name("red"))).unwrap();
    fixture.announce(rt3(V2));
    fixture.announce(rt3(V1));
    fixture.announce(rt2(V1, mac(9), None, 0));
    fixture.announce(rt2(V1, mac(1), None, 3));
    fixture.announce(rt2(V1, mac(3), None, 0));
    fixture.announce(rt2(V1, mac(3), Some("10.0.0.3"), 0));
    fixture.announce(rt2(V2, mac(4), None, 0));
    fixture.announce(rt2(V2, mac(4), Some("fd00::4"), 0));
    fixture.withdraw(&rt2(V1, mac(9), None, 0).0);
    fixture.frame(TAP2, mac(2));
    fixture.arp(TAP2, mac(2), "10.0.0.2");
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    fixture.withdraw(&rt2(V1, mac(1), None, 3).0);
    // Parts that lists were in have had their rest.
    fixture.advance(Duration::from_secs(60));
    fixture
}

/// The next agent, before it has heard of any device.
fn next(earlier: &Fixture) -> Fixture {
    next_with(earlier, config())
}

fn next_with(earlier: &Fixture, config: Config) -> Fixture {
    let installed = Installed {
        tables: earlier.core.intent.clone(),
        ..Installed::default()
    };
    let state = earlier.core.state.clone();
    let (core, outputs) = Core::recover(config, state, &installed, earlier.now);
    let mut next = Fixture {
        core,
        now: earlier.now,
        outputs: Vec::new(),
        turns: None,
    };
    next.take(outputs);
    next
}

/// As above, with its devices, and nothing sent yet.
fn recovered(earlier: &Fixture) -> Fixture {
    with_devices(next(earlier))
}

fn with_devices(mut next: Fixture) -> Fixture {
    for (ifindex, name) in [(2, "eth0"), (TAP1, "tap1"), (TAP2, "tap2")] {
        next.link(ifindex, name);
    }
    next.handle(Input::Recovered);
    next
}

/// The route reflector is back, helps, and has said these routes and no more.
fn says(fixture: &mut Fixture, routes: Vec<(Route, Attributes)>) {
    let session = Session {
        graceful_restart: true,
        forwarding_preserved: true,
        ..session(true)
    };
    fixture.handle(Input::Peer(RR, PeerEvent::Up(session)));
    for route in routes {
        fixture.announce(route);
    }
    assert!(!fixture.core.settled());
    fixture.update(Update {
        end_of_rib: Some(Family::EVPN),
        ..Update::default()
    });
    assert!(fixture.core.settled());
}

/// AR-002 across a restart: what a replicator was sent to is copied to all by ourselves until it has shown
/// itself anew; who asked for no unknown unicast gets none all the while.
#[test]
fn a_replicator_has_to_show_itself_again() {
    use crate::{
        bgp::wire::{PmsiTunnel, TunnelType},
        config::Replication,
        evpn::ACTIVATION,
    };
    use vtep_common::abi::FloodClasses;

    let mut leaf = config();
    leaf.bds[0].replication = Replication::ArLeaf;
    let flagged = |(route, mut attributes): (Route, Attributes), tunnel, flags| {
        let pmsi = attributes.pmsi.as_mut().unwrap();
        (pmsi.tunnel_type, pmsi.flags) = (tunnel, flags);
        (route, attributes)
    };
    let ar_ip = Ipv4Addr::new(198, 18, 0, 31);
    let routes = vec![
        rt3(V1),
        flagged(
            rt3(V2),
            TunnelType::INGRESS_REPLICATION,
            PmsiTunnel::PRUNE_UNKNOWN,
        ),
        flagged(
            rt3(ar_ip),
            TunnelType::ASSISTED_REPLICATION,
            PmsiTunnel::AR_REPLICATOR,
        ),
    ];
    let mut earlier = Fixture::new();
    earlier
        .command(Command::Reload(Box::new(leaf.clone())))
        .unwrap();
    for route in routes.clone() {
        earlier.announce(route);
    }
    earlier.advance(ACTIVATION);
    let takes = |fixture: &Fixture, class| {
        let entry = fixture.core.intent.bds.get(fixture.bd().0.into()).unwrap();
        let span = FloodSpan::from_bits(entry.flood);
        let first = span.offset + u32::from(span.ports);
        let mut vteps: Vec<_> = (first..first + u32::from(span.vteps))
            .map(|index| *fixture.core.intent.flood.get(index).unwrap())
            .filter(|member| !member.skip.has(class))
            .map(|member| fixture.vtep(member.target).unwrap())
            .collect();
        vteps.sort_unstable();
        vteps
    };
    assert_eq!(takes(&earlier, FloodClasses::ASSISTED), [ar_ip]);

    let mut fixture = with_devices(next_with(&earlier, leaf));
    assert_eq!(takes(&fixture, FloodClasses::ASSISTED), [V1, V2]);
    assert_eq!(takes(&fixture, FloodClasses::UNKNOWN), [V1]);
    says(&mut fixture, routes);
    assert_eq!(takes(&fixture, FloodClasses::ASSISTED), [V1, V2]);
    fixture.advance(ACTIVATION);
    assert_eq!(takes(&fixture, FloodClasses::ASSISTED), [ar_ip]);
    assert_eq!(takes(&fixture, FloodClasses::UNKNOWN), [V1]);
}

#[test]
fn everything_keeps_its_place() {
    let earlier = earlier();
    let mut next = recovered(&earlier);
    let mut reconciler = Reconciler::new();
    reconciler.adopt(&mut earlier.core.intent.clone());
    let outcome = reconciler.apply(next.core.intent_mut(), &mut Untouchable, next.now);
    assert_eq!(outcome, Outcome::default());
    assert_eq!(next.flood(), earlier.flood());
}

/// GR-006 (RFC 4724 §4.1): nothing goes before the peers' End-of-RIB, and then what they did not say.
#[test]
fn gr_006_remote_entries_wait_for_the_peers() {
    let earlier = earlier();
    let mut next = recovered(&earlier);
    let word = earlier.fdb(mac(3)).unwrap();
    assert_eq!(next.fdb(mac(3)), Some(word));
    assert_eq!(next.vtep_of(mac(4)), Some(V2));
    let routes = vec![
        rt3(V1),
        rt2(V1, mac(3), None, 7),
        rt2(V1, mac(3), Some("10.0.0.3"), 7),
    ];
    says(&mut next, routes);
    // Confirmed, in its place.
    assert_eq!(next.fdb(mac(3)), Some(word));
    assert_eq!(next.flood().1, [V1]);
    assert_eq!(next.core.intent.arp.len(), earlier.core.intent.arp.len());
    // Not confirmed.
    assert_eq!(next.fdb(mac(4)), None);
    assert!(next.core.intent.nd.is_empty());
    assert_eq!(next.core.intent.vteps.len(), 1);
    assert_eq!(next.core.intent.groups.len(), 1);
    assert_eq!(next.core.intent.sources.len(), 1);
}

/// GR-006: peers by prefix are in no list of those to wait for. What is held waits for them, and nothing
/// else does.
#[test]
fn gr_006_remote_entries_wait_for_dynamic_peers() {
    let stranger = PeerId(1 << 31);
    let dynamic = || {
        let mut config = config();
        let template = config.bgp.peers.remove(0);
        let prefix = "10.255.0.0/24".parse().unwrap();
        config.bgp.dynamic = vec![DynamicPeers::new(prefix, 8, template)];
        config
    };
    let earlier = earlier();
    let recovered = || {
        let next = with_devices(next_with(&earlier, dynamic()));
        assert!(!next.core.settled());
        assert_eq!(next.vtep_of(mac(4)), Some(V2));
        next
    };
    // One that says everything again ends the wait, though others might come.
    let mut next = recovered();
    let session = Session {
        graceful_restart: true,
        ..session(true)
    };
    next.handle(Input::Peer(stranger, PeerEvent::Up(session)));
    let all = vec![
        rt3(V1),
        rt3(V2),
        rt2(V1, mac(3), None, 0),
        rt2(V2, mac(4), None, 0),
    ];
    let says = |next: &mut Fixture, update| {
        assert!(!next.core.settled());
        next.handle(Input::Peer(stranger, PeerEvent::Update(Box::new(update))));
    };
    for (route, attributes) in all {
        let update = Update {
            announced: vec![route],
            attributes: Some(Arc::new(attributes)),
            ..Update::default()
        };
        says(&mut next, update);
    }
    let end = Update {
        end_of_rib: Some(Family::EVPN),
        ..Update::default()
    };
    says(&mut next, end);
    assert!(next.core.settled());
    // Nobody comes.
    let mut next = recovered();
    next.advance(Duration::from_secs(120));
    assert!(next.core.settled());
    assert_eq!(next.fdb(mac(4)), None);
    // Nothing is held.
    let next = with_devices(next_with(&Fixture::new(), dynamic()));
    assert!(next.core.settled());
}

/// A route that contradicts what is held wins at once, whatever their numbers.
#[test]
fn a_route_takes_the_place_of_what_is_held() {
    let mut next = recovered(&earlier());
    assert_eq!(next.vtep_of(mac(3)), Some(V1));
    next.up(RR);
    next.announce(rt2(V2, mac(3), None, 0));
    assert_eq!(next.vtep_of(mac(3)), Some(V2));
}

/// Silent VMs are announced as ever, with their addresses, before our End-of-RIB.
#[test]
fn gr_006_local_endpoints_are_announced_as_before() {
    let mut next = recovered(&earlier());
    assert!(next.is_local(mac(1)) && next.is_local(mac(2)));
    next.outputs.clear();
    next.up(RR);
    let ip = |ip: &str| Some(ip.parse().unwrap());
    let sent = next.announced();
    assert_eq!(
        sent,
        [
            (None, 0),
            (None, 4),
            (ip("10.0.0.1"), 4),
            (ip("10.0.0.2"), 0)
        ]
    );
}

/// What was behind a port that is gone does not come back, and neither does a MAC that was seen too
/// long ago.
#[test]
fn who_is_gone_stays_away() {
    let earlier = earlier();
    let mut next = next(&earlier);
    next.link(TAP2, "tap2");
    next.handle(Input::Recovered);
    assert!(!next.is_local(mac(1)) && next.is_local(mac(2)));
    assert_eq!(next.core.intent.endpoints.len(), 1);
    assert_eq!(next.core.intent.port_index.len(), 1);

    // A later port gets another slot than those that came back.
    next.link(TAP1 + 100, "tap9");
    let slots: HashSet<_> = next.core.ports.iter().map(|port| port.slot).collect();
    assert_eq!(slots.len(), 2);
}

/// Tables of another version: who is here, with which addresses and which number.
#[test]
fn endpoints_and_addresses_are_enough_for_what_is_local() {
    let earlier = earlier();
    let mut installed = Installed::default();
    installed.tables.endpoints = earlier.core.intent.endpoints.clone();
    installed.tables.addresses = earlier.core.intent.addresses.clone();
    let (core, outputs) = Core::recover(config(), State::default(), &installed, earlier.now);
    let mut next = Fixture {
        core,
        now: earlier.now,
        outputs,
        turns: None,
    };
    for (ifindex, name) in [(TAP1, "tap1"), (TAP2, "tap2")] {
        next.link(ifindex, name);
    }
    next.handle(Input::Recovered);
    next.outputs.clear();
    next.up(RR);
    let ip = |ip: &str| Some(ip.parse().unwrap());
    let sent = next.announced();
    let expected = [
        (None, 0),
        (None, 4),
        (ip("10.0.0.1"), 4),
        (ip("10.0.0.2"), 0),
    ];
    assert_eq!(sent, expected);
}
