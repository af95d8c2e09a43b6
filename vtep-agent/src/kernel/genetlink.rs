//! Families of generic netlink.

use super::{
    message::{Message, Request, Value},
    socket::{RequestError, Requests},
};

/// `CTRL_CMD_GETFAMILY` with version 1.
const GET_FAMILY: [u8; 4] = [3, 1, 0, 0];
/// `CTRL_ATTR_FAMILY_ID` of linux/genetlink.h.
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`
const FAMILY_NAME: u16 = 2;
/// `CTRL_ATTR_MCAST_GROUPS`
const MCAST_GROUPS: u16 = 7;
/// `CTRL_ATTR_MCAST_GRP_NAME`
const GROUP_NAME: u16 = 1;
/// `CTRL_ATTR_MCAST_GRP_ID`
const GROUP_ID: u16 = 2;

/// What the kernel calls a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// Type of its messages.
    pub id: u16,
    /// Its multicast groups, by name.
    pub groups: Vec<(String, u32)>,
}

impl Family {
    /// Asks for a family by name; `None` where the kernel has no such family.
    pub fn find(requests: &mut Requests, name: &str) -> Result<Option<Self>, RequestError> {
        let name = [name.as_bytes(), &[0]].concat();
        let request =
            Request::new(libc::GENL_ID_CTRL as u16, 0, &GET_FAMILY).with(FAMILY_NAME, &name);
        match requests.get(&request, decode) {
            Err(error) if error.is(libc::ENOENT) => Ok(None),
            found => found,
        }
    }

    /// Number of a multicast group.
    pub fn group(&self, name: &str) -> Option<u32> {
        let group = self.groups.iter().find(|(other, _)| other == name);
        group.map(|(_, id)| *id)
    }
}

fn decode(message: &Message<'_>) -> Option<Family> {
    let (_, attributes) = message.split::<4>()?;
    let groups = attributes.find(MCAST_GROUPS).map(Value::nested);
    let group = |(_, group): (u16, Value<'_>)| {
        let name = group.nested().find(GROUP_NAME)?.text()?;
        Some((name.to_owned(), group.nested().find(GROUP_ID)?.u32()?))
    };
    Some(Family {
        id: attributes.find(FAMILY_ID)?.u16()?,
        groups: groups.into_iter().flatten().filter_map(group).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::message::attribute, *};

    #[test]
    fn family_and_its_groups() {
        let group = |name: &[u8], id: u32| {
            let mut group = attribute(GROUP_NAME, name);
            group.extend(attribute(GROUP_ID, &id.to_ne_bytes()));
            attribute(1, &group)
        };
        let groups = [group(b"page-pool\0", 5), group(b"mgmt\0", 6)].concat();
        let mut body = vec![1, 2, 0, 0];
        body.extend(attribute(FAMILY_ID, &0x1au16.to_ne_bytes()));
        body.extend(attribute(MCAST_GROUPS, &groups));
        let message = |body| Message {
            kind: 0x10,
            flags: 0,
            sequence: 0,
            body,
        };
        let family = decode(&message(&body)).unwrap();
        assert_eq!((family.id, family.group("mgmt")), (0x1a, Some(6)));
        assert_eq!(family.group("monitor"), None);
        assert_eq!(decode(&message(&body[..4])), None, "no number");
    }
}
