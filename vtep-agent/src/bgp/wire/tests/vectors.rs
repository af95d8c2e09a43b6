//! Golden vectors, read and written. V19, V20 and V22 were also decoded with tshark 4.0 (text2pcap
//! to TCP port 179), which shows the values that these tests expect and no malformed field.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::*;
use crate::{
    bgp::rib::Advertisement,
    types::{Esi, EthernetTag, Mac, RouteDistinguisher, RouteTarget},
};

const ENDPOINT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const ESI: Esi = Esi([0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99]);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn rd(number: u16) -> RouteDistinguisher {
    RouteDistinguisher::ipv4(Ipv4Addr::new(10, 0, 0, 1), number)
}

/// V1 to V16 in both directions; types 6 to 8 are carried.
#[test]
fn nlri_round_trip() {
    for nlri in NLRI {
        assert_eq!(to_hex(&encoded(&route(nlri))), nlri);
        assert_eq!(nlri::validate(&route(nlri)), Ok(()), "{nlri}");
    }
}

#[test]
fn ethernet_ad() {
    let per_es = EthernetAd {
        rd: rd(1),
        esi: ESI,
        tag: EthernetTag::MAX,
        label: 0,
    };
    assert_eq!(route(V1), Route::EthernetAd(per_es));
    let per_evi = EthernetAd {
        rd: rd(7),
        esi: ESI,
        tag: EthernetTag(0),
        label: 10100,
    };
    assert_eq!(route(V2), Route::EthernetAd(per_evi));
}

/// ENC-002, ENC-003, ENC-004: the VNI fills the label field.
#[test]
fn mac_ip() {
    let mac_only = MacIp {
        rd: rd(7),
        esi: Esi::ZERO,
        tag: EthernetTag(0),
        mac: MAC,
        ip: None,
        label1: 10100,
        label2: None,
    };
    assert_eq!(route(V3), Route::MacIp(mac_only));
    let asymmetric = MacIp {
        ip: Some("192.0.2.10".parse().unwrap()),
        ..mac_only
    };
    assert_eq!(route(V4), Route::MacIp(asymmetric));
    let symmetric = MacIp {
        label2: Some(50001),
        ..asymmetric
    };
    assert_eq!(route(V5), Route::MacIp(symmetric));
    let v6 = MacIp {
        ip: Some("2001:db8::10".parse().unwrap()),
        ..symmetric
    };
    assert_eq!(route(V6), Route::MacIp(v6));
}

/// ENC-001, ENC-016.
#[test]
fn imet() {
    let v4 = Imet {
        rd: rd(7),
        tag: EthernetTag(0),
        originator: ENDPOINT,
    };
    assert_eq!(route(V7), Route::Imet(v4));
    let originator = "2001:db8:ffff::1".parse().unwrap();
    assert_eq!(route(V8), Route::Imet(Imet { originator, ..v4 }));
}

#[test]
fn ethernet_segment() {
    let expected = EthernetSegment {
        rd: rd(1),
        esi: ESI,
        originator: ENDPOINT,
    };
    assert_eq!(route(V9), Route::EthernetSegment(expected));
}

#[test]
fn ip_prefix() {
    let v4 = IpPrefix {
        rd: rd(0x63),
        esi: Esi::ZERO,
        tag: EthernetTag(0),
        prefix: "198.51.100.0/24".parse().unwrap(),
        gateway: "0.0.0.0".parse().unwrap(),
        label: 50001,
    };
    assert_eq!(route(V10), Route::IpPrefix(v4));
    let v6 = IpPrefix {
        prefix: "2001:db8:1::/64".parse().unwrap(),
        gateway: "::".parse().unwrap(),
        ..v4
    };
    assert_eq!(route(V11), Route::IpPrefix(v6));
    let gateway = IpPrefix {
        gateway: "192.0.2.10".parse().unwrap(),
        label: 0,
        ..v4
    };
    assert_eq!(route(V12), Route::IpPrefix(gateway));
}

/// V17, each in an UPDATE of its own.
#[test]
fn pmsi_tunnels() {
    use TunnelType as T;
    for (value, flags, tunnel_type, endpoint) in [
        ("00060027740a000001", 0x00, T::INGRESS_REPLICATION, 1),
        ("10060027740a000001", 0x10, T::INGRESS_REPLICATION, 1),
        ("16060027740a000001", 0x16, T::INGRESS_REPLICATION, 1),
        ("080a0027740a000002", 0x08, T::ASSISTED_REPLICATION, 2),
        ("090a0027740a000002", 0x09, T::ASSISTED_REPLICATION, 2),
    ] {
        let pmsi = format!("c01609{value}");
        let attributes = [&reach(&[V7]), ORIGIN, AS_PATH, LOCAL_PREF, &pmsi];
        let (update, faults) = read_update(&attributes, &Context::default()).unwrap();
        let expected = PmsiTunnel {
            flags,
            tunnel_type,
            label: 10100,
            identifier: Bytes::copy_from_slice(&[10, 0, 0, endpoint]),
        };
        assert_eq!(update.attributes.clone().unwrap().pmsi, Some(expected));
        assert!(faults.is_empty());
        let mut out = BytesMut::new();
        Message::Update(update).encode(&Context::default(), &mut out);
        assert!(to_hex(&out).ends_with(&pmsi), "{}", to_hex(&out));
    }
}

/// V18.
#[test]
fn extended_communities() {
    let community = |text: &str| ExtCommunity(hex(text).try_into().unwrap());
    let mobility = |sticky, sequence| MacMobility { sticky, sequence };
    let flags = |router, override_, immutable| ArpNd {
        router,
        override_,
        immutable,
    };

    let vxlan = community("030c000000000008");
    assert_eq!(vxlan.tunnel(), Some(Encapsulation::VXLAN));
    assert_eq!(ExtCommunity::encapsulation(Encapsulation::VXLAN), vxlan);
    let geneve = community("030c000000000013");
    assert_eq!(ExtCommunity::encapsulation(Encapsulation::GENEVE), geneve);

    for (text, expected) in [
        ("0600000000000001", mobility(false, 1)),
        ("0600010000000000", mobility(true, 0)),
    ] {
        assert_eq!(community(text).mac_mobility(), Some(expected));
        assert_eq!(ExtCommunity::from_mac_mobility(expected), community(text));
    }
    for (text, expected) in [
        ("0608030000000000", flags(true, true, false)),
        ("0608080000000000", flags(false, false, true)),
    ] {
        assert_eq!(community(text).arp_nd(), Some(expected));
        assert_eq!(ExtCommunity::from_arp_nd(expected), community(text));
    }
    let router_mac = community("06030200000000fe").router_mac();
    assert_eq!(router_mac, Some(Mac([2, 0, 0, 0, 0, 0xfe])));
    assert!(community("030d000000000000").is_default_gateway());
    let target = community("0002fde900002774").route_target().unwrap();
    assert_eq!(target.to_string(), "65001:10100");

    // ES-Import, EVI-RT, ESI label and DF election are no route targets (RFC 9251 §9.5).
    for text in [
        "0602112233445566",
        "060afde900002774",
        "0601010000000000",
        "0606028000007fff",
    ] {
        assert_eq!(community(text).route_target(), None);
    }
}

fn v19_attributes() -> Attributes {
    let target: RouteTarget = "65001:10100".parse().unwrap();
    Attributes {
        local_pref: Some(100),
        ext_communities: vec![
            target.into(),
            ExtCommunity::encapsulation(Encapsulation::VXLAN),
        ],
        pmsi: Some(PmsiTunnel {
            flags: 0,
            tunnel_type: TunnelType::INGRESS_REPLICATION,
            label: 10100,
            identifier: Bytes::from_static(&[10, 0, 0, 1]),
        }),
        ..Attributes::originated(ENDPOINT)
    }
}

/// V19: an internal IMET route.
#[test]
fn imet_update() {
    let expected = Update {
        announced: vec![route(V7)],
        attributes: Some(Arc::new(v19_attributes())),
        ..Update::default()
    };
    let decoded = read(&hex(V19), &Context::default()).unwrap();
    assert_eq!(decoded.message, Message::Update(expected));
    assert!(decoded.faults.is_empty());

    let mut out = Vec::new();
    let advertisement = Advertisement {
        announce: vec![(Arc::new(v19_attributes()), vec![route(V7)])],
        ..Advertisement::default()
    };
    encode_advertisement(&advertisement, &Context::default(), MAX_LEN, &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(to_hex(&out[0]), V19);
}

/// V20.
#[test]
fn end_of_rib_marker() {
    let expected = Update {
        end_of_rib: Some(Family::EVPN),
        ..Update::default()
    };
    let decoded = read(&hex(V20), &Context::default()).unwrap();
    assert_eq!(decoded.message, Message::Update(expected));
    assert_eq!(to_hex(&end_of_rib(Family::EVPN)), V20);
    assert_eq!(end_of_rib(Family::IPV4_UNICAST).len(), 23);
    // Only an UPDATE with nothing else marks the end (RFC 4724 §2).
    for attributes in [
        vec![&unreach(&[])[..], ORIGIN],
        vec![&unreach(&[V7])],
        vec![&unreach(&[]), &reach(&[V7]), ORIGIN, AS_PATH, LOCAL_PREF],
        vec!["800f03000246"],
    ] {
        let (update, _) = read_update(&attributes, &Context::default()).unwrap();
        assert_eq!(update.end_of_rib, None, "{attributes:?}");
    }
}

/// V22.
#[test]
fn open() {
    let open = Message::Open(Open {
        asn: Asn(4_200_000_001),
        hold_time: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        capabilities: vec![
            Capability::Multiprotocol(Family::EVPN),
            Capability::RouteRefresh,
            Capability::FourOctetAs(Asn(4_200_000_001)),
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedMessage,
            Capability::GracefulRestart(GracefulRestart {
                restarting: false,
                notification: true,
                restart_time: 120,
                families: vec![(Family::EVPN, true)],
            }),
        ],
    });
    assert_eq!(read(&hex(V22), &Context::default()).unwrap().message, open);
    let mut out = BytesMut::new();
    open.encode(&Context::default(), &mut out);
    assert_eq!(to_hex(&out), V22);
}

/// As FRR 8.4 sends it to a passive EVPN neighbour, but for the host name.
#[test]
fn open_of_frr() {
    let bytes = hex("ffffffffffffffffffffffffffffffff005e01 04fde800b4c612000141
        0206010400190046 02028000 02020200 02024600 020641040000fde8 02020600 0206450400194601
        0206490402723100 02044002c078 0209470700194680000000");
    let Message::Open(open) = read(&bytes, &Context::default()).unwrap().message else {
        panic!()
    };
    assert_eq!((open.asn, open.hold_time), (Asn(65000), 180));
    let expected = [
        Capability::Multiprotocol(Family::EVPN),
        Capability::RouteRefresh,
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::FourOctetAs(Asn(65000)),
        Capability::ExtendedMessage,
        Capability::AddPath(vec![AddPath {
            family: Family::EVPN,
            mode: 1,
        }]),
        Capability::Fqdn {
            host: Bytes::from_static(b"r1"),
            domain: Bytes::new(),
        },
        Capability::GracefulRestart(GracefulRestart {
            restarting: true,
            notification: true,
            restart_time: 120,
            families: vec![],
        }),
        Capability::LongLivedGracefulRestart(vec![LongLivedFamily {
            family: Family::EVPN,
            forwarding: true,
            stale_time: 0,
        }]),
    ];
    assert_eq!(open.capabilities, expected);
}

/// V5 as FRR 8.4 reflects it: long length fields for short attributes.
#[test]
fn update_of_frr() {
    let bytes = hex("ffffffffffffffffffffffffffffffff008d0200000076
        900e0033001946040a00000100
        022800010a000001000800000000000000000000000000003002000000000120c000020a00277400c351
        40010100 50020000 80040400000000 40050400000064 8009040a000001 800a04c6120001
        c010180002fde800002774030c00000000000806030200000000fe");
    let decoded = read(&bytes, &Context::default()).unwrap();
    assert_eq!(decoded.faults, []);
    let Message::Update(update) = decoded.message else {
        panic!()
    };
    let attributes = update.attributes.unwrap();
    assert_eq!(attributes.med, Some(0));
    assert_eq!(attributes.originator_id, Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(attributes.cluster_list, [Ipv4Addr::new(198, 18, 0, 1)]);
    assert_eq!(attributes.router_mac(), Some(Mac([2, 0, 0, 0, 0, 0xfe])));
    assert_eq!(
        update.announced[0].to_string(),
        "[2]:[0]:[48]:[02:00:00:00:00:01]:[32]:[192.0.2.10]"
    );
}

/// As FRR 8.4 lists these routes, V8 excepted: it resets the session for an IPv6 originator.
#[test]
fn keys_print_as_in_frr() {
    for (nlri, text) in [
        (
            V1,
            "[1]:[4294967295]:[00:11:22:33:44:55:66:77:88:99]:[32]:[0.0.0.0]:[0]",
        ),
        (V3, "[2]:[0]:[48]:[02:00:00:00:00:01]"),
        (V4, "[2]:[0]:[48]:[02:00:00:00:00:01]:[32]:[192.0.2.10]"),
        (V6, "[2]:[0]:[48]:[02:00:00:00:00:01]:[128]:[2001:db8::10]"),
        (V7, "[3]:[0]:[32]:[10.0.0.1]"),
        (V8, "[3]:[0]:[128]:[2001:db8:ffff::1]"),
        (V9, "[4]:[00:11:22:33:44:55:66:77:88:99]:[32]:[10.0.0.1]"),
        (V10, "[5]:[0]:[24]:[198.51.100.0]"),
        (V11, "[5]:[0]:[64]:[2001:db8:1::]"),
    ] {
        assert_eq!(key(nlri).to_string(), text);
    }
}
