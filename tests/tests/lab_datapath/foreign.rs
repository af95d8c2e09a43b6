//! Programs that are not the agent's: they let everything pass.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use vtep_tests::Namespace;

/// `enum bpf_cmd` of linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;

/// Where a foreign program sits.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// In the driver.
    Xdp,
    /// tcx, at ingress.
    Tcx,
}

/// A program on a device, for as long as this lives.
#[derive(Debug)]
pub struct Foreign {
    _link: OwnedFd,
}

/// `r0 = value; exit`
const fn program(value: i32) -> [u64; 2] {
    [0xb7 | (value as u32 as u64) << 32, 0x95]
}

impl Foreign {
    /// Attaches a program to a device.
    pub fn attach(ns: &Namespace, device: &str, place: Place) -> Result<Self> {
        ns.enter(|| {
            // `enum bpf_prog_type`, `enum bpf_attach_type`, flags (native mode), verdict.
            let (kind, hook, flags, verdict) = match place {
                Place::Xdp => (6, 37, 1 << 2, 2),
                Place::Tcx => (3, 46, 0, -1),
            };
            let name = CString::new(device)?;
            // SAFETY: the name is a C string that outlives the call.
            let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
            let program = load(kind, &program(verdict)).context("cannot load a program")?;
            let link = [
                program.as_raw_fd().cast_unsigned(),
                ifindex,
                hook,
                flags,
                0,
                0,
                0,
                0,
            ];
            // SAFETY: the beginning of `union bpf_attr` for this command, without pointers.
            let link = unsafe { bpf(BPF_LINK_CREATE, &link) };
            let _link = link.with_context(|| format!("cannot attach to {device}"))?;
            Ok(Self { _link })
        })
    }
}

fn load(kind: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u64; 2],
    }
    let load = Load {
        kind,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 2],
    };
    // SAFETY: the beginning of `union bpf_attr` for this command; what it points to outlives the call.
    unsafe { bpf(BPF_PROG_LOAD, &load) }
}

/// # Safety
///
/// `attr` is the beginning of `union bpf_attr` for a command that gives a descriptor.
unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise; the kernel reads no more than the size that it is told.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
