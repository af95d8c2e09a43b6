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
            redirect_xdp: features & NDO_XMIT != 0 && device.kind != Kind::Tun && !device.qdisc,
        };
        if self.reported.get(&ifindex) != Some(&link) {
            self.reported.insert(ifindex, link.clone());
            inputs.push(Input::Link(link));
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::{
        AddressFamily,
        link::{
            InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkHeader, LinkInfo,
            LinkLayerType, LinkMessage, State, VlanProtocol,
        },
    };

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// An `RTM_NEWLINK` of `port` with index 7, encoded by another implementation.
    fn newlink(family: AddressFamily, flags: LinkFlags, more: Vec<LinkAttribute>) -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header = LinkHeader {
            interface_family: family,
            index: 7,
            link_layer_type: LinkLayerType::Ether,
            flags,
            ..LinkHeader::default()
        };
        message.attributes = vec![
            LinkAttribute::IfName("port".to_owned()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(MAC.to_vec()),
        ];
        message.attributes.extend(more);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn read(body: &[u8]) -> Option<Device> {
        decode(&message(libc::RTM_NEWLINK, body))
    }

    fn message(kind: u16, body: &[u8]) -> Message<'_> {
        Message {
            kind,
            flags: 0,
            sequence: 0,
            body,
        }
    }

    fn running() -> LinkFlags {
        LinkFlags::Up | LinkFlags::LowerUp
    }

    fn info(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        LinkAttribute::LinkInfo(info)
    }

    fn device(kind: Kind) -> Device {
        Device {
            ifindex: 7,
            name: "port".parse().unwrap(),
            mac: Mac(MAC),
            mtu: 1500,
            up: true,
            ethernet: true,
            qdisc: false,
            kind,
        }
    }

    fn with_index(ifindex: u32, kind: Kind) -> Device {
        Device {
            ifindex,
            ..device(kind)
        }
    }

    /// The last report about a device.
    fn last(inputs: &[Input]) -> Link {
        match inputs.last() {
            Some(Input::Link(link)) => link.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_device() {
        let body = newlink(AddressFamily::Unspec, running(), vec![]);
        assert_eq!(read(&body), Some(device(Kind::Other)));
    }

    #[test]
    fn up_needs_carrier_and_operational_state() {
        for (flags, state, up) in [
            (running(), State::Up, true),
            (running(), State::Unknown, true),
            (running(), State::Dormant, false), // 802.1X or LACP is not done
            (LinkFlags::Up, State::Down, false),
            (LinkFlags::LowerUp, State::Down, false),
        ] {
            let body = newlink(
                AddressFamily::Unspec,
                flags,
                vec![LinkAttribute::OperState(state)],
            );
            assert_eq!(read(&body).unwrap().up, up, "{flags:?} {state:?}");
        }
    }

    #[test]
    fn veth_ends() {
        let near = vec![LinkAttribute::Link(8), info(InfoKind::Veth, None)];
        let peer = Some(8);
        let kind = Kind::Veth {
            peer,
            elsewhere: false,
        };
        let body = newlink(AddressFamily::Unspec, running(), near.clone());
        assert_eq!(read(&body), Some(device(kind)));

        let mut far = near;
        far.push(LinkAttribute::LinkNetNsId(0));
        let kind = Kind::Veth {
            peer,
            elsewhere: true,
        };
        let body = newlink(AddressFamily::Unspec, running(), far);
        assert_eq!(read(&body), Some(device(kind)));
    }

    #[test]
    fn vlan_parent_and_id() {
        let attributes = |protocol| {
            let data = vec![InfoVlan::Protocol(protocol), InfoVlan::Id(101)];
            vec![
                LinkAttribute::Link(2),
                info(InfoKind::Vlan, Some(InfoData::Vlan(data))),
            ]
        };
        let body = newlink(
            AddressFamily::Unspec,
            running(),
            attributes(VlanProtocol::Ieee8021Q),
        );
        let kind = Kind::Vlan { parent: 2, id: 101 };
        assert_eq!(read(&body), Some(device(kind)));
        // The datapath writes no 802.1ad tag: the device itself is to be used.
        let body = newlink(
            AddressFamily::Unspec,
            running(),
            attributes(VlanProtocol::Ieee8021Ad),
        );
        assert_eq!(read(&body), Some(device(Kind::Other)));
    }

    #[test]
    fn root_qdisc() {
        for (name, expected) in [
            ("noqueue", false),
            ("noop", false),
            ("tbf", true),
            ("mq", true),
        ] {
            let body = newlink(
                AddressFamily::Unspec,
                running(),
                vec![LinkAttribute::Qdisc(name.to_owned())],
            );
            assert_eq!(read(&body).unwrap().qdisc, expected, "{name}");
        }
    }

    #[test]
    fn bridge_port_messages_are_not_about_devices() {
        let body = newlink(AddressFamily::Bridge, running(), vec![]);
        assert_eq!(read(&body), None);
        assert_eq!(decode_gone(&message(libc::RTM_DELLINK, &body)), None);
        let body = newlink(AddressFamily::Unspec, running(), vec![]);
        assert_eq!(decode_gone(&message(libc::RTM_DELLINK, &body)), Some(7));
    }

    #[test]
    fn truncated_messages_are_no_device_or_a_part_of_one() {
        let body = newlink(AddressFamily::Unspec, running(), vec![]);
        for length in 0..body.len() {
            if let Some(part) = read(&body[..length]) {
                assert_eq!(part.name.as_str(), "port");
            }
        }
    }

    #[test]
    fn only_changes_are_reported() {
        let (mut links, mut inputs) = (Links::default(), Vec::new());
        assert!(links.insert(device(Kind::Other), &mut inputs));
        assert_eq!(inputs.len(), 1);
        assert!(!links.insert(device(Kind::Other), &mut inputs));
        links.set_features(7, 0x3, &mut inputs); // not NDO_XMIT
        assert_eq!(inputs.len(), 1);
        links.set_features(7, 0x7, &mut inputs);
        assert!(last(&inputs).redirect_xdp);
        assert!(links.remove(7, &mut inputs));
        assert!(matches!(inputs.last(), Some(Input::LinkGone(7))));
        assert!(!links.remove(7, &mut inputs));
        assert_eq!(inputs.len(), 3);
        // The index again, as another device: the features are not inherited.
        links.insert(device(Kind::Other), &mut inputs);
        assert!(!last(&inputs).redirect_xdp);
    }

    #[test]
    fn redirects() {
        let elsewhere = Kind::Veth {
            peer: Some(8),
            elsewhere: true,
        };
        let (mut links, mut inputs) = (Links::default(), Vec::new());
        links.insert(device(elsewhere.clone()), &mut inputs);
        assert!(last(&inputs).redirect_peer);
        let shaped = Device {
            qdisc: true,
            ..device(elsewhere)
        };
        links.insert(shaped, &mut inputs);
        assert!(!last(&inputs).redirect_peer);

        // A tap takes redirected frames, but GRO matters there.
        let (mut links, mut inputs) = (Links::default(), Vec::new());
        links.set_features(7, 0x7, &mut inputs);
        links.insert(device(Kind::Tun), &mut inputs);
        assert!(!last(&inputs).redirect_xdp);
    }

    #[test]
    fn both_ends_of_a_veth_are_found() {
        let veth = |peer, elsewhere| Kind::Veth {
            peer: Some(peer),
            elsewhere,
        };
        let (mut links, mut inputs) = (Links::default(), Vec::new());
        links.insert(with_index(7, veth(8, false)), &mut inputs);
        assert_eq!(links.ends_of(8), [7], "8 goes: 7 names it");
        // 8 comes back; 7 still says that it is elsewhere.
        links.insert(with_index(7, veth(8, true)), &mut inputs);
        links.insert(with_index(8, veth(7, false)), &mut inputs);
        assert_eq!(links.ends_of(8), [7]);
        assert_eq!(links.ends_of(9), [] as [u32; 0]);
    }
}
