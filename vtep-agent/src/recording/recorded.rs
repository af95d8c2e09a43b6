use std::{ops::Deref, time::Instant};

use super::{
    Recording, Turn,
    begin::Begin,
    digest::{Done, Running},
    format::{self, Record},
    writer::Writer,
};
use crate::{
    config::Config,
    core::{Command, CommandError, Core, Input, Output, Start, State},
    intent::{Installed, Intent, Marks},
};

/// A core, and a recording of what is done with it while there is one.
#[derive(Debug)]
pub struct Recorded {
    core: Core,
    recorder: Option<Recorder>,
}

#[derive(Debug)]
struct Recorder {
    writer: Writer,
    running: Running,
}

impl Recorded {
    /// Ends the recording. The core's tables stay until the process ends.
    pub fn leave(self) {
        std::mem::forget(self.core);
    }

    /// As [`Core::new`] with nothing preserved, or with `installed` as [`Core::recover`].
    pub fn begin(
        recording: Option<Recording>,
        config: Config,
        state: State,
        installed: Option<&Installed>,
        now: Instant,
    ) -> (Self, Vec<Output>) {
        let mut recorder = recording.and_then(Recording::begin).map(|writer| Recorder {
            writer,
            running: Running::new(now),
        });
        if let Some(recorder) = &mut recorder {
            let begin = Begin::new(config.clone(), state.clone(), installed);
            recorder.write(&Record::<_, ()>::Begin(&begin));
        }
        let (core, outputs) = match installed {
            None => Core::new(config, state, Start::default(), now),
            Some(installed) => Core::recover(config, state, installed, now),
        };
        let mut recorded = Self { core, recorder };
        let outputs = recorded.end(&Intent::default().marks(), Ok(outputs));
        (recorded, outputs.unwrap_or_default())
    }

    /// As [`Core::handle`].
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        if self.recorder.is_none() {
            return self.core.handle(input, now);
        }
        self.turn(Turn::Input(input), now).unwrap_or_default()
    }

    /// As [`Core::command`].
    ///
    /// # Errors
    ///
    /// The same.
    pub fn command(&mut self, command: Command, now: Instant) -> Result<Vec<Output>, CommandError> {
        self.turn(Turn::Command(command), now)
    }

    /// As [`Core::devices_read`].
    pub fn devices_read(&mut self, now: Instant) {
        // It has no outputs.
        drop(self.turn(Turn::DevicesRead, now));
    }

    /// As [`Core::shutdown`].
    pub fn shutdown(&mut self, now: Instant) -> Vec<Output> {
        self.turn(Turn::Shutdown, now).unwrap_or_default()
    }

    /// As [`Core::intent_mut`]: touched keys may be taken between turns.
    pub fn intent_mut(&mut self) -> &mut Intent {
        self.core.intent_mut()
    }

    /// Writes the turn down, and carries it out: one that panics is in the file.
    fn turn(&mut self, turn: Turn, now: Instant) -> Done {
        let Some(recorder) = &mut self.recorder else {
            return turn.carry_out(&mut self.core, now);
        };
        let marks = self.core.intent().marks();
        let after = now.saturating_duration_since(recorder.running.origin());
        recorder.write(&Record::<(), _>::Turn(after, &turn));
        let done = turn.carry_out(&mut self.core, now);
        self.end(&marks, done)
    }

    fn end(&mut self, marks: &Marks, done: Done) -> Done {
        if let Some(recorder) = &mut self.recorder {
            let digest = recorder.running.turn(&self.core, marks, &done);
            if !recorder.write(&Record::<(), ()>::Done(digest)) {
                self.recorder = None;
            }
        }
        done
    }
}

/// Looking at it is no turn.
impl Deref for Recorded {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Recorder {
    /// `false`: the recording has ended.
    fn write<B: serde::Serialize, T: serde::Serialize>(&self, record: &Record<B, T>) -> bool {
        match format::encode(record) {
            Some(content) => self.writer.add(&content),
            None => false,
        }
    }
}
