//! Frames and what is in them.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{begin::Begin, digest::Digest, turn::Turn};
use crate::types::hash;

/// What a recording begins with. Its last octet is the version of frames and header, and of records where
/// these change without another version of the agent.
pub(super) const MAGIC: [u8; 8] = *b"vtepREC\x02";

/// Octets in front of what is framed, all little-endian: its length, 32 bits of that one's digest, since
/// a damaged length could not be told from a file that is cut off, and the digest of what is framed.
pub(super) const FRAME_HEADER: usize = 4 + 4 + 8;

/// Longest that is framed: more than an agent starts with that has a million MACs.
pub(super) const MAX_FRAME: u32 = 1 << 30;

const SEED: u64 = 0x7674_6570;

/// Who recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the agent.
    pub agent: String,
    /// Architecture, which the order of hash tables follows from, too.
    pub architecture: String,
    /// Seed of its hash tables.
    pub seed: u64,
    /// When it began, in seconds since 1970, for comparison with logs.
    pub started: i64,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Record<B = Box<Begin>, T = Turn> {
    /// The first turn: a core begins. Always the first record.
    Begin(B),
    /// Another turn, so long after the first one. Written before it is carried out.
    Turn(Duration, T),
    /// What is to be compared after the turn.
    Done(u64),
    /// The recording ends here.
    End(End),
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The agent stopped in good order.
    Stopped,
    /// The agent panicked.
    Panicked,
    /// The file has the size that was allowed.
    Full,
    /// The disk took less than there was to write.
    Slow,
    /// The file could not be written to.
    Failed,
}

impl Header {
    pub(super) fn of_this_process(started: i64) -> Self {
        Self {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            seed: hash::seed(),
            started,
        }
    }
}

impl End {
    /// As part of a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "the agent stopped",
            Self::Panicked => "the agent panicked",
            Self::Full => "the file had the size that was allowed",
            Self::Slow => "the disk took less than there was to write",
            Self::Failed => "the file could not be written to",
        }
    }
}

/// Appends a frame.
pub(super) fn frame(content: &[u8], to: &mut Vec<u8>) {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(&check_length(length).to_le_bytes());
    to.extend_from_slice(&check(content).to_le_bytes());
    to.extend_from_slice(content);
}

pub(super) fn check_length(length: u32) -> u32 {
    check(&length.to_le_bytes()) as u32
}

pub(super) fn check(content: &[u8]) -> u64 {
    let mut digest = Digest::new(SEED);
    digest.add(content);
    digest.finish()
}

/// `None`: not to be written down, which nothing is that an agent sees.
pub(super) fn encode<B: Serialize, T: Serialize>(record: &Record<B, T>) -> Option<Vec<u8>> {
    postcard::to_allocvec(record).ok()
}

/// `None`: it is none, or there is something behind it.
pub(super) fn decode<R: DeserializeOwned>(content: &[u8]) -> Option<R> {
    match postcard::take_from_bytes(content) {
        Ok((record, [])) => Some(record),
        _ => None,
    }
}
