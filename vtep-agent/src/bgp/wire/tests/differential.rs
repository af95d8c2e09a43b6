//! The codec against an independent one, both ways, on generated routes of types 1 to 5.

use std::{net::IpAddr, sync::Arc};

use netgauze_bgp_pkt::{
    BgpMessage,
    nlri::{L2EvpnAddress, L2EvpnIpPrefixRoute, L2EvpnRoute, RouteDistinguisher as TheirRd},
    path_attribute::{MpReach, MpUnreach, PathAttributeValue as Value},
    wire::deserializer::BgpParsingContext,
};
use netgauze_parse_utils::{WritablePdu, reader::SliceReader, traits::ParseFromWithOneInput};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    bgp::rib::Advertisement,
    types::{Esi, EthernetTag, Mac, RouteDistinguisher},
};

fn their_context() -> BgpParsingContext {
    let strict = true;
    BgpParsingContext::new(
        true,
        Default::default(),
        Default::default(),
        strict,
        strict,
        strict,
        strict,
    )
}

pub(super) fn their_reading(bytes: &[u8]) -> BgpMessage {
    let mut reader = SliceReader::new(bytes);
    let message = BgpMessage::parse(&mut reader, &mut their_context()).unwrap();
    assert!(reader.is_empty());
    message
}

fn our_rd(theirs: TheirRd) -> RouteDistinguisher {
    RouteDistinguisher(match theirs {
        TheirRd::As2Administrator { asn2, number } => {
            let ([a, b], [c, d, e, f]) = (asn2.to_be_bytes(), number.to_be_bytes());
            [0, 0, a, b, c, d, e, f]
        }
        TheirRd::Ipv4Administrator { ip, number } => {
            return RouteDistinguisher::ipv4(ip, number);
        }
        TheirRd::As4Administrator { asn4, number } => {
            let ([a, b, c, d], [e, f]) = (asn4.to_be_bytes(), number.to_be_bytes());
            [0, 2, a, b, c, d, e, f]
        }
        TheirRd::LeafAdRoutes => [0xff; 8],
    })
}

fn our_label(theirs: &netgauze_bgp_pkt::nlri::MplsLabel) -> u32 {
    let [a, b, c] = *theirs.value();
    u32::from_be_bytes([0, a, b, c])
}

/// Their route in our terms.
fn our_route(theirs: &L2EvpnAddress) -> Route {
    assert_eq!(theirs.path_id(), None);
    match theirs.route() {
        L2EvpnRoute::EthernetAutoDiscovery(route) => Route::EthernetAd(EthernetAd {
            rd: our_rd(route.rd()),
            esi: Esi(*route.segment_id().value()),
            tag: EthernetTag(route.tag().value()),
            label: our_label(route.mpls_label()),
        }),
        L2EvpnRoute::MacIpAdvertisement(route) => Route::MacIp(MacIp {
            rd: our_rd(route.rd()),
            esi: Esi(*route.segment_id().value()),
            tag: EthernetTag(route.tag().value()),
            mac: Mac(*route.mac().value()),
            ip: route.ip(),
            label1: our_label(route.mpls_label1()),
            label2: route.mpls_label2().map(our_label),
        }),
        L2EvpnRoute::InclusiveMulticastEthernetTagRoute(route) => Route::Imet(Imet {
            rd: our_rd(route.rd()),
            tag: EthernetTag(route.tag().value()),
            originator: route.ip(),
        }),
        L2EvpnRoute::EthernetSegmentRoute(route) => Route::EthernetSegment(EthernetSegment {
            rd: our_rd(route.rd()),
            esi: Esi(*route.segment_id().value()),
            originator: route.ip(),
        }),
        L2EvpnRoute::IpPrefixRoute(L2EvpnIpPrefixRoute::V4(route)) => Route::IpPrefix(IpPrefix {
            rd: our_rd(route.rd()),
            esi: Esi(*route.segment_id().value()),
            tag: EthernetTag(route.tag().value()),
            prefix: route.prefix().into(),
            gateway: route.gateway().into(),
            label: our_label(route.label()),
        }),
        L2EvpnRoute::IpPrefixRoute(L2EvpnIpPrefixRoute::V6(route)) => Route::IpPrefix(IpPrefix {
            rd: our_rd(route.rd()),
            esi: Esi(*route.segment_id().value()),
            tag: EthernetTag(route.tag().value()),
            prefix: route.prefix().into(),
            gateway: route.gateway().into(),
            label: our_label(route.label()),
        }),
        L2EvpnRoute::Unknown { code, value } => Route::Opaque {
            route_type: *code,
            value: Bytes::copy_from_slice(value),
        },
    }
}

/// What their reading and ours must agree on besides the routes.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    announced: Vec<Route>,
    withdrawn: Vec<RouteKey>,
    next_hop: Option<IpAddr>,
    med: Option<u32>,
    local_pref: Option<u32>,
    as_path: Vec<u32>,
    communities: Vec<u32>,
    ext_communities: usize,
    originator_id: Option<std::net::Ipv4Addr>,
    cluster_list: usize,
}

fn their_summary(message: &BgpMessage) -> Summary {
    let BgpMessage::Update(update) = message else {
        panic!("{message:?}")
    };
    let mut summary = Summary::default();
    for attribute in update.path_attributes() {
        match attribute.value() {
            Value::MpReach(MpReach::L2Evpn { next_hop, nlri }) => {
                summary.next_hop = Some(*next_hop);
                summary.announced = nlri.iter().map(our_route).collect();
            }
            Value::MpUnreach(MpUnreach::L2Evpn { nlri }) => {
                summary.withdrawn = nlri.iter().map(|nlri| our_route(nlri).key()).collect();
            }
            Value::MultiExitDiscriminator(med) => summary.med = Some(med.metric()),
            Value::LocalPreference(preference) => summary.local_pref = Some(preference.metric()),
            Value::Originator(originator) => summary.originator_id = Some(originator.id()),
            Value::ClusterList(list) => summary.cluster_list = list.cluster_list().len(),
            Value::Communities(list) => {
                let values = list.communities().iter().map(|community| community.value());
                summary.communities = values.collect();
            }
            Value::ExtendedCommunities(list) => {
                summary.ext_communities = list.communities().len();
            }
            Value::AsPath(netgauze_bgp_pkt::path_attribute::AsPath::As4PathSegments(segments)) => {
                let numbers = segments.iter().flat_map(|segment| segment.as_numbers());
                summary.as_path = numbers.copied().collect();
            }
            _ => {}
        }
    }
    summary
}

fn our_summary(update: Update) -> Summary {
    let Some(attributes) = update.attributes else {
        return Summary {
            withdrawn: update.withdrawn,
            ..Summary::default()
        };
    };
    Summary {
        announced: update.announced,
        withdrawn: update.withdrawn,
        next_hop: Some(attributes.next_hop),
        med: attributes.med,
        local_pref: attributes.local_pref,
        as_path: attributes.as_path.iter().map(|asn| asn.0).collect(),
        communities: attributes.communities.clone(),
        ext_communities: attributes.ext_communities.len(),
        originator_id: attributes.originator_id,
        cluster_list: attributes.cluster_list.len(),
    }
}

proptest! {
    /// They read what we write as we do, write it again, and we read that as before.
    #[test]
    fn updates(
        attributes in generate::attributes(),
        announced in vec(generate::route(), 1..20),
        withdrawn in vec(generate::route(), 0..20),
    ) {
        let context = Context {
            accept_as_sets: true,
            ..Context::default()
        };
        let advertisement = Advertisement {
            withdraw: withdrawn.iter().map(Route::key).collect(),
            announce: vec![(Arc::new(attributes), announced)],
            ..Advertisement::default()
        };
        let mut out = Vec::new();
        encode_advertisement(&advertisement, &context, MAX_LEN, &mut out);
        for bytes in out {
            let ours = read(&bytes, &context).unwrap();
            let Message::Update(update) = ours.message.clone() else {
                panic!()
            };
            let theirs = their_reading(&bytes);
            prop_assert_eq!(their_summary(&theirs), our_summary(update));
            let mut again = Vec::new();
            theirs.write(&mut again).unwrap();
            prop_assert_eq!(read(&again, &context).unwrap(), ours);
        }
    }
}

/// The messages that aren't UPDATEs.
#[test]
fn others() {
    let shutdown = Notification::administrative_shutdown("maintenance");
    for message in [
        read(&hex(V22), &Context::default()).unwrap().message,
        Message::Keepalive,
        Message::Notification(shutdown),
        Message::Notification(Notification::HOLD_TIMER_EXPIRED),
        Message::RouteRefresh(RouteRefresh {
            family: Family::EVPN,
            subtype: RouteRefresh::REQUEST,
        }),
    ] {
        let mut out = BytesMut::new();
        message.encode(&Context::default(), &mut out);
        let mut again = Vec::new();
        their_reading(&out).write(&mut again).unwrap();
        assert_eq!(to_hex(&again), to_hex(&out));
        assert_eq!(read(&again, &Context::default()).unwrap().message, message);
    }
}
