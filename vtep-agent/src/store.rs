//! What outlives the agent: `state.json` in the state directory.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::core::State;

/// Version of the file's layout.
const VERSION: u32 = 1;

/// Where the state is kept.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Open and locked while it is ours.
    _lock: Option<File>,
}

/// The state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read.
    #[error("cannot read {}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file cannot be written; what was there is unharmed.
    #[error("cannot write {}: {cause}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file is damaged, or of another version. It is never overwritten.
    #[error(
        "{} is no state of this agent: {reason}; restore it, or move it away to start without the \
         objects made by CLI and with new automatic RDs",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    state: T,
}

impl Store {
    /// A store in `directory`. Whether another agent has it, too, is only warned of: both forward, and
    /// what one of them saves is lost when the other one does. A directory that cannot be made or locked
    /// is no error yet: [`Store::save`] says what it cannot do.
    pub fn open(directory: &Path) -> Self {
        let lock = fs::create_dir_all(directory)
            .and_then(|()| File::open(directory))
            .ok();
        let locked = lock.as_ref().map_or(Ok(()), File::try_lock);
        if let Err(TryLockError::WouldBlock) = locked {
            tracing::warn!(
                state_dir = %directory.display(),
                "another agent has this state_dir, each will overwrite what the other one saves: \
                 set another state_dir"
            );
        }
        Self {
            directory: directory.to_owned(),
            _lock: lock,
        }
    }

    /// Replaces the state: after a crash at any moment the file holds the old state or the new one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`].
    pub fn save(&self, state: &State) -> Result<(), StoreError> {
        self.write(state).map_err(|cause| StoreError::Write {
            file: self.file(),
            cause,
        })
    }

    /// The saved state; the empty one if there is no file.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`] and [`StoreError::Corrupt`].
    pub fn load(&self) -> Result<State, StoreError> {
        let file = self.file();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(cause) => return Err(StoreError::Read { file, cause }),
        };
        let corrupt = |reason: String| StoreError::Corrupt {
            file: file.clone(),
            reason,
        };
        let Versioned { version, state } =
            serde_json::from_slice::<Versioned<serde_json::Value>>(&text)
                .map_err(|error| corrupt(error.to_string()))?;
        if version != VERSION {
            return Err(corrupt(format!("version {version}, expected {VERSION}")));
        }
        serde_json::from_value(state).map_err(|error| corrupt(error.to_string()))
    }

    fn write(&self, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&Versioned {
            version: VERSION,
            state,
        })?;
        text.push(b'\n');
        fs::create_dir_all(&self.directory)?;
        let new = self.directory.join("state.json.new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, self.file())?;
        // The rename itself is durable once the directory is.
        File::open(&self.directory)?.sync_all()
    }

    fn file(&self) -> PathBuf {
        self.directory.join("state.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::default();
        state.rd_index.insert("blue".parse().unwrap(), 2);
        state
    }

    #[test]
    fn round_trip_in_a_directory_that_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a/b"));
        assert_eq!(store.load().unwrap(), State::default());
        store.save(&state()).unwrap();
        assert_eq!(store.load().unwrap(), state());
        store.save(&State::default()).unwrap();
        assert_eq!(store.load().unwrap(), State::default());
        let names: Vec<_> = fs::read_dir(directory.path().join("a/b"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["state.json"]);
    }

    /// What a crash in the middle of `save` leaves behind.
    #[test]
    fn a_half_written_successor_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path());
        store.save(&state()).unwrap();
        fs::write(directory.path().join("state.json.new"), "{\"vers").unwrap();
        assert_eq!(store.load().unwrap(), state());
        store.save(&state()).unwrap();
        assert_eq!(store.load().unwrap(), state());
    }

    #[test]
    fn damage_is_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path());
        let file = directory.path().join("state.json");
        for (text, expected) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{\"version\":1,\"state\":{", "EOF while parsing an object"),
            ("{\"version\":2,\"state\":{}}", "version 2, expected 1"),
            ("{\"state\":{}}", "missing field `version`"),
            (
                "{\"version\":1,\"state\":{\"rd_index\":{\"b d\":1}}}",
                "not a valid bridge domain",
            ),
        ] {
            fs::write(&file, text).unwrap();
            let error = store.load().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.starts_with(&file.display().to_string()), "{error}");
            assert!(error.contains("move it away"), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Store::open(&file).save(&state()).unwrap_err().to_string();
        assert!(error.starts_with("cannot write"), "{error}");
    }
}
