//! Records that the programs send: events for the core, and log lines of a trace build.

use std::{future::Future, io, os::fd::AsRawFd};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};
use vtep_common::abi::Event;
use zerocopy::FromBytes as _;

/// Most events of one batch, so that a storm leaves time for everything else.
pub const BATCH: usize = 1024;

/// Events from the ring buffer.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    /// Must be called in a tokio runtime.
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        Ok(Self {
            ring: readable(ring)?,
        })
    }

    /// Waits for events and returns at most [`BATCH`] of them, oldest first; more may be waiting.
    /// Cancel-safe: events are taken only when they are returned.
    ///
    /// # Errors
    ///
    /// Those of the reactor, none of which goes away.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        loop {
            let mut ready = self.ring.readable_mut().await?;
            let ring = ready.get_inner_mut();
            let mut batch = Vec::new();
            let mut drained = false;
            while batch.len() < BATCH {
                let Some(record) = ring.next() else {
                    drained = true;
                    break;
                };
                match Event::read_from_prefix(&record) {
                    Ok((event, _)) => batch.push(event),
                    Err(_) => tracing::debug!(bytes = record.len(), "record too short, ignored"),
                }
            }
            // The kernel wakes only a reader that has read everything, so that readiness must not be
            // given up before.
            if drained {
                ready.clear_ready();
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }
}

/// Forwards log lines of programs that were built with `trace` through the `log` facade for as long as
/// it is polled; `None` when they were built without. Must be called in a tokio runtime.
pub(super) fn trace(ebpf: &mut Ebpf) -> Option<impl Future<Output = io::Error> + use<>> {
    // Without the map there is no tracing.
    let logger = EbpfLogger::init(ebpf).ok()?;
    let mut logger = readable(logger)
        .inspect_err(|error| tracing::warn!("no log lines of the BPF programs: {error}"))
        .ok()?;
    Some(async move {
        loop {
            match logger.readable_mut().await {
                Ok(mut ready) => {
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                Err(error) => return error,
            }
        }
    })
}

fn readable<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: a ring buffer, and a logger around one, owns the descriptor of its map for its whole
    // life and always returns this one.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}
