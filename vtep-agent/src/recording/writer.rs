//! The thread that writes a recording: the core never waits for a disk.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use super::format::{self, End, Record};

/// Most that waits for the disk, in bytes, but for a single frame that is larger.
const BUFFER: usize = 64 << 20;

/// How long the end of the process waits for the disk.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The way to the thread. Dropped: the agent stops in good order.
#[derive(Debug)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Whole frames.
    waiting: Vec<u8>,
    /// Bytes that are still allowed.
    left: u64,
    /// Nothing may be added any more, because of this.
    end: Option<End>,
    /// Everything is in the file that will ever be.
    finished: bool,
}

/// For [`finish_before_exit`].
static LAST: OnceLock<Arc<Shared>> = OnceLock::new();

/// A process that panics writes what it has, with that as its end. Of no effect without a recording.
pub fn finish_before_exit() {
    if let Some(shared) = LAST.get() {
        shared.finish(End::Panicked);
    }
}

impl Writer {
    /// `head` is written first.
    ///
    /// # Errors
    ///
    /// There can be no thread.
    pub(super) fn start(file: File, path: String, limit: u64, head: Vec<u8>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                left: limit.saturating_sub(head.len() as u64),
                waiting: head,
                end: None,
                finished: false,
            }),
            changed: Condvar::new(),
        });
        let writing = Arc::clone(&shared);
        let thread = thread::Builder::new().name("recording".to_owned());
        thread.spawn(move || writing.write_all(file, &path))?;
        // One per process, but in tests.
        let _ = LAST.set(Arc::clone(&shared));
        Ok(Self(shared))
    }

    /// Adds a frame. `false`: the recording has ended.
    pub(super) fn add(&self, content: &[u8]) -> bool {
        let mut state = self.0.lock();
        if state.end.is_some() {
            return false;
        }
        let length = content.len() + format::FRAME_HEADER;
        if length as u64 > state.left || content.len() as u64 > format::MAX_FRAME.into() {
            state.end = Some(End::Full);
        } else if state.waiting.len() + length > BUFFER.max(2 * length) {
            state.end = Some(End::Slow);
        } else {
            state.left -= length as u64;
            format::frame(content, &mut state.waiting);
        }
        self.0.changed.notify_all();
        state.end.is_none()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.finish(End::Stopped);
    }
}

impl Shared {
    /// Ends the recording, if it has not ended already, and waits for the disk for a while.
    fn finish(&self, end: End) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        self.changed.notify_all();
        let unfinished = |state: &mut State| !state.finished;
        // In time or not: there is nothing else to be done.
        drop(
            self.changed
                .wait_timeout_while(state, LAST_WORDS, unfinished),
        );
    }

    /// The thread. What is written at a time are whole frames.
    fn write_all(&self, mut file: File, path: &str) {
        let mut good = 0;
        let end = loop {
            let (waiting, end) = self.wait();
            let written = file.write_all(&waiting);
            if let Err(error) = written {
                tracing::warn!("the recording ends: cannot write to {path}: {error}");
                // Room for the end, if any.
                let _ = file.set_len(good);
                let _ = file.seek(io::SeekFrom::Start(good));
                break End::Failed;
            }
            good += waiting.len() as u64;
            if let Some(end) = end {
                break end;
            }
        };
        let mut last = Vec::new();
        if let Some(content) = format::encode::<(), ()>(&Record::End(end)) {
            format::frame(&content, &mut last);
        }
        let written = file.write_all(&last);
        match (end, written) {
            (End::Full | End::Slow, _) => {
                tracing::warn!(file = path, "the recording ends: {}", end.name());
            }
            (End::Stopped, Err(error)) => tracing::warn!("cannot write to {path}: {error}"),
            _ => {}
        }
        let mut state = self.lock();
        state.end.get_or_insert(end);
        state.waiting = Vec::new();
        state.finished = true;
        self.changed.notify_all();
    }

    /// What there is to write, and whether that is all.
    fn wait(&self) -> (Vec<u8>, Option<End>) {
        let nothing = |state: &mut State| state.waiting.is_empty() && state.end.is_none();
        let mut state = self
            .changed
            .wait_while(self.lock(), nothing)
            .unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut state.waiting), state.end)
    }

    /// No thread panics with it in hand.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
