//! XDP features of devices, from the `netdev` family of generic netlink (Linux 6.3).

use std::io;

use super::{
    genetlink::Family,
    message::{Message, Request},
    socket::{RequestError, Requests},
};

/// `NETDEV_CMD_DEV_GET` of linux/netdev.h.
const DEV_GET: u8 = 1;
/// `NETDEV_CMD_DEV_ADD_NTF`
const DEV_ADD_NTF: u8 = 2;
/// `NETDEV_CMD_DEV_CHANGE_NTF`
const DEV_CHANGE_NTF: u8 = 4;
/// `NETDEV_A_DEV_IFINDEX`
const DEV_IFINDEX: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES`
const DEV_XDP_FEATURES: u16 = 3;

/// Asks for the features of devices.
pub(super) struct Features {
    requests: Requests,
    family: u16,
    /// The multicast group of changes.
    pub group: u32,
}

/// `NETDEV_A_DEV_XDP_FEATURES` (bits `NETDEV_XDP_ACT_*`) of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XdpFeatures {
    pub ifindex: u32,
    pub bits: u64,
}

impl Features {
    /// `None` where the kernel has no such family.
    pub fn open() -> Result<Option<Self>, RequestError> {
        let mut requests = Requests::open(libc::NETLINK_GENERIC as isize)?;
        let Some(family) = Family::find(&mut requests, "netdev")? else {
            return Ok(None);
        };
        let group = family
            .group("mgmt")
            .ok_or_else(|| io::Error::other("the netdev family has no group \"mgmt\""))?;
        Ok(Some(Self {
            requests,
            family: family.id,
            group,
        }))
    }

    /// The features of one device; `None` when it is gone.
    pub fn get(&mut self, ifindex: u32) -> Result<Option<XdpFeatures>, RequestError> {
        let request = self.request(0).with(DEV_IFINDEX, &ifindex.to_ne_bytes());
        match self.requests.get(&request, decode) {
            Err(RequestError::Refused(_)) => Ok(None),
            found => found,
        }
    }

    /// The features of all devices.
    pub fn dump(&mut self) -> Result<Vec<XdpFeatures>, RequestError> {
        let request = self.request(libc::NLM_F_DUMP);
        self.requests.dump(&request, decode)
    }

    fn request(&self, flags: i32) -> Request {
        Request::new(self.family, flags, &[DEV_GET, 1, 0, 0])
    }
}

/// Reads an answer or a notification. A device that goes is reported by rtnetlink.
pub(super) fn decode(message: &Message<'_>) -> Option<XdpFeatures> {
    let (header, attributes) = message.split::<4>()?;
    if ![DEV_GET, DEV_ADD_NTF, DEV_CHANGE_NTF].contains(&header[0]) {
        return None;
    }
    Some(XdpFeatures {
        ifindex: attributes.find(DEV_IFINDEX)?.u32()?,
        bits: attributes.find(DEV_XDP_FEATURES)?.u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::message::attribute, *};

    fn message(body: &[u8]) -> Message<'_> {
        Message {
            kind: 0x1a,
            flags: 0,
            sequence: 0,
            body,
        }
    }

    #[test]
    fn change_notification() {
        let mut body = vec![DEV_CHANGE_NTF, 1, 0, 0];
        body.extend(attribute(DEV_IFINDEX, &7u32.to_ne_bytes()));
        body.extend(attribute(DEV_XDP_FEATURES, &0x23u64.to_ne_bytes()));
        let expected = XdpFeatures {
            ifindex: 7,
            bits: 0x23,
        };
        assert_eq!(decode(&message(&body)), Some(expected));
        body[0] = 3; // NETDEV_CMD_DEV_DEL_NTF
        assert_eq!(decode(&message(&body)), None);
    }
}
