//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760 §3, §4) with NLRI of the families of a session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use super::{
    super::{
        AttributeCode, Cause, Context, Family, Fault, Membership, Outcome, PathId, Reader, Route,
        RouteKey, nlri, prefix,
    },
    code,
};

/// What the two attributes of an UPDATE say about families of the session. An error returned by the
/// methods means that routes of unknown identity are lost, which resets the session (RFC 7606 §5.3, §7.11).
#[derive(Default)]
pub(super) struct Multiprotocol {
    pub(super) next_hop: Option<IpAddr>,
    /// With their path identifiers, where NLRI have them.
    pub(super) announced: Vec<(Option<PathId>, Route)>,
    pub(super) withdrawn: Vec<(Option<PathId>, RouteKey)>,
    /// The family of MP_UNREACH_NLRI.
    pub(super) unreach: Option<Family>,
}

impl Multiprotocol {
    pub(super) fn reach(
        &mut self,
        value: &[u8],
        context: &Context,
        faults: &mut Vec<Fault>,
    ) -> Result<(), Cause> {
        let code = AttributeCode(code::MP_REACH);
        let malformed = |_| Cause::Malformed(code);
        let mut reader = Reader::new(value);
        let family = Family::decode(&mut reader).map_err(malformed)?;
        let length = reader.u8().map_err(malformed)?;
        let next_hop = reader.take(length.into()).map_err(malformed)?;
        let _reserved = reader.u8().map_err(malformed)?;
        if !is_read(family, context) {
            return Ok(());
        }
        self.next_hop = Some(address(family, next_hop).ok_or(Cause::Malformed(code))?);
        let read = (code, family, context);
        routes(read, reader, faults, |id, nlri, bytes, faults| {
            let route = match nlri {
                Ok(route) => route,
                Err(cause) => {
                    faults.push(fault(Outcome::NlriDiscard, cause, bytes));
                    return;
                }
            };
            match nlri::validate(&route) {
                Ok(()) => self.announced.push((id, route)),
                Err(cause) => {
                    self.withdrawn.push((id, route.key()));
                    faults.push(fault(Outcome::TreatAsWithdraw, cause, bytes));
                }
            }
        })
    }

    pub(super) fn unreach(
        &mut self,
        value: &[u8],
        context: &Context,
        faults: &mut Vec<Fault>,
    ) -> Result<(), Cause> {
        let code = AttributeCode(code::MP_UNREACH);
        let mut reader = Reader::new(value);
        let family = Family::decode(&mut reader).map_err(|_| Cause::Malformed(code))?;
        if !is_read(family, context) {
            return Ok(());
        }
        self.unreach = Some(family);
        let read = (code, family, context);
        routes(read, reader, faults, |id, nlri, bytes, faults| match nlri {
            Ok(route) => self.withdrawn.push((id, route.key())),
            Err(cause) => faults.push(fault(Outcome::NlriDiscard, cause, bytes)),
        })
    }
}

/// Four or sixteen octets. Of a global and a link-local address (RFC 2545 §3) the global one, unless
/// a speaker without one has filled its place with something else. IPv4 routes may have an IPv6 next
/// hop (RFC 8950 §3), not the other way round.
fn address(family: Family, next_hop: &[u8]) -> Option<IpAddr> {
    let v6 = |octets: &[u8; 16]| Ipv6Addr::from(*octets);
    match next_hop.len() {
        4 if family != Family::IPV6_UNICAST => next_hop
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into()),
        16 | 32 => {
            let first = next_hop.first_chunk::<16>().map(v6)?;
            let last = next_hop.last_chunk::<16>().map(v6)?;
            match family != Family::EVPN && first.is_unspecified() {
                true => Some(last.into()),
                false => Some(first.into()),
            }
        }
        _ => None,
    }
}

fn is_read(family: Family, context: &Context) -> bool {
    family.is_in(context.families) || family == Family::RTC && context.rt_constraint
}

fn routes(
    (code, family, context): (AttributeCode, Family, &Context),
    mut reader: Reader<'_>,
    faults: &mut Vec<Fault>,
    mut each: impl FnMut(Option<PathId>, Result<Route, Cause>, &[u8], &mut Vec<Fault>),
) -> Result<(), Cause> {
    let overrun = |_| Cause::Malformed(code);
    while !reader.is_empty() {
        if family == Family::RTC {
            let mut start = reader;
            let membership = Membership::decode(&mut reader).map_err(overrun)?;
            if let Err(cause) = &membership
                && context.strict_nlri
            {
                return Err(cause.clone());
            }
            let length = start.len().saturating_sub(reader.len());
            let bytes = start.take(length).map_err(overrun)?;
            each(None, membership.map(Route::Membership), bytes, faults);
            continue;
        }
        if family != Family::EVPN {
            let mut start = reader;
            let route = Route::Unicast(prefix::decode(family, &mut reader).map_err(overrun)?);
            let length = start.len().saturating_sub(reader.len());
            let bytes = start.take(length).map_err(overrun)?;
            each(None, Ok(route), bytes, faults);
            continue;
        }
        let id = match context.add_path {
            true => Some(PathId(reader.u32().map_err(overrun)?)),
            false => None,
        };
        let mut start = reader;
        let route_type = reader.u8().map_err(overrun)?;
        let length = reader.u8().map_err(overrun)?;
        let value = reader.take(length.into()).map_err(overrun)?;
        let bytes = start
            .take(usize::from(length).saturating_add(2))
            .map_err(overrun)?;
        let nlri = nlri::decode(route_type, value);
        if let Err(cause) = &nlri
            && is_fatal(route_type, cause, context)
        {
            return Err(cause.clone());
        }
        each(id, nlri, bytes, faults);
    }
    Ok(())
}

/// Without a key, routes of types 6 to 8 can't be treated as withdrawn (RFC 9251 §9.7); those of
/// other types are skipped by their length octet unless the letter of RFC 7606 §5.3 is asked for.
fn is_fatal(route_type: u8, cause: &Cause, context: &Context) -> bool {
    matches!(route_type, 6..=8) || context.strict_nlri && matches!(cause, Cause::RouteLength { .. })
}

fn fault(outcome: Outcome, cause: Cause, bytes: &[u8]) -> Fault {
    Fault {
        outcome,
        cause,
        bytes: Bytes::copy_from_slice(bytes),
    }
}
