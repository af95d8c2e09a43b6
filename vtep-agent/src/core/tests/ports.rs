//! Ports and uplinks as devices come and go.

use vtep_common::abi::{PortKey, Settings};

use super::*;

fn attached(fixture: &mut Fixture) -> Vec<String> {
    let outputs = std::mem::take(&mut fixture.outputs);
    let text = |output: Output| match output {
        Output::AttachPort(index, name) => Some(format!("+{name}#{index}")),
        Output::DetachPort(index, name) => Some(format!("-{name}#{index}")),
        Output::AttachUplink(index, name, mode) => Some(format!("+{name}#{index} {mode:?}")),
        Output::DetachUplink(index, name) => Some(format!("-{name}#{index} uplink")),
        _ => None,
    };
    outputs.into_iter().filter_map(text).collect()
}

fn states(fixture: &Fixture) -> Vec<(String, String, Option<u16>, String)> {
    let ports = fixture.core.ports(None).unwrap();
    ports
        .into_iter()
        .map(|port| (port.name, port.bd, port.vlan, port.state))
        .collect()
}

#[test]
fn globs_take_devices_as_they_come() {
    let mut fixture = Fixture::start(config(), State::default());
    fixture.link(5, "tap5");
    fixture.link(6, "eth6");
    assert_eq!(attached(&mut fixture), ["+tap5#5"]);
    assert!(
        fixture
            .core
            .intent
            .port_index
            .get(PortKey::new(5, 0))
            .is_some()
    );
    fixture.link(5, "tap5");
    assert!(attached(&mut fixture).is_empty(), "attached once");
    // Made anew before the old one's end was reported.
    fixture.link(7, "tap5");
    assert_eq!(attached(&mut fixture), ["-tap5#5", "+tap5#7"]);
    fixture.handle(Input::LinkGone(5));
    assert!(attached(&mut fixture).is_empty());
    // Renamed out of the pattern.
    fixture.link(7, "other");
    assert_eq!(attached(&mut fixture), ["-tap5#7"]);
    assert!(fixture.core.intent.ports.is_empty() && fixture.core.intent.port_index.is_empty());
}

#[test]
fn named_ports_are_waited_for() {
    let mut config = config();
    config.bds[0].ports = vec![pattern("vm1", Some(10)), pattern("vm1", None)];
    let mut fixture = Fixture::start(config, State::default());
    let port = |vlan, state: &str| ("vm1".to_owned(), "blue".to_owned(), vlan, state.to_owned());
    assert_eq!(
        states(&fixture),
        [port(None, "waiting"), port(Some(10), "waiting")]
    );
    fixture.link(5, "vm1");
    assert_eq!(
        attached(&mut fixture),
        ["+vm1#5"],
        "one device, one attachment"
    );
    assert_eq!(states(&fixture), [port(None, "up"), port(Some(10), "up")]);
    let slots = fixture.core.ports.of_device(5);
    assert_eq!(slots.len(), 2);
    fixture.handle(Input::LinkGone(5));
    assert_eq!(attached(&mut fixture), ["-vm1#5"]);
    assert_eq!(
        states(&fixture),
        [port(None, "waiting"), port(Some(10), "waiting")]
    );
}

#[test]
fn first_bridge_domain_wins() {
    let mut config = config();
    let red = BdConfig {
        ports: vec![pattern("*1", None), pattern("tap1", Some(5))],
        ..BdConfig::new(name("a-red"), vni(200))
    };
    config.bds.push(red);
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    let port = |bd: &str, vlan| ("tap1".to_owned(), bd.to_owned(), vlan, "up".to_owned());
    assert_eq!(
        states(&fixture),
        [port("blue", None), port("a-red", Some(5))]
    );
}

#[test]
fn slots_are_not_used_again_at_once() {
    let mut fixture = Fixture::new();
    let slot = |fixture: &Fixture| *fixture.core.ports.of_device(TAP1).values().next().unwrap();
    let first = slot(&fixture);
    fixture.handle(Input::LinkGone(TAP1));
    fixture.link(TAP1, "tap1");
    let second = slot(&fixture);
    assert_ne!(first, second);
    fixture.handle(Input::LinkGone(TAP1));
    fixture.advance(Duration::from_secs(10));
    fixture.link(TAP1, "tap1");
    assert_eq!(slot(&fixture), first);
}

/// RFC 7432 §17.3: a port that goes down takes its MACs along; declared ones come back with it.
#[test]
fn port_down_and_up() {
    let mut fixture = Fixture::new();
    let endpoint = super::super::DeclaredEndpoint {
        mac: mac(1),
        ips: vec!["10.0.0.1".parse().unwrap()],
        sticky: false,
    };
    fixture
        .command(Command::AddPort {
            bd: name("blue"),
            port: pattern("tap1", None),
            endpoint: Some(endpoint),
        })
        .unwrap();
    fixture.frame(TAP1, mac(2));
    fixture.sent();
    let mut tap1 = link(TAP1, "tap1");
    tap1.up = false;
    fixture.handle(Input::Link(tap1.clone()));
    assert_eq!(fixture.sent().withdraw.len(), 3);
    assert!(fixture.core.intent.fdb.is_empty());
    tap1.up = true;
    fixture.handle(Input::Link(tap1));
    assert!(fixture.is_local(mac(1)) && !fixture.is_local(mac(2)));
    assert_eq!(fixture.announced().len(), 2);
}

#[test]
fn uplinks() {
    let mut config = config();
    config.bds[0].ports = vec![pattern("*", None)];
    config.vtep.uplinks = vec![device("eth0")];
    let mut fixture = Fixture::start(config, State::default());
    assert_eq!(fixture.core.uplinks()[0].state, "waiting");
    fixture.link(2, "eth0");
    fixture.link(3, "eth1");
    fixture.link(1, "lo");
    assert_eq!(
        attached(&mut fixture),
        ["+eth0#2 Auto", "+eth1#3"],
        "no port is an uplink"
    );
    let settings =
        |fixture: &Fixture| -> Settings { *fixture.core.intent.settings.get(0).unwrap() };
    assert_eq!(
        settings(&fixture).uplink_macs[0],
        link(2, "eth0").mac.to_bits()
    );

    let attach = |name, mode| Command::Attach(device(name), mode);
    let error = fixture.command(attach("eth7", None)).unwrap_err();
    assert_eq!(error.to_string(), "no network device eth7; see: ip link");
    fixture.command(attach("eth0", None)).unwrap();
    assert!(attached(&mut fixture).is_empty());
    fixture.command(attach("eth1", Some(XdpMode::Off))).unwrap();
    assert_eq!(attached(&mut fixture), ["+eth1#3 Off", "-eth1#3"]);
    assert_eq!(
        settings(&fixture).uplink_macs[1],
        link(3, "eth1").mac.to_bits()
    );
    fixture.command(attach("eth1", Some(XdpMode::Off))).unwrap();
    let error = fixture
        .command(attach("eth1", Some(XdpMode::Native)))
        .unwrap_err();
    assert!(
        error.to_string().contains("--xdp off, not native"),
        "{error}"
    );
    fixture.command(Command::Detach(device("eth1"))).unwrap();
    fixture.command(Command::Detach(device("eth1"))).unwrap();
    assert_eq!(attached(&mut fixture), ["-eth1#3 uplink", "+eth1#3"]);
}

/// An uplink of the file can be taken out of service, and never becomes a port by that. The next
/// reload brings it back.
#[test]
fn an_uplink_of_the_file_is_detached_until_reload() {
    let mut config = config();
    config.bds[0].ports = vec![pattern("*", None)];
    config.vtep.uplinks = vec![device("eth0")];
    let mut fixture = Fixture::start(config.clone(), State::default());
    fixture.link(2, "eth0");
    attached(&mut fixture);
    let attach = |mode| Command::Attach(device("eth0"), mode);
    let detach = || Command::Detach(device("eth0"));

    fixture.command(detach()).unwrap();
    fixture.command(detach()).unwrap();
    fixture.link(2, "eth0");
    assert_eq!(attached(&mut fixture), ["-eth0#2 uplink"]);
    assert!(fixture.core.uplinks().is_empty());
    fixture.command(attach(None)).unwrap();
    assert_eq!(attached(&mut fixture), ["+eth0#2 Auto"]);
    assert!(fixture.core.state.uplinks.is_empty(), "it is the file's");

    fixture.command(detach()).unwrap();
    fixture.command(attach(Some(XdpMode::Off))).unwrap();
    assert_eq!(attached(&mut fixture), ["-eth0#2 uplink", "+eth0#2 Off"]);
    fixture.command(Command::Reload(Box::new(config))).unwrap();
    assert_eq!(
        attached(&mut fixture),
        ["-eth0#2 uplink", "+eth0#2 Auto"],
        "the file wins"
    );
}

/// A tagged underlay shows in the paths.
#[test]
fn underlay_vlan() {
    let mut config = config();
    config.vtep.uplinks = vec![device("eth0")];
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(2, "eth0");
    fixture.up(RR);
    fixture.announce(rt3(V1));
    let tagged = Adjacency { vlan: 40, ..path() };
    fixture.handle(Input::Paths(IpAddr::V4(V1), vec![tagged], 0));
    let settings = fixture.core.intent.settings.get(0).unwrap();
    assert_eq!(settings.uplink_vlans[0], 40);
}
