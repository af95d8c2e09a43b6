//! `vtep_agent::kernel` against the real kernel: each test has network namespaces of its own. Needs
//! root, iproute2, arping and ethtool.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says by a panic what is wrong, also in its helpers"
)]

mod churn;
mod devices;
mod load;
mod namespace;
mod neighbours;
mod routes;
mod watch;
