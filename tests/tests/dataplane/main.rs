//! The programs through `BPF_PROG_TEST_RUN`: bytes in, maps set, verdict, bytes and counters out.
//!
//! Needs root (or `CAP_BPF` and `CAP_NET_ADMIN`); without it every test fails and says so.

mod access;
mod corruption;
mod encap;
mod frames;
mod rig;
mod suppress;
mod underlay;
