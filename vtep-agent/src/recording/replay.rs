use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use super::{
    End, Header, Incomplete, OpenError, Turn,
    digest::{Done, Running},
    format::Record,
    reader::Reader,
};
use crate::{core::Core, intent::Intent};

/// A core that is given what another one was given, turn by turn.
pub struct Replay {
    header: Header,
    reader: Reader,
    /// Of the next turn.
    number: u64,
    origin: Instant,
    running: Running,
    core: Option<Core>,
    /// Time of the last turn.
    now: Instant,
    end: Option<Result<End, Incomplete>>,
}

/// A turn of a [`Replay`].
#[derive(Debug)]
pub struct Step {
    /// Its number; the core begins with turn 0.
    pub number: u64,
    /// How long after turn 0.
    pub at: Duration,
    /// What the core was given.
    pub given: Given,
    /// What it answered, or why it panicked.
    pub done: Result<Done, String>,
    /// The running digest after the turn; `None` after a panic.
    pub found: Option<u64>,
    /// As it was recorded; `None` when the recording ends within the turn.
    pub expected: Option<u64>,
}

/// What a core is given.
#[derive(Clone, Debug, serde::Serialize)]
pub enum Given {
    /// Configuration and state.
    Begin,
    /// Everything later.
    Turn(Turn),
}

impl Replay {
    /// Opens a recording. The process must not have made a hash table of the core's kind before. With
    /// `force`, that of another version or architecture is opened, too.
    ///
    /// # Errors
    ///
    /// Names the file.
    pub fn open(path: &Path, force: bool, now: Instant) -> Result<Self, OpenError> {
        let (header, reader) = Reader::open(path, force)?;
        Ok(Self {
            header,
            reader,
            number: 0,
            origin: now,
            running: Running::new(now),
            core: None,
            now,
            end: None,
        })
    }

    /// Carries the next turn out. `None`: there is none, or the last one panicked.
    pub fn step(&mut self) -> Option<Step> {
        if self.end.is_some() {
            return None;
        }
        let before = self.core.as_ref().map(|core| core.intent().marks());
        let marks = before.unwrap_or_else(|| Intent::default().marks());
        let record = self.record()?;
        let (at, given, done) = match (record, &mut self.core) {
            (Record::Begin(begin), core @ None) => {
                let origin = self.origin;
                let begun = caught(|| begin.carry_out(origin));
                let done = match begun {
                    Ok(Some((begun, outputs))) => {
                        *core = Some(begun);
                        Ok(Ok(outputs))
                    }
                    Ok(None) => return self.damaged(),
                    Err(panic) => Err(panic),
                };
                (Duration::ZERO, Given::Begin, done)
            }
            (Record::Turn(at, turn), Some(core)) => {
                let Some(now) = self.origin.checked_add(at) else {
                    return self.damaged();
                };
                self.now = now;
                let given = Given::Turn(turn.clone());
                (at, given, caught(|| turn.carry_out(core, now)))
            }
            (Record::End(end), Some(_)) => {
                self.end = Some(Ok(end));
                return None;
            }
            _ => return self.damaged(),
        };
        let found = match (&done, &self.core) {
            (Ok(done), Some(core)) => Some(self.running.turn(core, &marks, done)),
            _ => None,
        };
        let expected = match self.record() {
            Some(Record::Done(digest)) => Some(digest),
            Some(Record::End(end)) => {
                self.end = Some(Ok(end));
                None
            }
            Some(_) => self.damaged(),
            None => None,
        };
        if done.is_err() {
            self.end.get_or_insert(Ok(End::Panicked));
        }
        let number = self.number;
        self.number += 1;
        Some(Step {
            number,
            at,
            given,
            done,
            found,
            expected,
        })
    }

    /// Who recorded.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The core as it is after the last turn; `None` before turn 0.
    pub fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    /// Time of the last turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How the recording ends, once [`Replay::step`] has answered with nothing.
    pub fn end(&self) -> Option<Result<End, Incomplete>> {
        self.end
    }

    fn record(&mut self) -> Option<Record> {
        match self.reader.next() {
            Ok(record) => Some(record),
            Err(incomplete) => {
                self.end = Some(Err(incomplete));
                None
            }
        }
    }

    /// The last record is whole, and does not belong there.
    fn damaged<T>(&mut self) -> Option<T> {
        let whole = self.reader.whole();
        self.end = Some(Err(Incomplete::Damaged { whole }));
        None
    }
}

impl Step {
    /// The core did something else than it did then.
    pub fn differs(&self) -> bool {
        match self.found {
            Some(found) => self.expected.is_some_and(|expected| expected != found),
            None => true,
        }
    }
}

/// A bug that ends the agent is one that somebody wants to see again.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "panicked".to_owned())
    })
}
