use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::kernel::Nic;

fn healthy() -> Facts {
    let agent = AgentFacts {
        bgp: read(json!({"asn": 65000, "router_id": "198.18.0.1", "peers": [peer("established")]})),
        uplinks: read(
            json!([{"name": "eth0", "ifindex": 2, "xdp": "native", "state": "up",
                              "mtu": 1600}]),
        ),
        ports: read(
            json!([{"name": "tap1", "ifindex": 7, "bd": "blue", "vlan": null,
                            "state": "up", "rx_packets": 0, "tx_packets": 0, "drops": 0,
                            "rx_bytes": 0, "tx_bytes": 0}]),
        ),
        vteps: read(json!([{"address": "198.18.0.2", "bds": ["blue"], "macs": 3,
                            "reachable": true}])),
        counters: Default::default(),
    };
    let nics = [("eth0", nic(1600)), ("tap1", nic(1500))];
    Facts {
        host: HostFacts {
            obstacles: Vec::new(),
            tcx: true,
            jit: Some(true),
            pin_dir: "/sys/fs/bpf/vtep".into(),
            bpffs: true,
            clock_synchronised: Some(true),
            signatures: None,
            configuration: None,
        },
        nics: nics.map(|(name, nic)| (name.to_owned(), Some(nic))).into(),
        agent: Ok(agent),
    }
}

fn nic(mtu: u32) -> Nic {
    Nic {
        ifindex: 2,
        mtu,
        up: true,
        offloads: Some(BTreeSet::from(["rx-gro".to_owned()])),
        native_xdp: Some(true),
    }
}

fn peer(state: &str) -> Value {
    json!({"address": "198.18.0.100", "asn": 65000, "state": state, "uptime_s": null,
           "routes_received": 3, "routes_accepted": 2, "routes_sent": 1, "last_error": null})
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Severity, check and subject of what is found when one thing is wrong.
fn found(wrong: impl FnOnce(&mut Facts)) -> Vec<(Severity, &'static str, Option<String>)> {
    let mut facts = healthy();
    wrong(&mut facts);
    examine(&facts)
        .into_iter()
        .map(|finding| {
            assert!(!finding.problem.is_empty() && !finding.remedy.is_empty());
            (finding.severity, finding.check, finding.subject)
        })
        .collect()
}

fn agent(facts: &mut Facts) -> &mut AgentFacts {
    facts.agent.as_mut().unwrap()
}

fn one(
    severity: Severity,
    check: &'static str,
    subject: &str,
) -> Vec<(Severity, &'static str, Option<String>)> {
    let subject = (!subject.is_empty()).then(|| subject.to_owned());
    vec![(severity, check, subject)]
}

#[test]
fn nothing_is_wrong() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn the_machine() {
    use Severity::{Error, Note, Warning};
    let obstacle = |facts: &mut Facts| facts.host.obstacles.push("no CAP_BPF".to_owned());
    assert_eq!(found(obstacle), one(Error, "kernel", ""));
    assert_eq!(found(|f| f.host.tcx = false), one(Note, "tcx", ""));
    assert_eq!(found(|f| f.host.jit = Some(false)), one(Warning, "jit", ""));
    assert_eq!(found(|f| f.host.bpffs = false), one(Warning, "bpffs", ""));
    let clock = |facts: &mut Facts| facts.host.clock_synchronised = Some(false);
    assert_eq!(found(clock), one(Note, "clock", ""));
    let file = |facts: &mut Facts| facts.host.configuration = Some("1:1: vni is 0".to_owned());
    assert_eq!(found(file), one(Error, "configuration", ""));
    let signatures = |facts: &mut Facts| facts.host.signatures = Some("no TCP-AO".to_owned());
    assert_eq!(found(signatures), one(Error, "tcp_ao", ""));
}

#[test]
fn devices() {
    use Severity::{Error, Note, Warning};
    let offload = |on: &'static [&'static str]| {
        move |facts: &mut Facts| {
            let names = on.iter().map(|name| (*name).to_owned()).collect();
            let nic = facts.nics.get_mut("eth0").unwrap().as_mut().unwrap();
            nic.offloads = Some(names);
        }
    };
    assert_eq!(
        found(offload(&["rx-gro", "rx-lro"])),
        one(Warning, "lro", "eth0")
    );
    assert_eq!(found(offload(&[])), one(Warning, "gro", "eth0"));
    let strip = offload(&["rx-gro", "rx-vlan-hw-parse"]);
    assert_eq!(found(strip), one(Note, "vlan_strip", "eth0"));
    let tc = |facts: &mut Facts| agent(facts).uplinks[0].xdp = "off".to_owned();
    assert_eq!(found(tc), one(Note, "xdp", "eth0"));
    let waiting = |facts: &mut Facts| agent(facts).uplinks[0].state = "waiting".to_owned();
    assert_eq!(found(waiting), one(Error, "uplink", "eth0"));
    assert_eq!(
        found(|f| agent(f).uplinks.clear()),
        one(Error, "uplink", "")
    );
    let down = |facts: &mut Facts| agent(facts).ports[0].state = "down".to_owned();
    assert_eq!(found(down), one(Warning, "port", "tap1"));
}

/// 1500 and 50 bytes fit 1550, and not a byte less.
#[test]
fn mtu_of_a_port() {
    let uplink = |mtu| {
        move |facts: &mut Facts| {
            facts.nics.get_mut("eth0").unwrap().as_mut().unwrap().mtu = mtu;
        }
    };
    assert_eq!(found(uplink(1550)), []);
    assert_eq!(found(uplink(1549)), one(Severity::Warning, "mtu", "tap1"));
}

#[test]
fn the_agent() {
    use Severity::{Error, Note, Warning};
    let idle = |facts: &mut Facts| agent(facts).bgp.peers = vec![read(peer("idle"))];
    assert_eq!(found(idle), one(Error, "bgp", "198.18.0.100"));
    assert_eq!(
        found(|f| agent(f).bgp.peers.clear()),
        one(Warning, "bgp", "")
    );
    let import = |facts: &mut Facts| agent(facts).bgp.peers[0].routes_accepted = 0;
    assert_eq!(found(import), one(Warning, "import", "198.18.0.100"));
    let vtep = |facts: &mut Facts| agent(facts).vteps[0].reachable = false;
    assert_eq!(found(vtep), one(Error, "vtep", "198.18.0.2"));
    let drops = |facts: &mut Facts| {
        let drops = &mut agent(facts).counters.drops;
        drops.extend([("unknown_vni".to_owned(), 1), ("mac_limit".to_owned(), 0)]);
    };
    assert_eq!(found(drops), one(Note, "drops", "unknown_vni"));
    let fill = |entries| {
        move |facts: &mut Facts| {
            let fill = crate::view::MapFill {
                entries,
                capacity: 10,
            };
            agent(facts).counters.maps.insert("fdb".to_owned(), fill);
        }
    };
    assert_eq!(found(fill(7)), []);
    assert_eq!(found(fill(8)), one(Warning, "map", "fdb"));
    let single = |facts: &mut Facts| {
        let (entries, capacity) = (1, 1);
        let fill = crate::view::MapFill { entries, capacity };
        agent(facts).counters.maps.insert("settings".into(), fill);
    };
    assert_eq!(found(single), []);
    let full = |facts: &mut Facts| {
        fill(10)(facts);
        agent(facts).counters.unwritten.insert("fdb".to_owned(), 3);
    };
    assert_eq!(found(full), one(Error, "map", "fdb"));
    let damaged = |facts: &mut Facts| {
        let differences = &mut agent(facts).counters.audit_differences;
        differences.insert("fdb".to_owned(), 2);
    };
    assert_eq!(found(damaged), one(Warning, "audit", "fdb"));
    let gone = |facts: &mut Facts| facts.agent = Err("cannot connect".to_owned());
    assert_eq!(found(gone), one(Error, "agent", ""));
}

/// The worst comes first, in a form that says what to do.
#[test]
fn order_and_text() {
    let mut facts = healthy();
    facts.host.tcx = false;
    agent(&mut facts).bgp.peers = vec![read(peer("active"))];
    let findings = examine(&facts);
    assert_eq!(findings[0].severity, Severity::Error);
    let text = findings[0].to_string();
    assert!(text.starts_with("error: 198.18.0.100: the session is active; no error yet\n  -> "));
}

/// What the agent itself says of a session leads to what to do about it.
#[test]
fn remedies_of_sessions() {
    use crate::{
        bgp::{
            fsm::{Cause, Refusal},
            wire::{Family, Notification},
        },
        config::PeerAsn,
        types::Asn,
    };
    let remedy = |state: &str, error: Option<String>| {
        let mut facts = healthy();
        agent(&mut facts).bgp.peers = vec![read(peer(state))];
        agent(&mut facts).bgp.peers[0].last_error = error;
        let findings = examine(&facts);
        findings[0].remedy.clone()
    };
    let other_as = Refusal::PeerAs {
        says: Asn(65001),
        expected: PeerAsn::Internal,
    };
    let no_family = Refusal::NoFamily {
        ours: vec![Family::EVPN],
        theirs: vec![Family::IPV4_UNICAST],
    };
    let too_many = Notification::max_prefixes(Family::EVPN, 10);
    let hard = Notification::hard_reset(&too_many);
    let shutdown = Notification::administrative_shutdown("tonight");
    for (cause, text) in [
        (Cause::Refused(other_as), "`asn` of the peer"),
        (Cause::Received(Notification::BAD_PEER_AS), "`asn` of [bgp]"),
        (Cause::Refused(no_family), "`families`"),
        (
            Cause::Received(Notification::new(2, 7)),
            "compare `families`",
        ),
        (Cause::Received(Notification::BAD_IDENTIFIER), "`router_id`"),
        (Cause::Sent(too_many.clone()), "`max_prefixes`"),
        (Cause::Sent(hard.clone()), "`max_prefixes`"),
        (Cause::Received(hard), "raise its limit"),
        (Cause::Sent(Notification::new(1, 1)), "speaks no BGP"),
        (Cause::Sent(Notification::HOLD_TIMER_EXPIRED), "MTU"),
        (Cause::Sent(Notification::BFD_DOWN), "under `bfd`"),
        (Cause::Received(shutdown), "operator"),
        (
            Cause::Received(Notification::CONNECTION_REJECTED),
            "compare addresses",
        ),
        (Cause::Connect("timed out".to_owned()), "ping"),
        (
            Cause::Connect("Connection refused (os error 111)".to_owned()),
            "firewall",
        ),
        (
            Cause::Transport("closed by the peer".to_owned()),
            "`local_address`",
        ),
        (Cause::Sent(Notification::new(99, 0)), "compare AS numbers"),
    ] {
        let found = remedy("active", Some(cause.to_string()));
        assert!(found.contains(text), "{cause}: {found}");
    }
    assert!(remedy("connect", None).contains("ping"));
    assert!(remedy("opensent", None).contains("`ttl_security`"));
}
