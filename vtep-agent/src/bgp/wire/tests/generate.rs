//! Strategies for valid values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::types::{Esi, EthernetTag, Mac, RouteDistinguisher};

const LABEL: std::ops::Range<u32> = 1..0x100_0000;

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0x0100_0000..0x7f00_0000_u32).prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        (1_u128..1 << 120).prop_map(|low| Ipv6Addr::from_bits(0x20 << 120 | low).into()),
    ]
}

fn rd() -> impl Strategy<Value = RouteDistinguisher> {
    (0..3_u8, any::<[u8; 6]>())
        .prop_map(|(kind, [a, b, c, d, e, f])| RouteDistinguisher([0, kind, a, b, c, d, e, f]))
}

fn esi() -> impl Strategy<Value = Esi> {
    (0..6_u8, any::<[u8; 8]>()).prop_map(|(kind, value)| {
        let mut esi = [1; 10];
        esi[0] = kind;
        esi[1..9].copy_from_slice(&value);
        Esi(esi)
    })
}

fn any_esi() -> impl Strategy<Value = Esi> {
    prop_oneof![Just(Esi::ZERO), esi()]
}

fn tag() -> impl Strategy<Value = EthernetTag> {
    prop_oneof![Just(0), 1..0x100_0000_u32, Just(u32::MAX)].prop_map(EthernetTag)
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| Mac([2, a, b, c, d, e]))
}

fn prefix() -> impl Strategy<Value = IpNet> {
    (ip(), 0..=128_u8).prop_map(|(address, length)| {
        let length = if address.is_ipv4() {
            length % 33
        } else {
            length
        };
        IpNet::new(address, length).unwrap().trunc()
    })
}

/// Types 1 to 5.
pub(super) fn route() -> impl Strategy<Value = Route> {
    prop_oneof![
        (rd(), esi(), tag(), 0..1_u32 << 24).prop_map(|(rd, esi, tag, label)| {
            Route::EthernetAd(EthernetAd {
                rd,
                esi,
                tag,
                label,
            })
        }),
        (
            rd(),
            any_esi(),
            tag(),
            mac(),
            option::of(ip()),
            LABEL,
            option::of(LABEL)
        )
            .prop_map(|(rd, esi, tag, mac, ip, label1, label2)| {
                Route::MacIp(MacIp {
                    rd,
                    esi,
                    tag,
                    mac,
                    ip,
                    label1,
                    label2,
                })
            }),
        (rd(), tag(), ip()).prop_map(|(rd, tag, originator)| {
            Route::Imet(Imet {
                rd,
                tag,
                originator,
            })
        }),
        (rd(), esi(), ip()).prop_map(|(rd, esi, originator)| {
            Route::EthernetSegment(EthernetSegment {
                rd,
                esi,
                originator,
            })
        }),
        (rd(), any_esi(), tag(), prefix(), any::<[u8; 4]>(), LABEL).prop_map(
            |(rd, esi, tag, prefix, gateway, label)| {
                let gateway = match (prefix, esi == Esi::ZERO) {
                    (IpNet::V4(_), true) => Ipv4Addr::from(gateway).into(),
                    (IpNet::V4(_), false) => Ipv4Addr::UNSPECIFIED.into(),
                    (IpNet::V6(_), true) => Ipv4Addr::from(gateway).to_ipv6_compatible().into(),
                    (IpNet::V6(_), false) => Ipv6Addr::UNSPECIFIED.into(),
                };
                Route::IpPrefix(IpPrefix {
                    rd,
                    esi,
                    tag,
                    prefix,
                    gateway,
                    label,
                })
            }
        ),
    ]
}

fn asns() -> impl Strategy<Value = Vec<Asn>> {
    let asn = prop_oneof![1..0x1_0000_u32, 0x1_0000..u32::MAX];
    vec(asn.prop_map(Asn), 1..5)
}

fn as_path() -> impl Strategy<Value = AsPath> {
    let segment = prop_oneof![
        3 => asns().prop_map(AsSegment::Sequence),
        1 => asns().prop_map(AsSegment::Set),
    ];
    vec(segment, 0..4).prop_map(AsPath)
}

/// None that a receiver would hold against a route, and reserved fields zero.
fn ext_community() -> impl Strategy<Value = ExtCommunity> {
    let target = (0..3_u8, any::<[u8; 6]>())
        .prop_map(|(kind, [a, b, c, d, e, f])| ExtCommunity([kind, 2, a, b, c, d, e, f]));
    let mobility = (any::<bool>(), any::<u32>()).prop_map(|(sticky, sequence)| {
        ExtCommunity::from_mac_mobility(MacMobility { sticky, sequence })
    });
    let encapsulation =
        any::<u16>().prop_map(|tunnel| ExtCommunity::encapsulation(Encapsulation(tunnel)));
    let unknown = any::<[u8; 6]>()
        .prop_map(|[a, b, c, d, e, f]| ExtCommunity([0x06, 0x7f, a, b, c, d, e, f]));
    prop_oneof![target, mobility, encapsulation, unknown]
}

fn pmsi() -> impl Strategy<Value = PmsiTunnel> {
    (any::<u8>(), any::<u8>(), LABEL, any::<[u8; 4]>()).prop_map(
        |(flags, tunnel_type, label, identifier)| PmsiTunnel {
            flags,
            tunnel_type: TunnelType(tunnel_type),
            label,
            identifier: Bytes::copy_from_slice(&identifier),
        },
    )
}

fn other() -> impl Strategy<Value = Vec<RawAttribute>> {
    let large = vec(any::<u8>(), 12).prop_map(|value| RawAttribute {
        flags: 0xc0,
        code: 32,
        value: value.into(),
    });
    let aggregator = (1_u32.., any::<[u8; 4]>()).prop_map(|(asn, address)| RawAttribute {
        flags: 0xc0,
        code: 7,
        value: [asn.to_be_bytes(), address].concat().into(),
    });
    // 128, ATTR_SET, is nothing that the other codec knows either.
    let unknown = vec(any::<u8>(), 0..300).prop_map(|value| RawAttribute {
        flags: 0xe0,
        code: 128,
        value: value.into(),
    });
    (
        option::of(large),
        option::of(unknown),
        option::of(aggregator),
    )
        .prop_map(|(large, unknown, aggregator)| {
            [aggregator, large, unknown].into_iter().flatten().collect()
        })
}

pub(super) fn attributes() -> impl Strategy<Value = Attributes> {
    let origin = prop_oneof![
        Just(Origin::Igp),
        Just(Origin::Egp),
        Just(Origin::Incomplete)
    ];
    let router_id = || any::<u32>().prop_map(Ipv4Addr::from_bits);
    (
        (
            origin,
            as_path(),
            ip(),
            option::of(any::<u32>()),
            any::<u32>(),
        ),
        (option::of(router_id()), vec(router_id(), 0..3)),
        (vec(any::<u32>(), 0..3), vec(ext_community(), 0..40)),
        (option::of(pmsi()), other()),
    )
        .prop_map(
            |(
                (origin, as_path, next_hop, med, local_pref),
                (originator_id, cluster_list),
                (communities, ext_communities),
                (pmsi, other),
            )| Attributes {
                origin,
                as_path,
                next_hop,
                med,
                local_pref: Some(local_pref),
                originator_id,
                cluster_list,
                communities,
                ext_communities,
                pmsi: pmsi.filter(|pmsi| pmsi.tunnel_type != TunnelType(0)),
                other,
            },
        )
}

pub(super) fn capability() -> impl Strategy<Value = Capability> {
    let family = || (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Family { afi, safi });
    let text = || vec(any::<u8>(), 0..65).prop_map(Bytes::from);
    prop_oneof![
        family().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRouteRefresh),
        Just(Capability::ExtendedMessage),
        (
            any::<bool>(),
            any::<bool>(),
            0..0x1000_u16,
            vec((family(), any::<bool>()), 0..4)
        )
            .prop_map(|(restarting, notification, restart_time, families)| {
                Capability::GracefulRestart(GracefulRestart {
                    restarting,
                    notification,
                    restart_time,
                    families,
                })
            }),
        vec(
            (family(), any::<u8>()).prop_map(|(family, mode)| AddPath { family, mode }),
            0..4
        )
        .prop_map(Capability::AddPath),
        vec(
            (family(), any::<bool>(), 0..1_u32 << 24).prop_map(
                |(family, forwarding, stale_time)| LongLivedFamily {
                    family,
                    forwarding,
                    stale_time,
                }
            ),
            0..4
        )
        .prop_map(Capability::LongLivedGracefulRestart),
        (text(), text()).prop_map(|(host, domain)| Capability::Fqdn { host, domain }),
        vec(
            any::<(u16, u16, u16)>().prop_map(|(afi, safi, next_hop_afi)| ExtendedNextHop {
                afi,
                safi,
                next_hop_afi,
            }),
            0..4
        )
        .prop_map(Capability::ExtendedNextHop),
        (130_u8.., vec(any::<u8>(), 0..=255)).prop_map(|(code, value)| Capability::Unknown {
            code,
            value: value.into(),
        }),
    ]
}
