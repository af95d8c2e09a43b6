//! Hash tables for what there is one of for each route or MAC: up to a million entries, each hashed
//! several times on its way into the BPF maps. The hash is seeded by the process, so what peers and
//! VMs send cannot be chosen for collisions from outside; it is several times faster than the
//! standard library's on keys of 8 to 50 bytes.

use foldhash::fast::RandomState;

/// As of the standard library, with a faster hash.
pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// As of the standard library, with a faster hash.
pub type HashSet<T> = std::collections::HashSet<T, RandomState>;
