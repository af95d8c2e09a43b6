//! Bytes of a frame behind one bounds check.

use core::cell::Cell;

/// A frame whose bytes can be looked at.
pub trait Frame: Copy {
    /// What a successful bounds check gives.
    type Bytes: Bytes;

    /// Length of the whole frame in bytes. Part of it may not be viewable (a paged packet).
    fn length(self) -> u32;

    /// The `N` bytes at offset `at`, if they are there.
    fn bytes<const N: usize>(self, at: u32) -> Option<Self::Bytes>;

    /// As [`Frame::bytes`], with accessors that cannot leave the `N` bytes.
    #[inline(always)]
    fn view<const N: usize>(self, at: u32) -> Option<View<Self::Bytes, N>> {
        self.bytes::<N>(at).map(View)
    }
}

/// Loads from the bytes behind a bounds check.
pub trait Bytes: Copy {
    /// The byte at `AT`.
    ///
    /// # Safety
    /// `AT` lies within the checked bytes.
    unsafe fn load_u8<const AT: usize>(self) -> u8;

    /// Two bytes at `AT`, in host order.
    ///
    /// # Safety
    /// `AT + 2` bytes were checked.
    unsafe fn load_u16<const AT: usize>(self) -> u16;

    /// Four bytes at `AT`, in host order.
    ///
    /// # Safety
    /// `AT + 4` bytes were checked.
    unsafe fn load_u32<const AT: usize>(self) -> u32;
}

/// Stores to the bytes behind a bounds check.
pub trait BytesMut: Bytes {
    /// Sets the byte at `AT`.
    ///
    /// # Safety
    /// `AT` lies within the checked bytes.
    unsafe fn store_u8<const AT: usize>(self, value: u8);

    /// Sets two bytes at `AT`, in host order.
    ///
    /// # Safety
    /// `AT + 2` bytes were checked.
    unsafe fn store_u16<const AT: usize>(self, value: u16);

    /// Sets four bytes at `AT`, in host order.
    ///
    /// # Safety
    /// `AT + 4` bytes were checked.
    unsafe fn store_u32<const AT: usize>(self, value: u32);
}

/// `N` bytes that are there. Offsets are constants, and one that leaves the view does not compile.
#[derive(Clone, Copy)]
pub struct View<B, const N: usize>(B);

impl<B: Bytes, const N: usize> View<B, N> {
    /// The byte at `AT`.
    #[inline(always)]
    pub fn u8<const AT: usize>(self) -> u8 {
        const { assert!(AT < N) };
        // SAFETY: the view has N bytes, and AT is less (checked above, at compile time).
        unsafe { self.0.load_u8::<AT>() }
    }

    /// Two bytes at `AT`, in host order.
    #[inline(always)]
    pub fn u16<const AT: usize>(self) -> u16 {
        const { assert!(AT + 2 <= N) };
        // SAFETY: the view has N bytes, and AT + 2 is no more (checked above, at compile time).
        unsafe { self.0.load_u16::<AT>() }
    }

    /// Four bytes at `AT`, in host order.
    #[inline(always)]
    pub fn u32<const AT: usize>(self) -> u32 {
        const { assert!(AT + 4 <= N) };
        // SAFETY: the view has N bytes, and AT + 4 is no more (checked above, at compile time).
        unsafe { self.0.load_u32::<AT>() }
    }

    /// Two bytes at `AT` as a number in network order.
    #[inline(always)]
    pub fn be16<const AT: usize>(self) -> u16 {
        u16::from_be(self.u16::<AT>())
    }

    /// Four bytes at `AT` as a number in network order.
    #[inline(always)]
    pub fn be32<const AT: usize>(self) -> u32 {
        u32::from_be(self.u32::<AT>())
    }

    /// The MAC at `HEAD`, as [`Mac::to_bits`](crate::Mac::to_bits). `TAIL` is `HEAD + 4`: constants
    /// cannot be computed from constants in a signature.
    #[inline(always)]
    pub fn mac<const HEAD: usize, const TAIL: usize>(self) -> u64 {
        const { assert!(TAIL == HEAD + 4) };
        u64::from(u32::from_le(self.u32::<HEAD>()))
            | u64::from(u16::from_le(self.u16::<TAIL>())) << 32
    }
}

impl<B: BytesMut, const N: usize> View<B, N> {
    /// Sets the byte at `AT`.
    #[inline(always)]
    pub fn set_u8<const AT: usize>(self, value: u8) {
        const { assert!(AT < N) };
        // SAFETY: the view has N bytes, and AT is less (checked above, at compile time).
        unsafe { self.0.store_u8::<AT>(value) }
    }

    /// Sets two bytes at `AT`, in host order.
    #[inline(always)]
    pub fn set_u16<const AT: usize>(self, value: u16) {
        const { assert!(AT + 2 <= N) };
        // SAFETY: the view has N bytes, and AT + 2 is no more (checked above, at compile time).
        unsafe { self.0.store_u16::<AT>(value) }
    }

    /// Sets four bytes at `AT`, in host order.
    #[inline(always)]
    pub fn set_u32<const AT: usize>(self, value: u32) {
        const { assert!(AT + 4 <= N) };
        // SAFETY: the view has N bytes, and AT + 4 is no more (checked above, at compile time).
        unsafe { self.0.store_u32::<AT>(value) }
    }

    /// Sets the MAC at `HEAD` from [`Mac::to_bits`](crate::Mac::to_bits); `TAIL` is `HEAD + 4`.
    #[inline(always)]
    pub fn set_mac<const HEAD: usize, const TAIL: usize>(self, bits: u64) {
        const { assert!(TAIL == HEAD + 4) };
        self.set_u32::<HEAD>((bits as u32).to_le());
        self.set_u16::<TAIL>(((bits >> 32) as u16).to_le());
    }
}

impl Frame for &[u8] {
    type Bytes = Self;

    fn length(self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn bytes<const N: usize>(self, at: u32) -> Option<Self> {
        let at = usize::try_from(at).ok()?;
        self.get(at..at.checked_add(N)?)
    }
}

/// `W` bytes at `at`. A view's constants keep `at` in range, so the zeros are never seen.
fn chunk<const W: usize>(bytes: &[u8], at: usize) -> [u8; W] {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or([0; W])
}

impl Bytes for &[u8] {
    unsafe fn load_u8<const AT: usize>(self) -> u8 {
        u8::from_ne_bytes(chunk(self, AT))
    }

    unsafe fn load_u16<const AT: usize>(self) -> u16 {
        u16::from_ne_bytes(chunk(self, AT))
    }

    unsafe fn load_u32<const AT: usize>(self) -> u32 {
        u32::from_ne_bytes(chunk(self, AT))
    }
}

/// A frame that may be rewritten: `Cell::from_mut(bytes).as_slice_of_cells()`.
impl Frame for &[Cell<u8>] {
    type Bytes = Self;

    fn length(self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn bytes<const N: usize>(self, at: u32) -> Option<Self> {
        let at = usize::try_from(at).ok()?;
        self.get(at..at.checked_add(N)?)
    }
}

fn cells<const W: usize>(bytes: &[Cell<u8>], at: usize) -> [u8; W] {
    let mut chunk = [0; W];
    for (byte, cell) in chunk.iter_mut().zip(bytes.iter().skip(at)) {
        *byte = cell.get();
    }
    chunk
}

fn set_cells<const W: usize>(bytes: &[Cell<u8>], at: usize, value: [u8; W]) {
    for (cell, byte) in bytes.iter().skip(at).zip(value) {
        cell.set(byte);
    }
}

impl Bytes for &[Cell<u8>] {
    unsafe fn load_u8<const AT: usize>(self) -> u8 {
        u8::from_ne_bytes(cells(self, AT))
    }

    unsafe fn load_u16<const AT: usize>(self) -> u16 {
        u16::from_ne_bytes(cells(self, AT))
    }

    unsafe fn load_u32<const AT: usize>(self) -> u32 {
        u32::from_ne_bytes(cells(self, AT))
    }
}

impl BytesMut for &[Cell<u8>] {
    unsafe fn store_u8<const AT: usize>(self, value: u8) {
        set_cells(self, AT, value.to_ne_bytes());
    }

    unsafe fn store_u16<const AT: usize>(self, value: u16) {
        set_cells(self, AT, value.to_ne_bytes());
    }

    unsafe fn store_u32<const AT: usize>(self, value: u32) {
        set_cells(self, AT, value.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_all_there_or_absent() {
        let bytes: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7];
        assert!(bytes.view::<8>(0).is_some());
        assert!(bytes.view::<8>(1).is_none());
        assert!(bytes.view::<1>(u32::MAX).is_none());
        let view = bytes.view::<6>(2).unwrap();
        assert_eq!(
            (view.u8::<0>(), view.be16::<1>(), view.be32::<2>()),
            (2, 0x0304, 0x0405_0607)
        );
        assert_eq!(view.mac::<0, 4>(), 0x0706_0504_0302);
    }

    #[test]
    fn stores_land_where_loads_look() {
        let mut bytes = [0; 12];
        let frame = Cell::from_mut(&mut bytes[..]).as_slice_of_cells();
        let view = frame.view::<11>(1).unwrap();
        view.set_mac::<0, 4>(0x0605_0403_0201);
        view.set_u16::<6>(0x0807_u16.to_le());
        view.set_u8::<8>(9);
        assert_eq!(view.mac::<0, 4>(), 0x0605_0403_0201);
        assert_eq!(bytes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0]);
    }
}
