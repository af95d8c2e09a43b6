//! Writing UPDATEs.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    super::{
        Advertisement, Attributes, Context, Family, HEADER_LEN, Identified, Message, MessageType,
        PathId, Route, RouteKey, RouteRefresh,
        message::{self, end_of_rib},
        nlri,
        writer::{with_u8_length, with_u16_length},
    },
    EXTENDED_LENGTH, OPTIONAL, TRANSITIVE, Update, code,
};

/// LOCAL_PREF of a route without one: internal peers require the attribute (RFC 4271 §5.1.5), and
/// this is what every implementation takes for its absence.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Encodes an adj-rib-out difference as UPDATEs of at most `max_len` octets, each with as many
/// routes as fit. Withdrawals come first, End-of-RIB last; MP_REACH_NLRI or MP_UNREACH_NLRI is the
/// first attribute and never both are in one message (RFC 7606 §5.1). NLRI have no path identifiers.
///
/// Returns the routes whose attributes leave no room for even one of them. They are withdrawn, so
/// that the peer doesn't keep an earlier version (RFC 8654 §4); the caller logs them.
pub fn encode_advertisement(
    advertisement: &Advertisement,
    context: &Context,
    max_len: usize,
    out: &mut Vec<Bytes>,
) -> Vec<RouteKey> {
    let family = advertisement.family;
    let refresh = |subtype| {
        let mut bytes = BytesMut::new();
        Message::RouteRefresh(RouteRefresh { family, subtype }).encode(context, &mut bytes);
        bytes.freeze()
    };
    let enclosed = advertisement.refresh && context.enhanced_refresh;
    if enclosed {
        out.push(refresh(RouteRefresh::BEGIN));
    }
    let keys = &advertisement.withdraw;
    withdraw(family, keys.iter().map(without_id), max_len, out);
    let mut too_large = Vec::new();
    for (attributes, routes) in &advertisement.announce {
        let routes = routes.iter().map(|route| (None, route.clone()));
        let unsent = announce(family, attributes, routes, context, max_len, out);
        withdraw(family, unsent.iter().map(without_id), max_len, out);
        too_large.extend(unsent);
    }
    if advertisement.end_of_rib {
        out.push(end_of_rib(family));
    }
    if enclosed {
        out.push(refresh(RouteRefresh::END));
    }
    too_large
}

/// An [`Update`] as the messages that say the same, path identifiers included.
pub(in super::super) fn encode(
    update: &Update,
    context: &Context,
    max_len: usize,
    out: &mut Vec<Bytes>,
) {
    let mut update = update.clone();
    for family in Family::all_of(context.families).chain([Family::RTC]) {
        let Update {
            announced,
            attributes,
            withdrawn,
            classic,
            identified:
                Identified {
                    announced: paths,
                    withdrawn: gone,
                },
            end_of_rib,
        } = update.take(family);
        let gone = gone.iter();
        let gone = gone.map(|(id, key)| (Some(*id), nlri::withdrawal(key)));
        withdraw(family, gone, max_len, out);
        if let Some(attributes) = &attributes {
            let paths = paths.into_iter().map(|(id, route)| (Some(id), route));
            announce(family, attributes, paths, context, max_len, out);
        }
        let multiprotocol = attributes.map(|attributes| (attributes, announced));
        let advertisement = Advertisement {
            family,
            withdraw: withdrawn,
            announce: multiprotocol.into_iter().chain(classic).collect(),
            end_of_rib: end_of_rib.is_some(),
            refresh: false,
        };
        encode_advertisement(&advertisement, context, max_len, out);
    }
}

fn withdraw(
    family: Family,
    routes: impl Iterator<Item = (Option<PathId>, Route)>,
    max_len: usize,
    out: &mut Vec<Bytes>,
) {
    let mut prefix = BytesMut::new();
    family.encode(&mut prefix);
    let message = Packer {
        place: match family {
            Family::IPV4_UNICAST => Place::Withdrawn,
            _ => Place::Attribute(code::MP_UNREACH, &prefix),
        },
        attributes: &[],
        max_len,
    };
    message.pack(routes, out);
}

fn without_id(key: &RouteKey) -> (Option<PathId>, Route) {
    (None, nlri::withdrawal(key))
}

/// Returns what doesn't fit.
fn announce(
    family: Family,
    attributes: &Attributes,
    routes: impl Iterator<Item = (Option<PathId>, Route)>,
    context: &Context,
    max_len: usize,
    out: &mut Vec<Bytes>,
) -> Vec<RouteKey> {
    let mut prefix = BytesMut::new();
    family.encode(&mut prefix);
    with_u8_length(&mut prefix, |out| {
        nlri::put_octets(attributes.next_hop, out)
    });
    prefix.put_u8(0);
    let classic = match attributes.next_hop {
        IpAddr::V4(next_hop) if family == Family::IPV4_UNICAST => Some(next_hop),
        _ => None,
    };
    let message = Packer {
        place: match classic {
            Some(_) => Place::Nlri,
            None => Place::Attribute(code::MP_REACH, &prefix),
        },
        attributes: &path_attributes(attributes, classic, context),
        max_len,
    };
    message.pack(routes, out)
}

/// Where in an UPDATE the NLRI are.
enum Place<'a> {
    /// In the MP attribute of this code, behind this much of its value.
    Attribute(u8, &'a [u8]),
    /// In the field for withdrawn routes (IPv4 unicast, RFC 4271 §4.3).
    Withdrawn,
    /// In the field behind the attributes.
    Nlri,
}

/// Fills messages with NLRI.
struct Packer<'a> {
    place: Place<'a>,
    /// Attributes other than the MP one, which comes first.
    attributes: &'a [u8],
    max_len: usize,
}

impl Packer<'_> {
    /// Returns what doesn't fit into a message of its own.
    fn pack(
        &self,
        routes: impl Iterator<Item = (Option<PathId>, Route)>,
        out: &mut Vec<Bytes>,
    ) -> Vec<RouteKey> {
        // An attribute header with an extended length.
        let attribute = match self.place {
            Place::Attribute(_, prefix) => prefix.len().saturating_add(4),
            Place::Withdrawn | Place::Nlri => 0,
        };
        // Header and two length fields.
        let fixed = [HEADER_LEN, 4, attribute, self.attributes.len()];
        let room = self.max_len.saturating_sub(fixed.iter().sum());
        let mut unsent = Vec::new();
        let mut packed = BytesMut::new();
        for (id, route) in routes {
            let mut nlri = BytesMut::new();
            if let Some(PathId(id)) = id {
                nlri.put_u32(id);
            }
            nlri::encode(&route, &mut nlri);
            if nlri.len() > room {
                unsent.push(route.key());
                continue;
            }
            if packed.len().saturating_add(nlri.len()) > room {
                out.push(self.message(&packed.split()));
            }
            packed.unsplit(nlri);
        }
        if !packed.is_empty() {
            out.push(self.message(&packed));
        }
        unsent
    }

    fn message(&self, routes: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        message::encode(MessageType::Update, &mut out, |out| {
            let (withdrawn, announced): (&[u8], &[u8]) = match self.place {
                Place::Attribute(..) => (&[], &[]),
                Place::Withdrawn => (routes, &[]),
                Place::Nlri => (&[], routes),
            };
            with_u16_length(out, |out| out.put_slice(withdrawn));
            with_u16_length(out, |out| {
                if let Place::Attribute(code, prefix) = self.place {
                    put_attribute(OPTIONAL, code, &[prefix, routes].concat(), out);
                }
                out.put_slice(self.attributes);
            });
            out.put_slice(announced);
        });
        out.freeze()
    }
}

/// Everything but the MP attributes, in the order of type codes (RFC 4271 §5); NEXT_HOP for routes
/// of the NLRI field only (RFC 4760 §3).
fn path_attributes(
    attributes: &Attributes,
    next_hop: Option<Ipv4Addr>,
    context: &Context,
) -> BytesMut {
    let mut list = List(Vec::new());
    let well_known = TRANSITIVE;
    let transitive = OPTIONAL | TRANSITIVE;
    list.put(well_known, 1, |out| out.put_u8(attributes.origin as u8));
    list.put(well_known, 2, |out| {
        attributes.as_path.encode(context.four_octet_as, out)
    });
    if let Some(next_hop) = next_hop {
        list.put(well_known, 3, |out| out.put_slice(&next_hop.octets()));
    }
    if let Some(med) = attributes.med {
        list.put(OPTIONAL, 4, |out| out.put_u32(med));
    }
    if context.internal {
        let preference = attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
        list.put(well_known, 5, |out| out.put_u32(preference));
        if let Some(originator) = attributes.originator_id {
            list.put(OPTIONAL, 9, |out| out.put_u32(originator.to_bits()));
        }
        list.put_some(OPTIONAL, 10, &attributes.cluster_list, |cluster, out| {
            out.put_u32(cluster.to_bits());
        });
    }
    list.put_some(transitive, 8, &attributes.communities, |community, out| {
        out.put_u32(*community);
    });
    list.put_some(
        transitive,
        16,
        &attributes.ext_communities,
        |community, out| {
            out.put_slice(&community.0);
        },
    );
    if !context.four_octet_as && attributes.as_path.needs_as4() {
        let path = attributes.as_path.without_confederations();
        list.put(transitive, 17, |out| path.encode(true, out));
    }
    if let Some(pmsi) = &attributes.pmsi {
        list.put(transitive, code::PMSI_TUNNEL, |out| {
            out.put_u8(pmsi.flags);
            out.put_u8(pmsi.tunnel_type.0);
            out.put_uint(u64::from(pmsi.label & 0xff_ffff), 3);
            out.put_slice(&pmsi.identifier);
        });
    }
    for raw in &attributes.other {
        match (raw.code, raw.value.first_chunk::<8>()) {
            (7, Some(value)) if !context.four_octet_as => list.put_aggregator(raw.flags, value),
            _ => list.put(raw.flags, raw.code, |out| out.put_slice(&raw.value)),
        }
    }
    list.finish()
}

/// Attributes with their codes, until they are sorted.
struct List(Vec<(u8, BytesMut)>);

impl List {
    fn put(&mut self, flags: u8, code: u8, value: impl FnOnce(&mut BytesMut)) {
        let mut bytes = BytesMut::new();
        value(&mut bytes);
        let mut out = BytesMut::new();
        put_attribute(flags, code, &bytes, &mut out);
        self.0.push((code, out));
    }

    /// Nothing for an empty list.
    fn put_some<T>(&mut self, flags: u8, code: u8, items: &[T], item: impl Fn(&T, &mut BytesMut)) {
        if !items.is_empty() {
            self.put(flags, code, |out| {
                items.iter().for_each(|each| item(each, out))
            });
        }
    }

    /// AGGREGATOR for a two-octet peer (RFC 6793 §4.2.2).
    fn put_aggregator(&mut self, flags: u8, &[a, b, c, d, address @ ..]: &[u8; 8]) {
        let asn = crate::types::Asn(u32::from_be_bytes([a, b, c, d]));
        self.put(flags, 7, |out| {
            out.put_u16(asn.to_u16());
            out.put_slice(&address);
        });
        if asn.0 > u32::from(u16::MAX) {
            self.put(OPTIONAL | TRANSITIVE, 18, |out| {
                out.put_u32(asn.0);
                out.put_slice(&address);
            });
        }
    }

    fn finish(mut self) -> BytesMut {
        self.0.sort_by_key(|(code, _)| *code);
        self.0
            .into_iter()
            .fold(BytesMut::new(), |mut out, (_, bytes)| {
                out.unsplit(bytes);
                out
            })
    }
}

/// An attribute, with an extended length only if it needs one.
fn put_attribute(flags: u8, code: u8, value: &[u8], out: &mut BytesMut) {
    match u8::try_from(value.len()) {
        Ok(length) => out.put_slice(&[flags, code, length]),
        Err(_) => {
            out.put_slice(&[flags | EXTENDED_LENGTH, code]);
            out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        }
    }
    out.put_slice(value);
}
