//! Names and numbers of network devices.

use std::ffi::{CStr, CString};

use crate::types::IfName;

/// The number of a device; `None` when there is none of this name.
pub(super) fn index(name: &IfName) -> Option<u32> {
    let name = CString::new(name.as_str()).ok()?;
    // SAFETY: a string with a NUL at its end, which is only read.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The name of a device; `None` when there is none of this number.
pub(super) fn name(index: u32) -> Option<IfName> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the call prescribes, and is zeroed.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    CStr::from_bytes_until_nul(&name)
        .ok()?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_has_a_number_and_a_name() {
        let lo: IfName = "lo".parse().unwrap();
        assert_eq!(index(&lo).and_then(name), Some(lo));
        assert_eq!(index(&"no-such-device".parse().unwrap()), None);
        assert_eq!(name(u32::MAX >> 1), None);
    }
}
