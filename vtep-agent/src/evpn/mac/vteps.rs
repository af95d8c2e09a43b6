//! What becomes of MACs when something happens to the VTEP that they are behind. Looks at all of them.

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
    /// it is dropped and counted, not flooded.
    pub fn set_reachable(&mut self, vtep: Ipv4Addr, reachable: bool) {
        for (mac, entry) in &mut self.entries {
            let alone = entry.remote.len() < 2;
            for (_, remote) in &mut entry.remote {
                if remote.next_hop == vtep && remote.unreachable == reachable {
                    remote.unreachable = !reachable;
                    if !alone {
                        self.dirty.push(*mac);
                    }
                }
            }
        }
    }
}
