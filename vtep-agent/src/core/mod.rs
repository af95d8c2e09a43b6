//! The control plane without IO: inputs and time in, outputs and desired tables out.
//!
//! [`Core::handle`] and [`Core::command`] change the tables of routes and of bridge domains, which
//! note what they touched; before they return, [`Core::finish`] turns exactly that into the desired
//! BPF tables and into announcements.

mod bds;
mod command;
mod command_error;
mod deferral;
mod dhcp;
mod drain;
mod expiry;
mod flood;
mod guard;
mod held;
mod imports;
mod index;
mod io;
mod nexthops;
mod peers;
mod ports;
mod publish;
mod recovery;
mod replication;
mod route_views;
mod rows;
mod state;
mod tracking;
mod underlay;
mod unicast_views;
mod unsolicited;
mod uplinks;
mod views;
mod vm_ports;

#[cfg(test)]
mod tests;

pub use command_error::{CommandError, PortName, XdpModeName};
pub use deferral::Start;
pub use drain::Drain;
pub use io::{Command, DeclaredEndpoint, HostNextHop, HostRoute, Input, Link, Output};
pub use peers::PeerRoutes;
pub use rows::{PIECE, Piece, Rows};
pub use state::{SavedBd, SavedEndpoint, SavedPort, State};
pub use views::BdStats;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use vtep_common::abi::{BdId, Event, EventKind, MAX_BDS};

use self::{
    deferral::Deferral, expiry::Expiries, flood::FloodLists, held::Held, index::Indexes,
    nexthops::Nexthops, peers::PeerIds, ports::Ports, recovery::Recovery, underlay::Underlay,
    unsolicited::Unsolicited, uplinks::Uplinks,
};
use crate::{
    bgp::{
        peer::PeerEvent,
        rib::{AdjRibIn, AdjRibOut, Memberships},
        wire::{ArpNd, Family},
    },
    config::Config,
    evpn::{BridgeDomain, Slot, TargetIndex},
    intent::{Installed, Intent},
    types::{BdName, IfName, hash},
};

/// The whole control plane.
#[derive(Debug)]
pub struct Core {
    config: Config,
    state: State,
    state_dirty: bool,
    /// Present while what an earlier run installed is preserved.
    deferral: Option<Deferral>,
    drain: Drain,
    peers: PeerIds,
    adj_in: AdjRibIn,
    adj_out: AdjRibOut,
    underlay: Underlay,
    memberships: Memberships,
    targets: TargetIndex,
    bds: BTreeMap<BdId, BridgeDomain>,
    names: BTreeMap<BdName, BdId>,
    bd_indexes: Indexes,
    expiries: Expiries,
    /// Generation of each index that was ever in use.
    generations: BTreeMap<BdId, u16>,
    ports: Ports,
    guards: guard::Guards,
    uplinks: Uplinks,
    unsolicited: Unsolicited,
    /// Uplinks of the file that `detach` took, until `attach` or the next reload.
    detached: BTreeSet<IfName>,
    /// Every device that exists has been reported.
    devices_read: bool,
    nexthops: Nexthops,
    flood: FloodLists,
    /// Present until everything has come back that an earlier run left.
    recovery: Option<Recovery>,
    held: Held,
    intent: Intent,
    /// Bridge domains that were touched since the last [`Core::finish`].
    dirty: BTreeSet<BdId>,
    settings_dirty: bool,
    outputs: Vec<Output>,
    /// Number of the next table, see [`hash::Scope`].
    tables: u64,
}

impl Core {
    /// Starts with a configuration and what was saved by the last run.
    pub fn new(config: Config, state: State, start: Start, now: Instant) -> (Self, Vec<Output>) {
        Self::start_from(config, state, start, None, now)
    }

    /// As [`Core::new`] with forwarding preserved, and with what an earlier run left in the datapath's
    /// tables. It stays as it is, in its places: what is behind our ports until [`Input::Recovered`],
    /// unless its port is there by then, and remote entries until [`Core::settled`], unless a peer has
    /// confirmed them.
    pub fn recover(
        config: Config,
        state: State,
        installed: &Installed,
        now: Instant,
    ) -> (Self, Vec<Output>) {
        let start = Start {
            forwarding_preserved: true,
        };
        Self::start_from(config, state, start, Some(installed), now)
    }

    fn start_from(
        config: Config,
        state: State,
        start: Start,
        installed: Option<&Installed>,
        now: Instant,
    ) -> (Self, Vec<Output>) {
        let scope = hash::Scope::enter(0);
        // Its order comes from elsewhere.
        let installed = installed.map(Installed::in_order);
        let (mut core, outputs) = Self::start(config, state, start, installed.as_ref(), now);
        core.tables = scope.leave();
        (core, outputs)
    }

    fn start(
        config: Config,
        state: State,
        start: Start,
        installed: Option<&Installed>,
        now: Instant,
    ) -> (Self, Vec<Output>) {
        let deferral = Deferral::new(start, config.bgp.selection_deferral, now);
        let mut core = Self {
            adj_in: AdjRibIn::new(Family::EVPN, underlay::speaker(&config)),
            underlay: Underlay::new(&config),
            adj_out: AdjRibOut::new(config.bgp.asn, config.vtep.router_id, deferral.is_some()),
            memberships: Memberships::new(underlay::speaker(&config), config.vtep.address().into()),
            config,
            state,
            state_dirty: false,
            deferral,
            drain: Drain::default(),
            peers: PeerIds::default(),
            targets: TargetIndex::default(),
            bds: BTreeMap::new(),
            names: BTreeMap::new(),
            bd_indexes: Indexes::below(MAX_BDS),
            expiries: Expiries::default(),
            generations: BTreeMap::new(),
            ports: Ports::new(),
            uplinks: Uplinks::default(),
            unsolicited: Unsolicited::default(),
            guards: guard::Guards::new(),
            detached: BTreeSet::new(),
            devices_read: false,
            nexthops: Nexthops::new(),
            flood: FloodLists::new(),
            recovery: None,
            held: Held::default(),
            intent: Intent::default(),
            dirty: BTreeSet::new(),
            settings_dirty: true,
            outputs: Vec::new(),
            tables: 0,
        };
        if let Some(installed) = installed {
            core.begin_recovery(installed, now);
        }
        core.resume_drain(start, now);
        core.sync_peers(now);
        core.sync_uplinks();
        core.sync_bds(now);
        if let Some(installed) = installed {
            core.continue_recovery(installed, now);
            // VMs know all of that.
            core.publish(now);
            core.unsolicited.clear();
        }
        let outputs = core.finish(now);
        (core, outputs)
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        self.turn(|core| core.take_in(input, now))
    }

    fn take_in(&mut self, input: Input, now: Instant) -> Vec<Output> {
        match input {
            Input::Peer(peer, event) => self.peer_event(peer, event, now),
            Input::Updates(updates) => {
                for (peer, update) in updates {
                    self.peer_event(peer, PeerEvent::Update(update), now);
                }
            }
            Input::Link(link) => self.link(link, now),
            Input::LinkGone(ifindex) => self.link_gone(ifindex, now),
            Input::Paths(address, paths, metric) => {
                self.paths(address.to_canonical(), paths, metric, now);
            }
            Input::Event(event) => self.event(event, now),
            Input::Dhcp(event) => self.dhcp_event(&event, now),
            Input::Idle(idle) => {
                for (key, idle) in idle {
                    if let Some(bd) = self.bd_mut(key.bd()) {
                        bd.age(key.mac(), idle, now);
                    }
                }
            }
            Input::Recovered => {
                self.finish_recovery(now);
                if let Some(deferral) = &mut self.deferral {
                    deferral.recovered();
                }
            }
            Input::Tick => self.expire_routes(now),
        }
        self.finish(now)
    }

    /// Every device that exists has been reported: an uplink that was not is worth a warning.
    pub fn devices_read(&mut self) {
        self.turn(|core| {
            core.devices_read = true;
            core.report_missing_uplinks();
        });
    }

    /// Withdraws everything that we announced: the last thing that peers hear of us.
    pub fn shutdown(&mut self, now: Instant) -> Vec<Output> {
        self.turn(|core| {
            core.adj_out.leave();
            core.underlay.out.set([]);
            core.forget_drain();
            core.finish(now)
        })
    }

    /// The desired tables, to be read and their changes taken by the reconciler.
    pub fn intent_mut(&mut self) -> &mut Intent {
        &mut self.intent
    }

    /// The desired tables, to be looked at.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// When the core wants an [`Input::Tick`], if nothing else comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.expiries
            .next()
            .into_iter()
            .chain(self.flood.next_expiry())
            .chain(self.adj_in.deadline())
            .chain(self.deferral.as_ref().and_then(Deferral::deadline))
            .chain(self.drain.deadline())
            .chain(self.unsolicited.deadline())
            .chain(self.underlay.ribs.values().filter_map(AdjRibIn::deadline))
            .chain(self.memberships.deadline())
            .min()
    }

    /// The shortest time after which some bridge domain forgets a MAC; `None` when none does.
    pub fn shortest_ageing(&self) -> Option<Duration> {
        self.bds.values().filter_map(|bd| bd.config.ageing).min()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Does what makes hash tables, whose order is to be the same whenever it is done again.
    fn turn<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let scope = hash::Scope::enter(self.tables);
        let done = work(self);
        self.tables = scope.leave();
        done
    }

    /// A record of the ring buffer. What it was written for may be gone by now.
    fn event(&mut self, event: Event, now: Instant) {
        let slot = Slot(event.slot);
        if self.ports.get(slot).map(|port| port.bd) != Some(event.bd) {
            return;
        }
        let Some(kind) = event.kind() else {
            return;
        };
        let Some(bd) = self.bd_mut(event.bd.bd) else {
            return;
        };
        if !bd.config.learning {
            return;
        }
        let ip = Ipv6Addr::from(event.ip);
        match kind {
            EventKind::Mac | EventKind::Rarp => {
                bd.learn(event.mac, slot, now);
            }
            EventKind::Arp => {
                if let Some(ip) = ip.to_ipv4_mapped() {
                    bd.bind(event.mac, slot, ip.into(), ArpNd::default(), now);
                }
            }
            EventKind::Na => {
                const ROUTER: u8 = 0x80;
                const OVERRIDE: u8 = 0x20;
                let ip = IpAddr::V6(ip);
                let override_ = event.flags & OVERRIDE != 0;
                // Without O it is one of several that have an anycast address (RFC 9161 §3.2.1).
                if override_ || bd.neighbors().is_anycast(ip) {
                    let flags = ArpNd {
                        router: event.flags & ROUTER != 0,
                        override_,
                        immutable: false,
                    };
                    bd.bind(event.mac, slot, ip, flags, now);
                }
            }
            // These come with their packet.
            EventKind::DhcpSent | EventKind::DhcpDelivered => {}
        }
    }

    /// Turns everything that was touched into desired tables and outputs.
    fn finish(&mut self, now: Instant) -> Vec<Output> {
        self.settle(now);
        self.finish_drain(now);
        for id in self.expiries.due(now) {
            if let Some(bd) = self.bd_mut(id) {
                bd.expire(now);
            }
        }
        self.flood.expire(&mut self.intent, now);
        self.publish(now);
        let unused = self.nexthops.collect(&mut self.intent, now);
        for (bd, vtep) in self.nexthops.refill(&mut self.intent, now) {
            if let Some(bd) = self.bd_mut(bd) {
                bd.touch_vtep(vtep);
            }
        }
        self.publish(now);
        self.track(unused);
        self.announce_to_vms(now);
        // First what we ask for.
        let memberships = self.memberships.flush().into_iter();
        let unicast = self.underlay.out.flush();
        for (peer, advertisement) in memberships.chain(self.adj_out.flush()).chain(unicast) {
            self.outputs.push(Output::Send(peer, advertisement));
        }
        if std::mem::take(&mut self.state_dirty) {
            self.outputs
                .push(Output::Persist(Box::new(self.state.clone())));
        }
        std::mem::take(&mut self.outputs)
    }

    /// A bridge domain that is about to be changed.
    fn bd_mut(&mut self, bd: BdId) -> Option<&mut BridgeDomain> {
        let found = self.bds.get_mut(&bd)?;
        self.dirty.insert(bd);
        Some(found)
    }

    fn touch_flood(&mut self, bd: BdId) {
        if let Some(bd) = self.bd_mut(bd) {
            bd.touch_flood();
        }
    }
}
