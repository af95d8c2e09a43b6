//! The kernel's routing decision for one destination, with every next hop of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{
    message::{Attributes, Message, Request, Value, family, u16_at, u32_at},
    socket::{RequestError, Requests},
};

/// `RTA_NH_ID` of linux/rtnetlink.h (Linux 5.3).
const RTA_NH_ID: u16 = 30;
/// `RTAX_MTU`, inside `RTA_METRICS`.
const RTAX_MTU: u16 = 2;
/// `RTM_GETNEXTHOP`
const RTM_GETNEXTHOP: u16 = 106;
/// `NHA_GROUP` of linux/nexthop.h.
const NHA_GROUP: u16 = 2;
/// `NHA_OIF`
const NHA_OIF: u16 = 5;
/// `NHA_GATEWAY`
const NHA_GATEWAY: u16 = 6;
/// `NHA_ENCAP`
const NHA_ENCAP: u16 = 8;

/// How a destination is reached; unreachable without next hops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// The route's MTU metric, bytes of the IP packet.
    pub mtu: Option<u32>,
    /// Its priority among routes to the same prefix, which routing daemons make of their own cost or set
    /// to a constant; what `ip route` calls the metric.
    pub metric: u32,
    pub next_hops: Vec<NextHop>,
}

/// One way of a route, whether or not its device is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextHop {
    pub ifindex: u32,
    /// The next router, of either family; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
}

/// Asks for the FIB entry that matches a destination (`RTM_F_FIB_MATCH`): an ordinary lookup would
/// give one next hop of several, picked for a flow that is not ours. Rules that look at the source
/// address or a mark see none.
pub(super) fn lookup(requests: &mut Requests, destination: IpAddr) -> Result<Route, RequestError> {
    let found = match requests.get(&lookup_request(destination), decode) {
        // ENETUNREACH, EHOSTUNREACH, EACCES (prohibit), EINVAL (blackhole), and whatever says that
        // the address family is not there: all mean that there is no way.
        Err(RequestError::Refused(_)) => None,
        found => found?,
    };
    match found {
        None => Ok(Route::default()),
        Some(Found::Route(route)) => Ok(route),
        Some(Found::Object { id, route }) => Ok(Route {
            next_hops: resolve(requests, id)?,
            ..route
        }),
    }
}

/// The destinations that an `RTM_NEWROUTE` or `RTM_DELROUTE` is about; `None` for cached routes.
pub(super) fn decode_prefix(message: &Message<'_>) -> Option<IpNet> {
    let (header, attributes) = message.split::<12>()?;
    if u32_at(header, 8)? & libc::RTM_F_CLONED != 0 {
        return None;
    }
    let unspecified: IpAddr = match i32::from(header[0]) {
        libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let address = attributes.find(libc::RTA_DST).and_then(Value::ip);
    IpNet::new(address.unwrap_or(unspecified), header[1]).ok()
}

/// What a lookup gives.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Route(Route),
    /// Only the id of a nexthop object, as with `net.ipv4.nexthop_compat_mode = 0`.
    Object {
        id: u32,
        /// Without next hops.
        route: Route,
    },
}

fn lookup_request(destination: IpAddr) -> Request {
    let bits = if destination.is_ipv4() { 32 } else { 128 };
    let mut header = [0; 12];
    header[0] = family(destination);
    header[1] = bits;
    header[8..].copy_from_slice(&libc::RTM_F_FIB_MATCH.to_ne_bytes());
    Request::new(libc::RTM_GETROUTE, 0, &header).with_ip(libc::RTA_DST, destination)
}

fn decode(message: &Message<'_>) -> Option<Found> {
    let (header, attributes) = message.split::<12>()?;
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    if header[7] != libc::RTN_UNICAST {
        return Some(Found::Route(Route::default())); // local, broadcast, multicast, blackhole …
    }
    let metrics = attributes.find(libc::RTA_METRICS).map(Value::nested);
    let mtu = metrics
        .and_then(|metrics| metrics.find(RTAX_MTU))
        .and_then(Value::u32)
        .filter(|mtu| *mtu != 0);
    // Absent where it is 0, which only IPv4 routes have.
    let metric = attributes.find(libc::RTA_PRIORITY).and_then(Value::u32);
    let next_hops = match attributes.find(libc::RTA_MULTIPATH) {
        Some(ways) => multipath(ways.0),
        None => attributes
            .find(libc::RTA_OIF)
            .and_then(Value::u32)
            .and_then(|ifindex| next_hop(ifindex, attributes))
            .into_iter()
            .collect(),
    };
    let route = Route {
        mtu,
        metric: metric.unwrap_or(0),
        next_hops,
    };
    match attributes.find(RTA_NH_ID).and_then(Value::u32) {
        Some(id) if route.next_hops.is_empty() => Some(Found::Object { id, route }),
        _ => Some(Found::Route(route)),
    }
}

/// An array of `struct rtnexthop`, each with attributes behind it.
fn multipath(mut bytes: &[u8]) -> Vec<NextHop> {
    let mut ways = Vec::new();
    while let (Some(length), Some(ifindex)) = (u16_at(bytes, 0), u32_at(bytes, 4)) {
        let length = usize::from(length);
        let Some(attributes) = bytes.get(8..length) else {
            break;
        };
        ways.extend(next_hop(ifindex, Attributes(attributes)));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    ways
}

/// `None` for a way with an encapsulation of its own (MPLS, SRv6 …), which the datapath cannot add.
pub(super) fn next_hop(ifindex: u32, attributes: Attributes<'_>) -> Option<NextHop> {
    if attributes.find(libc::RTA_ENCAP).is_some() {
        return None;
    }
    // RTA_VIA, a gateway of the other family, has the family in front.
    let via = attributes.find(libc::RTA_VIA);
    let via = via.and_then(|via| Value(via.0.get(2..)?).ip());
    let gateway = attributes.find(libc::RTA_GATEWAY).and_then(Value::ip);
    Some(NextHop {
        ifindex,
        gateway: gateway.or(via).filter(|gateway| !gateway.is_unspecified()),
    })
}

/// The ways of a nexthop object: of its members when it is a group.
fn resolve(requests: &mut Requests, id: u32) -> Result<Vec<NextHop>, RequestError> {
    let mut ways = Vec::new();
    match object(requests, id)? {
        Some(Object::Way(way)) => ways.push(way),
        Some(Object::Group(members)) => {
            for member in members {
                // The kernel has no groups of groups.
                if let Some(Object::Way(way)) = object(requests, member)? {
                    ways.push(way);
                }
            }
        }
        None => {}
    }
    Ok(ways)
}

#[derive(Debug, PartialEq, Eq)]
enum Object {
    Way(NextHop),
    Group(Vec<u32>),
}

fn object(requests: &mut Requests, id: u32) -> Result<Option<Object>, RequestError> {
    /// `NHA_ID`
    const NHA_ID: u16 = 1;
    let request = Request::new(RTM_GETNEXTHOP, 0, &[0; 8]).with(NHA_ID, &id.to_ne_bytes());
    match requests.get(&request, decode_object) {
        Err(RequestError::Refused(_)) => Ok(None), // deleted since
        found => found,
    }
}

/// Reads a `struct nhmsg`; `None` for a blackhole or an encapsulation.
fn decode_object(message: &Message<'_>) -> Option<Object> {
    let (_, attributes) = message.split::<8>()?;
    if let Some(group) = attributes.find(NHA_GROUP) {
        // struct nexthop_grp: the id in the first four of eight bytes.
        let members = group.0.chunks_exact(8);
        return Some(Object::Group(
            members.filter_map(|member| u32_at(member, 0)).collect(),
        ));
    }
    if attributes.find(NHA_ENCAP).is_some() {
        return None;
    }
    Some(Object::Way(NextHop {
        ifindex: attributes.find(NHA_OIF)?.u32()?,
        gateway: attributes.find(NHA_GATEWAY).and_then(Value::ip),
    }))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::{
        AddressFamily,
        route::{
            RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
            RouteType, RouteVia,
        },
    };

    use super::{super::message::attribute, *};

    /// A route encoded by another implementation.
    fn route(kind: RouteType, attributes: Vec<RouteAttribute>) -> Vec<u8> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            destination_prefix_length: 24,
            kind,
            ..RouteHeader::default()
        };
        message.attributes = attributes;
        emit(&message)
    }

    fn emit(message: &RouteMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn message(body: &[u8]) -> Message<'_> {
        Message {
            kind: libc::RTM_NEWROUTE,
            flags: 0,
            sequence: 0,
            body,
        }
    }

    fn found(body: &[u8]) -> Route {
        match decode(&message(body)) {
            Some(Found::Route(route)) => route,
            other => panic!("{other:?}"),
        }
    }

    fn hop(ifindex: u32, gateway: Option<&str>) -> NextHop {
        NextHop {
            ifindex,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }
    }

    fn gateway(text: &str) -> RouteAttribute {
        RouteAttribute::Gateway(text.parse::<Ipv4Addr>().unwrap().into())
    }

    fn way(ifindex: u32, text: &str) -> RouteNextHop {
        let mut way = RouteNextHop::default();
        way.interface_index = ifindex;
        way.attributes = vec![gateway(text)];
        way
    }

    #[test]
    fn on_link_and_by_gateway() {
        let body = route(RouteType::Unicast, vec![RouteAttribute::Oif(3)]);
        assert_eq!(found(&body).next_hops, [hop(3, None)]);
        let mtu = RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]);
        let body = route(
            RouteType::Unicast,
            vec![gateway("192.0.2.1"), RouteAttribute::Oif(3), mtu],
        );
        let expected = Route {
            mtu: Some(1400),
            metric: 0,
            next_hops: vec![hop(3, Some("192.0.2.1"))],
        };
        assert_eq!(found(&body), expected);
    }

    #[test]
    fn priorities_are_metrics() {
        for (priority, metric) in [(None, 0), (Some(20), 20), (Some(u32::MAX), u32::MAX)] {
            let priority = priority.map(RouteAttribute::Priority);
            let attributes = priority.into_iter().chain([RouteAttribute::Oif(3)]);
            let body = route(RouteType::Unicast, attributes.collect());
            assert_eq!(found(&body).metric, metric);
        }
    }

    #[test]
    fn gateway_of_the_other_family() {
        let via = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()));
        let body = route(RouteType::Unicast, vec![RouteAttribute::Oif(3), via]);
        assert_eq!(found(&body).next_hops, [hop(3, Some("fe80::1"))]);
    }

    #[test]
    fn every_way_of_a_multipath_route() {
        let ways = vec![way(3, "192.0.2.1"), way(4, "192.0.2.2")];
        let body = route(RouteType::Unicast, vec![RouteAttribute::MultiPath(ways)]);
        let expected = [hop(3, Some("192.0.2.1")), hop(4, Some("192.0.2.2"))];
        assert_eq!(found(&body).next_hops, expected);
        for length in 0..body.len() {
            let _ = decode(&message(&body[..length])); // anything but a panic
        }
    }

    #[test]
    fn no_way_out() {
        for kind in [
            RouteType::Local,
            RouteType::BlackHole,
            RouteType::Unreachable,
            RouteType::Prohibit,
            RouteType::Multicast,
        ] {
            let body = route(kind, vec![RouteAttribute::Oif(3)]);
            assert_eq!(found(&body), Route::default(), "{kind:?}");
        }
    }

    #[test]
    fn ways_with_an_encapsulation_of_their_own_are_left_out() {
        let mut body = route(RouteType::Unicast, vec![RouteAttribute::Oif(3)]);
        body.extend(attribute(libc::RTA_ENCAP, &attribute(1, &[0; 4])));
        assert_eq!(found(&body).next_hops, []);
    }

    #[test]
    fn nexthop_objects() {
        let mut body = route(RouteType::Unicast, vec![RouteAttribute::Priority(30)]);
        body.extend(attribute(RTA_NH_ID, &10u32.to_ne_bytes()));
        let expected = Route {
            metric: 30,
            ..Route::default()
        };
        let object = Found::Object {
            id: 10,
            route: expected,
        };
        assert_eq!(decode(&message(&body)), Some(object));

        let mut group = vec![0; 8];
        group.extend(attribute(
            NHA_GROUP,
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0],
        ));
        assert_eq!(
            decode_object(&message(&group)),
            Some(Object::Group(vec![1, 2]))
        );
        let mut way = vec![0; 8];
        way.extend(attribute(NHA_OIF, &3u32.to_ne_bytes()));
        way.extend(attribute(NHA_GATEWAY, &[192, 0, 2, 1]));
        let expected = Object::Way(hop(3, Some("192.0.2.1")));
        assert_eq!(decode_object(&message(&way)), Some(expected));
        way.extend(attribute(NHA_ENCAP, &[]));
        assert_eq!(decode_object(&message(&way)), None);
    }

    #[test]
    fn destinations_of_a_change() {
        let destination =
            RouteAttribute::Destination("10.1.2.0".parse::<Ipv4Addr>().unwrap().into());
        let body = route(RouteType::Unicast, vec![destination]);
        assert_eq!(
            decode_prefix(&message(&body)),
            Some("10.1.2.0/24".parse().unwrap())
        );

        let mut default = RouteMessage::default();
        default.header.address_family = AddressFamily::Inet6;
        let body = emit(&default);
        assert_eq!(
            decode_prefix(&message(&body)),
            Some("::/0".parse().unwrap())
        );
        default.header.flags = RouteFlags::Cloned;
        assert_eq!(decode_prefix(&message(&emit(&default))), None);
    }
}
