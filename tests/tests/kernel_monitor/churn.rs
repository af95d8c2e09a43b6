//! Random changes: whatever happened, a monitor that saw it all knows what a fresh one reads.

use std::time::{Duration, SystemTime};

use vtep_tests::Random;

use crate::{
    namespace::{Namespace, in_namespace, ip_batch, uplink},
    watch::{Watch, addr},
};

const VTEPS: [&str; 5] = [
    "198.18.0.2",
    "198.18.1.2",
    "203.0.113.1",
    "203.0.113.2",
    "192.0.2.1",
];
const ROUNDS: usize = 8;

#[test]
fn a_monitor_that_saw_everything_knows_what_a_fresh_one_reads() {
    // VTEP_TEST_SEED repeats a run.
    let seed = match std::env::var("VTEP_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
    };
    println!("VTEP_TEST_SEED={seed}");
    in_namespace(async || {
        let mut random = Random::new(seed);
        let others = [Namespace::new(), Namespace::new(), Namespace::new()];
        for i in 0..others.len() {
            connect(&others, i);
        }
        let mut watch = Watch::start().await;
        for vtep in VTEPS {
            watch.monitor.track(addr(vtep));
        }
        for round in 0..ROUNDS {
            for _ in 0..random.below(4) {
                let changes: Vec<_> = (0..=random.below(12))
                    .map(|_| change(&mut random))
                    .collect();
                ip_batch(&changes.join("\n"));
                match random.below(4) {
                    0 => reconnect(&others, random.below(3)),
                    1 => {
                        let (i, state) = (random.below(3), ["up", "down"][random.below(2)]);
                        // Not there when the other end was deleted.
                        others[i].try_ip(&format!("link set q{i} {state}"));
                    }
                    _ => {}
                }
                if random.below(2) == 0 {
                    watch.for_a_while(Duration::from_millis(20)).await;
                }
            }
            let fresh = read_afresh(&mut watch).await;
            assert_eq!(watch.links, fresh.links, "round {round}, seed {seed}");
            assert_eq!(watch.paths, fresh.paths, "round {round}, seed {seed}");
            assert_eq!(watch.metrics, fresh.metrics, "round {round}, seed {seed}");
        }
    });
}

/// What a new monitor says, once both have come to rest.
async fn read_afresh(watch: &mut Watch) -> Watch {
    // A lost carrier is seen at once by who asks, and announced up to a second later (linkwatch).
    watch.for_a_while(Duration::from_millis(1300)).await;
    watch.idle().await;
    let mut fresh = Watch::start().await;
    for vtep in VTEPS {
        fresh.monitor.track(addr(vtep));
    }
    fresh.idle().await;
    watch.idle().await;
    fresh
}

fn connect(others: &[Namespace], i: usize) {
    let (ours, theirs) = (format!("198.18.{i}.1/24"), format!("198.18.{i}.2/24"));
    uplink(
        &format!("p{i}"),
        &ours,
        &others[i],
        &format!("q{i}"),
        &theirs,
    );
}

fn reconnect(others: &[Namespace], i: usize) {
    ip_batch(&format!("link set r{i} name p{i}\nlink del p{i}"));
    others[i].try_ip(&format!("link del q{i}"));
    connect(others, i);
}

/// A line of `ip -batch`, which may well fail.
fn change(random: &mut Random) -> String {
    let i = random.below(3);
    let j = random.below(3);
    let vtep = VTEPS[random.below(VTEPS.len())];
    match random.below(15) {
        0 => format!("link set p{i} down"),
        1 | 2 => format!("link set p{i} up"),
        3 => format!("link set p{i} mtu {}", 1300 + 100 * random.below(4)),
        4 => format!(
            "link set p{i} address 02:00:00:00:0{i}:{:02x}",
            random.below(256)
        ),
        5 => format!("route replace {vtep} via 198.18.{i}.2"),
        6 => format!("route replace {vtep} nexthop via 198.18.{i}.2 nexthop via 198.18.{j}.2"),
        7 => format!("route del {vtep}"),
        8 => format!("route replace default via 198.18.{i}.2 mtu 1350"),
        9 => format!("route replace unreachable {vtep}"),
        10 => format!("neigh del 198.18.{i}.2 dev p{i}"),
        11 => format!("address replace 198.18.{i}.1/24 dev p{i}"),
        12 => format!("address del 198.18.{i}.1/24 dev p{i}"),
        13 => format!("link set p{i} down\nlink set p{i} name r{i}\nlink set r{i} up"),
        _ => format!("link set r{i} down\nlink set r{i} name p{i}\nlink set p{i} up"),
    }
}
