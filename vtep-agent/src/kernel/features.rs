//! XDP features of devices, from the `netdev` family of generic netlink (Linux 6.3).

use std::io;

use super::{
    message::{Attributes, Message, Request, Value},
    socket::{RequestError, Requests},
};

/// `CTRL_CMD_GETFAMILY` with version 1.
const GET_FAMILY: [u8; 4] = [3, 1, 0, 0];
/// `CTRL_ATTR_FAMILY_ID` of linux/genetlink.h.
const CTRL_ATTR_FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// `CTRL_ATTR_MCAST_GROUPS`
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
/// `CTRL_ATTR_MCAST_GRP_NAME`
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
/// `CTRL_ATTR_MCAST_GRP_ID`
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

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
        let request = Request::new(libc::GENL_ID_CTRL as u16, 0, &GET_FAMILY)
            .with(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        let found = match requests.get(&request, decode_family) {
            Err(error) if error.is(libc::ENOENT) => return Ok(None),
            found => found?,
        };
        let (family, group) =
            found.ok_or_else(|| io::Error::other("the netdev family has no group \"mgmt\""))?;
        Ok(Some(Self {
            requests,
            family,
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

/// Number of the family and of its group `mgmt`.
fn decode_family(message: &Message<'_>) -> Option<(u16, u32)> {
    let (_, attributes) = message.split::<4>()?;
    let mut groups = attributes.find(CTRL_ATTR_MCAST_GROUPS)?.nested();
    let group = groups.find_map(|(_, group)| management(group.nested()))?;
    Some((attributes.find(CTRL_ATTR_FAMILY_ID)?.u16()?, group))
}

fn management(group: Attributes<'_>) -> Option<u32> {
    let name = group.find(CTRL_ATTR_MCAST_GRP_NAME).and_then(Value::text)?;
    (name == "mgmt").then(|| group.find(CTRL_ATTR_MCAST_GRP_ID)?.u32())?
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

    #[test]
    fn family_without_the_group() {
        let group = |name: &[u8]| {
            let mut group = attribute(CTRL_ATTR_MCAST_GRP_NAME, name);
            group.extend(attribute(CTRL_ATTR_MCAST_GRP_ID, &5u32.to_ne_bytes()));
            attribute(CTRL_ATTR_MCAST_GROUPS, &attribute(1, &group))
        };
        let mut body = vec![1, 2, 0, 0];
        body.extend(attribute(CTRL_ATTR_FAMILY_ID, &0x1au16.to_ne_bytes()));
        body.extend(group(b"page-pool\0"));
        assert_eq!(decode_family(&message(&body)), None);
        body.truncate(4 + 8);
        body.extend(group(b"mgmt\0"));
        assert_eq!(decode_family(&message(&body)), Some((0x1a, 5)));
    }
}
