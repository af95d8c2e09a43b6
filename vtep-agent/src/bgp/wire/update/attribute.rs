//! Path attributes one by one: syntax, and the outcome of RFC 7606 §7 for what is malformed.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;

use super::{
    super::{
        AsPath, AsSegment, AttributeCode, Attributes, Cause, Context, ExtCommunity, Origin,
        Outcome, PmsiTunnel, RawAttribute, Reader, TunnelType, reader::WrongLength,
    },
    OPTIONAL, PARTIAL, TRANSITIVE,
};
use crate::types::Asn;

/// Attributes of an UPDATE as far as they were usable, the MP ones aside.
#[derive(Clone, Default)]
pub(super) struct Parsed {
    pub(super) as_path: Option<AsPath>,
    /// That of the NLRI field; other routes have theirs in MP_REACH_NLRI (RFC 4760 §3).
    pub(super) next_hop: Option<Ipv4Addr>,
    origin: Option<Origin>,
    med: Option<u32>,
    local_pref: Option<u32>,
    originator_id: Option<Ipv4Addr>,
    cluster_list: Vec<Ipv4Addr>,
    communities: Vec<u32>,
    ext_communities: Vec<ExtCommunity>,
    pmsi: Option<PmsiTunnel>,
    aggregator: Option<Aggregator>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    other: Vec<RawAttribute>,
}

/// AGGREGATOR, or AS4_AGGREGATOR.
#[derive(Clone, Copy)]
struct Aggregator {
    flags: u8,
    asn: Asn,
    address: [u8; 4],
}

type Malformed = (Outcome, Cause);

/// The Optional and Transitive bits against their specification (RFC 7606 §3 c); an attribute that
/// is well-known by its flags but unknown to the codec.
pub(super) fn check_flags(code: u8, flags: u8) -> Result<(), Cause> {
    let expected = match code {
        1..=3 | 5 | 6 => TRANSITIVE,
        4 | 9 | 10 | 14 | 15 => OPTIONAL,
        7 | 8 | 16..=18 | 22 | 23 | 25 | 32 => OPTIONAL | TRANSITIVE,
        _ if flags & OPTIONAL == 0 => return Err(Cause::Unrecognized(AttributeCode(code))),
        _ => return Ok(()),
    };
    if flags & (OPTIONAL | TRANSITIVE) == expected {
        return Ok(());
    }
    let code = AttributeCode(code);
    Err(Cause::Flags { code, flags })
}

impl Parsed {
    pub(super) fn attribute(
        &mut self,
        flags: u8,
        code: u8,
        value: &[u8],
        context: &Context,
    ) -> Result<(), Malformed> {
        let attribute = AttributeCode(code);
        let reader = Reader::new(value);
        let length = Cause::Length {
            code: attribute,
            length: value.len(),
        };
        let withdraw = |cause| (Outcome::TreatAsWithdraw, cause);
        let bad_length = |WrongLength| (Outcome::TreatAsWithdraw, length.clone());
        let discard = |cause| Err((Outcome::AttributeDiscard, cause));
        match code {
            1 => {
                let [origin] = exactly(reader).map_err(bad_length)?;
                self.origin = Some(match origin {
                    0 => Origin::Igp,
                    1 => Origin::Egp,
                    2 => Origin::Incomplete,
                    _ => return Err(withdraw(Cause::Origin(origin))),
                });
            }
            2 => self.as_path = Some(as_path(value, context).map_err(withdraw)?),
            3 => self.next_hop = Some(exactly::<4>(reader).map_err(bad_length)?.into()),
            4 => self.med = Some(u32::from_be_bytes(exactly(reader).map_err(bad_length)?)),
            5 | 9 | 10 if !context.internal => return discard(Cause::NotForSession(attribute)),
            5 => self.local_pref = Some(u32::from_be_bytes(exactly(reader).map_err(bad_length)?)),
            6 if !value.is_empty() => return discard(length),
            7 => match aggregator(flags, reader, context.four_octet_as) {
                Ok(Aggregator { asn: Asn(0), .. }) => return discard(Cause::AsZero(attribute)),
                Ok(aggregator) => self.aggregator = Some(aggregator),
                Err(WrongLength) => return discard(length),
            },
            8 => self.communities = list(reader, u32::from_be_bytes).map_err(bad_length)?,
            9 => self.originator_id = Some(exactly::<4>(reader).map_err(bad_length)?.into()),
            10 => {
                self.cluster_list = list::<4, _>(reader, Ipv4Addr::from).map_err(bad_length)?;
            }
            16 => {
                self.ext_communities = list(reader, ExtCommunity).map_err(bad_length)?;
                self.keep_one_router_mac();
            }
            17 | 18 if context.four_octet_as => return discard(Cause::NotForSession(attribute)),
            17 => match AsPath::decode(value, true) {
                Ok(path) if has_sets(&path, context) => return Err(withdraw(Cause::AsSet)),
                Ok(path) if !path.0.is_empty() => self.as4_path = Some(path),
                Ok(_) => return discard(length),
                Err(Cause::AsZero(_)) => return discard(Cause::AsZero(attribute)),
                Err(_) => return discard(Cause::Malformed(attribute)),
            },
            18 => match aggregator(flags, reader, true) {
                Ok(Aggregator { asn: Asn(0), .. }) => return discard(Cause::AsZero(attribute)),
                Ok(aggregator) => self.as4_aggregator = Some(aggregator),
                Err(WrongLength) => return discard(length),
            },
            22 => self.pmsi = Some(pmsi(reader).map_err(bad_length)?),
            23 if !is_tunnel_encapsulation(reader) => {
                return Err(withdraw(Cause::Malformed(attribute)));
            }
            25 => drop(list::<20, _>(reader, |_| ()).map_err(bad_length)?),
            32 => drop(list::<12, _>(reader, |_| ()).map_err(bad_length)?),
            _ => {}
        }
        match attribute.name() {
            Some(_) if !matches!(code, 6 | 23 | 25 | 32) => {}
            // Who passes on what it doesn't understand says so (RFC 4271 §5).
            None if flags & TRANSITIVE != 0 => self.keep(flags | PARTIAL, code, value),
            None => {}
            Some(_) => self.keep(flags, code, value),
        }
        Ok(())
    }

    /// The attributes of a route. `None` without ORIGIN and AS_PATH.
    pub(super) fn into_attributes(mut self, next_hop: IpAddr) -> Option<Attributes> {
        let mut as_path = self.as_path?;
        // RFC 6793 §4.2.3: an AGGREGATOR with a number of its own says that a two-octet speaker
        // made the route anew, and that the AS4 attributes are leftovers.
        let leftovers = self.aggregator.is_some_and(|aggregator| {
            self.as4_aggregator.is_some() && aggregator.asn != Asn::TRANS
        });
        if !leftovers {
            if let Some(as4_path) = self.as4_path {
                as_path = as_path.merge(as4_path);
            }
            if self.aggregator.is_some() {
                self.aggregator = self.as4_aggregator.or(self.aggregator);
            }
        }
        let mut other = self.other;
        if let Some(Aggregator {
            flags,
            asn,
            address,
        }) = self.aggregator
        {
            let value = [asn.0.to_be_bytes(), address].concat();
            other.push(RawAttribute {
                flags: flags & (OPTIONAL | TRANSITIVE | PARTIAL),
                code: 7,
                value: value.into(),
            });
        }
        other.sort_by_key(|raw| raw.code);
        Some(Attributes {
            origin: self.origin?,
            as_path,
            next_hop,
            med: self.med,
            local_pref: self.local_pref,
            originator_id: self.originator_id,
            cluster_list: self.cluster_list,
            communities: self.communities,
            ext_communities: self.ext_communities,
            pmsi: self.pmsi,
            other,
        })
    }

    /// The first counts, and others aren't passed on (RFC 9135 §8.1).
    fn keep_one_router_mac(&mut self) {
        let mut found = false;
        self.ext_communities.retain(|community| {
            community.router_mac().is_none() || !std::mem::replace(&mut found, true)
        });
    }

    fn keep(&mut self, flags: u8, code: u8, value: &[u8]) {
        self.other.push(RawAttribute {
            flags: flags & (OPTIONAL | TRANSITIVE | PARTIAL),
            code,
            value: Bytes::copy_from_slice(value),
        });
    }
}

fn exactly<const N: usize>(mut reader: Reader<'_>) -> Result<[u8; N], WrongLength> {
    let value = reader.array()?;
    reader.finish()?;
    Ok(value)
}

/// One or more items of `N` octets.
fn list<const N: usize, T>(
    mut reader: Reader<'_>,
    item: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, WrongLength> {
    let mut items = vec![item(reader.array()?)];
    while !reader.is_empty() {
        items.push(item(reader.array()?));
    }
    Ok(items)
}

fn as_path(value: &[u8], context: &Context) -> Result<AsPath, Cause> {
    let path = AsPath::decode(value, context.four_octet_as)?;
    if has_sets(&path, context) {
        return Err(Cause::AsSet);
    }
    if !context.internal && path.0.iter().any(AsSegment::is_confederation) {
        return Err(Cause::ConfederationSegment);
    }
    Ok(path)
}

/// AS sets, where they are not accepted: in AS_PATH and AS4_PATH alike (RFC 9774 §3).
fn has_sets(path: &AsPath, context: &Context) -> bool {
    !context.accept_as_sets && path.0.iter().any(AsSegment::is_set)
}

fn aggregator(
    flags: u8,
    mut reader: Reader<'_>,
    four_octet: bool,
) -> Result<Aggregator, WrongLength> {
    let asn = match four_octet {
        true => reader.u32()?,
        false => reader.u16()?.into(),
    };
    let address = reader.array()?;
    reader.finish()?;
    Ok(Aggregator {
        flags,
        asn: Asn(asn),
        address,
    })
}

/// RFC 6514 §5. Tunnel types other than ingress replication are not looked into: a receiver ignores
/// what it doesn't support (RFC 9574 §5.3).
fn pmsi(mut reader: Reader<'_>) -> Result<PmsiTunnel, WrongLength> {
    let tunnel = PmsiTunnel {
        flags: reader.u8()?,
        tunnel_type: TunnelType(reader.u8()?),
        label: reader.u24()?,
        identifier: Bytes::copy_from_slice(reader.rest()),
    };
    if tunnel.tunnel_type == TunnelType::INGRESS_REPLICATION
        && !matches!(tunnel.identifier.len(), 4 | 16)
    {
        return Err(WrongLength);
    }
    Ok(tunnel)
}

/// Whether the boundaries of TLVs and sub-TLVs agree and there is a TLV at all (RFC 9012 §13).
fn is_tunnel_encapsulation(mut reader: Reader<'_>) -> bool {
    loop {
        if skip_tunnel(&mut reader).is_err() {
            return false;
        }
        if reader.is_empty() {
            return true;
        }
    }
}

fn skip_tunnel(reader: &mut Reader<'_>) -> Result<(), WrongLength> {
    let _tunnel_type = reader.u16()?;
    let length = reader.u16()?;
    let mut sub_tlvs = Reader::new(reader.take(length.into())?);
    while !sub_tlvs.is_empty() {
        let length = match sub_tlvs.u8()? {
            0..=127 => sub_tlvs.u8()?.into(),
            128.. => sub_tlvs.u16()?,
        };
        sub_tlvs.take(length.into())?;
    }
    Ok(())
}
