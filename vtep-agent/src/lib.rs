//! The vtep agent: BGP EVPN in, BPF maps out.

pub mod bfd;
pub mod bgp;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod dataplane;
pub mod doctor;
pub mod evpn;
pub mod intent;
pub mod kernel;
pub mod observe;
mod privileges;
mod random;
pub mod reconcile;
pub mod recording;
mod sockopt;
pub mod store;
pub mod tcp_ao;
pub mod types;
pub mod view;
