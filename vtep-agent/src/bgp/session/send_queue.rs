//! Whether a peer takes what it is sent: what its TCP acknowledged, not what we queued
//! (RFC 9687 §4).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes handed to a socket.
pub(super) type Written = Arc<AtomicU64>;

/// Watches the send queue of a socket.
#[derive(Debug)]
pub(super) struct SendQueue {
    socket: OwnedFd,
    written: Written,
    acknowledged: u64,
}

impl SendQueue {
    /// Watches `socket`; whoever writes to it counts in `written`.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub(super) fn new(socket: &impl AsFd, written: Written) -> io::Result<Self> {
        Ok(Self {
            socket: socket.as_fd().try_clone_to_owned()?,
            written,
            acknowledged: 0,
        })
    }

    /// The socket, which stays open for as long as this is there.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether the peer acknowledged anything since the last call, or has nothing to acknowledge.
    pub(super) fn progressed(&mut self) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        let Ok(unacknowledged) = unacknowledged(&self.socket) else {
            return false;
        };
        let acknowledged = written.saturating_sub(unacknowledged);
        let progressed = unacknowledged == 0 || acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged);
        progressed
    }
}

/// Bytes in the socket's send queue, sent or not, that the peer's TCP has not acknowledged
/// (`SIOCOUTQ`, tcp(7)).
fn unacknowledged(socket: &OwnedFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the length of the borrow, and the request writes one int
    // to a live variable.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match result {
        0 => Ok(u64::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}
