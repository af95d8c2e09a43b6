//! Headers and decisions over packet bytes.
//!
//! Everything here is ordinary code over the small trait [`Frame`]: the kernel half implements it
//! over packet pointers, the host over slices, so that the code a host test fuzzes is the code that
//! the verifier accepts. Decisions read the maps through [`Tables`].
//!
//! - [`underlay`]: what to do with a frame from the fabric; serves the XDP and the TC program alike.
//! - [`access`]: what to do with a frame from a VM port.
//! - [`arp`], [`nd`], [`icmp`]: the messages that the datapath reads, answers and sends.
//! - [`dhcp`]: which frames are DHCP, and what the agent takes from their copies.
//! - [`outer`], [`ecn`], [`checksum`], [`ip`], [`ethernet`]: headers.
//! - [`flow`]: which frames belong together.
//! - [`offload`]: whether XDP may redirect a frame without losing what its sender left to hardware.
//! - [`rate`]: the token bucket.
//!
//! Offsets count bytes from the start of the frame. Integers are as loaded (host order) unless the
//! name ends in `_be`, which is wire order loaded without a swap.

pub mod access;
pub mod arp;
pub mod checksum;
pub mod dhcp;
pub mod ecn;
pub mod ethernet;
pub mod flow;
mod frame;

pub mod guard;
pub mod icmp;
pub mod ip;
pub mod nd;

pub mod offload;
pub mod outer;
pub mod rate;
mod tables;
pub mod underlay;

pub use frame::{Bytes, BytesMut, Frame, View};
pub use tables::Tables;

#[cfg(test)]
mod testing;
