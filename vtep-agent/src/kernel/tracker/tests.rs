use std::{collections::HashMap, io};

use super::*;
use crate::kernel::routes::NextHop;

/// A kernel that counts what it is asked.
#[derive(Default)]
struct Fake {
    routes: HashMap<IpAddr, Route>,
    neighbours: HashMap<NeighbourKey, Neighbour>,
    lookups: usize,
    reads: usize,
    managed: Vec<NeighbourKey>,
    released: Vec<NeighbourKey>,
    refuses: bool,
}

impl Kernel for Fake {
    fn route(&mut self, vtep: IpAddr) -> Result<Route, RequestError> {
        self.lookups += 1;
        Ok(self.routes.get(&vtep).cloned().unwrap_or_default())
    }

    fn neighbour(&mut self, key: NeighbourKey) -> Result<Option<Neighbour>, RequestError> {
        self.reads += 1;
        Ok(self.neighbours.get(&key).copied())
    }

    fn manage(&mut self, key: NeighbourKey) -> Result<(), RequestError> {
        if self.refuses {
            let error = io::Error::from_raw_os_error(libc::EPERM);
            return Err(RequestError::Refused(error));
        }
        self.managed.push(key);
        Ok(())
    }

    fn release(&mut self, key: NeighbourKey) -> Result<(), RequestError> {
        self.released.push(key);
        Ok(())
    }
}

/// A tracker, the devices 1 to 8 that are up, and a kernel.
struct Rig {
    tracker: Tracker,
    links: Links,
    kernel: Fake,
}

impl Rig {
    fn new() -> Self {
        let mut rig = Self {
            tracker: Tracker::default(),
            links: Links::default(),
            kernel: Fake::default(),
        };
        for ifindex in 1..=8 {
            rig.links.insert(device(ifindex), &mut Vec::new());
        }
        rig
    }

    /// Sets the route to a VTEP.
    fn route(&mut self, vtep: &str, hops: &[(u32, Option<&str>)]) {
        let next_hops = hops.iter().map(|(ifindex, gateway)| NextHop {
            ifindex: *ifindex,
            gateway: gateway.map(addr),
        });
        let route = Route {
            mtu: None,
            metric: 0,
            next_hops: next_hops.collect(),
        };
        self.kernel.routes.insert(addr(vtep), route);
    }

    /// Changes a device.
    fn device(&mut self, changed: Device) {
        let ifindex = changed.ifindex;
        if self.links.insert(changed, &mut Vec::new()) {
            self.tracker.device_changed(ifindex);
        }
    }

    /// The kernel has resolved a neighbour and says so.
    fn resolve(&mut self, key: NeighbourKey, neighbour: Neighbour) {
        self.kernel.neighbours.insert(key, neighbour);
        self.tracker.neighbour_changed(key, Some(neighbour));
    }

    /// Runs to the end: the reported paths in short form, (device, last byte of the MAC or 0).
    fn run(&mut self) -> Vec<(String, Vec<(u32, u8)>)> {
        let reported = self.run_in_full();
        let short = |paths: Vec<Adjacency>| {
            let paths = paths.iter();
            paths
                .map(|path| (path.ifindex, path.destination.0[5]))
                .collect()
        };
        reported
            .into_iter()
            .map(|(vtep, paths, _)| (vtep.to_string(), short(paths)))
            .collect()
    }

    fn run_in_full(&mut self) -> Vec<(IpAddr, Vec<Adjacency>, u32)> {
        let mut reported = Vec::new();
        while self.tracker.is_pending() {
            let inputs = self
                .tracker
                .run(&self.links, &mut self.kernel, 100)
                .unwrap();
            for input in inputs {
                match input {
                    Input::Paths(vtep, paths, metric) => reported.push((vtep, paths, metric)),
                    other => panic!("{other:?}"),
                }
            }
        }
        reported
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(ifindex: u32, address: &str) -> NeighbourKey {
    NeighbourKey {
        ifindex,
        address: addr(address),
    }
}

fn device(ifindex: u32) -> Device {
    Device {
        ifindex,
        name: format!("eth{ifindex}").parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 1, ifindex as u8]),
        mtu: 1500,
        up: true,
        ethernet: true,
        qdisc: false,
        kind: Kind::Other,
    }
}

fn ours(last: u8) -> Neighbour {
    Neighbour {
        mac: Some(Mac([2, 0, 0, 0, 0, last])),
        managed: true,
        ours: true,
        foreign: false,
    }
}

#[test]
fn unresolved_first_then_resolved_then_nothing_new() {
    let mut rig = Rig::new();
    rig.route("192.0.2.1", &[(1, None)]);
    rig.tracker.track(addr("192.0.2.1"));
    rig.tracker.track(addr("192.0.2.1"));
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![(1, 0)])]);
    assert_eq!(rig.kernel.managed, [key(1, "192.0.2.1")]);
    rig.resolve(key(1, "192.0.2.1"), ours(9));
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![(1, 9)])]);
    rig.resolve(key(1, "192.0.2.1"), ours(9)); // REACHABLE to STALE
    assert_eq!(rig.run(), []);
    assert_eq!(rig.kernel.managed.len(), 1);
}

#[test]
fn unreachable_is_reported_too() {
    let mut rig = Rig::new();
    rig.tracker.track(addr("192.0.2.1"));
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![])]);
    rig.tracker.routing_changed();
    assert_eq!(rig.run(), []);
}

#[test]
fn a_neighbour_event_costs_no_system_call_per_vtep() {
    let mut rig = Rig::new();
    for i in 0..1000u32 {
        let vtep = IpAddr::from((0x0a00_0000 + i).to_be_bytes());
        rig.route(&vtep.to_string(), &[(1, Some("192.0.2.1"))]);
        rig.tracker.track(vtep);
    }
    assert_eq!(rig.run().len(), 1000);
    assert_eq!((rig.kernel.lookups, rig.kernel.reads), (1000, 1));
    rig.resolve(key(1, "192.0.2.1"), ours(9));
    assert_eq!(rig.run().len(), 1000);
    rig.resolve(key(2, "192.0.2.1"), ours(8)); // same address, other device
    assert_eq!(rig.run().len(), 0);
    assert_eq!((rig.kernel.lookups, rig.kernel.reads), (1000, 1));
    assert_eq!(rig.kernel.managed, [key(1, "192.0.2.1")]);
}

#[test]
fn a_route_event_concerns_the_vteps_inside() {
    let mut rig = Rig::new();
    for vtep in ["10.1.0.1", "10.1.255.255", "10.2.0.0", "2001:db8::1"] {
        rig.tracker.track(addr(vtep));
    }
    rig.run();
    for (prefix, affected) in [
        ("10.1.0.0/16", 2),
        ("10.2.0.0/32", 1),
        ("0.0.0.0/0", 3),
        ("::/0", 1),
        ("10.3.0.0/16", 0),
    ] {
        rig.kernel.lookups = 0;
        rig.tracker.route_changed(prefix.parse().unwrap());
        assert_eq!(rig.run(), []);
        assert_eq!(rig.kernel.lookups, affected, "{prefix}");
    }
}

#[test]
fn ecmp_is_stable_bounded_and_prefers_what_answers() {
    let mut rig = Rig::new();
    let hops: Vec<_> = (1..=6).rev().map(|ifindex| (ifindex, None)).collect();
    rig.route("192.0.2.1", &hops);
    rig.tracker.track(addr("192.0.2.1"));
    let four = vec![(1, 0), (2, 0), (3, 0), (4, 0)];
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), four)]);
    rig.resolve(key(6, "192.0.2.1"), ours(6));
    rig.resolve(key(2, "192.0.2.1"), ours(2));
    let two = vec![(2, 2), (6, 6)];
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), two)]);
}

#[test]
fn a_device_that_goes_down_takes_its_path_along() {
    let mut rig = Rig::new();
    rig.route("192.0.2.1", &[(1, None), (2, None)]);
    rig.tracker.track(addr("192.0.2.1"));
    rig.run();
    rig.resolve(key(1, "192.0.2.1"), ours(1));
    rig.resolve(key(2, "192.0.2.1"), ours(2));
    rig.run();
    let down = Device {
        up: false,
        ..device(1)
    };
    rig.device(down);
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![(2, 2)])]);
    assert!(
        rig.tracker.is_unsettled(),
        "the routes may not have followed yet"
    );
    rig.route("192.0.2.1", &[(3, None)]);
    rig.tracker.settle();
    rig.resolve(key(3, "192.0.2.1"), ours(3));
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![(3, 3)])]);
    assert!(!rig.tracker.is_unsettled());
}

#[test]
fn mtu_source_and_tag_of_a_path() {
    let mut rig = Rig::new();
    let vlan = Device {
        mtu: 1450,
        kind: Kind::Vlan { parent: 2, id: 10 },
        ..device(1)
    };
    rig.device(vlan.clone());
    rig.route("192.0.2.1", &[(1, None)]);
    rig.kernel.neighbours.insert(key(1, "192.0.2.1"), ours(9));
    rig.tracker.track(addr("192.0.2.1"));
    let expected = Adjacency {
        ifindex: 2,
        mtu: 1450,
        vlan: 10,
        destination: Mac([2, 0, 0, 0, 0, 9]),
        source: Mac([2, 0, 0, 0, 1, 1]),
        resolved: 1,
        reserved: 0,
    };
    assert_eq!(rig.run_in_full(), [(addr("192.0.2.1"), vec![expected], 0)]);

    rig.kernel.routes.get_mut(&addr("192.0.2.1")).unwrap().mtu = Some(1400);
    rig.tracker.route_changed("192.0.2.0/24".parse().unwrap());
    assert_eq!(rig.run_in_full()[0].1[0].mtu, 1400);
    rig.kernel.routes.get_mut(&addr("192.0.2.1")).unwrap().mtu = Some(65_536);
    rig.device(Device {
        mtu: 65_536,
        ..vlan
    });
    assert_eq!(rig.run_in_full()[0].1[0].mtu, 65_535);
}

/// RFC 4271 §9.1.2.2 e: what the decision compares.
#[test]
fn a_metric_is_reported_with_the_paths() {
    let mut rig = Rig::new();
    let vtep = addr("192.0.2.1");
    rig.route("192.0.2.1", &[(1, None)]);
    rig.tracker.track(vtep);
    let mut reported = |metric: Option<u32>| {
        match metric {
            Some(metric) => rig.kernel.routes.get_mut(&vtep).unwrap().metric = metric,
            None => drop(rig.kernel.routes.remove(&vtep)),
        }
        rig.tracker.route_changed("192.0.2.0/24".parse().unwrap());
        let found = rig.run_in_full().into_iter();
        found
            .map(|(_, paths, metric)| (paths.len(), metric))
            .collect::<Vec<_>>()
    };
    assert_eq!(reported(Some(20)), [(1, 20)]);
    assert_eq!(reported(Some(20)), []);
    assert_eq!(reported(Some(30)), [(1, 30)]);
    assert_eq!(reported(None), [(0, 0)]);
    assert_eq!(reported(None), []);
}

/// Whoever begins to need a VTEP that another one needs already hears of it, too.
#[test]
fn tracked_again_is_reported_again() {
    let mut rig = Rig::new();
    rig.route("192.0.2.1", &[(1, None)]);
    let expected = [("192.0.2.1".to_owned(), vec![(1, 0)])];
    for _ in 0..2 {
        rig.tracker.track(addr("192.0.2.1"));
        assert_eq!(rig.run(), expected);
    }
    assert_eq!(rig.kernel.lookups, 1);
}

#[test]
fn a_device_without_ethernet_is_no_way() {
    let mut rig = Rig::new();
    rig.device(Device {
        ethernet: false,
        ..device(1)
    });
    rig.route("192.0.2.1", &[(1, None)]);
    rig.tracker.track(addr("192.0.2.1"));
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![])]);
    assert_eq!(rig.kernel.managed, []);
}

#[test]
fn a_neighbour_that_was_there_is_taken_over_without_a_gap() {
    let mut rig = Rig::new();
    let kernels = Neighbour {
        managed: false,
        ours: false,
        ..ours(9)
    };
    rig.kernel.neighbours.insert(key(1, "192.0.2.1"), kernels);
    rig.route("192.0.2.1", &[(1, None)]);
    rig.tracker.track(addr("192.0.2.1"));
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![(1, 9)])]);
    assert_eq!(rig.kernel.managed, [key(1, "192.0.2.1")]);
}

#[test]
fn entries_of_others_are_neither_managed_nor_removed() {
    let mut rig = Rig::new();
    let foreign = Neighbour {
        managed: false,
        ours: false,
        foreign: true,
        ..ours(9)
    };
    rig.kernel.neighbours.insert(key(1, "192.0.2.1"), foreign);
    rig.route("192.0.2.1", &[(1, None)]);
    rig.tracker.track(addr("192.0.2.1"));
    rig.run();
    rig.tracker.untrack(addr("192.0.2.1"));
    rig.run();
    assert_eq!(
        (rig.kernel.managed.len(), rig.kernel.released.len()),
        (0, 0)
    );
}

#[test]
fn a_neighbour_is_released_with_its_last_user() {
    let mut rig = Rig::new();
    for vtep in ["10.0.0.1", "10.0.0.2"] {
        rig.route(vtep, &[(1, Some("192.0.2.1"))]);
        rig.tracker.track(addr(vtep));
    }
    rig.run();
    rig.resolve(key(1, "192.0.2.1"), ours(9));
    rig.tracker.untrack(addr("10.0.0.1"));
    rig.run();
    assert_eq!(rig.kernel.released, []);
    // Untracked and tracked again before anything was done: kept.
    rig.tracker.untrack(addr("10.0.0.2"));
    rig.tracker.track(addr("10.0.0.2"));
    assert_eq!(rig.run(), [("10.0.0.2".to_owned(), vec![(1, 9)])]);
    assert_eq!(rig.kernel.released, []);
    // The route moves to another gateway.
    rig.route("10.0.0.2", &[(2, Some("192.0.2.2"))]);
    rig.tracker.route_changed("10.0.0.0/8".parse().unwrap());
    rig.run();
    assert_eq!(rig.kernel.released, [key(1, "192.0.2.1")]);
}

#[test]
fn a_deleted_neighbour_is_made_again() {
    let mut rig = Rig::new();
    rig.route("192.0.2.1", &[(1, None)]);
    rig.tracker.track(addr("192.0.2.1"));
    rig.run();
    rig.resolve(key(1, "192.0.2.1"), ours(9));
    rig.run();
    rig.tracker.neighbour_changed(key(1, "192.0.2.1"), None);
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![(1, 0)])]);
    assert_eq!(rig.kernel.managed.len(), 2);
}

#[test]
fn a_refusal_is_no_failure() {
    let mut rig = Rig::new();
    rig.kernel.refuses = true;
    rig.route("192.0.2.1", &[(1, None)]);
    rig.tracker.track(addr("192.0.2.1"));
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![(1, 0)])]);
}

#[test]
fn after_lost_notifications_everything_is_read_again() {
    let mut rig = Rig::new();
    rig.route("192.0.2.1", &[(1, None)]);
    rig.tracker.track(addr("192.0.2.1"));
    rig.run();
    rig.kernel.neighbours.insert(key(1, "192.0.2.1"), ours(7));
    rig.tracker.forget();
    assert_eq!(rig.run(), [("192.0.2.1".to_owned(), vec![(1, 7)])]);
}
