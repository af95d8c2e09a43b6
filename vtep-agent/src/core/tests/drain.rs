//! `drain`: withdrawn at once, forwarding until the time is over, then nothing.

use vtep_common::abi::PortFlags;

use super::*;
use crate::core::Drain;

const TIME: Duration = Duration::from_secs(10);

/// A VM on tap1, another VTEP's behind V1.
fn busy() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.announce(rt2(V1, mac(2), None, 0));
    fixture.announce(rt3(V1));
    fixture.outputs.clear();
    fixture
}

fn detached(fixture: &Fixture) -> usize {
    let detaches = |output: &&Output| matches!(output, Output::DetachPort(..));
    fixture.outputs.iter().filter(detaches).count()
}

#[test]
fn everything_is_withdrawn_and_forwarding_goes_on() {
    let mut fixture = busy();
    fixture.command(Command::Drain(None)).unwrap();
    // The MAC and the bridge domain.
    assert_eq!(fixture.sent().withdraw.len(), 2);
    assert!(fixture.is_local(mac(1)));
    assert!(fixture.fdb(mac(2)).is_some());
    assert!(fixture.core.deadline() <= Some(fixture.now + TIME));

    // What is learned from now on forwards, and nobody is told; nor is a peer that comes late.
    fixture.frame(TAP2, mac(3));
    assert!(fixture.is_local(mac(3)));
    fixture.up(RR);
    let sent = fixture.sent();
    assert!(sent.announce.is_empty() && sent.end_of_rib, "{sent:?}");
    fixture.now += TIME - Duration::from_millis(1);
    fixture.handle(Input::Tick);
    assert_eq!(detached(&fixture), 0);
    assert!(fixture.is_local(mac(1)));
}

/// A crash is no way back, an orderly end is.
#[test]
fn it_outlives_a_crash() {
    let mut fixture = busy();
    fixture.command(Command::Drain(None)).unwrap();
    let saved = |fixture: &Fixture| {
        let mut states = fixture.outputs.iter().filter_map(|output| match output {
            Output::Persist(state) => Some(*state.clone()),
            _ => None,
        });
        states.next_back().expect("nothing is saved")
    };
    let state = saved(&fixture);
    assert!(state.draining);

    // Programs are still attached.
    let preserved = Start {
        forwarding_preserved: true,
    };
    let mut next = Fixture::start_with(config(), state.clone(), preserved);
    next.handle(Input::Recovered);
    next.link(TAP1, "tap1");
    next.up(RR);
    next.frame(TAP1, mac(1));
    assert!(next.is_local(mac(1)));
    assert_eq!(next.core.drain_state(), Drain::Draining(next.now + TIME));
    let sent = next.sent();
    assert!(sent.announce.is_empty(), "{sent:?}");
    assert!(matches!(
        next.command(Command::Drain(None)),
        Err(CommandError::Draining(10))
    ));
    next.now += TIME;
    next.handle(Input::Tick);
    assert_eq!(next.core.drain_state(), Drain::Drained);

    // None is.
    let mut next = Fixture::start(config(), state);
    next.link(TAP1, "tap1");
    next.up(RR);
    assert_eq!(next.core.drain_state(), Drain::Drained);
    let attaches = |output: &Output| matches!(output, Output::AttachPort(..));
    assert!(!next.outputs.iter().any(attaches), "{:?}", next.outputs);

    next.outputs = next.core.shutdown(next.now);
    let state = saved(&next);
    assert!(!state.draining);
    let next = Fixture::start(config(), state);
    assert_eq!(next.core.drain_state(), Drain::Off);
}

#[test]
fn devices_follow_when_the_time_is_over() {
    let mut fixture = busy();
    fixture.command(Command::Drain(None)).unwrap();
    fixture.now += TIME;
    fixture.handle(Input::Tick);
    assert_eq!(fixture.core.drain_state(), Drain::Drained);
    assert_eq!(detached(&fixture), 2);
    let active = |port: &vtep_common::abi::PortEntry| port.flags.has(PortFlags::ACTIVE);
    assert!(
        !fixture
            .core
            .intent
            .ports
            .iter()
            .any(|(_, port)| active(port))
    );
    assert_eq!(fixture.fdb(mac(1)), None);
    // A device that comes now stays alone.
    fixture.outputs.clear();
    fixture.link(13, "tap3");
    assert!(fixture.outputs.is_empty(), "{:?}", fixture.outputs);
}

#[test]
fn uplinks_are_detached_too() {
    let mut config = config();
    config.vtep.uplinks = vec![device("eth0")];
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(2, "eth0");
    fixture.outputs.clear();
    fixture
        .command(Command::Drain(Some(Duration::ZERO)))
        .unwrap();
    let detach = fixture.outputs.iter();
    let mut detach = detach.filter(|output| matches!(output, Output::DetachUplink(2, _)));
    assert!(detach.next().is_some(), "{:?}", fixture.outputs);
    assert!(fixture.core.uplinks().is_empty());
}

#[test]
fn twice_and_additions_are_refused() {
    let mut fixture = busy();
    fixture.command(Command::Drain(Some(TIME))).unwrap();
    fixture.now += Duration::from_secs(3);
    let refused = |fixture: &mut Fixture, command| fixture.command(command).unwrap_err();
    let error = refused(&mut fixture, Command::Drain(None)).to_string();
    assert!(error.contains("7 more seconds"), "{error}");
    let add = || Command::AddBd(Box::new(BdConfig::new(name("red"), vni(200))));
    assert_eq!(refused(&mut fixture, add()), CommandError::Leaving);
    let reload = Command::Reload(Box::new(config()));
    assert_eq!(refused(&mut fixture, reload), CommandError::Leaving);
    // A VM that leaves may take its port along.
    let delete = Command::DeletePort {
        device: device("vm1"),
        vlan: None,
        mac: None,
    };
    fixture.command(delete).unwrap();
    fixture.now += TIME;
    fixture.handle(Input::Tick);
    assert_eq!(
        refused(&mut fixture, Command::Drain(None)),
        CommandError::Drained
    );
    assert_eq!(refused(&mut fixture, add()), CommandError::Leaving);
}
