//! One peer: its state machine, fed by sockets, the clock and orders.

mod sending;

use std::{collections::VecDeque, future::pending, io, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use ipnet::IpNet;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{JoinSet, yield_now},
    time::sleep_until,
};

use super::{
    Lot, Notice, Report, Shared,
    connection::{Connection, Input},
    decode::BATCH,
    dynamic::Stay,
    silent_drops::{Demands, Suspicion},
    socket::{self, Endpoint},
    status::PeerStatus,
    unnumbered::{Lookout, Sighting},
};
use crate::{
    bgp::{
        fsm::{Action, Cause, Cease, ConnectionId, Direction, Event, Fsm, Settings},
        peer::PeerEvent,
        rib::Advertisement,
        wire::Context,
    },
    config::{AoKeys, Authentication},
    types::{Families, Liveness, PeerId},
};

/// Events that may wait for the core before we stop reading from the peer.
const WAITING_EVENTS: usize = 16 * BATCH;

/// Chunks that connections may have read before they are decoded.
const INPUTS: usize = 4;

/// What the peer task is told.
#[derive(Debug)]
pub(super) enum Order {
    /// The peer connected.
    Accepted(TcpStream),
    /// Send this, if the session is still the one of this connection.
    Advertise(ConnectionId, Advertisement),
    /// What BFD says of the path to the peer.
    Path(Liveness),
    /// End the session, if it is still the one of this connection.
    Reset(ConnectionId, Cease),
    /// These are the keys from now on, some of which are those of before; the prefix for which the
    /// listening socket has them, where that is not the peer's address.
    Keys(Option<IpNet>, AoKeys),
    /// Our restart is over.
    Settled,
    /// End the session and yourself.
    Stop(Cease),
}

/// Where a peer's task says what it does.
#[derive(Clone)]
pub(super) struct Outlets {
    /// Its status.
    pub(super) shared: Arc<Shared>,
    /// To the core.
    pub(super) reports: mpsc::Sender<Lot>,
    /// To the supervisor.
    pub(super) notices: mpsc::UnboundedSender<Notice>,
}

/// The session, once it is up.
pub(super) struct Established {
    connection: ConnectionId,
    context: Context,
    /// Longest message that the peer takes, in octets.
    max_len: usize,
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The task of a peer.
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) endpoint: Endpoint,
    /// Finds a peer that is known by a device.
    pub(super) lookout: Option<Lookout>,
    pub(super) notices: mpsc::UnboundedSender<Notice>,
    /// How long a peer that nobody configured remains.
    pub(super) stay: Stay,
    pub(super) shared: Arc<Shared>,
    pub(super) fsm: Fsm,
    attempt: Option<Attempt>,
    pub(super) connections: Vec<Connection>,
    tasks: JoinSet<()>,
    inputs: mpsc::Sender<(ConnectionId, Input)>,
    /// There may be whole messages among what was received.
    pub(super) undecoded: bool,
    pub(super) session: Option<Established>,
    /// For the core.
    events: Lot,
    /// For the peer.
    advertisements: VecDeque<Advertisement>,
    /// Number of routes in them.
    waiting_routes: usize,
    /// The advertisement whose turn it is, as messages.
    encoded: VecDeque<Bytes>,
    pub(super) status: PeerStatus,
    /// A malformed UPDATE since the session came up.
    pub(super) last_fault: Option<String>,
    /// Why nothing may be heard of the peer.
    pub(super) suspicion: Suspicion,
    pub(super) suspected: bool,
    /// Why there is nobody to connect to.
    pub(super) obstacle: Option<String>,
    /// The last failure that was logged: one that repeats is logged once.
    logged: Option<Cause>,
}

impl Peer {
    /// Runs until [`Order::Stop`], or until the orders' sender is gone.
    pub(super) async fn run(
        id: PeerId,
        settings: Settings,
        endpoint: Endpoint,
        stay: Stay,
        mut orders: mpsc::UnboundedReceiver<Order>,
        outlets: Outlets,
    ) {
        let Outlets {
            shared,
            reports,
            notices,
        } = outlets;
        let (inputs, mut input) = mpsc::channel(INPUTS);
        let shutdown = settings.shutdown;
        let demands = Demands {
            signing: endpoint.authentication.as_ref().into(),
            ttl: endpoint.min_ttl.is_some(),
        };
        let suspicion = Suspicion::new(&shared.silent_drops, demands);
        let mut peer = Self {
            id,
            status: PeerStatus::new(id, endpoint.peer.clone(), stay.is_dynamic(), &settings),
            endpoint,
            lookout: None,
            notices,
            stay,
            fsm: Fsm::new(settings, shared.seed()),
            shared,
            attempt: None,
            connections: Vec::new(),
            tasks: JoinSet::new(),
            inputs,
            undecoded: false,
            session: None,
            events: Lot::new(),
            advertisements: VecDeque::new(),
            waiting_routes: 0,
            encoded: VecDeque::new(),
            last_fault: None,
            suspicion,
            suspected: false,
            obstacle: None,
            logged: None,
        };
        peer.start(shutdown);
        loop {
            peer.publish();
            if peer.is_over() {
                break;
            }
            let deadline = peer.deadline();
            let out = peer.writable();
            let room = peer.events.len() < WAITING_EVENTS;
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Accepted(stream)) => peer.accepted(stream),
                    Some(Order::Advertise(id, advertisement)) => peer.advertise(id, advertisement),
                    Some(Order::Path(liveness)) => peer.handle(Event::Path(liveness)),
                    Some(Order::Reset(id, cease)) => peer.reset(id, cease),
                    Some(Order::Keys(range, keys)) => peer.change_keys(range, keys),
                    Some(Order::Settled) => peer.handle(Event::Settled),
                    Some(Order::Stop(cease)) => {
                        let restart = matches!(cease, Cease::Restart(_));
                        peer.handle(Event::Stop(cease));
                        if !restart {
                            peer.forget();
                        }
                        break;
                    }
                    None => {
                        peer.handle(Event::Stop(Cease::Restart(String::new())));
                        break;
                    }
                },
                Some((id, received)) = input.recv(), if room && !peer.undecoded => {
                    peer.input(id, received);
                }
                () = yield_now(), if room && peer.undecoded => peer.decode(),
                stream = attempt(&mut peer.attempt) => {
                    peer.attempt = None;
                    match stream {
                        Ok(stream) => peer.connected(stream, Direction::Outgoing),
                        Err(error) => peer.handle(Event::ConnectFailed(error.to_string())),
                    }
                }
                sighting = sighting(&mut peer.lookout) => peer.sighted(sighting),
                () = peer.suspicion.changed(), if peer.session.is_none() => peer.suspect(),
                permit = reports.reserve(), if !peer.events.is_empty() => {
                    match permit {
                        Ok(permit) => permit.send(std::mem::take(&mut peer.events)),
                        // Nobody is interested any more.
                        Err(_) => peer.events.clear(),
                    }
                }
                Some(permit) = reserve(out) => peer.write(permit),
                () = sleep(deadline) => {
                    if !room || peer.undecoded || !input.is_empty() {
                        peer.handle(Event::Stalled);
                    }
                    peer.measure();
                    peer.handle(Event::Tick);
                }
                Some(_) = peer.tasks.join_next() => {}
            }
        }
        // The core is owed the rest of the events, and the peer its NOTIFICATION.
        drop(input);
        let Self {
            events, mut tasks, ..
        } = peer;
        if !events.is_empty() {
            let _ = reports.send(events).await;
        }
        while tasks.join_next().await.is_some() {}
    }

    fn accepted(&mut self, stream: TcpStream) {
        if let Stay::Dynamic { begun, .. } = &mut self.stay {
            *begun = true;
        }
        if !self.owns(&stream) {
            tracing::warn!(peer = %self.status.name, "connection of another neighbour rejected");
            return;
        }
        match socket::accepted(&stream, &self.endpoint) {
            Ok(()) => self.connected(stream, Direction::Incoming),
            Err(error) => tracing::warn!(peer = %self.status.name, %error, "connection lost"),
        }
    }

    fn connected(&mut self, stream: TcpStream, direction: Direction) {
        let id = self.shared.next_connection();
        let inputs = self.inputs.clone();
        match Connection::start(id, stream, inputs, &mut self.tasks) {
            Ok(connection) => {
                self.connections.push(connection);
                self.handle(Event::Connected(id, direction));
            }
            Err(error) if direction == Direction::Outgoing => {
                self.handle(Event::ConnectFailed(error.to_string()));
            }
            Err(error) => tracing::warn!(peer = %self.status.name, %error, "connection lost"),
        }
    }

    /// Signs with other keys, without the session noticing.
    fn change_keys(&mut self, range: Option<IpNet>, keys: AoKeys) {
        let next = Some(Authentication::Ao(keys.clone()));
        let was = std::mem::replace(&mut self.endpoint.authentication, next);
        if let (Some(remote), Some(Authentication::Ao(old))) = (self.endpoint.remote, was) {
            let range = range.unwrap_or_else(|| remote.ip().into());
            for connection in &self.connections {
                if let Err(error) = connection.change_keys(range, &old, &keys) {
                    let peer = &self.status.name;
                    tracing::error!(%peer, %error, "keys of a connection are not as configured");
                }
            }
        }
        // It began with the keys of before.
        if self.attempt.is_some() {
            self.act(Action::Connect);
        }
    }

    fn input(&mut self, id: ConnectionId, input: Input) {
        match input {
            Input::Bytes(bytes) => {
                if let Some(connection) = self.connection(id) {
                    connection.received.extend_from_slice(&bytes);
                    self.undecoded = true;
                }
            }
            Input::Closed(reason) => {
                self.connections.retain(|connection| connection.id != id);
                self.handle(Event::Disconnected(id, reason));
            }
        }
    }

    fn reset(&mut self, id: ConnectionId, cease: Cease) {
        let session = self.session.as_ref();
        if session.is_some_and(|session| session.connection == id) {
            self.handle(Event::Reset(cease));
        }
    }

    /// Tells the machine whether the peer takes what it is sent.
    fn measure(&mut self) {
        let progressed = self
            .connections
            .iter_mut()
            .filter_map(|connection| connection.send_queue.progressed().then_some(connection.id));
        for id in progressed.collect::<Vec<_>>() {
            self.handle(Event::Taken(id));
        }
    }

    /// Feeds the machine and does what it says.
    pub(super) fn handle(&mut self, event: Event) {
        for action in self.fsm.handle(event, Instant::now()) {
            self.act(action);
        }
        let cause = self.fsm.last_error();
        if cause != self.logged.as_ref() {
            self.logged = cause.cloned();
            if let Some(cause) = &self.logged {
                tracing::warn!(peer = %self.status.name, %cause, "BGP session is not up");
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect => {
                self.attempt = Some(Box::pin(socket::connect(self.endpoint.clone())));
            }
            Action::AbortConnect => self.attempt = None,
            Action::Send(id, message) => self.send(id, &message),
            Action::Close(id) => self.connections.retain(|connection| connection.id != id),
            Action::Up(id, negotiated) => {
                self.status.negotiated(&negotiated);
                let mut session = negotiated.session;
                session.local = self.connection(id).and_then(|connection| connection.local);
                tracing::info!(
                    peer = %self.status.name, asn = %session.asn, router_id = %session.router_id,
                    hold_time = negotiated.hold_time.as_secs(), "BGP session established"
                );
                self.last_fault = None;
                self.suspected = false;
                self.stay.retain(None);
                self.session = Some(Established {
                    connection: id,
                    context: negotiated.context,
                    max_len: negotiated.max_len,
                });
                self.report(id, PeerEvent::Up(session));
            }
            Action::Down(cause, retention) => {
                tracing::warn!(peer = %self.status.name, %cause, "BGP session down");
                self.logged = Some(cause);
                self.suspicion.restart();
                self.stay.retain(retention.as_ref());
                if let Some(session) = self.session.take() {
                    let event = retention.map_or(PeerEvent::Down, PeerEvent::Restarting);
                    self.report(session.connection, event);
                }
                self.last_fault = None;
                self.status.capabilities.clear();
                self.status.families = Families::NONE;
                self.advertisements.clear();
                self.encoded.clear();
                self.waiting_routes = 0;
            }
            Action::Update(update) => self.report_session(PeerEvent::Update(update)),
            Action::Refresh(family) => self.report_session(PeerEvent::Refresh(family)),
            Action::RefreshBegin(family) => {
                self.report_session(PeerEvent::RefreshBegin(family));
            }
            Action::RefreshEnd(family) => self.report_session(PeerEvent::RefreshEnd(family)),
        }
    }

    fn report_session(&mut self, event: PeerEvent) {
        if let Some(session) = &self.session {
            self.report(session.connection, event);
        }
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn report(&mut self, connection: ConnectionId, event: PeerEvent) {
        self.events.push_back(Report {
            peer: self.id,
            connection,
            event,
        });
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections
            .iter_mut()
            .find(|connection| connection.id == id)
    }
}

async fn attempt(attempt: &mut Option<Attempt>) -> io::Result<TcpStream> {
    match attempt {
        Some(attempt) => attempt.await,
        None => pending().await,
    }
}

async fn sighting(lookout: &mut Option<Lookout>) -> Sighting {
    match lookout {
        Some(lookout) => lookout.next().await,
        None => pending().await,
    }
}

/// `None` when the connection is gone.
async fn reserve(out: Option<mpsc::Sender<Bytes>>) -> Option<mpsc::OwnedPermit<Bytes>> {
    match out {
        Some(out) => out.reserve_owned().await.ok(),
        None => pending().await,
    }
}

async fn sleep(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
