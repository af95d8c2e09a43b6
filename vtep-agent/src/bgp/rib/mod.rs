//! Routing tables: adj-rib-in with the decision process, adj-rib-out, and who wants what.

mod adj_in;
mod adj_out;
mod decision;
mod interest;
mod intern;
mod long_lived;
mod memberships;
mod reflect;
mod stale;
mod target_routes;
mod unicast_out;

pub use adj_in::{AdjRibIn, Best, Change, NotBest, Path, Received, Rejected, Speaker};
pub use adj_out::AdjRibOut;
pub use decision::Step;
pub use long_lived::{LLGR_STALE, NO_LLGR};
pub use memberships::{Asked, Exchanged, Memberships};
pub use stale::WhyStale;
pub use unicast_out::UnicastOut;

pub use super::wire::Advertisement;
