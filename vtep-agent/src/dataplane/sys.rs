//! The one bpf(2) command that aya lacks.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `enum bpf_cmd`
const BPF_OBJ_GET: libc::c_long = 7;
/// `enum bpf_cmd`, since Linux 5.9
const BPF_LINK_DETACH: libc::c_long = 34;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
#[derive(Default)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_DETACH` reads.
#[repr(C)]
#[derive(Default)]
struct LinkDetach {
    link_fd: u32,
}

/// Detaches the link that is pinned at `pin`, now. Removing the pin alone detaches some time later:
/// the kernel drops the last reference of an unlinked pin in a work queue.
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = ObjGet {
        pathname: path.as_ptr() as u64,
        ..ObjGet::default()
    };
    // SAFETY: `get` is what the command reads, and the path lives through the call.
    let link = unsafe { bpf(BPF_OBJ_GET, &get) }?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows it.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let detach = LinkDetach {
        link_fd: link.as_raw_fd() as u32,
    };
    // SAFETY: `detach` is what the command reads.
    unsafe { bpf(BPF_LINK_DETACH, &detach) }.map(drop)
}

/// # Safety
///
/// `attr` is the part of `union bpf_attr` for `command`, and pointers in it are valid.
unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<libc::c_int> {
    // SAFETY: the caller's promise; the kernel reads no more than the size that it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    match result {
        0.. => Ok(result as libc::c_int),
        _ => Err(io::Error::last_os_error()),
    }
}
