//! The monitor: notifications in, inputs of the core out.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    io,
    net::IpAddr,
    task::{Context, Poll},
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};

use super::{
    KernelError, failed,
    features::{self, Features},
    host_routes::{self, HostRouteCounts, HostRoutes},
    links::{self, Links},
    message::{Message, Messages},
    neighbours::{self, Neighbour, NeighbourKey},
    routes::{self, Route},
    socket::{Notice, Notices, RequestError, Requests},
    tracker::{Kernel, Tracker},
};
use crate::core::{HostRoute, Input};

/// The groups of rtnetlink that announce what paths and ports depend on.
const GROUPS: [u32; 10] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_TC,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];
/// `RTM_NEWNEXTHOP` of linux/rtnetlink.h.
const RTM_NEWNEXTHOP: u16 = 104;
/// `RTM_DELNEXTHOP`
const RTM_DELNEXTHOP: u16 = 105;
/// Datagrams taken in from one socket before paths are computed.
const BATCH: usize = 512;
/// Route lookups between two chances for other tasks: a few milliseconds.
const LOOKUPS: usize = 512;
/// Some changes are announced before they are made: a device goes down, then its routes.
const SETTLING: Duration = Duration::from_millis(100);
/// Everything is read again this often, in case something was never announced.
const AUDIT: Duration = Duration::from_secs(60);

/// Watches devices and the underlay paths to tracked VTEPs.
pub struct Monitor {
    route_notices: Notices,
    /// `None` before Linux 6.3.
    netdev_notices: Option<Notices>,
    view: View,
}

impl Monitor {
    /// Subscribes in the calling thread's network namespace and reads all devices; the first
    /// [`Monitor::next`] reports them. Needs a tokio runtime with IO and time.
    ///
    /// # Errors
    ///
    /// [`KernelError::Privilege`] without `CAP_NET_ADMIN`.
    pub fn start() -> Result<Self, KernelError> {
        let route_notices =
            Notices::subscribe(libc::NETLINK_ROUTE as isize, &GROUPS).map_err(subscription)?;
        let features = Features::open().map_err(failed("the netdev family"))?;
        let netdev_notices = match &features {
            Some(features) => Some(
                Notices::subscribe(libc::NETLINK_GENERIC as isize, &[features.group])
                    .map_err(subscription)?,
            ),
            None => None,
        };
        let requests = Requests::open(libc::NETLINK_ROUTE as isize).map_err(KernelError::Open)?;
        let own = Requests::open(libc::NETLINK_ROUTE as isize).map_err(KernelError::Open)?;
        own.check_strictly();
        let mut view = View::new(requests, own, features);
        view.read_devices()?;
        Ok(Self {
            route_notices,
            netdev_notices,
            view,
        })
    }

    /// Waits until something changed and returns the changes, oldest first; never empty. Nothing is
    /// lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// The sockets broke. Lost notifications are no error: everything is then read again.
    pub async fn next(&mut self) -> Result<Vec<Input>, KernelError> {
        loop {
            let deadline = self.view.deadline();
            // When the deadline comes first, `update` does what is due.
            if let Ok(notified) = timeout_at(deadline, poll_fn(|cx| self.poll_notices(cx))).await {
                notified.map_err(KernelError::Notifications)?;
            }
            self.view.update()?;
            if !self.view.inputs.is_empty() {
                return Ok(std::mem::take(&mut self.view.inputs));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Starts to track a VTEP: its paths are reported once, then whenever they change. Unresolved
    /// paths are reported only when there are no others. The kernel is made to keep the next hops
    /// resolved.
    pub fn track(&mut self, vtep: IpAddr) {
        self.view.tracker.track(vtep);
    }

    /// Stops tracking. Neighbour entries that were managed for this VTEP alone are removed with the
    /// next [`Monitor::next`].
    pub fn untrack(&mut self, vtep: IpAddr) {
        self.view.tracker.untrack(vtep);
    }

    /// Keeps a route in the kernel's routing table, or removes it; with the next [`Monitor::next`],
    /// and again whenever the kernel loses or refuses it.
    pub fn host_route(&mut self, prefix: IpNet, route: Option<HostRoute>) {
        self.view.host_routes.set(prefix, route);
    }

    /// Routes of an agent before us that were not asked for again go.
    pub fn host_routes_complete(&mut self) {
        self.view.host_routes.complete();
    }

    /// Why the kernel doesn't have a route as it was asked for, by prefix.
    pub fn host_route_problems(&self) -> &BTreeMap<IpNet, String> {
        self.view.host_routes.problems()
    }

    /// How many routes of ours there are.
    pub fn host_route_counts(&self) -> HostRouteCounts {
        self.view.host_routes.counts()
    }

    /// Removes managed neighbour entries of ours, or of an agent before us, that no tracked VTEP
    /// needs. For a clean stop (after [`Monitor::untrack`]), and after a restart once everything is
    /// tracked again. Returns how many there were.
    ///
    /// # Errors
    ///
    /// No answer from the kernel, or no privilege.
    pub fn prune_neighbours(&mut self) -> Result<usize, KernelError> {
        self.view.prune_neighbours().map_err(failed("neighbours"))
    }

    /// Ends the tracking of all VTEPs and removes the neighbour entries managed for them, and all
    /// routes of ours.
    ///
    /// # Errors
    ///
    /// No answer from the kernel, or no privilege.
    pub fn release(mut self) -> Result<(), KernelError> {
        self.view.tracker = Tracker::default();
        self.view.host_routes.release();
        while self.view.host_routes.is_pending() {
            self.view.run_host_routes();
        }
        self.prune_neighbours().map(drop)
    }

    /// Times that notifications were lost because the agent was too slow to read them.
    pub fn overruns(&self) -> u64 {
        self.view.overruns
    }

    /// Takes in what is there. Pending only when there is nothing to do.
    fn poll_notices(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let view = &mut self.view;
        let mut ready = drain(&mut self.route_notices, context, |notice| match notice {
            Notice::Datagram(bytes) => view.take_in_route(bytes),
            Notice::Overrun => view.overrun(),
        })?;
        if let Some(notices) = &mut self.netdev_notices {
            ready |= drain(notices, context, |notice| match notice {
                Notice::Datagram(bytes) => view.take_in_netdev(bytes),
                Notice::Overrun => view.overrun(),
            })?;
        }
        match ready || view.is_pending() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

/// Hands over a batch of notices. True when the socket may have more: it has not registered the
/// task then.
fn drain(
    notices: &mut Notices,
    context: &mut Context<'_>,
    mut each: impl FnMut(Notice<'_>),
) -> io::Result<bool> {
    for _ in 0..BATCH {
        match notices.poll(context)? {
            Poll::Ready(notice) => each(notice),
            Poll::Pending => return Ok(false),
        }
    }
    Ok(true)
}

fn subscription(error: io::Error) -> KernelError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => KernelError::Privilege,
        _ => KernelError::Open(error),
    }
}

/// What is known of the namespace, and the sockets to ask for more.
struct View {
    requests: Requests,
    /// With strict checking, where dumps are filtered by the kernel.
    own: Requests,
    features: Option<Features>,
    links: Links,
    tracker: Tracker,
    host_routes: HostRoutes,
    /// Devices to read again.
    reread: BTreeSet<u32>,
    /// Notifications were lost.
    lost: bool,
    overruns: u64,
    audit: Instant,
    settle: Option<Instant>,
    /// Not handed out yet.
    inputs: Vec<Input>,
}

impl View {
    fn new(requests: Requests, own: Requests, features: Option<Features>) -> Self {
        Self {
            requests,
            own,
            features,
            links: Links::default(),
            tracker: Tracker::default(),
            host_routes: HostRoutes::default(),
            reread: BTreeSet::new(),
            lost: false,
            overruns: 0,
            audit: Instant::now() + AUDIT,
            settle: None,
            inputs: Vec::new(),
        }
    }

    fn take_in_route(&mut self, datagram: &[u8]) {
        for message in Messages(datagram) {
            match message {
                Ok(message) => self.route_notice(&message),
                Err(_) => self.overrun(),
            }
        }
    }

    fn take_in_netdev(&mut self, datagram: &[u8]) {
        for message in Messages(datagram) {
            match message {
                // Features of a device that is not known yet come with it.
                Ok(message) => match features::decode(&message) {
                    Some(found) if self.links.get(found.ifindex).is_some() => {
                        self.links
                            .set_features(found.ifindex, found.bits, &mut self.inputs);
                    }
                    _ => {}
                },
                Err(_) => self.overrun(),
            }
        }
    }

    fn overrun(&mut self) {
        tracing::warn!("netlink notifications were lost, reading everything again");
        self.overruns += 1;
        self.lost = true;
    }

    fn route_notice(&mut self, message: &Message<'_>) {
        match message.kind {
            libc::RTM_NEWLINK => {
                if let Some(device) = links::decode(message) {
                    self.device_is(device);
                }
            }
            libc::RTM_DELLINK => {
                if let Some(ifindex) = links::decode_gone(message) {
                    self.device_gone(ifindex);
                }
            }
            // The notice says little of the device's root qdisc; the device does.
            libc::RTM_NEWQDISC | libc::RTM_DELQDISC => {
                self.reread.extend(links::decode_qdisc(message));
            }
            libc::RTM_NEWNEIGH => {
                if let Some((key, neighbour)) = neighbours::decode(message) {
                    self.tracker.neighbour_changed(key, Some(neighbour));
                }
            }
            libc::RTM_DELNEIGH => {
                if let Some((key, _)) = neighbours::decode(message) {
                    self.tracker.neighbour_changed(key, None);
                }
            }
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                if let Some(prefix) = routes::decode_prefix(message) {
                    self.tracker.route_changed(prefix);
                }
                // Those that we remove ourselves are looked at once more, which costs little.
                if message.kind == libc::RTM_DELROUTE && host_routes::is_ours(message) {
                    self.host_routes.disturb(Instant::now());
                }
            }
            libc::RTM_NEWADDR | libc::RTM_DELADDR => {
                self.tracker.routing_changed();
                self.host_routes.disturb(Instant::now());
            }
            libc::RTM_NEWRULE | libc::RTM_DELRULE | RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
                self.tracker.routing_changed()
            }
            _ => {}
        }
    }

    fn device_is(&mut self, device: links::Device) {
        let ifindex = device.ifindex;
        let new = self.links.get(ifindex).is_none();
        if new {
            // Read before the device is reported, so that it is reported once.
            self.read_features(ifindex);
        }
        if self.links.insert(device, &mut self.inputs) {
            self.tracker.device_changed(ifindex);
            self.host_routes.disturb(Instant::now());
        }
        if new {
            self.reread.extend(self.links.ends_of(ifindex));
        }
    }

    fn device_gone(&mut self, ifindex: u32) {
        self.reread.extend(self.links.ends_of(ifindex));
        self.reread.remove(&ifindex);
        if self.links.remove(ifindex, &mut self.inputs) {
            self.tracker.device_changed(ifindex);
            self.host_routes.disturb(Instant::now());
        }
    }

    fn read_features(&mut self, ifindex: u32) {
        let Some(features) = &mut self.features else {
            return;
        };
        match features.get(ifindex) {
            Ok(Some(found)) => {
                self.links
                    .set_features(ifindex, found.bits, &mut self.inputs);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(ifindex, %error, "cannot read the XDP features"),
        }
    }

    /// Brings everything up to date with what was taken in and what is due.
    fn update(&mut self) -> Result<(), KernelError> {
        let now = Instant::now();
        if self.lost || self.audit <= now {
            self.lost = false;
            self.audit = now + AUDIT;
            self.read_devices()?;
            self.tracker.forget();
            self.host_routes.disturb(now);
        }
        if self.settle.is_some_and(|at| at <= now) {
            self.settle = None;
            self.tracker.settle();
        }
        for ifindex in std::mem::take(&mut self.reread) {
            self.read_device(ifindex)?;
        }
        self.run_host_routes();
        let mut kernel = Netlink(&mut self.requests);
        let changed = self.tracker.run(&self.links, &mut kernel, LOOKUPS);
        self.inputs.extend(changed.map_err(failed("routes"))?);
        if self.settle.is_none() && self.tracker.is_unsettled() {
            self.settle = Some(now + SETTLING);
        }
        Ok(())
    }

    fn run_host_routes(&mut self) {
        let mut fib = host_routes::Netlink(&mut self.own);
        self.host_routes.run(&self.links, &mut fib, Instant::now());
    }

    fn read_device(&mut self, ifindex: u32) -> Result<(), KernelError> {
        match self
            .requests
            .get(&links::get_request(ifindex), links::decode)
        {
            Ok(Some(device)) => self.device_is(device),
            // Gone: RTM_DELLINK is on its way.
            Ok(None) | Err(RequestError::Refused(_)) => {}
            Err(error) => return Err(failed("a device")(error)),
        }
        Ok(())
    }

    fn read_devices(&mut self) -> Result<(), KernelError> {
        let devices = self.requests.dump(&links::dump_request(), links::decode);
        let devices = devices.map_err(failed("devices"))?;
        if let Some(features) = &mut self.features {
            for found in features.dump().map_err(failed("XDP features"))? {
                self.links
                    .set_features(found.ifindex, found.bits, &mut self.inputs);
            }
        }
        for ifindex in self.links.missing_from(&devices) {
            self.device_gone(ifindex);
        }
        for device in devices {
            let ifindex = device.ifindex;
            if self.links.insert(device, &mut self.inputs) {
                self.tracker.device_changed(ifindex);
            }
        }
        Ok(())
    }

    fn prune_neighbours(&mut self) -> Result<usize, RequestError> {
        let mut removed = 0;
        for (key, neighbour) in neighbours::dump(&mut self.requests)? {
            if neighbour.ours && !neighbour.foreign && !self.tracker.uses(key) {
                neighbours::delete(&mut self.requests, key)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn is_pending(&self) -> bool {
        self.lost
            || !self.inputs.is_empty()
            || !self.reread.is_empty()
            || self.tracker.is_pending()
            || self.host_routes.is_pending()
    }

    fn deadline(&self) -> Instant {
        let due = [self.settle, self.host_routes.deadline()];
        due.into_iter()
            .flatten()
            .fold(self.audit, |first, at| first.min(at))
    }
}

/// The kernel of this namespace, as the tracker asks it.
struct Netlink<'a>(&'a mut Requests);

impl Kernel for Netlink<'_> {
    fn route(&mut self, vtep: IpAddr) -> Result<Route, RequestError> {
        routes::lookup(self.0, vtep)
    }

    fn neighbour(&mut self, key: NeighbourKey) -> Result<Option<Neighbour>, RequestError> {
        neighbours::get(self.0, key)
    }

    fn manage(&mut self, key: NeighbourKey) -> Result<(), RequestError> {
        neighbours::manage(self.0, key)
    }

    fn release(&mut self, key: NeighbourKey) -> Result<(), RequestError> {
        neighbours::delete(self.0, key)
    }
}
