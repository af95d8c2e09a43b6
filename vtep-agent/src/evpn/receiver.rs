//! Who receives a bridge domain's BUM traffic: the remote half of its flood list (RFC 7432 §11).

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
};

use crate::bgp::wire::RouteKey;

/// A remote receiver: one copy of each BUM frame goes there, with this VNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receiver {
    /// The VTEP.
    pub next_hop: Ipv4Addr,
    /// Label of its PMSI tunnel attribute.
    pub vni: u32,
}

/// Receivers by the route that names them.
#[derive(Debug, Default)]
pub struct ReceiverTable {
    routes: HashMap<RouteKey, Receiver>,
}

impl ReceiverTable {
    /// Sets or replaces what a route says, or takes it away.
    pub fn set(&mut self, key: RouteKey, receiver: Option<Receiver>) {
        match receiver {
            Some(receiver) => self.routes.insert(key, receiver),
            None => self.routes.remove(&key),
        };
    }

    /// Each receiver once, however many routes name it (RFC 9572 §5.2), in order.
    pub fn distinct(&self) -> BTreeSet<Receiver> {
        self.routes.values().copied().collect()
    }
}
