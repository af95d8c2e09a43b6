//! One NIC as it is now, for whoever looks for trouble.

use std::collections::BTreeSet;

use super::{
    KernelError, failed,
    features::Features,
    genetlink::Family,
    links,
    message::{Message, Request, Value, attribute},
    socket::{RequestError, Requests},
};
use crate::types::IfName;

/// `ETHTOOL_MSG_FEATURES_GET` of linux/ethtool_netlink.h (Linux 5.7), version 1.
const FEATURES_GET: [u8; 4] = [11, 1, 0, 0];
/// `ETHTOOL_A_FEATURES_HEADER`; this family insists on the mark of nested attributes.
const HEADER: u16 = 1 | libc::NLA_F_NESTED as u16;
/// `ETHTOOL_A_HEADER_DEV_INDEX`
const DEV_INDEX: u16 = 1;
/// `ETHTOOL_A_FEATURES_ACTIVE`
const ACTIVE: u16 = 4;
/// `ETHTOOL_A_BITSET_BITS`
const BITS: u16 = 3;
/// `ETHTOOL_A_BITSET_BIT_NAME`
const BIT_NAME: u16 = 2;
/// `NETDEV_XDP_ACT_BASIC` of linux/netdev.h: the driver runs XDP programs.
const XDP_BASIC: u64 = 0x1;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its number.
    pub ifindex: u32,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Offloads that are on, by their `ethtool -k` names (`rx-lro`, `rx-gro`, …). `None` where the
    /// kernel does not tell (before 5.7).
    pub offloads: Option<BTreeSet<String>>,
    /// The driver runs XDP programs. `None` where the kernel does not tell (before 6.3).
    pub native_xdp: Option<bool>,
}

/// Asks for a device in the calling thread's network namespace; `None` when there is none.
///
/// # Errors
///
/// No netlink socket, or no answer.
pub fn nic(name: &IfName) -> Result<Option<Nic>, KernelError> {
    let mut route = Requests::open(libc::NETLINK_ROUTE as isize).map_err(KernelError::Open)?;
    let text = [name.as_str().as_bytes(), &[0]].concat();
    let request =
        Request::new(libc::RTM_GETLINK, 0, &links::header(0)).with(libc::IFLA_IFNAME, &text);
    let device = match route.get(&request, links::decode) {
        Err(error) if error.is(libc::ENODEV) => return Ok(None),
        found => found.map_err(failed("a device"))?,
    };
    let Some(device) = device else {
        return Ok(None);
    };
    Ok(Some(Nic {
        ifindex: device.ifindex,
        mtu: device.mtu,
        up: device.up,
        offloads: offloads(device.ifindex).map_err(failed("a device's offloads"))?,
        native_xdp: native_xdp(device.ifindex).map_err(failed("a device's XDP features"))?,
    }))
}

fn offloads(ifindex: u32) -> Result<Option<BTreeSet<String>>, RequestError> {
    let mut requests = Requests::open(libc::NETLINK_GENERIC as isize)?;
    let Some(family) = Family::find(&mut requests, "ethtool")? else {
        return Ok(None);
    };
    let request = Request::new(family.id, 0, &FEATURES_GET)
        .with(HEADER, &attribute(DEV_INDEX, &ifindex.to_ne_bytes()));
    match requests.get(&request, decode) {
        // The device went, or its driver does not tell.
        Err(RequestError::Refused(_)) => Ok(None),
        found => found,
    }
}

fn decode(message: &Message<'_>) -> Option<BTreeSet<String>> {
    let (_, attributes) = message.split::<4>()?;
    // A bitset without a mask: every bit in the list is on.
    let bits = attributes.find(ACTIVE)?.nested().find(BITS)?.nested();
    let name = |(_, bit): (u16, Value<'_>)| Some(bit.nested().find(BIT_NAME)?.text()?.to_owned());
    Some(bits.filter_map(name).collect())
}

fn native_xdp(ifindex: u32) -> Result<Option<bool>, RequestError> {
    let Some(mut features) = Features::open()? else {
        return Ok(None);
    };
    let found = features.get(ifindex)?;
    Ok(found.map(|features| features.bits & XDP_BASIC != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_offloads() {
        let bit = |name: &[u8]| attribute(1, &attribute(BIT_NAME, name));
        let bits = [bit(b"rx-gro\0"), bit(b"rx-lro\0")].concat();
        let mut body = vec![11, 1, 0, 0];
        body.extend(attribute(ACTIVE, &attribute(BITS, &bits)));
        let message = Message {
            kind: 0x15,
            flags: 0,
            sequence: 0,
            body: &body,
        };
        let names = ["rx-gro", "rx-lro"].map(str::to_owned);
        assert_eq!(decode(&message), Some(BTreeSet::from(names)));
    }

    #[test]
    fn the_loopback_device() {
        let found = nic(&"lo".parse().unwrap()).unwrap().unwrap();
        assert_eq!((found.ifindex, found.mtu), (1, 65536));
        assert!(found.offloads.is_some_and(|on| on.contains("rx-gro")));
        assert_eq!(nic(&"none-such".parse().unwrap()).unwrap(), None);
    }
}
