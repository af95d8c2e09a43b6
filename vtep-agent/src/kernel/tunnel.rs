//! The host's collect-metadata vxlan device: what merges inner TCP where no driver does it before
//! the programs see the frames. It only receives, and has neither address nor bridge.

use super::{
    KernelError, links,
    message::{Message, Request, attribute},
    ports,
    socket::{RequestError, Requests},
};

/// Kind of the device.
const KIND: &[u8] = b"vxlan\0";
/// `IFLA_VXLAN_LEARNING` of linux/if_link.h.
const LEARNING: u16 = 7;
/// `IFLA_VXLAN_PORT`
const PORT: u16 = 15;
/// `IFLA_VXLAN_COLLECT_METADATA`
const COLLECT_METADATA: u16 = 25;

/// Name of the device for a UDP port.
pub fn tunnel_name(port: u16) -> String {
    format!("vtep-vx{port}")
}

/// Makes the device for a UDP port and brings it up, in the calling thread's network namespace, or
/// takes the one that an earlier run has left. Gives its index.
///
/// # Errors
///
/// The kernel has no vxlan devices, somebody else has the UDP port, or another device the name.
/// Nothing new stays then.
pub fn create_tunnel(port: u16) -> Result<u32, KernelError> {
    let name = tunnel_name(port);
    let failed = |error: RequestError| KernelError::Tunnel {
        name: name.clone(),
        cause: error.into_io(),
    };
    let mut requests = Requests::open(libc::NETLINK_ROUTE as isize).map_err(KernelError::Open)?;
    let made = match requests.execute(&new_request(&name, port)) {
        Ok(()) => true,
        Err(error) if error.is(libc::EEXIST) => false,
        Err(error) => return Err(failed(error)),
    };
    let ifindex = find(&mut requests, &name, port)
        .map_err(failed)?
        .ok_or_else(|| KernelError::TunnelName { name: name.clone() })?;
    // Without an address it sends nothing of its own.
    let up = ports::no_generated_address(ifindex).and_then(|()| {
        let mut header = links::header(ifindex);
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        header[8..12].copy_from_slice(&up);
        header[12..16].copy_from_slice(&up);
        requests.execute(&Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &header))
    });
    match up {
        Ok(()) => Ok(ifindex),
        Err(error) => {
            if made {
                // The first error is the one to report.
                let _ = requests.execute(&delete_request(ifindex));
            }
            Err(failed(error))
        }
    }
}

/// Removes the device for a UDP port. One that is not there, or not ours, is fine.
///
/// # Errors
///
/// The kernel refuses.
pub fn remove_tunnel(port: u16) -> Result<(), KernelError> {
    let name = tunnel_name(port);
    let failed = |error: RequestError| KernelError::Tunnel {
        name: name.clone(),
        cause: error.into_io(),
    };
    let mut requests = Requests::open(libc::NETLINK_ROUTE as isize).map_err(KernelError::Open)?;
    let Some(ifindex) = find(&mut requests, &name, port).map_err(failed)? else {
        return Ok(());
    };
    match requests.execute(&delete_request(ifindex)) {
        Err(error) if error.is(libc::ENODEV) => Ok(()),
        result => result.map_err(failed),
    }
}

fn new_request(name: &str, port: u16) -> Request {
    let data = [
        attribute(COLLECT_METADATA, &[1]),
        attribute(LEARNING, &[0]),
        attribute(PORT, &port.to_be_bytes()),
    ]
    .concat();
    let info = [
        attribute(libc::IFLA_INFO_KIND, KIND),
        attribute(libc::IFLA_INFO_DATA, &data),
    ]
    .concat();
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
    Request::new(libc::RTM_NEWLINK, flags, &links::header(0))
        .with(libc::IFLA_IFNAME, &text(name))
        .with(libc::IFLA_LINKINFO, &info)
}

fn delete_request(ifindex: u32) -> Request {
    Request::new(libc::RTM_DELLINK, libc::NLM_F_ACK, &links::header(ifindex))
}

/// Index of the device of this name when it is what [`new_request`] makes.
fn find(requests: &mut Requests, name: &str, port: u16) -> Result<Option<u32>, RequestError> {
    let request =
        Request::new(libc::RTM_GETLINK, 0, &links::header(0)).with(libc::IFLA_IFNAME, &text(name));
    match requests.get(&request, |message| decode(message, port)) {
        Err(error) if error.is(libc::ENODEV) => Ok(None),
        found => found,
    }
}

fn decode(message: &Message<'_>, port: u16) -> Option<u32> {
    let (header, attributes) = message.split::<16>()?;
    let info = attributes.find(libc::IFLA_LINKINFO)?.nested();
    let data = info.find(libc::IFLA_INFO_DATA)?.nested();
    let ours = info.find(libc::IFLA_INFO_KIND)?.text() == Some("vxlan")
        && data.find(COLLECT_METADATA)?.u8() == Some(1)
        && data.find(PORT)?.u16_be() == Some(port);
    ours.then(|| super::message::u32_at(header, 4))?
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::{super::message::Messages, *};
    use crate::types::IfName;

    /// The request has the form of the kernel's answer, so that the reader can be held against it.
    #[test]
    fn what_is_made_is_recognised() {
        let name = tunnel_name(65535);
        assert_eq!(name.parse::<IfName>().unwrap().as_str(), "vtep-vx65535");
        let bytes = new_request(&name, 4789).finish(1);
        let message = Messages(&bytes).next().unwrap().unwrap();
        assert_eq!(decode(&message, 4789), Some(0));
        assert_eq!(decode(&message, 4790), None, "another UDP port");
    }
}
