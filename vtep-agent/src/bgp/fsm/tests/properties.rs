//! Random events in random order: whatever a peer and the network do, the machine stays sane.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::bgp::{fsm::Cease, wire::Update};

/// What happens next. Connections are picked among all that there ever were.
#[derive(Clone, Debug)]
enum Step {
    Connected(bool),
    ConnectFailed,
    Disconnected(usize),
    Receive(usize, u8),
    Malformed(usize),
    Wait(u16),
    UpdateSent,
    Taken(usize),
    Stalled,
    Stop,
    Reset,
    Start,
}

fn step() -> impl Strategy<Value = Step> {
    let connection = || 0..6_usize;
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Connected),
        1 => Just(Step::ConnectFailed),
        1 => connection().prop_map(Step::Disconnected),
        12 => (connection(), 0..8_u8).prop_map(|(id, kind)| Step::Receive(id, kind)),
        1 => connection().prop_map(Step::Malformed),
        4 => any::<u16>().prop_map(Step::Wait),
        1 => Just(Step::UpdateSent),
        1 => connection().prop_map(Step::Taken),
        1 => Just(Step::Stalled),
        1 => Just(Step::Stop),
        1 => Just(Step::Reset),
        2 => Just(Step::Start),
    ]
}

fn message(kind: u8) -> Message {
    match kind {
        0..=2 => Message::Open(open()),
        3..=5 => Message::Keepalive,
        6 => Message::Update(Update::default()),
        _ => Message::Notification(Notification::COLLISION),
    }
}

/// The world as the owner of the sockets sees it, built from actions alone.
#[derive(Default)]
struct World {
    /// Open connections, and whether the machine sent its NOTIFICATION on them.
    open: HashMap<ConnectionId, bool>,
    attempt: bool,
    up: bool,
}

impl World {
    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect => assert!(!std::mem::replace(&mut self.attempt, true)),
                Action::AbortConnect => assert!(std::mem::take(&mut self.attempt)),
                Action::Send(id, message) => {
                    let notified = self.open.get_mut(&id).expect("sends on an open connection");
                    assert!(!*notified, "a message after a NOTIFICATION");
                    *notified = matches!(message, Message::Notification(_));
                }
                Action::Close(id) => assert!(self.open.remove(&id).is_some(), "closed twice"),
                Action::Up(id, _) => {
                    assert!(!std::mem::replace(&mut self.up, true), "up twice");
                    assert!(self.open.contains_key(&id));
                }
                Action::Down(..) => assert!(std::mem::take(&mut self.up), "down twice"),
                Action::Update(_)
                | Action::Refresh(_)
                | Action::RefreshBegin(_)
                | Action::RefreshEnd(_) => {
                    assert!(self.up)
                }
            }
        }
    }

    fn check(&self, sim: &Sim) {
        let fsm = &sim.fsm;
        assert_eq!(self.up, fsm.state() == State::Established);
        assert_eq!(self.attempt, fsm.attempt.is_some());
        assert!(!(self.up && self.attempt), "connects although Established");
        assert!(self.open.len() <= 2, "{} connections", self.open.len());
        assert_eq!(
            self.open.len(),
            fsm.connections.len(),
            "a connection leaked"
        );
        assert!(
            fsm.connections
                .iter()
                .filter(super::super::is_established)
                .count()
                <= 1
        );
        match fsm.deadline() {
            // No spinning: what is due is done by a tick.
            Some(deadline) => assert!(deadline > sim.now && deadline <= sim.now + seconds(240)),
            // No sleep without end: an active speaker always has a plan.
            None => assert!(!fsm.started || fsm.settings.passive || !self.open.is_empty()),
        }
    }
}

proptest! {
    #[test]
    fn stays_sane(
        steps in proptest::collection::vec(step(), 1..120),
        passive in any::<bool>(),
        hold_time in prop_oneof![Just(0_u64), Just(3), Just(90)],
    ) {
        let settings = Settings { passive, hold_time: seconds(hold_time), ..settings() };
        let mut sim = Sim {
            fsm: Fsm::new(settings, 3),
            now: Instant::now(),
            start: Instant::now(),
            connections: 0,
        };
        let mut world = World::default();
        world.apply(sim.handle(Event::Start));
        for step in steps {
            let recent = |back: usize| ConnectionId(sim.connections.saturating_sub(back as u64));
            let actions = match step {
                Step::Connected(incoming) => {
                    // An outgoing connection answers an attempt.
                    let direction = if incoming || !world.attempt {
                        Direction::Incoming
                    } else {
                        world.attempt = false;
                        Direction::Outgoing
                    };
                    world.open.insert(ConnectionId(sim.connections + 1), false);
                    sim.connect(direction).1
                }
                Step::ConnectFailed => {
                    world.attempt = false;
                    sim.handle(Event::ConnectFailed("refused".to_owned()))
                }
                Step::Disconnected(back) => {
                    let id = recent(back);
                    world.open.remove(&id);
                    sim.handle(Event::Disconnected(id, "reset".to_owned()))
                }
                Step::Receive(back, kind) => {
                    let id = recent(back);
                    sim.receive(id, message(kind))
                }
                Step::Malformed(back) => {
                    let id = recent(back);
                    sim.handle(Event::Malformed(id, Notification::new(1, 1)))
                }
                Step::Wait(time) => {
                    let log = sim.run(Duration::from_millis(u64::from(time)));
                    log.into_iter().map(|(_, action)| action).collect()
                }
                Step::UpdateSent => sim.handle(Event::UpdateSent),
                Step::Taken(back) => {
                    let id = recent(back);
                    sim.handle(Event::Taken(id))
                }
                Step::Stalled => sim.handle(Event::Stalled),
                Step::Stop => sim.handle(Event::Stop(Cease::Deconfigured)),
                Step::Reset => sim.handle(Event::Reset(Cease::OutOfResources)),
                Step::Start => sim.handle(Event::Start),
            };
            world.apply(actions);
            world.check(&sim);
        }
    }
}
