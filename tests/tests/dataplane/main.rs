//! The programs through `BPF_PROG_TEST_RUN`: bytes in, maps set, verdict, bytes and counters out.
//!
//! Needs root (or `CAP_BPF` and `CAP_NET_ADMIN`); without it every test fails and says so.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests; clippy's own exception ends at the test functions"
)]

mod access;
mod corruption;
mod dhcp;
mod encap;
mod flooding;
mod frames;
mod guard;
mod ledger;
mod memory;
mod rig;
mod suppress;
mod trace;
mod underlay;
