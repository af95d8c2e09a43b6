//! Ctrl-C: what was made is removed before the process ends.

use std::{
    io::{self, Read as _},
    os::{fd::IntoRawFd as _, unix::net::UnixStream},
    process,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    thread,
};

use anyhow::{Result, ensure};
use vtep_tests::Lab;

/// Exit status of a process that SIGINT ended, as shells report it.
const INTERRUPTED: i32 = 130;

static PIPE: AtomicI32 = AtomicI32::new(-1);
static SEEN: AtomicBool = AtomicBool::new(false);

/// Removes the lab and ends the process on SIGINT or SIGTERM.
///
/// A handler may do next to nothing, so it wakes a thread. (Blocked signals and `sigwait` would be
/// simpler, but children inherit the mask.)
pub(crate) fn remove_on_interrupt(lab: &Lab) -> Result<()> {
    let (mut wakes, handler) = UnixStream::pair()?;
    PIPE.store(handler.into_raw_fd(), Ordering::SeqCst);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only touches atomics and calls write(2), which is async-signal-safe.
        let previous = unsafe { libc::signal(signal, on_signal as *const () as usize) };
        ensure!(previous != libc::SIG_ERR, io::Error::last_os_error());
    }
    let lab = lab.clone();
    thread::spawn(move || {
        if wakes.read_exact(&mut [0]).is_ok() {
            eprintln!("\ninterrupted: cleaning up");
            lab.remove();
            process::exit(INTERRUPTED);
        }
    });
    Ok(())
}

/// Leaves the end of the process to the thread above, if a signal came: whatever just failed,
/// failed because of it.
pub(crate) fn give_way() {
    while SEEN.load(Ordering::SeqCst) {
        thread::park();
    }
}

extern "C" fn on_signal(_: libc::c_int) {
    SEEN.store(true, Ordering::SeqCst);
    // SAFETY: the descriptor is never closed, and the byte is static.
    unsafe { libc::write(PIPE.load(Ordering::SeqCst), b"!".as_ptr().cast(), 1) };
}
