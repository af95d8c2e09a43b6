//! Next hops that the underlay is asked about: those of routes that bridge domains use, and those that the
//! decision between several paths depends on.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use vtep_common::abi::Adjacency;

use super::{Core, Output};
use crate::bgp::rib::Reach;

impl Core {
    /// The underlay answers.
    pub(super) fn paths(
        &mut self,
        address: IpAddr,
        paths: Vec<Adjacency>,
        metric: u32,
        now: Instant,
    ) {
        // It may have been on its way when nobody needed it any more.
        if !self.is_needed(address) {
            return;
        }
        let reachable = !paths.is_empty();
        if let IpAddr::V4(address) = address {
            self.vtep_paths(address, paths);
        }
        let reach = match reachable {
            true => Reach::Cost(metric),
            false => Reach::Lost,
        };
        let changes = self.adj_in.set_reach(address, reach, now);
        self.changes(changes, now);
    }

    fn vtep_paths(&mut self, address: Ipv4Addr, paths: Vec<Adjacency>) {
        let reachable = !paths.is_empty();
        let was_lost = self.nexthops.is_lost(address);
        let bds = self.nexthops.set_paths(address, paths, &mut self.intent);
        for bd in bds {
            match self.bd_mut(bd) {
                // The first path to a VTEP: no route was ever said to have none.
                Some(bd) if reachable && !was_lost => bd.touch_flood(),
                Some(bd) => bd.set_reachable(address, reachable),
                None => {}
            }
        }
        // The underlay's VLAN is that of the paths.
        self.settings_dirty = true;
    }

    /// Asks about what has become of interest, and no more about what nobody needs. `unused` are VTEPs that
    /// no bridge domain uses any more; of new ones it has been asked already.
    pub(super) fn track(&mut self, unused: Vec<Ipv4Addr>) {
        let mut touched = self.adj_in.take_touched();
        touched.extend(unused.into_iter().map(IpAddr::V4));
        for address in touched {
            if !self.is_needed(address) {
                self.outputs.push(Output::Untrack(address));
                self.adj_in.forget_reach(address);
            } else if self.adj_in.reach(address).is_none() {
                self.outputs.push(Output::Track(address));
            }
        }
    }

    fn is_needed(&self, address: IpAddr) -> bool {
        let is_used = match address {
            IpAddr::V4(address) => self.nexthops.uses(address),
            IpAddr::V6(_) => false,
        };
        is_used || self.adj_in.chooses(address)
    }
}
