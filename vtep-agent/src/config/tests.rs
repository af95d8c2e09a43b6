mod authentication;
mod bad_values;
mod peers;

use std::fs;

use proptest::prelude::*;

use super::*;

/// The documentation's text, whose first example has every key at its default.
const DOCUMENTATION: &str = include_str!("../../../docs/configuration.md");

/// As little as possible.
const MINIMAL: &str = r#"
[vtep]
address = "198.18.0.1"
[bgp]
asn = 65000
[[bgp.peer]]
address = "198.18.0.100"
asn = 65000
[[bd]]
name = "blue"
vni = 100
"#;

fn parse(text: &str) -> Result<(Config, Vec<String>), String> {
    let (config, warnings) =
        Config::parse(text, "vtep.toml".as_ref()).map_err(|error| error.to_string())?;
    let warnings = warnings.iter().map(ToString::to_string).collect();
    Ok((config, warnings))
}

fn config(text: &str) -> Config {
    parse(text).unwrap().0
}

/// The documentation's TOML blocks.
fn documented() -> Vec<&'static str> {
    let blocks = DOCUMENTATION.split("```toml\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

fn md5(key: &str) -> Option<Authentication> {
    Some(Authentication::Md5(key.to_owned().into()))
}

#[test]
fn documented_example() {
    let (config, warnings) = parse(documented()[0]).unwrap();
    assert_eq!(warnings, [""; 0]);
    let blue = BdConfig {
        ports: vec![
            PortPattern {
                pattern: "tap-vm1".to_owned(),
                vlan: None,
            },
            PortPattern {
                pattern: "tap-vm2".to_owned(),
                vlan: Some(10),
            },
        ],
        ..BdConfig::new("blue".parse().unwrap(), Vni::new(100).unwrap())
    };
    let expected = Config {
        vtep: VtepConfig {
            addresses: vec![Ipv4Addr::new(198, 18, 0, 1)],
            router_id: Ipv4Addr::new(198, 18, 0, 1),
            uplinks: vec!["eth0".parse().unwrap()],
            xdp: XdpMode::Auto,
            port: 4789,
            pin_dir: "/sys/fs/bpf/vtep".into(),
            state_dir: "/var/lib/vtep".into(),
            socket: "/run/vtep/agent.sock".into(),
            socket_group: None,
            metrics: Some("127.0.0.1:9473".parse().unwrap()),
            on_stop: OnStop::Clean,
            drain_time: Duration::from_secs(10),
            unknown_vni: UnknownVni::Drop,
            source_check: SourceCheck::Loose,
            max_macs: 262_144,
            duplicate: DuplicatePolicy::default(),
            duplicate_ip: DuplicateIpPolicy::default(),
        },
        bgp: BgpConfig {
            dynamic: Vec::new(),
            asn: Asn(65000),
            listen: true,
            auto_rt: AutoRt::As,
            auto_rt_import: AutoRtImport::AnyAs,
            arp_nd_flags: true,
            selection_deferral: Duration::from_secs(120),
            peers: vec![PeerConfig {
                local_address: Some("198.18.0.1".parse().unwrap()),
                ..PeerConfig::new(
                    Ipv4Addr::new(198, 18, 0, 100).into(),
                    PeerAsn::Is(Asn(65000)),
                )
            }],
        },
        underlay: UnderlayConfig::new(&[Ipv4Addr::new(198, 18, 0, 1)]),
        bds: vec![blue],
    };
    assert_eq!(config, expected);
}

#[test]
fn defaults() {
    let mut example = config(documented()[0]);
    example.vtep.uplinks.clear();
    example.bgp.peers[0].local_address = None;
    example.bds[0].ports.clear();
    assert_eq!(config(MINIMAL), example);
}

/// DUP-001's N and M, what is done, and for how long; a bridge domain may have its own.
#[test]
fn duplicates() {
    let text = |vtep: &str, bd: &str| {
        format!(
            "[vtep]\naddress = \"198.18.0.1\"\n{vtep}\n[bgp]\nasn = 65000\n\
             [[bd]]\nname = \"blue\"\nvni = 100\n{bd}\n"
        )
    };
    let config = config(&text(
        "duplicate = { action = \"freeze\" }",
        "duplicate = { moves = 3, window = 60, action = \"drop\", recovery = 0 }",
    ));
    let freeze = DuplicatePolicy {
        action: DuplicateAction::Freeze,
        ..DuplicatePolicy::default()
    };
    assert_eq!(config.vtep.duplicate, freeze);
    let drop = DuplicatePolicy {
        moves: 3,
        window: Duration::from_secs(60),
        action: DuplicateAction::Drop,
        recovery: None,
    };
    assert_eq!(config.bds[0].duplicate, Some(drop));
}

/// PX-017, PX-018: the same of addresses, and the MAC that nobody has.
#[test]
fn duplicate_ips() {
    let text = |policy: &str| {
        format!(
            "[vtep]\naddress = \"198.18.0.1\"\n[bgp]\nasn = 65000\n\
             [[bd]]\nname = \"blue\"\nvni = 100\nanycast = [\"10.0.0.53\", \"fd00::53\"]\n{policy}\n"
        )
    };
    let config = config(&text(
        "duplicate_ip = { action = \"warn\", window = 60, as_mac = \"02:00:00:00:00:ff\" }",
    ));
    assert_eq!(config.vtep.duplicate_ip, DuplicateIpPolicy::default());
    let warn = DuplicateIpPolicy {
        action: DuplicateIpAction::Warn,
        window: Duration::from_secs(60),
        as_mac: Some("02:00:00:00:00:ff".parse().unwrap()),
        ..DuplicateIpPolicy::default()
    };
    assert_eq!(config.bds[0].duplicate_ip, Some(warn));
    assert_eq!(config.bds[0].anycast.len(), 2);
}

#[test]
fn other_values() {
    let config = config(
        r#"
[vtep]
address = ["198.18.0.1", "198.18.0.2"]
router_id = "10.0.0.1"
xdp = "off"
metrics = ""
on_stop = "keep"
unknown_vni = "pass"
source_check = "strict"
[bgp]
asn = 4_200_000_001
listen = false
auto_rt = "rfc8365"
[[bgp.peer]]
address = "2001:db8::1"
asn = "external"
hold_time = 0
multihop = 3
[[bgp.peer]]
address = "198.18.0.100"
asn = "internal"
multihop = true
[[bd]]
name = "blue"
vni = 100
ports = ["tap*", { name = "vnet[0-9]", vlan = 4094 }, { name = "eth5" }]
rd = "198.18.0.1:5"
rt_import = ["65000:100", "*:7", "65000:100"]
rt_export = "65000:100"
flood = "no-unknown"
ageing = 0
"#,
    );
    assert_eq!(config.vtep.addresses.len(), 2);
    assert_eq!(config.vtep.metrics, None);
    assert_eq!(config.vtep.on_stop, OnStop::Keep);
    assert_eq!(config.bgp.auto_rt, AutoRt::Rfc8365);
    assert_eq!(config.bgp.peers[0].asn, PeerAsn::External);
    assert_eq!(config.bgp.peers[0].hold_time, Duration::ZERO);
    assert_eq!(config.bgp.peers[0].multihop, Some(3));
    assert_eq!(config.bgp.peers[1].asn, PeerAsn::Internal);
    assert_eq!(config.bgp.peers[1].multihop, Some(255));
    let bd = &config.bds[0];
    assert_eq!(bd.rd.unwrap().to_string(), "198.18.0.1:5");
    assert_eq!(bd.rt_import.as_ref().unwrap().len(), 2);
    assert_eq!(bd.rt_export.as_ref().unwrap().len(), 1);
    assert_eq!(bd.flood, FloodPolicy::NoUnknown);
    assert_eq!(bd.ageing, None);
    assert!(bd.ports[0].matches(&"tap-vm1".parse().unwrap()));
    assert!(bd.ports[1].is_glob());
    assert!(!bd.ports[2].is_glob());
}

#[test]
fn unreadable_files() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let error = Config::load(&missing).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{}: cannot read the configuration: No such file or directory (os error 2)",
            missing.display()
        )
    );
    let binary = directory.path().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    let error = Config::load(&binary).unwrap_err().to_string();
    assert!(error.contains("UTF-8"), "{error}");
}

#[test]
fn same_device_with_distinct_vlans() {
    let text = MINIMAL.replace(
        "vni = 100",
        "vni = 100\nports = [{ name = \"tap1\", vlan = 1 }]\n\
         [[bd]]\nname = \"red\"\nvni = 101\nports = [{ name = \"tap1\", vlan = 2 }, \"tap1\"]",
    );
    let (config, warnings) = parse(&text).unwrap();
    assert_eq!(config.bds[1].ports.len(), 2);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn warnings() {
    let text = MINIMAL
        .replace("\"198.18.0.1\"", "\"127.0.0.1\"\nuplinks = [\"tap9\"]")
        .replace("asn = 65000\n[[bgp", "asn = 4200000001\n[[bgp")
        .replace(
            "vni = 100",
            "vni = 100\nports = [\"tap*\"]\n\
             [[bd]]\nname = \"red\"\nvni = 101\nports = [\"tap1\", { name = \"tap*\", vlan = 2 }]",
        );
    let (_, warnings) = parse(&text).unwrap();
    assert_eq!(
        warnings,
        [
            "vtep.toml:3:11: no other host reaches a VTEP at a loopback address",
            "vtep.toml:13:10: tap* matches tap9: tap9 is an uplink, \
             it cannot be a port of blue as well",
            "vtep.toml:17:10: port tap1 and port tap* of bridge domain blue can mean the same \
             device, which then belongs to the first",
            "vtep.toml:17:18: tap* matches tap9: tap9 is an uplink, \
             it cannot be a port of red as well",
            "vtep.toml:6:7: AS 4200000001 does not fit into automatic route targets, which carry \
             its lower 16 bits (59905); set rt_export if this matters",
        ]
    );
    let glob = MINIMAL.replace("\"198.18.0.1\"", "\"198.18.0.1\"\nuplinks = [\"eth*\"]");
    let (_, warnings) = parse(&glob).unwrap();
    assert_eq!(
        warnings,
        ["vtep.toml:4:12: uplink eth* is no glob: only a device of that very name is meant"]
    );
    let literal = MINIMAL.replace("\"198.18.0.1\"", "\"198.18.0.1\"\nuplinks = [\"tap1\"]");
    let literal = literal.replace("vni = 100", "vni = 100\nports = [\"tap1\"]");
    assert_eq!(
        parse(&literal).map(|_| ()).unwrap_err(),
        "vtep.toml:13:10: tap1 is an uplink, it cannot be a port of blue as well"
    );
}

#[test]
fn every_overlap_is_found() {
    for (earlier, later, overlap) in [
        ("tap-*", "t*", true),
        ("t*", "tap-*", true),
        ("*", "tap1", true),
        ("tap1", "*", true),
        ("tap[0-9]", "tap1", true),
        ("tap1", "tap[a-z]", false),
        ("vnet*", "tap*", false),
        ("tap1*", "tap2*", false),
    ] {
        let text = MINIMAL.replace(
            "vni = 100",
            &format!(
                "vni = 100\nports = [\"{earlier}\"]\n\
                 [[bd]]\nname = \"red\"\nvni = 101\nports = [\"{later}\"]"
            ),
        );
        let (_, warnings) = parse(&text).unwrap();
        assert_eq!(warnings.len(), usize::from(overlap), "{earlier} {later}");
    }
}

/// As many bridge domains as there can be, and one more.
#[test]
fn many_bridge_domains() {
    let bd = |n: u32| {
        format!("[[bd]]\nname = \"bd{n}\"\nvni = {n}\nports = [\"a{n}\", \"b{n}\", \"c{n}-*\"]\n")
    };
    let most: String = (101..101 + 4094).map(bd).collect();
    let (config, warnings) = parse(&format!("{MINIMAL}{most}")).unwrap();
    assert_eq!((config.bds.len(), warnings.len()), (4095, 0));
    let error = parse(&format!("{MINIMAL}{most}{}", bd(5000))).unwrap_err();
    assert!(error.ends_with("more than 4095 bridge domains"), "{error}");
}

#[test]
fn explanation() {
    let text = documented()[0]
        .replace(
            "asn           = 65000",
            "asn = \"external\"\npassword = \"secret\"",
        )
        .replace("local_address = \"198.18.0.1\"", "multihop = 2");
    let (config, _) = Config::parse(&text, "vtep.toml".as_ref()).unwrap();
    let explanation = Explanation::new(&config, &[]);
    insta::assert_snapshot!(explanation.to_string(), @r"
    VTEP 198.18.0.1, router id 198.18.0.1, UDP port 4789
      uplinks: eth0 (native XDP where the driver has it, else TC)
      accepts frames from next hops of any imported route; unknown VNIs are dropped
      up to 262144 MACs; duplicate MACs (5 moves in 180 s): warn, for 600 s
      duplicate IPs (5 moves in 180 s): block, for 540 s
      withdraws, detaches and unpins when it stops
      a drain forwards for 10 s more
      pins in /sys/fs/bpf/vtep, state in /var/lib/vtep, control socket /run/vtep/agent.sock
      metrics at http://127.0.0.1:9473/metrics
    BGP AS 65000, accepts connections on port 179
      peer 198.18.0.100, any external AS, from 198.18.0.1, hold time 90 s, up to 2 hops away, TCP MD5
    Bridge domain blue, VNI 100
      RD 198.18.0.1:n, n chosen once and kept; imports *:100, exports 65000:100
      ports: tap-vm1, tap-vm2 VLAN 10
      answers ARP and ND; floods broadcast, multicast and unknown unicast
      learns up to 1024 MACs per port, aged after 300 s
    ");
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["valid"], true);
    assert_eq!(json["bds"][0]["rt_import"][0], "*:100");
    assert_eq!(json["bgp"]["peers"][0]["local_address"], "198.18.0.1");
    assert!(!json.to_string().contains("secret"));
}

#[test]
fn explanation_warns_of_an_agent_alone() {
    let text = MINIMAL.replace(
        "[[bgp.peer]]\naddress = \"198.18.0.100\"\nasn = 65000\n",
        "",
    );
    let text = Explanation::new(&config(&text), &[]).to_string();
    assert!(text.contains("Warning: no uplinks"), "{text}");
    assert!(text.contains("Warning: no [[bgp.peer]]"), "{text}");
}

proptest! {
    /// Whatever is written over the example, the answer is a configuration or a place in the text.
    #[test]
    fn no_text_panics(at in 0..2000usize, length in 0..40usize, with in "[ -~\\n\"é]{0,8}") {
        let example = documented()[0];
        let end = example.len();
        let boundary = |at: usize| (0..=at.min(end)).rfind(|&at| example.is_char_boundary(at));
        let (from, to) = (boundary(at).unwrap(), boundary(at + length).unwrap());
        let text = format!("{}{with}{}", &example[..from], &example[to..]);
        if let Err(Diagnostic { line, column, message, .. }) =
            Config::parse(&text, "vtep.toml".as_ref())
        {
            prop_assert!(!message.contains('\n'), "{message}");
            // At the end of the text, or on the line after it.
            let chars = text.split('\n').nth(line - 1).map_or(0, |line| line.chars().count());
            prop_assert!(column <= chars + 1, "{line}:{column} {message}");
        }
    }
}

#[test]
fn host_routes() {
    let text = MINIMAL
        .replacen(
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nfamilies = [\"ipv4\", \"evpn\"]\n",
            1,
        )
        .replacen(
            "[[bd]]",
            "[underlay]\nannounce = [\"198.18.0.1/32\", \"203.0.113.0/24\"]\n\
             import = [\"0.0.0.0/0\", \"198.18.0.0/16 le 32\"]\necmp = 2\nmultipath_relax = true\n\
             table = 100\nmetric = 20\n[[bd]]",
            1,
        );
    let config = config(&text);
    let families = config.bgp.peers[0].families;
    assert!(families.ipv4 && families.evpn && !families.ipv6);
    let UnderlayConfig {
        announce, import, ..
    } = &config.underlay;
    assert_eq!(announce.len(), 2);
    let accepts = |prefix: &str| {
        import
            .iter()
            .any(|rule| rule.matches(&prefix.parse().unwrap()))
    };
    assert!(accepts("0.0.0.0/0") && accepts("198.18.0.0/16") && accepts("198.18.3.4/32"));
    assert!(!accepts("10.0.0.0/8") && !accepts("198.0.0.0/8") && !accepts("::/0"));
    let explained = Explanation::new(&config, &[]).to_string();
    let expected = "Host routes: announces 198.18.0.1/32, 203.0.113.0/24, accepts 0.0.0.0/0, \
                    198.18.0.0/16 le 32\n  into table 100 with metric 20, up to 2 next hops of \
                    paths with AS_PATHs of one length\n";
    assert!(explained.contains(expected), "{explained}");
    assert!(explained.contains("evpn and ipv4"), "{explained}");
}

/// Without a unicast family there is nothing to route, which is worth a word if it was configured.
#[test]
fn an_underlay_without_peers() {
    let text = MINIMAL.replacen("[[bd]]", "[underlay]\n[[bd]]", 1);
    let (config, warnings) = Config::parse(&text, "vtep.toml".as_ref()).unwrap();
    assert!(
        warnings[0].to_string().contains("[underlay] does nothing"),
        "{warnings:?}"
    );
    let explained = Explanation::new(&config, &[]).to_string();
    assert!(!explained.contains("Host routes"), "{explained}");
}
