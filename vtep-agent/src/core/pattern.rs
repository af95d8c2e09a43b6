//! Placeholder until merge.
use crate::{config::PortPattern, types::IfName};
pub(super) fn is_glob(pattern: &PortPattern) -> bool {
    pattern.pattern.contains(['*', '?', '['])
}
pub(super) fn matches(pattern: &PortPattern, device: &IfName) -> bool {
    fn go(p: &[u8], n: &[u8]) -> bool {
        match (p.first(), n.first()) {
            (None, None) => true,
            (Some(b'*'), _) => go(&p[1..], n) || !n.is_empty() && go(p, &n[1..]),
            (Some(b'?'), Some(_)) => go(&p[1..], &n[1..]),
            (Some(a), Some(b)) if a == b => go(&p[1..], &n[1..]),
            _ => false,
        }
    }
    go(pattern.pattern.as_bytes(), device.as_str().as_bytes())
}
