//! The generalized TTL security mechanism (RFC 5082): packets from further away than the peer is
//! are dropped by the kernel.

use std::{io, net::IpAddr, os::fd::AsFd};

use crate::sockopt;

/// TTL of what we send.
pub(super) const TTL: u8 = 255;

/// Room for the IP and TCP headers of a SYN: 60 octets each at most, 40 and extensions for IPv6.
const SYN: usize = 256;

/// Drops what arrives with a smaller TTL or hop limit on this connection, from now on.
pub(super) fn require(socket: &impl AsFd, peer: IpAddr, min_ttl: u8) -> io::Result<()> {
    let (level, name) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    sockopt::set(socket, level, name, &libc::c_int::from(min_ttl))
}

/// Makes a listening socket keep the SYN of each connection until it is asked for.
pub(super) fn save_syns(listener: &impl AsFd) -> io::Result<()> {
    sockopt::set(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, &1)
}

/// Whether the SYN of an accepted connection came with this TTL: a whole session may have been
/// received before [`require`] had a socket to work on.
///
/// # Errors
///
/// `PermissionDenied` when it didn't, or when the SYN is not known.
pub(super) fn check_syn(stream: &impl AsFd, min_ttl: u8) -> io::Result<()> {
    let syn = sockopt::get::<SYN>(stream, libc::IPPROTO_TCP, libc::TCP_SAVED_SYN)?;
    let ttl = match syn.first().map(|byte| byte >> 4) {
        Some(4) => syn.get(8),
        Some(6) => syn.get(7),
        _ => None,
    };
    match ttl {
        Some(ttl) if *ttl >= min_ttl => Ok(()),
        Some(ttl) => Err(refused(format!("TTL {ttl}, ttl_security wants {min_ttl}"))),
        None => Err(refused(
            "TTL unknown, ttl_security wants to know it".to_owned(),
        )),
    }
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}
