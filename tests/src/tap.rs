//! Taps, as real hypervisors have them: the VM's side is a program's, not the kernel's.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, ensure};

use crate::Namespace;

/// Longest frame that passes, with the headers in front of it: more than any MTU in use, and as much
/// as a super-packet has.
const MAX_FRAME: usize = 65536 + 128;
/// Frames that go one way before the other way has its turn.
const TURN: usize = 64;
/// How often a pump looks whether it is to end, milliseconds.
const TICK: i32 = 50;

/// A wire between two taps: a thread that carries frames as a VM's network card does. The taps are
/// there as long as the wire is.
#[derive(Debug)]
pub(crate) struct TapWire {
    stop: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
    thread: i32,
}

impl TapWire {
    /// Makes a tap in each of two namespaces and joins them; with `offload`, checksums and
    /// segmentation are left to whoever needs them, as between a host and a virtio-net guest.
    pub(crate) fn new(ends: [(&Namespace, &str); 2], offload: bool) -> Result<Self> {
        let [a, b] = ends.map(|(ns, name)| {
            ns.enter(|| open_tap(name, offload))
                .with_context(|| format!("cannot make tap {name} in {}", ns.name()))
        });
        let taps = [a?, b?];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (tell, told) = mpsc::channel();
        let pump = thread::spawn(move || {
            // SAFETY: gettid(2) takes nothing and cannot fail.
            let _ = tell.send(unsafe { libc::gettid() });
            let mut frame = vec![0; MAX_FRAME];
            while !stopped.load(Ordering::Relaxed) {
                carry(&taps, &mut frame);
            }
        });
        Ok(Self {
            stop,
            pump: Some(pump),
            thread: told.recv()?,
        })
    }

    /// The thread, by its number in the kernel.
    pub(crate) fn thread(&self) -> i32 {
        self.thread
    }
}

impl Drop for TapWire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pump) = self.pump.take()
            && pump.join().is_err()
        {
            eprintln!("lab: the thread between two taps panicked");
        }
    }
}

/// Waits a little for frames and carries those that are there. What a tap refuses because it is
/// down or full is lost, as on a wire.
fn carry(taps: &[File; 2], frame: &mut [u8]) {
    let mut polled = taps.each_ref().map(|tap| libc::pollfd {
        fd: tap.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: the array has two elements and lives across the call.
    unsafe { libc::poll(polled.as_mut_ptr(), 2, TICK) };
    let [a, b] = taps;
    for (mut from, mut to) in [(a, b), (b, a)] {
        for _ in 0..TURN {
            let Ok(length) = from.read(frame) else {
                break;
            };
            let _ = frame.get(..length).map(|frame| to.write(frame));
        }
    }
}

/// Makes a tap in the calling thread's namespace, read and written without blocking: frames without
/// a header of the kernel's own or, with `offload`, behind a `virtio_net_hdr`.
fn open_tap(name: &str, offload: bool) -> Result<File> {
    let tap = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun")?;
    let fd: RawFd = tap.as_raw_fd();
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < request.ifr_name.len(), "{name} is too long");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::try_from(from)?;
    }
    let header = if offload { libc::IFF_VNET_HDR } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | header;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    let made = unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) };
    ensure!(made == 0, io::Error::last_os_error());
    if offload {
        let features = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        // SAFETY: TUNSETOFFLOAD takes an integer.
        let set = unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, libc::c_ulong::from(features)) };
        ensure!(set == 0, io::Error::last_os_error());
    }
    // SAFETY: F_SETFL takes an integer.
    let set = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    ensure!(set == 0, io::Error::last_os_error());
    Ok(tap)
}
