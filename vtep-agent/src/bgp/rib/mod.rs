//! Routing tables: adj-rib-in with the decision process, adj-rib-out, and who wants what.

mod adj_in;
mod adj_out;
mod change;
mod decision;
mod interest;
mod interior;
mod intern;
mod long_lived;
mod memberships;
mod paths;
mod reflect;
mod routes;
mod speaker;
mod stale;
mod target_routes;
mod unicast_out;

pub use adj_in::AdjRibIn;
pub use adj_out::AdjRibOut;
pub use change::{Best, Change};
pub use decision::Step;
pub use interior::Reach;
pub use long_lived::{LLGR_STALE, NO_LLGR};
pub use memberships::{Asked, Exchanged, Memberships};
pub use paths::{NotBest, Path, Received};
pub use speaker::{Rejected, Speaker};
pub use stale::WhyStale;
pub use unicast_out::UnicastOut;

pub use super::wire::Advertisement;
