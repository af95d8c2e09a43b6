//! TCP sockets with the options of BGP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
};

use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{SessionOptions, gtsm, md5};
use crate::{
    config::{AoKeys, Authentication, PeerConfig},
    sockopt, tcp_ao,
    types::PeerName,
};

/// Connections that wait to be accepted: as many as one prefix may have peers, which all come back at
/// once after a restart. The kernel drops the SYNs of more, and they are repeated after a second or
/// later. `net.core.somaxconn` limits it, which is 4096 by default since Linux 5.4.
const BACKLOG: i32 = 4096;

/// How to reach a peer.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// The peer,
    pub(super) peer: PeerName,
    /// and where it is; `None` while that is not known.
    pub(super) remote: Option<SocketAddr>,
    /// Its port.
    pub(super) port: u16,
    /// Our address; `None` for the kernel's choice.
    pub(super) local: Option<IpAddr>,
    /// TTL of what we send; `None` for the system's default.
    pub(super) ttl: Option<u8>,
    /// Smallest TTL of what is received (RFC 5082).
    pub(super) min_ttl: Option<u8>,
    /// How segments are signed.
    pub(super) authentication: Option<Authentication>,
}

impl Endpoint {
    /// As configured.
    pub(super) fn new(options: &SessionOptions, peer: &PeerConfig) -> Self {
        let internal = peer.is_internal(options.local_asn);
        Self {
            peer: peer.name.clone(),
            remote: peer
                .name
                .address()
                .map(|address| SocketAddr::new(address, peer.port)),
            port: peer.port,
            local: peer.source(options.local_asn, options.vtep_address),
            // An external peer is a neighbour unless multihop says otherwise.
            ttl: match peer.ttl_security {
                Some(_) => Some(gtsm::TTL),
                None => (!internal).then(|| peer.multihop.unwrap_or(1)),
            },
            // A neighbour's packets arrive with the TTL that they left with.
            min_ttl: peer.ttl_security.map(|hops| gtsm::TTL - (hops - 1)),
            authentication: peer.authentication.clone(),
        }
    }
}

/// Opens a connection.
pub(super) async fn connect(endpoint: Endpoint) -> io::Result<TcpStream> {
    let remote = endpoint.remote.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = match remote {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    match &endpoint.authentication {
        Some(Authentication::Md5(key)) => set_md5(
            &socket,
            socket.local_addr()?,
            remote.ip().into(),
            key.expose(),
        )?,
        Some(Authentication::Ao(keys)) => tcp_ao::set_keys(&socket, remote.ip().into(), keys)
            .map_err(|error| context("TCP-AO", error))?,
        None => {}
    }
    if let Some(local) = endpoint.local {
        socket
            .bind(SocketAddr::new(local, 0))
            .map_err(|error| context(&format!("local address {local}"), error))?;
    }
    set_ttl(&socket, remote.ip(), endpoint.ttl)?;
    if let Some(min_ttl) = endpoint.min_ttl {
        gtsm::require(&socket, remote.ip(), min_ttl)?;
    }
    let stream = socket.connect(remote).await?;
    stream.set_nodelay(true)?;
    prefer(&stream, endpoint.authentication.as_ref())?;
    Ok(stream)
}

/// Sets the options of a connection that the peer opened.
pub(super) fn accepted(stream: &TcpStream, endpoint: &Endpoint) -> io::Result<()> {
    let remote = stream.peer_addr()?.ip().to_canonical();
    stream.set_nodelay(true)?;
    set_ttl(stream, remote, endpoint.ttl)?;
    prefer(stream, endpoint.authentication.as_ref())?;
    if let Some(min_ttl) = endpoint.min_ttl {
        gtsm::require(stream, remote, min_ttl)?;
        gtsm::check_syn(stream, min_ttl)?;
    }
    Ok(())
}

/// A listening socket for both families, or for IPv4 on a host without IPv6.
pub(super) fn listen(port: u16) -> io::Result<std::net::TcpListener> {
    let v6 = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
        socket.set_only_v6(false)?;
        Ok(socket)
    });
    let (socket, any) = match v6 {
        Ok(socket) => (socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        Err(_) => (
            Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ),
    };
    // Connections of an earlier run may linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(any, port).into())?;
    gtsm::save_syns(&socket)?;
    // Of the second packet of a handshake, before the connection is known to be this or that
    // peer's: one with TTL security insists.
    socket.set_ttl_v4(gtsm::TTL.into())?;
    if any.is_ipv6() {
        socket.set_unicast_hops_v6(gtsm::TTL.into())?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes a listening socket sign and check what it exchanges with some peers, or no longer.
/// Connections that wait to be accepted are closed: their handshakes may have been over before the
/// key was there.
pub(super) fn authenticate(
    listener: &TcpListener,
    peers: IpNet,
    how: &Authentication,
    present: bool,
) -> io::Result<()> {
    match how {
        Authentication::Md5(key) => {
            let key = if present { key.expose() } else { "" };
            set_md5(listener, listener.local_addr()?, peers, key)?;
        }
        Authentication::Ao(keys) => {
            match present {
                true => tcp_ao::allow(listener, peers, keys.iter()),
                false => tcp_ao::forbid(listener, peers, keys.iter()),
            }
            .map_err(|error| context("TCP-AO", error))?;
        }
    }
    close_waiting(listener);
    Ok(())
}

/// Gives a listening socket other keys for some peers.
pub(super) fn change_keys(
    listener: &TcpListener,
    peers: IpNet,
    old: &AoKeys,
    new: &AoKeys,
) -> io::Result<()> {
    tcp_ao::forbid(listener, peers, tcp_ao::missing(new, old))
        .and_then(|()| tcp_ao::allow(listener, peers, tcp_ao::missing(old, new)))
        .map_err(|error| context("TCP-AO", error))?;
    close_waiting(listener);
    Ok(())
}

fn close_waiting(listener: &TcpListener) {
    let listener = SockRef::from(listener);
    while listener.accept().is_ok() {}
}

/// Asks the peer for the preferred key.
fn prefer(stream: &TcpStream, how: Option<&Authentication>) -> io::Result<()> {
    match how.and_then(Authentication::ao) {
        Some(keys) => tcp_ao::prefer(stream, keys).map_err(|error| context("TCP-AO", error)),
        None => Ok(()),
    }
}

/// The socket's local address tells its family.
fn set_md5(socket: &impl AsFd, local: SocketAddr, peers: IpNet, key: &str) -> io::Result<()> {
    md5::set_key(socket, peers, local.is_ipv6(), key.as_bytes())
        .map_err(|error| context("TCP MD5", error))
}

/// `None` for the system's default, which an accepted connection does not have.
fn set_ttl(socket: &impl AsFd, peer: IpAddr, ttl: Option<u8>) -> io::Result<()> {
    let (level, name) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    };
    sockopt::set(socket, level, name, &ttl.map_or(-1, libc::c_int::from))
}

fn context(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
