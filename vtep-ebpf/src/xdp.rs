//! The XDP context: its fields and the helpers that change it.

use core::ptr;

use aya_ebpf::{bindings::xdp_md, helpers};
use vtep_common::DropReason;

use crate::packet::{Packet, distance};

/// A context that the kernel handed to an XDP program.
#[derive(Clone, Copy)]
pub struct Xdp(*mut xdp_md);

impl Xdp {
    /// From a program's argument.
    #[inline(always)]
    pub fn new(context: *mut xdp_md) -> Self {
        Self(context)
    }

    /// The first buffer's bytes. Invalid after every helper that moves them.
    #[inline(always)]
    pub fn packet(self) -> Packet {
        // SAFETY: the kernel's context. Volatile, so that the two are not fetched together.
        let (start, end) = unsafe {
            (
                ptr::read_volatile(&raw const (*self.0).data) as usize,
                ptr::read_volatile(&raw const (*self.0).data_end) as usize,
            )
        };
        Packet::new(start, end, distance(start, end))
    }

    /// The metadata in front of the frame: bytes that look like a frame of their own.
    #[inline(always)]
    pub fn metadata(self) -> Packet {
        // SAFETY: as for `packet`.
        let (start, end) = unsafe {
            (
                ptr::read_volatile(&raw const (*self.0).data_meta) as usize,
                ptr::read_volatile(&raw const (*self.0).data) as usize,
            )
        };
        Packet::new(start, end, 0)
    }

    /// The device that it came in by.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        // SAFETY: as for `packet`.
        unsafe { ptr::read_volatile(&raw const (*self.0).ingress_ifindex) }
    }

    /// Length of the frame over all its buffers.
    #[inline(always)]
    pub fn length(self) -> u32 {
        // SAFETY: the kernel's context.
        unsafe { helpers::bpf_xdp_get_buff_len(self.0) as u32 }
    }

    /// Makes room for metadata. Not every driver has it.
    #[inline(always)]
    pub fn reserve_metadata(self, bytes: u32) -> bool {
        // SAFETY: the kernel's context.
        unsafe { helpers::bpf_xdp_adjust_meta(self.0, -(bytes as i32)) == 0 }
    }

    /// Removes bytes at the front; metadata moves along.
    #[inline(always)]
    pub fn strip(self, bytes: u32) -> Result<(), DropReason> {
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_xdp_adjust_head(self.0, bytes as i32) })
    }

    /// Removes bytes at the end.
    #[inline(always)]
    pub fn trim(self, bytes: u32) -> Result<(), DropReason> {
        // SAFETY: the kernel's context.
        done(unsafe { helpers::bpf_xdp_adjust_tail(self.0, -(bytes as i32)) })
    }
}

#[inline(always)]
fn done(result: i64) -> Result<(), DropReason> {
    if result == 0 {
        Ok(())
    } else {
        Err(DropReason::Helper)
    }
}
