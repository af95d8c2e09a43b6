//! The control plane at the size of a large fabric: wire format in, map writes out. Prints what each
//! step took; the limits only catch work that grows with the tables instead of with the change.
//! A debug build takes a smaller fabric.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use vtep_agent::{
    bgp::{
        peer::{PeerEvent, Session},
        wire::{self, Advertisement, Context, MAX_LEN, Message, Route},
    },
    config::{
        AutoRt, AutoRtImport, BdConfig, BgpConfig, Config, DuplicateIpPolicy, DuplicatePolicy,
        OnStop, PeerAsn, PeerConfig, SourceCheck, UnderlayConfig, UnknownVni, VtepConfig, XdpMode,
    },
    core::{Command, Core, Input, Output, PIECE, Rows, Start, State},
    evpn::Originator,
    reconcile::{Entry, Key, Map, Reconciler, TableError, Tables},
    types::{Asn, Mac, PeerId, RouteDistinguisher, RouteTarget, Vni},
};
use vtep_common::abi::{Adjacency, FloodSpan};

const ASN: Asn = Asn(65000);
const US: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const REFLECTOR: PeerId = PeerId(0);
const VTEPS: u16 = 100;
/// All bridge domains, and those in which every VTEP has MACs.
const BDS: u32 = if cfg!(debug_assertions) { 400 } else { 4000 };
const BUSY_BDS: u32 = if cfg!(debug_assertions) { 40 } else { 400 };
const MACS: u8 = 5;
/// Updates of one route each.
const MOVES: u32 = if cfg!(debug_assertions) {
    10_000
} else {
    100_000
};

/// Maps without limits. What they hold, the reconciler knows.
#[derive(Default)]
struct Maps {
    writes: u64,
}

impl Tables for Maps {
    fn update(&mut self, _: Entry) -> Result<(), TableError> {
        self.writes += 1;
        Ok(())
    }

    fn delete(&mut self, _: Key) -> Result<(), TableError> {
        self.writes += 1;
        Ok(())
    }

    fn capacity(&self, _: Map) -> u32 {
        u32::MAX
    }
}

struct Agent {
    core: Core,
    reconciler: Reconciler,
    maps: Maps,
    now: Instant,
    context: Context,
    tracked: HashSet<IpAddr>,
}

impl Agent {
    fn new() -> Self {
        let now = Instant::now();
        let (core, _) = Core::new(config(), State::default(), Start::default(), now);
        Self {
            core,
            reconciler: Reconciler::new(),
            maps: Maps::default(),
            now,
            context: Context {
                four_octet_as: true,
                internal: true,
                peer_asn: ASN,
                ..Context::default()
            },
            tracked: HashSet::new(),
        }
    }

    fn handle(&mut self, input: Input) {
        for output in self.core.handle(input, self.now) {
            match output {
                Output::Track(address) => {
                    self.tracked.insert(address);
                    self.handle(Input::Paths(address, vec![path()], 0));
                }
                Output::Untrack(address) => {
                    self.tracked.remove(&address);
                }
                _ => {}
            }
        }
    }

    fn up(&mut self) {
        let address = Ipv4Addr::new(198, 18, 0, 100);
        let session = Session::new(address.into(), ASN, address, true);
        self.handle(Input::Peer(REFLECTOR, PeerEvent::Up(session)));
    }

    /// Takes in UPDATEs as the session does, and writes the maps after every 64 of them.
    fn receive(&mut self, stream: &[u8]) {
        let mut stream = BytesMut::from(stream);
        let mut taken = 0;
        while let Some(frame) = wire::next_frame(&mut stream, MAX_LEN).unwrap() {
            let decoded = wire::decode(&frame, &self.context).unwrap();
            assert!(decoded.faults.is_empty());
            let Message::Update(update) = decoded.message else {
                continue;
            };
            self.handle(Input::Peer(REFLECTOR, PeerEvent::Update(Box::new(update))));
            // As the main loop does before it waits.
            let _ = self.core.deadline();
            taken += 1;
            if taken % 64 == 0 {
                self.reconcile();
            }
        }
        self.reconcile();
        assert!(stream.is_empty());
    }

    fn reconcile(&mut self) {
        while self
            .reconciler
            .apply(self.core.intent_mut(), &mut self.maps, self.now)
            .pending
            > 0
        {}
    }

    fn written(&self, map: Map) -> usize {
        self.reconciler
            .entries()
            .find(|(other, _)| *other == map)
            .map_or(0, |(_, entries)| entries)
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
            source_check: SourceCheck::Strict,
            max_macs: 1 << 20,
            duplicate: DuplicatePolicy::default(),
            duplicate_ip: DuplicateIpPolicy::default(),
        },
        bgp: BgpConfig {
            dynamic: Vec::new(),
            asn: ASN,
            listen: true,
            auto_rt: AutoRt::As,
            auto_rt_import: AutoRtImport::AnyAs,
            arp_nd_flags: false,
            selection_deferral: Duration::from_secs(120),
            peers: vec![PeerConfig::new(
                Ipv4Addr::new(198, 18, 0, 100).into(),
                PeerAsn::Internal,
            )],
        },
        underlay: UnderlayConfig::new(&[US]),
        bds: (1..=BDS)
            .map(|n| BdConfig::new(format!("bd{n}").parse().unwrap(), vni(n)))
            .collect(),
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

fn vni(bd: u32) -> Vni {
    Vni::new(10_000 + bd).unwrap()
}

fn vtep(number: u16) -> Ipv4Addr {
    let [a, b] = number.to_be_bytes();
    Ipv4Addr::new(198, 19, a, b)
}

fn mac(vtep: u16, number: u8) -> Mac {
    let [a, b] = vtep.to_be_bytes();
    Mac([2, 0, a, b, 0, number])
}

fn originator(number: u16, bd: u32) -> Originator {
    let rd = RouteDistinguisher::ipv4(vtep(number), bd as u16);
    Originator::new(
        vtep(number),
        vni(bd),
        rd,
        &[RouteTarget::auto(ASN, vni(bd))],
    )
}

/// What the reflector sends: every VTEP's type 3 and type 2 routes, VTEP after VTEP.
fn table(context: &Context) -> Vec<u8> {
    let mut stream = Vec::new();
    for number in 1..=VTEPS {
        let mut advertisement = Advertisement::default();
        for bd in 1..=BUSY_BDS {
            let mut originator = originator(number, bd);
            let (imet, attributes) = originator.imet();
            advertisement.announce.push((attributes, vec![imet]));
            let (routes, mut attributes): (Vec<Route>, Vec<_>) = (1..=MACS)
                .map(|n| {
                    let ip = IpAddr::V4(Ipv4Addr::from(u32::from(number) << 8 | u32::from(n)));
                    originator.mac_ip(
                        mac(number, n),
                        Default::default(),
                        Some((ip, Default::default())),
                    )
                })
                .unzip();
            advertisement.announce.push((attributes.remove(0), routes));
        }
        encode(&advertisement, context, &mut stream);
    }
    stream
}

/// One MAC after the other moves to the next VTEP, each in an UPDATE of its own.
fn moves(context: &Context) -> Vec<u8> {
    let mut stream = Vec::new();
    for n in 0..MOVES {
        let (bd, number) = (1 + n % BUSY_BDS, 1 + (n / BUSY_BDS) as u16 % VTEPS);
        let mut originator = originator(number % VTEPS + 1, bd);
        let mobility = wire::MacMobility {
            sequence: 1,
            sticky: false,
        };
        let (route, attributes) = originator.mac_ip(
            mac(number, 1 + (n / BUSY_BDS / u32::from(VTEPS)) as u8),
            mobility,
            None,
        );
        let advertisement = Advertisement {
            announce: vec![(attributes, vec![route])],
            ..Advertisement::default()
        };
        encode(&advertisement, context, &mut stream);
    }
    stream
}

fn encode(advertisement: &Advertisement, context: &Context, stream: &mut Vec<u8>) {
    let mut messages = Vec::new();
    assert!(wire::encode_advertisement(advertisement, context, MAX_LEN, &mut messages).is_empty());
    for message in messages {
        stream.extend_from_slice(&message);
    }
}

/// Tells rows as the control socket does. The longest time that the core was kept from its work.
fn tell(agent: &Agent, mut rows: Rows) -> Duration {
    rows.sort();
    let mut longest = Duration::ZERO;
    while let Some(keys) = rows.take(PIECE) {
        let started = Instant::now();
        let piece = agent.core.piece(&keys, agent.now);
        assert!(serde_json::to_vec(&piece).unwrap().len() > keys.len());
        longest = longest.max(started.elapsed());
    }
    longest
}

/// Resident memory, MiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

#[test]
fn a_large_fabric() {
    let mut last = Instant::now();
    let started = last;
    let mut step = |what: &str| {
        println!("{what}: {:?}, {} MiB resident", last.elapsed(), resident());
        last = Instant::now();
    };
    let mut agent = Agent::new();
    agent.reconcile();
    step(&format!("{BDS} bridge domains"));
    let table = table(&agent.context);
    let moves = moves(&agent.context);
    step("(messages built)");

    let macs = BUSY_BDS as usize * usize::from(VTEPS) * usize::from(MACS);
    agent.up();
    agent.receive(&table);
    assert_eq!(agent.written(Map::Fdb), macs);
    assert_eq!(agent.tracked.len(), usize::from(VTEPS));
    step(&format!("{macs} type 2 routes of {VTEPS} VTEPs"));

    agent.receive(&moves);
    assert_eq!(agent.written(Map::Fdb), macs);
    step(&format!("{MOVES} moves, one in each UPDATE"));

    for _ in 0..10 {
        let _ = agent.core.bd_stats();
        let _ = agent.core.peer_routes(REFLECTOR);
    }
    step("10 scrapes of metrics");
    let routes = agent
        .core
        .route_rows(None, vtep_agent::types::hash::HashSet::default())
        .unwrap();
    assert!(routes.len() >= macs);
    step("show routes: keys");
    let longest = tell(&agent, routes);
    step(&format!("show routes: rows, at most {longest:?} at a time"));
    for number in 0..10 {
        let name = format!("more{number}").parse().unwrap();
        let config = BdConfig::new(name, Vni::new(100_000 + number).unwrap());
        let command = Command::AddBd(Box::new(config));
        agent.core.command(command, agent.now).unwrap();
    }
    step("10 bridge domains added");
    let _ = agent.core.bds(None).unwrap();
    let _ = agent.core.vteps(None).unwrap();
    step("show bds, vteps");
    let macs_of_bds = agent.core.mac_rows(None).unwrap();
    step("show macs: keys");
    let longest = tell(&agent, macs_of_bds);
    step(&format!("show macs: rows, at most {longest:?} at a time"));

    // The uplink fails and comes back: every path goes and returns, one by one.
    let tracked: Vec<_> = agent.tracked.iter().copied().collect();
    for address in &tracked {
        agent.handle(Input::Paths(*address, Vec::new(), 0));
    }
    agent.reconcile();
    for address in &tracked {
        agent.handle(Input::Paths(*address, vec![path()], 0));
    }
    agent.reconcile();
    step("all VTEPs unreachable and back");

    // The reflector restarts: all gone, and all back before anything freed may be used again.
    agent.handle(Input::Peer(REFLECTOR, PeerEvent::Down));
    while agent.core.deadline().is_some_and(|due| due <= agent.now) {
        agent.handle(Input::Tick);
    }
    agent.reconcile();
    assert_eq!(agent.written(Map::Fdb), 0);
    step("session down");
    agent.up();
    agent.receive(&table);
    assert_eq!(agent.written(Map::Fdb), macs);
    step("session up again");
    let spans = agent.core.intent_mut().bds.iter();
    let members = spans.map(|(_, bd)| usize::from(FloodSpan::from_bits(bd.flood).vteps));
    assert_eq!(
        members.sum::<usize>(),
        BUSY_BDS as usize * usize::from(VTEPS)
    );
    println!("{} map writes", agent.maps.writes);
    assert!(started.elapsed() < Duration::from_secs(300));
}
