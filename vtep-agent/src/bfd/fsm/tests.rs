use std::num::NonZeroU32;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn discriminator(value: u32) -> Discriminator {
    Discriminator(NonZeroU32::new(value).unwrap())
}

fn settings(interval_ms: u32, multiplier: u8) -> Settings {
    Settings {
        interval: Interval(interval_ms * 1000),
        multiplier: NonZeroU8::new(multiplier).unwrap(),
    }
}

/// A machine, its clock, and what it did.
struct Sim {
    fsm: Fsm,
    now: Instant,
}

impl Sim {
    /// In Down; the first packet is out.
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut sim = Self {
            fsm: Fsm::new(settings, discriminator(1), 7, now),
            now,
        };
        let first = sim.event(Event::Tick);
        assert!(matches!(first[..], [Action::Send(_)]), "{first:?}");
        sim
    }

    /// In a state, with a peer that has 3 x 300 ms.
    fn in_state(state: State) -> Self {
        let mut sim = Self::new(settings(300, 3));
        match state {
            State::AdminDown => drop(sim.event(Event::Disable)),
            State::Down => {}
            State::Init => drop(sim.receive(State::Down)),
            State::Up => {
                sim.receive(State::Down);
                sim.receive(State::Init);
                // Whose Poll Sequences are over.
                sim.packet(peer(State::Up, Sequence::Final));
            }
        }
        assert_eq!(sim.fsm.state().0, state);
        sim
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.fsm.handle(event, self.now)
    }

    fn packet(&mut self, packet: Packet) -> Vec<Action> {
        self.event(Event::Received(packet))
    }

    fn receive(&mut self, state: State) -> Vec<Action> {
        self.packet(peer(state, Sequence::None))
    }

    /// Until the next deadline.
    fn step(&mut self) -> Vec<Action> {
        self.now = self.now.max(self.fsm.deadline().unwrap());
        self.event(Event::Tick)
    }

    /// Everything that happens by itself in some time.
    fn run(&mut self, time: Duration) -> Vec<(Instant, Action)> {
        let end = self.now + time;
        let mut all = Vec::new();
        while self.fsm.deadline().is_some_and(|at| at <= end) {
            let actions = self.step();
            all.extend(actions.into_iter().map(|action| (self.now, action)));
        }
        self.now = end;
        all
    }
}

fn peer(state: State, sequence: Sequence) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        sequence,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: discriminator(9),
        your_discriminator: Some(discriminator(1)),
        desired_min_tx: Interval(300_000),
        required_min_rx: Interval(300_000),
        required_min_echo_rx: Interval(0),
    }
}

fn sent(actions: &[Action]) -> Vec<Packet> {
    let packets = actions.iter().filter_map(|action| match action {
        Action::Send(packet) => Some(*packet),
        Action::Report(_) => None,
    });
    packets.collect()
}

fn reported(actions: &[Action]) -> Vec<Liveness> {
    let reports = actions.iter().filter_map(|action| match action {
        Action::Report(liveness) => Some(*liveness),
        Action::Send(_) => None,
    });
    reports.collect()
}

/// RFC 5880 §6.8.6: all states times all states received, with the diagnostic and the report.
#[test]
fn state_table() {
    use State::{AdminDown, Down, Init, Up};
    let neighbor = Diagnostic::NEIGHBOR_DOWN;
    let table = [
        (
            Down,
            AdminDown,
            Down,
            Diagnostic::NONE,
            Some(Liveness::Unused),
        ),
        (Down, Down, Init, Diagnostic::NONE, None),
        (Down, Init, Up, Diagnostic::NONE, Some(Liveness::Up)),
        (Down, Up, Down, Diagnostic::NONE, None),
        (Init, AdminDown, Down, neighbor, Some(Liveness::Unused)),
        (Init, Down, Init, Diagnostic::NONE, None),
        (Init, Init, Up, Diagnostic::NONE, Some(Liveness::Up)),
        (Init, Up, Up, Diagnostic::NONE, Some(Liveness::Up)),
        (Up, AdminDown, Down, neighbor, Some(Liveness::Unused)),
        (Up, Down, Down, neighbor, Some(Liveness::Failed)),
        (Up, Init, Up, Diagnostic::NONE, None),
        (Up, Up, Up, Diagnostic::NONE, None),
        (
            AdminDown,
            AdminDown,
            AdminDown,
            Diagnostic::ADMIN_DOWN,
            None,
        ),
        (AdminDown, Down, AdminDown, Diagnostic::ADMIN_DOWN, None),
        (AdminDown, Init, AdminDown, Diagnostic::ADMIN_DOWN, None),
        (AdminDown, Up, AdminDown, Diagnostic::ADMIN_DOWN, None),
    ];
    for (before, received, after, diagnostic, report) in table {
        let mut sim = Sim::in_state(before);
        let actions = sim.receive(received);
        let what = format!("{before} receives {received}: {actions:?}");
        assert_eq!(sim.fsm.state().0, after, "{what}");
        assert_eq!(sim.fsm.packet().diagnostic, diagnostic, "{what}");
        assert_eq!(reported(&actions), Vec::from_iter(report), "{what}");
        // A change of state is told at once (§6.8.7).
        if before != after {
            assert_eq!(
                sent(&actions).first().map(|packet| packet.state),
                Some(after),
                "{what}"
            );
        }
    }
}

/// §6.8.4: from Init and Up down; no other state is affected; §6.8.1: the discriminator goes.
#[test]
fn detection_time_expires() {
    for (state, after, report) in [
        (State::Down, State::Down, vec![]),
        (State::Init, State::Down, vec![]),
        (State::Up, State::Down, vec![Liveness::Failed]),
    ] {
        let mut sim = Sim::in_state(state);
        if state == State::Down {
            // Heard, without effect.
            sim.receive(State::Up);
        }
        let heard = sim.now;
        assert_eq!(sim.fsm.detection_time(), 900 * MS);
        let before = sim.run(899 * MS);
        assert!(
            before
                .iter()
                .all(|(_, action)| matches!(action, Action::Send(_)))
        );
        assert_eq!(sim.fsm.state().0, state);
        let actions: Vec<Action> = sim.run(MS).into_iter().map(|(_, action)| action).collect();
        assert_eq!(sim.fsm.state().0, after);
        assert_eq!(reported(&actions), report);
        let last = *sent(&actions).last().unwrap();
        assert_eq!(last.your_discriminator, None);
        if state == State::Up {
            assert_eq!(last.diagnostic, Diagnostic::TIME_EXPIRED);
            let down = sim.fsm.last_down().unwrap();
            assert_eq!((down.at - heard, down.remote), (900 * MS, None));
        }
        assert_eq!(sim.fsm.remote_state(), None);
    }
}

/// §6.8.3: a second until the session is Up.
#[test]
fn slow_until_up() {
    let mut sim = Sim::new(settings(300, 3));
    let packets = sim.run(10_000 * MS);
    assert!((10..=14).contains(&packets.len()), "{}", packets.len());
    for (_, action) in &packets {
        let Action::Send(packet) = action else {
            panic!("{action:?}")
        };
        assert_eq!(packet.desired_min_tx, SLOW);
        assert_eq!(packet.required_min_rx, Interval(300_000));
        assert_eq!(packet.state, State::Down);
    }
    // What is slower than that stays so.
    let sim = Sim::new(settings(2000, 3));
    assert_eq!(sim.fsm.packet().desired_min_tx, Interval(2_000_000));
}

/// §6.8.7: 75 to 100 % of the interval, to 90 % with a multiplier of one; all of the range is used.
#[test]
fn jitter_bounds() {
    for (multiplier, longest) in [(3, 300.0), (1, 270.0)] {
        let mut sim = Sim::in_state(State::Up);
        sim.event(Event::Configure(settings(300, multiplier)));
        let mut last = sim.now;
        let (mut least, mut most) = (f64::MAX, 0.0_f64);
        for _ in 0..2000 {
            sim.receive(State::Up);
            let actions = sim.step();
            assert_eq!(sent(&actions).len(), 1);
            let gap = (sim.now - last).as_secs_f64() * 1000.0;
            last = sim.now;
            (least, most) = (least.min(gap), most.max(gap));
        }
        assert!((224.9..230.0).contains(&least), "{least}");
        assert!((longest - 5.0..=longest).contains(&most), "{most}");
    }
}

/// §6.8.2, §6.8.7: the slower of what we want and what the peer takes.
#[test]
fn the_peer_slows_us_down_and_lets_us_go() {
    let mut sim = Sim::in_state(State::Up);
    assert_eq!(sim.fsm.transmit_interval(), Some(300 * MS));
    let slow = Packet {
        required_min_rx: Interval(2_000_000),
        ..peer(State::Up, Sequence::None)
    };
    sim.packet(slow);
    assert_eq!(sim.fsm.transmit_interval(), Some(2000 * MS));
    // A lower value counts at once: not later than the new interval after the last packet.
    let before = sim.now;
    sim.receive(State::Up);
    assert_eq!(sim.fsm.transmit_interval(), Some(300 * MS));
    assert!(sim.fsm.deadline().unwrap() <= before + 300 * MS);
    // Zero: no periodic packets at all, and then the peer is still given up.
    let none = Packet {
        required_min_rx: Interval(0),
        ..peer(State::Up, Sequence::None)
    };
    sim.packet(none);
    assert_eq!(sim.fsm.transmit_interval(), None);
    let actions = sim.run(899 * MS);
    assert!(actions.is_empty(), "{actions:?}");
    // Answers are sent nevertheless.
    let poll = Packet {
        sequence: Sequence::Poll,
        ..none
    };
    let answers = sent(&sim.packet(poll));
    assert!(matches!(
        answers[..],
        [Packet {
            sequence: Sequence::Final,
            ..
        }]
    ));
}

/// §6.8.7: a peer in demand mode gets periodic packets only for Poll Sequences, while both are Up.
#[test]
fn demand_mode_of_the_peer() {
    let mut sim = Sim::in_state(State::Up);
    let demand = |sequence| Packet {
        demand: true,
        ..peer(State::Up, sequence)
    };
    sim.packet(demand(Sequence::None));
    assert_eq!(sim.fsm.transmit_interval(), None);
    sim.event(Event::Configure(settings(500, 3)));
    let polls = sim.run(800 * MS);
    assert!(!polls.is_empty());
    for (_, action) in polls {
        assert!(matches!(action, Action::Send(packet) if packet.sequence == Sequence::Poll));
    }
    sim.packet(demand(Sequence::Final));
    assert_eq!(sim.fsm.transmit_interval(), None);
    // Down again, it wants them.
    sim.packet(Packet {
        demand: true,
        ..peer(State::Down, Sequence::None)
    });
    assert_eq!(sim.fsm.transmit_interval(), Some(1000 * MS));
}

/// §6.8.4: the slower of what we take and what the peer wants, times the peer's multiplier.
#[test]
fn detection_time_follows_the_peer() {
    let mut sim = Sim::in_state(State::Up);
    for (multiplier, tx, expected) in [(3, 300_000, 900), (5, 100_000, 1500), (2, 700_000, 1400)] {
        sim.packet(Packet {
            multiplier: NonZeroU8::new(multiplier).unwrap(),
            desired_min_tx: Interval(tx),
            ..peer(State::Up, Sequence::None)
        });
        assert_eq!(sim.fsm.detection_time(), expected * MS);
        assert_eq!(sim.fsm.expires(), Some(sim.now + expected * MS));
    }
}

/// §6.5: a Poll is answered at once with our own intervals, and doesn't disturb the schedule.
#[test]
fn polls_are_answered() {
    let mut sim = Sim::in_state(State::Up);
    sim.run(10 * MS);
    let next = sim.fsm.next;
    let answers = sent(&sim.packet(peer(State::Up, Sequence::Poll)));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].sequence, Sequence::Final);
    assert_eq!(sim.fsm.next, next);
}

/// §6.8.3: becoming Up is a change of our interval: P until F.
#[test]
fn a_poll_sequence_begins_with_up() {
    let mut sim = Sim::new(settings(300, 3));
    sim.receive(State::Down);
    let up = sent(&sim.receive(State::Init));
    assert_eq!(up.len(), 1);
    assert_eq!((up[0].state, up[0].sequence), (State::Up, Sequence::Poll));
    assert_eq!(up[0].desired_min_tx, Interval(300_000));
    sim.receive(State::Up);
    assert_eq!(sent(&sim.step())[0].sequence, Sequence::Poll);
    sim.packet(peer(State::Up, Sequence::Final));
    assert_eq!(sent(&sim.step())[0].sequence, Sequence::None);
}

/// §6.8.3: slower sending waits for the end of the Poll Sequence, faster doesn't.
#[test]
fn slower_sending_waits_for_the_peer() {
    let mut sim = Sim::in_state(State::Up);
    let told = sent(&sim.event(Event::Configure(settings(1000, 3))));
    assert_eq!(told[0].sequence, Sequence::Poll);
    assert_eq!(told[0].desired_min_tx, Interval(1_000_000));
    assert_eq!(sim.fsm.transmit_interval(), Some(300 * MS));
    // Larger Required Min RX counts at once: more patience harms nobody.
    assert_eq!(sim.fsm.detection_time(), 3000 * MS);
    sim.packet(peer(State::Up, Sequence::Final));
    assert_eq!(sim.fsm.transmit_interval(), Some(1000 * MS));

    sim.event(Event::Configure(settings(300, 3)));
    assert_eq!(sim.fsm.transmit_interval(), Some(300 * MS));
    // Less patience waits until the peer knows.
    assert_eq!(sim.fsm.detection_time(), 3000 * MS);
    sim.packet(peer(State::Up, Sequence::Final));
    assert_eq!(sim.fsm.detection_time(), 900 * MS);
}

/// A Final may answer a Poll from before a second change.
#[test]
fn a_change_during_a_poll_sequence_needs_another() {
    let mut sim = Sim::in_state(State::Up);
    sim.event(Event::Configure(settings(500, 3)));
    sim.event(Event::Configure(settings(800, 3)));
    sim.packet(peer(State::Up, Sequence::Final));
    assert_eq!(sim.fsm.transmit_interval(), Some(300 * MS));
    assert_eq!(sent(&sim.step())[0].sequence, Sequence::Poll);
    sim.packet(peer(State::Up, Sequence::Final));
    assert_eq!(sim.fsm.transmit_interval(), Some(800 * MS));
}

/// RFC 5882 §4.2: neither AdminDown of the peer, nor what follows until it is up again, is a failure.
#[test]
fn admin_down_of_the_peer_is_no_failure() {
    let mut sim = Sim::in_state(State::Up);
    let mut reports = reported(&sim.receive(State::AdminDown));
    reports.extend(reported(&sim.receive(State::AdminDown)));
    // Silence, then a restart of the session.
    sim.run(5000 * MS);
    for state in [State::Down, State::Init, State::Up] {
        reports.extend(reported(&sim.receive(state)));
    }
    assert_eq!(reports, [Liveness::Unused, Liveness::Unknown, Liveness::Up]);
}

/// §6.8.16: said at once, and repeated.
#[test]
fn admin_down_of_ours() {
    let mut sim = Sim::in_state(State::Up);
    let actions = sim.event(Event::Disable);
    assert_eq!(reported(&actions), [Liveness::Unused]);
    let said = sent(&actions);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].state, State::AdminDown);
    assert_eq!(said[0].diagnostic, Diagnostic::ADMIN_DOWN);
    assert_eq!(said[0].desired_min_tx, SLOW);
    assert!(sim.run(3000 * MS).len() >= 3);
    // Polls are not for a session that is off.
    assert!(sim.packet(peer(State::Up, Sequence::Poll)).is_empty());
}

/// Two machines on a wire that loses packets: they come up, stay up without loss, and notice when
/// it is cut within three intervals.
#[test]
fn two_machines() {
    for seed in 0..50_u64 {
        let start = Instant::now();
        let fsm = |id: u32, seed| Fsm::new(settings(300, 3), discriminator(id), seed, start);
        let mut ends = [fsm(1, seed), fsm(2, !seed)];
        let mut loss = Random::new(seed);
        let mut now = start;
        let mut down_at = [None; 2];
        let cut = start + 20_000 * MS;
        while now < start + 30_000 * MS {
            let (index, at) = [0, 1]
                .map(|index| (index, ends[index].deadline().unwrap()))
                .into_iter()
                .min_by_key(|(_, at)| *at)
                .unwrap();
            now = now.max(at);
            let mut queue = vec![(index, Event::Tick)];
            while let Some((index, event)) = queue.pop() {
                for action in ends[index].handle(event, now) {
                    match action {
                        // A third is lost in the first ten seconds.
                        Action::Send(packet) => {
                            let lost = now < start + 10_000 * MS && loss.bits().is_multiple_of(3);
                            if now < cut && !lost {
                                queue.push((1 - index, Event::Received(packet)));
                            }
                        }
                        Action::Report(Liveness::Failed) if now >= cut => {
                            down_at[index] = Some(now);
                        }
                        Action::Report(liveness) => {
                            let lossy = now < start + 16_000 * MS;
                            assert!(lossy, "seed {seed}: {liveness:?} without loss");
                        }
                    }
                }
            }
        }
        for down in down_at {
            let after = down.unwrap_or_else(|| panic!("seed {seed}: not down")) - cut;
            assert!(after <= 900 * MS, "seed {seed}: {after:?}");
        }
    }
}
