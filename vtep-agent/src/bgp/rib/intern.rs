//! One copy of each set of attributes. A peer that sends every route in an UPDATE of its own repeats
//! them, and so does a second reflector.

use std::{fmt, sync::Arc};

use crate::{bgp::wire::Attributes, types::hash::HashSet};

/// Sets below this number are not worth a sweep.
const SWEEP_MIN: usize = 1024;

/// The sets of attributes that routes have. One that no route has any more goes at the next sweep;
/// sweeps come as the number of sets doubles, so that they cost each new set a constant.
pub(super) struct Interner {
    sets: HashSet<Arc<Attributes>>,
    sweep_at: usize,
}

impl Interner {
    /// The known set that equals this one, or this one, known from now on.
    pub(super) fn intern(&mut self, attributes: Arc<Attributes>) -> Arc<Attributes> {
        if let Some(known) = self.sets.get(&attributes) {
            return Arc::clone(known);
        }
        if self.sets.len() >= self.sweep_at {
            self.sets.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = (2 * self.sets.len()).max(SWEEP_MIN);
        }
        self.sets.insert(Arc::clone(&attributes));
        attributes
    }
}

/// The sets that routes have; the others only wait for the sweep.
impl fmt::Debug for Interner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = |set: &&Arc<Attributes>| Arc::strong_count(set) > 1;
        f.debug_set()
            .entries(self.sets.iter().filter(used))
            .finish()
    }
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            sets: HashSet::default(),
            sweep_at: SWEEP_MIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn attributes(number: u32) -> Arc<Attributes> {
        Arc::new(Attributes::originated(Ipv4Addr::from(number).into()))
    }

    #[test]
    fn equal_sets_are_one() {
        let mut interner = Interner::default();
        let first = interner.intern(attributes(1));
        assert!(Arc::ptr_eq(&first, &interner.intern(attributes(1))));
        assert!(!Arc::ptr_eq(&first, &interner.intern(attributes(2))));
    }

    #[test]
    fn sets_without_routes_go() {
        let mut interner = Interner::default();
        let kept = interner.intern(attributes(0));
        for number in 1..100_000 {
            interner.intern(attributes(number));
        }
        assert!(interner.sets.len() <= 2 * SWEEP_MIN);
        assert!(Arc::ptr_eq(&kept, &interner.intern(attributes(0))));
    }
}
