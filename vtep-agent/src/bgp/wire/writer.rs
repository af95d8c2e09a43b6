//! Length-prefixed writing.

use bytes::BytesMut;

/// Runs `body` after a one-octet length that then says how much it wrote. What the callers write is
/// bounded by a wire format with the same limit.
pub(super) fn with_u8_length(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    with_length::<1>(out, body);
}

/// As [`with_u8_length`] with two octets.
pub(super) fn with_u16_length(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    with_length::<2>(out, body);
}

fn with_length<const N: usize>(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let mut inner = BytesMut::new();
    body(&mut inner);
    let length = inner.len().to_be_bytes();
    let (high, low) = length.split_at(length.len().saturating_sub(N));
    debug_assert!(high.iter().all(|&byte| byte == 0), "{} octets", inner.len());
    out.extend_from_slice(low);
    out.unsplit(inner);
}
