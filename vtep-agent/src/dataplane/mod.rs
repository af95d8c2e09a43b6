//! The only user of aya: programs, links, maps, events and counters.

/// The BPF object, aligned as aya wants it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vtep"));
