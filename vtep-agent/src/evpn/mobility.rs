//! Sequence numbers of MAC mobility (RFC 7432 §7.7, §15).

use std::cmp::Ordering;

/// Compares sequence numbers. A distance of more than 2^31 means that the higher one is the older
/// (RFC 1982 §3.2): a number that wrapped around still wins.
pub(super) fn compare(a: u32, b: u32) -> Ordering {
    let plain = a.cmp(&b);
    if a.abs_diff(b) > 1 << 31 {
        plain.reverse()
    } else {
        plain
    }
}

/// The later one.
pub(super) fn later(a: u32, b: u32) -> u32 {
    if compare(a, b).is_ge() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MOB-010.
    #[test]
    fn wraparound() {
        assert!(compare(0, u32::MAX).is_gt());
        assert!(compare(u32::MAX, 0).is_lt());
        assert!(compare(5, 4).is_gt());
        assert!(compare(1 << 31, 0).is_gt());
        assert_eq!(later(u32::MAX, 1), 1);
        assert_eq!(later(7, 3), 7);
    }
}
