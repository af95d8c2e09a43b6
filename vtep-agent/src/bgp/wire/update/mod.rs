//! UPDATE (RFC 4271 §4.3, RFC 4760) with the error handling of RFC 7606.

mod attribute;
mod classic;
mod encode;
mod multiprotocol;

pub(super) use encode::encode;
pub use encode::encode_advertisement;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use self::{attribute::Parsed, classic::Classic, multiprotocol::Multiprotocol};
use super::{
    AttributeCode, Attributes, Cause, Context, Encapsulation, ExtCommunity, Family, Fault,
    Notification, Outcome, PathId, Reader, Route, RouteKey, multicast, nlri, reader::WrongLength,
};
use crate::types::{Esi, EthernetTag};

/// A decoded UPDATE, after RFC 7606: what a malformed attribute made unusable is in `withdrawn`.
/// Families that the session doesn't have are skipped. `withdrawn` applies before `announced`: a key
/// in both is announced (RFC 4271 §4.3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Announced routes, all of one family. Empty when `attributes` is `None`.
    pub announced: Vec<Route>,
    /// Path attributes of `announced`, or of `identified.announced`, next hop included.
    pub attributes: Option<Arc<Attributes>>,
    /// Withdrawn routes, and announced ones that are treated as withdrawn.
    pub withdrawn: Vec<RouteKey>,
    /// IPv4 unicast routes of the NLRI field, which have a next hop of their own and may come
    /// beside those of MP_REACH_NLRI (RFC 4271 §4.3).
    pub classic: Option<(Arc<Attributes>, Vec<Route>)>,
    /// What would be in `announced` and `withdrawn` had its routes no path identifiers.
    pub identified: Identified,
    /// The End-of-RIB marker of this family (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
}

/// EVPN routes of a peer that tells its paths apart (RFC 7911).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identified {
    /// Announced routes; empty when [`Update::attributes`] is `None`.
    pub announced: Vec<(PathId, Route)>,
    /// Withdrawn ones.
    pub withdrawn: Vec<(PathId, RouteKey)>,
}

impl Update {
    /// Number of routes, announced and withdrawn.
    pub fn routes(&self) -> usize {
        let counts = [
            self.announced.len(),
            self.withdrawn.len(),
            self.classic.as_ref().map_or(0, |(_, routes)| routes.len()),
            self.identified.announced.len(),
            self.identified.withdrawn.len(),
        ];
        counts.iter().sum()
    }

    /// Takes out what is said of one family.
    #[must_use]
    pub fn take(&mut self, family: Family) -> Self {
        let mut taken = Self {
            withdrawn: self
                .withdrawn
                .extract_if(.., |key| key.family() == family)
                .collect(),
            end_of_rib: self.end_of_rib.take_if(|of| *of == family),
            ..Self::default()
        };
        if family == Family::EVPN {
            taken.identified = std::mem::take(&mut self.identified);
        }
        let identified = taken.identified.announced.iter().map(|(_, route)| route);
        let first = self.announced.iter().chain(identified).next();
        if first.map(Route::family) == Some(family) {
            taken.announced = std::mem::take(&mut self.announced);
            taken.attributes = self.attributes.take();
        }
        if family == Family::IPV4_UNICAST {
            taken.classic = self.classic.take();
        }
        taken
    }

    fn announce(&mut self, (id, route): (Option<PathId>, Route)) {
        match id {
            Some(id) => self.identified.announced.push((id, route)),
            None => self.announced.push(route),
        }
    }

    fn withdraw(&mut self, (id, key): (Option<PathId>, RouteKey)) {
        match id {
            Some(id) => self.identified.withdrawn.push((id, key)),
            None => self.withdrawn.push(key),
        }
    }
}

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const PARTIAL: u8 = 0x20;
const EXTENDED_LENGTH: u8 = 0x10;

/// Attribute type codes that decide the flow here.
mod code {
    pub(super) const ORIGIN: u8 = 1;
    pub(super) const AS_PATH: u8 = 2;
    pub(super) const NEXT_HOP: u8 = 3;
    pub(super) const LOCAL_PREF: u8 = 5;
    pub(super) const MP_REACH: u8 = 14;
    pub(super) const MP_UNREACH: u8 = 15;
    pub(super) const PMSI_TUNNEL: u8 = 22;
}

/// Flags of the ESI label community (RFC 7432 §7.5, RFC 9746 §2.1).
const SINGLE_ACTIVE: u8 = 0x01;
const SPLIT_HORIZON_TYPE: u8 = 0xc0;

pub(super) fn decode(body: &[u8], context: &Context) -> Result<(Update, Vec<Fault>), Notification> {
    let malformed_list = |_| Notification::new(3, 1);
    let mut reader = Reader::new(body);
    let length = reader.u16().map_err(malformed_list)?;
    let withdrawn = reader.take(length.into()).map_err(malformed_list)?;
    let length = reader.u16().map_err(malformed_list)?;
    let attributes = reader.take(length.into()).map_err(malformed_list)?;
    let mut faults = Vec::new();
    let classic = Classic::decode(withdrawn, reader.rest(), context, &mut faults)
        .map_err(|WrongLength| Notification::new(3, 10))?;

    let mut decoder = Decoder {
        context,
        seen: Vec::new(),
        parsed: Parsed::default(),
        classic,
        multiprotocol: Multiprotocol::default(),
        faults,
        withdraw_all: None,
    };
    decoder.attributes(attributes)?;
    decoder.finish()
}

struct Decoder<'c> {
    context: &'c Context,
    /// Codes of the attributes met so far.
    seen: Vec<u8>,
    parsed: Parsed,
    classic: Classic,
    multiprotocol: Multiprotocol,
    faults: Vec<Fault>,
    /// The first of `faults` that makes all routes of the message unusable.
    withdraw_all: Option<Fault>,
}

impl Decoder<'_> {
    fn attributes(&mut self, bytes: &[u8]) -> Result<(), Notification> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let mut start = reader;
            let Ok((flags, code, value)) = split(&mut reader) else {
                let bytes = start.rest();
                // The routes of a truncated MP attribute are unknown (RFC 7606 §3 j).
                if matches!(bytes, [_, code::MP_REACH | code::MP_UNREACH, ..]) {
                    return Err(Cause::AttributesOverrun.notification(bytes));
                }
                self.fault(Outcome::TreatAsWithdraw, Cause::AttributesOverrun, bytes);
                return Ok(());
            };
            let whole = start.len().saturating_sub(reader.len());
            let bytes = start.take(whole).unwrap_or(value);
            self.attribute(flags, code, value, bytes)?;
        }
        Ok(())
    }

    fn attribute(
        &mut self,
        flags: u8,
        code: u8,
        value: &[u8],
        bytes: &[u8],
    ) -> Result<(), Notification> {
        let multiprotocol = matches!(code, code::MP_REACH | code::MP_UNREACH);
        if self.seen.contains(&code) {
            let cause = Cause::Duplicate(AttributeCode(code));
            if multiprotocol {
                return Err(cause.notification(bytes));
            }
            self.fault(Outcome::AttributeDiscard, cause, bytes);
            return Ok(());
        }
        self.seen.push(code);
        if let Err(cause) = attribute::check_flags(code, flags) {
            if multiprotocol {
                return Err(cause.notification(bytes));
            }
            self.fault(Outcome::TreatAsWithdraw, cause, bytes);
            return Ok(());
        }
        let faults = &mut self.faults;
        let result = match code {
            code::MP_REACH => self.multiprotocol.reach(value, self.context, faults),
            code::MP_UNREACH => self.multiprotocol.unreach(value, self.context, faults),
            _ => {
                if let Err((outcome, cause)) =
                    self.parsed.attribute(flags, code, value, self.context)
                {
                    self.fault(outcome, cause, bytes);
                }
                return Ok(());
            }
        };
        result.map_err(|cause| cause.notification(bytes))
    }

    fn finish(mut self) -> Result<(Update, Vec<Fault>), Notification> {
        let reachable = self.classic.announces || self.seen.contains(&code::MP_REACH);
        if reachable {
            self.check_presence();
            self.check_first_as();
        }
        let classic_next_hop = self.parsed.next_hop.map(IpAddr::V4);
        let classic_next_hop = classic_next_hop.filter(|_| !self.classic.announced.is_empty());
        // The next hop of a membership means nothing.
        let membership = |(_, route): &(_, Route)| route.family() == Family::RTC;
        let next_hop = self.multiprotocol.next_hop;
        let next_hop = next_hop.filter(|_| !self.multiprotocol.announced.iter().any(membership));
        for next_hop in [next_hop, classic_next_hop] {
            if let Some(next_hop) = next_hop.filter(|next_hop| !is_unicast(*next_hop)) {
                self.fault(Outcome::TreatAsWithdraw, Cause::NextHop(next_hop), &[]);
            }
        }
        if let Some(fault) = &self.withdraw_all
            && !reachable
        {
            // What it was meant to announce can't be known (RFC 7606 §5.2).
            return Err(fault.cause.notification(&fault.bytes));
        }

        let mut update = Update {
            end_of_rib: self.end_of_rib(),
            ..Update::default()
        };
        let Classic {
            announced,
            withdrawn,
            ..
        } = self.classic;
        update.withdrawn = withdrawn;
        if !announced.is_empty() {
            let attributes = classic_next_hop
                .filter(|_| self.withdraw_all.is_none())
                .and_then(|next_hop| self.parsed.clone().into_attributes(next_hop));
            match attributes {
                Some(attributes) => update.classic = Some((Arc::new(attributes), announced)),
                None => update.withdrawn.extend(announced.iter().map(Route::key)),
            }
        }
        let routes = self.multiprotocol;
        for withdrawn in routes.withdrawn {
            update.withdraw(withdrawn);
        }
        let attributes = routes
            .next_hop
            .filter(|_| self.withdraw_all.is_none())
            .and_then(|next_hop| self.parsed.into_attributes(next_hop));
        let Some(attributes) = attributes else {
            for (id, route) in routes.announced {
                update.withdraw((id, route.key()));
            }
            return Ok((update, self.faults));
        };
        for (id, route) in routes.announced {
            match check_with_attributes(&route, &attributes) {
                Ok(()) => update.announce((id, route)),
                Err(cause) => {
                    let mut bytes = BytesMut::new();
                    nlri::encode(&route, &mut bytes);
                    update.withdraw((id, route.key()));
                    self.faults.push(Fault {
                        outcome: Outcome::TreatAsWithdraw,
                        cause,
                        bytes: bytes.freeze(),
                    });
                }
            }
        }
        if !update.announced.is_empty() || !update.identified.announced.is_empty() {
            update.attributes = Some(Arc::new(attributes));
        }
        Ok((update, self.faults))
    }

    /// An UPDATE with an empty MP_UNREACH_NLRI; for IPv4 unicast also one with nothing at all
    /// (RFC 4724 §2).
    fn end_of_rib(&self) -> Option<Family> {
        if self.classic.present || !self.faults.is_empty() {
            return None;
        }
        match self.seen[..] {
            [] => Some(Family::IPV4_UNICAST).filter(|family| family.is_in(self.context.families)),
            [code::MP_UNREACH] if self.multiprotocol.withdrawn.is_empty() => {
                self.multiprotocol.unreach
            }
            _ => None,
        }
    }

    /// RFC 7606 §3 d; LOCAL_PREF by RFC 4271 §5.1.5.
    fn check_presence(&mut self) {
        let internal = self.context.internal.then_some(code::LOCAL_PREF);
        let next_hop = (!self.classic.announced.is_empty()).then_some(code::NEXT_HOP);
        let required = [code::ORIGIN, code::AS_PATH].into_iter();
        for code in required.chain(next_hop).chain(internal) {
            if !self.seen.contains(&code) {
                let cause = Cause::Missing(AttributeCode(code));
                self.fault(Outcome::TreatAsWithdraw, cause, &[]);
            }
        }
    }

    /// RFC 4271 §6.3, as RFC 7606 §7.2 revises it.
    fn check_first_as(&mut self) {
        let Context {
            internal,
            enforce_first_as,
            peer_asn,
            ..
        } = *self.context;
        if let Some(path) = &self.parsed.as_path
            && !internal
            && enforce_first_as
            && path.first() != Some(peer_asn)
        {
            self.fault(Outcome::TreatAsWithdraw, Cause::FirstAs(peer_asn), &[]);
        }
    }

    fn fault(&mut self, outcome: Outcome, cause: Cause, bytes: &[u8]) {
        let fault = Fault {
            outcome,
            cause,
            bytes: Bytes::copy_from_slice(bytes),
        };
        if outcome == Outcome::TreatAsWithdraw && self.withdraw_all.is_none() {
            self.withdraw_all = Some(fault.clone());
        }
        self.faults.push(fault);
    }
}

/// Flags, code and value of the next attribute.
fn split<'a>(reader: &mut Reader<'a>) -> Result<(u8, u8, &'a [u8]), WrongLength> {
    let [flags, code] = reader.array()?;
    let length = match flags & EXTENDED_LENGTH {
        0 => reader.u8()?.into(),
        _ => reader.u16()?.into(),
    };
    Ok((flags, code, reader.take(length)?))
}

fn is_unicast(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}

/// Conditions on a route together with its attributes (RFC 9746 §2.2, RFC 9136 §3.1 and §3.2,
/// RFC 9251 §9).
fn check_with_attributes(route: &Route, attributes: &Attributes) -> Result<(), Cause> {
    match route {
        Route::EthernetAd(route) if route.tag == EthernetTag::MAX => {
            let vxlan = attributes
                .tunnels()
                .any(|tunnel| tunnel == Encapsulation::VXLAN);
            let excluded = attributes.ext_communities.iter().any(|community| {
                matches!(community, ExtCommunity([0x06, 0x01, flags, ..])
                    if flags & SPLIT_HORIZON_TYPE != 0 && (vxlan || flags & SINGLE_ACTIVE != 0))
            });
            match excluded {
                true => Err(Cause::SplitHorizon),
                false => Ok(()),
            }
        }
        Route::IpPrefix(route) => {
            let router_mac = attributes.router_mac();
            let overlay_index =
                route.esi != Esi::ZERO || !route.gateway.is_unspecified() || router_mac.is_some();
            match router_mac {
                Some(mac) if !mac.is_station() => Err(Cause::RouterMac(mac)),
                _ if route.label == 0 && !overlay_index => Err(Cause::NoLabel),
                _ => Ok(()),
            }
        }
        Route::Opaque { route_type, value } => multicast::validate(*route_type, value, attributes),
        _ => Ok(()),
    }
}
