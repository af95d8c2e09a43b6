//! Netlink sockets: one to ask, one to be told.
//!
//! The kernel answers a request of rtnetlink or generic netlink before `send` returns, and the next
//! part of a dump while the previous one is received; asking is a system call, not a conversation,
//! so it is done in place and never waits.

use std::{
    io,
    os::fd::AsRawFd,
    task::{Context, Poll, ready},
};

use netlink_sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};

use super::message::{Message, Messages, Request, u32_at};

/// More than the kernel ever puts into one datagram (32 KiB).
const DATAGRAM: usize = 64 << 10;
/// Room for notifications that came while the agent was busy.
const RECEIVE_BUFFER: libc::c_int = 8 << 20;
/// Times that a dump is repeated because the table changed underneath it.
const DUMP_ATTEMPTS: usize = 4;

/// Why a request got no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The kernel said no, with this `errno`.
    #[error(transparent)]
    Refused(io::Error),
    /// The socket failed, or the answer made no sense.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

impl RequestError {
    /// The kernel refused with this `errno`.
    pub fn is(&self, errno: i32) -> bool {
        matches!(self, Self::Refused(error) if error.raw_os_error() == Some(errno))
    }

    /// As an IO error, whatever it was.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Refused(error) | Self::Socket(error) => error,
        }
    }
}

/// How an answer ends. `NLM_F_MULTI` does not tell: the netdev family dumps without it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the object that was asked for, or an acknowledgement.
    Object,
    /// With `NLMSG_DONE`.
    Done,
}

/// Asks the kernel.
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// A socket of a netlink protocol in the calling thread's network namespace.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Has dumps filtered by what their header says; kernels before Linux 4.20 send everything.
    pub fn check_strictly(&self) {
        let _ = self.socket.set_netlink_get_strict_chk(true);
    }

    /// Has something changed; the request asks for an acknowledgement (`NLM_F_ACK`).
    pub fn execute(&mut self, request: &Request) -> Result<(), RequestError> {
        self.exchange(request, End::Object, |_| ()).map(drop)
    }

    /// Asks for one object.
    pub fn get<T>(
        &mut self,
        request: &Request,
        mut parse: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        let mut found = None;
        self.exchange(request, End::Object, |message| {
            found = found.take().or_else(|| parse(message));
        })?;
        Ok(found)
    }

    /// Asks for all objects of a kind. What `parse` does not understand is left out.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        mut parse: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, RequestError> {
        let mut found = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            found.clear();
            let consistent =
                self.exchange(request, End::Done, |message| found.extend(parse(message)))?;
            if consistent {
                break;
            }
        }
        Ok(found)
    }

    /// Sends and reads to the end of the answer. False when the dump was interrupted by changes.
    fn exchange(
        &mut self,
        request: &Request,
        end: End,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<bool, RequestError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request.finish(self.sequence), 0)?;
        let mut consistent = true;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for message in Messages(&self.buffer) {
                let message = message.map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
                if message.sequence != self.sequence {
                    continue; // left over from an answer that failed half way
                }
                consistent &= i32::from(message.flags) & libc::NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR => return outcome(&message).map(|()| consistent),
                    libc::NLMSG_DONE => return Ok(consistent),
                    libc::NLMSG_NOOP => {}
                    _ => {
                        each(&message);
                        if end == End::Object {
                            return Ok(consistent);
                        }
                    }
                }
            }
        }
    }
}

/// `NLMSG_ERROR` carries a negative `errno`, or 0 for an acknowledgement.
fn outcome(message: &Message<'_>) -> Result<(), RequestError> {
    match u32_at(message.body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(RequestError::Refused(io::Error::from_raw_os_error(
            code.saturating_neg(),
        ))),
        None => Err(RequestError::Socket(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Is told of changes.
pub(super) struct Notices {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

/// What [`Notices::poll`] got.
pub(super) enum Notice<'a> {
    /// One datagram.
    Datagram(&'a [u8]),
    /// The receive buffer was full: notifications are lost.
    Overrun,
}

impl Notices {
    /// Joins multicast groups of a netlink protocol in the calling thread's network namespace.
    /// Must be called within a tokio runtime. `PermissionDenied` without `CAP_NET_ADMIN`.
    pub fn subscribe(protocol: isize, groups: &[u32]) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        force_receive_buffer(socket.socket_ref(), RECEIVE_BUFFER)?;
        socket.socket_mut().bind_auto()?;
        for group in groups {
            socket.socket_mut().add_membership(*group)?;
        }
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// The next datagram. Nothing is lost when the caller stops polling.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Notice<'_>>> {
        self.buffer.clear();
        Poll::Ready(
            match ready!(self.socket.poll_recv(context, &mut self.buffer)) {
                Ok(()) => Ok(Notice::Datagram(&self.buffer)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Notice::Overrun),
                Err(error) => Err(error),
            },
        )
    }
}

/// Sets the receive buffer beyond `net.core.rmem_max`, for which `CAP_NET_ADMIN` is needed.
fn force_receive_buffer(socket: &Socket, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open while `socket` is borrowed, and the option value is a c_int
    // that outlives the call, passed with its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
