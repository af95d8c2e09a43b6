//! EVPN NLRI (RFC 7432 §7, RFC 9136 §3, RFC 9251 §9): type, length, value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};
use ipnet::IpNet;

use super::{
    Cause, EthernetAd, EthernetSegment, Imet, IpPrefix, MacIp, Reader, Route, RouteKey, multicast,
    prefix, reader::WrongLength, writer::with_u8_length,
};
use crate::types::{Esi, EthernetTag, Mac, RouteDistinguisher};

/// Interprets the value of an NLRI. `Err` when the length is inconsistent with the type or a field
/// can't be represented; then it doesn't identify a route.
pub(super) fn decode(route_type: u8, value: &[u8]) -> Result<Route, Cause> {
    let reader = Reader::new(value);
    let decoded = match route_type {
        1 => ethernet_ad(reader),
        2 => mac_ip(reader),
        3 => imet(reader),
        4 => ethernet_segment(reader),
        5 => ip_prefix(reader),
        6..=8 => multicast_key(route_type, reader).map(|()| opaque(route_type, value)),
        _ => Ok(opaque(route_type, value)),
    };
    decoded.map_err(|error| match error {
        Error::Cause(cause) => cause,
        Error::Length => Cause::RouteLength {
            route_type,
            length: value.len(),
        },
    })
}

/// What makes an announced route unusable although its key is known (checklist of RFC 7432 §7,
/// RFC 9135 §9.1, RFC 9136 §3.1).
pub(super) fn validate(route: &Route) -> Result<(), Cause> {
    match route {
        Route::EthernetAd(route) if route.esi.is_reserved() => Err(Cause::Esi(route.esi)),
        Route::MacIp(MacIp { mac, ip, .. }) => {
            // All zero without an address is the unknown MAC route (RFC 9014 §3.5.1).
            let unknown_mac_route = mac.is_zero() && ip.is_none();
            if !mac.is_station() && !unknown_mac_route {
                return Err(Cause::Mac(*mac));
            }
            ip.map_or(Ok(()), host)
        }
        Route::Imet(Imet { originator, .. })
        | Route::EthernetSegment(EthernetSegment { originator, .. })
            if originator.is_unspecified() =>
        {
            Err(Cause::Ip(*originator))
        }
        Route::IpPrefix(IpPrefix { esi, gateway, .. })
            if *esi != Esi::ZERO && !gateway.is_unspecified() =>
        {
            Err(Cause::TwoOverlayIndices)
        }
        Route::Unicast(prefix) => prefix::validate(prefix),
        _ => Ok(()),
    }
}

fn host(ip: IpAddr) -> Result<(), Cause> {
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast {
        return Err(Cause::Ip(ip));
    }
    Ok(())
}

enum Error {
    Length,
    Cause(Cause),
}

impl From<WrongLength> for Error {
    fn from(_: WrongLength) -> Self {
        Self::Length
    }
}

fn ethernet_ad(mut reader: Reader<'_>) -> Result<Route, Error> {
    let route = EthernetAd {
        rd: RouteDistinguisher(reader.array()?),
        esi: Esi(reader.array()?),
        tag: EthernetTag(reader.u32()?),
        label: reader.u24()?,
    };
    reader.finish()?;
    Ok(Route::EthernetAd(route))
}

fn mac_ip(mut reader: Reader<'_>) -> Result<Route, Error> {
    let rd = RouteDistinguisher(reader.array()?);
    let esi = Esi(reader.array()?);
    let tag = EthernetTag(reader.u32()?);
    let mac_length = reader.u8()?;
    if mac_length != 48 {
        return Err(Error::Cause(Cause::MacLength(mac_length)));
    }
    let route = MacIp {
        rd,
        esi,
        tag,
        mac: Mac(reader.array()?),
        ip: match reader.u8()? {
            0 => None,
            length => Some(address(length, &mut reader)?),
        },
        label1: reader.u24()?,
        label2: match reader.is_empty() {
            true => None,
            false => Some(reader.u24()?),
        },
    };
    reader.finish()?;
    Ok(Route::MacIp(route))
}

fn imet(mut reader: Reader<'_>) -> Result<Route, Error> {
    let rd = RouteDistinguisher(reader.array()?);
    let tag = EthernetTag(reader.u32()?);
    let length = reader.u8()?;
    let originator = address(length, &mut reader)?;
    reader.finish()?;
    Ok(Route::Imet(Imet {
        rd,
        tag,
        originator,
    }))
}

fn ethernet_segment(mut reader: Reader<'_>) -> Result<Route, Error> {
    let rd = RouteDistinguisher(reader.array()?);
    let esi = Esi(reader.array()?);
    let length = reader.u8()?;
    let originator = address(length, &mut reader)?;
    reader.finish()?;
    Ok(Route::EthernetSegment(EthernetSegment {
        rd,
        esi,
        originator,
    }))
}

/// The length alone says the family (RFC 9136 §3.1).
fn ip_prefix(mut reader: Reader<'_>) -> Result<Route, Error> {
    let bits = match reader.len() {
        34 => 32,
        58 => 128,
        _ => return Err(Error::Length),
    };
    let rd = RouteDistinguisher(reader.array()?);
    let esi = Esi(reader.array()?);
    let tag = EthernetTag(reader.u32()?);
    let prefix_length = reader.u8()?;
    let prefix = address(bits, &mut reader)?;
    let prefix = IpNet::new(prefix, prefix_length)
        .map_err(|_| Error::Cause(Cause::PrefixLength(prefix_length)))?
        .trunc();
    let gateway = address(bits, &mut reader)?;
    let label = reader.u24()?;
    reader.finish()?;
    Ok(Route::IpPrefix(IpPrefix {
        rd,
        esi,
        tag,
        prefix,
        gateway,
        label,
    }))
}

/// Types 6 to 8 are carried and not interpreted, but their key must be there (RFC 9251 §9.7).
fn multicast_key(route_type: u8, mut reader: Reader<'_>) -> Result<(), Error> {
    reader.take(multicast::before_source(route_type))?;
    for _source_and_group in 0..2 {
        match reader.u8()? {
            0 => {}
            length => drop(address(length, &mut reader)?),
        }
    }
    let length = reader.u8()?;
    address(length, &mut reader)?;
    reader.take(outside_key(route_type))?;
    Ok(reader.finish()?)
}

fn address(bits: u8, reader: &mut Reader<'_>) -> Result<IpAddr, Error> {
    match bits {
        32 => Ok(Ipv4Addr::from(reader.array::<4>()?).into()),
        128 => Ok(Ipv6Addr::from(reader.array::<16>()?).into()),
        _ => Err(Error::Cause(Cause::IpLength(bits))),
    }
}

fn opaque(route_type: u8, value: &[u8]) -> Route {
    Route::Opaque {
        route_type,
        value: Bytes::copy_from_slice(value),
    }
}

/// Trailing octets of an opaque route that are no part of its key: the flags of types 6 and 7; the
/// reserved field, maximum response time and flags of type 8 (RFC 9251 §9).
pub(super) fn outside_key(route_type: u8) -> usize {
    match route_type {
        6 | 7 => 1,
        8 => 6,
        _ => 0,
    }
}

/// Appends type, length and value; length and prefix in the other families.
pub(super) fn encode(route: &Route, out: &mut BytesMut) {
    let (route_type, value): (u8, &dyn Fn(&mut BytesMut)) = match route {
        Route::EthernetAd(route) => (1, &|out| {
            out.put_slice(&route.rd.0);
            out.put_slice(&route.esi.0);
            out.put_u32(route.tag.0);
            put_label(route.label, out);
        }),
        Route::MacIp(route) => (2, &|out| {
            out.put_slice(&route.rd.0);
            out.put_slice(&route.esi.0);
            out.put_u32(route.tag.0);
            out.put_u8(48);
            out.put_slice(&route.mac.0);
            match route.ip {
                Some(ip) => put_address(ip, out),
                None => out.put_u8(0),
            }
            put_label(route.label1, out);
            if let Some(label) = route.label2 {
                put_label(label, out);
            }
        }),
        Route::Imet(route) => (3, &|out| {
            out.put_slice(&route.rd.0);
            out.put_u32(route.tag.0);
            put_address(route.originator, out);
        }),
        Route::EthernetSegment(route) => (4, &|out| {
            out.put_slice(&route.rd.0);
            out.put_slice(&route.esi.0);
            put_address(route.originator, out);
        }),
        Route::IpPrefix(route) => (5, &|out| {
            out.put_slice(&route.rd.0);
            out.put_slice(&route.esi.0);
            out.put_u32(route.tag.0);
            out.put_u8(route.prefix.prefix_len());
            put_octets(route.prefix.addr(), out);
            put_octets(route.gateway, out);
            put_label(route.label, out);
        }),
        Route::Opaque { route_type, value } => (*route_type, &|out| out.put_slice(value)),
        Route::Unicast(prefix) => return prefix::encode(prefix, out),
        Route::Membership(membership) => return membership.encode(out),
    };
    out.put_u8(route_type);
    with_u8_length(out, value);
}

/// A route with this key, to withdraw it: everything outside the key is zero.
pub(super) fn withdrawal(key: &RouteKey) -> Route {
    match *key {
        RouteKey::EthernetAd { rd, esi, tag } => Route::EthernetAd(EthernetAd {
            rd,
            esi,
            tag,
            label: 0,
        }),
        RouteKey::MacIp { rd, tag, mac, ip } => Route::MacIp(MacIp {
            rd,
            esi: Esi::ZERO,
            tag,
            mac,
            ip,
            label1: 0,
            label2: None,
        }),
        RouteKey::Imet {
            rd,
            tag,
            originator,
        } => Route::Imet(Imet {
            rd,
            tag,
            originator,
        }),
        RouteKey::EthernetSegment {
            rd,
            esi,
            originator,
        } => Route::EthernetSegment(EthernetSegment {
            rd,
            esi,
            originator,
        }),
        RouteKey::IpPrefix { rd, tag, prefix } => Route::IpPrefix(IpPrefix {
            rd,
            esi: Esi::ZERO,
            tag,
            prefix,
            gateway: match prefix {
                IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            },
            label: 0,
        }),
        RouteKey::Opaque {
            route_type,
            ref value,
        } => {
            let mut whole = value.to_vec();
            whole.resize(value.len().saturating_add(outside_key(route_type)), 0);
            Route::Opaque {
                route_type,
                value: whole.into(),
            }
        }
        RouteKey::Unicast(prefix) => Route::Unicast(prefix),
        RouteKey::Membership(membership) => Route::Membership(membership),
    }
}

fn put_label(label: u32, out: &mut BytesMut) {
    out.put_uint(u64::from(label & 0xff_ffff), 3);
}

/// Length in bits, and the address.
fn put_address(address: IpAddr, out: &mut BytesMut) {
    out.put_u8(match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    });
    put_octets(address, out);
}

pub(super) fn put_octets(address: IpAddr, out: &mut BytesMut) {
    match address {
        IpAddr::V4(address) => out.put_slice(&address.octets()),
        IpAddr::V6(address) => out.put_slice(&address.octets()),
    }
}
