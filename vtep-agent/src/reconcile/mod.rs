//! Carries the desired tables out: difference, order, retry.
//!
//! Level-triggered: a key that was touched is compared with what was last written, whatever happened
//! to it in between, and a failed write stays due until it succeeds or is no longer wanted.
//!
//! One round of [`Reconciler::apply`] has three steps, so that no entry points at what is not there
//! yet, and none at what is gone already:
//!
//! 1. keys leave the hash tables, what points before what is pointed at. This comes first, because
//!    a table that is full gets room before anything is added;
//! 2. wanted entries are written, what is pointed at before what points;
//! 3. entries of arrays that nobody wants are zeroed, in the order of step 1.
//!
//! An entry that says what a port may send allows more before step 1 and less after step 2: what a VM
//! may send before and after is not dropped in between.
//!
//! Beside that, [`Reconciler::audit`] compares what the maps hold with what was written.
//!
//! A failed operation holds nothing else back. An entry that then points at an old or empty one does
//! no harm: the datapath compares the bridge domain and its generation on both and drops the frame.

mod audit;
mod batch;
mod difference;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use vtep_common::abi::{FdbKey, PortEntry, PortFlags};

use crate::{intent::Intent, types::hash::HashSet};
use audit::Audit;
pub use audit::{AUDIT_EVERY, Contents, Position};
use difference::{Difference, Stage, Typed};
pub use tables::{Entries, Entry, Key, Keys, Map, Progress, TableError, Tables};

/// Delay before a failed operation is tried again; doubles with every failure.
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest delay between two attempts.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// Most operations of one round, some 10 ms of system calls: whoever shares the thread has to get on,
/// too.
pub const ROUND_MAX: usize = 8192;

/// Keeps the maps equal to the intent.
pub struct Reconciler {
    /// In dependency order: what is pointed at before what points.
    stages: Vec<Box<dyn Stage>>,
    audit: Audit,
    totals: Totals,
    failing: BTreeMap<Map, Trouble>,
    deadline: Option<Instant>,
}

/// What one round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Entries written.
    pub updated: u64,
    /// Entries deleted or zeroed.
    pub deleted: u64,
    /// Operations that the kernel refused.
    pub failed: u64,
    /// Operations that are still to be done: refused ones, of earlier rounds too, and those for which
    /// this round had no time.
    pub pending: usize,
    /// Maps that have no room for what is wanted. The operator has to see these.
    pub full: BTreeSet<Map>,
}

/// Counters since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// `vtep_reconcile_operations_total{op="update"}`
    pub updates: u64,
    /// `vtep_reconcile_operations_total{op="delete"}`
    pub deletes: u64,
    /// `vtep_reconcile_errors_total`
    pub errors: u64,
}

/// Why a map does not take what is wanted. Logged when an episode begins and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Full,
    Refused,
}

impl Reconciler {
    /// Takes all maps as empty.
    pub fn new() -> Self {
        macro_rules! stages {
            (@ease) => { None };
            (@ease $ease:path) => { Some($ease) };
            ($($(#[doc = $why:literal])* $map:ident: $table:ident $(by $ease:path)?,)*) => {
                vec![$(Box::new(Difference::new(
                    Map::$map,
                    Typed {
                        entries: |entries| Entries::$map(entries),
                        keys: |keys| Keys::$map(keys),
                        key: Key::$map,
                        split: |entry| match entry {
                            Entry::$map(key, value) => Some((key, value)),
                            _ => None,
                        },
                        ease: stages!(@ease $($ease)?),
                    },
                    |intent| &mut intent.$table,
                )),)*]
            };
        }
        let stages: Vec<Box<dyn Stage>> = stages! {
            Settings: settings,
            Vteps: vteps,
            Groups: groups,
            /// Before the ports that are judged by them.
            Guards: guards,
            Ports: ports by eased_port,
            Flood: flood,
            Bds: bds,
            /// Before what forwards: a crash in between must not lose who is there.
            Endpoints: endpoints,
            /// As those.
            Addresses: addresses,
            Fdb: fdb,
            Arp: arp,
            Nd: nd,
            Sources: sources,
            PortIndex: port_index,
            Vnis: vnis,
        };
        Self {
            stages,
            audit: Audit::default(),
            totals: Totals::default(),
            failing: BTreeMap::new(),
            deadline: None,
        }
    }

    /// Takes the maps as holding this, as an earlier run left them. The next [`Reconciler::apply`]
    /// writes only what differs from what is wanted by then; what is wanted by nobody goes, so that
    /// call it when everything is known that has to stay.
    pub fn adopt(&mut self, installed: &mut Intent) {
        for stage in &mut self.stages {
            stage.adopt(installed);
        }
    }

    /// One round: writes what changed in `intent` and what is due again, at most [`ROUND_MAX`]
    /// operations. When there is more, [`Reconciler::deadline`] is `now`.
    pub fn apply(&mut self, intent: &mut Intent, tables: &mut dyn Tables, now: Instant) -> Outcome {
        let mut round = Round::new(now);
        for stage in &mut self.stages {
            stage.collect(intent);
        }
        for stage in &mut self.stages {
            stage.update(intent, tables, &mut round);
        }
        for stage in self.stages.iter_mut().rev() {
            if !goes_last(stage.map()) {
                stage.delete(intent, tables, &mut round);
            }
        }
        for step in [Step::Write, Step::Restrict] {
            round.step = step;
            for stage in &mut self.stages {
                stage.update(intent, tables, &mut round);
            }
        }
        for stage in self.stages.iter_mut().rev() {
            if goes_last(stage.map()) {
                stage.delete(intent, tables, &mut round);
            }
        }
        self.finish(round)
    }

    /// When [`Reconciler::apply`] wants to be called again although nothing changed.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Counters for metrics.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Entries in each map, as far as this agent wrote them (`vtep_map_entries`).
    pub fn entries(&self) -> impl Iterator<Item = (Map, usize)> + '_ {
        self.stages.iter().map(|stage| (stage.map(), stage.len()))
    }

    /// Operations on each map that are still to be done (`vtep_map_pending`).
    pub fn pending(&self) -> impl Iterator<Item = (Map, usize)> + '_ {
        self.stages
            .iter()
            .map(|stage| (stage.map(), stage.pending()))
    }

    /// The keys of `fdb` that do not forward as wanted yet.
    pub fn pending_macs(&self) -> HashSet<FdbKey> {
        let fdb = self.stages.iter().filter(|stage| stage.map() == Map::Fdb);
        fdb.flat_map(|stage| stage.pending_keys())
            .filter_map(|key| match key {
                Key::Fdb(key) => Some(key),
                _ => None,
            })
            .collect()
    }

    fn finish(&mut self, round: Round) -> Outcome {
        let Round {
            now,
            mut outcome,
            first,
            ..
        } = round;
        self.totals.updates += outcome.updated;
        self.totals.deletes += outcome.deleted;
        self.totals.errors += outcome.failed;
        self.deadline = self.stages.iter().filter_map(|stage| stage.due(now)).min();
        outcome.pending = self.stages.iter().map(|stage| stage.pending()).sum();
        for stage in &self.stages {
            let map = stage.map();
            let before = self.failing.get(&map).copied();
            let trouble = match (stage.pending(), first.get(&map)) {
                (0, _) => None,
                (_, Some(TableError::Full)) => Some(Trouble::Full),
                (_, Some(TableError::Refused(_))) if before.is_none() => Some(Trouble::Refused),
                (_, _) => before,
            };
            if before != trouble {
                log(map, trouble, first.get(&map), stage.pending());
            }
            match trouble {
                Some(trouble) => self.failing.insert(map, trouble),
                None => self.failing.remove(&map),
            };
            if trouble == Some(Trouble::Full) {
                outcome.full.insert(map);
            }
        }
        outcome
    }
}

impl Default for Reconciler {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether what nobody wants any more of a map stays until everything else is written. Other hash tables
/// make room first; but a port is judged by its guards for as long as its entry says so, and drops what
/// none of them allows.
fn goes_last(map: Map) -> bool {
    map.is_array() || map == Map::Guards
}

/// A port, before the FDB and the guards know what it may send by then: in the same place, it is not
/// restricted more than it was.
fn eased_port(held: &PortEntry, wanted: &PortEntry) -> Option<PortEntry> {
    let place = |entry: &PortEntry| (entry.ifindex, entry.bd, entry.vlan);
    let restrictions = PortFlags::MAC_LIMIT.with(PortFlags::GUARDED);
    let eased = PortEntry {
        flags: wanted.flags.without(restrictions.without(held.flags)),
        ..*wanted
    };
    (place(held) == place(wanted)).then_some(eased)
}

/// Says that an episode began or ended.
fn log(map: Map, trouble: Option<Trouble>, error: Option<&TableError>, pending: usize) {
    let name = map.name();
    match (trouble, error) {
        (Some(Trouble::Full), _) => tracing::error!(
            map = name,
            pending,
            "map is full: raise max_macs or remove endpoints"
        ),
        (Some(Trouble::Refused), Some(error)) => {
            tracing::warn!(map = name, pending, %error, "map write failed, will retry");
        }
        (Some(Trouble::Refused), None) => {}
        (None, _) => tracing::info!(map = name, "map is complete again"),
    }
}

/// How far an entry that is there already becomes what is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// As far as it allows more than before.
    Ease,
    /// But for what it allows no more.
    Write,
    /// All the way.
    Restrict,
}

/// State of one round.
struct Round {
    now: Instant,
    step: Step,
    outcome: Outcome,
    /// Operations that may still be done.
    budget: usize,
    /// First refusal of each map; `Full` takes precedence.
    first: BTreeMap<Map, TableError>,
}

impl Round {
    fn new(now: Instant) -> Self {
        Self {
            now,
            step: Step::Ease,
            outcome: Outcome::default(),
            budget: ROUND_MAX,
            first: BTreeMap::new(),
        }
    }

    /// Takes one operation from the budget, or says that there is none left.
    fn spend(&mut self) -> bool {
        let left = self.budget > 0;
        self.budget = self.budget.saturating_sub(1);
        left
    }

    fn failed(&mut self, map: Map, error: TableError) {
        self.outcome.failed += 1;
        match self.first.get(&map) {
            Some(TableError::Full) => {}
            Some(TableError::Refused(_)) if !matches!(error, TableError::Full) => {}
            _ => {
                self.first.insert(map, error);
            }
        }
    }
}
