//! The core as a whole: inputs in, tables and announcements out.

mod add_path;
mod assisted;
mod churn;
mod commands;
mod constraint;
mod dhcp;
mod drain;
mod duplicate_ips;
mod duplicates;
mod encodings;
mod field_reports;
mod flooding;
mod graceful;
mod guard;
mod igp_cost;
mod learning;
mod local_as;
mod long_lived;
mod mobility;
mod neighbors;
mod ports;
mod probes;
mod recovery;
mod reflection;
mod restart;
mod rows;
mod sessions;
mod simulation;
mod underlay;
mod unsolicited;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use vtep_common::abi::{
    Adjacency, BdId, Event, EventKind, FdbFlags, FdbKey, FdbWord, FloodSpan, VtepEntry,
};

use super::{Command, CommandError, Core, Input, Link, Output, Start, State};
use crate::{
    bgp::{
        peer::{PeerEvent, Session},
        rib::Advertisement,
        wire::{Attributes, Family, Route, Update},
    },
    config::{
        AutoRt, AutoRtImport, BdConfig, BgpConfig, Config, DuplicateIpPolicy, DuplicatePolicy,
        OnStop, PeerAsn, PeerConfig, PortPattern, SourceCheck, UnderlayConfig, UnknownVni,
        VtepConfig, XdpMode,
    },
    evpn::Originator,
    recording::Turn,
    types::{
        Asn, BdName, Families, IfName, Mac, PeerId, RouteDistinguisher, RouteTarget, Vni,
        hash::HashSet,
    },
    view,
};

const US: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
const V1: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const V2: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 20);
const VNI: u32 = 10100;
const RR: PeerId = PeerId(0);
const TAP1: u32 = 11;
const TAP2: u32 = 12;

/// A core with what it did so far.
struct Fixture {
    core: Core,
    now: Instant,
    outputs: Vec<Output>,
    /// What was done with the core, if somebody wants to know.
    turns: Option<Vec<(Instant, Turn)>>,
}

impl Fixture {
    /// One bridge domain `blue` (VNI 10100) with ports tap1 and tap2, an established route reflector,
    /// and paths to V1 and V2 as soon as they are asked for.
    fn new() -> Self {
        Self::new_at(Instant::now())
    }

    fn new_at(now: Instant) -> Self {
        let mut fixture = Self::start_at(config(), State::default(), Start::default(), now);
        fixture.link(TAP1, "tap1");
        fixture.link(TAP2, "tap2");
        fixture.up(RR);
        fixture.outputs.clear();
        fixture
    }

    fn start(config: Config, state: State) -> Self {
        Self::start_with(config, state, Start::default())
    }

    fn start_with(config: Config, state: State, start: Start) -> Self {
        Self::start_at(config, state, start, Instant::now())
    }

    fn start_at(config: Config, state: State, start: Start, now: Instant) -> Self {
        let (core, outputs) = Core::new(config, state, start, now);
        Self {
            core,
            now,
            outputs,
            turns: None,
        }
    }

    fn handle(&mut self, input: Input) {
        self.note(|| Turn::Input(input.clone()));
        let outputs = self.core.handle(input, self.now);
        self.take(outputs);
    }

    fn command(&mut self, command: Command) -> Result<(), CommandError> {
        self.note(|| Turn::Command(command.clone()));
        let outputs = self.core.command(command, self.now)?;
        self.take(outputs);
        Ok(())
    }

    fn note(&mut self, turn: impl FnOnce() -> Turn) {
        if let Some(turns) = &mut self.turns {
            turns.push((self.now, turn()));
        }
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Track(address) = &output {
                let address = *address;
                self.outputs.push(output);
                self.handle(Input::Paths(address, vec![path()], 0));
            } else {
                self.outputs.push(output);
            }
        }
    }

    fn link(&mut self, ifindex: u32, name: &str) {
        self.handle(Input::Link(link(ifindex, name)));
    }

    fn up(&mut self, peer: PeerId) {
        self.handle(Input::Peer(peer, PeerEvent::Up(session(true))));
    }

    fn update(&mut self, update: Update) {
        self.handle(Input::Peer(RR, PeerEvent::Update(Box::new(update))));
    }

    fn announce(&mut self, (route, attributes): (Route, Attributes)) {
        self.update(Update {
            announced: vec![route],
            attributes: Some(Arc::new(attributes)),
            ..Update::default()
        });
    }

    fn withdraw(&mut self, route: &Route) {
        self.update(Update {
            withdrawn: vec![route.key()],
            ..Update::default()
        });
    }

    fn event(&mut self, ifindex: u32, kind: EventKind, mac: Mac, ip: Option<IpAddr>, flags: u8) {
        let port = self.core.ports.of_device(ifindex);
        let slot = *port.values().next().unwrap();
        let event = Event {
            kind: kind as u8,
            flags,
            slot: slot.0,
            bd: self.core.ports.get(slot).unwrap().bd,
            mac,
            ip: match ip {
                Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets(),
                Some(IpAddr::V6(ip)) => ip.octets(),
                None => [0; 16],
            },
            ..Event::default()
        };
        self.handle(Input::Event(event));
    }

    fn frame(&mut self, ifindex: u32, mac: Mac) {
        self.event(ifindex, EventKind::Mac, mac, None, 0);
    }

    fn arp(&mut self, ifindex: u32, mac: Mac, ip: &str) {
        self.event(ifindex, EventKind::Arp, mac, Some(ip.parse().unwrap()), 0);
    }

    /// What was sent to the route reflector since the last call.
    fn sent(&mut self) -> Advertisement {
        let mut all = Advertisement::default();
        self.outputs.retain(|output| {
            if let Output::Send(RR, advertisement) = output {
                all.withdraw.extend(advertisement.withdraw.iter().cloned());
                all.announce.extend(advertisement.announce.iter().cloned());
                all.end_of_rib |= advertisement.end_of_rib;
                all.refresh |= advertisement.refresh;
            }
            matches!(output, Output::Transmit(..))
        });
        all
    }

    /// Announced since the last call: (address, sequence) of RT-2s, in order.
    fn announced(&mut self) -> Vec<(Option<IpAddr>, u32)> {
        let mut found = Vec::new();
        for (attributes, routes) in self.sent().announce {
            let sequence = attributes.mac_mobility().map_or(0, |m| m.sequence);
            for route in routes {
                if let Route::MacIp(route) = route {
                    found.push((route.ip, sequence));
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn fdb(&self, mac: Mac) -> Option<FdbWord> {
        let key = FdbKey::new(self.bd(), mac);
        self.core.intent.fdb.get(key).copied()
    }

    /// The VTEP that a MAC is behind.
    fn vtep_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        let word = self.fdb(mac)?;
        if word.flags().has(FdbFlags::LOCAL) {
            return None;
        }
        let group = self.core.intent.groups.get(word.target())?;
        assert_eq!((group.bd, group.count), (word.bd(), 1));
        let vtep = self.vtep(group.members[0].vtep)?;
        Some(vtep)
    }

    fn vtep(&self, index: u32) -> Option<Ipv4Addr> {
        let entry: &VtepEntry = self.core.intent.vteps.get(index)?;
        Some(Ipv4Addr::from(entry.address.v4_be().to_ne_bytes()))
    }

    fn is_local(&self, mac: Mac) -> bool {
        self.fdb(mac)
            .is_some_and(|word| word.flags().has(FdbFlags::LOCAL))
    }

    fn bd(&self) -> BdId {
        self.core.names[&name("blue")]
    }

    /// The flood list of `blue` as the datapath reads it: ifindexes and VTEPs.
    fn flood(&self) -> (Vec<u32>, Vec<Ipv4Addr>) {
        let bd = self.bd();
        let entry = self.core.intent.bds.get(bd.0.into()).unwrap();
        let span = FloodSpan::from_bits(entry.flood);
        let member = |index| *self.core.intent.flood.get(index).unwrap();
        let ports = span.offset..span.offset + u32::from(span.ports);
        let vteps = ports.end..ports.end + u32::from(span.vteps);
        let ports = ports.map(|index| self.core.intent.ports.get(member(index).target).unwrap());
        let vteps = vteps.map(|index| {
            assert_eq!(member(index).vni, VNI);
            self.vtep(member(index).target).unwrap()
        });
        let mut ports: Vec<_> = ports.map(|port| port.ifindex).collect();
        let mut vteps: Vec<_> = vteps.collect();
        ports.sort_unstable();
        vteps.sort_unstable();
        (ports, vteps)
    }

    fn route(&self, route: &Route) -> view::Route {
        let key = route.key().to_string();
        let routes = self.core.routes(None, &HashSet::default()).unwrap();
        let is = |view: &&view::Route| view.key == key && view.peer.is_some();
        routes.iter().find(is).unwrap().clone()
    }

    fn reason(&self, route: &Route) -> String {
        let view = self.route(route);
        assert!(!view.installed);
        view.reason.unwrap()
    }

    /// What is to be gone on with at once.
    fn finish(&mut self) {
        while self.core.deadline().is_some_and(|due| due <= self.now) {
            self.handle(Input::Tick);
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.handle(Input::Tick);
    }
}

fn config() -> Config {
    Config {
        vtep: VtepConfig {
            addresses: vec![US],
            router_id: US,
            uplinks: Vec::new(),
            xdp: XdpMode::Auto,
            port: 4789,
            pin_dir: "pins".into(),
            state_dir: "state".into(),
            socket: "socket".into(),
            socket_group: None,
            metrics: None,
            on_stop: OnStop::Clean,
            drain_time: Duration::from_secs(10),
            unknown_vni: UnknownVni::Drop,
            source_check: SourceCheck::Loose,
            max_macs: 1000,
            duplicate: DuplicatePolicy::default(),
            duplicate_ip: DuplicateIpPolicy::default(),
        },
        bgp: BgpConfig {
            dynamic: Vec::new(),
            asn: Asn(65000),
            listen: true,
            auto_rt: AutoRt::As,
            auto_rt_import: AutoRtImport::AnyAs,
            arp_nd_flags: true,
            selection_deferral: Duration::from_secs(120),
            peers: vec![peer(100)],
        },
        underlay: UnderlayConfig::new(&[US]),
        bds: vec![blue()],
    }
}

fn blue() -> BdConfig {
    BdConfig {
        ports: vec![pattern("tap*", None)],
        ..BdConfig::new(name("blue"), vni(VNI))
    }
}

fn peer(host: u8) -> PeerConfig {
    let address = Ipv4Addr::new(198, 18, 0, host);
    PeerConfig::new(address.into(), PeerAsn::Internal)
}

fn session(internal: bool) -> Session {
    let address = Ipv4Addr::new(198, 18, 0, 100);
    let asn = Asn(if internal { 65000 } else { 65100 });
    Session::new(address.into(), asn, address, internal)
}

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.parse().unwrap(),
        mac: Mac([2, 0xff, 0, 0, 0, ifindex as u8]),
        mtu: 1500,
        up: true,
        redirect_peer: false,
        redirect_xdp: false,
    }
}

fn path() -> Adjacency {
    Adjacency {
        ifindex: 2,
        mtu: 1600,
        resolved: 1,
        ..Adjacency::default()
    }
}

fn pattern(pattern: &str, vlan: Option<u16>) -> PortPattern {
    PortPattern {
        pattern: pattern.to_owned(),
        vlan,
    }
}

fn name(name: &str) -> BdName {
    name.parse().unwrap()
}

fn device(name: &str) -> IfName {
    name.parse().unwrap()
}

fn vni(vni: u32) -> Vni {
    Vni::new(vni).unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

/// Another VTEP's routes for VNI 10100, as our own code makes them.
fn originator(vtep: Ipv4Addr) -> Originator {
    let rd = RouteDistinguisher::ipv4(vtep, 7);
    Originator::new(
        vtep,
        vni(VNI),
        rd,
        &[RouteTarget::auto(Asn(65000), vni(VNI))],
    )
}

/// An RT-2 of another VTEP.
fn rt2(vtep: Ipv4Addr, mac: Mac, ip: Option<&str>, sequence: u32) -> (Route, Attributes) {
    let mobility = crate::bgp::wire::MacMobility {
        sequence,
        sticky: false,
    };
    rt2_with(vtep, mac, ip, mobility)
}

fn rt2_with(
    vtep: Ipv4Addr,
    mac: Mac,
    ip: Option<&str>,
    mobility: crate::bgp::wire::MacMobility,
) -> (Route, Attributes) {
    let binding = ip.map(|ip| {
        let flags = crate::bgp::wire::ArpNd {
            override_: true,
            ..Default::default()
        };
        (ip.parse().unwrap(), flags)
    });
    let (route, attributes) = originator(vtep).mac_ip(mac, mobility, binding);
    (route, Attributes::clone(&attributes))
}

/// An RT-3 of another VTEP.
fn rt3(vtep: Ipv4Addr) -> (Route, Attributes) {
    let (route, attributes) = originator(vtep).imet();
    (route, Attributes::clone(&attributes))
}
