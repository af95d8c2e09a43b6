//! What the UPDATEs of one flush say, before they are cut into messages.

use std::sync::Arc;

use serde::Serialize;

use super::{Attributes, Family, Route, RouteKey};

/// What a session is to send: the difference of an adj-rib-out, grouped by attributes so that one
/// UPDATE carries as many routes as fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Advertisement {
    /// The family of all that follows.
    pub family: Family,
    /// Routes to withdraw; sent first.
    pub withdraw: Vec<RouteKey>,
    /// Routes to announce, with the attributes as they go to this peer.
    pub announce: Vec<(Arc<Attributes>, Vec<Route>)>,
    /// An End-of-RIB marker follows (RFC 4724 §2).
    pub end_of_rib: bool,
    /// This answers a ROUTE-REFRESH.
    pub refresh: bool,
}
