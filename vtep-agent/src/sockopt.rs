//! Socket options for which no safe wrapper exists.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd},
};

/// Plain data without padding, as the kernel takes it for an option.
///
/// # Safety
///
/// Every byte of a value is initialised.
pub(crate) unsafe trait OptionValue: Copy {}

// SAFETY: an integer has no padding.
unsafe impl OptionValue for libc::c_int {}

/// Sets an option.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn set<T: OptionValue>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the borrow; the pointer and the length are
    // those of a live, initialised value, which is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads an option of up to `N` bytes.
///
/// # Errors
///
/// The kernel's; `EINVAL` from some options when `N` bytes are too few.
pub(crate) fn get<const N: usize>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<Vec<u8>> {
    let mut value = MaybeUninit::<[u8; N]>::zeroed();
    let mut length = N as libc::socklen_t;
    // SAFETY: the descriptor is open for the length of the borrow; the kernel writes at most
    // `length` bytes to a live buffer of that many, and one length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, and bytes have no invalid values.
    let value = unsafe { value.assume_init() };
    Ok(value.into_iter().take(length as usize).collect())
}
