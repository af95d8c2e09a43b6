//! What becomes of MACs when something happens to the VTEP that they are behind.

use std::net::Ipv4Addr;

use super::{MacTable, Winner};

impl MacTable {
    /// A VTEP's place in the datapath's tables changed.
    pub fn touch_vtep(&mut self, vtep: Ipv4Addr) {
        let there = self.entries.iter().filter(|(_, entry)| {
            matches!(entry.winner(), Some(Winner::Remote(_, remote)) if remote.next_hop == vtep)
        });
        self.dirty.extend(there.map(|(mac, _)| *mac));
    }

    /// There is a path to a VTEP, or none any more. A MAC that only it claims stays there: what is sent to
    /// it is dropped and counted, not flooded. Only MACs that others claim too are visited: a spine that
    /// fails takes the paths to many VTEPs at once.
    pub fn set_reachable(&mut self, vtep: Ipv4Addr, reachable: bool) {
        self.note_reachable(vtep, reachable);
        for mac in &self.contested {
            if let Some(entry) = self.entries.get_mut(mac) {
                entry.set_unreachable(&self.lost);
                self.dirty.push(*mac);
            }
        }
    }

    pub(super) fn note_reachable(&mut self, vtep: Ipv4Addr, reachable: bool) {
        match reachable {
            // Mostly there are none.
            true if self.lost.is_empty() => false,
            true => self.lost.remove(&vtep),
            false => self.lost.insert(vtep),
        };
    }
}
