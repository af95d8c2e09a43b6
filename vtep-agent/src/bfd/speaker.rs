//! The thread: sockets and clock around the table.

use std::{
    collections::HashMap,
    future::{pending, poll_fn},
    io,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::sleep_until};

use super::{
    SessionConfig, Shared, lock,
    socket::{Datagram, Listener, Transmitter},
    table::{Output, SessionId, Table},
    wire::Packet,
};
use crate::{
    random::Random,
    types::{Liveness, PeerId},
};

/// Datagrams that are read from a socket before the clock is looked at again.
const BATCH: usize = 64;

/// Datagrams of each socket that are read before a peer is given up. Whoever floods the port can't put
/// that off for ever.
const BACKLOG: usize = 4096;

/// How often to try for a port that is taken.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// From the handle to the thread.
#[derive(Debug)]
pub(super) enum Control {
    Configure(Vec<(PeerId, SessionConfig)>),
    Shutdown,
}

type Report = Box<dyn FnMut(PeerId, Liveness) + Send>;

/// Owns the table and the sockets.
pub(super) struct Speaker {
    table: Table,
    shared: Arc<Shared>,
    report: Report,
    listeners: HashMap<(bool, bool), Listener>,
    /// When to try again to open listeners that are needed and not there.
    listen_again: Option<Instant>,
    /// Why one of them is not there.
    deaf: Option<String>,
    transmitters: HashMap<SessionId, Transmitter>,
    random: Random,
}

impl Speaker {
    pub(super) fn new(mut table: Table, shared: Arc<Shared>, report: Report) -> Self {
        Self {
            random: Random::new(table.seed()),
            table,
            shared,
            report,
            listeners: HashMap::new(),
            listen_again: None,
            deaf: None,
            transmitters: HashMap::new(),
        }
    }

    /// Runs until told to shut down, or until the handle is gone.
    pub(super) async fn run(mut self, mut control: mpsc::UnboundedReceiver<Control>) {
        loop {
            let deadline = self.table.deadline();
            let deadline = deadline.into_iter().chain(self.listen_again).min();
            tokio::select! {
                control = control.recv() => match control {
                    Some(Control::Configure(sessions)) => self.configure(sessions),
                    Some(Control::Shutdown) | None => break,
                },
                () = readable(&self.listeners) => {}
                () = sleep(deadline) => {}
            }
            self.receive();
            // We may have been kept from running since: what the peer sent meanwhile counts.
            let mut read = 0;
            while read < BACKLOG && self.table.gives_up(Instant::now()) && self.receive_now() {
                read += 1;
            }
            let outputs = self.table.tick(Instant::now());
            self.carry_out(outputs);
            if self.listen_again.is_some_and(|at| at <= Instant::now()) {
                self.listen();
            }
            self.publish();
        }
        let outputs = self.table.disable(Instant::now());
        self.carry_out(outputs);
    }

    fn configure(&mut self, sessions: Vec<(PeerId, SessionConfig)>) {
        let peers: Vec<PeerId> = sessions.iter().map(|(peer, _)| *peer).collect();
        let outputs = self.table.configure(sessions, Instant::now());
        lock(&self.shared.sessions).retain(|peer, _| peers.contains(peer));
        self.listen();
        self.carry_out(outputs);
    }

    /// Opens the listeners that are needed, and closes the others.
    fn listen(&mut self) {
        self.listen_again = None;
        let needed = self.table.listeners();
        self.listeners.retain(|kind, _| needed.contains(kind));
        let mut failure = None;
        for kind @ (ipv6, multihop) in needed {
            if self.listeners.contains_key(&kind) {
                continue;
            }
            match Listener::open(ipv6, multihop) {
                Ok(listener) => drop(self.listeners.insert(kind, listener)),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        if failure.is_some() {
            self.listen_again = Some(Instant::now() + LISTEN_AGAIN);
        }
        if failure != self.deaf {
            if let Some(error) = &failure {
                tracing::error!("BFD: {error}");
            }
            self.deaf = failure;
        }
    }

    /// Takes what is there, within limits.
    fn receive(&mut self) {
        let Self {
            listeners, table, ..
        } = self;
        let mut outputs = Vec::new();
        for listener in listeners.values() {
            for _ in 0..BATCH {
                match listener.receive() {
                    Ok(datagram) => outputs.extend(take(table, listener, &datagram)),
                    Err(_) => break,
                }
            }
        }
        self.carry_out(outputs);
    }

    /// Takes one datagram of each listener past the runtime's idea of what is readable. Whether
    /// there was any.
    fn receive_now(&mut self) -> bool {
        let Self {
            listeners, table, ..
        } = self;
        let mut outputs = Vec::new();
        let mut any = false;
        for listener in listeners.values() {
            if let Ok(datagram) = listener.receive_now() {
                any = true;
                outputs.extend(take(table, listener, &datagram));
            }
        }
        self.carry_out(outputs);
        any
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(id, packet) => {
                    let error = self.send(id, &packet).err();
                    let error = error.map(|error| error.to_string());
                    self.table
                        .set_error(id, error.or_else(|| self.deaf.clone()));
                }
                Output::Report(peer, liveness) => (self.report)(peer, liveness),
                Output::Close(id) => drop(self.transmitters.remove(&id)),
            }
        }
    }

    fn send(&mut self, id: SessionId, packet: &Packet) -> io::Result<()> {
        let Some(endpoint) = self.table.endpoint(id) else {
            return Ok(());
        };
        let transmitter = self
            .transmitters
            .entry(id)
            .or_insert_with(|| Transmitter::new(endpoint.clone()));
        let taken = transmitter.send(&packet.encode(), &mut self.random);
        let ifindex = transmitter.ifindex();
        self.table.set_ifindex(id, ifindex);
        taken
    }

    fn publish(&mut self) {
        let changed = self.table.changed();
        if !changed.is_empty() {
            let mut sessions = lock(&self.shared.sessions);
            sessions.extend(changed.into_iter().map(|status| (status.peer, status)));
        }
        lock(&self.shared.discards).clone_from(self.table.discards());
    }
}

fn take(table: &mut Table, listener: &Listener, datagram: &Datagram) -> Vec<Output> {
    let arrival = listener.arrival(datagram);
    match table.receive(&arrival, datagram.payload(), Instant::now()) {
        Ok(outputs) => outputs,
        Err(discard) => {
            let reason = discard.name();
            tracing::debug!(from = %arrival.source, ttl = arrival.ttl, reason, "BFD packet discarded");
            Vec::new()
        }
    }
}

async fn readable(listeners: &HashMap<(bool, bool), Listener>) {
    poll_fn(|context: &mut Context<'_>| {
        // Every one is asked, so that every one wakes us.
        let ready = listeners
            .values()
            .filter(|listener| listener.poll_readable(context).is_ready())
            .count();
        match ready {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

async fn sleep(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
