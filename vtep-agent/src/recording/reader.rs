//! Records from a file that may be cut off, damaged, or something else.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use super::format::{self, FRAME_HEADER, Header, MAGIC, MAX_FRAME, Record};
use crate::types::hash;

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is not to be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// Something else.
    #[error("{0} is no recording of vtep-agent")]
    Foreign(PathBuf),
    /// Frames of another kind.
    #[error(
        "{0} is a recording of format {1}, this agent reads format {2}: use the agent that made it"
    )]
    Format(PathBuf, u8, u8),
    /// Not even the header is whole.
    #[error("{0} is damaged: it has no header")]
    Header(PathBuf),
    /// Another agent, which may do other things with the same inputs, and write them down otherwise.
    #[error(
        "{0} was recorded by vtep-agent {1} ({2}), this is {3} ({4}): \
         use that one, or --force to see how far it goes"
    )]
    Other(PathBuf, String, String, &'static str, &'static str),
    /// Its seed came too late.
    #[error("this process has hash tables already: replay in a new one")]
    Seed,
}

/// Why there is nothing more, although the recording was not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// The file ends here, perhaps in the middle of a frame: the agent runs still, or it was killed.
    CutOff {
        /// Bytes up to the last whole frame.
        whole: u64,
    },
    /// What follows is not what was written.
    Damaged {
        /// Bytes up to the damage.
        whole: u64,
    },
}

pub(super) struct Reader<R = BufReader<File>> {
    source: R,
    /// Bytes of whole frames so far.
    whole: u64,
}

impl Reader {
    /// Reads up to the header. Its seed is the process's from now on.
    pub(super) fn open(path: &Path, force: bool) -> Result<(Header, Self), OpenError> {
        let failed = |error| OpenError::Read(path.to_owned(), error);
        let file = File::open(path).map_err(failed)?;
        let (header, reader) = Self::begin(BufReader::new(file), path)?;
        let (agent, architecture) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        if !force && (header.agent != agent || header.architecture != architecture) {
            let path = path.to_owned();
            let Header {
                agent: theirs,
                architecture: on,
                ..
            } = header;
            return Err(OpenError::Other(path, theirs, on, agent, architecture));
        }
        match hash::set_seed(header.seed) {
            true => Ok((header, reader)),
            false => Err(OpenError::Seed),
        }
    }
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(mut source: R, path: &Path) -> Result<(Header, Self), OpenError> {
        let mut magic = [0; MAGIC.len()];
        let found = source.read_exact(&mut magic);
        let ([ours @ .., version], [theirs @ .., found_version]) = (MAGIC, magic);
        match found {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(OpenError::Read(path.to_owned(), error));
            }
            Ok(()) if magic == MAGIC => {}
            Ok(()) if ours == theirs => {
                return Err(OpenError::Format(path.to_owned(), found_version, version));
            }
            _ => return Err(OpenError::Foreign(path.to_owned())),
        }
        let mut reader = Self {
            source,
            whole: MAGIC.len() as u64,
        };
        let header = reader.frame().ok();
        let header = header.and_then(|content| serde_json::from_slice(&content).ok());
        let header = header.ok_or_else(|| OpenError::Header(path.to_owned()))?;
        Ok((header, reader))
    }

    /// Bytes of whole frames that were read.
    pub(super) fn whole(&self) -> u64 {
        self.whole
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Record, Incomplete> {
        let before = self.whole;
        let content = self.frame()?;
        format::decode(&content).ok_or(Incomplete::Damaged { whole: before })
    }

    fn frame(&mut self) -> Result<Vec<u8>, Incomplete> {
        let whole = self.whole;
        let cut_off = |_| Incomplete::CutOff { whole };
        let damaged = Incomplete::Damaged { whole };
        let (mut length, mut of_length, mut check) = ([0; 4], [0; 4], [0; 8]);
        self.source.read_exact(&mut length).map_err(cut_off)?;
        self.source.read_exact(&mut of_length).map_err(cut_off)?;
        let length = u32::from_le_bytes(length);
        let of_length = u32::from_le_bytes(of_length);
        if length > MAX_FRAME || format::check_length(length) != of_length {
            return Err(damaged);
        }
        self.source.read_exact(&mut check).map_err(cut_off)?;
        let mut content = Vec::new();
        // No more memory than there is file.
        let mut source = self.source.by_ref().take(length.into());
        source.read_to_end(&mut content).map_err(cut_off)?;
        if content.len() as u64 != u64::from(length) {
            return Err(Incomplete::CutOff { whole });
        }
        if format::check(&content) != u64::from_le_bytes(check) {
            return Err(damaged);
        }
        self.whole += u64::from(length) + FRAME_HEADER as u64;
        Ok(content)
    }
}
