//! UDP sockets with what BFD wants to know of a datagram.

use std::{
    io,
    mem::{MaybeUninit, size_of},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    task::{Context, Poll},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use super::{Endpoint, Hops, table::Arrival};
use crate::{random::Random, sockopt};

/// Destination port of single hop packets (RFC 5881 §4).
const SINGLE_HOP: u16 = 3784;

/// Destination port of multihop packets (RFC 5883 §5).
const MULTIHOP: u16 = 4784;

/// Source ports (RFC 5881 §4).
const FIRST_SOURCE_PORT: u16 = 49152;

/// Ports tried before giving up.
const PORT_ATTEMPTS: usize = 64;

/// CS6, network control.
const TRAFFIC_CLASS: u32 = 0xc0;

/// Longest datagram that is read whole: the length field has eight bits.
const DATAGRAM: usize = 256;

/// Room for a TTL and a packet information, with their headers.
const CONTROL: usize = 128;

/// A socket for the packets of all sessions of one family and kind.
pub(super) struct Listener {
    socket: tokio::net::UdpSocket,
    multihop: bool,
}

/// A datagram and its circumstances.
pub(super) struct Datagram {
    bytes: [u8; DATAGRAM],
    length: usize,
    source: SocketAddr,
    destination: Option<IpAddr>,
    ifindex: u32,
    ttl: Option<u8>,
}

impl Datagram {
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

impl Listener {
    /// Takes the port, on all addresses.
    pub(super) fn open(ipv6: bool, multihop: bool) -> io::Result<Self> {
        let port = match multihop {
            true => MULTIHOP,
            false => SINGLE_HOP,
        };
        let open = || {
            let socket = socket(ipv6)?;
            let (any, options): (IpAddr, [_; 2]) = match ipv6 {
                false => (
                    Ipv4Addr::UNSPECIFIED.into(),
                    [
                        (libc::IPPROTO_IP, libc::IP_RECVTTL),
                        (libc::IPPROTO_IP, libc::IP_PKTINFO),
                    ],
                ),
                true => (
                    Ipv6Addr::UNSPECIFIED.into(),
                    [
                        (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
                        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
                    ],
                ),
            };
            for (level, name) in options {
                sockopt::set(&socket, level, name, &1)?;
            }
            socket.bind(&SocketAddr::new(any, port).into())?;
            tokio::net::UdpSocket::from_std(socket.into())
        };
        match open() {
            Ok(socket) => Ok(Self { socket, multihop }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(io::Error::other(format!(
                    "UDP port {port} is taken, perhaps by another BFD speaker: stop it, or remove bfd from the peers"
                )))
            }
            Err(error) => Err(io::Error::other(format!(
                "cannot listen on UDP port {port}: {error}"
            ))),
        }
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(context)
    }

    /// A datagram, if the runtime knows that there is one.
    pub(super) fn receive(&self) -> io::Result<Datagram> {
        self.socket
            .try_io(Interest::READABLE, || receive(&self.socket))
    }

    /// A datagram, if there is one.
    pub(super) fn receive_now(&self) -> io::Result<Datagram> {
        receive(&self.socket)
    }

    /// How a datagram came here.
    pub(super) fn arrival(&self, datagram: &Datagram) -> Arrival {
        Arrival {
            source: datagram.source.ip(),
            destination: datagram.destination.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            ifindex: datagram.ifindex,
            ttl: datagram.ttl,
            multihop: self.multihop,
        }
    }
}

/// Sends the packets of one session, always from the same port (RFC 5881 §4).
pub(super) struct Transmitter {
    endpoint: Endpoint,
    port: Option<u16>,
    open: Option<(UdpSocket, SocketAddr)>,
}

impl Transmitter {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            port: None,
            open: None,
        }
    }

    /// Index of the endpoint's interface, once the socket is open.
    pub(super) fn ifindex(&self) -> Option<u32> {
        let interface = self.endpoint.interface.as_ref()?;
        self.open.as_ref()?;
        index_of(interface.as_str()).ok()
    }

    /// Sends; opens the socket if there is none. After an error the next packet gets a new one,
    /// since addresses and interfaces may have come or gone.
    pub(super) fn send(&mut self, packet: &[u8], random: &mut Random) -> io::Result<()> {
        let (socket, remote) = match self.open.take() {
            Some(open) => open,
            None => self.open(random)?,
        };
        match socket.send_to(packet, remote) {
            // A full queue loses a packet, as a wire does.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(io::Error::other(
                format!("cannot send to {remote}: {error}"),
            )),
            _ => {
                self.open = Some((socket, remote));
                Ok(())
            }
        }
    }

    fn open(&mut self, random: &mut Random) -> io::Result<(UdpSocket, SocketAddr)> {
        let endpoint = &self.endpoint;
        let ipv6 = endpoint.remote.is_ipv6();
        let socket = socket(ipv6)?;
        match ipv6 {
            false => {
                socket.set_ttl_v4(Hops::TTL.into())?;
                socket.set_tos_v4(TRAFFIC_CLASS)?;
            }
            true => {
                socket.set_unicast_hops_v6(Hops::TTL.into())?;
                socket.set_tclass_v6(TRAFFIC_CLASS)?;
            }
        }
        let port = match endpoint.hops.is_multihop() {
            true => MULTIHOP,
            false => SINGLE_HOP,
        };
        let mut remote = SocketAddr::new(endpoint.remote, port);
        if let Some(interface) = &endpoint.interface {
            socket
                .bind_device(Some(interface.as_str().as_bytes()))
                .map_err(|error| io::Error::other(format!("{interface}: {error}")))?;
            if let SocketAddr::V6(v6) = &mut remote {
                *v6 = SocketAddrV6::new(*v6.ip(), port, 0, index_of(interface.as_str())?);
            }
        }
        let any = match ipv6 {
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let local = endpoint.local.unwrap_or(any);
        let random_port = || {
            let ports = u64::from(u16::MAX - FIRST_SOURCE_PORT) + 1;
            let offset = u16::try_from(random.bits() % ports).unwrap_or_default();
            FIRST_SOURCE_PORT + offset
        };
        let candidates = self
            .port
            .into_iter()
            .chain(std::iter::repeat_with(random_port));
        let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
        for port in candidates.take(PORT_ATTEMPTS) {
            match socket.bind(&SocketAddr::new(local, port).into()) {
                Ok(()) => {
                    self.port = Some(port);
                    return Ok((socket.into(), remote));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => failure = error,
                Err(error) => {
                    failure = error;
                    break;
                }
            }
        }
        Err(io::Error::other(format!(
            "local address {local}: {failure}"
        )))
    }
}

fn socket(ipv6: bool) -> io::Result<Socket> {
    let domain = match ipv6 {
        true => Domain::IPV6,
        false => Domain::IPV4,
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if ipv6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn index_of(interface: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name is a live string with a terminating zero, which is only read.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::other(format!(
            "{interface}: {}",
            io::Error::last_os_error()
        ))),
        index => Ok(index),
    }
}

/// `recvmsg(2)`, without waiting.
fn receive(socket: &impl AsFd) -> io::Result<Datagram> {
    /// Aligned for `struct cmsghdr`.
    #[repr(C, align(8))]
    struct Control([u8; CONTROL]);

    let mut bytes = [0; DATAGRAM];
    let mut control = Control([0; CONTROL]);
    let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: DATAGRAM,
    };
    // SAFETY: all zero is a valid msghdr: null pointers and lengths of zero.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = address.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL;
    // SAFETY: the descriptor is open for the length of the borrow; every pointer in the message is
    // to a live buffer of the length that stands beside it.
    let length = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut message,
            libc::MSG_DONTWAIT,
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut datagram = Datagram {
        bytes,
        length,
        // SAFETY: it was zeroed, and the kernel wrote a whole address over it.
        source: source(unsafe { address.assume_init_ref() })?,
        destination: None,
        ifindex: 0,
        ttl: None,
    };
    // SAFETY: the message is as the kernel left it, with its control buffer still alive; the
    // macros stay within msg_controllen.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a whole header within the buffer.
        let header = unsafe { next.read_unaligned() };
        // SAFETY: the data of such a header begins here.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: the kernel writes the type that belongs to level and name.
        unsafe {
            match (header.cmsg_level, header.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    let ttl = data.cast::<libc::c_int>().read_unaligned();
                    datagram.ttl = u8::try_from(ttl).ok();
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let address = u32::from_be(info.ipi_addr.s_addr);
                    datagram.destination = Some(Ipv4Addr::from_bits(address).into());
                    datagram.ifindex = info.ipi_ifindex.cast_unsigned();
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    datagram.destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                    datagram.ifindex = info.ipi6_ifindex;
                }
                _ => {}
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR; `next` came from it.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    Ok(datagram)
}

fn source(address: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    let pointer = std::ptr::from_ref(address);
    match libc::c_int::from(address.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which kind it is, and a storage has room for each.
            let v4 = unsafe { pointer.cast::<libc::sockaddr_in>().read() };
            let address = Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr));
            Ok(SocketAddr::new(address.into(), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { pointer.cast::<libc::sockaddr_in6>().read() };
            let address = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Ok(SocketAddr::new(address.into(), u16::from_be(v6.sin6_port)))
        }
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
