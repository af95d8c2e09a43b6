//! Network devices: what the kernel says about them, and what of it the core is told.

use std::collections::BTreeMap;

use super::message::{Message, Request, Value, u16_at, u32_at};
use crate::{
    core::{Input, Link},
    types::{IfName, Mac},
};

/// `IF_OPER_UNKNOWN` of linux/if.h: a driver without link detection.
const OPER_UNKNOWN: u8 = 0;
/// `IF_OPER_UP`
const OPER_UP: u8 = 6;
/// `IFLA_VLAN_ID` of linux/if_link.h.
const IFLA_VLAN_ID: u16 = 1;
/// `IFLA_VLAN_PROTOCOL`
const IFLA_VLAN_PROTOCOL: u16 = 5;
/// Ethertype of an 802.1Q tag, the only one that the datapath writes.
const DOT1Q: u16 = 0x8100;
/// `NETDEV_XDP_ACT_NDO_XMIT` of linux/netdev.h: frames redirected by XDP are taken.
const NDO_XMIT: u64 = 0x4;

/// What the agent wants to know of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub ifindex: u32,
    pub name: IfName,
    /// Zero when it has none of six bytes.
    pub mac: Mac,
    pub mtu: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Frames start with an Ethernet header (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// A root qdisc was put on it.
    pub qdisc: bool,
    pub kind: Kind,
}

/// Kinds of devices that are treated differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A veth; `peer` is an ifindex of our namespace unless `elsewhere`.
    Veth { peer: Option<u32>, elsewhere: bool },
    /// A tap or tun.
    Tun,
    /// An 802.1Q VLAN on another device.
    Vlan { parent: u32, id: u16 },
    /// Anything else.
    Other,
}

/// Asks for all devices.
pub(super) fn dump_request() -> Request {
    Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; 16])
}

/// Asks for one device.
pub(super) fn get_request(ifindex: u32) -> Request {
    Request::new(libc::RTM_GETLINK, 0, &header(ifindex))
}

/// A `struct ifinfomsg` that names a device.
pub(super) fn header(ifindex: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header
}

/// Reads the device of an `RTM_NEWLINK`. `None` for anything else, in particular for what the
/// bridge says of its ports with the same message type, and for names that are not UTF-8.
pub(super) fn decode(message: &Message<'_>) -> Option<Device> {
    let (header, attributes) = message.split::<16>()?;
    if message.kind != libc::RTM_NEWLINK || header[0] != libc::AF_UNSPEC as u8 {
        return None;
    }
    let flags = u32_at(header, 8)?;
    let (mut name, mut mac, mut mtu, mut oper) = (None, Mac::ZERO, 0, OPER_UNKNOWN);
    let (mut link, mut elsewhere, mut qdisc, mut info) = (None, false, false, None);
    for (kind, value) in attributes {
        match kind {
            libc::IFLA_IFNAME => name = value.text()?.parse().ok(),
            libc::IFLA_ADDRESS => mac = value.0.try_into().map(Mac).unwrap_or_default(),
            libc::IFLA_MTU => mtu = value.u32()?,
            libc::IFLA_OPERSTATE => oper = value.u8()?,
            libc::IFLA_LINK => link = value.u32(),
            libc::IFLA_LINK_NETNSID => elsewhere = true,
            libc::IFLA_QDISC => qdisc = !matches!(value.text(), Some("noqueue" | "noop")),
            libc::IFLA_LINKINFO => info = Some(value),
            _ => {}
        }
    }
    let carrier =
        flags & (libc::IFF_LOWER_UP as u32) != 0 && [OPER_UP, OPER_UNKNOWN].contains(&oper);
    Some(Device {
        ifindex: u32_at(header, 4)?,
        name: name?,
        mac,
        mtu,
        up: flags & (libc::IFF_UP as u32) != 0 && carrier,
        ethernet: u16_at(header, 2)? == libc::ARPHRD_ETHER,
        qdisc,
        kind: info.map_or(Kind::Other, |info| kind(info, link, elsewhere)),
    })
}

/// The ifindex of an `RTM_DELLINK`; `None` when only a bridge port ended.
pub(super) fn decode_gone(message: &Message<'_>) -> Option<u32> {
    let (header, _) = message.split::<16>()?;
    (message.kind == libc::RTM_DELLINK && header[0] == libc::AF_UNSPEC as u8)
        .then(|| u32_at(header, 4))?
}

/// The ifindex of a message about a qdisc (`struct tcmsg`).
pub(super) fn decode_qdisc(message: &Message<'_>) -> Option<u32> {
    u32_at(message.body, 4)
}

fn kind(info: Value<'_>, link: Option<u32>, elsewhere: bool) -> Kind {
    match info
        .nested()
        .find(libc::IFLA_INFO_KIND)
        .and_then(Value::text)
    {
        Some("veth") => Kind::Veth {
            peer: link,
            elsewhere,
        },
        Some("tun") => Kind::Tun,
        // A parent in another namespace cannot be transmitted on from here.
        Some("vlan") if !elsewhere => vlan(info, link).unwrap_or(Kind::Other),
        _ => Kind::Other,
    }
}

fn vlan(info: Value<'_>, link: Option<u32>) -> Option<Kind> {
    let data = info.nested().find(libc::IFLA_INFO_DATA)?.nested();
    let protocol = data.find(IFLA_VLAN_PROTOCOL)?.u16_be()?;
    (protocol == DOT1Q).then_some(Kind::Vlan {
        parent: link?,
        id: data.find(IFLA_VLAN_ID)?.u16()?,
    })
}

/// All devices of the namespace, and what was reported of them.
#[derive(Default)]
pub(super) struct Links {
    devices: BTreeMap<u32, Device>,
    /// XDP features by ifindex. Where the kernel does not tell (before 6.3) there is no entry.
    features: BTreeMap<u32, u64>,
    reported: BTreeMap<u32, Link>,
}

impl Links {
    /// Takes in a device; true when it is new or something changed.
    pub fn insert(&mut self, device: Device, inputs: &mut Vec<Input>) -> bool {
        let ifindex = device.ifindex;
        let changed = self.devices.get(&ifindex) != Some(&device);
        self.devices.insert(ifindex, device);
        self.report(ifindex, inputs);
        changed
    }

    /// Takes in what a device does with XDP frames.
    pub fn set_features(&mut self, ifindex: u32, features: u64, inputs: &mut Vec<Input>) {
        self.features.insert(ifindex, features);
        self.report(ifindex, inputs);
    }

    /// Forgets a device; true when it was there.
    pub fn remove(&mut self, ifindex: u32, inputs: &mut Vec<Input>) -> bool {
        self.features.remove(&ifindex);
        if self.reported.remove(&ifindex).is_some() {
            inputs.push(Input::LinkGone(ifindex));
        }
        self.devices.remove(&ifindex).is_some()
    }

    /// The devices that are not in a dump.
    pub fn missing_from(&self, dump: &[Device]) -> Vec<u32> {
        let present: std::collections::HashSet<u32> =
            dump.iter().map(|device| device.ifindex).collect();
        let known = self.devices.keys().copied();
        known.filter(|ifindex| !present.contains(ifindex)).collect()
    }

    /// A device.
    pub fn get(&self, ifindex: u32) -> Option<&Device> {
        self.devices.get(&ifindex)
    }

    /// The veths of our namespace that are connected with this one as far as was known. The kernel
    /// does not tell when the other end moves to another namespace and back.
    pub fn ends_of(&self, ifindex: u32) -> Vec<u32> {
        let named = match self.devices.get(&ifindex).map(|device| &device.kind) {
            Some(Kind::Veth {
                peer,
                elsewhere: false,
            }) => *peer,
            _ => None,
        };
        let naming = self.devices.values().filter(|device| {
            matches!(device.kind, Kind::Veth { peer: Some(peer), elsewhere: false } if peer == ifindex)
        });
        let naming = naming.map(|device| device.ifindex);
        naming
            .chain(named)
            .filter(|end| *end != ifindex && self.devices.contains_key(end))
            .collect()
    }

    fn report(&mut self, ifindex: u32, inputs: &mut Vec<Input>) {
        let Some(device) = self.devices.get(&ifindex) else {
            return;
        };
        let features = self.features.get(&ifindex).copied().unwrap_or(0);
        let elsewhere = matches!(
            device.kind,
            Kind::Veth {
                elsewhere: true,
                ..
            }
        );
        let link = Link {
            ifindex,
            name: device.name.clone(),
            mac: device.mac,
            mtu: device.mtu,
            up: device.up,
            redirect_peer: elsewhere && !device.qdisc,
            redirect_xdp: features & NDO_XMIT != 0 && device.kind != Kind::Tun,
        };
        if self.reported.get(&ifindex) != Some(&link) {
            self.reported.insert(ifindex, link.clone());
            inputs.push(Input::Link(link));
        }
    }
}
