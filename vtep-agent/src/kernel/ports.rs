//! What is done to a VM port before anything is attached: the host does not configure itself from
//! what a VM sends.

use std::{fs, io, path::Path};

use super::{
    KernelError, links,
    message::{Request, attribute},
    socket::{RequestError, Requests},
};
use crate::types::IfName;

/// Per-device IPv6 settings of the calling thread's network namespace.
const IPV6: &str = "/proc/sys/net/ipv6/conf";
/// `IFLA_INET6_ADDR_GEN_MODE` of linux/if_link.h.
const ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`
const MODE_NONE: u8 = 1;

/// Turns IPv6 off on a port, in the calling thread's network namespace: otherwise the host would
/// make itself a link-local address there and take addresses and routes from a VM's router
/// advertisements.
///
/// Where `/proc/sys` is read-only, as in some containers, the device is told over netlink to make
/// itself no address, without which it neither solicits nor is reachable.
///
/// # Errors
///
/// The name is another device's by now, or both ways are barred.
pub fn prepare_port(ifindex: u32, name: &IfName) -> Result<(), KernelError> {
    let settings = Path::new(IPV6).join(name.as_str());
    if !Path::new(IPV6).exists() {
        return Ok(()); // a kernel without IPv6
    }
    check_name(ifindex, name)?;
    let error = match fs::write(settings.join("disable_ipv6"), "1") {
        Ok(()) => return check_name(ifindex, name),
        // Without a directory the device has no IPv6 at all, e.g. for an MTU below 1280.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return check_name(ifindex, name);
        }
        Err(error) => error,
    };
    tracing::debug!(port = %name, %error, "disable_ipv6 is not writable, setting addrgenmode none");
    // Best effort: it is the address generation that decides.
    let _ = fs::write(settings.join("accept_ra"), "0");
    no_generated_address(ifindex).map_err(|_| KernelError::Port {
        port: name.clone(),
        cause: error,
    })
}

/// An index is never given to another device, a name is: a setting that was written by name counts
/// only when the name was the device's before and after.
fn check_name(ifindex: u32, name: &IfName) -> Result<(), KernelError> {
    let request = links::get_request(ifindex);
    let found = Requests::open(libc::NETLINK_ROUTE as isize)
        .map_err(KernelError::Open)?
        .get(&request, links::decode);
    match found {
        Ok(Some(device)) if device.name == *name => Ok(()),
        Ok(_) | Err(RequestError::Refused(_)) => Err(KernelError::NotThePort {
            port: name.clone(),
            ifindex,
        }),
        Err(RequestError::Socket(cause)) => Err(KernelError::Request {
            what: "a device",
            cause,
        }),
    }
}

/// Has the device make itself no IPv6 address. A kernel without IPv6 refuses with `EAFNOSUPPORT`.
pub(super) fn no_generated_address(ifindex: u32) -> Result<(), RequestError> {
    let family = attribute(
        libc::AF_INET6 as u16,
        &attribute(ADDR_GEN_MODE, &[MODE_NONE]),
    );
    let request = Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &links::header(ifindex))
        .with(libc::IFLA_AF_SPEC, &family);
    Requests::open(libc::NETLINK_ROUTE as isize)?.execute(&request)
}
