//! Declared endpoints as the source filter of their port.

use vtep_common::abi::{BdFlags, GuardFlags, GuardKey, PortFlags};

use super::{super::DeclaredEndpoint, *};
use crate::{config::UnknownNeighbors, evpn::Slot};

const IP: &str = "10.0.0.1";

fn add(last: u8, ips: &[&str]) -> Command {
    Command::AddPort {
        bd: name("blue"),
        port: pattern("tap5", None),
        endpoint: Some(DeclaredEndpoint {
            mac: mac(last),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            sticky: false,
        }),
    }
}

fn delete(last: u8) -> Command {
    Command::DeletePort {
        device: device("tap5"),
        vlan: None,
        mac: Some(mac(last)),
    }
}

fn command(fixture: &mut Fixture, command: Command) {
    fixture.core.command(command, fixture.now).unwrap();
}

fn slot(fixture: &Fixture) -> Slot {
    fixture.core.ports.find(&device("tap5"), None).unwrap().slot
}

/// The port is guarded, with this many addresses; the maps and the view agree.
fn guarded(fixture: &Fixture) -> (bool, usize) {
    let entry = fixture.core.intent.ports.get(slot(fixture).0).unwrap();
    let guarded = entry.flags.has(PortFlags::GUARDED);
    let shown = fixture.core.ports(None).unwrap();
    assert_eq!(shown[0].source_filter, guarded);
    (guarded, fixture.core.intent.guards.len())
}

#[test]
fn follows_what_is_declared() {
    let mut fixture = Fixture::start(config(), State::default());
    fixture.link(5, "tap5");
    assert_eq!(guarded(&fixture), (false, 0), "learned endpoints only");
    command(&mut fixture, add(1, &[IP, "fd00::1"]));
    assert_eq!(guarded(&fixture), (true, 3));
    command(&mut fixture, add(2, &[]));
    assert_eq!(guarded(&fixture), (true, 4));

    let slot = slot(&fixture).0;
    let guards = &fixture.core.intent.guards;
    let address = guards
        .get(GuardKey::new(slot, IP.parse().unwrap()))
        .unwrap();
    assert!(address.is_for(slot, mac(1).to_bits()));
    for (last, restricted) in [(1, true), (2, false)] {
        let entry = guards.get(GuardKey::of_mac(slot, mac(last))).unwrap();
        assert!(entry.is_for(slot, mac(last).to_bits()));
        assert_eq!(entry.flags().has(GuardFlags::ADDRESSES), restricted);
    }

    command(&mut fixture, delete(1));
    assert_eq!(guarded(&fixture), (true, 1));
    command(&mut fixture, delete(2));
    assert_eq!(guarded(&fixture), (false, 0));
}

/// What is declared comes back with the device, under another slot or the same.
#[test]
fn comes_and_goes_with_the_port() {
    let mut fixture = Fixture::start(config(), State::default());
    command(&mut fixture, add(1, &[IP]));
    assert!(fixture.core.intent.guards.is_empty());
    fixture.link(5, "tap5");
    assert_eq!(guarded(&fixture), (true, 2));
    fixture.handle(Input::LinkGone(5));
    assert!(fixture.core.intent.guards.is_empty());
    fixture.link(6, "tap5");
    assert_eq!(guarded(&fixture), (true, 2));
}

#[test]
fn limits_are_those_of_the_bridge_domain() {
    let mut fixture = Fixture::start(config(), State::default());
    fixture.link(5, "tap5");
    let limits = |fixture: &Fixture| {
        let entry = fixture.core.intent.ports.get(slot(fixture).0).unwrap();
        (entry.bum_rate, entry.learn_rate)
    };
    assert_eq!(limits(&fixture), (20_000, 1000));
    let mut config = config();
    config.bds[0].bum_rate = 7;
    config.bds[0].learn_rate = 0;
    config.bds[0].unknown_neighbors = UnknownNeighbors::Drop;
    command(&mut fixture, Command::Reload(Box::new(config)));
    assert_eq!(limits(&fixture), (7, 0));
    let bds = fixture.core.intent.bds.iter();
    let flags: Vec<_> = bds.map(|(_, bd)| bd.flags).collect();
    assert!(flags[0].has(BdFlags::DROP_UNKNOWN_NEIGHBORS));
}

#[test]
fn a_bridge_domain_may_do_without() {
    let mut fixture = Fixture::start(config(), State::default());
    fixture.link(5, "tap5");
    command(&mut fixture, add(1, &[IP]));
    for (source_filter, expected) in [(false, (false, 0)), (true, (true, 2))] {
        let mut config = config();
        config.bds[0].source_filter = source_filter;
        command(&mut fixture, Command::Reload(Box::new(config)));
        assert_eq!(guarded(&fixture), expected);
    }
}

/// `server_guard` says of each MAC that it is neither router nor DHCP server, from one reload to the next.
#[test]
fn clients_only() {
    let mut strict = config();
    strict.bds[0].server_guard = true;
    let mut fixture = Fixture::start(strict, State::default());
    fixture.link(5, "tap5");
    command(&mut fixture, add(1, &[IP]));
    let key = GuardKey::of_mac(slot(&fixture).0, mac(1));
    let is_client = |fixture: &Fixture| {
        let flags = fixture.core.intent.guards.get(key).unwrap().flags();
        assert!(flags.has(GuardFlags::ADDRESSES));
        flags.has(GuardFlags::CLIENT)
    };
    assert!(is_client(&fixture));
    command(&mut fixture, Command::Reload(Box::new(config())));
    assert!(!is_client(&fixture));
}
