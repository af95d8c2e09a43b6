//! Sending and receiving frames as they are.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Instant,
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
        // Protocol 0: nothing is received before it is bound, from other devices.
        // SAFETY: socket(2) takes three integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        ensure!(fd >= 0, io::Error::last_os_error());
        // SAFETY: the descriptor was just made and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET)?,
            sll_protocol: ethertype.to_be(),
            sll_ifindex: i32::try_from(ifindex)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is a whole sockaddr_ll, and its size is given.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                libc::socklen_t::try_from(size_of_val(&address))?,
            )
        };
        ensure!(bound == 0, io::Error::last_os_error());
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
