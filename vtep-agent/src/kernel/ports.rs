//! What is done to a VM port before anything is attached, and undone when it is released: the host
//! does not configure itself from what a VM sends.

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

/// What a port's IPv6 settings were before [`prepare_port`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortBefore {
    ifindex: u32,
    ipv6: Before,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Before {
    /// Off, or the device has none.
    Off,
    /// On.
    On,
    /// `/proc/sys` is read-only; the device's way to make itself an address was this one.
    Generated { mode: u8, accept_ra: String },
}

/// Turns IPv6 off on a port, in the calling thread's network namespace: otherwise the host would
/// make itself a link-local address there and take addresses and routes from a VM's router
/// advertisements.
///
/// Where `/proc/sys` is read-only, as in some containers, the device is told over netlink to make
/// itself no address, without which it neither solicits nor is reachable.
///
/// Answers with what [`restore_port`] needs. When an earlier run `prepared` the port already and did
/// not restore it, that is the namespace's default.
///
/// # Errors
///
/// The name is another device's by now, or both ways are barred.
pub fn prepare_port(
    ifindex: u32,
    name: &IfName,
    prepared: bool,
) -> Result<PortBefore, KernelError> {
    let before = |ipv6| PortBefore { ifindex, ipv6 };
    if !Path::new(IPV6).exists() {
        return Ok(before(Before::Off)); // a kernel without IPv6
    }
    check_name(ifindex, name)?;
    let settings = Path::new(IPV6).join(name.as_str());
    let source = if prepared { "default" } else { name.as_str() };
    let was_off = read(source, "disable_ipv6") == "1";
    let generated = Before::Generated {
        mode: read(source, "addr_gen_mode").parse().unwrap_or(0),
        accept_ra: read(source, "accept_ra"),
    };
    let error = match fs::write(settings.join("disable_ipv6"), "1") {
        Ok(()) => {
            let was = if was_off { Before::Off } else { Before::On };
            return check_name(ifindex, name).map(|()| before(was));
        }
        // Without a directory the device has no IPv6 at all, e.g. for an MTU below 1280.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return check_name(ifindex, name).map(|()| before(Before::Off));
        }
        Err(error) => error,
    };
    tracing::debug!(port = %name, %error, "disable_ipv6 is not writable, setting addrgenmode none");
    // Best effort: it is the address generation that decides.
    let _ = fs::write(settings.join("accept_ra"), "0");
    match generate_address(ifindex, MODE_NONE) {
        Ok(()) => Ok(before(generated)),
        Err(_) => Err(KernelError::Port {
            port: name.clone(),
            cause: error,
        }),
    }
}

/// Undoes [`prepare_port`]. A device that is gone by now is fine.
///
/// # Errors
///
/// The kernel refuses to be told about the device, or its setting cannot be written.
pub fn restore_port(before: &PortBefore) -> Result<(), KernelError> {
    // It may have another name by now.
    let name = match device_name(before.ifindex)? {
        Some(name) => name,
        None => return Ok(()),
    };
    let settings = Path::new(IPV6).join(name.as_str());
    let failed = |cause| KernelError::Restore {
        port: name.clone(),
        cause,
    };
    match &before.ipv6 {
        Before::Off => Ok(()),
        Before::On => match fs::write(settings.join("disable_ipv6"), "0") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        },
        Before::Generated { mode, accept_ra } => {
            let _ = fs::write(settings.join("accept_ra"), accept_ra);
            generate_address(before.ifindex, *mode).map_err(|error| failed(error.into_io()))
        }
    }
}

/// A setting; empty when there is none.
fn read(device: &str, setting: &str) -> String {
    let path = Path::new(IPV6).join(device).join(setting);
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

/// An index is never given to another device, a name is: a setting that was written by name counts
/// only when the name was the device's before and after.
fn check_name(ifindex: u32, name: &IfName) -> Result<(), KernelError> {
    match device_name(ifindex)? {
        Some(now) if now == *name => Ok(()),
        _ => Err(KernelError::NotThePort {
            port: name.clone(),
            ifindex,
        }),
    }
}

/// The device's name; `None` when it is gone.
fn device_name(ifindex: u32) -> Result<Option<IfName>, KernelError> {
    let request = links::get_request(ifindex);
    let found = Requests::open(libc::NETLINK_ROUTE as isize)
        .map_err(KernelError::Open)?
        .get(&request, links::decode);
    match found {
        Ok(device) => Ok(device.map(|device| device.name)),
        Err(RequestError::Refused(_)) => Ok(None),
        Err(RequestError::Socket(cause)) => Err(KernelError::Request {
            what: "a device",
            cause,
        }),
    }
}

/// Has the device make itself no IPv6 address. A kernel without IPv6 refuses with `EAFNOSUPPORT`.
pub(super) fn no_generated_address(ifindex: u32) -> Result<(), RequestError> {
    generate_address(ifindex, MODE_NONE)
}

fn generate_address(ifindex: u32, mode: u8) -> Result<(), RequestError> {
    let family = attribute(libc::AF_INET6 as u16, &attribute(ADDR_GEN_MODE, &[mode]));
    let request = Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &links::header(ifindex))
        .with(libc::IFLA_AF_SPEC, &family);
    Requests::open(libc::NETLINK_ROUTE as isize)?.execute(&request)
}
