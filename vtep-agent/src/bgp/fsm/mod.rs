//! The session state machine of RFC 4271 §8, for one peer and without IO: events and the time go
//! in, actions and a deadline come out.
//!
//! ```text
//! sockets, timers --Event, now--> Fsm::handle --Action--> sockets, core
//!                                 Fsm::deadline: when to send Event::Tick
//! ```
//!
//! RFC 4271 runs one machine per connection. Here one machine owns all connections of the peer, of
//! which there may be two while a collision is undecided, because only together they tell which
//! one stays (§6.8). The state of the peer is that of the connection that got furthest.
//!
//! Where the RFC leaves a choice:
//!
//! - Every failure is followed by an automatic start (§8.1.1 option 1), after a ConnectRetryTime
//!   that grows with the number of failures in a row: 1 s, 2 s, 4 s … 30 s, less jitter. Meanwhile
//!   the peer may connect (Active). After a protocol error it is kept out for a second first
//!   (Idle), so that a peer which makes the same mistake again and again costs little, and one that
//!   was repaired is back soon.
//! - Collisions are detected in OpenSent too, since the peer is known by its address.
//! - An Established session wins over a new connection (no CollisionDetectEstablishedState), but
//!   is probed with a KEEPALIVE: if the peer lost its state, its TCP resets the old connection, and
//!   the peer's next attempt succeeds without waiting for our hold timer. With graceful restart the
//!   new connection wins (RFC 4724 §4.2), unless the peer may have begun to connect before it knew of
//!   the session: as long as that is only seconds old and brought no UPDATE, and the peer doesn't say
//!   that it has restarted since.
//! - ROUTE-REFRESH restarts the hold timer, as UPDATE and KEEPALIVE do.
//! - A peer without EVPN gets NOTIFICATION 2/7.
//! - DelayOpen is not used.
//! - A path that BFD gives up ends all connections with Cease 6/10 (RFC 9384), as a lost link would.
//!   Routes stay where both sides sent the N bit (RFC 8538 §4). The C bit of BFD plays no part: ours
//!   is clear, so that a failure can't be told from a restart of the peer's control plane, and no
//!   restart in progress is aborted (RFC 5882 §4.3.2). Without [`Settings::needs_path`] the session
//!   may come back before BFD does: a peer that ended its BFD is no worse than one that has none.

mod backoff;
mod cause;
mod collision;
mod connection;
mod ending;
mod graceful;
mod interface;
mod negotiation;
mod refusal;
#[cfg(test)]
mod tests;

pub use cause::{Cause, Cease};
pub use connection::{ConnectionId, Direction};
pub use graceful::{Graceful, LongLived, Restart};
pub use interface::{Action, Event, Settings, State};
pub use negotiation::Negotiated;
pub use refusal::Refusal;

use std::{
    borrow::Borrow,
    net::IpAddr,
    time::{Duration, Instant},
};

use self::{
    backoff::{Backoff, Jitter},
    collision::Speaker,
    connection::{Connection, Phase},
};
use super::wire::{
    Context, EXTENDED_MAX_LEN, Family, MAX_LEN, Message, Notification, Open, RouteRefresh,
};
use crate::types::Liveness;

/// How long TCP may take to connect: the ConnectRetryTime in the state Connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Age from which an Established session gives way to a new connection of a peer with graceful
/// restart.
const YOUNG_SESSION: Duration = Duration::from_secs(5);

/// The machine of one peer.
#[derive(Clone, Debug)]
pub struct Fsm {
    settings: Settings,
    restart: Restart,
    started: bool,
    /// What BFD says.
    path: Liveness,
    /// Idle until then, whatever the peer wants (IdleHoldTimer).
    idle_hold: Option<Instant>,
    /// A connection is being opened; when to give up.
    attempt: Option<Instant>,
    /// When to connect (ConnectRetryTimer, outside of Connect).
    retry: Option<Instant>,
    /// At most two, of which at most one is Established. Two that aren't differ in direction.
    connections: Vec<Connection>,
    backoff: Backoff,
    jitter: Jitter,
    before_open: Context,
    /// Why the last Established session ended.
    down: Option<Cause>,
    /// Why the last attempt since then failed.
    failure: Option<Cause>,
}

impl Fsm {
    /// A machine in Idle. The seed decides about jitter.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            before_open: negotiation::before_open(&settings),
            restart: settings.restart,
            settings,
            started: false,
            path: Liveness::Unknown,
            idle_hold: None,
            attempt: None,
            retry: None,
            connections: Vec::new(),
            backoff: Backoff::default(),
            jitter: Jitter::new(seed),
            down: None,
            failure: None,
        }
    }

    /// The peer, which is stopped, is somewhere else now.
    pub fn set_peer_address(&mut self, address: IpAddr) {
        self.settings.peer_address = address;
    }

    /// Takes an event; gives what to do about it. Events of connections that the machine closed or
    /// never saw are ignored.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let out = &mut actions;
        match event {
            Event::Start => self.start(now, out),
            Event::Stop(cease) => {
                self.started = false;
                self.retry = None;
                self.idle_hold = None;
                self.abort_connect(out);
                self.end_all(&cease, now, out);
            }
            Event::Reset(cease) => self.end_all(&cease, now, out),
            Event::Connected(id, direction) => self.connected(id, direction, now, out),
            Event::ConnectFailed(reason) => self.connect_failed(reason, now),
            Event::Disconnected(id, reason) => {
                if let Some(index) = self.index(id) {
                    self.drop_connection(index, Cause::Transport(reason), now, out);
                }
            }
            Event::Message(id, message) => {
                if let Some(index) = self.index(id) {
                    self.message(index, message, now, out);
                }
            }
            Event::Malformed(id, notification) => {
                if let Some(index) = self.index(id) {
                    let phase = &self.connections[index].phase;
                    let notification = cause::malformed(phase, notification);
                    self.end(index, notification, now, out);
                }
            }
            Event::Settled => self.restart.restarting = false,
            Event::UpdateSent => {
                if let Some(connection) = self.connections.iter_mut().find(is_established) {
                    connection.restart_keepalive(now, &mut self.jitter);
                }
            }
            Event::Taken(id) => {
                if let Some(index) = self.index(id) {
                    self.connections[index].restart_send_hold(&self.settings, now);
                }
            }
            Event::Stalled => {
                for connection in &mut self.connections {
                    connection.restart_hold(now);
                }
            }
            Event::Path(path) => self.path_changed(path, now, out),
            Event::Tick => self.tick(now, out),
        }
        actions
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let connections = self.connections.iter().filter_map(Connection::deadline);
        self.attempt
            .into_iter()
            .chain(self.retry)
            .chain(self.idle_hold)
            .chain(connections)
            .min()
    }

    /// The peer's state.
    pub fn state(&self) -> State {
        let connection = self
            .connections
            .iter()
            .map(|connection| match connection.phase {
                Phase::OpenSent => State::OpenSent,
                Phase::OpenConfirm(_) => State::OpenConfirm,
                Phase::Established(..) => State::Established,
            });
        connection.max().unwrap_or(if self.attempt.is_some() {
            State::Connect
        } else if self.started && self.idle_hold.is_none() && !self.lacks_path() {
            State::Active
        } else {
            State::Idle
        })
    }

    /// How to read what arrives on a connection.
    pub fn context(&self, id: ConnectionId) -> &Context {
        self.index(id)
            .and_then(|index| self.connections[index].negotiated())
            .map_or(&self.before_open, |negotiated| &negotiated.context)
    }

    /// Longest message that the peer may send on a connection, in octets: what we offered counts,
    /// not what the peer offers (RFC 8654 §4).
    pub fn max_received(&self, id: ConnectionId) -> usize {
        let opened = self
            .index(id)
            .is_some_and(|index| self.connections[index].negotiated().is_some());
        match opened && self.settings.extended_messages {
            true => EXTENDED_MAX_LEN,
            false => MAX_LEN,
        }
    }

    /// The Established session, and since when.
    pub fn established(&self) -> Option<(&Negotiated, Instant)> {
        let connection = self.connections.iter().find(is_established)?;
        Some((connection.negotiated()?, connection.established_since()?))
    }

    /// Why the last attempt failed or, if there was none since, why the last session ended.
    pub fn last_error(&self) -> Option<&Cause> {
        self.failure.as_ref().or(self.down.as_ref())
    }

    fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.started && !self.settings.shutdown {
            self.started = true;
            self.backoff.reset();
            self.connect(now, out);
        }
    }

    fn connect(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.settings.passive && !self.lacks_path() {
            self.attempt = Some(now + CONNECT_TIMEOUT);
            out.push(Action::Connect);
        }
    }

    fn connected(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let wanted = match direction {
            Direction::Outgoing => self.attempt.take().is_some(),
            Direction::Incoming => self.started && self.idle_hold.is_none() && !self.lacks_path(),
        };
        if !wanted {
            out.push(Action::Close(id));
            return;
        }
        self.retry = None;
        // The peer has given up the older of its connections, or never finished it.
        let older = |known: &Connection| known.direction == direction && !is_established(known);
        if let Some(index) = self.connections.iter().position(older) {
            self.lose(index, out);
        }
        if let Some(session) = self.connections.iter().find(is_established) {
            out.push(Action::Send(session.id, Message::Keepalive));
        }
        self.connections.push(Connection::new(id, direction, now));
        out.push(Action::Send(
            id,
            Message::Open(negotiation::open(&self.settings, self.restart)),
        ));
    }

    fn connect_failed(&mut self, reason: String, now: Instant) {
        if self.attempt.take().is_some() {
            self.failure = Some(Cause::Connect(reason));
            self.retry_unless_connected(None, now);
        }
    }

    fn message(&mut self, index: usize, message: Message, now: Instant, out: &mut Vec<Action>) {
        let connection = &mut self.connections[index];
        match (&connection.phase, message) {
            // Never answered (RFC 4271 §6.4).
            (_, Message::Notification(notification)) => {
                let id = connection.id;
                self.drop_connection(index, Cause::Received(notification), now, out);
                out.push(Action::Close(id));
            }
            (Phase::OpenSent, Message::Open(open)) => self.opened(index, &open, now, out),
            (Phase::OpenConfirm(_), Message::Keepalive) => self.establish(index, now, out),
            (Phase::Established(..), Message::Keepalive) => connection.restart_hold(now),
            (Phase::Established(..), Message::Update(update)) => {
                connection.restart_hold(now);
                connection.known.get_or_insert(now);
                out.push(Action::Update(Box::new(update)));
            }
            (Phase::Established(..), Message::RouteRefresh(refresh)) => {
                let context = connection.negotiated().map(|both| &both.context);
                let context = context.unwrap_or(&self.before_open);
                let unicast_or_evpn = refresh.family.is_in(context.families);
                let membership = refresh.family == Family::RTC && context.rt_constraint;
                connection.restart_hold(now);
                connection.known.get_or_insert(now);
                match refresh.subtype {
                    RouteRefresh::REQUEST if unicast_or_evpn || membership => {
                        out.push(Action::Refresh(refresh.family));
                    }
                    _ if !unicast_or_evpn => {}
                    RouteRefresh::BEGIN => out.push(Action::RefreshBegin(refresh.family)),
                    RouteRefresh::END => out.push(Action::RefreshEnd(refresh.family)),
                    subtype => tracing::debug!(subtype, "ROUTE-REFRESH ignored"),
                }
            }
            (phase, message) => {
                let notification = cause::unexpected(phase, message.kind());
                self.end(index, notification, now, out);
            }
        }
    }

    /// OPEN in OpenSent.
    fn opened(&mut self, index: usize, open: &Open, now: Instant, out: &mut Vec<Action>) {
        let negotiated = match negotiation::negotiate(&self.settings, open) {
            Ok(negotiated) => negotiated,
            Err(refusal) => return self.refuse(index, refusal, now, out),
        };
        let mut index = index;
        if let Some(rival) = self
            .connections
            .iter()
            .position(|rival| rival.id != self.connections[index].id)
        {
            let local = Speaker {
                router_id: self.settings.router_id,
                asn: self.settings.known_asn(),
            };
            let peer = Speaker {
                router_id: open.router_id,
                asn: negotiated.session.asn,
            };
            let (newcomer, theirs) = (&self.connections[index], negotiated.graceful.as_ref());
            if self.connections[rival].gives_way(newcomer, theirs, now) {
                out.push(Action::Close(self.connections[rival].id));
                self.drop_connection(rival, Cause::Replaced, now, out);
            } else if is_established(&&self.connections[rival])
                || self.connections[rival].direction == collision::survivor(local, peer)
            {
                return self.lose(index, out);
            } else {
                self.lose(rival, out);
            }
            index -= usize::from(rival < index);
        }
        let connection = &mut self.connections[index];
        connection.confirm(negotiated, now, &mut self.jitter);
        out.push(Action::Send(connection.id, Message::Keepalive));
    }

    /// KEEPALIVE in OpenConfirm.
    fn establish(&mut self, index: usize, now: Instant, out: &mut Vec<Action>) {
        let id = self.connections[index].id;
        while let Some(rival) = self.connections.iter().position(|rival| rival.id != id) {
            self.lose(rival, out);
        }
        self.abort_connect(out);
        self.failure = None;
        // What the peer learns in this session we go on forwarding after it.
        self.restart.forwarding_preserved = true;
        if let [connection] = &mut self.connections[..] {
            connection.establish(&self.settings, now);
            if let Some(negotiated) = connection.negotiated() {
                out.push(Action::Up(id, Box::new(negotiated.clone())));
            }
        }
    }

    /// BFD speaks of what TCP would notice only minutes later (RFC 5882 §4.1, §4.2).
    fn path_changed(&mut self, path: Liveness, now: Instant, out: &mut Vec<Action>) {
        self.path = path;
        match path {
            Liveness::Failed => {
                self.end_all(&Cease::BfdDown, now, out);
                if self.attempt.is_some() {
                    self.abort_connect(out);
                    self.retry_unless_connected(None, now);
                }
            }
            // What was waited for is there, or need not be.
            Liveness::Up | Liveness::Unused => {
                let waits = self.connections.is_empty() && self.attempt.is_none();
                if self.started && waits && self.idle_hold.is_none() {
                    self.retry = None;
                    self.connect(now, out);
                }
            }
            Liveness::Unknown => {}
        }
    }

    /// Whether a path is needed and not known to be there.
    fn lacks_path(&self) -> bool {
        let up = matches!(self.path, Liveness::Up | Liveness::Unused);
        self.settings.needs_path && !up
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.attempt.is_some_and(|at| at <= now) {
            out.push(Action::AbortConnect);
            self.connect_failed("timed out".to_owned(), now);
        }
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.idle_hold = None;
            self.connect(now, out);
        }
        if self.idle_hold.is_some_and(|at| at <= now) {
            self.idle_hold = None;
        }
        while let Some(index) = self
            .connections
            .iter()
            .position(|connection| connection.hold.is_some_and(|at| at <= now))
        {
            self.end(index, Notification::HOLD_TIMER_EXPIRED, now, out);
        }
        while let Some(index) = self
            .connections
            .iter()
            .position(|connection| connection.send_hold.is_some_and(|at| at <= now))
        {
            self.end(index, Notification::SEND_HOLD_TIMER_EXPIRED, now, out);
        }
        for connection in &mut self.connections {
            if connection.keepalive.is_some_and(|at| at <= now) {
                out.push(Action::Send(connection.id, Message::Keepalive));
                connection.restart_keepalive(now, &mut self.jitter);
            }
        }
    }

    fn index(&self, id: ConnectionId) -> Option<usize> {
        self.connections
            .iter()
            .position(|connection| connection.id == id)
    }
}

fn is_established(connection: &impl Borrow<Connection>) -> bool {
    matches!(connection.borrow().phase, Phase::Established(..))
}
