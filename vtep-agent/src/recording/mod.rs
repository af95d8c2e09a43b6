//! What went into the core, on disk, and the same again from there: a bug of the field as a file.
//!
//! [`Recorded`] is a core whose turns are written down while they happen; [`Replay`] takes them in a
//! core of its own and compares. The core does the same with the same inputs at the same times, and
//! with the same seed of its hash tables ([`crate::types::hash`]), so a recording has no outputs, only
//! a digest of those of each turn.
//!
//! A file is [`MAGIC`](format), and then frames: length, digests, and what is framed. The first is the
//! [`Header`] as JSON, which any version can read; the others are [`format::Record`]s for which reader
//! and writer have to be the same version. No secret of the configuration is in it
//! ([`crate::config::Secret`]).

mod begin;
mod digest;
mod file;
mod format;
mod reader;
mod recorded;
mod replay;
mod turn;
mod writer;

#[cfg(test)]
mod tests;

pub use file::{DEFAULT_LIMIT, MIN_LIMIT, RecordError, Recording};
pub use format::{End, Header};
pub use reader::{Incomplete, OpenError};
pub use recorded::Recorded;
pub use replay::{Given, Replay, Step};
pub use turn::Turn;
pub use writer::finish_before_exit;
