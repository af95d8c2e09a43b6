//! Peers, by address, interface and prefix; their groups and options.

use super::*;
use crate::types::{LocalAs, PeerName};

/// A peer's own keys come first, then its group's, then the defaults.
#[test]
fn groups() {
    let config = config(
        r#"
[vtep]
address = "198.18.0.1"
[bgp]
asn = 65000
[bgp.group.rr]
asn = "internal"
hold_time = 9
password = "secret"
passive = true
[[bgp.peer]]
address = "198.18.0.100"
group = "rr"
[[bgp.peer]]
address = "198.18.0.101"
group = "rr"
asn = 65001
hold_time = 30
password = "other"
passive = false
"#,
    );
    let [first, second] = &config.bgp.peers[..] else {
        panic!("two peers");
    };
    assert_eq!(first.asn, PeerAsn::Internal);
    assert_eq!(first.hold_time, Duration::from_secs(9));
    assert_eq!(first.authentication, md5("secret"));
    assert!(first.passive);
    assert_eq!(first.port, 179);
    assert_eq!(second.asn, PeerAsn::Is(Asn(65001)));
    assert_eq!(second.hold_time, Duration::from_secs(30));
    assert_eq!(second.authentication, md5("other"));
    assert!(!second.passive);
}

/// By number or by table, of a peer or of its group; who is internal follows from it.
#[test]
fn local_as() {
    let text = MINIMAL.replacen(
        "[[bd]]",
        "[bgp.group.old]\nasn = \"internal\"\nlocal_as = { asn = 65200, replace = true }\n\
         [[bgp.peer]]\naddress = \"198.18.0.101\"\ngroup = \"old\"\n\
         [[bgp.peer]]\naddress = \"198.18.0.102\"\nasn = 65000\nlocal_as = 65201\n[[bd]]",
        1,
    );
    let config = config(&text);
    let local = |asn, replace| {
        let asn = Asn(asn);
        Some(LocalAs { asn, replace })
    };
    let known: Vec<_> = config
        .bgp
        .peers
        .iter()
        .map(|peer| (peer.local_as, peer.is_internal(Asn(65000))))
        .collect();
    assert_eq!(
        known,
        [
            (None, true),
            (local(65200, true), true),
            (local(65201, false), false)
        ]
    );
    let text = Explanation::new(&config, &[]).to_string();
    for line in [
        "peer 198.18.0.101, AS 65200 (internal), which knows us as AS 65200 only, from",
        "peer 198.18.0.102, AS 65000 (external), which knows us as AS 65201, hold time",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn documented_group() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bgp.key"), "secret\n").unwrap();
    let text = format!(
        "[vtep]\naddress = \"198.18.0.1\"\n[bgp]\nasn = 65000\n{}",
        documented()[1]
    );
    let (config, _) = Config::parse(&text, &directory.path().join("vtep.toml")).unwrap();
    let peer = &config.bgp.peers[0];
    assert_eq!(peer.asn, PeerAsn::Internal);
    assert_eq!(peer.authentication, md5("secret"));
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn a_peer_may_be_known_by_its_interface() {
    let text = MINIMAL.replacen("address = \"198.18.0.100\"", "interface = \"eth1\"", 1);
    let peer = config(&text).bgp.peers.remove(0);
    let name = PeerName::Interface("eth1".parse().unwrap());
    assert_eq!(peer, PeerConfig::new(name, peer.asn));
    let explained = Explanation::new(&config(&text), &[]).to_string();
    assert!(
        explained.contains("  peer behind eth1, AS 65000"),
        "{explained}"
    );
}

#[test]
fn peers_by_prefix() {
    let text = MINIMAL.replacen(
        "[[bd]]",
        "[bgp.group.leaf]\nasn = 1\nhold_time = 9\n[[bgp.dynamic]]\nprefix = \"10.0.0.0/8\"\n\
         group = \"leaf\"\nasn = \"external\"\n[[bd]]",
        1,
    );
    let config = config(&text);
    let dynamic = &config.bgp.dynamic[0];
    assert_eq!(
        (dynamic.prefix.to_string(), dynamic.limit),
        ("10.0.0.0/8".to_owned(), 100)
    );
    let peer = Ipv4Addr::new(10, 0, 0, 7);
    let expected = PeerConfig {
        hold_time: Duration::from_secs(9),
        passive: true,
        ..PeerConfig::new(peer.into(), PeerAsn::External)
    };
    assert_eq!(dynamic.peer(peer.into()), expected);
    let explained = Explanation::new(&config, &[]).to_string();
    let line =
        "  up to 100 peers that connect from 10.0.0.0/8, like\n    peer 10.0.0.0, any external AS";
    assert!(explained.contains(line), "{explained}");
}

#[test]
fn options_of_peers() {
    let text = MINIMAL.replacen(
        "[[bd]]",
        "max_prefixes = { limit = 7, warn_only = true }\nttl_security = 2\nshutdown = \"moved\"\n\
         send_hold_time = 0\nextended_messages = false\nallowas_in = 3\nrt_constraint = false\nadd_path = true\nroute_reflector_client = true\nrestart_time = 30\nlong_lived_graceful_restart = 3600\nunicast_graceful_restart = true\n\
         strict_nlri = true\nenforce_first_as = false\naccept_as_sets = true\n[[bd]]",
        1,
    );
    let mut config = config(&text);
    let peer = config.bgp.peers.remove(0);
    let expected = PeerConfig {
        max_prefixes: Some(MaxPrefixes {
            limit: 7,
            warn_only: true,
        }),
        ttl_security: Some(2),
        shutdown: Some("moved".to_owned()),
        send_hold_time: Some(Duration::ZERO),
        extended_messages: false,
        allowas_in: 3,
        rt_constraint: false,
        add_path: true,
        route_reflector_client: true,
        restart_time: Duration::from_secs(30),
        long_lived_graceful_restart: Some(Duration::from_secs(3600)),
        unicast_graceful_restart: true,
        checks: UpdateChecks {
            strict_nlri: true,
            enforce_first_as: false,
            accept_as_sets: true,
        },
        ..PeerConfig::new(peer.name.clone(), peer.asn)
    };
    assert_eq!(peer, expected);
}

/// RFC 5881, RFC 5883: how far the session goes follows BGP unless it is said.
#[test]
fn bfd() {
    let text = format!(
        "{MINIMAL}
[bgp.group.watched]
bfd = {{ interval = 100, multiplier = 5 }}
[[bgp.peer]]
address = \"198.18.0.2\"
asn = 65001
group = \"watched\"
[[bgp.peer]]
address = \"198.18.0.3\"
asn = 65000
group = \"watched\"
[[bgp.peer]]
address = \"198.18.0.4\"
asn = 65000
group = \"watched\"
bfd = false
[[bgp.peer]]
address = \"198.18.0.5\"
asn = 65000
bfd = {{ multihop = false, strict = true }}
[[bgp.peer]]
address = \"198.18.0.6\"
asn = 65001
multihop = 4
bfd = true
[[bgp.peer]]
address = \"198.18.0.7\"
asn = 65001
ttl_security = 1
bfd = true
[[bgp.peer]]
address = \"198.18.0.8\"
asn = 65001
bfd = {{ multihop = 3 }}
"
    );
    let config = config(&text);
    let hops: Vec<_> = config
        .bgp
        .peers
        .iter()
        .map(|peer| peer.bfd_hops(config.bgp.asn))
        .collect();
    let expected = [
        None,
        Some(Hops::Single),
        Some(Hops::Multi(255)),
        None,
        Some(Hops::Single),
        Some(Hops::Multi(255)),
        Some(Hops::Single),
        Some(Hops::Multi(3)),
    ];
    assert_eq!(hops, expected);
    assert_eq!(Hops::Multi(3).least_ttl(), 253);
    let watched = config.bgp.peers[1].bfd.unwrap();
    assert_eq!(watched.interval, Duration::from_millis(100));
    assert_eq!((watched.multiplier.get(), watched.strict), (5, false));
    let default = config.bgp.peers[5].bfd.unwrap();
    assert_eq!(default, BfdConfig::default());
    assert_eq!(
        default.interval * default.multiplier.get().into(),
        Duration::from_millis(900)
    );
    assert!(config.bgp.peers[4].bfd.unwrap().strict);
    let explanation = Explanation::new(&config, &[]).to_string();
    for part in [
        "BFD 5 x 100 ms (single hop)",
        "BFD 5 x 100 ms (multihop)",
        "BFD 3 x 300 ms (single hop), no session without it",
        "BFD 3 x 300 ms (multihop, up to 3)",
    ] {
        assert!(explanation.contains(part), "{part}: {explanation}");
    }
}

#[test]
fn bad_bfd() {
    let cases = [
        (
            "bfd = 300",
            "invalid type: integer `300`, expected true, false or { interval = 300, multiplier = 3, … }",
        ),
        (
            "bfd = { interval = 9 }",
            "interval is 9, expected 10 to 60000",
        ),
        (
            "bfd = { multiplier = 0 }",
            "multiplier is 0, expected 1 to 255",
        ),
        ("bfd = { multihop = 0 }", "multihop is 0, expected 1 to 255"),
        (
            "bfd = { multihop = \"yes\" }",
            "multihop is \"yes\", expected 1 to 255 hops, true or false",
        ),
        (
            "bfd = { echo = true }",
            "unknown key `echo`, expected one of `interval`, `multiplier`, `multihop`, `strict`",
        ),
    ];
    for table in [
        "[[bgp.peer]]\naddress = \"198.18.0.7\"\nasn = 1",
        "[bgp.group.x]",
    ] {
        for (key, expected) in cases {
            let text = format!("{MINIMAL}{table}\n{key}\n");
            let error = parse(&text).map(|_| ()).unwrap_err();
            assert!(error.ends_with(expected), "{error}");
        }
    }
}
