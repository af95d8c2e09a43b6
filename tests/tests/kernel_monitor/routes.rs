//! Routes: which way a VTEP is reached.

use vtep_agent::kernel::local_addresses;
use vtep_common::abi::Adjacency;

use crate::{
    namespace::{Namespace, in_namespace, ip, neighbour, uplink},
    watch::{Watch, addr, resolved},
};

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
        watch.idle().await;
        ip("rule add to 203.0.113.1 blackhole");
        watch.paths(vtep, <[_]>::is_empty).await;
        ip("rule del to 203.0.113.1");
        watch.paths(vtep, via(c)).await;
        ip("address add 203.0.113.1/32 dev lo"); // our own
        watch.paths(vtep, <[_]>::is_empty).await;
        assert!(local_addresses().unwrap().contains(&vtep));
        ip("address del 203.0.113.1/32 dev lo");
        watch.paths(vtep, via(c)).await;

        // A route with that source goes with its address.
        ip("address add 192.0.2.1/32 dev lo");
        ip("route add blackhole 203.0.113.1 src 192.0.2.1");
        watch.paths(vtep, <[_]>::is_empty).await;
        watch.idle().await;
        ip("address del 192.0.2.1/32 dev lo");
        watch.paths(vtep, via(c)).await;

        // RFC 8950 next hop: the gateway's family is another one.
        two.ip("address add fe80::2/64 dev q1 nodad");
        two.ip("address add fd00::2/64 dev q1 nodad");
        ip("address add fe80::1/64 dev p1 nodad");
        ip("address add fd00::1/64 dev p1 nodad");
        ip("route del default");
        watch.paths(vtep, <[_]>::is_empty).await;
        ip("route add 203.0.113.1/32 via inet6 fd00::2 dev p1");
        watch.paths(vtep, via(c)).await;
        let gateway = neighbour("fd00::2");
        assert!(gateway.contains("managed"), "{gateway}");
    });
}

/// RFC 4271 §9.1.2.2 e: what the decision compares, of the route that is used, however it says its ways.
#[test]
fn metrics_of_routes() {
    in_namespace(async || {
        let one = Namespace::new();
        uplink("p0", "198.18.1.1/24", &one, "q0", "198.18.1.2/24");
        let mut watch = Watch::start().await;
        let vtep = addr("203.0.113.1");
        watch.monitor.track(vtep);
        watch.paths(vtep, <[_]>::is_empty).await;

        ip("route add 203.0.113.0/24 via 198.18.1.2 metric 300");
        watch.metric(vtep, 300).await;
        ip("route add 203.0.113.0/24 via 198.18.1.2 metric 200");
        watch.metric(vtep, 200).await;
        ip("route del 203.0.113.0/24 metric 200");
        watch.metric(vtep, 300).await;
        // The longer prefix is used, whatever it costs.
        ip("nexthop add id 7 via 198.18.1.2 dev p0");
        ip("route add 203.0.113.1/32 nhid 7 metric 4000000000");
        watch.metric(vtep, 4_000_000_000).await;
        ip("route del 203.0.113.1/32");
        watch.metric(vtep, 300).await;
        ip("route add 203.0.113.1/32 via 198.18.1.2");
        watch.metric(vtep, 0).await;

        let vtep = addr("2001:db8::1");
        ip("address add fd00::1/64 dev p0 nodad");
        ip("route add 2001:db8::/32 via fd00::2 metric 77");
        watch.monitor.track(vtep);
        watch.metric(vtep, 77).await;
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
            watch.idle().await;
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
