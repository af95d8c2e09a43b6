//! From tracked VTEPs to underlay paths: which routes, neighbours and devices each depends on, and
//! what is to be looked at again after a change.
//!
//! Three grades of work, so that no change costs more than it must: a route lookup per affected
//! VTEP, a system call per affected neighbour, and a recomputation from what is known already. A
//! neighbour that changes its MAC is one entry and the third grade, however many VTEPs are behind
//! it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry as MapEntry},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use vtep_common::abi::{Adjacency, VtepEntry};

use super::{
    links::{Device, Kind, Links},
    neighbours::{Neighbour, NeighbourKey},
    routes::Route,
    socket::RequestError,
};
use crate::{core::Input, types::Mac};

/// What the tracker asks of the kernel.
pub(super) trait Kernel {
    /// The routing decision for a VTEP.
    fn route(&mut self, vtep: IpAddr) -> Result<Route, RequestError>;
    /// A neighbour entry.
    fn neighbour(&mut self, key: NeighbourKey) -> Result<Option<Neighbour>, RequestError>;
    /// Resolve this neighbour and keep it resolved.
    fn manage(&mut self, key: NeighbourKey) -> Result<(), RequestError>;
    /// Remove an entry that was managed for us.
    fn release(&mut self, key: NeighbourKey) -> Result<(), RequestError>;
}

/// All tracked VTEPs.
#[derive(Default)]
pub(super) struct Tracker {
    vteps: BTreeMap<IpAddr, Vtep>,
    neighbours: BTreeMap<NeighbourKey, Entry>,
    /// Look the route up.
    reroute: BTreeSet<IpAddr>,
    /// Look the route up once more, later: the kernel announced a change before having made it.
    unsettled: BTreeSet<IpAddr>,
    /// Read the entry, and have it managed.
    ensure: BTreeSet<NeighbourKey>,
    /// Nobody needs the entry any more, unless somebody does by now.
    unused: BTreeSet<NeighbourKey>,
    /// Compute the paths.
    refresh: BTreeSet<IpAddr>,
    refusals: Refusals,
}

#[derive(Default)]
struct Vtep {
    /// Sorted: the order of the reported paths is stable.
    hops: Vec<NeighbourKey>,
    mtu: Option<u32>,
    metric: u32,
    reported: Option<Reported>,
}

/// The paths to a VTEP, and the metric of the route, 0 without paths.
type Reported = (Vec<Adjacency>, u32);

#[derive(Default)]
struct Entry {
    state: State,
    users: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Default)]
enum State {
    /// Not read yet.
    #[default]
    Unknown,
    Absent,
    Present(Neighbour),
}

impl State {
    fn mac(self) -> Option<Mac> {
        match self {
            Self::Present(neighbour) => neighbour.mac,
            Self::Unknown | Self::Absent => None,
        }
    }
}

impl Tracker {
    /// Starts to track; the paths are reported once, then whenever they change. What is tracked already
    /// is reported once more.
    pub fn track(&mut self, vtep: IpAddr) {
        match self.vteps.entry(vtep) {
            MapEntry::Vacant(place) => {
                place.insert(Vtep::default());
                self.reroute.insert(vtep);
            }
            // Before the first report there is one to come.
            MapEntry::Occupied(mut place) => {
                if place.get_mut().reported.take().is_some() {
                    self.refresh.insert(vtep);
                }
            }
        }
    }

    /// Stops.
    pub fn untrack(&mut self, vtep: IpAddr) {
        if let Some(gone) = self.vteps.remove(&vtep) {
            self.drop_user(vtep, &gone.hops);
        }
    }

    /// Routes for a prefix changed.
    pub fn route_changed(&mut self, prefix: IpNet) {
        let affected = self.vteps.range(prefix.network()..=prefix.broadcast());
        self.reroute.extend(affected.map(|(vtep, _)| *vtep));
    }

    /// Something changed that any route may depend on: a rule, an address, a nexthop object.
    pub fn routing_changed(&mut self) {
        self.reroute.extend(self.vteps.keys());
        self.unsettled.extend(self.vteps.keys());
    }

    /// A device came, changed or went.
    pub fn device_changed(&mut self, ifindex: u32) {
        const LAST: Ipv6Addr = Ipv6Addr::from_bits(u128::MAX);
        let first = NeighbourKey {
            ifindex,
            address: Ipv4Addr::UNSPECIFIED.into(),
        };
        let last = NeighbourKey {
            ifindex,
            address: LAST.into(),
        };
        for (key, entry) in self.neighbours.range_mut(first..=last) {
            entry.state = State::Unknown;
            self.ensure.insert(*key);
            self.reroute.extend(&entry.users);
            self.unsettled.extend(&entry.users);
        }
    }

    /// A neighbour entry changed, or is gone.
    pub fn neighbour_changed(&mut self, key: NeighbourKey, neighbour: Option<Neighbour>) {
        let Some(entry) = self.neighbours.get_mut(&key) else {
            return;
        };
        let before = entry.state.mac();
        entry.state = neighbour.map_or(State::Absent, State::Present);
        if entry.state.mac() != before {
            self.refresh.extend(&entry.users);
        }
        self.ensure.insert(key);
    }

    /// Notifications were lost: everything is to be read again.
    pub fn forget(&mut self) {
        self.reroute.extend(self.vteps.keys());
        for (key, entry) in &mut self.neighbours {
            entry.state = State::Unknown;
            self.ensure.insert(*key);
        }
    }

    /// Takes a second look at what may have been looked at too early.
    pub fn settle(&mut self) {
        self.reroute.append(&mut self.unsettled);
    }

    /// Does the work that changes left behind, at most `limit` route lookups of it, and reports the
    /// paths that are different now.
    pub fn run(
        &mut self,
        links: &Links,
        kernel: &mut impl Kernel,
        limit: usize,
    ) -> Result<Vec<Input>, RequestError> {
        for _ in 0..limit {
            let Some(vtep) = self.reroute.pop_first() else {
                break;
            };
            self.look_up(vtep, kernel)?;
        }
        while let Some(key) = self.ensure.pop_first() {
            self.ensure(key, links, kernel)?;
        }
        while let Some(key) = self.unused.pop_first() {
            self.retire(key, kernel)?;
        }
        self.refusals.log();
        let refresh = std::mem::take(&mut self.refresh);
        let changed = refresh.into_iter();
        Ok(changed
            .filter_map(|vtep| {
                let (paths, metric) = self.recompute(vtep, links)?;
                Some(Input::Paths(vtep, paths, metric))
            })
            .collect())
    }

    /// There is work for [`Tracker::run`].
    pub fn is_pending(&self) -> bool {
        !(self.reroute.is_empty()
            && self.ensure.is_empty()
            && self.unused.is_empty()
            && self.refresh.is_empty())
    }

    /// There is work for [`Tracker::settle`].
    pub fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// A tracked VTEP is reached through this neighbour.
    pub fn uses(&self, key: NeighbourKey) -> bool {
        self.neighbours
            .get(&key)
            .is_some_and(|entry| !entry.users.is_empty())
    }

    fn look_up(&mut self, vtep: IpAddr, kernel: &mut impl Kernel) -> Result<(), RequestError> {
        if !self.vteps.contains_key(&vtep) {
            return Ok(());
        }
        let route = kernel.route(vtep)?;
        let hops = route.next_hops.iter().map(|hop| NeighbourKey {
            ifindex: hop.ifindex,
            address: hop.gateway.unwrap_or(vtep),
        });
        let hops: Vec<_> = BTreeSet::from_iter(hops).into_iter().collect();
        for key in &hops {
            let entry = self.neighbours.entry(*key).or_default();
            if entry.users.is_empty() {
                self.ensure.insert(*key);
            }
            entry.users.insert(vtep);
        }
        if let Some(tracked) = self.vteps.get_mut(&vtep) {
            (tracked.mtu, tracked.metric) = (route.mtu, route.metric);
            let before = std::mem::replace(&mut tracked.hops, hops.clone());
            let left: Vec<_> = before
                .into_iter()
                .filter(|key| !hops.contains(key))
                .collect();
            self.drop_user(vtep, &left);
        }
        self.refresh.insert(vtep);
        Ok(())
    }

    fn drop_user(&mut self, vtep: IpAddr, keys: &[NeighbourKey]) {
        for key in keys {
            if let Some(entry) = self.neighbours.get_mut(key) {
                entry.users.remove(&vtep);
                if entry.users.is_empty() {
                    self.unused.insert(*key);
                }
            }
        }
    }

    fn ensure(
        &mut self,
        key: NeighbourKey,
        links: &Links,
        kernel: &mut impl Kernel,
    ) -> Result<(), RequestError> {
        let usable = links.get(key.ifindex).is_some_and(usable);
        let Some(entry) = self.neighbours.get_mut(&key) else {
            return Ok(());
        };
        if !usable || entry.users.is_empty() {
            return Ok(());
        }
        if matches!(entry.state, State::Unknown) {
            let found = kernel.neighbour(key)?;
            entry.state = found.map_or(State::Absent, State::Present);
            self.refresh.extend(&entry.users);
        }
        match entry.state {
            State::Present(neighbour) if neighbour.managed || neighbour.foreign => Ok(()),
            State::Unknown | State::Absent | State::Present(_) => {
                self.refusals.filter(kernel.manage(key), key)
            }
        }
    }

    /// Lets go of a neighbour that nobody needs, unless it is not ours to remove.
    fn retire(&mut self, key: NeighbourKey, kernel: &mut impl Kernel) -> Result<(), RequestError> {
        if self.uses(key) {
            return Ok(());
        }
        self.neighbours.remove(&key);
        match kernel.neighbour(key)? {
            Some(neighbour) if neighbour.ours && !neighbour.foreign => {
                self.refusals.filter(kernel.release(key), key)
            }
            _ => Ok(()),
        }
    }

    /// What is to be reported of a VTEP when it is not what was reported last.
    fn recompute(&mut self, vtep: IpAddr, links: &Links) -> Option<Reported> {
        let tracked = self.vteps.get(&vtep)?;
        let mut paths: Vec<_> = tracked
            .hops
            .iter()
            .filter_map(|hop| {
                let mac = self.neighbours.get(hop).and_then(|entry| entry.state.mac());
                adjacency(links, hop.ifindex, tracked.mtu, mac)
            })
            .collect();
        // A flow must not be hashed onto a next hop that does not answer while another does.
        if paths.iter().any(|path| path.resolved != 0) {
            paths.retain(|path| path.resolved != 0);
        }
        paths.truncate(VtepEntry::PATHS);

        let tracked = self.vteps.get_mut(&vtep)?;
        let metric = if paths.is_empty() { 0 } else { tracked.metric };
        let report = (paths, metric);
        if tracked.reported.as_ref() == Some(&report) {
            return None;
        }
        tracked.reported = Some(report.clone());
        Some(report)
    }
}

/// Neighbours that the kernel refused to manage or remove. They are left as they are until something
/// changes; only the socket's failure is an error.
#[derive(Default)]
struct Refusals {
    count: usize,
    first: Option<(NeighbourKey, io::Error)>,
}

impl Refusals {
    fn filter(
        &mut self,
        result: Result<(), RequestError>,
        key: NeighbourKey,
    ) -> Result<(), RequestError> {
        match result {
            Err(RequestError::Refused(error)) => {
                self.count += 1;
                self.first.get_or_insert((key, error));
                Ok(())
            }
            result => result,
        }
    }

    /// One line for all of them.
    fn log(&mut self) {
        let Self { count, first } = std::mem::take(self);
        if let Some((NeighbourKey { ifindex, address }, error)) = first {
            let remedy = match error.raw_os_error() {
                Some(libc::ENOBUFS) => "; raise net.ipv4.neigh.default.gc_thresh3",
                Some(libc::EPERM) => "; the agent needs CAP_NET_ADMIN",
                _ => "",
            };
            tracing::warn!(
                count, %address, ifindex, %error,
                "the kernel refuses underlay neighbour entries{remedy}"
            );
        }
    }
}

/// Frames can be sent on the device.
fn usable(device: &Device) -> bool {
    device.up && device.ethernet
}

/// The path through a device, `None` when that cannot be used. On a VLAN device the datapath tags by
/// itself and sends on the parent.
fn adjacency(
    links: &Links,
    ifindex: u32,
    route_mtu: Option<u32>,
    mac: Option<Mac>,
) -> Option<Adjacency> {
    let device = links.get(ifindex).filter(|device| usable(device))?;
    let (ifindex, vlan) = match device.kind {
        Kind::Vlan { parent, id } => (links.get(parent)?.ifindex, id),
        _ => (ifindex, 0),
    };
    let mtu = route_mtu.unwrap_or(u32::MAX).min(device.mtu);
    Some(Adjacency {
        ifindex,
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        vlan,
        destination: mac.unwrap_or(Mac::ZERO),
        source: device.mac,
        resolved: mac.is_some().into(),
        reserved: 0,
    })
}

#[cfg(test)]
mod tests;
