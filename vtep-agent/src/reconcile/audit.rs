//! Compares what the maps hold with what was written to them, a part at a time.
//!
//! Nothing but the agent writes to its maps, so every difference is somebody else's doing, or a
//! mistake: it is counted, said in the log, and made good in the next round as if a write had failed.
//! Operations that are still to be done are no differences: those entries are known not to be as
//! wanted. Writes between two parts are taken into account, since one owner does both.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Entry, Map, Reconciler, TableError, difference::Stage};

/// Parts that one call of [`Reconciler::audit`] reads at most, of 4096 entries each: some
/// milliseconds.
const TURN: usize = 8;

/// From the start of one audit to that of the next, if it does not take longer: large tables are read
/// all the time.
pub const AUDIT_EVERY: Duration = Duration::from_secs(15);

/// A place in a map, as the kernel gives it: four bytes for the kinds of maps that we have.
pub type Position = [u8; 8];

/// The maps, to be read.
pub trait Contents {
    /// Hands out the entries of a part of a map, from a position on or from the start: of a hash
    /// table those that it has, of an array all. Says where the next part begins, if there is one.
    ///
    /// # Errors
    ///
    /// [`TableError::Refused`]
    fn read(
        &self,
        map: Map,
        from: Option<Position>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Option<Position>, TableError>;
}

/// How far it is, and what it has found.
#[derive(Default)]
pub(super) struct Audit {
    /// `None`: between two audits.
    at: Option<Place>,
    started: Option<Instant>,
    /// Audits that came to their end.
    completed: u64,
    differences: BTreeMap<Map, u64>,
}

/// What is read next.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Index in [`Reconciler::stages`].
    stage: usize,
    position: Option<Position>,
}

impl Reconciler {
    /// Reads on, and makes what differs due: call [`Reconciler::apply`] then. To be called about once a
    /// second.
    pub fn audit(&mut self, contents: &dyn Contents, now: Instant) {
        for _ in 0..TURN {
            let Some(at) = self.audit.next(now) else {
                return;
            };
            let Some(stage) = self.stages.get_mut(at.stage) else {
                self.audit.complete();
                return;
            };
            let (differences, at) = part(stage.as_mut(), at, contents);
            self.audit.at = Some(at);
            if differences > 0 {
                let map = stage.map();
                self.deadline = Some(now);
                *self.audit.differences.entry(map).or_default() += differences;
                tracing::warn!(
                    map = map.name(),
                    differences,
                    "entries were not as the agent wrote them, and are written again"
                );
            }
        }
    }

    /// Times that all maps were compared (`vtep_audits_total`).
    pub fn audits(&self) -> u64 {
        self.audit.completed
    }

    /// Entries of each map that were not as they had been written (`vtep_audit_differences_total`).
    pub fn differences(&self) -> impl Iterator<Item = (Map, u64)> + '_ {
        let found = |map| self.audit.differences.get(map).copied().unwrap_or(0);
        Map::ALL.iter().map(move |map| (*map, found(map)))
    }
}

impl Audit {
    /// Where to read. A new audit begins if it is time.
    fn next(&mut self, now: Instant) -> Option<Place> {
        let recent = |started: Instant| now.saturating_duration_since(started) < AUDIT_EVERY;
        if self.at.is_none() && !self.started.is_some_and(recent) {
            self.started = Some(now);
            self.at = Some(Place::default());
        }
        self.at
    }

    fn complete(&mut self) {
        self.at = None;
        self.completed += 1;
    }
}

/// Compares a part. How many entries differ, and what is next.
fn part(stage: &mut dyn Stage, at: Place, contents: &dyn Contents) -> (u64, Place) {
    let map = stage.map();
    if at.position.is_none() {
        stage.audit_begin();
    }
    let mut differences = 0;
    let read = contents.read(map, at.position, &mut |entry| {
        differences += u64::from(stage.audit(entry));
    });
    let next_map = Place {
        stage: at.stage + 1,
        position: None,
    };
    let next = match read {
        Ok(Some(position)) => Place {
            position: Some(position),
            ..at
        },
        Ok(None) => {
            differences += stage.audit_end();
            next_map
        }
        Err(error) => {
            tracing::warn!(map = map.name(), %error, "cannot be compared with what was written");
            next_map
        }
    };
    (differences, next)
}
