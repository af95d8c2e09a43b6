//! `vtep_agent::kernel` against the real kernel: each test has network namespaces of its own. Needs
//! root and iproute2, arping and ethtool.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says by a panic what is wrong, also in its helpers"
)]

use std::{
    collections::BTreeMap,
    future::Future,
    net::IpAddr,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use vtep_agent::{
    core::{Input, Link},
    kernel::{KernelError, Monitor, local_addresses, prepare_port},
    types::{IfName, Mac},
};
use vtep_common::abi::Adjacency;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn devices_come_change_and_go() {
    in_namespace(async || {
        let mut watch = Watch::start().await;
        ip("link add p0 type veth peer name q0");
        ip("link set p0 address 02:00:00:00:00:0a");
        ip("link set q0 up");
        watch.link("p0", |a| !a.up).await;
        ip("link set p0 up mtu 1400");
        let a = watch.link("p0", |a| a.up && a.mtu == 1400).await;
        assert_eq!(a.mac, mac("02:00:00:00:00:0a"));

        ip("link set q0 down");
        watch.link("p0", |a| !a.up).await; // no carrier
        ip("link set q0 up");
        watch.link("p0", |a| a.up).await;

        ip("link set p0 address 02:00:00:00:00:0b");
        watch
            .link("p0", |a| a.mac == mac("02:00:00:00:00:0b"))
            .await;

        ip("link set p0 down name p1");
        let c = watch.link("p1", |c| !c.up).await;
        assert_eq!(c.ifindex, a.ifindex);

        ip("link del p1");
        ip("link add p1 type veth peer name q0");
        let again = watch.link("p1", |again| again.ifindex != c.ifindex).await;
        assert!(!watch.links.contains_key(&c.ifindex), "{again:?}");
    });
}

#[test]
fn bridge_ports_are_not_mistaken_for_devices() {
    in_namespace(async || {
        let mut watch = Watch::start().await;
        ip("link add p0 type veth peer name q0");
        ip("link add br0 type bridge");
        ip("link set p0 master br0 up");
        let a = watch.link("p0", |_| true).await;
        // RTM_DELLINK with family AF_BRIDGE: the port is gone, the device is not.
        ip("link set p0 nomaster");
        ip("link set p0 mtu 1300");
        watch.link("p0", |a| a.mtu == 1300).await;
        assert!(!watch.gone.contains(&a.ifindex));
    });
}

#[test]
fn redirect_peer_needs_another_namespace_and_no_qdisc() {
    in_namespace(async || {
        let other = Namespace::new();
        let mut watch = Watch::start().await;
        ip("link add p0 type veth peer name q0");
        ip("link set p0 up");
        watch.link("p0", |a| !a.redirect_peer).await;
        ip(&format!("link set q0 netns {}", other.tid));
        watch.link("p0", |a| a.redirect_peer).await;
        other.ip("link set q0 up");
        watch.link("p0", |a| a.up && a.redirect_peer).await;

        tc("qdisc add dev p0 root tbf rate 1gbit burst 1mb latency 10ms");
        watch.link("p0", |a| !a.redirect_peer).await;
        tc("qdisc del dev p0 root");
        watch.link("p0", |a| a.redirect_peer).await;
        tc("qdisc add dev p0 clsact"); // shapes nothing

        other.ip(&format!("link set q0 netns {}", gettid()));
        watch.link("p0", |a| !a.redirect_peer).await;
    });
}

#[test]
fn redirect_xdp_follows_the_peers_gro() {
    in_namespace(async || {
        let other = Namespace::new();
        let mut watch = Watch::start().await;
        ip(&format!(
            "link add p0 type veth peer name q0 netns {}",
            other.tid
        ));
        ip("link set p0 up");
        other.ip("link set q0 up");
        watch.link("p0", |a| a.up && !a.redirect_xdp).await;
        other.run("ethtool", "-K q0 gro on");
        watch.link("p0", |a| a.redirect_xdp).await;
        // A fresh monitor sees it in its first dump.
        let mut fresh = Watch::start().await;
        fresh.link("p0", |a| a.redirect_xdp).await;
        other.run("ethtool", "-K q0 gro off");
        watch.link("p0", |a| !a.redirect_xdp).await;

        ip("tuntap add tap0 mode tap");
        ip("link set tap0 up");
        watch.link("tap0", |tap| !tap.redirect_xdp).await;
    });
}

#[test]
fn a_vtep_on_the_link_resolves_and_changes() {
    in_namespace(async || {
        let other = Namespace::new();
        uplink("p0", "198.18.0.1/24", &other, "q0", "198.18.0.2/24");
        other.ip("link set q0 address 02:00:00:00:00:02");
        let mut watch = Watch::start().await;
        let a = watch.link("p0", |a| a.up).await;
        let vtep = addr("198.18.0.2");
        watch.monitor.track(vtep);
        let paths = watch.paths(vtep, resolved).await;
        let expected = Adjacency {
            ifindex: a.ifindex,
            mtu: 1500,
            vlan: 0,
            destination: mac("02:00:00:00:00:02"),
            source: a.mac,
            resolved: 1,
            reserved: 0,
        };
        assert_eq!(paths, [expected]);
        assert!(
            neighbour("198.18.0.2").contains("managed"),
            "{}",
            neighbour("198.18.0.2")
        );

        other.ip("link set q0 address 02:00:00:00:00:03");
        other.run("arping", "-q -c 1 -A -I q0 198.18.0.2");
        watch
            .paths(vtep, |paths| {
                paths
                    .iter()
                    .any(|path| path.destination == mac("02:00:00:00:00:03"))
            })
            .await;

        ip("link set p0 mtu 1400");
        watch
            .paths(vtep, |paths| paths.iter().any(|path| path.mtu == 1400))
            .await;
        ip("link set p0 address 02:00:00:00:00:99");
        watch
            .paths(vtep, |paths| {
                paths
                    .iter()
                    .any(|path| path.source == mac("02:00:00:00:00:99"))
            })
            .await;
        ip("link set p0 down");
        watch.paths(vtep, <[_]>::is_empty).await;
        ip("link set p0 up");
        watch.paths(vtep, resolved).await;
        other.ip("link set q0 down"); // carrier
        watch.paths(vtep, <[_]>::is_empty).await;
        other.ip("link set q0 up");
        watch.paths(vtep, resolved).await;

        watch.monitor.untrack(vtep);
        watch.idle().await;
        assert_eq!(neighbour("198.18.0.2"), "");
    });
}

#[test]
fn a_vtep_that_does_not_answer_is_unresolved() {
    in_namespace(async || {
        let other = Namespace::new();
        uplink("p0", "198.18.0.1/24", &other, "q0", "198.18.0.2/24");
        let mut watch = Watch::start().await;
        let vtep = addr("198.18.0.77");
        watch.monitor.track(vtep);
        let paths = watch.paths(vtep, |paths| !paths.is_empty()).await;
        assert_eq!((paths[0].resolved, paths[0].destination), (0, Mac::ZERO));
        tokio::time::sleep(Duration::from_secs(4)).await; // FAILED by now
        other.ip("address add 198.18.0.77/24 dev q0");
        watch.paths(vtep, resolved).await;
    });
}

#[test]
fn routes_decide() {
    in_namespace(async || {
        let (one, two) = (Namespace::new(), Namespace::new());
        uplink("p0", "198.18.1.1/24", &one, "q0", "198.18.1.2/24");
        uplink("p1", "198.18.2.1/24", &two, "q1", "198.18.2.2/24");
        let mut watch = Watch::start().await;
        let a = watch.link("p0", |a| a.up).await.ifindex;
        let c = watch.link("p1", |c| c.up).await.ifindex;
        let via = |ifindex: u32| {
            move |paths: &[Adjacency]| {
                paths.len() == 1 && paths[0].ifindex == ifindex && resolved(paths)
            }
        };
        let vtep = addr("203.0.113.1");
        watch.monitor.track(vtep);
        watch.paths(vtep, <[_]>::is_empty).await; // no route

        ip("route add default via 198.18.2.2 mtu 1300");
        let paths = watch.paths(vtep, via(c)).await;
        assert_eq!(paths[0].mtu, 1300);
        ip("route add 203.0.113.0/24 via 198.18.1.2");
        watch.paths(vtep, via(a)).await;
        // The kernel removes this route without a word.
        ip("link set p0 down");
        watch.paths(vtep, via(c)).await;

        for kind in ["blackhole", "unreachable", "prohibit"] {
            ip(&format!("route add {kind} 203.0.113.1"));
            watch.paths(vtep, <[_]>::is_empty).await;
            ip(&format!("route del {kind} 203.0.113.1"));
            watch.paths(vtep, via(c)).await;
        }
        ip("rule add to 203.0.113.1 blackhole");
        watch.paths(vtep, <[_]>::is_empty).await;
        ip("rule del to 203.0.113.1");
        watch.paths(vtep, via(c)).await;
        ip("address add 203.0.113.1/32 dev lo"); // our own
        watch.paths(vtep, <[_]>::is_empty).await;
        assert!(local_addresses().unwrap().contains(&vtep));
        ip("address del 203.0.113.1/32 dev lo");
        watch.paths(vtep, via(c)).await;

        // RFC 8950 next hop: the gateway's family is another one.
        two.ip("address add fd00::2/64 dev q1 nodad");
        ip("address add fd00::1/64 dev p1 nodad");
        ip("route del default");
        watch.paths(vtep, <[_]>::is_empty).await;
        ip("route add 203.0.113.1/32 via inet6 fd00::2 dev p1");
        watch.paths(vtep, via(c)).await;
        let gateway = neighbour("fd00::2");
        assert!(gateway.contains("managed"), "{gateway}");
    });
}

#[test]
fn ecmp_has_every_next_hop() {
    in_namespace(async || {
        let (one, two) = (Namespace::new(), Namespace::new());
        uplink("p0", "198.18.1.1/24", &one, "q0", "198.18.1.2/24");
        uplink("p1", "198.18.2.1/24", &two, "q1", "198.18.2.2/24");
        let mut watch = Watch::start().await;
        let a = watch.link("p0", |a| a.up).await.ifindex;
        let c = watch.link("p1", |c| c.up).await.ifindex;
        let both = move |paths: &[Adjacency]| {
            resolved(paths) && paths.iter().map(|path| path.ifindex).eq([a, c])
        };
        let vtep = addr("203.0.113.1");
        watch.monitor.track(vtep);
        ip("route add 203.0.113.1 nexthop via 198.18.2.2 nexthop via 198.18.1.2");
        watch.paths(vtep, both).await;
        ip("link set p0 down");
        watch
            .paths(vtep, |paths| paths.len() == 1 && paths[0].ifindex == c)
            .await;
        ip("link set p0 up");
        watch.paths(vtep, both).await;

        // One that does not answer is left out while the other does.
        ip("route replace 203.0.113.1 nexthop via 198.18.2.2 nexthop via 198.18.1.77");
        watch
            .paths(vtep, |paths| paths.len() == 1 && resolved(paths))
            .await;
        ip("route del 203.0.113.1");
        watch.paths(vtep, <[_]>::is_empty).await;

        // The same with nexthop objects, also where the kernel gives no more than their id.
        ip("nexthop add id 1 via 198.18.1.2 dev p0");
        ip("nexthop add id 2 via 198.18.2.2 dev p1");
        ip("nexthop add id 10 group 1/2");
        for compatible in ["1", "0"] {
            std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", compatible).unwrap();
            ip("nexthop replace id 10 group 1/2");
            ip("route add 203.0.113.1 nhid 10");
            watch.paths(vtep, both).await;
            ip("nexthop replace id 10 group 2"); // no route notification without compatibility
            watch
                .paths(vtep, |paths| paths.len() == 1 && paths[0].ifindex == c)
                .await;
            ip("route del 203.0.113.1 nhid 10");
            watch.paths(vtep, <[_]>::is_empty).await;
        }
        ip("nexthop add id 3 blackhole");
        ip("route add 203.0.113.1 nhid 3");
        watch.idle().await;
        assert_eq!(watch.paths.get(&vtep), Some(&vec![]));
    });
}

#[test]
fn the_operators_neighbours_are_left_alone() {
    in_namespace(async || {
        let other = Namespace::new();
        uplink("p0", "198.18.0.1/24", &other, "q0", "198.18.0.2/24");
        ip("neigh add 198.18.0.3 lladdr 02:00:00:00:00:03 dev p0 nud permanent");
        let mut watch = Watch::start().await;
        let vtep = addr("198.18.0.3");
        watch.monitor.track(vtep);
        let paths = watch.paths(vtep, resolved).await;
        assert_eq!(paths[0].destination, mac("02:00:00:00:00:03"));
        watch.monitor.untrack(vtep);
        watch.idle().await;
        assert_eq!(watch.monitor.prune_neighbours().unwrap(), 0);
        let entry = neighbour("198.18.0.3");
        assert!(
            entry.contains("PERMANENT") && !entry.contains("managed"),
            "{entry}"
        );
    });
}

#[test]
fn a_deleted_neighbour_comes_back_and_leftovers_are_pruned() {
    in_namespace(async || {
        let other = Namespace::new();
        uplink("p0", "198.18.0.1/24", &other, "q0", "198.18.0.2/24");
        let vtep = addr("198.18.0.2");
        {
            let mut watch = Watch::start().await;
            watch.monitor.track(vtep);
            watch.paths(vtep, resolved).await;
            ip("neigh del 198.18.0.2 dev p0");
            watch.paths(vtep, |paths| !resolved(paths)).await;
            watch.paths(vtep, resolved).await;
        }
        // An agent that stops without a word leaves its entries; the next one adopts or removes them.
        let mut watch = Watch::start().await;
        watch.monitor.track(vtep);
        watch.paths(vtep, resolved).await;
        assert_eq!(watch.monitor.prune_neighbours().unwrap(), 0);
        watch.monitor = Monitor::start().unwrap();
        assert_eq!(watch.monitor.prune_neighbours().unwrap(), 1);
        assert_eq!(neighbour("198.18.0.2"), "");
    });
}

#[test]
fn lost_notifications_are_made_up_for() {
    in_namespace(async || {
        let other = Namespace::new();
        uplink("p0", "198.18.0.1/24", &other, "q0", "198.18.0.2/24");
        let mut watch = Watch::start().await;
        let vtep = addr("198.18.0.2");
        watch.monitor.track(vtep);
        watch.paths(vtep, resolved).await;
        // Nobody reads meanwhile.
        let routes = (0..40_000u32).map(|i| (i / 250, i % 250));
        let lines = routes.map(|(high, low)| format!("route add unreachable 10.0.{high}.{low}\n"));
        ip_batch(&lines.collect::<String>());
        ip("link add late type veth peer name later");
        ip("link set p0 down");
        watch.paths(vtep, <[_]>::is_empty).await;
        watch.link("late", |_| true).await;
        assert!(watch.monitor.overruns() > 0);
    });
}

#[test]
fn eight_thousand_vteps_behind_one_gateway() {
    in_namespace(async || {
        let other = Namespace::new();
        uplink("p0", "198.18.0.1/24", &other, "q0", "198.18.0.2/24");
        ip("route add 10.0.0.0/8 via 198.18.0.2");
        let mut watch = Watch::start().await;
        let vteps: Vec<IpAddr> = (0..8000u32)
            .map(|i| IpAddr::from((0x0a00_0000 + i).to_be_bytes()))
            .collect();
        let started = Instant::now();
        for vtep in &vteps {
            watch.monitor.track(*vtep);
        }
        let all = |watch: &Watch, test: fn(&[Adjacency]) -> bool| {
            let paths = vteps.iter().map(|vtep| watch.paths.get(vtep));
            paths.flatten().filter(|paths| test(paths)).count() == vteps.len()
        };
        watch
            .until("all are resolved", |watch| {
                all(watch, resolved).then_some(())
            })
            .await;
        println!("8000 VTEPs tracked and resolved in {:?}", started.elapsed());

        let started = Instant::now();
        ip("neigh replace 198.18.0.2 lladdr 02:00:00:00:00:aa dev p0 nud reachable");
        watch
            .until("all have the new MAC", |watch| {
                let new = |paths: &[Adjacency]| paths[0].destination == mac("02:00:00:00:00:aa");
                all(watch, new).then_some(())
            })
            .await;
        println!(
            "a new MAC of their gateway is reported in {:?}",
            started.elapsed()
        );
    });
}

#[test]
fn a_port_gets_no_address() {
    in_namespace(async || {
        let other = Namespace::new();
        ip(&format!(
            "link add port type veth peer name q0 netns {}",
            other.tid
        ));
        let mut watch = Watch::start().await;
        let port = watch.link("port", |_| true).await;
        let name: IfName = "port".parse().unwrap();
        prepare_port(port.ifindex, &name).unwrap();
        ip("link set port up");
        other.ip("link set q0 up");
        watch.link("port", |port| port.up).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(local_addresses().unwrap(), [] as [IpAddr; 0]);
        // The other end, untouched, made itself one: the test can fail.
        assert!(
            other
                .output("ip", "-6 address show dev q0")
                .contains("fe80")
        );

        let error = prepare_port(port.ifindex + 1000, &name).unwrap_err();
        assert!(matches!(error, KernelError::NotThePort { .. }), "{error}");
    });
}

#[test]
fn a_port_gets_no_address_where_proc_sys_is_read_only() {
    in_namespace(async || {
        unshare_mounts();
        output("mount", "--make-rprivate /");
        output("mount", "--bind -o ro /proc/sys /proc/sys");
        let other = Namespace::new();
        let tid = other.tid;
        ip(&format!("link add port type veth peer name q0 netns {tid}"));
        let mut watch = Watch::start().await;
        let port = watch.link("port", |_| true).await;
        prepare_port(port.ifindex, &port.name).unwrap();
        assert!(std::fs::write("/proc/sys/net/ipv6/conf/port/accept_ra", "0").is_err());
        ip("link set port up");
        other.ip("link set q0 up");
        watch.link("port", |port| port.up).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(local_addresses().unwrap(), [] as [IpAddr; 0]);
    });
}

#[test]
fn without_privilege_there_is_one_clear_line() {
    in_namespace(async || {
        drop_capabilities();
        let Err(error) = Monitor::start() else {
            panic!("started without CAP_NET_ADMIN")
        };
        assert!(matches!(error, KernelError::Privilege), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    });
}

/// A monitor and what it has reported so far.
struct Watch {
    monitor: Monitor,
    links: BTreeMap<u32, Link>,
    gone: Vec<u32>,
    paths: BTreeMap<IpAddr, Vec<Adjacency>>,
}

impl Watch {
    async fn start() -> Self {
        let mut watch = Self {
            monitor: Monitor::start().unwrap(),
            links: BTreeMap::new(),
            gone: Vec::new(),
            paths: BTreeMap::new(),
        };
        watch.step().await; // at least the loopback device
        watch
    }

    async fn step(&mut self) {
        // Dropped again and again while it waits, as in a `select!`.
        let inputs = loop {
            let patience = Duration::from_millis(3);
            if let Ok(inputs) = tokio::time::timeout(patience, self.monitor.next()).await {
                break inputs.unwrap();
            }
        };
        assert!(!inputs.is_empty());
        for input in inputs {
            match input {
                Input::Link(link) => {
                    let before = self.links.insert(link.ifindex, link.clone());
                    assert_ne!(before.as_ref(), Some(&link), "not a change");
                }
                Input::LinkGone(ifindex) => {
                    assert!(
                        self.links.remove(&ifindex).is_some(),
                        "unknown {ifindex} gone"
                    );
                    self.gone.push(ifindex);
                }
                Input::Paths(vtep, paths) => {
                    let before = self.paths.insert(vtep, paths.clone());
                    assert_ne!(before, Some(paths), "not a change");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the condition gives something.
    async fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = condition(self) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, self.step()).await.is_err() {
                panic!(
                    "never: {what}; links {:?}, paths {:?}",
                    self.links, self.paths
                );
            }
        }
    }

    async fn link(&mut self, name: &str, mut test: impl FnMut(&Link) -> bool) -> Link {
        self.until(&format!("device {name}"), |watch| {
            let mut links = watch.links.values();
            links
                .find(|link| link.name.as_str() == name && test(link))
                .cloned()
        })
        .await
    }

    async fn paths(
        &mut self,
        vtep: IpAddr,
        mut test: impl FnMut(&[Adjacency]) -> bool,
    ) -> Vec<Adjacency> {
        self.until(&format!("paths to {vtep}"), |watch| {
            watch.paths.get(&vtep).filter(|paths| test(paths)).cloned()
        })
        .await
    }

    /// Lets the monitor run until nothing has happened for a while.
    async fn idle(&mut self) {
        while tokio::time::timeout(Duration::from_millis(500), self.step())
            .await
            .is_ok()
        {}
    }
}

fn resolved(paths: &[Adjacency]) -> bool {
    !paths.is_empty() && paths.iter().all(|path| path.resolved == 1)
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Connects this namespace with another by a veth that is up with addresses.
fn uplink(device: &str, address: &str, other: &Namespace, peer: &str, peer_address: &str) {
    let tid = other.tid;
    ip(&format!(
        "link add {device} type veth peer name {peer} netns {tid}"
    ));
    ip(&format!("address add {address} dev {device}"));
    ip(&format!("link set {device} up"));
    ip("link set lo up");
    other.ip(&format!("address add {peer_address} dev {peer}"));
    other.ip(&format!("link set {peer} up"));
}

/// The line of `ip neigh` for an address; empty without an entry.
fn neighbour(address: &str) -> String {
    output("ip", &format!("-details neigh show to {address} nud all"))
}

fn ip(arguments: &str) {
    output("ip", arguments);
}

fn tc(arguments: &str) {
    output("tc", arguments);
}

/// Runs a program in the calling thread's namespace.
fn output(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `ip -batch` with these lines.
fn ip_batch(lines: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    let path = file.path().to_str().unwrap();
    output("ip", &format!("-force -batch {path}"));
}

/// Runs a test in a thread with a network namespace and a runtime of its own.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    thread::scope(|scope| {
        let run = || {
            unshare();
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(test());
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Another network namespace, held by a thread that runs programs in it.
struct Namespace {
    tid: i32,
    jobs: mpsc::Sender<(String, String)>,
    results: mpsc::Receiver<String>,
}

impl Namespace {
    fn new() -> Self {
        let (jobs, to_do) = mpsc::channel::<(String, String)>();
        let (done, results) = mpsc::channel();
        let (started, tid) = mpsc::channel();
        thread::spawn(move || {
            unshare();
            started.send(gettid()).unwrap();
            for (program, arguments) in to_do {
                if done.send(output(&program, &arguments)).is_err() {
                    break;
                }
            }
        });
        Self {
            tid: tid.recv().unwrap(),
            jobs,
            results,
        }
    }

    fn output(&self, program: &str, arguments: &str) -> String {
        self.jobs
            .send((program.to_owned(), arguments.to_owned()))
            .unwrap();
        self.results.recv().expect("the program failed")
    }

    fn run(&self, program: &str, arguments: &str) {
        self.output(program, arguments);
    }

    fn ip(&self, arguments: &str) {
        self.run("ip", arguments);
    }
}

fn unshare() {
    // SAFETY: takes no pointer; affects the calling thread alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(
        result,
        0,
        "network namespaces need root: {}",
        std::io::Error::last_os_error()
    );
}

fn unshare_mounts() {
    // SAFETY: takes no pointer; affects the calling thread alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn gettid() -> i32 {
    // SAFETY: takes no pointer and cannot fail.
    unsafe { libc::gettid() }
}

/// Gives up all effective capabilities of the calling thread.
fn drop_capabilities() {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let data = [0u32; 6];
    // SAFETY: the header and the two sets of three words that version 3 wants outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
