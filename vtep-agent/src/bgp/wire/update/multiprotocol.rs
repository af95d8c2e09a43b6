//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760 §3, §4) with EVPN NLRI.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use super::{
    super::{AttributeCode, Cause, Context, Family, Fault, Outcome, Reader, Route, RouteKey, nlri},
    code,
};

/// What the two attributes of an UPDATE say about the EVPN family. An error returned by the methods
/// means that routes of unknown identity are lost, which resets the session (RFC 7606 §5.3, §7.11).
#[derive(Default)]
pub(super) struct Multiprotocol {
    pub(super) next_hop: Option<IpAddr>,
    pub(super) announced: Vec<Route>,
    pub(super) withdrawn: Vec<RouteKey>,
    /// There was an MP_UNREACH_NLRI of the family.
    pub(super) evpn_unreach: bool,
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
        if family != Family::EVPN {
            return Ok(());
        }
        self.next_hop = Some(address(next_hop).ok_or(Cause::Malformed(code))?);
        routes(code, reader, context, faults, |nlri, bytes, faults| {
            let route = match nlri {
                Ok(route) => route,
                Err(cause) => {
                    faults.push(fault(Outcome::NlriDiscard, cause, bytes));
                    return;
                }
            };
            match nlri::validate(&route) {
                Ok(()) => self.announced.push(route),
                Err(cause) => {
                    self.withdrawn.push(route.key());
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
        if family != Family::EVPN {
            return Ok(());
        }
        self.evpn_unreach = true;
        routes(
            code,
            reader,
            context,
            faults,
            |nlri, bytes, faults| match nlri {
                Ok(route) => self.withdrawn.push(route.key()),
                Err(cause) => faults.push(fault(Outcome::NlriDiscard, cause, bytes)),
            },
        )
    }
}

/// Four or sixteen octets; of a global and a link-local address (RFC 2545 §3) the global one.
fn address(next_hop: &[u8]) -> Option<IpAddr> {
    match next_hop.len() {
        4 => next_hop
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into()),
        16 | 32 => next_hop
            .first_chunk::<16>()
            .map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

fn routes(
    code: AttributeCode,
    mut reader: Reader<'_>,
    context: &Context,
    faults: &mut Vec<Fault>,
    mut each: impl FnMut(Result<Route, Cause>, &[u8], &mut Vec<Fault>),
) -> Result<(), Cause> {
    let overrun = |_| Cause::Malformed(code);
    while !reader.is_empty() {
        if context.add_path {
            reader.u32().map_err(overrun)?;
        }
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
        each(nlri, bytes, faults);
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
