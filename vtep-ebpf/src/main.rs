//! The kernel half of vtep.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod programs;

/// Only the BPF target has programs; on the host the crate is empty, so that workspace-wide cargo
/// commands work.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
