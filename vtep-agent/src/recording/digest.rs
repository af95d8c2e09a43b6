//! What turns did, in 64 bits: against accidents, not against enemies.

use std::time::Instant;

use serde::Serialize;

use crate::{
    core::{CommandError, Core, Output},
    intent::Marks,
};

/// Of a sequence of byte strings. The same in all versions and on all machines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Adds a string; where it ends matters.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    pub(super) fn finish(self) -> u64 {
        self.0
    }

    /// The finaliser of SplitMix64: every bit of both depends on every bit of either.
    fn word(&mut self, word: u64) {
        let mut bits = (self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = bits ^ (bits >> 31);
    }
}

/// The running digest of all turns up to one.
#[derive(Debug)]
pub(super) struct Running {
    digest: u64,
    /// When the first turn was.
    origin: Instant,
    scratch: Vec<u8>,
}

/// What a turn answers.
pub(super) type Done = Result<Vec<Output>, CommandError>;

impl Running {
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            digest: 0,
            origin,
            scratch: Vec::new(),
        }
    }

    /// When the first turn was.
    pub(super) fn origin(&self) -> Instant {
        self.origin
    }

    /// A turn more: what it answered, what it changed of the desired tables and in which order, and
    /// when the core wants to hear of time next.
    pub(super) fn turn(&mut self, core: &Core, marks: &Marks, done: &Done) -> u64 {
        let mut digest = Digest::new(self.digest);
        match done {
            Ok(outputs) => outputs
                .iter()
                .for_each(|output| self.serialised(output, &mut digest)),
            Err(error) => digest.add(error.to_string().as_bytes()),
        }
        core.intent()
            .changes_since(marks, &mut |bytes| digest.add(bytes));
        let deadline = core.deadline();
        let deadline = deadline.map(|at| at.saturating_duration_since(self.origin));
        self.serialised(&deadline, &mut digest);
        self.digest = digest.finish();
        self.digest
    }

    fn serialised<T: Serialize>(&mut self, what: &T, digest: &mut Digest) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // What cannot be written down is as if there were nothing, both times.
        self.scratch = postcard::to_extend(what, scratch).unwrap_or_default();
        digest.add(&self.scratch);
    }
}
