//! Many VTEPs, lost notifications, no privilege.

use std::{net::IpAddr, time::Instant};

use vtep_agent::kernel::{KernelError, Monitor};
use vtep_common::abi::Adjacency;

use crate::{
    namespace::{Namespace, drop_capabilities, in_namespace, ip, ip_batch, uplink},
    watch::{Watch, addr, mac, resolved},
};

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
