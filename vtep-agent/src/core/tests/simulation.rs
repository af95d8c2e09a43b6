//! Several VTEPs, joined by sessions that keep order each and not among each other, while MACs move:
//! when everything is delivered, all agree with the facts.

mod endurance;
mod replayed;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    env,
};

use vtep_common::{abi::PROBE_MAC, wire::arp};

use super::*;

/// Runs as many schedules as `SPECIFICATION.md` promises: `cargo test --release` and half an hour.
const LONG: &str = "VTEP_LONG_SIMULATION";

/// A fabric and what happens to it.
#[derive(Clone, Copy, Debug)]
struct Plan {
    vteps: usize,
    macs: usize,
    steps: usize,
    /// Whoever lost a race while nobody listened speaks again, as most VMs do. Otherwise they only
    /// answer, and moves are no reason to stop asking.
    talkative: bool,
}

const SMALL: Plan = Plan {
    vteps: 6,
    macs: 5,
    steps: 60,
    talkative: true,
};

const LARGE: Plan = Plan {
    vteps: 200,
    macs: 100,
    steps: 1000,
    talkative: true,
};

struct Fabric {
    plan: Plan,
    random: Random,
    nodes: Vec<Node>,
    /// Messages on their way, by (from, to).
    wires: HashMap<(usize, usize), VecDeque<Advertisement>>,
    /// Wires that have some.
    busy: Vec<(usize, usize)>,
    /// Where each MAC is, and how.
    owners: BTreeMap<Mac, (usize, u32)>,
}

struct Node {
    fixture: Fixture,
    /// Sessions, by the other node.
    up: Vec<bool>,
}

/// xorshift64*: good enough to mix schedules, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        value as usize % limit
    }
}

impl Plan {
    fn config(&self, node: usize) -> Config {
        let mut config = config();
        if !self.talkative {
            config.vtep.duplicate.moves = u32::MAX;
        }
        config.vtep.addresses = vec![address(node)];
        config.vtep.router_id = address(node);
        config.bgp.peers.clear();
        config
    }
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::from(0xc612_0001 + node as u32)
}

impl Fabric {
    fn new(plan: Plan, seed: u64) -> Self {
        let nodes = (0..plan.vteps).map(|node| {
            let mut fixture = Fixture::start(plan.config(node), State::default());
            fixture.link(TAP1, "tap1");
            fixture.link(TAP2, "tap2");
            Node {
                fixture,
                up: vec![false; plan.vteps],
            }
        });
        let mut fabric = Self {
            plan,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            nodes: nodes.collect(),
            wires: HashMap::new(),
            busy: Vec::new(),
            owners: BTreeMap::new(),
        };
        fabric.connect_all();
        fabric
    }

    fn connect_all(&mut self) {
        for a in 0..self.plan.vteps {
            for b in a + 1..self.plan.vteps {
                if !self.nodes[a].up[b] {
                    self.connect(a, b);
                }
            }
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        for (us, them) in [(a, b), (b, a)] {
            let id = address(them);
            let session = Session::new(id.into(), Asn(65000), id, true);
            self.nodes[us].up[them] = true;
            self.input(us, Input::Peer(PeerId(them as u32), PeerEvent::Up(session)));
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        for (us, them) in [(a, b), (b, a)] {
            self.nodes[us].up[them] = false;
            self.wires.remove(&(us, them));
            self.busy.retain(|wire| *wire != (us, them));
            self.input(us, Input::Peer(PeerId(them as u32), PeerEvent::Down));
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        self.nodes[node].fixture.handle(input);
        self.collect(node);
    }

    /// Puts on the wires what a node sends, and lets VMs answer what it asks.
    fn collect(&mut self, node: usize) {
        let mut answers = Vec::new();
        for output in std::mem::take(&mut self.nodes[node].fixture.outputs) {
            match output {
                Output::Send(PeerId(to), advertisement) => {
                    let ends = (node, to as usize);
                    let wire = self.wires.entry(ends).or_default();
                    if wire.is_empty() {
                        self.busy.push(ends);
                    }
                    wire.push_back(advertisement);
                }
                Output::Transmit(port, frame) => answers.extend(self.answer(node, port, &frame)),
                _ => {}
            }
        }
        for mac in answers {
            self.speak(mac);
        }
    }

    /// Who is behind that port and has the address that is asked for.
    fn answer(&self, node: usize, port: u32, frame: &[u8]) -> Option<Mac> {
        let question = arp::Message::parse(frame).unwrap();
        if question.sender_mac != PROBE_MAC.to_bits() {
            assert!(!question.is_question(), "gratuitous");
            return None;
        }
        let [_, _, _, last] = question.target_be.to_ne_bytes();
        let asked = mac(last);
        let here = self.owners.get(&asked) == Some(&(node, port));
        let heard = frame[..6] == asked.0 || frame[..6] == Mac::BROADCAST.0;
        (here && heard).then_some(asked)
    }

    /// Delivers the oldest message of a random wire. Whether there was one.
    fn deliver(&mut self) -> bool {
        if self.busy.is_empty() {
            return false;
        }
        let chosen = self.random.below(self.busy.len());
        let (from, to) = self.busy[chosen];
        let wire = self.wires.get_mut(&(from, to)).unwrap();
        let message = wire.pop_front().unwrap();
        if wire.is_empty() {
            self.busy.swap_remove(chosen);
        }
        let mut updates = vec![Update {
            withdrawn: message.withdraw,
            ..Update::default()
        }];
        updates.extend(
            message
                .announce
                .into_iter()
                .map(|(attributes, announced)| Update {
                    announced,
                    attributes: Some(attributes),
                    ..Update::default()
                }),
        );
        for update in updates {
            let event = PeerEvent::Update(Box::new(update));
            self.input(to, Input::Peer(PeerId(from as u32), event));
        }
        true
    }

    /// The MAC turns up on a random port of a random node and says who it is.
    fn relocate(&mut self, mac: Mac) {
        let node = self.random.below(self.plan.vteps);
        let port = [TAP1, TAP2][self.random.below(2)];
        self.owners.insert(mac, (node, port));
        self.speak(mac);
    }

    fn speak(&mut self, mac: Mac) {
        if let Some((node, port)) = self.owners.get(&mac).copied() {
            // As the datapath does: only what the FDB does not have there.
            let fixture = &mut self.nodes[node].fixture;
            fixture.frame(port, mac);
            fixture.arp(port, mac, &format!("10.0.0.{}", mac.0[5]));
            self.collect(node);
        }
    }

    fn settle(&mut self) {
        while self.deliver() {}
    }

    /// A second passes everywhere.
    fn second(&mut self) {
        for node in 0..self.nodes.len() {
            self.nodes[node].fixture.advance(Duration::from_secs(1));
            self.collect(node);
        }
    }

    fn check(&self, seed: u64) {
        for (index, node) in self.nodes.iter().enumerate() {
            let fixture = &node.fixture;
            for (mac, (owner, port)) in &self.owners {
                if *owner == index {
                    assert!(
                        fixture.is_local(*mac),
                        "seed {seed}: {mac} at its owner {index}"
                    );
                    let slot = fixture.fdb(*mac).unwrap().target();
                    let entry = fixture.core.intent.ports.get(slot).unwrap();
                    assert_eq!(entry.ifindex, *port, "seed {seed}: {mac} at {index}");
                } else {
                    let at = fixture.vtep_of(*mac);
                    assert_eq!(at, Some(address(*owner)), "seed {seed}: {mac} at {index}");
                }
            }
            assert_eq!(
                fixture.core.intent.fdb.len(),
                self.owners.len(),
                "seed {seed}"
            );
            assert_eq!(
                fixture.core.intent.arp.len(),
                self.owners.len(),
                "seed {seed}"
            );
            let others = (0..self.plan.vteps).filter(|o| *o != index);
            let others: Vec<_> = others.map(address).collect();
            assert_eq!(
                fixture.flood(),
                (vec![TAP1, TAP2], others),
                "seed {seed}: {index}"
            );
            let own = 1 + 2 * self.owners.values().filter(|(o, _)| *o == index).count();
            assert_eq!(
                fixture.core.adj_out.routes().count(),
                own,
                "seed {seed}: {index}"
            );
        }
    }
}

/// Moves, lost sessions, and messages that arrive.
fn churn(fabric: &mut Fabric, steps: usize) {
    let plan = fabric.plan;
    for _ in 0..steps {
        match fabric.random.below(24) {
            0..=5 => {
                let mac = mac(1 + fabric.random.below(plan.macs) as u8);
                fabric.relocate(mac);
            }
            6..=7 => {
                let a = fabric.random.below(plan.vteps);
                let b = fabric.random.below(plan.vteps);
                if a != b && fabric.nodes[a].up[b] {
                    fabric.disconnect(a, b);
                } else if a != b {
                    fabric.connect(a, b);
                }
            }
            8 => fabric.second(),
            _ => {
                // As many at a time as keep the wires from running full.
                for _ in 0..plan.vteps / 4 {
                    fabric.deliver();
                }
            }
        }
    }
}

fn run(plan: Plan, seed: u64) {
    let mut fabric = Fabric::new(plan, seed);
    churn(&mut fabric, plan.steps);
    fabric.connect_all();
    fabric.settle();
    if plan.talkative {
        let macs: Vec<_> = fabric.owners.keys().copied().collect();
        for mac in macs {
            fabric.speak(mac);
        }
        fabric.settle();
    }
    // Questions whose answers are not to come.
    for _ in 0..4 {
        fabric.second();
        fabric.settle();
    }
    fabric.check(seed);
}

fn is_long() -> bool {
    env::var_os(LONG).is_some()
}

/// Random moves, lost sessions and any order of messages: in the end everybody has each MAC and its
/// address where it is, and nothing else. Seeds are named when it fails.
#[test]
fn everybody_converges_to_the_owner() {
    let seeds = if is_long() { 10_000 } else { 300 };
    for seed in 1..=seeds {
        run(SMALL, seed);
    }
    println!("{SMALL:?}: seeds 1 to {seeds}");
}

/// The same where VMs say nothing but what they send on arrival and what they are asked for (MOB-008,
/// MOB-009): a claim that won while its VM was elsewhere does not last.
#[test]
fn everybody_converges_to_a_silent_owner() {
    let seeds = if is_long() { 10_000 } else { 300 };
    let plan = Plan {
        talkative: false,
        ..SMALL
    };
    for seed in 1..=seeds {
        run(plan, seed);
    }
    println!("{plan:?}: seeds 1 to {seeds}");
}

/// The same in a large fabric; the short form has a fifth of the VTEPs.
#[test]
fn a_large_fabric_converges() {
    let (plan, seeds) = match is_long() {
        true => (LARGE, 20),
        false => {
            let vteps = LARGE.vteps / 5;
            let steps = LARGE.steps / 5;
            (
                Plan {
                    vteps,
                    steps,
                    ..LARGE
                },
                2,
            )
        }
    };
    for seed in 1..=seeds {
        run(plan, seed);
        println!("{plan:?}: seed {seed}");
    }
}

/// Without session failures and with one mover at a time, nobody has to speak twice: MOB-014.
#[test]
fn mob_014_ping_pong() {
    for seed in 1..=20 {
        let mut fabric = Fabric::new(Plan { vteps: 4, ..SMALL }, seed);
        fabric.settle();
        let mut last = None;
        for _ in 0..100 {
            fabric.relocate(mac(1));
            fabric.settle();
            fabric.check(seed);
            let (owner, _) = fabric.owners[&mac(1)];
            let macs = fabric.nodes[owner]
                .fixture
                .core
                .macs(None, Instant::now())
                .unwrap();
            assert!(last <= Some(macs[0].seq), "seed {seed}: sequence goes back");
            last = Some(macs[0].seq);
        }
    }
}
