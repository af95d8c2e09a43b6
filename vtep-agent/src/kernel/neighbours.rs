//! Neighbour entries of the kernel: reading them, and having the kernel keep them resolved.
//!
//! Frames that the datapath sends never confirm a neighbour, so an entry that is only ours would go
//! stale and be forgotten. Managed entries (`NTF_EXT_MANAGED`, Linux 5.16) are probed by the kernel
//! for as long as they exist. A kernel that does not know the flag takes the request as `NTF_USE`,
//! which starts a resolution; the tracker repeats it whenever the entry's state changes.

use std::net::IpAddr;

use super::{
    message::{Message, Request, Value, family, u16_at, u32_at},
    socket::{RequestError, Requests},
};
use crate::types::Mac;

/// `NDA_PROTOCOL` of linux/neighbour.h: who made the entry.
const NDA_PROTOCOL: u16 = 12;
/// `NDA_FLAGS_EXT`
const NDA_FLAGS_EXT: u16 = 15;
/// `NTF_EXT_MANAGED`
const NTF_EXT_MANAGED: u32 = 0x1;
/// Marks entries as ours, also to the agent after a restart: `ip neigh` shows `proto 118`.
const PROTOCOL: u8 = 0x76;
/// `NUD_VALID` of net/neighbour.h: states in which the kernel would use the MAC.
const NUD_VALID: u16 = libc::NUD_PERMANENT
    | libc::NUD_NOARP
    | libc::NUD_REACHABLE
    | libc::NUD_PROBE
    | libc::NUD_STALE
    | libc::NUD_DELAY;

/// Names a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NeighbourKey {
    pub ifindex: u32,
    pub address: IpAddr,
}

/// A neighbour entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// `None` while unresolved.
    pub mac: Option<Mac>,
    /// The kernel keeps it resolved.
    pub managed: bool,
    /// Made or taken over by this agent.
    pub ours: bool,
    /// Belongs to the operator or another control plane (permanent, without ARP, or externally
    /// learned): never touched.
    pub foreign: bool,
}

/// Reads one entry; `None` when there is none.
pub(super) fn get(
    requests: &mut Requests,
    key: NeighbourKey,
) -> Result<Option<Neighbour>, RequestError> {
    let request =
        Request::new(libc::RTM_GETNEIGH, 0, &header(key, 0, 0)).with_ip(libc::NDA_DST, key.address);
    match requests.get(&request, decode) {
        Err(RequestError::Refused(_)) => Ok(None),
        found => Ok(found?.map(|(_, neighbour)| neighbour)),
    }
}

/// Reads all entries of both families.
pub(super) fn dump(
    requests: &mut Requests,
) -> Result<Vec<(NeighbourKey, Neighbour)>, RequestError> {
    let request = Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &[0; 12]);
    requests.dump(&request, decode)
}

/// Has the kernel resolve a neighbour and keep it so. A MAC that is known already stays.
pub(super) fn manage(requests: &mut Requests, key: NeighbourKey) -> Result<(), RequestError> {
    // Without NLM_F_REPLACE nothing of an existing entry is overridden but its owner.
    let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK;
    let header = header(key, libc::NUD_NONE, libc::NTF_USE);
    let request = Request::new(libc::RTM_NEWNEIGH, flags, &header)
        .with_ip(libc::NDA_DST, key.address)
        .with(NDA_PROTOCOL, &[PROTOCOL])
        .with(NDA_FLAGS_EXT, &NTF_EXT_MANAGED.to_ne_bytes());
    requests.execute(&request)
}

/// Removes an entry. One that is gone already is no error.
pub(super) fn delete(requests: &mut Requests, key: NeighbourKey) -> Result<(), RequestError> {
    let request = Request::new(libc::RTM_DELNEIGH, libc::NLM_F_ACK, &header(key, 0, 0))
        .with_ip(libc::NDA_DST, key.address);
    match requests.execute(&request) {
        Err(error) if error.is(libc::ENOENT) || error.is(libc::ENODEV) => Ok(()),
        result => result,
    }
}

/// Reads an `RTM_NEWNEIGH` or `RTM_DELNEIGH`. `None` for what is no IP neighbour (FDB entries).
pub(super) fn decode(message: &Message<'_>) -> Option<(NeighbourKey, Neighbour)> {
    let (header, attributes) = message.split::<12>()?;
    if ![libc::AF_INET, libc::AF_INET6].contains(&i32::from(header[0])) {
        return None;
    }
    let state = u16_at(header, 8)?;
    let flags = header[10];
    let (mut address, mut mac, mut ours, mut managed) = (None, None, false, false);
    for (kind, value) in attributes {
        match kind {
            libc::NDA_DST => address = value.ip(),
            libc::NDA_LLADDR => mac = value.0.try_into().map(Mac).ok(),
            NDA_PROTOCOL => ours = value.u8() == Some(PROTOCOL),
            NDA_FLAGS_EXT => managed = Value::u32(value)? & NTF_EXT_MANAGED != 0,
            _ => {}
        }
    }
    let key = NeighbourKey {
        ifindex: u32_at(header, 4)?,
        address: address?,
    };
    let neighbour = Neighbour {
        mac: mac.filter(|mac| state & NUD_VALID != 0 && !mac.is_zero()),
        managed,
        ours,
        foreign: state & (libc::NUD_PERMANENT | libc::NUD_NOARP) != 0
            || flags & libc::NTF_EXT_LEARNED != 0,
    };
    Some((key, neighbour))
}

/// A `struct ndmsg`.
fn header(key: NeighbourKey, state: u16, flags: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family(key.address);
    header[4..8].copy_from_slice(&key.ifindex.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::{
        AddressFamily,
        neighbour::{
            NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourHeader,
            NeighbourMessage, NeighbourState,
        },
    };

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// The entry of 192.0.2.1 on device 3, encoded by another implementation.
    fn read(state: NeighbourState, flags: NeighbourFlags, managed: bool) -> Neighbour {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader {
            family: AddressFamily::Inet,
            ifindex: 3,
            state,
            flags,
            ..NeighbourHeader::default()
        };
        let address = "192.0.2.1".parse::<std::net::Ipv4Addr>().unwrap();
        message.attributes = vec![
            NeighbourAttribute::Destination(address.into()),
            NeighbourAttribute::LinkLayerAddress(MAC.to_vec()),
        ];
        if managed {
            message.attributes.extend([
                NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
                NeighbourAttribute::Protocol(PROTOCOL.into()),
            ]);
        }
        let (key, neighbour) = decode_emitted(&message).unwrap();
        let expected = NeighbourKey {
            ifindex: 3,
            address: address.into(),
        };
        assert_eq!(key, expected);
        neighbour
    }

    fn decode_emitted(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        for length in 0..bytes.len() {
            let _ = decode(&newneigh(&bytes[..length])); // anything but a panic
        }
        decode(&newneigh(&bytes))
    }

    fn newneigh(body: &[u8]) -> Message<'_> {
        Message {
            kind: libc::RTM_NEWNEIGH,
            flags: 0,
            sequence: 0,
            body,
        }
    }

    #[test]
    fn states_in_which_the_mac_counts() {
        for (state, valid) in [
            (NeighbourState::Reachable, true),
            (NeighbourState::Stale, true),
            (NeighbourState::Delay, true),
            (NeighbourState::Probe, true),
            (NeighbourState::Permanent, true),
            (NeighbourState::Noarp, true),
            (NeighbourState::Incomplete, false),
            (NeighbourState::Failed, false),
            (NeighbourState::None, false),
        ] {
            let neighbour = read(state, NeighbourFlags::empty(), false);
            assert_eq!(neighbour.mac, valid.then_some(Mac(MAC)), "{state:?}");
        }
    }

    #[test]
    fn owners() {
        let ours = read(NeighbourState::Stale, NeighbourFlags::empty(), true);
        assert!(ours.managed && ours.ours && !ours.foreign);
        let kernels = read(NeighbourState::Stale, NeighbourFlags::empty(), false);
        assert!(!kernels.managed && !kernels.ours && !kernels.foreign);
        assert!(read(NeighbourState::Permanent, NeighbourFlags::empty(), false).foreign);
        assert!(read(NeighbourState::Noarp, NeighbourFlags::empty(), false).foreign);
        assert!(read(NeighbourState::Stale, NeighbourFlags::ExtLearned, false).foreign);
    }

    #[test]
    fn fdb_entries_are_no_neighbours() {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(MAC.to_vec())];
        assert_eq!(decode_emitted(&message), None);
    }
}
