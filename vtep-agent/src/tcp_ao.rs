//! The TCP authentication option (RFC 5925) of Linux 6.7 and later.

use std::{
    io,
    mem::offset_of,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
};

use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{
    config::{AoAlgorithm, AoKey, AoKeys, BgpConfig, Secret},
    sockopt::{self, OptionValue},
};

/// Options of `linux/tcp.h`, which libc does not have.
const TCP_AO_ADD_KEY: libc::c_int = 38;
const TCP_AO_DEL_KEY: libc::c_int = 39;
const TCP_AO_INFO: libc::c_int = 40;

/// Longest key that the kernel takes, in bytes.
const MAX_KEY: usize = 80;

/// `struct tcp_ao_add` of `linux/tcp.h`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct AddKey {
    /// `struct sockaddr_storage`.
    address: [u8; 128],
    algorithm: [u8; 64],
    ifindex: i32,
    flags: u32,
    reserved: u16,
    prefix_len: u8,
    send_id: u8,
    recv_id: u8,
    mac_len: u8,
    key_flags: u8,
    key_len: u8,
    key: [u8; MAX_KEY],
}

/// `struct tcp_ao_del`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct DeleteKey {
    address: [u8; 128],
    ifindex: i32,
    flags: u32,
    reserved: u16,
    prefix_len: u8,
    send_id: u8,
    recv_id: u8,
    /// SendID of the key that is current from now on,
    current: u8,
    /// and RecvID of the one that the peer is asked for, as `flags` says.
    next: u8,
    key_flags: u8,
}

/// `struct tcp_ao_info_opt`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Info {
    flags: u32,
    reserved: u16,
    current: u8,
    next: u8,
    /// Only set with a flag that we don't set.
    counters: [u64; 5],
}

// SAFETY: the fields follow each other without gaps and fill a multiple of 8 bytes, as the
// assertions below say.
unsafe impl OptionValue for AddKey {}
// SAFETY: as above.
unsafe impl OptionValue for DeleteKey {}
// SAFETY: as above.
unsafe impl OptionValue for Info {}

const _: () = {
    assert!(size_of::<AddKey>() == 288 && offset_of!(AddKey, key) + MAX_KEY == 288);
    assert!(offset_of!(AddKey, flags) == 196 && offset_of!(AddKey, prefix_len) == 202);
    assert!(size_of::<DeleteKey>() == 144 && offset_of!(DeleteKey, key_flags) + 1 == 144);
    assert!(offset_of!(DeleteKey, flags) == 132 && offset_of!(DeleteKey, prefix_len) == 138);
    assert!(size_of::<Info>() == 48 && offset_of!(Info, counters) == 8);
};

/// Bits of `flags`, which are bit fields in C.
const SET_CURRENT: u32 = bit(0);
const SET_NEXT: u32 = bit(1);
const REQUIRED: u32 = bit(2);

const fn bit(number: u32) -> u32 {
    match cfg!(target_endian = "big") {
        true => 1 << (31 - number),
        false => 1 << number,
    }
}

/// A peer has `tcp_ao`, and the kernel cannot do what it says.
#[derive(Debug, thiserror::Error)]
pub enum AoUnsupported {
    /// Not at all.
    #[error(
        "{peer} has tcp_ao, which this kernel does not have: boot one of Linux 6.7 or later that \
         was built with CONFIG_TCP_AO, or agree on a password (TCP MD5) with the peer"
    )]
    Kernel {
        /// A peer or a prefix.
        peer: String,
    },
    /// Not with this algorithm.
    #[error(
        "{peer} has tcp_ao with {algorithm}, which this kernel does not take ({cause}): agree on \
         another algorithm with the peer"
    )]
    Algorithm {
        /// A peer or a prefix.
        peer: String,
        /// The algorithm.
        algorithm: AoAlgorithm,
        /// The kernel's reason.
        cause: io::Error,
    },
}

/// Tries each algorithm that peers have, on a socket that goes nowhere.
///
/// # Errors
///
/// When one cannot be used.
pub fn check_kernel(bgp: &BgpConfig) -> Result<(), AoUnsupported> {
    let peers = bgp
        .peers
        .iter()
        .map(|peer| (format!("peer {}", peer.name), &peer.authentication));
    let prefixes = bgp.dynamic.iter().map(|range| {
        let template = range.template();
        (format!("prefix {}", range.prefix), &template.authentication)
    });
    let mut known = Vec::new();
    for (peer, authentication) in peers.chain(prefixes) {
        let keys = authentication.as_ref().and_then(|how| how.ao());
        for AoKey { algorithm, .. } in keys.into_iter().flat_map(AoKeys::iter) {
            if known.contains(algorithm) {
                continue;
            }
            probe(*algorithm).map_err(|cause| match cause.raw_os_error() {
                Some(libc::ENOPROTOOPT) => AoUnsupported::Kernel { peer: peer.clone() },
                _ => AoUnsupported::Algorithm {
                    peer: peer.clone(),
                    algorithm: *algorithm,
                    cause,
                },
            })?;
            known.push(*algorithm);
        }
    }
    Ok(())
}

fn probe(algorithm: AoAlgorithm) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let key = AoKey {
        send_id: 0,
        recv_id: 0,
        algorithm,
        key: Secret::from("probe".to_owned()),
    };
    add(&socket, IpAddr::from(Ipv4Addr::LOCALHOST).into(), &key, 0)
}

/// Signs and checks the segments of a connection to be made, with the first key at the beginning; the
/// others are there when the peer asks for them.
///
/// # Errors
///
/// `ENOPROTOOPT` on a kernel without `CONFIG_TCP_AO`, `ENOENT` without the algorithm.
pub(crate) fn set_keys(socket: &impl AsFd, peer: IpNet, keys: &AoKeys) -> io::Result<()> {
    let mut flags = SET_CURRENT | SET_NEXT;
    for key in keys.iter() {
        add(socket, peer, key, std::mem::take(&mut flags))?;
    }
    Ok(())
}

/// Adds keys to a listening socket, for those of the addresses that connect.
///
/// # Errors
///
/// As [`set_keys`]; `EEXIST` when an id is taken for an address of these, `EKEYREJECTED` when there is
/// an MD5 key for one.
pub(crate) fn allow<'a>(
    listener: &impl AsFd,
    peers: IpNet,
    keys: impl IntoIterator<Item = &'a AoKey>,
) -> io::Result<()> {
    keys.into_iter()
        .try_for_each(|key| add(listener, peers, key, 0))
}

/// Removes keys from a listening socket.
///
/// # Errors
///
/// `ENOENT` when one is not there.
pub(crate) fn forbid<'a>(
    listener: &impl AsFd,
    peers: IpNet,
    keys: impl IntoIterator<Item = &'a AoKey>,
) -> io::Result<()> {
    keys.into_iter()
        .try_for_each(|key| delete(listener, peers, key, None))
}

/// Asks the peer of an open connection for the first of the keys; what we send ourselves is up to the
/// peer in the same way (RFC 5925 §7.5.2). Segments without the option are dropped.
///
/// # Errors
///
/// `ENOENT` when the connection has no such key.
pub(crate) fn prefer(stream: &impl AsFd, keys: &AoKeys) -> io::Result<()> {
    let Some(first) = keys.iter().next() else {
        return Ok(());
    };
    let info = Info {
        flags: SET_NEXT | REQUIRED,
        reserved: 0,
        current: 0,
        next: first.recv_id,
        counters: [0; 5],
    };
    sockopt::set(stream, libc::IPPROTO_TCP, TCP_AO_INFO, &info)
}

/// Gives an open connection other keys, of which some are the same. A key that is gone and that the
/// peer still wanted is replaced by the first one, at once.
///
/// # Errors
///
/// Those of the kernel, after which the connection has some of the keys.
pub(crate) fn change_keys(
    stream: &impl AsFd,
    peer: IpNet,
    old: &AoKeys,
    new: &AoKeys,
) -> io::Result<()> {
    allow(stream, peer, missing(old, new))?;
    prefer(stream, new)?;
    for gone in missing(new, old) {
        match delete(stream, peer, gone, None) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                delete(stream, peer, gone, new.iter().next())?;
            }
            result => result?,
        }
    }
    Ok(())
}

/// Keys of `these` that are not in `those`.
pub(crate) fn missing<'a>(those: &AoKeys, these: &'a AoKeys) -> Vec<&'a AoKey> {
    let has = |key: &AoKey| those.iter().any(|other| other == key);
    these.iter().filter(|key| !has(key)).collect()
}

fn add(socket: &impl AsFd, peers: IpNet, key: &AoKey, flags: u32) -> io::Result<()> {
    let bytes = key.key.expose().as_bytes();
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "key of more than 80 bytes");
    let (name, mac_len) = match key.algorithm {
        AoAlgorithm::HmacSha1 => ("hmac(sha1)", 12),
        AoAlgorithm::Aes128Cmac => ("cmac(aes128)", 12),
        AoAlgorithm::HmacSha256 => ("hmac(sha256)", 16),
    };
    let mut option = AddKey {
        address: address(socket, peers)?,
        algorithm: [0; 64],
        ifindex: 0,
        flags,
        reserved: 0,
        // Of a mapped address it is that of the IPv4 prefix.
        prefix_len: peers.prefix_len(),
        send_id: key.send_id,
        recv_id: key.recv_id,
        mac_len,
        key_flags: 0,
        key_len: u8::try_from(bytes.len()).map_err(|_| too_long())?,
        key: [0; MAX_KEY],
    };
    for (to, from) in option.algorithm.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    option
        .key
        .get_mut(..bytes.len())
        .ok_or_else(too_long)?
        .copy_from_slice(bytes);
    sockopt::set(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &option)
}

/// `successor` takes over where the key is in use.
fn delete(
    socket: &impl AsFd,
    peers: IpNet,
    key: &AoKey,
    successor: Option<&AoKey>,
) -> io::Result<()> {
    let option = DeleteKey {
        address: address(socket, peers)?,
        ifindex: 0,
        flags: successor.map_or(0, |_| SET_CURRENT | SET_NEXT),
        reserved: 0,
        prefix_len: peers.prefix_len(),
        send_id: key.send_id,
        recv_id: key.recv_id,
        current: successor.map_or(0, |key| key.send_id),
        next: successor.map_or(0, |key| key.recv_id),
        key_flags: 0,
    };
    sockopt::set(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &option)
}

fn address(socket: &impl AsFd, peers: IpNet) -> io::Result<[u8; 128]> {
    let local = SockRef::from(socket).local_addr()?;
    let is_ipv6 = local
        .as_socket()
        .is_some_and(|local: SocketAddr| local.is_ipv6());
    Ok(sockopt::peer_address(peers.network(), is_ipv6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Authentication, Config};

    fn bgp(lines: &str) -> BgpConfig {
        let text = format!(
            "[vtep]\naddress = \"198.18.0.1\"\n[bgp]\nasn = 65000\n[[bgp.peer]]\n\
             address = \"198.18.0.2\"\nasn = 1\n{lines}"
        );
        let file = std::path::Path::new("vtep.toml");
        Config::parse(&text, file).unwrap().0.bgp
    }

    /// Only peers that want it ask for a kernel that has it. What is missing is said of the peer.
    #[test]
    fn what_the_kernel_lacks_is_said_of_a_peer() {
        check_kernel(&bgp("")).unwrap();
        check_kernel(&bgp("password = \"p\"")).unwrap();
        let known = probe(AoAlgorithm::HmacSha1);
        let checked = check_kernel(&bgp("tcp_ao = [{ send_id = 1, key = \"k\" }]"));
        match (known, checked) {
            (Ok(()), Ok(())) => {}
            (Err(cause), Err(error)) => {
                assert_eq!(cause.raw_os_error(), Some(libc::ENOPROTOOPT));
                let error = error.to_string();
                assert!(
                    error.starts_with("peer 198.18.0.2 has tcp_ao, which"),
                    "{error}"
                );
                assert!(error.contains("CONFIG_TCP_AO"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_that_come_and_go() {
        let keys = |lines: &str| match bgp(lines).peers.remove(0).authentication {
            Some(Authentication::Ao(keys)) => keys,
            other => panic!("{other:?}"),
        };
        let old = keys("tcp_ao = [{ send_id = 1, key = \"a\" }, { send_id = 2, key = \"b\" }]");
        let new = keys("tcp_ao = [{ send_id = 3, key = \"c\" }, { send_id = 2, key = \"b\" }]");
        let ids = |keys: Vec<&AoKey>| keys.iter().map(|key| key.send_id).collect::<Vec<_>>();
        assert_eq!(ids(missing(&old, &new)), [3]);
        assert_eq!(ids(missing(&new, &old)), [1]);
        assert!(missing(&old, &old).is_empty());
    }
}
