//! Commands and reload: idempotent, complete or refused, and what the file owns stays the file's.

use super::{super::DeclaredEndpoint, *};
use crate::config::setting;

fn add_bd(text: &str, number: u32) -> Command {
    Command::AddBd(Box::new(BdConfig::new(name(text), vni(number))))
}

fn add_port(bd: &str, port: &str, endpoint: Option<DeclaredEndpoint>) -> Command {
    Command::AddPort {
        bd: name(bd),
        port: pattern(port, None),
        endpoint,
    }
}

fn delete_port(port: &str, mac: Option<Mac>) -> Command {
    Command::DeletePort {
        device: device(port),
        vlan: None,
        mac,
    }
}

fn endpoint(last: u8, ips: &[&str], sticky: bool) -> Option<DeclaredEndpoint> {
    Some(DeclaredEndpoint {
        mac: mac(last),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        sticky,
    })
}

fn saved(fixture: &mut Fixture) -> Option<State> {
    let outputs = std::mem::take(&mut fixture.outputs);
    let state = |output| match output {
        Output::Persist(state) => Some(*state),
        _ => None,
    };
    outputs.into_iter().filter_map(state).next_back()
}

#[track_caller]
fn refused(fixture: &mut Fixture, command: Command, words: &[&str]) {
    let before = fixture.core.state.clone();
    let error = fixture.command(command).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
    assert!(!error.contains('\n'));
    assert_eq!(fixture.core.state, before);
    assert!(fixture.outputs.is_empty());
}

#[test]
fn lo_is_no_uplink() {
    let mut fixture = Fixture::new();
    fixture.link(1, "lo");
    let attach = Command::Attach(device("lo"), None);
    refused(&mut fixture, attach, &["lo", "NIC"]);
}

/// What is set besides name and VNI is kept, also from one run to the next, compared, and checked
/// against the other bridge domains.
#[test]
fn settings_of_bridge_domains() {
    let set = |text: &str, number, settings: &[&str]| {
        let settings: Result<_, _> = settings.iter().map(|text| setting(text)).collect();
        let bd = BdConfig::with_settings(name(text), vni(number), &settings.unwrap());
        Command::AddBd(Box::new(bd.unwrap()))
    };
    let config_of = |fixture: &Fixture, bd: &str| {
        let id = fixture.core.names[&name(bd)];
        fixture.core.bds[&id].config.clone()
    };
    let mut fixture = Fixture::new();
    let settings = [
        "downstream_vni=true",
        "any_ethernet_tag=true",
        "flood=none",
        "rd=198.18.0.10:77",
        "duplicate={ action = \"freeze\" }",
        "duplicate_ip={ as_mac = \"02:00:00:00:0f:01\" }",
        "anycast=[\"10.0.0.1\"]",
    ];
    fixture.command(set("red", 200, &settings)).unwrap();
    let made = config_of(&fixture, "red");
    assert!(made.downstream_vni && made.any_ethernet_tag);
    let state = serde_json::to_string(&saved(&mut fixture).unwrap()).unwrap();
    let next = Fixture::start(config(), serde_json::from_str(&state).unwrap());
    assert_eq!(config_of(&next, "red"), made);

    fixture.command(set("red", 200, &settings)).unwrap();
    assert_eq!(saved(&mut fixture), None, "nothing new");
    let fewer = set("red", 200, &settings[1..]);
    refused(
        &mut fixture,
        fewer,
        &["red", "other settings", "bd del red"],
    );
    let taken = set("green", 300, &["rd=198.18.0.10:77"]);
    refused(&mut fixture, taken, &["RD 198.18.0.10:77", "red", "green"]);
    let automatic = fixture.core.bds(Some(&name("blue"))).unwrap()[0].rd.clone();
    let taken = set("green", 300, &[&format!("rd={automatic}")]);
    refused(&mut fixture, taken, &[&automatic, "blue"]);
    // The file's, whose ports nobody has to repeat.
    fixture
        .command(set("blue", VNI, &["learning=true"]))
        .unwrap();
    let other = set("blue", VNI, &["learning=false"]);
    refused(&mut fixture, other, &["blue", "configuration file"]);
    // The file takes the RD.
    let mut file = config();
    file.bds[0].rd = made.rd;
    fixture.command(Command::Reload(Box::new(file))).unwrap();
    assert_eq!(fixture.core.bds(None).unwrap().len(), 1);
    fixture
        .command(Command::Reload(Box::new(config())))
        .unwrap();
    assert_eq!(config_of(&fixture, "red"), made);
}

#[test]
fn bridge_domains() {
    let mut fixture = Fixture::new();
    fixture.command(add_bd("red", 200)).unwrap();
    assert_eq!(saved(&mut fixture).unwrap().bds.len(), 1);
    assert_eq!(fixture.core.bds(None).unwrap().len(), 2);
    fixture.command(add_bd("red", 200)).unwrap();
    assert_eq!(saved(&mut fixture), None, "nothing new");
    refused(&mut fixture, add_bd("red", 201), &["red", "200", "201"]);
    refused(&mut fixture, add_bd("green", 200), &["200", "red", "green"]);
    fixture.command(add_bd("blue", VNI)).unwrap();
    assert_eq!(saved(&mut fixture), None, "the file's");
    refused(&mut fixture, add_bd("blue", 7), &["blue", "10100", "7"]);
    let mut quiet = BdConfig::new(name("red"), vni(200));
    quiet.suppress = false;
    refused(
        &mut fixture,
        Command::AddBd(Box::new(quiet)),
        &["red", "other settings"],
    );

    refused(
        &mut fixture,
        Command::DeleteBd(name("blue")),
        &["blue", "configuration file"],
    );
    fixture.command(Command::DeleteBd(name("red"))).unwrap();
    assert_eq!(fixture.sent().withdraw.len(), 1);
    fixture.command(Command::DeleteBd(name("red"))).unwrap();
    assert!(fixture.outputs.is_empty());
    assert_eq!(fixture.core.intent.bds.len(), 1);
    assert_eq!(fixture.core.intent.vnis.len(), 1);
}

#[test]
fn ports_and_endpoints() {
    let mut fixture = Fixture::new();
    refused(
        &mut fixture,
        add_port("green", "vm1", None),
        &["green", "bd add green --vni"],
    );
    fixture
        .command(add_port("blue", "vm1", endpoint(1, &["10.0.0.1"], false)))
        .unwrap();
    let state = saved(&mut fixture).unwrap();
    assert_eq!((state.ports.len(), state.endpoints.len()), (1, 1));
    assert_eq!(fixture.fdb(mac(1)), None, "its device is waited for");
    fixture.link(20, "vm1");
    assert!(fixture.is_local(mac(1)));
    assert_eq!(fixture.announced().len(), 2);
    assert_eq!(
        fixture.core.macs(None, fixture.now).unwrap()[0].origin,
        "declared"
    );
    fixture.outputs.clear();

    fixture
        .command(add_port("blue", "vm1", endpoint(1, &["10.0.0.1"], false)))
        .unwrap();
    fixture.command(add_port("blue", "vm1", None)).unwrap();
    assert!(fixture.outputs.is_empty(), "as it is");
    let other = add_port("blue", "vm1", endpoint(1, &["10.0.0.2"], true));
    refused(
        &mut fixture,
        other,
        &["--ip 10.0.0.1", "--ip 10.0.0.2 --sticky"],
    );
    let elsewhere = add_port("blue", "tap1", endpoint(1, &["10.0.0.1"], false));
    refused(&mut fixture, elsewhere, &["vm1", "tap1"]);
    let taken = add_port("blue", "vm1", endpoint(2, &["10.0.0.1"], false));
    refused(
        &mut fixture,
        taken,
        &["10.0.0.1", "02:00:00:00:00:01", "02:00:00:00:00:02"],
    );
    let group = add_port(
        "blue",
        "vm1",
        Some(DeclaredEndpoint {
            mac: Mac::BROADCAST,
            ips: vec![],
            sticky: false,
        }),
    );
    refused(&mut fixture, group, &["ff:ff:ff:ff:ff:ff"]);
    let multicast = add_port("blue", "vm1", endpoint(3, &["224.0.0.1"], false));
    refused(&mut fixture, multicast, &["224.0.0.1"]);
    fixture.command(add_bd("red", 200)).unwrap();
    fixture.outputs.clear();
    refused(
        &mut fixture,
        add_port("red", "vm1", None),
        &["vm1", "blue", "red"],
    );
    refused(
        &mut fixture,
        add_port("red", "tap1", None),
        &["tap1", "blue", "red"],
    );
    refused(&mut fixture, delete_port("tap1", None), &["tap1", "blue"]);

    fixture
        .command(add_port("blue", "vm1", endpoint(2, &[], false)))
        .unwrap();
    assert!(fixture.is_local(mac(2)));
    fixture.command(delete_port("vm1", Some(mac(2)))).unwrap();
    assert!(fixture.is_local(mac(1)) && fixture.fdb(mac(2)).is_none());
    fixture.command(delete_port("vm1", None)).unwrap();
    assert_eq!(fixture.fdb(mac(1)), None);
    let state = saved(&mut fixture).unwrap();
    assert!(state.ports.is_empty() && state.endpoints.is_empty());
    fixture.command(delete_port("vm1", None)).unwrap();
    fixture.command(delete_port("vm1", Some(mac(1)))).unwrap();
    assert!(fixture.outputs.is_empty(), "gone already");
}

/// A declared endpoint that lost to another host is not claimed again by the next one's declaration.
#[test]
fn declaring_one_endpoint_leaves_the_others_alone() {
    let mut fixture = Fixture::new();
    fixture
        .command(add_port("blue", "tap1", endpoint(1, &[], false)))
        .unwrap();
    fixture.announce(rt2(V2, mac(1), None, 1));
    fixture
        .command(add_port("blue", "tap1", endpoint(2, &[], false)))
        .unwrap();
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
}

#[test]
fn objects_survive_a_restart() {
    let mut fixture = Fixture::new();
    fixture.command(add_bd("red", 200)).unwrap();
    fixture
        .command(add_port("red", "vm1", endpoint(1, &["fd00::1"], true)))
        .unwrap();
    fixture.link(2, "eth0");
    fixture
        .command(Command::Attach(device("eth0"), Some(XdpMode::Generic)))
        .unwrap();
    let state = saved(&mut fixture).unwrap();
    let text = serde_json::to_string(&state).unwrap();
    let state: State = serde_json::from_str(&text).unwrap();
    assert_eq!(state, fixture.core.state);

    let mut again = Fixture::start(config(), state);
    assert_eq!(again.core.bds(None).unwrap(), {
        let mut bds = fixture.core.bds(None).unwrap();
        for bd in &mut bds {
            bd.ports = 0;
        }
        bds
    });
    again.link(2, "eth0");
    again.link(20, "vm1");
    let macs = again.core.macs(Some(&name("red")), again.now).unwrap();
    assert_eq!((macs.len(), macs[0].sticky), (1, true));
    assert_eq!(again.core.uplinks()[0].xdp, "generic");
}

/// A state file of an earlier version, with RD indexes alone.
#[test]
fn old_state_is_read() {
    let state: State = serde_json::from_str(r#"{"rd_index":{"blue":9}}"#).unwrap();
    let fixture = Fixture::start(config(), state);
    assert_eq!(fixture.core.bds(None).unwrap()[0].rd, "198.18.0.10:9");
}

#[test]
fn the_loopback_is_no_port() {
    let mut fixture = Fixture::new();
    let error = fixture.command(add_port("blue", "lo", None)).unwrap_err();
    assert_eq!(error, CommandError::Loopback);
}

#[test]
fn reload_touches_only_what_the_file_owns() {
    let mut fixture = Fixture::new();
    fixture.command(add_bd("red", 200)).unwrap();
    fixture.link(20, "vm1");
    fixture
        .command(add_port("red", "vm1", endpoint(1, &[], false)))
        .unwrap();
    fixture.frame(TAP1, mac(2));
    fixture.sent();
    fixture
        .command(Command::Reload(Box::new(config())))
        .unwrap();
    assert!(
        fixture.outputs.is_empty(),
        "the same file: {:?}",
        fixture.outputs
    );

    let mut new = config();
    new.bds[0].ports = vec![pattern("tap2", None)];
    new.bds.push(BdConfig::new(name("green"), vni(300)));
    new.bgp.peers.push(peer(101));
    fixture
        .command(Command::Reload(Box::new(new.clone())))
        .unwrap();
    let peers = |output: &Output| matches!(output, Output::Peers(peers) if peers.len() == 2);
    assert!(fixture.outputs.iter().any(peers));
    assert_eq!(fixture.fdb(mac(2)), None, "tap1 is no port any more");
    assert_eq!(fixture.core.bds(None).unwrap().len(), 3);
    let red = fixture.core.macs(Some(&name("red")), fixture.now).unwrap();
    assert_eq!(red.len(), 1);

    // The file takes the name; the other's VNI goes with it.
    fixture.outputs.clear();
    new.bds.push(BdConfig::new(name("red"), vni(201)));
    fixture
        .command(Command::Reload(Box::new(new.clone())))
        .unwrap();
    let vnis: Vec<_> = fixture
        .core
        .bds(None)
        .unwrap()
        .into_iter()
        .map(|bd| (bd.name, bd.vni))
        .collect();
    assert!(vnis.contains(&("red".to_owned(), 201)));
    refused_after(&mut fixture, Command::DeleteBd(name("red")));
    // And gives it back.
    new.bds.pop();
    fixture.command(Command::Reload(Box::new(new))).unwrap();
    let vnis: Vec<_> = fixture
        .core
        .bds(None)
        .unwrap()
        .into_iter()
        .map(|bd| (bd.name, bd.vni))
        .collect();
    assert!(vnis.contains(&("red".to_owned(), 200)));
}

/// RFC 7432 §7.9: an RD is of one bridge domain. The file may give the number of an automatic one away.
#[test]
fn an_explicit_rd_evicts_an_automatic_one() {
    let mut fixture = Fixture::new();
    let rd = |fixture: &Fixture, bd: &str| {
        let bds = fixture.core.bds(Some(&name(bd))).unwrap();
        bds[0].rd.clone()
    };
    assert_eq!(rd(&fixture, "blue"), format!("{US}:1"));
    fixture.frame(TAP1, mac(1));
    fixture.sent();
    let mut new = config();
    new.bds.push(BdConfig {
        rd: Some(RouteDistinguisher::ipv4(US, 1)),
        ..BdConfig::new(name("green"), vni(300))
    });
    fixture.command(Command::Reload(Box::new(new))).unwrap();
    assert_eq!(rd(&fixture, "green"), format!("{US}:1"));
    assert_eq!(rd(&fixture, "blue"), format!("{US}:2"));
    let sent = fixture.sent();
    let routes: usize = sent.announce.iter().map(|(_, routes)| routes.len()).sum();
    assert_eq!((routes, sent.withdraw.len()), (3, 1), "{sent:?}");
    assert_eq!(fixture.core.adj_out.routes().count(), 3);
}

/// Two bridge domains exchange their RDs: both stay announced.
#[test]
fn rds_change_hands() {
    let with = |blue, green| {
        let mut config = config();
        config.bds[0].rd = Some(RouteDistinguisher::ipv4(US, blue));
        config.bds.push(BdConfig {
            rd: Some(RouteDistinguisher::ipv4(US, green)),
            ..BdConfig::new(name("green"), vni(300))
        });
        config
    };
    let mut fixture = Fixture::start(with(5, 6), State::default());
    assert_eq!(fixture.core.adj_out.routes().count(), 2);
    fixture
        .command(Command::Reload(Box::new(with(6, 5))))
        .unwrap();
    assert_eq!(fixture.core.adj_out.routes().count(), 2);
    // One that is new takes the RD of one that keeps on under another.
    let mut third = with(7, 5);
    third.bds.insert(
        0,
        BdConfig {
            rd: Some(RouteDistinguisher::ipv4(US, 6)),
            ..BdConfig::new(name("red"), vni(400))
        },
    );
    fixture.command(Command::Reload(Box::new(third))).unwrap();
    assert_eq!(fixture.core.adj_out.routes().count(), 3);
}

fn refused_after(fixture: &mut Fixture, command: Command) {
    fixture.outputs.clear();
    refused(fixture, command, &["configuration file"]);
}

#[test]
fn reload_of_what_is_fixed_is_refused() {
    let mut fixture = Fixture::new();
    type Change = (&'static str, fn(&mut Config));
    let changes: [Change; 3] = [
        ("vtep.address", |config| config.vtep.addresses = vec![V1]),
        ("vtep.router_id", |config| config.vtep.router_id = V1),
        ("bgp.asn", |config| config.bgp.asn = Asn(1)),
    ];
    for (what, change) in changes {
        let mut new = config();
        new.bds.clear();
        change(&mut new);
        refused(
            &mut fixture,
            Command::Reload(Box::new(new)),
            &[what, "restart"],
        );
        assert_eq!(fixture.core.bds(None).unwrap().len(), 1);
    }
}

/// RR-003: a bridge domain or target that is new finds the routes that are there.
#[test]
fn rr_003_routes_appear_at_once() {
    let mut fixture = Fixture::new();
    let mut foreign = originator(V1);
    let (route, attributes) = foreign.mac_ip(mac(9), Default::default(), None);
    let mut attributes = Attributes::clone(&attributes);
    attributes.ext_communities[0] = "65000:5".parse::<RouteTarget>().unwrap().into();
    fixture.announce((route, attributes));
    assert_eq!(fixture.fdb(mac(9)), None);
    let mut new = config();
    let import = |text: &str| Some(vec![text.parse().unwrap()]);
    new.bds[0].rt_import = import("65000:5");
    fixture
        .command(Command::Reload(Box::new(new.clone())))
        .unwrap();
    assert_eq!(fixture.vtep_of(mac(9)), Some(V1));
    new.bds[0].rt_import = import("65000:6");
    fixture.command(Command::Reload(Box::new(new))).unwrap();
    assert_eq!(fixture.fdb(mac(9)), None);
    assert!(fixture.core.intent.vteps.is_empty());

    fixture.announce({
        let other = Originator::new(
            V1,
            vni(200),
            RouteDistinguisher::ipv4(V1, 8),
            &["65000:200".parse().unwrap()],
        );
        let (route, attributes) = other.imet();
        (route, Attributes::clone(&attributes))
    });
    fixture.command(add_bd("red", 200)).unwrap();
    let flood = fixture.core.flood(Some(&name("red"))).unwrap();
    assert_eq!(flood[0].vteps.len(), 1);
}

/// Another RD or export target: everything is announced anew, and the old withdrawn.
#[test]
fn reload_with_another_rd() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    fixture.sent();
    let mut new = config();
    new.bds[0].rd = Some("1.2.3.4:5".parse().unwrap());
    fixture
        .command(Command::Reload(Box::new(new.clone())))
        .unwrap();
    let sent = fixture.sent();
    let announced: usize = sent.announce.iter().map(|(_, routes)| routes.len()).sum();
    assert_eq!((sent.withdraw.len(), announced), (3, 3));
    assert!(fixture.is_local(mac(1)));
    new.bds[0].rt_export = Some(vec!["65000:7".parse().unwrap()]);
    fixture.command(Command::Reload(Box::new(new))).unwrap();
    let sent = fixture.sent();
    let announced: usize = sent.announce.iter().map(|(_, routes)| routes.len()).sum();
    assert_eq!((sent.withdraw.len(), announced), (0, 3), "same keys");
}

/// The index of a bridge domain that is gone gets another generation.
#[test]
fn generations() {
    let mut fixture = Fixture::new();
    fixture.command(add_bd("red", 200)).unwrap();
    let old = *fixture.core.intent.vnis.get(200).unwrap();
    fixture.command(Command::DeleteBd(name("red"))).unwrap();
    fixture.advance(Duration::from_secs(10));
    fixture.command(add_bd("red", 201)).unwrap();
    let new = *fixture.core.intent.vnis.get(201).unwrap();
    assert_eq!(new.bd, old.bd);
    assert_eq!(new.generation, old.generation + 1);
    assert_eq!(fixture.core.intent.vnis.get(200), None);
}

#[test]
fn views_of_a_bridge_domain_that_is_not() {
    let fixture = Fixture::new();
    let green = name("green");
    let bd = Some(&green);
    assert!(fixture.core.routes(bd, &HashSet::default()).is_err());
    assert!(fixture.core.macs(bd, fixture.now).is_err());
    assert!(fixture.core.neighbors(bd, fixture.now).is_err());
    assert!(fixture.core.vteps(bd).is_err());
    assert!(fixture.core.flood(bd).is_err());
    assert!(fixture.core.ports(bd).is_err());
}

/// What a client can make the agent keep is bounded.
#[test]
fn there_is_an_end_to_additions() {
    let mut fixture = Fixture::new();
    fixture.core.config.vtep.max_macs = 3;
    for last in 1..=3 {
        let add = add_port("blue", "vm1", endpoint(last, &[], false));
        fixture.command(add).unwrap();
    }
    fixture.outputs.clear();
    let add = add_port("blue", "vm1", endpoint(4, &[], false));
    refused(&mut fixture, add, &["3 endpoints", "max_macs"]);
    // As if so many had been added: one by one takes a while.
    let port = fixture.core.state.ports[0].clone();
    let full = vtep_common::abi::MAX_PORTS as usize;
    fixture.core.state.ports.resize(full, port);
    refused(
        &mut fixture,
        add_port("blue", "more", None),
        &["4096 ports"],
    );
    for number in 2..vtep_common::abi::MAX_BDS as u16 {
        fixture
            .core
            .names
            .insert(name(&format!("b{number}")), BdId(number));
    }
    refused(&mut fixture, add_bd("more", 9999), &["4096 bridge domains"]);
}
