//! What the kernel half and the agent share, so that neither can disagree with the other.
//!
//! - [`Mac`], [`Vni`]: addresses in the form in which they appear on the wire.
//! - [`abi`]: keys and values of every BPF map, and the record formats between program and agent.
//! - [`DropReason`]: every reason for which the datapath refuses a frame.
//! - [`wire`]: header layouts, checksums and decisions over packet bytes, compiled for the kernel
//!   and for the host alike: the code that a host test fuzzes is the code that the kernel runs.
//!
//! No allocation, no `std`, no packet pointers: those live in `vtep-ebpf`.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod abi;
mod drop_reason;
mod mac;
mod vni;
pub mod wire;

pub use drop_reason::DropReason;
pub use mac::{Mac, ParseMacError};
pub use vni::{InvalidVni, Vni};
