//! A raw ICMPv6 socket for router discovery on one device (RFC 3542).

use std::{
    io,
    mem::MaybeUninit,
    net::{Ipv6Addr, SocketAddrV6},
};

use socket2::{Domain, MaybeUninitSlice, MsgHdrMut, Protocol, SockAddr, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::advertisement::{
    ADVERTISEMENT, ALL_ROUTERS, HOP_LIMIT, Meaning, Received, SOLICITATION,
};
use crate::{
    sockopt::{self, OptionValue},
    types::IfName,
};

/// Longest message that is looked at: more than an Ethernet MTU allows.
const MESSAGE: usize = 2048;

/// `struct cmsghdr` and an `int`, aligned to 8 octets.
const CONTROL: usize = size_of::<libc::cmsghdr>() + 8;

/// `struct icmp6_filter`: a bit for each type that is not wanted. `ICMP6_FILTER` of `linux/icmpv6.h`.
const ICMP6_FILTER: libc::c_int = 1;

// SAFETY: integers have no padding, and neither has an array of them.
unsafe impl OptionValue for [u32; 8] {}

/// Sends and receives router solicitations and advertisements.
#[derive(Debug)]
pub(super) struct Icmp6 {
    socket: AsyncFd<Socket>,
    ifindex: u32,
}

impl Icmp6 {
    /// Opens a socket on a device. What we send does not come back to us.
    ///
    /// # Errors
    ///
    /// The kernel's: no `CAP_NET_RAW`, no IPv6, no such device.
    pub(super) fn open(device: &IfName, ifindex: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_nonblocking(true)?;
        sockopt::set(&socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &filter())?;
        socket.bind_device(Some(device.as_str().as_bytes()))?;
        socket.set_recv_hoplimit_v6(true)?;
        socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&ALL_ROUTERS, ifindex)?;
        // SAFETY: the socket owns its descriptor, which stays open and the same while it lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, ifindex })
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// The kernel's: the device is down, or has no link-local address yet.
    pub(super) fn send(&self, message: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.ifindex);
        self.socket.get_ref().send_to(message, &to.into())?;
        Ok(())
    }

    /// The next message that means something. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The kernel's: the device is gone.
    pub(super) async fn receive(&self) -> io::Result<Meaning> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Ok(Some(meaning))) => return Ok(meaning),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// Takes one message from the socket; `None` when it is to be ignored.
fn receive(socket: &Socket) -> io::Result<Option<Meaning>> {
    let mut message = [MaybeUninit::new(0); MESSAGE];
    let mut control = [MaybeUninit::new(0); CONTROL];
    let mut from: SockAddr = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0).into();
    let mut buffers = [MaybeUninitSlice::new(&mut message)];
    let mut header = MsgHdrMut::new()
        .with_addr(&mut from)
        .with_buffers(&mut buffers)
        .with_control(&mut control);
    let length = socket.recvmsg(&mut header, 0)?;
    let truncated = header.flags().is_truncated();
    let control_length = header.control_len();
    let source = from.as_socket_ipv6().map(|from| *from.ip());
    let (message, control) = (initialised(&message), initialised(&control));
    let Some((source, message)) = source.zip(message.get(..length)).filter(|_| !truncated) else {
        return Ok(None);
    };
    let received = Received {
        source,
        hop_limit: hop_limit(control.get(..control_length).unwrap_or_default()),
        message,
    };
    Ok(received.meaning())
}

/// The hop limit of a control message (RFC 3542 §6.3): `struct cmsghdr` (length, level, type) and
/// an `int`.
fn hop_limit(control: &[u8]) -> Option<u8> {
    let (header, value) = control.split_at_checked(size_of::<libc::cmsghdr>())?;
    let kind = header.get(size_of::<usize>()..)?;
    let wanted = [libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT].map(libc::c_int::to_ne_bytes);
    let hops = libc::c_int::from_ne_bytes(*value.first_chunk()?);
    (kind == wanted.as_flattened())
        .then(|| u8::try_from(hops).ok())
        .flatten()
}

/// Buffers that begin zeroed.
fn initialised(buffer: &[MaybeUninit<u8>]) -> &[u8] {
    // SAFETY: every element was made by `MaybeUninit::new`, and what the kernel wrote over it are
    // bytes too.
    unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), buffer.len()) }
}

/// Everything is blocked but the two types.
fn filter() -> [u32; 8] {
    let mut blocked = [u32::MAX; 8];
    for kind in [SOLICITATION, ADVERTISEMENT] {
        if let Some(word) = blocked.get_mut(usize::from(kind >> 5)) {
            *word &= !(1 << (kind & 31));
        }
    }
    blocked
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ICMP6_FILTER_WILLPASS` of RFC 3542 §3.2.
    #[test]
    fn the_filter_passes_two_types() {
        let filter = filter();
        let passes = |kind: &u8| filter[usize::from(kind >> 5)] & (1 << (kind & 31)) == 0;
        let passed: Vec<u8> = (0..=u8::MAX).filter(passes).collect();
        assert_eq!(passed, [133, 134]);
    }

    #[test]
    fn hop_limits() {
        let message = |level: libc::c_int, kind: libc::c_int, hops: libc::c_int| {
            let mut bytes = 20_usize.to_ne_bytes().to_vec();
            for value in [level, kind, hops] {
                bytes.extend(value.to_ne_bytes());
            }
            bytes
        };
        assert_eq!(hop_limit(&message(41, 52, 255)), Some(255));
        assert_eq!(hop_limit(&message(41, 52, -1)), None);
        assert_eq!(hop_limit(&message(41, 50, 255)), None);
        assert_eq!(hop_limit(&message(41, 52, 255)[..19]), None);
        assert_eq!(hop_limit(&[]), None);
    }
}
