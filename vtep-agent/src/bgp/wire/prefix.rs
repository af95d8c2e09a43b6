//! Prefixes of IPv4 and IPv6 unicast: a length in bits, and as many octets as hold it
//! (RFC 4271 §4.3, RFC 4760 §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use ipnet::IpNet;

use super::{Cause, Family, Reader, reader::WrongLength};

/// Reads a prefix of an IPv4 or IPv6 family; bits behind its length don't count. `Err` when it is
/// longer than an address or than what is left: then nothing behind it can be read either
/// (RFC 7606 §5.3).
pub(super) fn decode(family: Family, reader: &mut Reader<'_>) -> Result<IpNet, WrongLength> {
    let bits = reader.u8()?;
    let octets = reader.take(usize::from(bits).div_ceil(8))?;
    let address: IpAddr = match family {
        Family::IPV6_UNICAST => Ipv6Addr::from(padded(octets)?).into(),
        _ => Ipv4Addr::from(padded(octets)?).into(),
    };
    let prefix = IpNet::new(address, bits).map_err(|_| WrongLength)?;
    Ok(prefix.trunc())
}

/// Prefixes to which a route makes no sense are ignored one by one (RFC 4271 §6.3).
pub(super) fn validate(prefix: &IpNet) -> Result<(), Cause> {
    let address = prefix.addr();
    // A default route has the unspecified address; a longer prefix with it is no network.
    let unspecified = address.is_unspecified() && prefix.prefix_len() >= 8;
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() && prefix.prefix_len() >= 16,
        IpAddr::V6(address) => address.is_unicast_link_local() && prefix.prefix_len() >= 10,
    };
    let reserved = matches!(address, IpAddr::V4(address) if address.octets().first() >= Some(&240));
    match unspecified || link_local || reserved || address.is_multicast() || address.is_loopback() {
        true => Err(Cause::Prefix(*prefix)),
        false => Ok(()),
    }
}

pub(super) fn encode(prefix: &IpNet, out: &mut BytesMut) {
    let bits = prefix.prefix_len();
    let length = usize::from(bits).div_ceil(8);
    out.put_u8(bits);
    let octets: &[u8] = match prefix {
        IpNet::V4(prefix) => &prefix.network().octets(),
        IpNet::V6(prefix) => &prefix.network().octets(),
    };
    out.extend(octets.iter().take(length));
}

fn padded<const N: usize>(octets: &[u8]) -> Result<[u8; N], WrongLength> {
    let mut address = [0; N];
    let (used, _) = address
        .split_at_mut_checked(octets.len())
        .ok_or(WrongLength)?;
    used.copy_from_slice(octets);
    Ok(address)
}
