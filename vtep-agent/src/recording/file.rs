//! The file, before anything is in it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    format::{self, Header, MAGIC},
    writer::Writer,
};

/// Size at which a recording ends if nothing else is said, in bytes.
pub const DEFAULT_LIMIT: u64 = 1 << 30;

/// Least that may be said.
pub const MIN_LIMIT: u64 = 1 << 20;

/// Earlier recordings of the same name that are kept.
const KEPT: u32 = 3;

/// A recording that is still to begin.
#[derive(Debug)]
pub struct Recording {
    file: File,
    path: PathBuf,
    limit: u64,
    started: i64,
}

/// The file cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot record to {path}: {cause}")]
pub struct RecordError {
    path: PathBuf,
    cause: io::Error,
}

impl Recording {
    /// Makes the file, which nobody but its owner may read. One of that name is kept as `FILE.1`, the
    /// one before it as `FILE.2`, and so on: an agent that crashed is started again, and its recording
    /// is what everybody wants.
    ///
    /// # Errors
    ///
    /// Names the file.
    pub fn create(path: &Path, limit: u64) -> Result<Self, RecordError> {
        let named = |cause| RecordError {
            path: path.to_owned(),
            cause,
        };
        keep(path).map_err(named)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(named)?;
        // The only clock that is asked for the time of day is the file's.
        let started = file.metadata().map_err(named)?.mtime();
        Ok(Self {
            file,
            path: path.to_owned(),
            limit,
            started,
        })
    }

    /// Starts the thread that writes. `None`, with a warning, if there can be none.
    pub(super) fn begin(self) -> Option<Writer> {
        let header = Header::of_this_process(self.started);
        let mut head = MAGIC.to_vec();
        format::frame(&serde_json::to_vec(&header).unwrap_or_default(), &mut head);
        let path = self.path.display().to_string();
        match Writer::start(self.file, path.clone(), self.limit, head) {
            Ok(writer) => {
                tracing::info!(file = path, "recording");
                Some(writer)
            }
            Err(error) => {
                tracing::warn!("cannot record to {path}: {error}");
                None
            }
        }
    }
}

fn keep(path: &Path) -> io::Result<()> {
    let numbered = |number: u32| match number {
        0 => path.to_owned(),
        _ => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    };
    for number in (0..KEPT).rev() {
        match fs::symlink_metadata(numbered(number)) {
            Ok(found) if number == 0 && !found.is_file() => {
                return Err(io::Error::other("it is no regular file"));
            }
            Ok(_) => fs::rename(numbered(number), numbered(number + 1))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
