//! A monitor under observation.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use vtep_agent::{
    core::{Input, Link},
    kernel::Monitor,
    types::Mac,
};
use vtep_common::abi::Adjacency;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A monitor and what it has reported so far.
pub struct Watch {
    pub monitor: Monitor,
    pub links: BTreeMap<u32, Link>,
    pub gone: Vec<u32>,
    pub paths: BTreeMap<IpAddr, Vec<Adjacency>>,
    pub metrics: BTreeMap<IpAddr, u32>,
}

impl Watch {
    pub async fn start() -> Self {
        let mut watch = Self {
            monitor: Monitor::start().unwrap(),
            links: BTreeMap::new(),
            gone: Vec::new(),
            paths: BTreeMap::new(),
            metrics: BTreeMap::new(),
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
                Input::Paths(vtep, paths, metric) => {
                    let before = self.paths.insert(vtep, paths.clone());
                    let metric_before = self.metrics.insert(vtep, metric);
                    let before = before.zip(metric_before);
                    assert_ne!(before, Some((paths, metric)), "not a change");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the condition gives something.
    pub async fn until<T>(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&Self) -> Option<T>,
    ) -> T {
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

    pub async fn link(&mut self, name: &str, mut test: impl FnMut(&Link) -> bool) -> Link {
        self.until(&format!("device {name}"), |watch| {
            let mut links = watch.links.values();
            links
                .find(|link| link.name.as_str() == name && test(link))
                .cloned()
        })
        .await
    }

    pub async fn paths(
        &mut self,
        vtep: IpAddr,
        mut test: impl FnMut(&[Adjacency]) -> bool,
    ) -> Vec<Adjacency> {
        self.until(&format!("paths to {vtep}"), |watch| {
            watch.paths.get(&vtep).filter(|paths| test(paths)).cloned()
        })
        .await
    }

    pub async fn metric(&mut self, vtep: IpAddr, expected: u32) {
        self.until(&format!("metric {expected} to {vtep}"), |watch| {
            watch
                .metrics
                .get(&vtep)
                .filter(|found| **found == expected)
                .copied()
        })
        .await;
    }

    /// Lets the monitor run for this long.
    pub async fn for_a_while(&mut self, time: Duration) {
        let deadline = tokio::time::Instant::now() + time;
        while tokio::time::timeout_at(deadline, self.step()).await.is_ok() {}
    }

    /// Lets the monitor run until nothing has happened for a while, so that whatever it reports
    /// next is due to what the test does next.
    pub async fn idle(&mut self) {
        while tokio::time::timeout(Duration::from_millis(500), self.step())
            .await
            .is_ok()
        {}
    }
}

pub fn resolved(paths: &[Adjacency]) -> bool {
    !paths.is_empty() && paths.iter().all(|path| path.resolved == 1)
}

pub fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}
