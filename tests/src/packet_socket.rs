//! Sending and receiving frames as they are.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::Namespace;

/// A packet socket bound to one device: what is sent leaves the device byte by byte.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on a device, which receives nothing.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn open(ns: &Namespace, device: &str) -> Result<Self> {
        Self::receiving(ns, device, 0)
    }

    /// Opens a socket on a device that also receives the frames of one EtherType.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn receiving(ns: &Namespace, device: &str, ethertype: u16) -> Result<Self> {
        ns.enter(|| Self::open_here(device, ethertype))
            .with_context(|| format!("cannot open a packet socket on {device} in {}", ns.name()))
    }

    fn open_here(device: &str, ethertype: u16) -> Result<Self> {
        let name = CString::new(device)?;
        // SAFETY: the name is a C string that outlives the call.
        let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
        ensure!(ifindex != 0, "no device {device}");
        let fd = socket()?;
        let address = link_address(ifindex, ethertype)?;
        bind(&fd, address)?;
        Ok(Self { fd })
    }

    /// Sends one frame, from its destination MAC on.
    ///
    /// # Errors
    ///
    /// When the device is down or the frame longer than its MTU allows.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: pointer and length are those of a live slice.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        ensure!(
            usize::try_from(sent) == Ok(frame.len()),
            "cannot send a frame of {} bytes: {}",
            frame.len(),
            io::Error::last_os_error()
        );
        Ok(())
    }

    /// Sends frames with one system call for all that the device takes at once.
    ///
    /// # Errors
    ///
    /// As [`Self::send`]; some may have been sent.
    pub fn send_all(&self, frames: &[Vec<u8>]) -> Result<()> {
        let mut parts: Vec<_> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let message = |part: &mut libc::iovec| {
            // SAFETY: all zeroes are a message without an address and without control data.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        };
        let mut messages: Vec<_> = parts.iter_mut().map(message).collect();
        let mut rest = &mut messages[..];
        while !rest.is_empty() {
            let count = libc::c_uint::try_from(rest.len())?;
            // SAFETY: so many live messages, each of one part that is a live frame, which is only read.
            let sent = unsafe { libc::sendmmsg(self.fd.as_raw_fd(), rest.as_mut_ptr(), count, 0) };
            ensure!(sent > 0, "cannot send: {}", io::Error::last_os_error());
            rest = rest.get_mut(usize::try_from(sent)?..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits for a frame, without giving up the processor, and returns its length; `None` when the
    /// time is up. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    ///
    /// When the device is gone.
    pub fn receive(&self, buffer: &mut [u8], until: Instant) -> Result<Option<usize>> {
        loop {
            // SAFETY: pointer and length are those of a live slice, exclusively borrowed.
            let received = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            if let Ok(length) = usize::try_from(received) {
                return Ok(Some(length));
            }
            let error = io::Error::last_os_error();
            ensure!(
                error.kind() == io::ErrorKind::WouldBlock,
                "cannot receive a frame: {error}"
            );
            if Instant::now() > until {
                return Ok(None);
            }
        }
    }
}

/// A packet socket for all devices of a namespace: it receives every frame that comes in, and sends
/// out of the device that is named with each frame.
#[derive(Debug)]
pub struct PacketHub {
    fd: OwnedFd,
}

impl PacketHub {
    /// What may wait to be received, bytes.
    const BUFFER: libc::c_int = 64 << 20;

    /// Opens a socket for the devices that there are, and those that come.
    ///
    /// # Errors
    ///
    /// Without CAP_NET_ADMIN.
    pub fn open(ns: &Namespace) -> Result<Self> {
        ns.enter(|| {
            let hub = Self { fd: socket()? };
            hub.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, Self::BUFFER)?;
            // Own frames are not heard (Linux 4.20).
            hub.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
            bind(&hub.fd, link_address(0, u16::try_from(libc::ETH_P_ALL)?)?)?;
            Ok(hub)
        })
        .with_context(|| format!("cannot open a packet socket in {}", ns.name()))
    }

    /// Sends one frame, from its destination MAC on, out of a device.
    ///
    /// # Errors
    ///
    /// When the device is gone or down, or the frame too long for it.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> Result<()> {
        let address = link_address(ifindex, 0)?;
        // SAFETY: pointers and lengths are those of a live slice and a whole sockaddr_ll.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                libc::socklen_t::try_from(size_of_val(&address))?,
            )
        };
        ensure!(
            usize::try_from(sent) == Ok(frame.len()),
            "cannot send out of device {ifindex}: {}",
            io::Error::last_os_error()
        );
        Ok(())
    }

    /// Waits for a frame and returns its length and the device that it came in by; `None` when the
    /// time is up. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    ///
    /// When the socket cannot be read.
    pub fn receive(&self, buffer: &mut [u8], patience: Duration) -> Result<Option<(usize, u32)>> {
        let mut poll = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one live pollfd, whose number is given.
        let ready = unsafe { libc::poll(&raw mut poll, 1, patience.as_millis().try_into()?) };
        if ready <= 0 {
            return Ok(None);
        }
        // SAFETY: all zeroes are a sockaddr_ll.
        let mut from: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut size = libc::socklen_t::try_from(size_of_val(&from))?;
        // SAFETY: pointers and lengths are those of a live slice and a whole sockaddr_ll, both
        // exclusively borrowed.
        let received = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut size,
            )
        };
        match usize::try_from(received) {
            Ok(length) => Ok(Some((length, from.sll_ifindex.try_into()?))),
            // A device that went down is told to every socket once.
            Err(_) => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error).context("cannot receive a frame"),
            },
        }
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> Result<()> {
        // SAFETY: the value is a live int, and its size is given.
        let set = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                ptr::from_ref(&value).cast(),
                libc::socklen_t::try_from(size_of_val(&value))?,
            )
        };
        ensure!(set == 0, io::Error::last_os_error());
        Ok(())
    }
}

/// Protocol 0: nothing is received before the socket is bound.
fn socket() -> Result<OwnedFd> {
    // SAFETY: socket(2) takes three integers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(fd >= 0, io::Error::last_os_error());
    // SAFETY: the descriptor was just made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: &OwnedFd, address: libc::sockaddr_ll) -> Result<()> {
    // SAFETY: the address is a whole sockaddr_ll, and its size is given.
    let bound = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            libc::socklen_t::try_from(size_of_val(&address))?,
        )
    };
    ensure!(bound == 0, io::Error::last_os_error());
    Ok(())
}

/// A device, or 0 for all, and what is received from it.
fn link_address(ifindex: u32, ethertype: u16) -> Result<libc::sockaddr_ll> {
    Ok(libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(ifindex)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    })
}
