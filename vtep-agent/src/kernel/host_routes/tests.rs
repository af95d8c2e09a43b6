use std::io;

use super::*;
use crate::{
    kernel::links::{Device, Kind},
    types::Mac,
};

/// A kernel with gateways 192.0.2.N on link N.
#[derive(Default)]
struct Fake {
    routes: BTreeMap<Key, Installed>,
    foreign: BTreeSet<Key>,
    connected: Vec<IpNet>,
    refuses: Option<i32>,
    writes: usize,
}

impl Fib for Fake {
    fn ours(&mut self) -> Result<Vec<(Key, Installed)>, RequestError> {
        match self.refuses {
            Some(errno) => Err(refused(errno)),
            None => Ok(self.routes.clone().into_iter().collect()),
        }
    }

    fn connected(&mut self) -> Result<Vec<IpNet>, RequestError> {
        Ok(self.connected.clone())
    }

    fn link_of(&mut self, address: IpAddr) -> Result<Option<u32>, RequestError> {
        Ok(match address {
            IpAddr::V4(address) if address.octets()[..3] == [192, 0, 2] => {
                Some(address.octets()[3].into())
            }
            _ => None,
        })
    }

    fn put(&mut self, key: Key, route: &Installed, replace: bool) -> Result<(), RequestError> {
        self.writes += 1;
        assert_eq!(replace, self.routes.contains_key(&key), "{key:?}");
        if let Some(errno) = self.refuses {
            return Err(refused(errno));
        }
        if self.foreign.contains(&key) {
            return Err(refused(libc::EEXIST));
        }
        self.routes.insert(key, route.clone());
        Ok(())
    }

    fn remove(&mut self, key: Key) -> Result<(), RequestError> {
        self.writes += 1;
        self.routes.remove(&key).expect("ours");
        Ok(())
    }
}

fn refused(errno: i32) -> RequestError {
    RequestError::Refused(io::Error::from_raw_os_error(errno))
}

struct Rig {
    routes: HostRoutes,
    links: Links,
    kernel: Fake,
    now: Instant,
}

impl Rig {
    /// Links 1 to 3 are up.
    fn new(kernel: Fake) -> Self {
        let mut rig = Self {
            routes: HostRoutes::default(),
            links: Links::default(),
            kernel,
            now: Instant::now(),
        };
        for ifindex in 1..=3 {
            rig.link(ifindex, true);
        }
        rig
    }

    fn link(&mut self, ifindex: u32, up: bool) {
        let device = Device {
            ifindex,
            name: format!("eth{ifindex}").parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, ifindex as u8]),
            mtu: 1500,
            up,
            ethernet: true,
            qdisc: false,
            kind: Kind::Other,
        };
        self.links.insert(device, &mut Vec::new());
        self.routes.disturb(self.now);
    }

    /// As often as there is something to do, or due within a second.
    fn run(&mut self) {
        self.now += Duration::from_secs(1);
        self.routes.run(&self.links, &mut self.kernel, self.now);
        while self.routes.is_pending() {
            self.routes.run(&self.links, &mut self.kernel, self.now);
        }
    }

    fn set(&mut self, text: &str, gateways: &[&str]) {
        let route = (!gateways.is_empty()).then(|| wanted(gateways));
        self.routes.set(prefix(text), route);
        self.run();
    }

    /// Links of the next hops of a route in the kernel.
    fn links_of(&self, text: &str) -> Vec<u32> {
        let route = self.kernel.routes.get(&key(text));
        let hops = route.map(|route| route.next_hops.iter().map(|hop| hop.ifindex));
        hops.into_iter().flatten().collect()
    }

    fn problem(&self, text: &str) -> &str {
        self.routes
            .problems()
            .get(&prefix(text))
            .map_or("", String::as_str)
    }
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn key(text: &str) -> Key {
    Key {
        prefix: prefix(text),
        table: 254,
        metric: 512,
    }
}

fn wanted(gateways: &[&str]) -> HostRoute {
    let next_hop = |gateway: &&str| HostNextHop {
        gateway: gateway.parse().unwrap(),
        interface: None,
    };
    HostRoute {
        table: 254,
        metric: 512,
        source: None,
        next_hops: gateways.iter().map(next_hop).collect(),
    }
}

fn left_over(links: &[u8]) -> Installed {
    let hop = |link: &u8| Hop {
        ifindex: (*link).into(),
        gateway: [192, 0, 2, *link].into(),
        onlink: false,
    };
    Installed {
        source: None,
        next_hops: links.iter().map(hop).collect(),
    }
}

const P: &str = "198.18.0.2/32";
const Q: &str = "198.18.0.3/32";

#[test]
fn add_replace_remove() {
    let mut rig = Rig::new(Fake::default());
    rig.set(P, &["192.0.2.1", "192.0.2.2"]);
    assert_eq!(rig.links_of(P), [1, 2]);
    rig.set(P, &["192.0.2.2"]);
    assert_eq!(rig.links_of(P), [2]);
    let writes = rig.kernel.writes;
    rig.set(P, &["192.0.2.2"]);
    assert_eq!(rig.kernel.writes, writes, "nothing changed");
    rig.set(P, &[]);
    assert!(rig.kernel.routes.is_empty());
    assert_eq!(rig.routes.counts(), HostRouteCounts::default());
}

/// What an earlier run left forwards on until everybody has said what there is, and is taken over
/// without a write where it is right.
#[test]
fn left_overs() {
    let mut kernel = Fake::default();
    kernel.routes.insert(key(P), left_over(&[1, 2]));
    kernel.routes.insert(key(Q), left_over(&[1]));
    let old_metric = Key {
        metric: 20,
        ..key(P)
    };
    kernel.routes.insert(old_metric, left_over(&[3]));
    let mut rig = Rig::new(kernel);
    rig.run();
    assert_eq!(rig.kernel.routes.len(), 3);
    rig.set(P, &["192.0.2.1", "192.0.2.2"]);
    assert_eq!(rig.kernel.writes, 1, "the other metric goes");
    assert_eq!(rig.kernel.routes.len(), 2);
    rig.routes.complete();
    rig.run();
    assert_eq!((rig.links_of(P), rig.links_of(Q)), (vec![1, 2], vec![]));
    rig.routes.release();
    rig.run();
    assert!(rig.kernel.routes.is_empty());
}

/// A link without carrier is left at once, whatever BGP still believes.
#[test]
fn links_come_and_go() {
    let mut rig = Rig::new(Fake::default());
    rig.set(P, &["192.0.2.1", "192.0.2.2"]);
    rig.link(1, false);
    rig.run();
    assert_eq!(rig.links_of(P), [2]);
    assert!(rig.problem(P).contains("down"));
    rig.link(2, false);
    rig.run();
    assert!(rig.links_of(P).is_empty());
    rig.link(1, true);
    rig.link(2, true);
    rig.run();
    assert_eq!(rig.links_of(P), [1, 2]);
    assert_eq!(rig.problem(P), "");
}

#[test]
fn somebody_removes_a_route() {
    let mut rig = Rig::new(Fake::default());
    rig.set(P, &["192.0.2.1"]);
    rig.kernel.routes.clear();
    rig.routes.disturb(rig.now);
    rig.run();
    assert_eq!(rig.links_of(P), [1]);
}

#[test]
fn refusals_are_tried_again() {
    let mut rig = Rig::new(Fake::default());
    rig.run();
    rig.kernel.refuses = Some(libc::EPERM);
    rig.set(P, &["192.0.2.1"]);
    assert!(rig.problem(P).contains("refuses"), "{}", rig.problem(P));
    let mut tries = 0;
    for _ in 0..120 {
        let before = rig.routes.counts().errors;
        rig.run();
        tries += rig.routes.counts().errors - before;
    }
    assert!((4..=12).contains(&tries), "{tries} times in two minutes");
    rig.kernel.refuses = None;
    for _ in 0..=MAX_RETRY.as_secs() {
        rig.run();
    }
    assert_eq!((rig.links_of(P), rig.problem(P)), (vec![1], ""));
}

/// Routes of others stay what they are.
#[test]
fn another_route_with_our_metric() {
    let mut kernel = Fake::default();
    kernel.foreign.insert(key(P));
    let mut rig = Rig::new(kernel);
    rig.set(P, &["192.0.2.1"]);
    assert!(rig.problem(P).contains("underlay.metric"));
    assert_eq!(rig.routes.counts().failed, 1);
}

#[test]
fn next_hops_and_prefixes_that_make_no_sense() {
    let mut kernel = Fake::default();
    kernel.connected.push(prefix("198.18.0.0/24"));
    let mut rig = Rig::new(kernel);
    rig.set(P, &["192.0.2.1"]);
    assert!(rig.problem(P).contains("an address in 198.18.0.0/24"));
    rig.set("198.18.0.0/16", &["192.0.2.1"]);
    assert_eq!(rig.links_of("198.18.0.0/16"), [1], "it is wider");
    rig.set("198.19.0.0/16", &["203.0.113.1", "192.0.2.1"]);
    assert_eq!(rig.links_of("198.19.0.0/16"), [1]);
    assert!(
        rig.problem("198.19.0.0/16")
            .contains("203.0.113.1 is on no link")
    );
    rig.set("198.20.0.0/16", &["fe80::1"]);
    assert!(
        rig.problem("198.20.0.0/16")
            .contains("fe80::1 is on no link")
    );
}

/// Without an answer at the start nothing is taken for left over, nor removed.
#[test]
fn the_first_reading_fails() {
    let mut kernel = Fake::default();
    kernel.routes.insert(key(Q), left_over(&[1]));
    kernel.refuses = Some(libc::EPERM);
    let mut rig = Rig::new(kernel);
    rig.run();
    rig.kernel.refuses = None;
    rig.run();
    rig.run();
    assert_eq!(rig.links_of(Q), [1]);
    rig.routes.complete();
    rig.run();
    assert!(rig.links_of(Q).is_empty());
}
