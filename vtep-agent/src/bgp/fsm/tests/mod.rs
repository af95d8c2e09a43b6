//! The machine in simulated time. Tests bear the ids of the conformance list.

mod collision;
mod graceful;
mod options;
mod path;
mod properties;
mod restart;
mod retries;
mod session;

use std::time::{Duration, Instant};

use super::{Action, ConnectionId, Direction, Event, Fsm, Restart, Settings, State};
use crate::{
    bgp::wire::{Capability, Family, Message, Notification, Open},
    config::{PeerAsn, UpdateChecks},
    types::{Asn, Families},
};

const LOCAL_ASN: Asn = Asn(65000);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// iBGP, 10.0.0.10 to 10.0.0.20, hold time 90 s.
fn settings() -> Settings {
    Settings {
        families: Families::EVPN,
        local_asn: LOCAL_ASN,
        local_as: None,
        router_id: [10, 0, 0, 10].into(),
        peer_address: [10, 0, 0, 20].into(),
        peer_asn: PeerAsn::Is(LOCAL_ASN),
        hold_time: seconds(90),
        send_hold_time: None,
        extended_messages: true,
        graceful_restart: true,
        restart_time: seconds(120),
        long_lived: None,
        unicast_restart: false,
        checks: UpdateChecks::default(),
        restart: Restart::default(),
        allowas_in: 0,
        rt_constraint: true,
        add_path: false,
        route_reflector_client: false,
        needs_path: false,
        shutdown: false,
        passive: false,
    }
}

/// What a peer of [`settings`] sends.
fn open() -> Open {
    Open {
        asn: LOCAL_ASN,
        hold_time: 90,
        router_id: [10, 0, 0, 20].into(),
        capabilities: vec![
            Capability::Multiprotocol(Family::EVPN),
            Capability::RouteRefresh,
            Capability::FourOctetAs(LOCAL_ASN),
        ],
    }
}

/// A machine, its clock, and what it did.
struct Sim {
    fsm: Fsm,
    now: Instant,
    start: Instant,
    connections: u64,
}

impl Sim {
    /// Started: a first attempt to connect is under way unless passive.
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut sim = Self {
            fsm: Fsm::new(settings, 1),
            now,
            start: now,
            connections: 0,
        };
        sim.handle(Event::Start);
        sim
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.fsm.handle(event, self.now)
    }

    fn connect(&mut self, direction: Direction) -> (ConnectionId, Vec<Action>) {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        (id, self.handle(Event::Connected(id, direction)))
    }

    fn receive(&mut self, id: ConnectionId, message: Message) -> Vec<Action> {
        self.handle(Event::Message(id, message))
    }

    /// A session on an outgoing connection.
    fn established(settings: Settings, open: Open) -> (Self, ConnectionId) {
        let mut sim = Self::new(settings);
        let (id, _) = sim.connect(Direction::Outgoing);
        sim.receive(id, Message::Open(open));
        sim.receive(id, Message::Keepalive);
        assert_eq!(sim.fsm.state(), State::Established);
        (sim, id)
    }

    /// Lets the time pass, with ticks at every deadline.
    fn run(&mut self, time: Duration) -> Vec<(Duration, Action)> {
        let end = self.now + time;
        let mut log = Vec::new();
        while let Some(deadline) = self.fsm.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            let at = self.now - self.start;
            log.extend(
                self.handle(Event::Tick)
                    .into_iter()
                    .map(|action| (at, action)),
            );
        }
        self.now = end;
        log
    }
}

/// NOTIFICATIONs among the actions, with their connections.
fn notifications(actions: &[Action]) -> Vec<(ConnectionId, u8, u8)> {
    let sent = |action: &Action| match action {
        Action::Send(id, Message::Notification(Notification { code, subcode, .. })) => {
            Some((*id, *code, *subcode))
        }
        _ => None,
    };
    actions.iter().filter_map(sent).collect()
}

fn closes(actions: &[Action], closed: ConnectionId) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::Close(id) if *id == closed))
}

fn connects(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::Connect))
}
