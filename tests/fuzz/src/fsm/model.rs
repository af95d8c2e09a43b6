//! The machine and its surroundings as the owner of the sockets sees them, built from events and
//! actions alone: an account of its own, with which the machine's must agree.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use vtep_agent::{
    bgp::{
        fsm::{Action, ConnectionId, Direction, Event, Fsm, Negotiated, Settings, State},
        wire::{self, Message, Notification, Open},
    },
    types::Liveness,
};

use super::script::{Back, Setup, Step};

/// Hold time until the peer's OPEN is there (RFC 4271 §8.2.2).
const LARGE_HOLD_TIME: Duration = Duration::from_secs(240);
/// Longest time without a plan: attempts and pauses between them are shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Model {
    fsm: Fsm,
    settings: Settings,
    now: Instant,
    started: bool,
    attempt: bool,
    links: BTreeMap<ConnectionId, Link>,
    connections: u64,
}

/// A connection that is open.
struct Link {
    direction: Direction,
    phase: Phase,
    /// Ended: nothing but the close may follow.
    notified: bool,
    /// When the hold timer was restarted last.
    heard: Instant,
    /// When the keepalive timer was.
    said: Instant,
    /// When the peer took something last.
    took: Instant,
    /// Negotiated; `None` before the peer's OPEN.
    hold_time: Option<Duration>,
    /// Both sides sent the capability.
    graceful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Connected,
    OpenSent,
    OpenConfirm,
    Established,
}

/// What the machine is being told, as far as it excuses what it does.
enum Cause {
    Open(ConnectionId, Open),
    Keepalive(ConnectionId),
    Routes(ConnectionId),
    Connected,
    Tick,
    Other,
}

impl Model {
    pub(super) fn new(setup: &Setup) -> Self {
        let settings = setup.settings();
        let mut model = Self {
            fsm: Fsm::new(settings.clone(), setup.seed.into()),
            settings,
            now: Instant::now(),
            started: false,
            attempt: false,
            links: BTreeMap::new(),
            connections: 0,
        };
        model.take(Step::Start);
        model
    }

    /// Lets one thing happen, and everything that is due by then.
    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Connected { incoming } => self.connect(incoming),
            Step::ConnectFailed => {
                self.attempt = false;
                self.tell(Event::ConnectFailed("refused".to_owned()), &Cause::Other);
            }
            Step::Disconnected(back) => {
                let id = self.id(back);
                let was = self.links.remove(&id).map(|link| link.phase);
                let actions = self
                    .fsm
                    .handle(Event::Disconnected(id, "reset".to_owned()), self.now);
                let down = actions
                    .iter()
                    .any(|action| matches!(action, Action::Down(..)));
                assert_eq!(down, was == Some(Phase::Established));
                self.apply(actions, &Cause::Other, down);
            }
            Step::Open(back, open) => {
                let mut bytes = BytesMut::new();
                let id = self.id(back);
                Message::Open(open.open()).encode(self.fsm.context(id), &mut bytes);
                self.receive(id, bytes);
            }
            Step::Keepalive(back) => {
                let id = self.id(back);
                let mut bytes = BytesMut::new();
                Message::Keepalive.encode(self.fsm.context(id), &mut bytes);
                self.receive(id, bytes);
            }
            Step::Bytes(back, bytes) => self.receive(self.id(back), BytesMut::from(&bytes[..])),
            Step::Frame(back, kind, body) => {
                let length = wire::HEADER_LEN.saturating_add(body.len());
                let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
                let bytes = [&[0xff; 16][..], &length, &[kind], &body].concat();
                self.receive(self.id(back), BytesMut::from(&bytes[..]));
            }
            Step::Wait(time) => self.wait(Duration::from_millis(u64::from(time) * 16)),
            Step::Leap(seconds) => {
                self.now += Duration::from_secs(seconds.into());
                self.tick();
            }
            Step::UpdateSent => {
                let now = self.now;
                for link in self.links.values_mut() {
                    if link.phase == Phase::Established {
                        link.said = now;
                    }
                }
                self.tell(Event::UpdateSent, &Cause::Other);
            }
            Step::Taken(back) => {
                let id = self.id(back);
                if let Some(link) = self.links.get_mut(&id) {
                    link.took = self.now;
                }
                self.tell(Event::Taken(id), &Cause::Other);
            }
            Step::Stalled => {
                for link in self.links.values_mut() {
                    // The large hold time of OpenSent goes on.
                    if link.hold_time.is_some() {
                        link.heard = self.now;
                    }
                }
                self.tell(Event::Stalled, &Cause::Other);
            }
            Step::Stop(reason) => {
                self.started = false;
                self.tell(Event::Stop(reason.cease()), &Cause::Other);
                assert!(self.links.is_empty() && !self.attempt);
                assert_eq!(self.fsm.deadline(), None);
                assert_eq!(self.fsm.state(), State::Idle);
            }
            Step::Reset(reason) => {
                self.tell(Event::Reset(reason.cease()), &Cause::Other);
                assert!(self.links.is_empty());
            }
            Step::Path(word) => {
                let words = [
                    Liveness::Unknown,
                    Liveness::Up,
                    Liveness::Failed,
                    Liveness::Unused,
                ];
                if let Some(word) = words.get(usize::from(word % 4)) {
                    self.tell(Event::Path(*word), &Cause::Other);
                }
            }
            Step::Settled => self.tell(Event::Settled, &Cause::Other),
            Step::Start => {
                self.started |= !self.settings.shutdown;
                self.tell(Event::Start, &Cause::Other);
            }
        }
        self.tick();
    }

    /// A connection; outgoing only in answer to an attempt.
    fn connect(&mut self, incoming: bool) {
        let outgoing = !incoming && std::mem::take(&mut self.attempt);
        let direction = match outgoing {
            true => Direction::Outgoing,
            false => Direction::Incoming,
        };
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let link = Link {
            direction,
            phase: Phase::Connected,
            notified: false,
            heard: self.now,
            said: self.now,
            took: self.now,
            hold_time: None,
            graceful: false,
        };
        self.links.insert(id, link);
        self.tell(Event::Connected(id, direction), &Cause::Connected);
    }

    /// Bytes from the peer, cut into messages as the owner of the socket does it.
    fn receive(&mut self, id: ConnectionId, mut bytes: BytesMut) {
        while self.links.contains_key(&id) {
            let frame = match wire::next_frame(&mut bytes, self.fsm.max_received(id)) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(notification) => return self.malformed(id, notification),
            };
            match wire::decode(&frame, self.fsm.context(id)) {
                Ok(decoded) => self.message(id, decoded.message),
                Err(notification) => return self.malformed(id, notification),
            }
        }
    }

    fn malformed(&mut self, id: ConnectionId, notification: Notification) {
        self.tell(Event::Malformed(id, notification), &Cause::Other);
        assert!(!self.links.contains_key(&id), "goes on after an error");
    }

    fn message(&mut self, id: ConnectionId, message: Message) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let phase = link.phase;
        let (fits, cause) = match &message {
            Message::Open(open) => (phase == Phase::OpenSent, Cause::Open(id, open.clone())),
            Message::Keepalive => (phase >= Phase::OpenConfirm, Cause::Keepalive(id)),
            Message::Update(_) | Message::RouteRefresh(_) => {
                (phase == Phase::Established, Cause::Routes(id))
            }
            Message::Notification(_) => (false, Cause::Other),
        };
        if fits {
            link.heard = now;
        }
        self.tell(Event::Message(id, message), &cause);
        // RFC 6608: nothing is passed over in silence.
        assert!(
            fits || !self.links.contains_key(&id),
            "ignored in {phase:?}"
        );
    }

    /// Lets time pass, with a tick at every deadline.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.fsm.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.tick();
        }
        self.now = end;
    }

    /// One tick does everything that is due.
    fn tick(&mut self) {
        if self
            .fsm
            .deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.tell(Event::Tick, &Cause::Tick);
        }
        self.check();
    }

    fn tell(&mut self, event: Event, cause: &Cause) {
        let actions = self.fsm.handle(event, self.now);
        self.apply(actions, cause, false);
    }

    fn apply(&mut self, actions: Vec<Action>, cause: &Cause, mut ended: bool) {
        let up_before = self.established().is_some() || ended;
        let mut up = up_before;
        for action in actions {
            match action {
                Action::Connect => {
                    assert!(!std::mem::replace(&mut self.attempt, true));
                    assert!(self.started && !self.settings.passive);
                }
                Action::AbortConnect => assert!(std::mem::take(&mut self.attempt)),
                Action::Send(id, message) => self.sent(id, &message, cause),
                Action::Close(id) => {
                    let Some(link) = self.links.remove(&id) else {
                        panic!("{id:?} is closed twice")
                    };
                    ended |= link.phase == Phase::Established;
                }
                Action::Up(id, negotiated) => {
                    assert!(!std::mem::replace(&mut up, true), "up twice");
                    self.up(id, &negotiated, cause);
                }
                Action::Down(_, retention) => {
                    assert!(std::mem::take(&mut up), "down twice");
                    assert!(retention.is_none() || self.settings.graceful_restart);
                    ended = true;
                }
                Action::Update(_)
                | Action::Refresh(_)
                | Action::RefreshBegin(_)
                | Action::RefreshEnd(_) => {
                    assert!(matches!(cause, Cause::Routes(_)));
                    assert_eq!(self.established(), cause.connection());
                }
            }
        }
        assert_eq!(
            up,
            self.established().is_some(),
            "a session ended in silence"
        );
        assert!(!ended || up_before, "what ended never was");
        assert!(self.links.values().all(|link| !link.notified), "not closed");
    }

    /// No message outside its state.
    fn sent(&mut self, id: ConnectionId, message: &Message, cause: &Cause) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            panic!("{message:?} on a connection that is closed")
        };
        assert!(!link.notified, "{message:?} after a NOTIFICATION");
        match message {
            Message::Open(_) => {
                assert_eq!(link.phase, Phase::Connected, "OPEN");
                link.phase = Phase::OpenSent;
            }
            Message::Keepalive => match (cause, link.phase) {
                (Cause::Open(open_on, open), Phase::OpenSent) => {
                    assert_eq!(*open_on, id);
                    let theirs = Duration::from_secs(open.hold_time.into());
                    link.phase = Phase::OpenConfirm;
                    link.hold_time = Some(self.settings.hold_time.min(theirs));
                    link.graceful =
                        self.settings.graceful_restart && open.graceful_restart().is_some();
                    (link.heard, link.said) = (now, now);
                }
                (Cause::Tick, Phase::OpenConfirm | Phase::Established) => {
                    let interval = link.hold_time.unwrap_or_default() / 3;
                    assert!(now >= link.said + interval * 3 / 4, "KEEPALIVE too soon");
                    link.said = now;
                }
                // A probe whether the peer still knows the session.
                (Cause::Connected, Phase::Established) => {}
                (_, phase) => panic!("KEEPALIVE in {phase:?}"),
            },
            Message::Notification(notification) => {
                link.notified = true;
                link.may_end_with(notification, &self.settings, now);
            }
            other => panic!("{other:?} is not the machine's to send"),
        }
    }

    fn up(&mut self, id: ConnectionId, negotiated: &Negotiated, cause: &Cause) {
        assert!(matches!(cause, Cause::Keepalive(from) if *from == id));
        let Some(link) = self.links.get_mut(&id) else {
            panic!("up on a connection that is closed")
        };
        assert_eq!(link.phase, Phase::OpenConfirm);
        assert_eq!(link.hold_time, Some(negotiated.hold_time));
        assert_eq!(link.graceful, negotiated.graceful.is_some());
        link.phase = Phase::Established;
        link.took = self.now;
        assert_eq!(self.links.len(), 1, "a rival is left");
    }

    /// What holds whenever nothing is due.
    fn check(&self) {
        let now = self.now;
        assert!(self.links.len() <= 2, "{} connections", self.links.len());
        if let [one, other] = self.links.values().collect::<Vec<_>>()[..] {
            let phases = [one.phase, other.phase];
            let both = phases.iter().all(|phase| *phase >= Phase::OpenConfirm);
            assert!(!both, "an undecided collision: {phases:?}");
            assert!(one.direction != other.direction || phases.contains(&Phase::Established));
        }
        for link in self.links.values() {
            link.check(&self.settings, now);
        }
        assert_eq!(self.fsm.state(), self.state());
        assert!(!(self.attempt && self.established().is_some()));
        match self.fsm.deadline() {
            Some(deadline) => assert!(deadline > now, "a tick left something due"),
            None => assert!(!self.started || self.settings.passive || !self.links.is_empty()),
        }
        if self.started && !self.settings.passive && self.links.is_empty() {
            let plan = self.fsm.deadline();
            assert!(plan.is_some_and(|at| at <= now + PATIENCE), "no plan");
        }
    }

    fn state(&self) -> State {
        match self.links.values().map(|link| link.phase).max() {
            Some(Phase::Established) => State::Established,
            Some(Phase::OpenConfirm) => State::OpenConfirm,
            Some(Phase::OpenSent) => State::OpenSent,
            _ if self.attempt => State::Connect,
            // Idle is for a peer that is kept out, which only the machine knows.
            _ if self.started && self.fsm.state() == State::Active => State::Active,
            _ => State::Idle,
        }
    }

    fn established(&self) -> Option<ConnectionId> {
        let mut sessions = self
            .links
            .iter()
            .filter(|(_, link)| link.phase == Phase::Established);
        let session = sessions.next().map(|(id, _)| *id);
        assert!(sessions.next().is_none(), "two sessions");
        session
    }

    fn id(&self, back: Back) -> ConnectionId {
        ConnectionId(self.connections.saturating_sub(back.connections()))
    }
}

impl Cause {
    fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Open(id, _) | Self::Keepalive(id) | Self::Routes(id) => Some(*id),
            Self::Connected | Self::Tick | Self::Other => None,
        }
    }
}

impl Link {
    /// The times are the negotiated ones, and over when they are over.
    fn check(&self, settings: &Settings, now: Instant) {
        assert!(self.phase > Phase::Connected, "no OPEN was sent");
        let Some(hold_time) = self.hold_time else {
            assert!(now < self.heard + LARGE_HOLD_TIME, "OpenSent for ever");
            return;
        };
        if hold_time.is_zero() {
            return;
        }
        assert!(now < self.heard + hold_time, "the hold timer is late");
        assert!(now < self.said + hold_time / 3, "a KEEPALIVE is late");
        if let Some(time) = self.send_hold_time(settings)
            && self.phase == Phase::Established
        {
            assert!(now < self.took + time, "the send hold timer is late");
        }
    }

    /// Timers don't expire early.
    fn may_end_with(&self, notification: &Notification, settings: &Settings, now: Instant) {
        match (notification.code, self.hold_time) {
            (4, None) => assert!(now >= self.heard + LARGE_HOLD_TIME),
            (4, Some(hold_time)) => {
                assert!(!hold_time.is_zero() && now >= self.heard + hold_time);
            }
            (8, _) => match self.send_hold_time(settings) {
                Some(time) => assert!(now >= self.took + time),
                None => panic!("no send hold timer was set"),
            },
            (5, _) => {
                let subcode = match self.phase {
                    Phase::Connected | Phase::OpenSent => 1,
                    Phase::OpenConfirm => 2,
                    Phase::Established => 3,
                };
                assert_eq!(notification.subcode, subcode, "RFC 6608 §4");
            }
            _ => {}
        }
    }

    /// RFC 9687 §4.4; `None`: it doesn't run.
    fn send_hold_time(&self, settings: &Settings) -> Option<Duration> {
        let hold_time = self.hold_time.filter(|time| !time.is_zero())?;
        let default = Duration::from_secs(480).max(hold_time * 2);
        Some(settings.send_hold_time.unwrap_or(default)).filter(|time| !time.is_zero())
    }
}
