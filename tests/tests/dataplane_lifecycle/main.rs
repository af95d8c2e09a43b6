//! Loading, attaching, pinning and taking over, on a real kernel. Needs root, iproute2 and bpftool.
//!
//! Each test runs in a thread with network and mount namespaces of its own, which go with it.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of a test fail by panicking, too"
)]

mod adopt;
mod attach;
mod events;
mod foreign;
mod load;
mod maps;
mod rig;
