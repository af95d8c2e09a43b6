//! Bidirectional Forwarding Detection (RFC 5880) in asynchronous mode, single hop (RFC 5881) and
//! multihop (RFC 5883), on a thread of its own.
//!
//! ```text
//! Bfd ──sessions──> Speaker: Table { Fsm … } ──Packet──> socket of each session
//!                      │  ▲──Arrival, bytes── listening sockets
//!                      └──Liveness──> whoever relies on the path
//! ```
//!
//! [`table`] and [`fsm`] decide, without IO or clock. A report leaves the thread by a function that
//! the caller gave, and doesn't wait for the daemon's own task.
//!
//! Echo, demand mode of our own and authentication are not offered. A packet with authentication is
//! discarded and counted.

mod discard;
pub mod fsm;
mod socket;
mod speaker;
mod status;
pub mod table;
pub mod wire;

pub use crate::config::Hops;
pub use discard::{Discard, Discards};
pub use status::Status;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};

use self::{
    fsm::Settings,
    speaker::{Control, Speaker},
    table::Table,
    wire::Interval,
};
use crate::{
    config::PeerConfig,
    types::{Asn, IfName, Liveness, PeerId},
};

/// Where a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The peer's address.
    pub remote: IpAddr,
    /// Ours; `None` for the kernel's choice.
    pub local: Option<IpAddr>,
    /// The only interface that leads to the peer; needed for link-local addresses.
    pub interface: Option<IfName>,
    /// How far the peer is.
    pub hops: Hops,
}

/// A session as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Where.
    pub endpoint: Endpoint,
    /// Intervals.
    pub settings: Settings,
}

impl SessionConfig {
    /// What the BGP peer that has this address is configured with; `None` without `bfd`, and for a
    /// peer that is shut down.
    pub fn of(peer: &PeerConfig, address: IpAddr, local_asn: Asn, vtep: Ipv4Addr) -> Option<Self> {
        let bfd = peer.bfd.filter(|_| peer.shutdown.is_none())?;
        Some(Self {
            endpoint: Endpoint {
                remote: address,
                local: peer.source(local_asn, vtep),
                interface: peer.name.interface().cloned(),
                hops: peer.bfd_hops(local_asn)?,
            },
            settings: Settings {
                interval: Interval::new(bfd.interval),
                multiplier: bfd.multiplier,
            },
        })
    }
}

/// Handle of the BFD thread. Dropping it ends all sessions, and says so to their peers.
#[derive(Debug)]
pub struct Bfd {
    control: mpsc::UnboundedSender<Control>,
    shared: Arc<Shared>,
    finished: oneshot::Receiver<()>,
}

impl Bfd {
    /// Starts the thread, in the caller's network namespace and without sessions. `report` is
    /// called on it, and must not wait. Ports are taken when there are sessions for them.
    ///
    /// # Errors
    ///
    /// When the system has no thread or event queue to give.
    pub fn start(report: impl FnMut(PeerId, Liveness) + Send + 'static) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared::default());
        let (control, controls) = mpsc::unbounded_channel();
        let (finish, finished) = oneshot::channel();
        // The system's own randomness: who is not on the path must not guess a discriminator.
        let table = Table::new(RandomState::new().hash_one(0));
        let speaker = Speaker::new(table, Arc::clone(&shared), Box::new(report));
        thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || {
                runtime.block_on(speaker.run(controls));
                drop(runtime);
                let _ = finish.send(());
            })?;
        Ok(Self {
            control,
            shared,
            finished,
        })
    }

    /// Makes these the sessions. Peers are distinct, and so are endpoints.
    pub fn configure(&self, sessions: Vec<(PeerId, SessionConfig)>) {
        let _ = self.control.send(Control::Configure(sessions));
    }

    /// The session of a peer.
    pub fn status(&self, peer: PeerId) -> Option<Status> {
        lock(&self.shared.sessions).get(&peer).cloned()
    }

    /// Packets discarded so far.
    pub fn discards(&self) -> Discards {
        lock(&self.shared.discards).clone()
    }

    /// Tells all peers that the sessions are switched off (AdminDown), so that they don't conclude
    /// anything from the silence that follows, and waits until that is sent.
    pub async fn shutdown(&mut self) {
        let _ = self.control.send(Control::Shutdown);
        let _ = (&mut self.finished).await;
    }
}

/// Known on both sides.
#[derive(Debug, Default)]
struct Shared {
    sessions: Mutex<BTreeMap<PeerId, Status>>,
    discards: Mutex<Discards>,
}

/// No lock is held across anything that panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
