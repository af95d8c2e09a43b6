//! MACs that are in two places at once (RFC 7432 §15.1): found by how often they move, held where
//! they are or cut off, and let go again.

use std::time::{Duration, Instant};

use super::MacTable;
use crate::{
    config::{DuplicateAction, DuplicatePolicy},
    types::Mac,
};

/// How long a black-holed MAC of ours stays announced: the other side has to count the last move as
/// well, or it would go on believing that the MAC is its own.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A MAC that moves too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// What is done with it.
    pub action: DuplicateAction,
    /// Most moves within the window since it was found; more than 1000 are not counted.
    pub moves: u32,
    /// When it was found.
    pub since: Instant,
    /// When it is let go; `None`: by the operator only.
    pub until: Option<Instant>,
    /// When our route is withdrawn.
    quiet_at: Option<Instant>,
}

impl Duplicate {
    /// Neither frames nor routes move it.
    pub fn is_held(&self) -> bool {
        self.action != DuplicateAction::Warn
    }

    /// Frames from and to it are dropped.
    pub fn is_black_hole(&self) -> bool {
        self.action == DuplicateAction::Drop
    }

    /// It is not announced any more.
    pub fn is_quiet(&self) -> bool {
        self.is_black_hole() && self.quiet_at.is_none()
    }
}

impl MacTable {
    /// What makes a duplicate, and what is done with one. Those found already stay as they are.
    pub fn set_policy(&mut self, policy: DuplicatePolicy) {
        self.policy = policy;
    }

    /// The MAC is a duplicate.
    pub fn duplicate(&self, mac: Mac) -> Option<&Duplicate> {
        self.duplicates.get(&mac)
    }

    /// All duplicates, by MAC.
    pub fn duplicates(&self) -> impl Iterator<Item = (Mac, &Duplicate)> {
        self.duplicates.iter().map(|(mac, found)| (*mac, found))
    }

    /// Duplicates found since the last call.
    pub fn take_found(&mut self) -> Vec<Mac> {
        std::mem::take(&mut self.found)
    }

    /// Lets all duplicates go. The answer is which.
    pub fn clear_duplicates(&mut self, now: Instant) -> Vec<Mac> {
        let macs: Vec<_> = self.duplicates.keys().copied().collect();
        for mac in &macs {
            self.let_go(*mac, now);
        }
        macs
    }

    /// The MAC is held where it is, or cut off.
    pub(super) fn is_held(&self, mac: Mac) -> bool {
        !self.duplicates.is_empty() && self.duplicate(mac).is_some_and(Duplicate::is_held)
    }

    /// Counts a move in which we took part. The one that makes the MAC a duplicate has been carried
    /// out already, so that both sides agree on where it is, and both have counted it.
    pub(super) fn note_move(&mut self, mac: Mac, now: Instant) {
        let policy = self.policy;
        let moves = self.recent.record(mac, policy.window, now);
        if moves < policy.moves {
            return;
        }
        let until = policy.recovery.map(|recovery| now + recovery);
        if let Some(known) = self.duplicates.get_mut(&mac) {
            known.until = until;
            known.moves = known.moves.max(moves);
            return;
        }
        // A virtual router's MAC is where its master is; cutting it off would cut off the subnet.
        let action = match policy.action {
            DuplicateAction::Drop if mac.is_vrrp() => DuplicateAction::Warn,
            action => action,
        };
        let black_hole = action == DuplicateAction::Drop;
        let duplicate = Duplicate {
            action,
            moves,
            since: now,
            until,
            quiet_at: black_hole.then(|| now + LAST_WORD),
        };
        self.duplicates.insert(mac, duplicate);
        if duplicate.is_held()
            && let Some(entry) = self.entries.get_mut(&mac)
        {
            let best = entry.best_remote().map(|(_, remote)| remote.next_hop);
            entry.rest_mut().held_by = best;
            entry.shed();
        }
        self.found.push(mac);
        self.dirty.push(mac);
    }

    /// Lets go what has been held long enough, which is the answer, and forgets old moves.
    pub(super) fn expire_duplicates(&mut self, now: Instant) -> Vec<Mac> {
        self.recent.purge(self.policy.window, now);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut over = Vec::new();
        for (mac, duplicate) in &mut self.duplicates {
            if is_due(duplicate.until) {
                over.push(*mac);
            } else if is_due(duplicate.quiet_at) {
                duplicate.quiet_at = None;
                self.dirty.push(*mac);
            }
        }
        for mac in &over {
            self.let_go(*mac, now);
        }
        over
    }

    /// When [`MacTable::expire_duplicates`] has something to do.
    pub(super) fn next_duplicate(&self) -> Option<Instant> {
        let oldest = self.recent.next_purge(self.policy.window);
        self.duplicates
            .values()
            .flat_map(|duplicate| [duplicate.until, duplicate.quiet_at])
            .flatten()
            .chain(oldest)
            .min()
    }

    /// The MAC starts anew: what was black-holed has to show itself again.
    fn let_go(&mut self, mac: Mac, now: Instant) {
        let Some(duplicate) = self.duplicates.remove(&mac) else {
            return;
        };
        self.recent.forget(mac);
        self.dirty.push(mac);
        if let Some(entry) = self.entries.get_mut(&mac) {
            entry.rest_mut().held_by = None;
            entry.shed();
        }
        if duplicate.is_black_hole() {
            self.forget(mac, now);
        }
        self.contest(mac, now);
    }
}
