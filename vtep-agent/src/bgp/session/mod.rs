//! BGP sessions over TCP, on a thread of their own.
//!
//! ```text
//! Sessions ──Control──> Supervisor ──Order──> Peer (one each) <──bytes── Connection (0 to 2 each)
//!                       listening socket         │    └────────chunks──>
//! Events <───────────────bounded──────────────── Peer
//! ```
//!
//! All queues are bounded where the other end is not ours: a peer that doesn't read holds up
//! nobody else, and a peer that sends faster than the core takes it is read more slowly. The
//! decisions are those of [`fsm`](super::fsm) and [`wire`](super::wire).

mod connection;
mod decode;
mod dynamic;
mod gtsm;
mod locate;
mod md5;
mod peer;
mod publish;
mod send_queue;
mod silent_drops;
mod socket;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;
mod unnumbered;

pub use silent_drops::SilentDrops;
pub use status::{MessageCounts, PeerStatus};

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};

use self::supervisor::Supervisor;
use super::{
    fsm::{Cease, ConnectionId},
    peer::PeerEvent,
    rib::Advertisement,
};
use crate::{
    config::{DynamicPeers, PeerConfig},
    types::{Asn, Liveness, PeerId},
};

/// TCP port of BGP.
pub const PORT: u16 = 179;

/// Ids from here on are those of dynamic peers.
pub const FIRST_DYNAMIC: PeerId = PeerId(1 << 31);

/// Lots of events that wait for [`Events::recv`]. With one the next one grows for as long as the core is
/// busy with the one before, up to the length at which its peer is read more slowly.
const WAITING_LOTS: usize = 1;

/// Our side of all sessions.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Our AS.
    pub local_asn: Asn,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Local address of sessions that name none and are internal or multihop.
    pub vtep_address: Ipv4Addr,
    /// Port on which connections are accepted, usually [`PORT`]; 0 for any; `None`: connections are
    /// only made, not accepted.
    pub listen: Option<u16>,
}

/// Sessions cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another speaker runs on this host.
    #[error(
        "TCP port {port} is taken, perhaps by another BGP speaker: stop it, or set listen = false \
         in [bgp] to connect to peers without accepting connections"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The listening socket cannot be made.
    #[error("cannot listen on TCP port {port}: {cause}")]
    Listen {
        /// The port.
        port: u16,
        /// The system's reason.
        cause: io::Error,
    },
    /// No thread or no event queue.
    #[error("cannot start the BGP thread")]
    Thread(#[from] io::Error),
}

/// Handle of the BGP thread. Dropping it ends all sessions too, as for a restart and without waiting
/// for it.
#[derive(Debug)]
pub struct Sessions {
    control: mpsc::UnboundedSender<Control>,
    shared: Arc<Shared>,
    port: Option<u16>,
    finished: oneshot::Receiver<()>,
}

/// Tells sessions what BFD says of the paths to their peers, from any thread.
#[derive(Clone, Debug)]
pub struct Paths(mpsc::WeakUnboundedSender<Control>);

/// What sessions report.
#[derive(Debug)]
pub struct Events {
    lots: mpsc::Receiver<Lot>,
    /// What is left of the last one.
    lot: Lot,
    shared: Arc<Shared>,
}

impl Sessions {
    /// Starts the thread, in the caller's network namespace and with no peers.
    ///
    /// # Errors
    ///
    /// When the port cannot be listened on, or the system has no thread to give.
    pub fn start(options: SessionOptions) -> Result<(Self, Events), StartError> {
        let listener = options.listen.map(listen).transpose()?;
        let port = match &listener {
            Some(listener) => Some(listener.local_addr()?.port()),
            None => None,
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared::default());
        shared.count_silent_drops();
        let (control, controls) = mpsc::unbounded_channel();
        let (report, lots) = mpsc::channel(WAITING_LOTS);
        let (finish, finished) = oneshot::channel();
        let listener = {
            // A tokio socket is made inside its runtime.
            let _guard = runtime.enter();
            listener
                .map(tokio::net::TcpListener::from_std)
                .transpose()?
        };
        let supervisor = Supervisor::new(options, listener, Arc::clone(&shared), report);
        thread::Builder::new()
            .name("bgp".to_owned())
            .spawn(move || {
                runtime.block_on(supervisor.run(controls));
                // Sockets are closed with the runtime.
                drop(runtime);
                let _ = finish.send(());
            })?;
        let events = Events {
            lots,
            lot: Lot::new(),
            shared: Arc::clone(&shared),
        };
        Ok((
            Self {
                control,
                shared,
                port,
                finished,
            },
            events,
        ))
    }

    /// The port on which connections are accepted.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The agent was restarted and what it told its peers before is still forwarded: they are told
    /// so (RFC 4724 §4.1). To be called before the first [`Sessions::configure`].
    pub fn restarted(&self) {
        let _ = self.control.send(Control::Restarted);
    }

    /// The restart is over; sessions that come up from now on are as any other.
    pub fn settled(&self) {
        let _ = self.control.send(Control::Settled);
    }

    /// Makes these the peers: new ones are started, missing ones stopped (Cease 6/3), changed ones
    /// restarted (6/6, routes staying on both sides if the peer knows graceful restart), others left
    /// alone. Ids and addresses are distinct.
    pub fn configure(&self, peers: Vec<(PeerId, PeerConfig)>) {
        let _ = self.control.send(Control::Configure(peers));
    }

    /// Makes these the prefixes from which anybody may connect: peers of prefixes that are gone or
    /// changed are stopped. They get ids of their own, from [`FIRST_DYNAMIC`] on. To be called before
    /// the first [`Sessions::configure`], which begins to accept connections.
    pub fn accept_from(&self, dynamic: Vec<DynamicPeers>) {
        let _ = self.control.send(Control::AcceptFrom(dynamic));
    }

    /// Queues an advertisement. It goes out on the session whose [`PeerEvent::Up`] was the last to
    /// leave [`Events::recv`]; if that session is gone it is dropped, since it was computed for the
    /// adj-rib-out of that session.
    pub fn send(&self, peer: PeerId, advertisement: Advertisement) {
        let session = lock(&self.shared.heard).get(&peer).copied();
        if let Some(session) = session {
            let _ = self
                .control
                .send(Control::Advertise(peer, session, advertisement));
        }
    }

    /// Ends the session whose [`PeerEvent::Up`] was the last to leave [`Events::recv`], if it is
    /// still there.
    pub fn reset(&self, peer: PeerId, cease: Cease) {
        let session = lock(&self.shared.heard).get(&peer).copied();
        if let Some(session) = session {
            let _ = self.control.send(Control::Reset(peer, session, cease));
        }
    }

    /// For whoever watches paths.
    pub fn paths(&self) -> Paths {
        Paths(self.control.downgrade())
    }

    /// The state of all peers, by id.
    pub fn status(&self) -> Vec<PeerStatus> {
        lock(&self.shared.status).values().cloned().collect()
    }

    /// Segments that this host dropped because of their signature or TTL, as of the last second.
    pub fn silent_drops(&self) -> SilentDrops {
        *self.shared.silent_drops.borrow()
    }

    /// Ends all sessions for this reason, usually [`Cease::Shutdown`] or [`Cease::Restart`], and
    /// waits, for less than a second, until peers have it.
    pub async fn shutdown(self, cease: Cease) {
        let _ = self.control.send(Control::Shutdown(cease));
        let _ = self.finished.await;
    }
}

impl Paths {
    /// Says of the path to a peer what differs from before. A peer may be configured later.
    pub fn report(&self, peer: PeerId, liveness: Liveness) {
        if let Some(control) = self.0.upgrade() {
            let _ = control.send(Control::Path(peer, liveness));
        }
    }
}

impl Events {
    /// The next event; `None` after the shutdown. Cancel-safe. Whoever calls it handles an event,
    /// and sends what follows from it, before the next call: that is how [`Sessions::send`] knows
    /// to which session an advertisement belongs.
    pub async fn recv(&mut self) -> Option<(PeerId, PeerEvent)> {
        loop {
            if let Some(event) = self.next_of_lot() {
                return Some(event);
            }
            self.lot = self.lots.recv().await?;
        }
    }

    /// An event that is there already.
    pub fn try_recv(&mut self) -> Option<(PeerId, PeerEvent)> {
        if self.lot.is_empty() {
            self.lot = self.lots.try_recv().ok()?;
        }
        self.next_of_lot()
    }

    fn next_of_lot(&mut self) -> Option<(PeerId, PeerEvent)> {
        let report = self.lot.pop_front()?;
        Some(self.hear(report))
    }

    fn hear(&self, report: Report) -> (PeerId, PeerEvent) {
        let Report {
            peer,
            connection,
            event,
        } = report;
        match event {
            PeerEvent::Up(_) => {
                lock(&self.shared.heard).insert(peer, connection);
            }
            PeerEvent::Down | PeerEvent::Restarting(_) => {
                lock(&self.shared.heard).remove(&peer);
            }
            PeerEvent::Update(_)
            | PeerEvent::Refresh(_)
            | PeerEvent::RefreshBegin(_)
            | PeerEvent::RefreshEnd(_) => {}
        }
        (peer, event)
    }
}

/// From the handle to the thread.
#[derive(Debug)]
enum Control {
    Configure(Vec<(PeerId, PeerConfig)>),
    AcceptFrom(Vec<DynamicPeers>),
    Advertise(PeerId, ConnectionId, Advertisement),
    Path(PeerId, Liveness),
    Reset(PeerId, ConnectionId, Cease),
    Restarted,
    Settled,
    Shutdown(Cease),
}

/// From a peer's task to the supervisor.
#[derive(Debug)]
enum Notice {
    /// A peer that is known by a device has this address there now.
    Located(PeerId, Option<IpAddr>),
    /// Nothing is left of a dynamic peer.
    Finished(PeerId),
}

/// From the thread to [`Events`].
#[derive(Debug)]
struct Report {
    peer: PeerId,
    /// Tells the sessions of a peer apart.
    connection: ConnectionId,
    event: PeerEvent,
}

/// Reports of one peer, at least one. Waking the other thread costs more than an UPDATE does, so they go
/// together.
type Lot = VecDeque<Report>;

/// Known on both sides.
#[derive(Debug, Default)]
struct Shared {
    status: Mutex<BTreeMap<PeerId, PeerStatus>>,
    /// The session of each peer as the core knows it.
    heard: Mutex<HashMap<PeerId, ConnectionId>>,
    connections: AtomicU64,
    /// The host's counters.
    silent_drops: watch::Sender<SilentDrops>,
}

impl Shared {
    fn insert(&self, status: PeerStatus) {
        lock(&self.status).insert(status.peer, status);
    }

    fn remove(&self, peer: PeerId) -> Option<PeerStatus> {
        lock(&self.status).remove(&peer)
    }

    /// Updates a peer that is still configured.
    fn publish(&self, status: &PeerStatus) {
        if let Some(known) = lock(&self.status).get_mut(&status.peer) {
            known.clone_from(status);
        }
    }

    /// Reads the host's counters again; without `/proc` they stay as they are.
    fn count_silent_drops(&self) {
        if let Ok(read) = SilentDrops::read() {
            self.silent_drops
                .send_if_modified(|known| std::mem::replace(known, read) != read);
        }
    }

    fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// For jitter; need not be strong.
    fn seed(&self) -> u64 {
        RandomState::new().hash_one(0)
    }
}

fn listen(port: u16) -> Result<std::net::TcpListener, StartError> {
    socket::listen(port).map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken { port },
        _ => StartError::Listen { port, cause },
    })
}

/// No lock is held across anything that panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
