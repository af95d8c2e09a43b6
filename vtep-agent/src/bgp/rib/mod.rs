//! Routing tables: adj-rib-in with the decision process, adj-rib-out.

mod adj_in;
mod adj_out;
mod decision;

pub use adj_in::{AdjRibIn, Best, Change, NotBest, Path, Rejected, Speaker};
pub use adj_out::AdjRibOut;
pub use decision::Step;

use std::sync::Arc;

use super::wire::{Attributes, Route, RouteKey};

/// What a session is to send: the difference of an adj-rib-out, grouped by attributes so that one
/// UPDATE carries as many routes as fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advertisement {
    /// Routes to withdraw; sent first.
    pub withdraw: Vec<RouteKey>,
    /// Routes to announce, with the attributes as they go to this peer.
    pub announce: Vec<(Arc<Attributes>, Vec<Route>)>,
    /// An End-of-RIB marker follows (RFC 4724 §2).
    pub end_of_rib: bool,
    /// This answers a ROUTE-REFRESH.
    pub refresh: bool,
}
