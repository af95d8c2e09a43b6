use clap::CommandFactory as _;
use serde_json::json;

use super::*;
use crate::control::Table;

fn parse(line: &str) -> Result<Args, String> {
    let words = std::iter::once("vtep-agent").chain(line.split_whitespace());
    Args::try_parse_from(words).map_err(|error| usage::one_line(&error))
}

#[test]
fn definition_is_consistent() {
    Args::command().debug_assert();
}

/// Every line of the documentation's command list.
#[test]
fn commands() {
    for line in [
        "run --config vtep.toml",
        "run --config vtep.toml --log-format json --log-level info,vtep_agent::bgp=debug",
        "run --config vtep.toml --record recording --record-limit 512M",
        "replay recording",
        "replay recording --until 7 --show macs --bd blue --json",
        "replay recording --turns --force",
        "check --config vtep.toml --json",
        "attach eth0",
        "attach eth0 --xdp native --socket /run/x.sock",
        "--socket /run/x.sock detach eth0",
        "bd add blue --vni 100",
        "bd add blue --vni 100 --set downstream_vni=true --set flood=none",
        "bd del blue",
        "port add tap1 --bd blue",
        "port add tap1 --bd blue --vlan 10 --mac 02:00:00:00:00:01 --ip 10.0.0.1 --ip 2001:db8::1 --sticky",
        "port del tap1",
        "port del tap1 --vlan 10 --mac 02:00:00:00:00:01",
        "show bgp",
        "show uplinks --bd blue",
        "show routes --bd blue --json",
        "show bds",
        "show ports",
        "show macs",
        "show neighbors",
        "show vteps",
        "show flood",
        "show counters --json",
        "show uplinks",
        "reload",
        "show status --json",
        "drain",
        "drain --time 30 --no-wait",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn usage_errors_are_one_line() {
    for (line, expected) in [
        (
            "",
            "'vtep-agent' requires a subcommand but one was not provided \
              [subcommands: run, check, attach, detach, bd, port, show, clear, reload, drain, trace, replay, doctor]; \
              usage: vtep-agent [OPTIONS] <COMMAND>",
        ),
        (
            "bd",
            "'vtep-agent bd' requires a subcommand but one was not provided \
                [subcommands: add, del]; usage: vtep-agent bd [OPTIONS] <COMMAND>",
        ),
        (
            "chek",
            "unrecognized subcommand 'chek'; tip: a similar subcommand exists: 'check'; \
                  usage: vtep-agent [OPTIONS] <COMMAND>",
        ),
        (
            "bd add blue",
            "the following required arguments were not provided: --vni <N>; \
                         usage: vtep-agent bd add --vni <N> <NAME>",
        ),
        (
            "bd add blue --vni 0",
            "invalid value '0' for '--vni <N>': \
                                 not a usable VNI (expected 1 to 16777215)",
        ),
        (
            "bd add blue --vni 100 --set learning",
            "invalid value 'learning' for '--set <KEY=VALUE>': \
                                 expected KEY=VALUE, such as learning=false",
        ),
        (
            "port add tap1 --bd blue --vlan 4095",
            "invalid value '4095' for '--vlan <N>': \
                                                 4095 is not in 1..=4094",
        ),
        (
            "port add tap1 --bd blue --mac x",
            "invalid value 'x' for '--mac <MAC>': not a MAC address \
                                             (expected six hexadecimal bytes such as 02:00:00:00:00:01)",
        ),
        (
            "port add a-name-that-is-too-long --bd blue",
            "invalid value 'a-name-that-is-too-long' for '<DEV>': \"a-name-that-is-too-long\" is not a \
          valid network device name: expected 1 to 15 bytes without '/', ':' or white space",
        ),
        (
            "show fdb",
            "invalid value 'fdb' for '<TABLE>' [possible values: bgp, routes, bds, ports, \
                      macs, neighbors, vteps, flood, counters, uplinks, status]",
        ),
        (
            "run --record x --record-limit 1K",
            "invalid value '1K' for '--record-limit <SIZE>': expected 1M or more, such as 512M or 4G",
        ),
        (
            "attach eth0 --xdp fast",
            "invalid value 'fast' for '--xdp <MODE>' \
                                    [possible values: auto, native, generic, off]",
        ),
    ] {
        let error = parse(line).map(|_| ()).unwrap_err();
        assert_eq!(error, expected, "{line}");
    }
    for line in [
        "port add tap1 --bd blue --sticky",
        "port add tap1 --bd blue --ip 10.0.0.1",
    ] {
        let error = parse(line).map(|_| ()).unwrap_err();
        assert!(
            error.contains("not provided: --mac <MAC>"),
            "{line}: {error}"
        );
    }
}

/// Refused before the agent is asked, hence status 2.
#[test]
fn requests_that_no_agent_could_carry_out() {
    for line in [
        "port add tap* --bd blue",
        "port add tap1 --bd blue --mac ff:ff:ff:ff:ff:ff",
        "port add tap1 --bd blue --mac 02:00:00:00:00:01 --ip 224.0.0.1",
        "port del tap1 --mac 00:00:00:00:00:00",
    ] {
        let args = parse(&format!("{line} --socket /nonexistent")).unwrap();
        assert!(matches!(run(args), Err(Failure::Usage(_))), "{line}");
    }
    let args = parse("reload --socket /nonexistent").unwrap();
    assert!(matches!(run(args), Err(Failure::Failed(_))));
}

/// The examples of the documentation's JSON section, with the fields that were added since.
fn examples() -> [(Table, Value); 11] {
    [
        (
            Table::Bgp,
            json!({"asn": 65000, "router_id": "198.18.0.1", "restarting": false, "peers": [
            {"address": "198.18.0.100", "interface": null, "dynamic": true, "asn": 65000, "local_as": null, "state": "established", "uptime_s": 12,
             "hostname": "rr1",
             "routes_received": 9, "routes_accepted": 9, "routes_sent": 3, "last_error": null,
             "routes_stale": 0, "hold_time_s": 90, "router_id": "198.18.0.2",
             "families": ["evpn"], "capabilities": ["route_refresh"], "restart_time_s": null,
             "graceful_restart": null,
             "bfd": {"state": "up", "state_s": 12, "remote_state": "up", "multihop": true, "transmit_ms": 300,
              "detection_ms": 900, "last_down": null, "last_down_s": null, "problem": null},
             "rt_constraint": null},
            {"address": null, "interface": "eth1", "dynamic": false, "asn": null, "local_as": 65200, "state": "active", "uptime_s": null,
             "hostname": null,
             "routes_received": 0, "routes_accepted": 0, "routes_sent": 0,
             "last_error": "connection\nrefused",
             "routes_stale": 0, "hold_time_s": null, "router_id": null,
             "families": [], "capabilities": [], "restart_time_s": 120, "bfd": null,
             "rt_constraint": null,
             "graceful_restart": {"notification": true, "restarting": false,
                "forwarding_preserved": true, "long_lived_s": null, "end_of_rib": false,
                "stale_reason": "the peer is away, within its restart time"}}]}),
        ),
        (
            Table::Routes,
            json!([{"type": 2, "rd": "198.18.0.2:3",
            "key": "[2]:[0]:[48]:[02:00:00:00:00:02]:[32]:[10.0.0.2]", "next_hop": "198.18.0.2",
            "peer": "198.18.0.100", "path_id": null, "best": true, "installed": true,
            "stale": false, "stale_reason": null, "reason": null,
            "attributes": {"route_targets": ["65000:100"], "vni": 100, "sequence": 0,
                "sticky": false, "esi": null, "as_path": null, "local_pref": 100,
                "originator_id": null, "encapsulations": ["vxlan"]}}]),
        ),
        (
            Table::Bds,
            json!([{"name": "blue", "vni": 100, "rd": "198.18.0.1:2",
            "rt_import": ["*:100"], "rt_export": ["65000:100"], "ports": 2, "local_macs": 2,
            "remote_macs": 5, "vteps": 3}]),
        ),
        (
            Table::Ports,
            json!([{"name": "tap-vm1", "ifindex": 7, "bd": "blue", "vlan": null,
                    "source_filter": false,
            "state": "up", "rx_packets": 1, "tx_packets": 1, "drops": 0, "rx_bytes": 60,
            "tx_bytes": 60}]),
        ),
        (
            Table::Macs,
            json!([{"bd": "blue", "vni": 100, "mac": "02:00:00:00:00:02",
            "origin": "remote", "port": null, "vtep": "198.18.0.2", "esi": null, "seq": 0,
            "sticky": false, "duplicate": false, "duplicate_action": null, "moves": null,
            "age_s": 3},
            {"bd": "blue", "vni": 100, "mac": "02:00:00:00:00:01", "origin": "declared",
            "port": "tap-vm1", "vtep": null, "esi": null, "seq": 12, "sticky": true,
            "duplicate": true, "duplicate_action": "freeze", "moves": 5, "age_s": 7400}]),
        ),
        (
            Table::Neighbors,
            json!([{"bd": "blue", "ip": "10.0.0.2", "mac": "02:00:00:00:00:02",
            "origin": "learned", "source": "dhcp", "lease_s": 3599,
            "router": false, "override": false, "immutable": false,
            "anycast": false, "duplicate": true, "duplicate_action": "block", "moves": 5}]),
        ),
        (
            Table::Vteps,
            json!([{"address": "198.18.0.2", "bds": ["blue"], "macs": 1,
            "reachable": true, "metric": 20}]),
        ),
        (
            Table::Flood,
            json!([{"bd": "blue", "vni": 100, "ports": ["tap-vm1"],
            "vteps": [{"address": "198.18.0.2", "vni": 100, "pruned": ["unknown"]}],
            "replicators": [{"address": "198.18.0.9", "vni": 100, "state": "active"}]}]),
        ),
        (
            Table::Counters,
            json!({"drops": {"unknown_vni": 4, "no_path": 0},
            "rx": {"packets": 0, "bytes": 0}, "tx": {"packets": 7, "bytes": 700},
            "suppressed": {"arp": 1, "nd": 2}, "flood_copies": 3, "unwritten": {"fdb": 5},
            "maps": {"fdb": {"entries": 9, "capacity": 10}}, "audits": 2,
            "audit_differences": {"fdb": 6}}),
        ),
        (
            Table::Uplinks,
            json!([{"name": "eth0", "ifindex": 2, "xdp": "native", "state": "up",
            "mtu": 9000}]),
        ),
        (
            Table::Status,
            json!({"version": "0.1.0", "state": "draining", "remaining_s": 7, "ready": false,
            "reasons": ["draining: everything is withdrawn"]}),
        ),
    ]
}

/// The types that the agent serialises have the fields of the documented JSON, under these names.
#[test]
fn views_are_the_documented_json() {
    fn same<T: serde::de::DeserializeOwned + serde::Serialize>(json: &Value) {
        let view: T = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(view).unwrap(), *json);
    }
    use crate::view::*;
    for (table, json) in &examples() {
        match table {
            Table::Bgp => same::<Bgp>(json),
            Table::Routes => same::<Vec<Route>>(json),
            Table::Bds => same::<Vec<Bd>>(json),
            Table::Ports => same::<Vec<Port>>(json),
            Table::Macs => same::<Vec<MacEntry>>(json),
            Table::Neighbors => same::<Vec<Neighbor>>(json),
            Table::Vteps => same::<Vec<Vtep>>(json),
            Table::Flood => same::<Vec<Flood>>(json),
            Table::Counters => same::<Counters>(json),
            Table::Uplinks => same::<Vec<Uplink>>(json),
            Table::Status => same::<Status>(json),
        }
    }
}

/// What an operator looks at after a restart, of the agent or of a peer.
#[test]
fn restarts_in_tables() {
    let mut examples = examples().into_iter();
    let (_, mut bgp) = examples.next().unwrap();
    bgp["restarting"] = json!(true);
    let text = tables::render(Table::Bgp, bgp).unwrap();
    assert!(
        text.starts_with("AS 65000, router id 198.18.0.1, restarted: "),
        "{text}"
    );
    let (_, mut routes) = examples.next().unwrap();
    routes[0]["stale"] = json!(true);
    routes[0]["stale_reason"] = json!("the peer is away");
    let text = tables::render(Table::Routes, routes).unwrap();
    assert!(text.contains("*>S "), "{text}");
    assert!(text.contains("stale: the peer is away"), "{text}");
}

/// RFC 4684: what either side asks for.
#[test]
fn memberships_in_tables() {
    let mut examples = examples().into_iter();
    let (_, mut bgp) = examples.next().unwrap();
    let asked: Vec<_> = (0..10).map(|n| format!("65000:65000:{n}")).collect();
    bgp["peers"][0]["rt_constraint"] = json!({"received": 300, "sent": 0, "complete": false,
        "received_targets": asked, "sent_targets": []});
    let text = tables::render(Table::Bgp, bgp).unwrap();
    let expected = "\n198.18.0.100 asks for 65000:65000:0 65000:65000:1 65000:65000:2 65000:65000:3 \
        65000:65000:4 65000:65000:5 65000:65000:6 65000:65000:7 and 292 more (not all yet: it gets no \
        routes)\n198.18.0.100 is asked for no routes\n";
    assert!(text.ends_with(expected), "{text}");
}

/// RFC 7911: which of a peer's paths it is.
#[test]
fn several_paths_in_tables() {
    let mut examples = examples().into_iter();
    let (_, mut routes) = examples.nth(1).unwrap();
    routes[0]["path_id"] = json!(0);
    let text = tables::render(Table::Routes, routes).unwrap();
    assert!(text.contains("  198.18.0.100 path 0  "), "{text}");
}

#[test]
fn tables_for_people() {
    let mut text = String::new();
    for (table, json) in examples() {
        let rendered = tables::render(table, json).unwrap();
        text += &format!("$ vtep-agent show {}\n{rendered}\n", table.name());
    }
    insta::assert_snapshot!(text, @r"
    $ vtep-agent show bgp
    AS 65000, router id 198.18.0.1
    AS 65200 to eth1
    * dynamic

    PEER           NAME     AS  STATE                UPTIME  RECEIVED  ACCEPTED  SENT  LAST ERROR
    198.18.0.100*  rr1   65000  established, BFD up     12s         9         9     3  -
    eth1           -         -  active                    -         0         0     0  connection refused

    $ vtep-agent show routes
    * best, > in use, S stale

        RD            ROUTE                                             NEXT HOP    PEER          VNI  SEQ  TARGETS    REASON
    *>  198.18.0.2:3  [2]:[0]:[48]:[02:00:00:00:00:02]:[32]:[10.0.0.2]  198.18.0.2  198.18.0.100  100    0  65000:100  -

    $ vtep-agent show bds
    NAME  VNI  RD            IMPORT  EXPORT     PORTS  LOCAL MACS  REMOTE MACS  VTEPS
    blue  100  198.18.0.1:2  *:100   65000:100      2           2            5      3

    $ vtep-agent show ports
    PORT     VLAN  BD    STATE  RX PACKETS  TX PACKETS  DROPS  FLAGS
    tap-vm1     -  blue  up              1           1      0  -

    $ vtep-agent show macs
    BD    VNI  MAC                ORIGIN    AT          SEQ    AGE  FLAGS
    blue  100  02:00:00:00:00:02  remote    198.18.0.2    0     3s  -
    blue  100  02:00:00:00:00:01  declared  tap-vm1      12  2h03m  sticky duplicate (freeze)

    $ vtep-agent show neighbors
    BD    IP        MAC                ORIGIN   SOURCE  ROUTER  STATE
    blue  10.0.0.2  02:00:00:00:00:02  learned  dhcp    no      duplicate (block)

    $ vtep-agent show vteps
    VTEP        REACHABLE  METRIC  MACS  BDS
    198.18.0.2  yes            20     1  blue

    $ vtep-agent show flood
    BD    VNI  RECEIVER                        ITS VNI
    blue  100  port tap-vm1                          -
    blue  100  VTEP 198.18.0.2 (no unknown)        100
    blue  100  replicator 198.18.0.9 (active)      100

    $ vtep-agent show counters
    COUNTER                               VALUE
    decapsulated packets                      0
    decapsulated bytes                        0
    encapsulated packets                      7
    encapsulated bytes                      700
    suppressed ARP requests                   1
    suppressed neighbour solicitations        2
    flood copies                              3
    audits of the maps                        2
    dropped: unknown_vni                      4
    not written: fdb                          5
    differed: fdb                             6
    entries: fdb                        9 of 10

    $ vtep-agent show uplinks
    UPLINK  XDP     STATE   MTU
    eth0    native  up     9000

    $ vtep-agent show status
    vtep-agent 0.1.0, draining, programs are detached in 7s
    not ready:
      draining: everything is withdrawn
    ");
}

#[test]
fn empty_tables_have_their_header() {
    for (table, json) in examples() {
        if json.is_array() {
            let text = tables::render(table, json!([])).unwrap();
            assert!(text.lines().last().unwrap().contains("  "), "{text}");
        }
    }
}

#[test]
fn data_of_another_shape_is_an_error() {
    let error = tables::render(Table::Bds, json!([{"name": 1}])).unwrap_err();
    assert!(error.to_string().contains("invalid type"), "{error}");
}
