//! Packet bytes by direct access: the only loads and stores through packet pointers.
//!
//! Inline assembly, since Rust has no unaligned access that compiles to one instruction here:
//! `read_unaligned` becomes byte loads and shifts, and a plain misaligned access is undefined.

use core::{arch::asm, hint};

use vtep_common::wire::{Bytes, BytesMut, Frame};

/// The directly accessible part of a frame, as long as no helper has moved it.
#[derive(Clone, Copy)]
pub struct Packet {
    start: usize,
    end: usize,
    length: u32,
}

impl Packet {
    /// From a context's `data` and `data_end`; `length` counts what is in pages, too.
    #[inline(always)]
    pub fn new(start: usize, end: usize, length: u32) -> Self {
        Self { start, end, length }
    }
}

/// Bytes between two packet pointers. Hidden from the compiler, which would subtract the lower halves
/// only: the verifier allows no 32-bit arithmetic on pointers.
#[inline(always)]
pub fn distance(start: usize, end: usize) -> u32 {
    let mut bytes = end;
    // SAFETY: plain arithmetic on addresses.
    unsafe {
        asm!(
            "{bytes} -= {start}",
            bytes = inout(reg) bytes,
            start = in(reg) start,
            options(nostack, nomem, pure, preserves_flags),
        );
    }
    bytes as u32
}

/// A packet pointer behind which the verifier knows enough bytes.
#[derive(Clone, Copy)]
pub struct Pointer(*mut u8);

impl Pointer {
    /// The address, for a helper that reads packet memory.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut u8 {
        self.0
    }
}

impl Frame for Packet {
    type Bytes = Pointer;

    #[inline(always)]
    fn length(self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn bytes<const N: usize>(self, at: u32) -> Option<Pointer> {
        let mut start = self.start;
        // The addition is hidden from the compiler: were it done again behind the comparison, the
        // verifier would not know that both results are the same pointer.
        // SAFETY: plain arithmetic on an address.
        unsafe {
            asm!(
                "{start} += {at}",
                start = inout(reg) start,
                at = in(reg) u64::from(at),
                options(nostack, nomem, pure, preserves_flags),
            );
        }
        if start + N > self.end {
            return None;
        }
        Some(Pointer(start as *mut u8))
    }
}

macro_rules! load {
    ($name:ident, $type:ty, $width:literal) => {
        #[inline(always)]
        unsafe fn $name<const AT: usize>(self) -> $type {
            let value: u64;
            // SAFETY: the caller says that the bytes are within the packet, and the verifier
            // proves it.
            unsafe {
                asm!(
                    concat!("{value} = *(", $width, " *)({pointer} + {at})"),
                    value = out(reg) value,
                    pointer = in(reg) self.0,
                    at = const AT,
                    options(nostack, readonly, preserves_flags),
                );
            }
            // Loads clear the rest of the register, which the compiler would otherwise do again.
            // SAFETY: as the instruction set says (RFC 9669 §5.1).
            unsafe { hint::assert_unchecked(value <= u64::from(<$type>::MAX)) };
            value as $type
        }
    };
}

macro_rules! store {
    ($name:ident, $type:ty, $width:literal) => {
        #[inline(always)]
        unsafe fn $name<const AT: usize>(self, value: $type) {
            // SAFETY: as for the loads.
            unsafe {
                asm!(
                    concat!("*(", $width, " *)({pointer} + {at}) = {value}"),
                    value = in(reg) u64::from(value),
                    pointer = in(reg) self.0,
                    at = const AT,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}

impl Bytes for Pointer {
    load!(load_u8, u8, "u8");
    load!(load_u16, u16, "u16");
    load!(load_u32, u32, "u32");
}

impl BytesMut for Pointer {
    store!(store_u8, u8, "u8");
    store!(store_u16, u16, "u16");
    store!(store_u32, u32, "u32");
}
