//! Socket options for which no safe wrapper exists.

use std::{
    io,
    mem::MaybeUninit,
    net::IpAddr,
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

/// A peer's address in the options for signatures: `struct sockaddr_in` or `sockaddr_in6` in the room of a `struct sockaddr_storage`, port and scope
/// zero: the family in host order, then the address in network order at its offset. For an IPv6 socket
/// IPv4 addresses are mapped.
pub(crate) fn peer_address(address: IpAddr, ipv6_socket: bool) -> [u8; 128] {
    let address = match address {
        IpAddr::V4(v4) if ipv6_socket => v4.to_ipv6_mapped().into(),
        address => address,
    };
    let mut bytes = [0; 128];
    let family = match address {
        IpAddr::V4(v4) => {
            bytes[4..8].copy_from_slice(&v4.octets());
            libc::AF_INET
        }
        IpAddr::V6(v6) => {
            bytes[8..24].copy_from_slice(&v6.octets());
            libc::AF_INET6
        }
    };
    bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
    bytes
}
