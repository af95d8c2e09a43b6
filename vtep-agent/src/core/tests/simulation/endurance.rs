//! A day in the life of a fabric, an hour of it in every test run: whatever fails, comes and goes, an
//! hour later all is as it should be, and nothing has grown.

use std::{collections::BTreeSet, fs, io};

use super::*;
use crate::{
    intent::{Installed, Intent},
    reconcile::{Contents, Entry, Key, Map, Position, RETRY_MAX, Reconciler, TableError, Tables},
};

const PLAN: Plan = Plan {
    vteps: 4,
    macs: 30,
    steps: 0,
    talkative: true,
};

const HOUR: usize = 3600;

/// After the last fault of an hour: holds, questions, duplicates, ageing and quarantine are over.
const CALM: usize = 1200;

/// Ports by which VMs are reached.
const PORTS: [(u32, &str); 2] = [(TAP1, "tap1"), (TAP2, "tap2")];

/// A port of an operator's.
const VNET: (u32, &str) = (77, "vnet7");

/// What the reconciler writes to. It may refuse; a refused write may have been done all the same.
#[derive(Default)]
struct Maps {
    entries: HashMap<Key, Entry>,
    /// Of 100 operations so many fail.
    failing: usize,
    random: Option<Random>,
    failed: u64,
}

struct World {
    fabric: Fabric,
    datapaths: Vec<(Reconciler, Maps)>,
    /// Devices that are gone, by node.
    gone: BTreeSet<(usize, u32)>,
    /// What happened, by name.
    happened: BTreeMap<&'static str, u64>,
}

impl Maps {
    /// Whether an operation takes effect, and what is said of it.
    fn judge(&mut self) -> (bool, Result<(), TableError>) {
        let failing = self.failing;
        let mut random = self.random.as_mut();
        if random
            .as_mut()
            .is_none_or(|random| random.below(100) >= failing)
        {
            return (true, Ok(()));
        }
        self.failed += 1;
        let error = io::Error::from_raw_os_error(libc::ENOMEM);
        (self.failed.is_multiple_of(2), Err(error.into()))
    }

    /// What the next agent finds.
    fn intent(&self) -> Intent {
        macro_rules! table {
            ($map:ident) => {
                self.entries
                    .values()
                    .filter_map(|entry| match entry {
                        Entry::$map(key, value) => Some((*key, *value)),
                        _ => None,
                    })
                    .collect()
            };
        }
        Intent {
            settings: table!(Settings),
            vteps: table!(Vteps),
            groups: table!(Groups),
            ports: table!(Ports),
            flood: table!(Flood),
            bds: table!(Bds),
            fdb: table!(Fdb),
            arp: table!(Arp),
            nd: table!(Nd),
            sources: table!(Sources),
            guards: table!(Guards),
            port_index: table!(PortIndex),
            vnis: table!(Vnis),
            endpoints: table!(Endpoints),
            addresses: table!(Addresses),
        }
    }
}

impl Tables for Maps {
    fn update(&mut self, entry: Entry) -> Result<(), TableError> {
        let (done, said) = self.judge();
        if done {
            self.entries.insert(entry.key(), entry);
        }
        said
    }

    fn delete(&mut self, key: Key) -> Result<(), TableError> {
        let (done, said) = self.judge();
        if done {
            self.entries.remove(&key);
        }
        said
    }

    fn capacity(&self, _: Map) -> u32 {
        u32::MAX
    }
}

/// Of arrays, those that are not zero: whoever looks for others finds none.
impl Contents for Maps {
    fn read(
        &self,
        map: Map,
        _: Option<Position>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Option<Position>, TableError> {
        let of_map = |entry: &&Entry| entry.map() == map;
        self.entries.values().filter(of_map).copied().for_each(each);
        Ok(None)
    }
}

/// All that is wanted.
fn wanted(intent: &Intent) -> HashMap<Key, Entry> {
    macro_rules! entries {
        ($($table:ident $map:ident,)*) => {
            std::iter::empty()
                $(.chain(intent.$table.iter().map(|(key, value)| Entry::$map(key, *value))))*
        };
    }
    let entries = entries! {
        settings Settings, vteps Vteps, groups Groups, ports Ports, flood Flood, bds Bds, fdb Fdb,
        arp Arp, nd Nd, sources Sources, guards Guards, port_index PortIndex, vnis Vnis,
        endpoints Endpoints, addresses Addresses,
    };
    entries.map(|entry| (entry.key(), entry)).collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let datapath = |node: usize| {
            let maps = Maps {
                random: Some(Random(seed ^ (0x5eed << node) | 1)),
                ..Maps::default()
            };
            (Reconciler::new(), maps)
        };
        let mut world = Self {
            fabric: Fabric::new(PLAN, seed),
            datapaths: (0..PLAN.vteps).map(datapath).collect(),
            gone: BTreeSet::new(),
            happened: BTreeMap::new(),
        };
        for number in 1..=PLAN.macs {
            world.fabric.relocate(mac(number as u8));
            world.fabric.settle();
        }
        world
    }

    /// A second, in which one thing or another happens.
    fn second(&mut self) {
        for _ in 0..2 {
            let (name, happens): (_, fn(&mut Self)) = match self.below(200) {
                0..=59 => ("frame", Self::somebody_speaks),
                60..=63 => ("move", Self::somebody_moves),
                64..=69 => ("session", Self::session),
                70..=73 => ("port", Self::port),
                74..=78 => ("next hop", Self::next_hop),
                79..=80 => ("reload", Self::reload),
                81..=83 => ("command", Self::command),
                84..=85 => ("maps", Self::maps),
                86 => ("restart", Self::restart),
                _ => continue,
            };
            happens(self);
            *self.happened.entry(name).or_default() += 1;
        }
        for _ in 0..self.below(20) {
            self.fabric.deliver();
        }
        self.pass();
    }

    fn pass(&mut self) {
        self.fabric.second();
        self.write();
    }

    fn write(&mut self) {
        for (node, (reconciler, maps)) in self.fabric.nodes.iter_mut().zip(&mut self.datapaths) {
            let now = node.fixture.now;
            reconciler.apply(node.fixture.core.intent_mut(), maps, now);
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.fabric.random.below(limit)
    }

    fn node(&mut self) -> usize {
        self.below(PLAN.vteps)
    }

    fn speak(&mut self, mac: Mac) {
        let at = self.fabric.owners.get(&mac).copied();
        if at.is_some_and(|at| !self.gone.contains(&at)) {
            self.fabric.speak(mac);
        }
    }

    fn somebody_speaks(&mut self) {
        let number = 1 + self.below(PLAN.macs);
        self.speak(mac(number as u8));
    }

    fn somebody_moves(&mut self) {
        let mac = mac(1 + self.below(PLAN.macs) as u8);
        let (node, port) = (self.node(), self.below(PORTS.len()));
        self.fabric.owners.insert(mac, (node, PORTS[port].0));
        self.speak(mac);
    }

    fn session(&mut self) {
        let (a, b) = (self.node(), self.node());
        if a != b && self.fabric.nodes[a].up[b] {
            self.fabric.disconnect(a, b);
        } else if a != b {
            self.fabric.connect(a, b);
        }
    }

    /// A port goes, or all that are gone come back.
    fn port(&mut self) {
        let (node, port) = (self.node(), self.below(PORTS.len()));
        let (ifindex, _) = PORTS[port];
        if self.gone.len() < 3 && self.gone.insert((node, ifindex)) {
            self.fabric.input(node, Input::LinkGone(ifindex));
        } else {
            self.ports_come_back();
        }
    }

    fn ports_come_back(&mut self) {
        for (node, gone) in std::mem::take(&mut self.gone) {
            let name = PORTS.iter().find(|(ifindex, _)| *ifindex == gone);
            let (ifindex, name) = name.unwrap();
            self.fabric.input(node, Input::Link(link(*ifindex, name)));
        }
    }

    /// The underlay loses a VTEP, or finds it again.
    fn next_hop(&mut self) {
        let (node, other) = (self.node(), self.node());
        let paths = if self.below(2) == 0 {
            vec![]
        } else {
            vec![path()]
        };
        if node != other {
            let address = address(other).into();
            let metric = self.below(3) as u32;
            self.fabric
                .input(node, Input::Paths(address, paths, metric));
        }
    }

    fn reload(&mut self) {
        let node = self.node();
        let mut config = PLAN.config(node);
        let blue = &mut config.bds[0];
        blue.suppress = self.below(2) == 0;
        blue.ageing = [
            Some(Duration::from_secs(300)),
            Some(Duration::from_secs(60)),
            None,
        ][self.below(3)];
        if self.below(2) == 0 {
            let green = BdConfig::new(name("green"), vni(20_000));
            config.bds.push(BdConfig {
                ports: vec![pattern("green*", None)],
                ..green
            });
        }
        self.reload_with(node, config);
    }

    fn reload_with(&mut self, node: usize, config: Config) {
        let fixture = &mut self.fabric.nodes[node].fixture;
        fixture.command(Command::Reload(Box::new(config))).unwrap();
        self.fabric.collect(node);
    }

    /// An operator makes a bridge domain with an endpoint, or removes it.
    fn command(&mut self) {
        let node = self.node();
        let fixture = &mut self.fabric.nodes[node].fixture;
        if fixture.core.names.contains_key(&name("red")) {
            fixture.command(Command::DeleteBd(name("red"))).unwrap();
            fixture.handle(Input::LinkGone(VNET.0));
        } else {
            let red = BdConfig::new(name("red"), vni(30_000));
            fixture.command(Command::AddBd(Box::new(red))).unwrap();
            fixture.link(VNET.0, VNET.1);
            let endpoint = crate::core::DeclaredEndpoint {
                mac: mac(200),
                ips: vec![Ipv4Addr::new(10, 9, 9, node as u8).into()],
                sticky: false,
            };
            let add = Command::AddPort {
                bd: name("red"),
                port: pattern(VNET.1, None),
                endpoint: Some(endpoint),
            };
            fixture.command(add).unwrap();
        }
        self.fabric.collect(node);
    }

    /// The maps of a node begin to refuse, or cease to.
    fn maps(&mut self) {
        let (node, failing) = (self.node(), [0, 5, 50][self.below(3)]);
        self.datapaths[node].1.failing = failing;
    }

    /// An agent is killed, and the next one finds the maps, or it stops, and the next one finds nothing.
    fn restart(&mut self) {
        let node = self.node();
        for other in 0..PLAN.vteps {
            if self.fabric.nodes[node].up[other] {
                self.fabric.disconnect(node, other);
            }
        }
        let old = &self.fabric.nodes[node].fixture;
        let (now, state, config) = (old.now, old.core.state.clone(), old.core.config.clone());
        let (reconciler, maps) = &mut self.datapaths[node];
        *reconciler = Reconciler::new();
        let kept = self.fabric.random.below(3) > 0;
        let (core, outputs) = if kept {
            let mut installed = Installed {
                tables: maps.intent(),
                ..Installed::default()
            };
            let begun = Core::recover(config, state, &installed, now);
            reconciler.adopt(&mut installed.tables);
            begun
        } else {
            maps.entries.clear();
            Core::new(config, state, Start::default(), now)
        };
        let mut fixture = Fixture {
            core,
            now,
            outputs: Vec::new(),
            turns: None,
        };
        fixture.take(outputs);
        for (ifindex, name) in PORTS {
            if !self.gone.contains(&(node, ifindex)) {
                fixture.link(ifindex, name);
            }
        }
        if fixture.core.names.contains_key(&name("red")) {
            fixture.link(VNET.0, VNET.1);
        }
        fixture.core.devices_read();
        fixture.handle(Input::Recovered);
        self.fabric.nodes[node].fixture = fixture;
        self.fabric.collect(node);
    }

    /// Nothing fails any more, and everybody says where he is. Then all is as it should be.
    fn calm(&mut self, seed: u64) {
        self.ports_come_back();
        for node in 0..PLAN.vteps {
            for other in (0..PLAN.vteps).filter(|other| *other != node) {
                let address = address(other).into();
                self.fabric
                    .input(node, Input::Paths(address, vec![path()], 0));
            }
            self.datapaths[node].1.failing = 0;
            self.reload_with(node, PLAN.config(node));
            if self.fabric.nodes[node]
                .fixture
                .core
                .names
                .contains_key(&name("red"))
            {
                let fixture = &mut self.fabric.nodes[node].fixture;
                fixture.command(Command::DeleteBd(name("red"))).unwrap();
                fixture.handle(Input::LinkGone(VNET.0));
                self.fabric.collect(node);
            }
        }
        self.fabric.connect_all();
        self.fabric.settle();
        for second in 0..CALM {
            if second.is_multiple_of(120) {
                for number in 1..=PLAN.macs {
                    self.speak(mac(number as u8));
                    self.fabric.settle();
                }
            }
            self.pass();
            self.fabric.settle();
        }
        self.fabric.check(seed);
        self.audit();
    }

    /// The maps are what is wanted, and so an audit says.
    fn audit(&mut self) {
        for (node, (reconciler, maps)) in self.fabric.nodes.iter_mut().zip(&mut self.datapaths) {
            let fixture = &mut node.fixture;
            let now = fixture.now + RETRY_MAX;
            reconciler.apply(fixture.core.intent_mut(), maps, now);
            assert_eq!(
                reconciler.deadline(),
                None,
                "something is still to be written"
            );
            assert!(maps.entries == wanted(fixture.core.intent()));
            let before = reconciler.audits();
            while reconciler.audits() == before {
                reconciler.audit(maps, now);
            }
            assert_eq!(
                reconciler
                    .differences()
                    .map(|(_, count)| count)
                    .sum::<u64>(),
                0
            );
        }
    }

    /// Everything that the cores and the maps hold, as text without numbers, whose widths vary.
    fn size(&self) -> (usize, usize) {
        let cores = self.fabric.nodes.iter().map(|node| {
            let text = format!("{:?}", node.fixture.core);
            text.bytes().filter(|byte| !byte.is_ascii_digit()).count()
        });
        let entries = self.datapaths.iter().map(|(_, maps)| maps.entries.len());
        (cores.sum(), entries.sum())
    }
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn hours(hours: usize, seed: u64) {
    let mut world = World::new(seed);
    let mut sizes = Vec::new();
    for hour in 0..=hours {
        // At first nothing has happened yet.
        for _ in 0..if hour > 0 { HOUR - CALM } else { 0 } {
            world.second();
        }
        world.calm(seed);
        let size = world.size();
        println!(
            "hour {hour}: {} bytes as text, {} entries, {} MB resident",
            size.0,
            size.1,
            resident() >> 20
        );
        sizes.push(size);
    }
    let failed: u64 = world.datapaths.iter().map(|(_, maps)| maps.failed).sum();
    println!("seed {seed}: {:?}, {failed} failed writes", world.happened);
    assert!(
        failed > 100 && world.happened.len() == 9,
        "{:?}",
        world.happened
    );
    let entries = sizes.iter().all(|size| size.1 == sizes[0].1);
    assert!(entries, "entries in the maps: {sizes:?}");
    // What a table holds besides the load depends on what happened last: a few percent.
    let some = sizes.len().min(4) - 1;
    let mean = |sizes: &[(usize, usize)]| {
        let sum: usize = sizes.iter().map(|size| size.0).sum();
        sum / sizes.len()
    };
    let (first, last) = (mean(&sizes[..some]), mean(&sizes[sizes.len() - some..]));
    assert!(last <= first + first / 20, "{first} to {last}: {sizes:?}");
}

/// An hour each of different faults.
#[test]
fn an_hour_of_faults_leaves_nothing_behind() {
    let seeds = if is_long() { 100 } else { 2 };
    for seed in 1..=seeds {
        hours(1, seed);
    }
}

/// 24 hours at one load: memory at the end is what it was in the first hours.
#[test]
#[ignore = "takes minutes: cargo xtask chaos"]
fn a_day_of_faults_leaves_nothing_behind() {
    hours(24, 24);
}
