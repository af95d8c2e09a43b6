//! Routes that the agent keeps in the kernel's routing tables, marked with a protocol number of its own
//! ([`PROTOCOL`]): others are never touched.
//!
//! Level-triggered: what is wanted is compared with what the kernel has whenever either may have changed,
//! and what the kernel refuses is tried again. Replacing is atomic.

mod netlink;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{links::Links, socket::RequestError};
use crate::core::{HostNextHop, HostRoute};
pub(super) use netlink::{Netlink, is_ours};

/// `rtm_protocol` of our routes: `ip route` shows `proto 118`. Routing daemons have others (FRR 186 to
/// 198, BIRD 12), so each leaves the other's routes alone.
pub(super) const PROTOCOL: u8 = 0x76;
/// Routes written between two chances for other tasks.
const BATCH: usize = 256;
/// Links, addresses and the routes that hang on them change one after the other.
const SETTLING: Duration = Duration::from_millis(100);
/// What was refused is tried again after this, and then after twice the time before,
const RETRY: Duration = Duration::from_secs(1);
/// but at least this often.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Names a route of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub prefix: IpNet,
    pub table: u32,
    pub metric: u32,
}

/// A route as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installed {
    pub source: Option<IpAddr>,
    /// In ascending order.
    pub next_hops: Vec<Hop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hop {
    pub ifindex: u32,
    pub gateway: IpAddr,
    /// The kernel must not ask whether the gateway is on the link (`RTNH_F_ONLINK`).
    pub onlink: bool,
}

/// What is asked of the kernel.
pub(super) trait Fib {
    /// All routes with our protocol number, of both families and all tables.
    fn ours(&mut self) -> Result<Vec<(Key, Installed)>, RequestError>;
    /// Prefixes of the host's addresses.
    fn connected(&mut self) -> Result<Vec<IpNet>, RequestError>;
    /// The link that an address is on; `None` when it is behind a router or nowhere.
    fn link_of(&mut self, address: IpAddr) -> Result<Option<u32>, RequestError>;
    /// Adds a route, or replaces one of ours.
    fn put(&mut self, key: Key, route: &Installed, replace: bool) -> Result<(), RequestError>;
    /// Removes one of ours. One that is gone already is no error.
    fn remove(&mut self, key: Key) -> Result<(), RequestError>;
}

/// How many routes there are, and how that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostRouteCounts {
    /// Routes that the kernel has as they are wanted.
    pub installed: u64,
    /// Routes that it doesn't have, or not with all their next hops.
    pub failed: u64,
    /// Requests that it refused since the start.
    pub errors: u64,
}

/// What is wanted, what there is, and why they differ.
#[derive(Debug, Default)]
pub(super) struct HostRoutes {
    wanted: BTreeMap<IpNet, HostRoute>,
    installed: BTreeMap<Key, Installed>,
    /// Routes of an earlier run that this one has said nothing about.
    left_over: BTreeSet<Key>,
    /// Such routes may go.
    complete: bool,
    connected: Vec<IpNet>,
    /// To be compared.
    dirty: BTreeSet<IpNet>,
    problems: BTreeMap<IpNet, String>,
    errors: u64,
    /// What the kernel had at the start is known.
    adopted: bool,
    audit: Option<Instant>,
    retry: Option<Instant>,
    delay: Duration,
}

impl HostRoutes {
    /// Wants this route to a prefix, or none.
    pub(super) fn set(&mut self, prefix: IpNet, route: Option<HostRoute>) {
        match route {
            Some(route) => drop(self.wanted.insert(prefix, route)),
            None => drop(self.wanted.remove(&prefix)),
        }
        self.left_over.retain(|key| key.prefix != prefix);
        self.dirty.insert(prefix);
    }

    /// What an earlier run left and nobody has asked for again goes.
    pub(super) fn complete(&mut self) {
        self.complete = true;
        let left_over = std::mem::take(&mut self.left_over);
        self.dirty.extend(left_over.iter().map(|key| key.prefix));
    }

    /// Nothing is wanted any more.
    pub(super) fn release(&mut self) {
        self.dirty.extend(self.wanted.keys());
        self.wanted.clear();
        self.complete();
    }

    /// Links, addresses or routes of ours changed.
    pub(super) fn disturb(&mut self, now: Instant) {
        self.audit.get_or_insert(now + SETTLING);
    }

    /// Does what is due, at most a batch of it.
    pub(super) fn run(&mut self, links: &Links, fib: &mut impl Fib, now: Instant) {
        let due = self.is_unread() || self.audit.take_if(|at| *at <= now).is_some();
        if due && let Err(error) = self.audit(fib) {
            tracing::warn!("cannot read the host's routes: {}", error.into_io());
            self.errors += 1;
            self.audit = Some(now + RETRY);
        }
        if !self.adopted {
            return;
        }
        if self.retry.take_if(|at| *at <= now).is_some() {
            self.dirty.extend(self.problems.keys());
        }
        let mut on_link = HashMap::new();
        let mut failed = false;
        for _ in 0..BATCH {
            let Some(prefix) = self.dirty.pop_first() else {
                break;
            };
            match self.settle(prefix, links, fib, &mut on_link) {
                Ok(()) => {
                    if self.problems.remove(&prefix).is_some() {
                        tracing::info!(%prefix, "host route is as it should be");
                    }
                }
                Err(problem) => {
                    failed = true;
                    if self.problems.get(&prefix) != Some(&problem) {
                        tracing::warn!(%prefix, "host route: {problem}");
                        self.problems.insert(prefix, problem);
                    }
                }
            }
        }
        if self.problems.is_empty() {
            self.delay = RETRY;
            self.retry = None;
        } else if failed || self.retry.is_none() {
            self.delay = self.delay.max(RETRY);
            self.retry.get_or_insert(now + self.delay);
            self.delay = (self.delay * 2).min(MAX_RETRY);
        }
    }

    /// There is something to do at once.
    pub(super) fn is_pending(&self) -> bool {
        self.is_unread() || self.adopted && !self.dirty.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.audit.into_iter().chain(self.retry).min()
    }

    /// Why the kernel doesn't have a route as it is wanted.
    pub(super) fn problems(&self) -> &BTreeMap<IpNet, String> {
        &self.problems
    }

    pub(super) fn counts(&self) -> HostRouteCounts {
        let failed = self.problems.len();
        HostRouteCounts {
            installed: self.wanted.len().saturating_sub(failed) as u64,
            failed: failed as u64,
            errors: self.errors,
        }
    }

    fn is_unread(&self) -> bool {
        !self.adopted && self.audit.is_none()
    }

    fn audit(&mut self, fib: &mut impl Fib) -> Result<(), RequestError> {
        self.installed = fib.ours()?.into_iter().collect();
        self.connected = fib.connected()?;
        if !self.adopted && !self.complete {
            let unknown = self.installed.keys();
            let unknown = unknown.filter(|key| !self.wanted.contains_key(&key.prefix));
            self.left_over.extend(unknown);
        }
        self.adopted = true;
        self.dirty.extend(self.wanted.keys());
        let others = self.installed.keys();
        self.dirty.extend(others.map(|key| key.prefix));
        Ok(())
    }

    /// Makes the routes to one prefix what they should be.
    fn settle(
        &mut self,
        prefix: IpNet,
        links: &Links,
        fib: &mut impl Fib,
        on_link: &mut HashMap<IpAddr, Option<u32>>,
    ) -> Result<(), String> {
        let mut problem = None;
        let mut desired = None;
        if let Some(wanted) = self.wanted.get(&prefix) {
            let key = Key {
                prefix,
                table: wanted.table,
                metric: wanted.metric,
            };
            match self.resolve(prefix, wanted, links, fib, on_link) {
                Ok((route, missing)) => {
                    problem = missing;
                    desired = Some((key, route));
                }
                Err(refusal) => problem = Some(refusal),
            }
        }
        if let Some((key, route)) = &desired {
            let installed = self.installed.get(key);
            if installed != Some(route) {
                match fib.put(*key, route, installed.is_some()) {
                    Ok(()) => drop(self.installed.insert(*key, route.clone())),
                    Err(error) => {
                        self.errors += 1;
                        problem = Some(refusal(*key, error));
                    }
                }
            }
        }
        let desired = desired.map(|(key, _)| key);
        let gone: Vec<_> = self
            .installed
            .range(first_of(prefix)..)
            .map(|(key, _)| *key)
            .take_while(|key| key.prefix == prefix)
            .filter(|key| Some(*key) != desired && !self.left_over.contains(key))
            .collect();
        for key in gone {
            match fib.remove(key) {
                Ok(()) => drop(self.installed.remove(&key)),
                Err(error) => {
                    self.errors += 1;
                    problem = Some(format!("cannot remove it: {}", error.into_io()));
                }
            }
        }
        problem.map_or(Ok(()), Err)
    }

    /// The route with the links of its next hops, and what is wrong with those that are left out.
    fn resolve(
        &self,
        prefix: IpNet,
        wanted: &HostRoute,
        links: &Links,
        fib: &mut impl Fib,
        on_link: &mut HashMap<IpAddr, Option<u32>>,
    ) -> Result<(Installed, Option<String>), String> {
        if let Some(own) = self.connected.iter().find(|own| own.contains(&prefix)) {
            return Err(format!("the host itself has an address in {own}"));
        }
        let mut next_hops = Vec::new();
        let mut problem = None;
        for next_hop in &wanted.next_hops {
            match hop(*next_hop, fib, on_link) {
                Some(hop) if links.get(hop.ifindex).is_some_and(|link| link.up) => {
                    next_hops.push(hop);
                }
                Some(_) => problem = Some(format!("the link to {} is down", next_hop.gateway)),
                None => problem = Some(format!("{} is on no link of this host", next_hop.gateway)),
            }
        }
        next_hops.sort_unstable();
        if next_hops.is_empty() {
            return Err(problem.unwrap_or_default());
        }
        let route = Installed {
            source: wanted.source,
            next_hops,
        };
        Ok((route, problem))
    }
}

/// A gateway on a named link need not have an address of a prefix of ours there.
fn hop(
    next_hop: HostNextHop,
    fib: &mut impl Fib,
    on_link: &mut HashMap<IpAddr, Option<u32>>,
) -> Option<Hop> {
    let HostNextHop { gateway, interface } = next_hop;
    let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
    let ifindex = match interface {
        Some(ifindex) => Some(ifindex),
        None if link_local => None,
        None => *on_link
            .entry(gateway)
            .or_insert_with(|| fib.link_of(gateway).ok().flatten()),
    };
    Some(Hop {
        ifindex: ifindex?,
        gateway,
        onlink: interface.is_some() && !link_local,
    })
}

fn first_of(prefix: IpNet) -> Key {
    Key {
        prefix,
        table: 0,
        metric: 0,
    }
}

fn refusal(key: Key, error: RequestError) -> String {
    match error.is(libc::EEXIST) {
        true => format!(
            "another route to it has metric {} in table {}: set underlay.metric",
            key.metric, key.table
        ),
        false => format!("the kernel refuses it: {}", error.into_io()),
    }
}
