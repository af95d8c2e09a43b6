//! Hash tables for what there is one of for each route or MAC: up to a million entries, each hashed
//! several times on its way into the BPF maps. The hash is seeded by the process, so what peers and
//! VMs send cannot be chosen for collisions from outside; it is several times faster than the
//! standard library's on keys of 8 to 50 bytes.
//!
//! The order of a table follows from its seed and from what was done to it. The core's tables have
//! seeds that follow from the process's and from the order in which the core makes them ([`Scope`]), so
//! that a run can be repeated to the bit by whoever has the process's seed. No two have the same:
//! filling one table in the order of another with its seed takes quadratic time.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::{
    SharedSeed,
    fast::{FoldHasher, SeedableRandomState},
};

/// As of the standard library, with a faster hash.
pub type HashMap<K, V> = std::collections::HashMap<K, V, Seeded>;

/// As of the standard library, with a faster hash.
pub type HashSet<T> = std::collections::HashSet<T, Seeded>;

/// The hash function of one table.
#[derive(Clone, Debug)]
pub struct Seeded(SeedableRandomState);

/// Tables that this thread makes while it lasts are numbered, from what an earlier one left off at.
#[derive(Debug)]
pub struct Scope {
    outer: Option<u64>,
}

/// The process's seed, and what follows from it.
static PROCESS: OnceLock<(u64, SharedSeed)> = OnceLock::new();

/// Tables that were made outside of any scope.
static OTHERS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The next number of the scope that this thread is in.
    static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The process's seed, chosen at random when it is first asked for.
pub fn seed() -> u64 {
    process().0
}

/// Makes this the process's seed. `false`: it is too late, and the process has another one.
pub fn set_seed(seed: u64) -> bool {
    PROCESS.get_or_init(|| with_shared(seed)).0 == seed
}

fn process() -> &'static (u64, SharedSeed) {
    // The standard library gets its keys from the operating system.
    PROCESS.get_or_init(|| with_shared(RandomState::new().hash_one(0)))
}

fn with_shared(seed: u64) -> (u64, SharedSeed) {
    (seed, SharedSeed::from_u64(seed))
}

impl Scope {
    /// Begins with this number.
    pub fn enter(next: u64) -> Self {
        let outer = NEXT.replace(Some(next));
        Self { outer }
    }

    /// Ends. The answer is the number to go on with.
    pub fn leave(self) -> u64 {
        NEXT.get().unwrap_or_default()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        NEXT.set(self.outer);
    }
}

impl Default for Seeded {
    fn default() -> Self {
        let number = match NEXT.get() {
            Some(next) => {
                NEXT.set(Some(next.wrapping_add(1)));
                next
            }
            // Odd in the highest bit: never that of a scope.
            None => OTHERS.fetch_add(1, Ordering::Relaxed) | 1 << 63,
        };
        let (seed, shared) = process();
        let own = (seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(SeedableRandomState::with_seed(own ^ own >> 32, shared))
    }
}

impl BuildHasher for Seeded {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables that a scope makes, as the order of what is in them.
    fn orders(next: u64) -> (Vec<Vec<u32>>, u64) {
        let scope = Scope::enter(next);
        let table = || (0..100).collect::<HashSet<u32>>().into_iter().collect();
        let orders = (0..3).map(|_| table()).collect();
        (orders, scope.leave())
    }

    #[test]
    fn the_order_of_making_decides_the_order_in_tables() {
        let (first, end) = orders(0);
        assert_eq!(end, 3);
        // What is made outside of the scope is of no account.
        let outside: HashSet<u32> = (0..100).collect();
        assert_eq!(orders(0), (first.clone(), end));
        assert_ne!(first[0], first[1]);
        let (more, _) = orders(end);
        assert!(more.iter().all(|order| !first.contains(order)));
        assert!(!first.contains(&outside.into_iter().collect()));
    }

    #[test]
    fn a_scope_that_panics_has_ended() {
        let before = NEXT.get();
        let panicked = std::panic::catch_unwind(|| {
            let _scope = Scope::enter(7);
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(NEXT.get(), before);
    }

    #[test]
    fn the_seed_of_a_process_stays() {
        let seed = seed();
        assert!(set_seed(seed));
        assert!(!set_seed(!seed));
        assert_eq!(super::seed(), seed);
    }
}
