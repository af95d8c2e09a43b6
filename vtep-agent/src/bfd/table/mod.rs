//! All sessions, and which of them a packet belongs to (RFC 5880 §6.3, RFC 5881 §3, RFC 5883 §4).
//! Without IO and clock.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    num::NonZeroU32,
    time::Instant,
};

use super::{
    Endpoint, Hops, SessionConfig,
    discard::{Discard, Discards},
    fsm::{Action, Event, Fsm},
    status::Status,
    wire::{Discriminator, Packet, State},
};
use crate::{
    random::Random,
    types::{IfName, Liveness, PeerId},
};

/// A session in the table; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// A datagram's way to us.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its source.
    pub source: IpAddr,
    /// Our address that it was sent to.
    pub destination: IpAddr,
    /// The interface that it came through.
    pub ifindex: u32,
    /// TTL or hop limit; `None` where the system doesn't say.
    pub ttl: Option<u8>,
    /// It came to the port of multihop sessions.
    pub multihop: bool,
}

/// What the owner of the table is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a packet.
    Send(SessionId, Packet),
    /// Tell who relies on the path to the peer.
    Report(PeerId, Liveness),
    /// Free what belongs to the session.
    Close(SessionId),
}

struct Session {
    /// `None`: it is not configured any more, and tells the peer so.
    peer: Option<PeerId>,
    endpoint: Endpoint,
    /// Index of the endpoint's interface, once known.
    ifindex: Option<u32>,
    fsm: Fsm,
    received: u64,
    sent: u64,
    /// Why its packets don't leave.
    error: Option<String>,
    /// The last discarded packet that would have been its own.
    discarded: Option<Discard>,
    /// When it goes, if it isn't configured.
    ends: Option<Instant>,
}

impl Session {
    fn deadline(&self) -> Option<Instant> {
        self.fsm.deadline().into_iter().chain(self.ends).min()
    }
}

/// All sessions.
pub struct Table {
    sessions: BTreeMap<SessionId, Session>,
    by_discriminator: HashMap<Discriminator, SessionId>,
    by_address: HashMap<IpAddr, Vec<SessionId>>,
    /// Deadlines of sessions.
    deadlines: BTreeSet<(Instant, SessionId)>,
    touched: BTreeSet<SessionId>,
    discards: Discards,
    random: Random,
    next: u64,
}

impl Table {
    /// No sessions. The seed decides about discriminators and jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            by_discriminator: HashMap::new(),
            by_address: HashMap::new(),
            deadlines: BTreeSet::new(),
            touched: BTreeSet::new(),
            discards: Discards::default(),
            random: Random::new(seed),
            next: 0,
        }
    }

    /// Makes these the sessions: new ones begin, missing ones say AdminDown and go, changed
    /// intervals are negotiated without leaving Up, other changes begin a new session.
    pub fn configure(&mut self, wanted: Vec<(PeerId, SessionConfig)>, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        let known: Vec<(SessionId, PeerId)> = self
            .sessions
            .iter()
            .filter_map(|(id, session)| Some((*id, session.peer?)))
            .collect();
        for (id, peer) in &known {
            let endpoint = self.sessions.get(id).map(|session| &session.endpoint);
            let stays = |(other, config): &(PeerId, SessionConfig)| {
                other == peer && Some(&config.endpoint) == endpoint
            };
            if !wanted.iter().any(stays) {
                self.retire(*id, now, &mut out);
            }
        }
        for (peer, config) in wanted {
            let id = known.iter().find(|(id, known)| {
                let session = self.sessions.get(id);
                *known == peer && session.is_some_and(|session| session.peer.is_some())
            });
            match id {
                Some((id, _)) => {
                    let session = self.sessions.get(id);
                    if session.is_some_and(|session| session.fsm.settings() != config.settings) {
                        self.handle(*id, Event::Configure(config.settings), now, &mut out);
                    }
                }
                None => self.add(peer, config, now, &mut out),
            }
        }
        out
    }

    /// Takes the payload of a datagram.
    ///
    /// # Errors
    ///
    /// The reason for which it is discarded, which is also counted.
    pub fn receive(
        &mut self,
        arrival: &Arrival,
        payload: &[u8],
        now: Instant,
    ) -> Result<Vec<Output>, Discard> {
        match self.find(arrival, payload) {
            Ok((id, packet)) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.received += 1;
                    session.discarded = None;
                }
                let mut out = Vec::new();
                self.handle(id, Event::Received(packet), now, &mut out);
                Ok(out)
            }
            Err(discard) => {
                self.discards.count(discard);
                let suspects = self.by_address.get(&arrival.source);
                for id in suspects.into_iter().flatten() {
                    if let Some(session) = self.sessions.get_mut(id) {
                        session.discarded = Some(discard);
                        self.touched.insert(*id);
                    }
                }
                Err(discard)
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            if let Some(session) = self.sessions.get(&id)
                && session.ends.is_some_and(|at| at <= now)
            {
                self.close(id, &mut out);
                continue;
            }
            self.handle(id, Event::Tick, now, &mut out);
        }
        out
    }

    /// When [`Table::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Whether a peer is about to be given up: before that, what has arrived is to be read.
    pub fn gives_up(&self, now: Instant) -> bool {
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        due.filter_map(|(_, id)| self.sessions.get(id))
            .any(|session| session.fsm.expires().is_some_and(|at| at <= now))
    }

    /// Says AdminDown to all peers.
    pub fn disable(&mut self, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.handle(id, Event::Disable, now, &mut out);
        }
        out
    }

    /// Where a session's packets go.
    pub fn endpoint(&self, id: SessionId) -> Option<&Endpoint> {
        self.sessions.get(&id).map(|session| &session.endpoint)
    }

    /// Index of the interface of a session, as soon as it is known.
    pub fn set_ifindex(&mut self, id: SessionId, ifindex: Option<u32>) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.ifindex = ifindex;
        }
    }

    /// Seed for another generator.
    pub(super) fn seed(&mut self) -> u64 {
        self.random.bits()
    }

    /// Whether packets of a session leave, and why not.
    pub fn set_error(&mut self, id: SessionId, error: Option<String>) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.error != error
        {
            session.error = error;
            self.touched.insert(id);
        }
    }

    /// Which listening sockets are needed, by family (IPv6 or not) and whether for multihop.
    pub fn listeners(&self) -> BTreeSet<(bool, bool)> {
        self.sessions
            .values()
            .map(|session| {
                let endpoint = &session.endpoint;
                (endpoint.remote.is_ipv6(), endpoint.hops.is_multihop())
            })
            .collect()
    }

    /// What was discarded so far.
    pub fn discards(&self) -> &Discards {
        &self.discards
    }

    /// The sessions that changed since the last call.
    pub fn changed(&mut self) -> Vec<Status> {
        let touched = std::mem::take(&mut self.touched);
        touched.iter().filter_map(|id| self.status(*id)).collect()
    }

    fn status(&self, id: SessionId) -> Option<Status> {
        let session = self.sessions.get(&id)?;
        let fsm = &session.fsm;
        let (state, since) = fsm.state();
        Some(Status {
            peer: session.peer?,
            state,
            since,
            remote_state: fsm.remote_state(),
            multihop: session.endpoint.hops.is_multihop(),
            transmit_interval: fsm.transmit_interval(),
            detection_time: fsm.remote_state().map(|_| fsm.detection_time()),
            last_down: fsm.last_down(),
            received: session.received,
            sent: session.sent,
            error: session.error.clone(),
            discarded: session.discarded.filter(|_| state != State::Up),
        })
    }

    /// The session of a packet: by its discriminator if it has one, by addresses otherwise.
    fn find(&self, arrival: &Arrival, payload: &[u8]) -> Result<(SessionId, Packet), Discard> {
        if !arrival.multihop && arrival.ttl != Some(Hops::TTL) {
            return Err(Discard::Ttl);
        }
        let received = Packet::decode(payload)?;
        let packet = received.packet;
        let (id, session) = match packet.your_discriminator {
            Some(your) => {
                let id = self.by_discriminator.get(&your);
                let session = id.and_then(|id| Some((*id, self.sessions.get(id)?)));
                session.ok_or(Discard::NoSession)?
            }
            None => self.find_by_address(arrival)?,
        };
        // A port with weaker checks than those of the session is no way into it.
        if session.endpoint.hops.is_multihop() != arrival.multihop {
            return Err(Discard::WrongPort);
        }
        if arrival.ttl < Some(session.endpoint.hops.least_ttl()) {
            return Err(Discard::Ttl);
        }
        match received.authenticated {
            true => Err(Discard::Authentication),
            false => Ok((id, packet)),
        }
    }

    fn find_by_address(&self, arrival: &Arrival) -> Result<(SessionId, &Session), Discard> {
        let ids = self.by_address.get(&arrival.source).into_iter().flatten();
        let fits = |session: &Session| {
            let local = session.endpoint.local;
            let bound = session.endpoint.interface.is_some();
            local.is_none_or(|local| local == arrival.destination)
                && (!bound || session.ifindex == Some(arrival.ifindex))
        };
        let mut found = ids
            .filter_map(|id| Some((*id, self.sessions.get(id)?)))
            .filter(|(_, session)| session.peer.is_some() && fits(session))
            .collect::<Vec<_>>();
        // One of each kind may lead to the same address.
        found.sort_by_key(|(_, session)| session.endpoint.hops.is_multihop() != arrival.multihop);
        found.first().copied().ok_or(Discard::NoPeer)
    }

    fn add(&mut self, peer: PeerId, config: SessionConfig, now: Instant, out: &mut Vec<Output>) {
        // What an earlier session to the same place still has to say would confuse the peer.
        let rivals = self.by_address.get(&config.endpoint.remote);
        let rivals = rivals.into_iter().flatten().filter(|id| {
            let session = self.sessions.get(id);
            session.is_some_and(|old| old.peer.is_none() && old.endpoint == config.endpoint)
        });
        for id in rivals.copied().collect::<Vec<_>>() {
            self.close(id, out);
        }
        let id = SessionId(self.next);
        self.next += 1;
        let discriminator = self.new_discriminator();
        let fsm = Fsm::new(config.settings, discriminator, self.random.bits(), now);
        self.by_discriminator.insert(discriminator, id);
        let at_address = self.by_address.entry(config.endpoint.remote).or_default();
        at_address.push(id);
        let session = Session {
            peer: Some(peer),
            endpoint: config.endpoint,
            ifindex: None,
            fsm,
            received: 0,
            sent: 0,
            error: None,
            discarded: None,
            ends: None,
        };
        self.deadlines.extend(session.deadline().map(|at| (at, id)));
        self.sessions.insert(id, session);
        self.touched.insert(id);
        // What was said of an earlier session doesn't count for this one.
        out.push(Output::Report(peer, Liveness::Unknown));
    }

    /// Has the session say AdminDown for as long as the peer may take to notice (RFC 5880 §6.8.16).
    fn retire(&mut self, id: SessionId, now: Instant, out: &mut Vec<Output>) {
        self.handle(id, Event::Disable, now, out);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.peer = None;
            let interval = session.fsm.transmit_interval().unwrap_or_default();
            let multiplier = session.fsm.settings().multiplier.get();
            let ends = now + interval * u32::from(multiplier);
            if let Some(at) = session.deadline() {
                self.deadlines.remove(&(at, id));
            }
            session.ends = Some(ends);
            self.deadlines.extend(session.deadline().map(|at| (at, id)));
        }
    }

    fn close(&mut self, id: SessionId, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        if let Some(at) = session.deadline() {
            self.deadlines.remove(&(at, id));
        }
        self.by_discriminator.remove(&session.fsm.discriminator());
        if let Some(ids) = self.by_address.get_mut(&session.endpoint.remote) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_address.remove(&session.endpoint.remote);
            }
        }
        out.push(Output::Close(id));
    }

    fn handle(&mut self, id: SessionId, event: Event, now: Instant, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(at) = session.deadline() {
            self.deadlines.remove(&(at, id));
        }
        for action in session.fsm.handle(event, now) {
            match action {
                Action::Send(packet) => {
                    session.sent += 1;
                    out.push(Output::Send(id, packet));
                }
                Action::Report(liveness) => {
                    log(session, liveness);
                    out.extend(session.peer.map(|peer| Output::Report(peer, liveness)));
                }
            }
        }
        self.deadlines.extend(session.deadline().map(|at| (at, id)));
        self.touched.insert(id);
    }

    fn new_discriminator(&mut self) -> Discriminator {
        loop {
            let bits = (self.random.bits() >> 32) as u32;
            if let Some(discriminator) = NonZeroU32::new(bits).map(Discriminator)
                && !self.by_discriminator.contains_key(&discriminator)
            {
                return discriminator;
            }
        }
    }
}

fn log(session: &Session, liveness: Liveness) {
    // As BGP names it: a link-local address says little.
    let endpoint = &session.endpoint;
    let interface = endpoint.interface.as_ref().map(IfName::to_string);
    let peer = interface.unwrap_or_else(|| endpoint.remote.to_string());
    match (liveness, session.fsm.last_down()) {
        (Liveness::Failed, Some(down)) => {
            tracing::warn!(%peer, reason = %down.diagnostic, "BFD session down");
        }
        (Liveness::Up, _) => tracing::info!(%peer, "BFD session up"),
        (Liveness::Unused, _) => tracing::info!(%peer, "BFD session administratively down"),
        _ => {}
    }
}
