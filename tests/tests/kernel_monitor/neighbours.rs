//! Next hops: resolved, kept so, and let go.

use std::time::Duration;

use vtep_agent::{kernel::Monitor, types::Mac};
use vtep_common::abi::Adjacency;

use crate::{
    namespace::{Namespace, in_namespace, ip, neighbour, uplink},
    watch::{Watch, addr, mac, resolved},
};

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
