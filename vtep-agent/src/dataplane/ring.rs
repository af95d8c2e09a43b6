//! Records that the programs send: events for the core, and frames that are traced.

use std::{io, marker::PhantomData};

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};
use vtep_common::abi::{DhcpEvent, Event, EventKind, Trace};
use zerocopy::FromBytes;

/// Most records of one batch, so that a storm leaves time for everything else.
pub const BATCH: usize = 1024;

/// Events from the ring buffer.
pub type Events = Records<Report>;

/// Frames that are traced.
pub type Traces = Records<Trace>;

/// What the datapath reports.
#[derive(Clone, Debug)]
pub enum Report {
    /// Who is behind a port.
    Event(Event),
    /// A DHCP message.
    Dhcp(Box<DhcpEvent>),
}

/// A record of a ring buffer.
pub trait Record: Sized {
    /// From the record's bytes, of which there may be more; `None` when there are too few.
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl Record for Report {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (event, _) = Event::read_from_prefix(bytes).ok()?;
        Some(match event.kind() {
            Some(EventKind::DhcpSent | EventKind::DhcpDelivered) => {
                let (record, _) = DhcpEvent::read_from_prefix(bytes).ok()?;
                Self::Dhcp(Box::new(record))
            }
            _ => Self::Event(event),
        })
    }
}

impl Record for Trace {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (trace, _) = Self::read_from_prefix(bytes).ok()?;
        Some(trace)
    }
}

/// Records of one ring buffer.
pub struct Records<T> {
    ring: AsyncFd<RingBuf<MapData>>,
    records: PhantomData<fn() -> T>,
}

impl<T: Record> Records<T> {
    /// Must be called in a tokio runtime.
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        Ok(Self {
            ring: readable(ring)?,
            records: PhantomData,
        })
    }

    /// Waits for records and returns at most [`BATCH`] of them, oldest first; more may be waiting.
    /// Cancel-safe: they are taken only when they are returned.
    ///
    /// # Errors
    ///
    /// Those of the reactor, none of which goes away.
    pub async fn next(&mut self) -> io::Result<Vec<T>> {
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
                match T::read(&record) {
                    Some(record) => batch.push(record),
                    None => tracing::debug!(bytes = record.len(), "record too short, ignored"),
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

fn readable(inner: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: a ring buffer owns the descriptor of its map for its whole life and always returns this
    // one.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}
