//! Several VTEPs, joined by sessions that keep order each and not among each other, while MACs move:
//! when everything is delivered, all agree with the facts.

use std::collections::{BTreeMap, VecDeque};

use super::*;

const VTEPS: usize = 4;
const MACS: u8 = 6;
const SEEDS: u64 = 300;

struct Fabric {
    random: Random,
    nodes: Vec<Node>,
    /// Messages on their way, by (from, to).
    wires: BTreeMap<(usize, usize), VecDeque<Advertisement>>,
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

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, node as u8 + 1)
}

impl Fabric {
    fn new(seed: u64) -> Self {
        let nodes = (0..VTEPS).map(|node| {
            let mut config = config();
            config.vtep.addresses = vec![address(node)];
            config.vtep.router_id = address(node);
            config.bgp.peers.clear();
            let mut fixture = Fixture::start(config, State::default());
            fixture.link(TAP1, "tap1");
            fixture.link(TAP2, "tap2");
            Node {
                fixture,
                up: vec![false; VTEPS],
            }
        });
        let mut fabric = Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            nodes: nodes.collect(),
            wires: BTreeMap::new(),
            owners: BTreeMap::new(),
        };
        for a in 0..VTEPS {
            for b in a + 1..VTEPS {
                fabric.connect(a, b);
            }
        }
        fabric
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
            self.input(us, Input::Peer(PeerId(them as u32), PeerEvent::Down));
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        self.nodes[node].fixture.handle(input);
        self.collect(node);
    }

    fn collect(&mut self, node: usize) {
        let outputs = std::mem::take(&mut self.nodes[node].fixture.outputs);
        for output in outputs {
            if let Output::Send(PeerId(to), advertisement) = output {
                let wire = self.wires.entry((node, to as usize)).or_default();
                wire.push_back(advertisement);
            }
        }
    }

    /// Delivers the oldest message of a random wire. Whether there was one.
    fn deliver(&mut self) -> bool {
        let busy: Vec<_> = self
            .wires
            .iter()
            .filter(|(_, wire)| !wire.is_empty())
            .map(|(ends, _)| *ends)
            .collect();
        if busy.is_empty() {
            return false;
        }
        let (from, to) = busy[self.random.below(busy.len())];
        let message = self
            .wires
            .get_mut(&(from, to))
            .unwrap()
            .pop_front()
            .unwrap();
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
        let node = self.random.below(VTEPS);
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
            let others: Vec<_> = (0..VTEPS).filter(|o| *o != index).map(address).collect();
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

fn run(seed: u64) {
    let mut fabric = Fabric::new(seed);
    for _ in 0..60 {
        match fabric.random.below(12) {
            0..=2 => {
                let mac = mac(1 + fabric.random.below(MACS.into()) as u8);
                fabric.relocate(mac);
            }
            3 => {
                let (a, b) = (fabric.random.below(VTEPS), fabric.random.below(VTEPS));
                if a != b && fabric.nodes[a].up[b] {
                    fabric.disconnect(a, b);
                } else if a != b {
                    fabric.connect(a, b);
                }
            }
            _ => {
                fabric.deliver();
            }
        }
    }
    for a in 0..VTEPS {
        for b in a + 1..VTEPS {
            if !fabric.nodes[a].up[b] {
                fabric.connect(a, b);
            }
        }
    }
    fabric.settle();
    // Whoever lost a race while nobody listened speaks again, as VMs do.
    let macs: Vec<_> = fabric.owners.keys().copied().collect();
    for mac in macs {
        fabric.speak(mac);
    }
    fabric.settle();
    fabric.check(seed);
}

#[test]
fn everybody_converges_to_the_owner() {
    for seed in 1..=SEEDS {
        run(seed);
    }
}

/// Without session failures and with one mover at a time, nobody has to speak twice: MOB-014.
#[test]
fn mob_014_ping_pong() {
    for seed in 1..=20 {
        let mut fabric = Fabric::new(seed);
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
