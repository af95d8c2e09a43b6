//! Checklist D4: what we announce and what of others' we use.

use super::*;
use crate::{
    bgp::wire::{
        ArpNd, Encapsulation, EthernetAd, ExtCommunity, MacIp, PmsiTunnel, RawAttribute, TunnelType,
    },
    types::{Esi, EthernetTag},
};

fn own(fixture: &mut Fixture) -> Vec<(Route, Arc<Attributes>)> {
    let sent = fixture.sent();
    let of_group = |(attributes, routes): (Arc<Attributes>, Vec<Route>)| {
        routes
            .into_iter()
            .map(move |route| (route, Arc::clone(&attributes)))
    };
    sent.announce.into_iter().flat_map(of_group).collect()
}

/// ENC-001: RFC 7432 §11.2, RFC 8365 §5.1.3.
#[test]
fn enc_001_imet_of_a_bridge_domain() {
    let mut fixture = Fixture::start(config(), State::default());
    fixture.up(RR);
    let sent = fixture.sent();
    assert!(sent.end_of_rib);
    let [(attributes, routes)] = sent.announce.as_slice() else {
        panic!("not one group: {sent:?}");
    };
    let [Route::Imet(route)] = routes.as_slice() else {
        panic!("not one RT-3: {sent:?}");
    };
    assert_eq!(route.rd.to_string(), "198.18.0.10:1");
    assert_eq!(route.tag, EthernetTag(0));
    assert_eq!(route.originator, IpAddr::V4(US));
    let pmsi = attributes.pmsi.as_ref().unwrap();
    assert_eq!(
        pmsi,
        &PmsiTunnel {
            flags: 0,
            tunnel_type: TunnelType(6),
            label: VNI,
            identifier: bytes::Bytes::from_static(&[198, 18, 0, 10]),
        }
    );
    assert_eq!(
        attributes.ext_communities,
        [
            ExtCommunity([0x00, 0x02, 0xfd, 0xe8, 0, 0, 0x27, 0x74]),
            ExtCommunity([0x03, 0x0c, 0, 0, 0, 0, 0, 8]),
        ]
    );
    assert_eq!(attributes.next_hop, IpAddr::V4(US));
    assert_eq!(attributes.local_pref, Some(100));
    assert!(attributes.as_path.0.is_empty());
}

/// ENC-002, ENC-004: MAC-only, IPv4 and IPv6 routes; only the IPv6 one has the ARP/ND community.
#[test]
fn enc_002_004_mac_and_mac_ip() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    let ip = "fd00::1".parse().unwrap();
    fixture.event(TAP1, EventKind::Na, mac(1), Some(ip), 0xa0);
    let routes = own(&mut fixture);
    assert_eq!(routes.len(), 3);
    for (route, attributes) in routes {
        let Route::MacIp(MacIp {
            esi,
            mac,
            ip,
            label1,
            label2,
            ..
        }) = route
        else {
            panic!("no RT-2: {route:?}");
        };
        assert_eq!(
            (esi, mac, label1, label2),
            (Esi::ZERO, super::mac(1), VNI, None)
        );
        let communities = &attributes.ext_communities;
        assert_eq!(
            attributes.mac_mobility(),
            None,
            "left out of the first announcement"
        );
        let flags: Vec<_> = communities.iter().filter_map(|c| c.arp_nd()).collect();
        match ip {
            Some(IpAddr::V6(_)) => assert_eq!(
                flags,
                [ArpNd {
                    router: true,
                    override_: true,
                    immutable: false,
                }]
            ),
            _ => assert_eq!(flags, []),
        }
    }
}

/// ENC-006: RFC 7432 §7.9.
#[test]
fn enc_006_rds_are_distinct_and_stay() {
    let mut config = config();
    config.bds.push(BdConfig::new(name("red"), vni(200)));
    let (first, outputs) = Core::new(
        config.clone(),
        State::default(),
        Start::default(),
        Instant::now(),
    );
    let Some(Output::Persist(state)) = outputs
        .into_iter()
        .find(|output| matches!(output, Output::Persist(_)))
    else {
        panic!("RD indexes are not saved");
    };
    let rds = |core: &Core| {
        core.bds(None)
            .unwrap()
            .into_iter()
            .map(|bd| (bd.name, bd.rd))
            .collect::<Vec<_>>()
    };
    let blue = ("blue".to_owned(), "198.18.0.10:1".to_owned());
    let red = ("red".to_owned(), "198.18.0.10:2".to_owned());
    assert_eq!(rds(&first), [blue, red.clone()]);
    // `blue` is gone at the next start.
    config.bds.remove(0);
    let (second, _) = Core::new(config, *state, Start::default(), Instant::now());
    assert_eq!(rds(&second), [red]);
}

/// ENC-008.
#[test]
fn enc_008_targets_of_other_ases() {
    let foreign = || {
        let (route, mut attributes) = rt2(V1, mac(9), None, 0);
        attributes.ext_communities[0] = RouteTarget::auto(Asn(65099), vni(VNI)).into();
        (route, attributes)
    };
    let mut fixture = Fixture::new();
    fixture.announce(foreign());
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));

    let mut config = config();
    let exact = "65000:10100".parse().unwrap();
    config.bds[0].rt_import = Some(vec![exact]);
    let mut fixture = Fixture::start(config, State::default());
    fixture.up(RR);
    fixture.announce(foreign());
    assert_eq!(fixture.fdb(mac(9)), None);
    assert!(fixture.reason(&foreign().0).contains("route targets"));
}

/// ENC-009, ENC-010, ENC-011: RFC 8365 §6.
#[test]
fn enc_009_010_011_encapsulations() {
    for (tunnels, used) in [
        (&[][..], true),
        (&[Encapsulation::MPLS], false),
        (&[Encapsulation::VXLAN, Encapsulation::NVGRE], true),
        (&[Encapsulation::GENEVE, Encapsulation::VXLAN], true),
    ] {
        let mut fixture = Fixture::new();
        let (route, mut attributes) = rt2(V1, mac(9), None, 0);
        attributes.ext_communities.retain(|c| c.tunnel().is_none());
        let communities = tunnels.iter().copied().map(ExtCommunity::encapsulation);
        attributes.ext_communities.extend(communities);
        fixture.announce((route.clone(), attributes));
        assert_eq!(fixture.fdb(mac(9)).is_some(), used, "{tunnels:?}");
        if !used {
            assert!(fixture.reason(&route).contains("mpls"));
        }
    }
}

/// RFC 9012 §4.1: a tunnel encapsulation attribute without sub-TLVs says what the community says.
#[test]
fn encapsulation_attribute() {
    for (tunnel, used) in [(8, true), (10, false)] {
        let mut fixture = Fixture::new();
        let (route, mut attributes) = rt2(V1, mac(9), None, 0);
        attributes.ext_communities.retain(|c| c.tunnel().is_none());
        attributes.other.push(RawAttribute {
            flags: 0xc0,
            code: 23,
            value: bytes::Bytes::copy_from_slice(&[0, tunnel, 0, 0]),
        });
        fixture.announce((route, attributes));
        assert_eq!(fixture.fdb(mac(9)).is_some(), used, "{tunnel}");
    }
}

/// ENC-012: RFC 7432 §11.2.
#[test]
fn enc_012_imet_without_tunnel() {
    let mut fixture = Fixture::new();
    let (route, mut attributes) = rt3(V1);
    attributes.pmsi = None;
    fixture.announce((route.clone(), attributes));
    assert!(fixture.flood().1.is_empty());
    assert!(fixture.reason(&route).contains("no PMSI"));
}

/// ERR-018 (RFC 9574 §5.3, RFC 6514 §5): assisted replication and a tunnel of unknown type are kept,
/// and nothing is flooded to them.
#[test]
fn err_018_other_tunnels_are_not_flooded_to() {
    let mut fixture = Fixture::new();
    fixture.announce(rt3(V2));
    for tunnel_type in [TunnelType::ASSISTED_REPLICATION, TunnelType(0x55)] {
        let (route, mut attributes) = rt3(V1);
        attributes.pmsi.as_mut().unwrap().tunnel_type = tunnel_type;
        fixture.announce((route.clone(), attributes));
        assert_eq!(fixture.flood().1, [V2]);
        assert!(fixture.route(&route).best);
        assert!(fixture.reason(&route).contains("tunnel"));
    }
    fixture.announce(rt3(V1));
    assert_eq!(fixture.flood().1, [V1, V2]);
}

/// ENC-013, ENC-022: ESI and label are no part of the key (RFC 7432 §7.2).
#[test]
fn enc_013_022_same_key_replaces() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(9), None, 0));
    let (route, attributes) = rt2(V1, mac(9), None, 0);
    let Route::MacIp(mut other) = route else {
        panic!("no RT-2");
    };
    other.esi = Esi([3, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    other.label1 = 77;
    let other = Route::MacIp(other);
    fixture.announce((other.clone(), attributes.clone()));
    assert_eq!(fixture.fdb(mac(9)), None, "the first form is replaced");
    fixture.announce((route.clone(), attributes));
    assert!(fixture.fdb(mac(9)).is_some());
    fixture.withdraw(&other);
    assert_eq!(fixture.fdb(mac(9)), None);
}

/// ENC-017 (RFC 7432 §8.2.1): the targets of many EVIs on one segment come in several per-ES routes,
/// which differ in their RD alone; each is kept, and goes by itself. None is sent, since the agent has
/// no segments of its own.
#[test]
fn enc_017_per_es_routes_stay_apart() {
    let mut fixture = Fixture::new();
    let per_es = |index: u16| {
        let route = Route::EthernetAd(EthernetAd {
            rd: RouteDistinguisher::ipv4(V1, index),
            esi: Esi([0, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
            tag: EthernetTag::MAX,
            label: 0,
        });
        let (_, mut attributes) = rt2(V1, mac(9), None, 0);
        let target = RouteTarget::two_octet_as(65000, 20000 + u32::from(index));
        attributes.ext_communities[0] = target.into();
        (route, attributes)
    };
    let held = |fixture: &Fixture| {
        let routes = fixture.core.routes(None, &HashSet::default()).unwrap();
        let received = routes.into_iter().filter(|route| route.peer.is_some());
        let held = received.map(|route| (route.rd, route.attributes.route_targets));
        held.collect::<Vec<_>>()
    };
    for index in 1..=3 {
        fixture.announce(per_es(index));
    }
    let expected = |index: u16| {
        let target = format!("65000:{}", 20000 + u32::from(index));
        (format!("198.18.0.1:{index}"), vec![target])
    };
    assert_eq!(held(&fixture), [1, 2, 3].map(expected));
    fixture.withdraw(&per_es(2).0);
    assert_eq!(held(&fixture), [1, 3].map(expected));
}

/// ENC-019 (RFC 9135 §9.1.1): one label and the target of an IP-VRF alone. Without IP-VRFs that is a
/// target that nobody imports; the route is gone from the bridge domain as if it were withdrawn, and
/// says why.
#[test]
fn enc_019_target_of_an_ip_vrf_only() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(9), None, 0));
    assert!(fixture.fdb(mac(9)).is_some());
    let (route, mut attributes) = rt2(V1, mac(9), None, 0);
    attributes.ext_communities[0] = RouteTarget::two_octet_as(65000, 50001).into();
    fixture.announce((route.clone(), attributes));
    assert_eq!(fixture.fdb(mac(9)), None);
    assert!(fixture.reason(&route).contains("route targets"));
}

/// RFC 9135 §6.2: a receiver without symmetric IRB ignores the second label. Which of two VRFs a single target
/// is of can't be seen here, so that a route with both labels and one target is a MAC as well.
#[test]
fn second_label_is_ignored() {
    let mut fixture = Fixture::new();
    let (route, attributes) = rt2(V1, mac(9), Some("10.0.0.9"), 0);
    let Route::MacIp(mut route) = route else {
        panic!("no RT-2");
    };
    route.label2 = Some(50001);
    fixture.announce((Route::MacIp(route), attributes));
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
}

/// ENC-020: RFC 9014 §3.5.1.
#[test]
fn enc_020_unknown_mac_route_is_accepted() {
    let mut fixture = Fixture::new();
    let route = rt2(V1, Mac::ZERO, None, 0);
    fixture.announce(route.clone());
    assert!(fixture.core.intent.fdb.is_empty());
    assert!(fixture.route(&route.0).best);
}

/// ENC-021: with `any_ethernet_tag` others are used too, each by itself, from one reload to the next.
#[test]
fn enc_021_any_ethernet_tag() {
    let mut fixture = Fixture::new();
    let tagged = |tag| {
        let (route, attributes) = rt2(V1, mac(9), Some("10.0.0.9"), 0);
        let Route::MacIp(mut route) = route else {
            panic!("no RT-2");
        };
        route.tag = EthernetTag(tag);
        (Route::MacIp(route), attributes)
    };
    fixture.announce(tagged(10100));
    let (Route::Imet(mut imet), attributes) = rt3(V1) else {
        panic!("no RT-3");
    };
    imet.tag = EthernetTag(10100);
    fixture.announce((Route::Imet(imet), attributes));
    let reload = |fixture: &mut Fixture, any| {
        let mut config = config();
        config.bds[0].any_ethernet_tag = any;
        fixture.command(Command::Reload(Box::new(config))).unwrap();
    };
    for any in [true, false, true] {
        reload(&mut fixture, any);
        assert_eq!(fixture.fdb(mac(9)).is_some(), any);
        assert_eq!(fixture.flood().1.len(), usize::from(any));
        assert_eq!(fixture.core.vteps(None).unwrap().len(), usize::from(any));
    }
    fixture.announce(tagged(0));
    fixture.withdraw(&tagged(10100).0);
    assert!(fixture.fdb(mac(9)).is_some());
    fixture.withdraw(&tagged(0).0);
    assert_eq!(fixture.fdb(mac(9)), None);
}

/// ENC-021: only tag 0 in VLAN-based service.
#[test]
fn enc_021_ethernet_tag() {
    let mut fixture = Fixture::new();
    let (route, attributes) = rt2(V1, mac(9), None, 0);
    let Route::MacIp(mut route) = route else {
        panic!("no RT-2");
    };
    route.tag = EthernetTag(10100);
    fixture.announce((Route::MacIp(route), attributes));
    assert_eq!(fixture.fdb(mac(9)), None);
    assert!(fixture.reason(&Route::MacIp(route)).contains("tag 10100"));
}

/// RFC 7432 §9.2.2: not without the per-ES Ethernet A-D route.
#[test]
fn segment_without_ethernet_ad_is_not_installed() {
    let mut fixture = Fixture::new();
    let (route, attributes) = rt2(V1, mac(9), None, 0);
    let Route::MacIp(mut route) = route else {
        panic!("no RT-2");
    };
    route.esi = Esi([0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    fixture.announce((Route::MacIp(route), attributes.clone()));
    assert_eq!(fixture.fdb(mac(9)), None);
    assert!(
        fixture
            .reason(&Route::MacIp(route))
            .contains("Ethernet A-D")
    );
    // MAX-ESI is resolved by itself alone.
    route.esi = Esi::MAX;
    fixture.announce((Route::MacIp(route), attributes));
    assert!(fixture.fdb(mac(9)).is_some());
}

/// Three bridge domains with the same MACs and addresses do not touch each other.
#[test]
fn bridge_domains_stay_apart() {
    let mut config = config();
    config.bds = (1..=3)
        .map(|n| BdConfig {
            ports: vec![pattern(&format!("tap{n}"), None)],
            ..BdConfig::new(name(&format!("bd{n}")), vni(n))
        })
        .collect();
    let mut fixture = Fixture::start(config, State::default());
    fixture.up(RR);
    for n in 1..=3 {
        fixture.link(n, &format!("tap{n}"));
        fixture.frame(n, mac(1));
        fixture.arp(n, mac(1), "10.0.0.1");
    }
    assert_eq!(fixture.core.intent.fdb.len(), 3);
    assert_eq!(fixture.core.intent.arp.len(), 3);
    fixture.handle(Input::LinkGone(2));
    assert_eq!(fixture.core.intent.fdb.len(), 2);
    assert_eq!(fixture.core.intent.arp.len(), 2);
    let names: Vec<_> = fixture.core.macs(None, fixture.now).unwrap();
    assert_eq!(
        names.iter().map(|m| m.bd.as_str()).collect::<Vec<_>>(),
        ["bd1", "bd3"]
    );
}
