//! Addresses of peers in the kernel's options for signatures.

use std::net::IpAddr;

/// `struct sockaddr_in` or `sockaddr_in6` in the room of a `struct sockaddr_storage`, port and scope
/// zero: the family in host order, then the address in network order at its offset. For an IPv6 socket
/// IPv4 addresses are mapped.
pub(super) fn of(address: IpAddr, ipv6_socket: bool) -> [u8; 128] {
    let address = match address {
        IpAddr::V4(v4) if ipv6_socket => v4.to_ipv6_mapped().into(),
        address => address,
    };
    let mut bytes = [0; 128];
    let family = match address {
        IpAddr::V4(v4) => {
            bytes[4..8].copy_from_slice(&v4.octets());
            libc::AF_INET
        }
        IpAddr::V6(v6) => {
            bytes[8..24].copy_from_slice(&v6.octets());
            libc::AF_INET6
        }
    };
    bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
    bytes
}
