//! Unicast families: what is announced, and what the host is to route.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::*;
use crate::{
    bgp::{
        peer::LocalEnd,
        wire::{AsPath, AsSegment},
    },
    config::{DynamicPeers, MaxPrefixes},
    core::{HostNextHop, HostRoute},
};

const LEAF1: PeerId = PeerId(0);
const LEAF2: PeerId = PeerId(1);
const P: &str = "198.18.0.20/32";
const IPV4: Families = Families {
    ipv4: true,
    ..Families::EVPN
};

/// Two leaves, 192.0.2.1 in AS 65101 and 192.0.2.3 in AS 65102, that are not up yet; our ends are
/// 192.0.2.0 and 192.0.2.2.
fn leaves(change: impl FnOnce(&mut Config)) -> Fixture {
    let mut config = config();
    config.bgp.peers = [1, 3]
        .map(|host| PeerConfig {
            families: IPV4,
            ..PeerConfig::new(Ipv4Addr::new(192, 0, 2, host).into(), PeerAsn::External)
        })
        .into();
    change(&mut config);
    Fixture::start(config, State::default())
}

fn both_up(change: impl FnOnce(&mut Config)) -> Fixture {
    let mut fixture = leaves(change);
    for leaf in [LEAF1, LEAF2] {
        fixture.handle(Input::Peer(leaf, PeerEvent::Up(leaf_session(leaf))));
    }
    fixture.outputs.clear();
    fixture
}

fn host(leaf: PeerId) -> u8 {
    leaf.0 as u8 * 2 + 1
}

fn leaf_session(leaf: PeerId) -> Session {
    let address = Ipv4Addr::new(192, 0, 2, host(leaf));
    Session {
        families: IPV4,
        local: Some(LocalEnd {
            address: Ipv4Addr::new(192, 0, 2, host(leaf) - 1).into(),
            interface: None,
        }),
        ..Session::new(address.into(), Asn(65101 + leaf.0), address, false)
    }
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn announcement(leaf: PeerId, prefixes: &[&str], change: impl FnOnce(&mut Attributes)) -> Update {
    let next_hop = Ipv4Addr::new(192, 0, 2, host(leaf));
    let mut attributes = Attributes {
        as_path: AsPath(vec![AsSegment::Sequence(vec![
            Asn(65101 + leaf.0),
            Asn(65200),
        ])]),
        ..Attributes::originated(next_hop.into())
    };
    change(&mut attributes);
    let routes = prefixes.iter().map(|text| Route::Unicast(prefix(text)));
    Update {
        classic: Some((Arc::new(attributes), routes.collect())),
        ..Update::default()
    }
}

impl Fixture {
    fn from(&mut self, leaf: PeerId, update: Update) {
        self.handle(Input::Peer(leaf, PeerEvent::Update(Box::new(update))));
    }

    fn leaf_announces(&mut self, leaf: PeerId, prefixes: &[&str]) {
        self.from(leaf, announcement(leaf, prefixes, |_| ()));
    }

    /// Gateways by prefix, as the daemon was told last since the previous call.
    fn routed(&mut self) -> BTreeMap<String, Option<Vec<String>>> {
        let outputs = std::mem::take(&mut self.outputs).into_iter();
        let gateways = |route: HostRoute| {
            let hops = route.next_hops.iter();
            hops.map(|hop| hop.gateway.to_string()).collect()
        };
        outputs
            .filter_map(|output| match output {
                Output::HostRoute(prefix, route) => Some((prefix.to_string(), route.map(gateways))),
                _ => None,
            })
            .collect()
    }

    fn use_of(&self, text: &str, leaf: PeerId) -> (bool, bool, String) {
        let routes = self
            .core
            .unicast_routes(Family::IPV4_UNICAST, &BTreeMap::new());
        let peer = IpAddr::from(Ipv4Addr::new(192, 0, 2, host(leaf)));
        let of = |route: &&view::UnicastRoute| route.prefix == text && route.peer == Some(peer);
        let route = routes.iter().find(of).unwrap();
        (
            route.best,
            route.installed,
            route.reason.clone().unwrap_or_default(),
        )
    }
}

fn only(text: &str, gateways: &[&str]) -> BTreeMap<String, Option<Vec<String>>> {
    let gateways: Vec<_> = gateways.iter().map(ToString::to_string).collect();
    [(text.to_owned(), (!gateways.is_empty()).then_some(gateways))].into()
}

/// RFC 4271 §5.1.3: next hop self, our AS in front, in the session's families, each ended by its
/// End-of-RIB; EVPN routes keep the VTEP as next hop.
#[test]
fn the_vtep_is_announced() {
    let mut fixture = leaves(|_| ());
    fixture.outputs.clear();
    fixture.handle(Input::Peer(LEAF1, PeerEvent::Up(leaf_session(LEAF1))));
    let outputs = std::mem::take(&mut fixture.outputs);
    let sent: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send(LEAF1, advertisement) => Some(advertisement),
            _ => None,
        })
        .collect();
    let of = |family| *sent.iter().find(|sent| sent.family == family).unwrap();
    let ipv4 = of(Family::IPV4_UNICAST);
    assert!(ipv4.end_of_rib && of(Family::EVPN).end_of_rib);
    let (attributes, routes) = &ipv4.announce[0];
    assert_eq!(routes, &[Route::Unicast(prefix("198.18.0.10/32"))]);
    assert_eq!(attributes.next_hop.to_string(), "192.0.2.0");
    assert_eq!(
        attributes.as_path,
        AsPath(vec![AsSegment::Sequence(vec![Asn(65000)])])
    );
    let (attributes, _) = &of(Family::EVPN).announce[0];
    assert_eq!(attributes.next_hop, IpAddr::V4(US));

    // RFC 2918 §4: once more, of that family alone.
    let refresh = PeerEvent::Refresh(Family::IPV4_UNICAST);
    fixture.handle(Input::Peer(LEAF1, refresh));
    let again = fixture.sent();
    assert!(again.refresh && again.announce.len() == 1);
    let outputs = fixture.core.shutdown(fixture.now);
    let withdrawn = outputs.iter().any(|output| {
        matches!(output, Output::Send(_, sent)
            if sent.withdraw == [Route::Unicast(prefix("198.18.0.10/32")).key()])
    });
    assert!(withdrawn);
}

/// RFC 8950 §4, RFC 4760 §3: without a next hop that the peer understands nothing is announced; a
/// link-local one serves where it does.
#[test]
fn next_hops_of_unnumbered_sessions() {
    let link_local = |extended_next_hop, families| Session {
        families,
        extended_next_hop,
        local: Some(LocalEnd {
            address: "fe80::2".parse().unwrap(),
            interface: Some(7),
        }),
        ..leaf_session(LEAF1)
    };
    for extended in [false, true] {
        let mut fixture = leaves(|_| ());
        let event = PeerEvent::Up(link_local(extended, IPV4));
        fixture.handle(Input::Peer(LEAF1, event));
        let outputs = fixture.outputs.iter();
        let ipv4 = outputs.filter_map(|output| match output {
            Output::Send(_, sent) if sent.family == Family::IPV4_UNICAST => Some(sent),
            _ => None,
        });
        let next_hops: Vec<_> = ipv4
            .flat_map(|sent| &sent.announce)
            .map(|(attributes, _)| attributes.next_hop.to_string())
            .collect();
        assert_eq!(next_hops, ["fe80::2"][..usize::from(extended)]);
    }
    // What comes over such a session is on its link.
    let mut fixture = leaves(|_| ());
    fixture.handle(Input::Peer(LEAF1, PeerEvent::Up(link_local(true, IPV4))));
    let update = announcement(LEAF1, &[P], |attributes| {
        attributes.next_hop = "fe80::1".parse().unwrap();
    });
    fixture.from(LEAF1, update);
    let route = fixture.outputs.iter().find_map(|output| match output {
        Output::HostRoute(_, route) => route.clone(),
        _ => None,
    });
    let expected = HostRoute {
        table: 254,
        metric: 512,
        source: Some(IpAddr::V4(US)),
        next_hops: vec![HostNextHop {
            gateway: "fe80::1".parse().unwrap(),
            interface: Some(7),
        }],
    };
    assert_eq!(route, Some(expected));
}

#[test]
fn paths_of_two_leaves_are_used_together() {
    let mut fixture = both_up(|config| config.underlay.multipath_relax = true);
    fixture.leaf_announces(LEAF1, &[P]);
    assert_eq!(fixture.routed(), only(P, &["192.0.2.1"]));
    fixture.leaf_announces(LEAF2, &[P]);
    assert_eq!(fixture.routed(), only(P, &["192.0.2.1", "192.0.2.3"]));
    assert_eq!(fixture.use_of(P, LEAF1), (true, true, String::new()));
    assert_eq!(fixture.use_of(P, LEAF2), (false, true, String::new()));
    // The same once more changes nothing.
    fixture.leaf_announces(LEAF2, &[P]);
    assert_eq!(fixture.routed(), BTreeMap::new());
    fixture.handle(Input::Peer(LEAF1, PeerEvent::Down));
    assert_eq!(fixture.routed(), only(P, &["192.0.2.3"]));
    fixture.handle(Input::Peer(LEAF2, PeerEvent::Down));
    assert_eq!(fixture.routed(), only(P, &[]));
}

/// RFC 4271 §9.1.2.2: whatever decides before the identifiers keeps a path from being used beside the
/// best one, and says so.
#[test]
fn paths_that_are_worse_are_not_used() {
    type Change = fn(&mut Attributes);
    let longer: Change = |attributes| {
        attributes.as_path = AsPath(vec![AsSegment::Sequence(
            [65102, 65200, 65300].map(Asn).into(),
        )]);
    };
    let origin: Change = |attributes| attributes.origin = crate::bgp::wire::Origin::Incomplete;
    let same: Change = |_| ();
    for (relax, ecmp, change, reason) in [
        (true, 8, longer, "not best: longer AS_PATH"),
        (true, 8, origin, "not best: higher ORIGIN"),
        (false, 8, same, "not used beside the best: another AS_PATH"),
        (
            true,
            1,
            same,
            "not used beside the best: underlay.ecmp is 1",
        ),
    ] {
        let mut fixture = both_up(|config| {
            config.underlay.multipath_relax = relax;
            config.underlay.ecmp = ecmp;
        });
        fixture.leaf_announces(LEAF1, &[P]);
        fixture.from(LEAF2, announcement(LEAF2, &[P], change));
        assert_eq!(fixture.routed(), only(P, &["192.0.2.1"]), "{reason}");
        let (best, installed, why) = fixture.use_of(P, LEAF2);
        assert!(!best && !installed && why.starts_with(reason), "{why}");
    }
}

/// Nobody is believed about our own address, and nothing outside of the list is taken.
#[test]
fn prefixes_that_are_not_accepted() {
    let mut fixture = both_up(|config| {
        config.underlay.import = Config::parse(
            "[vtep]\naddress = \"198.18.0.10\"\n[bgp]\nasn = 1\n\
             [underlay]\nimport = [\"198.18.0.0/16 le 32\"]\n",
            "vtep.toml".as_ref(),
        )
        .unwrap()
        .0
        .underlay
        .import;
    });
    fixture.leaf_announces(LEAF1, &["198.18.0.10/32", "10.0.0.0/8", "198.18.0.0/16"]);
    assert_eq!(fixture.routed(), only("198.18.0.0/16", &["192.0.2.1"]));
    let (.., why) = fixture.use_of("198.18.0.10/32", LEAF1);
    assert_eq!(why, "rejected: the prefix is ours");
    let (.., why) = fixture.use_of("10.0.0.0/8", LEAF1);
    assert_eq!(why, "rejected: underlay.import does not list the prefix");
    // RFC 4271 §9.1.2: our own AS.
    let update = announcement(LEAF1, &["198.18.7.0/24"], |attributes| {
        attributes.as_path = AsPath(vec![AsSegment::Sequence([65101, 65000].map(Asn).into())]);
    });
    fixture.from(LEAF1, update);
    assert_eq!(fixture.routed(), BTreeMap::new());

    // A reload is applied to what is there.
    let mut config = fixture.core.config().clone();
    config.underlay.import.clear();
    config.underlay.announce = vec![prefix("203.0.113.0/24")];
    fixture.command(Command::Reload(Box::new(config))).unwrap();
    assert_eq!(
        fixture.use_of("10.0.0.0/8", LEAF1),
        (true, true, String::new())
    );
    let sent = fixture.sent();
    assert_eq!(
        sent.withdraw,
        [Route::Unicast(prefix("198.18.0.10/32")).key()]
    );
    assert_eq!(
        sent.announce[0].1,
        [Route::Unicast(prefix("203.0.113.0/24"))]
    );
}

/// A host is no transit: what one leaf announced is told to no other.
#[test]
fn nothing_is_passed_on() {
    let mut fixture = both_up(|_| ());
    fixture.leaf_announces(LEAF1, &[P, "0.0.0.0/0"]);
    let sends = |output: &Output| matches!(output, Output::Send(..));
    assert!(!fixture.outputs.iter().any(sends), "{:?}", fixture.outputs);
}

/// RFC 4486 §4: the limit is that of each family.
#[test]
fn too_many_prefixes() {
    let mut fixture = both_up(|config| {
        config.bgp.peers[0].max_prefixes = Some(MaxPrefixes {
            limit: 2,
            warn_only: false,
        });
    });
    fixture.leaf_announces(LEAF1, &[P, "198.18.0.21/32"]);
    let ended = |fixture: &Fixture| {
        let ends = |output: &Output| {
            matches!(
                output,
                Output::TooManyRoutes(LEAF1, Family::IPV4_UNICAST, 2)
            )
        };
        fixture.outputs.iter().any(ends)
    };
    assert!(!ended(&fixture));
    fixture.leaf_announces(LEAF1, &["198.18.0.22/32"]);
    assert!(ended(&fixture));
}

/// What an earlier run left in the kernel is given up when every leaf has said what there is.
#[test]
fn complete_after_the_last_end_of_rib() {
    let mut fixture = both_up(|_| ());
    let end = || Update {
        end_of_rib: Some(Family::IPV4_UNICAST),
        ..Update::default()
    };
    let complete = |fixture: &Fixture| {
        let is = |output: &Output| matches!(output, Output::HostRoutesComplete);
        fixture.outputs.iter().filter(|output| is(output)).count()
    };
    fixture.from(LEAF1, end());
    assert_eq!(complete(&fixture), 0);
    fixture.from(LEAF2, end());
    assert_eq!(complete(&fixture), 1);
    fixture.from(LEAF2, end());
    assert_eq!(complete(&fixture), 1);
    // Without such peers at once,
    let mut config = config();
    assert_eq!(
        complete(&Fixture::start(config.clone(), State::default())),
        1
    );
    // but not where one may still come.
    let template = PeerConfig {
        families: IPV4,
        ..PeerConfig::new(Ipv4Addr::UNSPECIFIED.into(), PeerAsn::External)
    };
    config.bgp.dynamic = vec![DynamicPeers::new(prefix("192.0.2.0/24"), 8, template)];
    assert_eq!(complete(&Fixture::start(config, State::default())), 0);
}

/// RFC 7313 §4: what a refresh doesn't bring again goes at its end, and nothing before.
#[test]
fn a_route_refresh_of_the_family() {
    let mut fixture = both_up(|config| config.underlay.multipath_relax = true);
    let end = Update {
        end_of_rib: Some(Family::IPV4_UNICAST),
        ..Update::default()
    };
    fixture.from(LEAF1, end);
    fixture.leaf_announces(LEAF1, &[P, "198.18.0.21/32"]);
    fixture.leaf_announces(LEAF2, &[P]);
    fixture.routed();
    let refresh = |event: fn(Family) -> PeerEvent| event(Family::IPV4_UNICAST);
    fixture.handle(Input::Peer(LEAF1, refresh(PeerEvent::RefreshBegin)));
    fixture.leaf_announces(LEAF1, &[P]);
    assert_eq!(fixture.routed(), BTreeMap::new());
    fixture.handle(Input::Peer(LEAF1, refresh(PeerEvent::RefreshEnd)));
    assert_eq!(fixture.routed(), only("198.18.0.21/32", &[]));
}
