//! The requests: `struct rtmsg` and its attributes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Fib, Hop, Installed, Key, PROTOCOL};
use crate::kernel::{
    message::{Attributes, Message, Request, Value, attribute, family, u16_at, u32_at},
    routes,
    socket::{RequestError, Requests},
};

/// `RTNH_F_ONLINK`
const ONLINK: u32 = 0x4;

/// The kernel of this namespace.
pub(in crate::kernel) struct Netlink<'a>(pub(in crate::kernel) &'a mut Requests);

impl Fib for Netlink<'_> {
    fn ours(&mut self) -> Result<Vec<(Key, Installed)>, RequestError> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut header = [0; 12];
            header[0] = family as u8;
            // Filtered by the kernel where the socket has strict checking.
            header[5] = PROTOCOL;
            let request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &header);
            found.extend(self.0.dump(&request, decode)?);
        }
        Ok(found)
    }

    fn connected(&mut self) -> Result<Vec<IpNet>, RequestError> {
        let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; 8]);
        self.0.dump(&request, |message| {
            // On a point-to-point link the prefix is around IFA_ADDRESS, the other end's.
            let (header, attributes) = message.split::<8>()?;
            let address = attributes.find(libc::IFA_ADDRESS);
            let address = address.or_else(|| attributes.find(libc::IFA_LOCAL))?.ip()?;
            Some(IpNet::new(address, header[1]).ok()?.trunc())
        })
    }

    fn link_of(&mut self, address: IpAddr) -> Result<Option<u32>, RequestError> {
        let route = routes::lookup(self.0, address)?;
        let [next_hop] = route.next_hops[..] else {
            return Ok(None);
        };
        Ok(next_hop.gateway.is_none().then_some(next_hop.ifindex))
    }

    fn put(&mut self, key: Key, route: &Installed, replace: bool) -> Result<(), RequestError> {
        // NLM_F_REPLACE would take any route with this metric, whoever made it.
        let mode = match replace {
            true => libc::NLM_F_REPLACE,
            false => libc::NLM_F_EXCL,
        };
        let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK | mode;
        self.0.execute(&put_request(flags, key, route))
    }

    fn remove(&mut self, key: Key) -> Result<(), RequestError> {
        let request = request(libc::RTM_DELROUTE, libc::NLM_F_ACK, key, 0);
        match self.0.execute(&request) {
            Err(error) if error.is(libc::ESRCH) || error.is(libc::ENOENT) => Ok(()),
            result => result,
        }
    }
}

/// Whether a notice is about a route of ours.
pub(in crate::kernel) fn is_ours(message: &Message<'_>) -> bool {
    message
        .split::<12>()
        .is_some_and(|(header, _)| header[5] == PROTOCOL)
}

/// A `struct rtmsg` with what names the route.
fn request(kind: u16, flags: i32, key: Key, route_flags: u32) -> Request {
    let mut header = [0; 12];
    header[0] = family(key.prefix.addr());
    header[1] = key.prefix.prefix_len();
    header[5] = PROTOCOL;
    header[6] = match kind {
        libc::RTM_DELROUTE => libc::RT_SCOPE_NOWHERE, // any
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    header[7] = match kind {
        libc::RTM_DELROUTE => libc::RTN_UNSPEC, // any
        _ => libc::RTN_UNICAST,
    };
    header[8..].copy_from_slice(&route_flags.to_ne_bytes());
    let request = Request::new(kind, flags, &header)
        .with(libc::RTA_TABLE, &key.table.to_ne_bytes())
        .with(libc::RTA_PRIORITY, &key.metric.to_ne_bytes());
    match key.prefix.prefix_len() {
        0 => request,
        _ => request.with_ip(libc::RTA_DST, key.prefix.network()),
    }
}

fn put_request(flags: i32, key: Key, route: &Installed) -> Request {
    let v4 = key.prefix.addr().is_ipv4();
    let single = match route.next_hops[..] {
        [hop] => Some(hop),
        _ => None,
    };
    let route_flags = single.map_or(0, hop_flags);
    let mut request = request(libc::RTM_NEWROUTE, flags, key, route_flags);
    if let Some(source) = route.source {
        request = request.with_ip(libc::RTA_PREFSRC, source);
    }
    match single {
        Some(hop) => {
            let (kind, gateway) = gateway(hop.gateway, v4);
            request
                .with(libc::RTA_OIF, &hop.ifindex.to_ne_bytes())
                .with(kind, &gateway)
        }
        None => request.with(libc::RTA_MULTIPATH, &multipath(&route.next_hops, v4)),
    }
}

/// An array of `struct rtnexthop`, each with its gateway behind it.
fn multipath(next_hops: &[Hop], v4: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for hop in next_hops {
        let (kind, gateway) = gateway(hop.gateway, v4);
        let gateway = attribute(kind, &gateway);
        bytes.extend((8 + gateway.len() as u16).to_ne_bytes());
        bytes.push(hop_flags(*hop) as u8);
        bytes.push(0); // weight, less 1
        bytes.extend(hop.ifindex.to_ne_bytes());
        bytes.extend(gateway);
    }
    bytes
}

fn hop_flags(hop: Hop) -> u32 {
    if hop.onlink { ONLINK } else { 0 }
}

/// `RTA_GATEWAY`, or for a gateway of the other family `RTA_VIA`, which has the family in front.
fn gateway(gateway: IpAddr, v4: bool) -> (u16, Vec<u8>) {
    match gateway {
        IpAddr::V4(gateway) => (libc::RTA_GATEWAY, gateway.octets().to_vec()),
        IpAddr::V6(gateway) if v4 => {
            let family = (libc::AF_INET6 as u16).to_ne_bytes();
            (libc::RTA_VIA, [&family[..], &gateway.octets()].concat())
        }
        IpAddr::V6(gateway) => (libc::RTA_GATEWAY, gateway.octets().to_vec()),
    }
}

fn decode(message: &Message<'_>) -> Option<(Key, Installed)> {
    let (header, attributes) = message.split::<12>()?;
    if message.kind != libc::RTM_NEWROUTE || !is_ours(message) {
        return None;
    }
    let prefix = routes::decode_prefix(message)?;
    let table = attributes.find(libc::RTA_TABLE).and_then(Value::u32);
    let metric = attributes.find(libc::RTA_PRIORITY).and_then(Value::u32);
    let mut next_hops = match attributes.find(libc::RTA_MULTIPATH) {
        Some(ways) => hops(ways.0),
        None => {
            let ifindex = attributes.find(libc::RTA_OIF).and_then(Value::u32);
            let hop = ifindex.and_then(|ifindex| hop(ifindex, u32_at(header, 8)?, attributes));
            hop.into_iter().collect()
        }
    };
    next_hops.sort_unstable();
    let key = Key {
        prefix,
        table: table.unwrap_or(header[4].into()),
        metric: metric.unwrap_or(0),
    };
    let source = attributes.find(libc::RTA_PREFSRC).and_then(Value::ip);
    Some((key, Installed { source, next_hops }))
}

fn hops(mut bytes: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let (Some(length), Some(flags), Some(ifindex)) =
        (u16_at(bytes, 0), bytes.get(2).copied(), u32_at(bytes, 4))
    {
        let length = usize::from(length);
        let Some(attributes) = bytes.get(8..length) else {
            break;
        };
        hops.extend(hop(ifindex, flags.into(), Attributes(attributes)));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

fn hop(ifindex: u32, flags: u32, attributes: Attributes<'_>) -> Option<Hop> {
    let next_hop = routes::next_hop(ifindex, attributes)?;
    Some(Hop {
        ifindex,
        gateway: next_hop.gateway?,
        onlink: flags & ONLINK != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::message::Messages;

    fn hop(ifindex: u32, gateway: &str, onlink: bool) -> Hop {
        Hop {
            ifindex,
            gateway: gateway.parse().unwrap(),
            onlink,
        }
    }

    /// What is asked for is what would be read back, for each form of a next hop.
    #[test]
    fn written_and_read() {
        for (prefix, source, next_hops) in [
            ("0.0.0.0/0", None, vec![hop(3, "192.0.2.1", false)]),
            (
                "198.18.0.2/32",
                Some("198.18.0.1"),
                vec![hop(3, "192.0.2.1", false), hop(4, "192.0.2.3", true)],
            ),
            ("198.18.0.0/16", None, vec![hop(3, "fe80::1", false)]),
            (
                "198.18.0.0/16",
                None,
                vec![hop(3, "fe80::1", false), hop(4, "2001:db8::1", true)],
            ),
            ("2001:db8:1::/48", None, vec![hop(3, "fe80::1", false)]),
            (
                "::/0",
                None,
                vec![hop(3, "fe80::1", false), hop(4, "fe80::1", false)],
            ),
        ] {
            let key = Key {
                prefix: prefix.parse().unwrap(),
                table: 1000,
                metric: 512,
            };
            let route = Installed {
                source: source.map(|source: &str| source.parse().unwrap()),
                next_hops,
            };
            let bytes = put_request(libc::NLM_F_CREATE, key, &route).finish(1);
            let message = Messages(&bytes).next().unwrap().unwrap();
            assert_eq!(decode(&message), Some((key, route)), "{prefix}");
            for length in 0..message.body.len() {
                let body = &message.body[..length];
                let _ = decode(&Message { body, ..message }); // anything but a panic
            }
        }
    }

    #[test]
    fn routes_of_others_are_not_read() {
        let key = Key {
            prefix: "198.18.0.0/16".parse().unwrap(),
            table: 254,
            metric: 512,
        };
        let route = Installed {
            source: None,
            next_hops: vec![hop(3, "192.0.2.1", false)],
        };
        let mut bytes = put_request(0, key, &route).finish(1);
        bytes[16 + 5] = 186;
        let message = Messages(&bytes).next().unwrap().unwrap();
        assert_eq!(decode(&message), None);
    }
}
