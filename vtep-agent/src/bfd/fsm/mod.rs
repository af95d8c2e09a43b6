//! A session of asynchronous mode (RFC 5880 §6.8), without IO: packets and the time go in, packets
//! and a deadline come out.
//!
//! ```text
//! table, clock --Event, now--> Fsm::handle --Action--> socket, whoever relies on the path
//!                              Fsm::deadline: when to send Event::Tick
//! ```
//!
//! Where the RFC leaves a choice:
//!
//! - We take the active role, offer neither echo nor demand mode, and honour a peer's demand mode.
//! - The C bit is never set: our packets come from the process that is the control plane, and stop
//!   with it.
//! - When nothing is heard for the detection time, what the peer had asked for is forgotten with
//!   its discriminator: who comes back says it again.

mod rate;
#[cfg(test)]
mod tests;

use std::{
    num::NonZeroU8,
    time::{Duration, Instant},
};

use self::rate::{Poll, Rate};
use super::wire::{Diagnostic, Discriminator, Interval, Packet, Sequence, State};
use crate::{random::Random, types::Liveness};

/// Least interval of a session that is not Up (§6.8.3).
const SLOW: Interval = Interval(1_000_000);

/// How a session is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Desired Min TX Interval and Required Min RX Interval, not zero.
    pub interval: Interval,
    /// Detect Mult.
    pub multiplier: NonZeroU8,
}

/// Something happened.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A packet of this session arrived.
    Received(Packet),
    /// The configuration changed.
    Configure(Settings),
    /// Switch the session off, for good.
    Disable,
    /// Time passed.
    Tick,
}

/// What the owner is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a packet.
    Send(Packet),
    /// Tell who relies on the path. The first report is a change of [`Liveness::Unknown`].
    Report(Liveness),
}

/// Why a session that was Up is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down {
    /// When.
    pub at: Instant,
    /// Our reason.
    pub diagnostic: Diagnostic,
    /// The peer's reason, where it is the peer that ended it.
    pub remote: Option<Diagnostic>,
}

/// The peer's side, as its last packet has it.
#[derive(Clone, Copy, Debug)]
struct Remote {
    discriminator: Option<Discriminator>,
    state: State,
    multiplier: NonZeroU8,
    demand: bool,
    desired_min_tx: Interval,
    required_min_rx: Interval,
}

impl Remote {
    /// §6.8.1.
    const UNKNOWN: Self = Self {
        discriminator: None,
        state: State::Down,
        multiplier: NonZeroU8::MIN,
        demand: false,
        desired_min_tx: Interval(0),
        required_min_rx: Interval(1),
    };
}

/// The machine of one session.
#[derive(Clone, Debug)]
pub struct Fsm {
    settings: Settings,
    discriminator: Discriminator,
    state: State,
    /// Since when.
    since: Instant,
    diagnostic: Diagnostic,
    remote: Remote,
    /// bfd.DesiredMinTxInterval.
    tx: Rate,
    /// bfd.RequiredMinRxInterval.
    rx: Rate,
    poll: Poll,
    random: Random,
    /// The last packet, without its P and F bits, and when it went out.
    sent: Option<(Packet, Instant)>,
    /// Interval of periodic packets before jitter; `None`: there are none.
    pace: Option<Duration>,
    next: Option<Instant>,
    /// End of the detection time.
    expires: Option<Instant>,
    liveness: Liveness,
    down: Option<Down>,
}

impl Fsm {
    /// A session in Down whose first packet is due at once. The seed decides about jitter.
    pub fn new(settings: Settings, discriminator: Discriminator, seed: u64, now: Instant) -> Self {
        Self {
            settings,
            discriminator,
            state: State::Down,
            since: now,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNKNOWN,
            tx: Rate::new(settings.interval.max(SLOW)),
            rx: Rate::new(settings.interval),
            poll: Poll::default(),
            random: Random::new(seed),
            sent: None,
            pace: None,
            next: Some(now),
            expires: None,
            liveness: Liveness::Unknown,
            down: None,
        }
    }

    /// Takes an event; gives what to do about it.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        let mut answer = false;
        match event {
            Event::Received(packet) => answer = self.receive(&packet, now),
            Event::Configure(settings) => {
                self.settings = settings;
                self.retune();
            }
            Event::Disable => {
                self.enter(State::AdminDown, Diagnostic::ADMIN_DOWN, None, now);
                self.expires = None;
                self.poll.end();
            }
            Event::Tick => self.expire(now),
        }
        self.report(&mut out);
        self.transmit(answer, now, &mut out);
        out
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.next.into_iter().chain(self.expires).min()
    }

    /// When the peer is given up, unless it is heard.
    pub fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// Our discriminator.
    pub fn discriminator(&self) -> Discriminator {
        self.discriminator
    }

    /// How it is configured.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The state, and since when.
    pub fn state(&self) -> (State, Instant) {
        (self.state, self.since)
    }

    /// The peer's state; `None` when it is not heard.
    pub fn remote_state(&self) -> Option<State> {
        self.remote.discriminator.map(|_| self.remote.state)
    }

    /// What was reported last.
    pub fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// Why it last left Up.
    pub fn last_down(&self) -> Option<Down> {
        self.down
    }

    /// Interval at which we send, before jitter; `None`: the peer wants no periodic packets.
    pub fn transmit_interval(&self) -> Option<Duration> {
        self.pace
    }

    /// How long the peer may be silent (§6.8.4).
    pub fn detection_time(&self) -> Duration {
        let interval = self.rx.in_use().max(self.remote.desired_min_tx);
        interval.duration() * u32::from(self.remote.multiplier.get())
    }

    /// §6.8.6, from where the session is known. Whether a Final is due.
    fn receive(&mut self, packet: &Packet, now: Instant) -> bool {
        self.remote = Remote {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            multiplier: packet.multiplier,
            demand: packet.demand,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
        };
        if packet.sequence == Sequence::Final && self.poll.answered() {
            self.tx.settle();
            self.rx.settle();
        }
        if self.state == State::AdminDown {
            return false;
        }
        let signaled = Some(packet.diagnostic);
        match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                self.enter(State::Down, Diagnostic::NEIGHBOR_DOWN, signaled, now);
            }
            (State::Down, State::Down) => self.enter(State::Init, self.diagnostic, None, now),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.enter(State::Up, Diagnostic::NONE, None, now);
            }
            _ => {}
        }
        // After the transition, which decides about our interval.
        self.expires = Some(now + self.detection_time());
        packet.sequence == Sequence::Poll
    }

    /// The end of the detection time (§6.8.4, and bfd.RemoteDiscr in §6.8.1).
    fn expire(&mut self, now: Instant) {
        if self.expires.take_if(|at| *at <= now).is_none() {
            return;
        }
        self.remote = Remote {
            state: self.remote.state,
            ..Remote::UNKNOWN
        };
        if matches!(self.state, State::Init | State::Up) {
            self.enter(State::Down, Diagnostic::TIME_EXPIRED, None, now);
        }
    }

    fn enter(
        &mut self,
        state: State,
        diagnostic: Diagnostic,
        remote: Option<Diagnostic>,
        now: Instant,
    ) {
        if self.state == state {
            return;
        }
        if self.state == State::Up {
            self.down = Some(Down {
                at: now,
                diagnostic,
                remote,
            });
        }
        self.state = state;
        self.since = now;
        self.diagnostic = diagnostic;
        self.retune();
    }

    /// Advertises the intervals that settings and state ask for (§6.8.3).
    fn retune(&mut self) {
        let up = self.state == State::Up;
        let interval = self.settings.interval;
        let desired = if up { interval } else { interval.max(SLOW) };
        // What the peer relies on changes only when it knows: our slower sending, its later end of
        // patience with us.
        let changed = self.tx.set(desired, up && desired > self.tx.in_use())
            | self.rx.set(interval, up && interval < self.rx.in_use());
        if changed && self.state != State::AdminDown {
            self.poll.begin();
        }
    }

    fn report(&mut self, out: &mut Vec<Action>) {
        let off = State::AdminDown;
        let liveness = match (self.state, self.liveness) {
            _ if self.state == off || self.remote.state == off => Liveness::Unused,
            (State::Up, _) => Liveness::Up,
            (_, Liveness::Up | Liveness::Failed) => Liveness::Failed,
            (_, Liveness::Unknown | Liveness::Unused) => Liveness::Unknown,
        };
        if std::mem::replace(&mut self.liveness, liveness) != liveness {
            out.push(Action::Report(liveness));
        }
    }

    /// §6.8.7: at most one packet, because it is asked for, because it says something new, or
    /// because it is time.
    fn transmit(&mut self, answer: bool, now: Instant, out: &mut Vec<Action>) {
        let pace = self.periodic().then(|| {
            let interval = self.tx.in_use().max(self.remote.required_min_rx);
            interval.duration()
        });
        let sent_at = self.sent.map(|(_, at)| at);
        if pace != self.pace {
            self.pace = pace;
            self.next = pace.map(|pace| sent_at.map_or(now, |at| at + self.jittered(pace)));
        }
        let packet = self.packet();
        let news = self.sent.is_some_and(|(sent, _)| sent != packet);
        let due = self.next.is_some_and(|at| at <= now);
        if !(answer || news || due) {
            return;
        }
        let sequence = match (answer, self.poll.is_active()) {
            (true, _) => Sequence::Final,
            (false, true) => Sequence::Poll,
            (false, false) => Sequence::None,
        };
        out.push(Action::Send(Packet { sequence, ..packet }));
        // A mere answer is not one of the periodic packets.
        if news || due {
            self.sent = Some((packet, now));
            self.next = self.pace.map(|pace| now + self.jittered(pace));
        }
    }

    /// Whether packets are sent without a reason other than the time.
    fn periodic(&self) -> bool {
        let both_up = self.state == State::Up && self.remote.state == State::Up;
        let demanded = self.remote.demand && both_up && !self.poll.is_active();
        self.remote.required_min_rx != Interval(0) && !demanded
    }

    fn jittered(&mut self, interval: Duration) -> Duration {
        let most = match self.settings.multiplier.get() {
            1 => 0.9,
            _ => 1.0,
        };
        self.random.between(interval, 0.75, most)
    }

    /// What is to be said now, without P and F.
    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            sequence: Sequence::None,
            control_plane_independent: false,
            demand: false,
            multiplier: self.settings.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.tx.advertised(),
            required_min_rx: self.rx.advertised(),
            required_min_echo_rx: Interval(0),
        }
    }
}
