//! Every kind of input, as it was.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use ipnet::IpNet;
use vtep_common::abi::{Adjacency, BdId, DhcpEvent, Event, FdbKey};

use super::{super::format, *};
use crate::{
    bgp::{
        peer::{LocalEnd, PeerEvent, Retention, Session},
        wire::{
            AsPath, AsSegment, Attributes, EthernetAd, EthernetSegment, ExtCommunity, Family,
            Identified, Imet, IpPrefix, MacIp, Membership, Origin, PathId, PmsiTunnel,
            RawAttribute, Route, TunnelType, Update,
        },
    },
    config::{BdConfig, PortPattern, XdpMode},
    core::{Command, DeclaredEndpoint, Input, Link},
    types::{
        Asn, Esi, EthernetTag, Families, LocalAs, Mac, PeerId, RouteDistinguisher, RouteTarget, Vni,
    },
};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 100));

/// What follows is to be complete: whoever adds a kind adds it here.
fn is_there(turn: &Turn) {
    match turn {
        Turn::DevicesRead | Turn::Shutdown => {}
        Turn::Input(input) => match input {
            Input::Peer(_, event) => match event {
                PeerEvent::Up(_)
                | PeerEvent::Down
                | PeerEvent::Restarting(_)
                | PeerEvent::Update(_)
                | PeerEvent::Refresh(_)
                | PeerEvent::RefreshBegin(_)
                | PeerEvent::RefreshEnd(_) => {}
            },
            Input::Updates(_)
            | Input::Link(_)
            | Input::LinkGone(_)
            | Input::Paths(..)
            | Input::Event(_)
            | Input::Dhcp(_)
            | Input::Idle(_)
            | Input::Recovered
            | Input::Tick => {}
        },
        Turn::Command(command) => match command {
            Command::Reload(_)
            | Command::Attach(..)
            | Command::Detach(_)
            | Command::AddBd(_)
            | Command::DeleteBd(_)
            | Command::AddPort { .. }
            | Command::DeletePort { .. }
            | Command::Drain(_)
            | Command::ClearDuplicates(_) => {}
        },
    }
}

pub(super) fn every_kind() -> Vec<Turn> {
    let peer = |event| Turn::Input(Input::Peer(PeerId(0), event));
    let inputs = [
        Input::Link(link(1, "eth0")),
        Input::Link(link(11, "tap1")),
        Input::Recovered,
    ];
    let mut turns: Vec<_> = inputs.into_iter().map(Turn::Input).collect();
    turns.push(Turn::DevicesRead);
    turns.push(peer(PeerEvent::Up(session())));
    turns.extend(
        updates()
            .into_iter()
            .map(|update| peer(PeerEvent::Update(Box::new(update)))),
    );
    let together = updates().into_iter();
    let together = together.map(|update| (PeerId(0), Box::new(update)));
    turns.push(Turn::Input(Input::Updates(together.collect())));
    let adjacency = Adjacency {
        ifindex: 1,
        mtu: 1500,
        destination: Mac([2, 0, 0, 0, 0, 1]),
        resolved: 1,
        ..Adjacency::default()
    };
    let event = Event {
        kind: 2,
        slot: 1,
        mac: Mac([2, 0, 0, 0, 0, 9]),
        ip: Ipv4Addr::new(10, 0, 0, 9).to_ipv6_mapped().octets(),
        ..Event::default()
    };
    let mut dhcp = DhcpEvent {
        event: Event { kind: 5, ..event },
        from: 3,
        length: 40,
        packet: [0; DhcpEvent::COPY],
    };
    dhcp.packet[..40].fill(0x45);
    let idle = vec![(
        FdbKey::new(BdId(1), Mac([2, 0, 0, 0, 0, 9])),
        Duration::from_millis(1500),
    )];
    let inputs = [
        Input::Paths(ADDRESS, vec![adjacency], 20),
        Input::Paths(ADDRESS, Vec::new(), 0),
        Input::Event(event),
        Input::Dhcp(Box::new(dhcp)),
        Input::Idle(idle),
        Input::Tick,
    ];
    turns.extend(inputs.map(Turn::Input));
    turns.extend(commands().map(Turn::Command));
    let events = [
        PeerEvent::Refresh(Family::EVPN),
        PeerEvent::RefreshBegin(Family::EVPN),
        PeerEvent::RefreshEnd(Family::EVPN),
        PeerEvent::Restarting(Retention {
            restart_time: Duration::from_secs(120),
            keep_stale: true,
            long_lived: Some(Duration::from_secs(7)),
        }),
        PeerEvent::Down,
    ];
    turns.extend(events.map(peer));
    turns.push(Turn::Input(Input::LinkGone(11)));
    turns.push(Turn::Shutdown);
    turns.iter().for_each(is_there);
    turns
}

fn commands() -> [Command; 12] {
    let name = || "red".parse().unwrap();
    let device = |name: &str| name.parse().unwrap();
    let bd = BdConfig {
        rd: Some(RouteDistinguisher([0, 1, 198, 18, 0, 1, 0, 9])),
        rt_export: Some(vec![RouteTarget([0, 2, 0, 1, 0, 0, 0, 9])]),
        rt_import: Some(vec![crate::types::ImportTarget::AnyAdmin(9)]),
        anycast: BTreeSet::from([ADDRESS]),
        ..BdConfig::new(name(), Vni::new(200).unwrap())
    };
    let port = PortPattern {
        pattern: "vnet1".to_owned(),
        vlan: Some(10),
    };
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let endpoint = DeclaredEndpoint {
        mac,
        ips: vec![Ipv4Addr::new(10, 0, 0, 7).into()],
        sticky: true,
    };
    [
        Command::Reload(Box::new(config("another"))),
        Command::Attach(device("eth1"), Some(XdpMode::Generic)),
        Command::Detach(device("eth1")),
        Command::AddBd(Box::new(bd)),
        Command::AddPort {
            bd: name(),
            port,
            endpoint: Some(endpoint),
        },
        Command::DeletePort {
            device: device("vnet1"),
            vlan: Some(10),
            mac: Some(mac),
        },
        Command::DeletePort {
            device: device("vnet1"),
            vlan: Some(10),
            mac: None,
        },
        Command::DeleteBd(name()),
        // Refused.
        Command::AddBd(Box::new(BdConfig::new(name(), Vni::new(100).unwrap()))),
        Command::ClearDuplicates(None),
        Command::ClearDuplicates(Some("blue".parse().unwrap())),
        Command::Drain(Some(Duration::from_secs(3))),
    ]
}

fn session() -> Session {
    Session {
        local_as: Some(LocalAs {
            asn: Asn(65001),
            replace: true,
        }),
        families: Families {
            ipv4: true,
            ..Families::EVPN
        },
        local: Some(LocalEnd {
            address: ADDRESS,
            interface: Some(4),
        }),
        graceful_restart: true,
        ..Session::new(ADDRESS, Asn(65000), Ipv4Addr::new(1, 1, 1, 1), true)
    }
}

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 1, ifindex as u8]),
        mtu: 1500,
        up: true,
        redirect_peer: true,
        redirect_xdp: false,
    }
}

/// Every attribute and every kind of route.
fn updates() -> Vec<Update> {
    let asns = || vec![Asn(65001), Asn(4_200_000_000)];
    let attributes = Arc::new(Attributes {
        origin: Origin::Incomplete,
        as_path: AsPath(vec![
            AsSegment::Sequence(asns()),
            AsSegment::Set(asns()),
            AsSegment::ConfedSequence(asns()),
            AsSegment::ConfedSet(asns()),
        ]),
        med: Some(1),
        local_pref: Some(200),
        originator_id: Some(Ipv4Addr::new(2, 2, 2, 2)),
        cluster_list: vec![Ipv4Addr::new(3, 3, 3, 3)],
        communities: vec![0xffff_0006],
        ext_communities: vec![
            RouteTarget([0, 2, 0xfd, 0xe8, 0, 0, 0, 100]).into(),
            ExtCommunity::encapsulation(crate::bgp::wire::Encapsulation::VXLAN),
        ],
        pmsi: Some(PmsiTunnel {
            flags: 0,
            tunnel_type: TunnelType::INGRESS_REPLICATION,
            label: 100,
            identifier: Bytes::from_static(&[198, 18, 0, 100]),
        }),
        other: vec![RawAttribute {
            flags: 0xc0,
            code: 200,
            value: Bytes::from_static(b"opaque"),
        }],
        ..Attributes::originated(ADDRESS)
    });
    let routes = routes();
    let keys = || routes.iter().map(Route::key).collect::<Vec<_>>();
    let prefix: IpNet = "203.0.113.0/24".parse().unwrap();
    let target = RouteTarget([0, 2, 0xfd, 0xe8, 0, 0, 0, 100]);
    let membership = Route::Membership(Membership::new(Asn(65000), target));
    let with_id = |route: &Route| (PathId(5), route.clone());
    vec![
        Update {
            announced: routes.clone(),
            attributes: Some(Arc::clone(&attributes)),
            withdrawn: keys(),
            ..Update::default()
        },
        Update {
            attributes: Some(Arc::clone(&attributes)),
            identified: Identified {
                announced: routes.iter().map(with_id).collect(),
                withdrawn: keys().into_iter().map(|key| (PathId(6), key)).collect(),
            },
            ..Update::default()
        },
        Update {
            classic: Some((Arc::clone(&attributes), vec![Route::Unicast(prefix)])),
            withdrawn: vec![Route::Unicast(prefix).key(), membership.key()],
            ..Update::default()
        },
        Update {
            announced: vec![membership],
            attributes: Some(attributes),
            ..Update::default()
        },
        Update {
            end_of_rib: Some(Family::EVPN),
            ..Update::default()
        },
    ]
}

fn routes() -> Vec<Route> {
    let rd = RouteDistinguisher([0, 1, 198, 18, 0, 100, 0, 1]);
    let (esi, tag) = (Esi([7; 10]), EthernetTag(3));
    let route = MacIp {
        rd,
        esi: Esi::ZERO,
        tag: EthernetTag::default(),
        mac: Mac([2, 0, 0, 0, 0, 5]),
        ip: None,
        label1: 100,
        label2: Some(5000),
    };
    vec![
        Route::EthernetAd(EthernetAd {
            rd,
            esi,
            tag,
            label: 9,
        }),
        Route::MacIp(route),
        Route::MacIp(MacIp {
            ip: Some("fd00::5".parse().unwrap()),
            ..route
        }),
        Route::Imet(Imet {
            rd,
            tag: EthernetTag::default(),
            originator: ADDRESS,
        }),
        Route::EthernetSegment(EthernetSegment {
            rd,
            esi,
            originator: ADDRESS,
        }),
        Route::IpPrefix(IpPrefix {
            rd,
            esi,
            tag,
            prefix: "2001:db8::/32".parse().unwrap(),
            gateway: Ipv4Addr::UNSPECIFIED.into(),
            label: 77,
        }),
        Route::Opaque {
            route_type: 11,
            value: Bytes::from_static(&[1, 2, 3]),
        },
    ]
}

#[test]
fn every_kind_of_turn_comes_back() {
    for turn in every_kind() {
        let record = format::Record::<(), _>::Turn(Duration::from_nanos(7), &turn);
        let content = format::encode(&record).unwrap();
        let read: format::Record = format::decode(&content).unwrap();
        let format::Record::Turn(at, read) = read else {
            panic!("{read:?}");
        };
        assert_eq!(at, Duration::from_nanos(7));
        assert_eq!(format!("{read:?}"), format!("{turn:?}"));
    }
}

/// The outputs of every turn are what they were, and the reload with another password is one.
#[test]
fn every_kind_of_turn_is_done_again() {
    let directory = TempDir::new().unwrap();
    let turns = every_kind();
    let path = record(directory.path(), &turns);
    let (steps, replay) = replay(&path);
    assert_eq!(steps.len(), 1 + turns.len());
    for (number, step) in (0..).zip(&steps) {
        assert!(
            step.found.is_some() && step.found == step.expected,
            "{step:?}"
        );
        assert!(!step.differs());
        assert_eq!(step.number, number);
        assert_eq!(step.at, Duration::from_secs(number));
    }
    assert_eq!(replay.end(), Some(Ok(super::super::End::Stopped)));
    let changed = steps.iter().any(|step| {
        matches!(&step.done, Ok(Ok(outputs)) if step.number > 0
            && outputs.iter().any(|output| matches!(output, crate::core::Output::Peers(_))))
    });
    assert!(changed, "nobody heard of the new password");
    let refused = |step: &Step| matches!(step.done, Ok(Err(_)));
    assert!(steps.iter().any(refused));
}

#[test]
fn no_secret_is_in_the_file() {
    let directory = TempDir::new().unwrap();
    let path = record(directory.path(), &every_kind());
    let content = fs::read(path).unwrap();
    let has = |text: &str| {
        content
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(has("blue"), "it is not compressed");
    for secret in [PASSWORD, AO_KEY, "another"] {
        assert!(!has(secret), "{secret}");
    }
}
