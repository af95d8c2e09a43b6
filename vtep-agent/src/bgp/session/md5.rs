//! TCP MD5 signatures (RFC 2385).

use std::{io, os::fd::AsFd};

use ipnet::IpNet;

use crate::sockopt::{self, OptionValue};

/// Longest key that the kernel takes, in bytes.
const MAX_KEY: usize = 80;

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct TcpMd5Sig {
    /// `struct sockaddr_storage`.
    address: [u8; 128],
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: i32,
    key: [u8; MAX_KEY],
}

// SAFETY: the fields follow each other without gaps and fill 216 bytes, a multiple of 8.
unsafe impl OptionValue for TcpMd5Sig {}

const _: () = assert!(size_of::<TcpMd5Sig>() == 128 + 1 + 1 + 2 + 4 + MAX_KEY);

/// `TCP_MD5SIG_FLAG_PREFIX` of `linux/tcp.h` (4.13): the prefix length counts.
const PREFIX: u8 = 1;

/// Signs and checks the segments exchanged with `peers`; on a listening socket those of connections
/// to come, by the longest prefix. An IPv6 socket takes IPv4 peers as mapped addresses. An empty key
/// removes that of the same prefix.
///
/// # Errors
///
/// `InvalidInput` for a key of more than 80 bytes, `ENOPROTOOPT` on a kernel without
/// `CONFIG_TCP_MD5SIG`, `ENOENT` when there is no key to remove.
pub(super) fn set_key(
    socket: &impl AsFd,
    peers: IpNet,
    ipv6_socket: bool,
    key: &[u8],
) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "key of more than 80 bytes");
    let mut signature = TcpMd5Sig {
        address: sockopt::peer_address(peers.network(), ipv6_socket),
        flags: PREFIX,
        // Of a mapped address it is that of the IPv4 prefix.
        prefix_len: peers.prefix_len(),
        key_len: u16::try_from(key.len()).map_err(|_| too_long())?,
        ifindex: 0,
        key: [0; MAX_KEY],
    };
    signature
        .key
        .get_mut(..key.len())
        .ok_or_else(too_long)?
        .copy_from_slice(key);
    sockopt::set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &signature)
}
