use super::{MINIMAL, parse};

/// `MINIMAL` with one text replaced, and what is said about it.
#[test]
fn bad_values() {
    let cases: &[(&str, &str, &str)] = &[
        // Shape.
        (
            "asn = 65000\n[[bgp",
            "asn = 65000\nasm = 1\n[[bgp",
            "6:1: unknown key `asm`, expected one of `asn`, `listen`, `auto_rt`, `auto_rt_import`, `arp_nd_flags`, `selection_deferral`, `peer`, `dynamic`, `group`",
        ),
        (
            "vni = 100",
            "vni = \"100\"",
            "11:7: invalid type: string \"100\", expected an integer",
        ),
        (
            "vni = 100",
            "vni = 100\nlearning = \"yes\"",
            "12:12: invalid type: string \"yes\", expected a boolean",
        ),
        ("vni = 100", "", "9:1: missing key `vni`"),
        ("[bgp]\nasn = 65000", "[bgp]", "4:1: missing key `asn`"),
        (
            "vni = 100",
            "vni = 100\nflood = \"some\"",
            "12:9: unknown value `some`, expected one of `all`, `no-unknown`, `none`",
        ),
        ("vni = 100", "vni = 100\nvni = 101", "12:1: duplicate key"),
        ("[bgp]", "[bgp", "4:5: unclosed table, expected `]`"),
        (
            "\"blue\"",
            "\"blüe\" x",
            "10:15: unexpected key or value, expected newline, `#`",
        ),
        // [vtep]
        (
            "\"198.18.0.1\"",
            "\"2001:db8::1\"",
            "3:11: address 2001:db8::1: IPv6 underlay is not supported yet, expected an IPv4 address",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.256\"",
            "3:11: address is \"198.18.0.256\", expected an IPv4 address",
        ),
        (
            "\"198.18.0.1\"",
            "\"224.0.0.1\"",
            "3:11: address 224.0.0.1 is not a unicast address",
        ),
        (
            "\"198.18.0.1\"",
            "\"0.0.0.0\"",
            "3:11: address 0.0.0.0 is not a unicast address",
        ),
        (
            "\"198.18.0.1\"",
            "[]",
            "3:11: address is empty, expected at least one IPv4 address",
        ),
        (
            "\"198.18.0.1\"",
            "[\"198.18.0.1\", \"198.18.0.1\"]",
            "3:26: address 198.18.0.1 is there twice",
        ),
        (
            "\"198.18.0.1\"",
            "[1]",
            "3:12: invalid type: integer `1`, expected a string",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nrouter_id = \"0.0.0.0\"",
            "4:13: router_id is \"0.0.0.0\", expected an IPv4 address that is not 0.0.0.0",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nport = 0",
            "4:8: port is 0, expected 1 to 65535",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nport = 65536",
            "4:8: port is 65536, expected 1 to 65535",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nmax_macs = 0",
            "4:12: max_macs is 0, expected 1 to 16777216",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nmetrics = \"9473\"",
            "4:11: metrics is \"9473\", expected ADDRESS:PORT such as 127.0.0.1:9473, or \"\" for off",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nmetrics = \"127.0.0.1:0\"",
            "4:11: metrics is \"127.0.0.1:0\", expected ADDRESS:PORT such as 127.0.0.1:9473, or \"\" for off",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nxdp = \"fast\"",
            "4:7: unknown value `fast`, expected one of `auto`, `native`, `generic`, `off`",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nsocket = \"\"",
            "4:10: socket is \"\", expected a path",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nuplinks = [\"eth0\", \"eth0\"]",
            "4:20: uplink eth0 is there twice",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nuplinks = [\"a-name-that-is-too-long\"]",
            "4:12: \"a-name-that-is-too-long\" is not a valid network device name: \
          expected 1 to 15 bytes without '/', ':' or white space",
        ),
        (
            "\"198.18.0.1\"",
            "\"198.18.0.1\"\nuplinks = [\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]",
            "4:11: 9 uplinks, expected at most 8",
        ),
        // [bgp]
        (
            "asn = 65000\n[[bgp",
            "asn = 0\n[[bgp",
            "5:7: asn is 0, expected 1 to 4294967294",
        ),
        (
            "asn = 65000\n[[bgp",
            "asn = -1\n[[bgp",
            "5:7: asn is -1, expected 1 to 4294967294",
        ),
        (
            "asn = 65000\n[[bgp",
            "asn = 23456\n[[bgp",
            "5:7: asn 23456 is reserved",
        ),
        (
            "address = \"198.18.0.100\"\n",
            "",
            "6:1: peer without address, expected address = \"…\" or interface = \"…\"",
        ),
        (
            "address = \"198.18.0.100\"\n",
            "interface = \"a/b\"\n",
            "7:13: \"a/b\" is not a valid network device name: \
          expected 1 to 15 bytes without '/', ':' or white space",
        ),
        (
            "address = \"198.18.0.100\"\n",
            "address = \"198.18.0.100\"\ninterface = \"eth0\"\n",
            "8:13: address and interface exclude each other",
        ),
        (
            "address = \"198.18.0.100\"\nasn = 65000",
            "interface = \"eth0\"\nasn = 65000\nmultihop = 2",
            "9:12: multihop is not for a peer that is known by its interface",
        ),
        (
            "address = \"198.18.0.100\"\nasn = 65000",
            "interface = \"eth0\"\nasn = 65000\nlocal_address = \"fd00::1\"",
            "9:17: local_address is not for a peer that is known by its interface",
        ),
        (
            "[[bd]]",
            "[[bgp.dynamic]]\nprefix = \"10.0.0.0/8\"\ngroup = \"rr\"\n[[bd]]",
            "11:9: group \"rr\" is not defined, there is no [bgp.group.NAME] table",
        ),
        (
            "[[bd]]",
            "[bgp.group.rr]\nasn = 1\n[[bgp.dynamic]]\nprefix = \"10.0.0.1/8\"\ngroup = \"rr\"\n[[bd]]",
            "12:10: prefix 10.0.0.1/8 has bits of a host, expected 10.0.0.0/8",
        ),
        (
            "[[bd]]",
            "[bgp.group.rr]\nasn = 1\n[[bgp.dynamic]]\nprefix = \"fe80::/64\"\ngroup = \"rr\"\n[[bd]]",
            "12:10: prefix is fe80::/64, expected one of unicast addresses that are not link-local",
        ),
        (
            "[[bd]]",
            "[bgp.group.rr]\nasn = 1\n[[bgp.dynamic]]\nprefix = \"::/0\"\ngroup = \"rr\"\nlimit = 0\n[[bd]]",
            "14:9: limit is 0, expected 1 to 4096",
        ),
        (
            "[[bd]]",
            "[bgp.group.rr]\n[[bgp.dynamic]]\nprefix = \"::/0\"\ngroup = \"rr\"\n[[bd]]",
            "11:10: peer :: has no asn, expected a number, \"internal\" or \"external\"",
        ),
        (
            "[[bd]]",
            "[bgp.group.rr]\nasn = 1\n[[bgp.dynamic]]\nprefix = \"::/0\"\ngroup = \"rr\"\npassive = true\n[[bd]]",
            "14:1: unknown key `passive`, expected one of `prefix`, `group`, `asn`, `limit`",
        ),
        (
            "\"198.18.0.100\"",
            "\"fe80::1\"",
            "7:11: address fe80::1 is link-local, expected interface = \"…\" instead",
        ),
        (
            "\"198.18.0.100\"\nasn = 65000",
            "\"198.18.0.100\"",
            "7:11: peer 198.18.0.100 has no asn, expected a number, \"internal\" or \"external\"",
        ),
        (
            "\"198.18.0.100\"\nasn = 65000",
            "\"198.18.0.100\"\nasn = \"ibgp\"",
            "8:7: asn is \"ibgp\", expected a number, \"internal\" or \"external\"",
        ),
        (
            "\"198.18.0.100\"",
            "\"rr1\"",
            "7:11: address is \"rr1\", expected a unicast IP address",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.1\"",
            "7:11: address 198.18.0.1 is our own VTEP address, expected the peer's",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nhold_time = 2",
            "8:13: hold_time is 2, expected 0 or 3 to 65535 seconds",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nport = 0",
            "8:8: port is 0, expected 1 to 65535",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nmultihop = 256",
            "8:12: multihop is 256, expected 1 to 255",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nmultihop = \"x\"",
            "8:12: multihop is \"x\", expected 1 to 255 hops, true or false",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nlocal_as = 65000",
            "8:12: local_as 65000 is our own AS, expected the one as which the peer knows us",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nlocal_as = { asn = 65535, replace = true }",
            "8:12: local_as 65535 is reserved",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nlocal_as = 0",
            "8:12: local_as is 0, expected 1 to 4294967294",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nlocal_as = \"internal\"",
            "8:12: invalid type: string \"internal\", expected a number or { asn = N, replace = true }",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\npassword = \"\"",
            "8:12: password has 0 bytes, expected 1 to 80",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\npassword = \"x\"\npassword_file = \"y\"",
            "9:17: password and password_file exclude each other",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\nlocal_address = \"::1\"",
            "8:17: local_address ::1 and address 198.18.0.100 are of different families",
        ),
        (
            "\"198.18.0.100\"",
            "\"198.18.0.100\"\ngroup = \"rr\"",
            "8:9: group \"rr\" is not defined, there is no [bgp.group.NAME] table",
        ),
        (
            "[[bd]]",
            "[bgp.group.rr]\naddress = \"198.18.0.9\"\n[[bd]]",
            "10:11: bgp.group.rr has the key address, which only a peer can have",
        ),
        (
            "[[bd]]",
            "[[bgp.peer]]\naddress = \"198.18.0.100\"\nasn = 1\n[[bd]]",
            "10:11: address 198.18.0.100 belongs to another peer already",
        ),
        // [[bd]]
        (
            "\"blue\"",
            "\"b d\"",
            "10:8: \"b d\" is not a valid bridge domain name: \
          expected 1 to 63 printable ASCII characters without white space",
        ),
        (
            "vni = 100",
            "vni = 0",
            "11:7: vni is 0, expected 1 to 16777215",
        ),
        (
            "vni = 100",
            "vni = 16777216",
            "11:7: vni is 16777216, expected 1 to 16777215",
        ),
        (
            "vni = 100",
            "vni = 100\n[[bd]]\nname = \"red\"\nvni = 100",
            "14:7: vni 100 belongs to bridge domain blue already",
        ),
        (
            "vni = 100",
            "vni = 100\n[[bd]]\nname = \"blue\"\nvni = 101",
            "13:8: name blue belongs to another bridge domain already",
        ),
        (
            "vni = 100",
            "vni = 100\nrd = \"1:1\"\n[[bd]]\nname = \"red\"\nvni = 101\nrd = \"1:1\"",
            "16:6: rd 1:1 belongs to bridge domain blue already",
        ),
        (
            "vni = 100",
            "vni = 100\nrd = \"1\"",
            "12:6: rd \"1\": not a route distinguisher (expected IPv4:n, or AS:n such as 65000:100)",
        ),
        (
            "vni = 100",
            "vni = 100\nrt_export = [\"*:100\"]",
            "12:14: rt_export \"*:100\": not a route target (expected AS:n such as 65000:100, or IPv4:n)",
        ),
        (
            "vni = 100",
            "vni = 100\nrt_import = []",
            "12:13: rt_import is empty, expected \"auto\" or a list such as [\"65000:100\"]",
        ),
        (
            "vni = 100",
            "vni = 100\nports = [5]",
            "12:10: invalid type: integer `5`, expected a device name or { name = \"…\", vlan = N }",
        ),
        (
            "vni = 100",
            "vni = 100\nports = [{ name = \"tap1\", vlan = 4095 }]",
            "12:34: vlan is 4095, expected 1 to 4094",
        ),
        (
            "vni = 100",
            "vni = 100\nports = [{ name = \"tap1\", vlam = 1 }]",
            "12:27: unknown key `vlam`, expected `name` or `vlan`",
        ),
        (
            "vni = 100",
            "vni = 100\nports = [\"tap[\"]",
            "12:10: port \"tap[\" is not a valid glob: a '[' has no ']'",
        ),
        (
            "vni = 100",
            "vni = 100\nports = [\"tap1\", \"tap1\"]",
            "12:18: port tap1 belongs to bridge domain blue already; \
          a port in two bridge domains needs distinct vlans",
        ),
        (
            "vni = 100",
            "vni = 100\nports = [\"tap1\"]\n[[bd]]\nname = \"red\"\nvni = 101\nports = [\"tap1\"]",
            "16:10: port tap1 belongs to bridge domain blue already; \
          a port in two bridge domains needs distinct vlans",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nmax_prefixes = 0\n",
            "8:16: max_prefixes is 0, expected 1 to 4294967295",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nttl_security = 255\n",
            "8:16: ttl_security is 255, expected 1 to 254",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nttl_security = 1\nmultihop = 2\n",
            "8:16: ttl_security and multihop exclude each other: ttl_security says how many hops",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nrestart_time = 4096\n",
            "8:16: restart_time is 4096, expected 1 to 4095",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\ngraceful_restart = false\nunicast_graceful_restart = true\n",
            "9:28: unicast_graceful_restart needs graceful_restart",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\ngraceful_restart = false\nlong_lived_graceful_restart = 60\n",
            "9:31: long_lived_graceful_restart needs graceful_restart",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nlong_lived_graceful_restart = 16777216\n",
            "8:31: long_lived_graceful_restart is 16777216, expected 1 to 16777215",
        ),
        (
            "asn = 65000\n",
            "asn = 65000\nselection_deferral = 0\n",
            "6:22: selection_deferral is 0, expected 1 to 3600",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nsend_hold_time = 90\n",
            "8:18: send_hold_time 90 is not longer than hold_time 90",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nasn = 65000\n[[bgp.peer]]\n\
          address = \"198.18.0.101\"\nroute_reflector_client = true\nasn = \"external\"\n\
          [[bgp.peer]]\naddress = \"198.18.0.102\"\n",
            "11:26: route_reflector_client is for internal peers",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nshutdown = 1\n",
            "8:12: shutdown is 1, expected true, false or a text",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nfamilies = [\"ipv4\", \"vpn\"]\n",
            "8:21: family \"vpn\", expected \"evpn\", \"ipv4\" or \"ipv6\"",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nfamilies = []\n",
            "8:12: families is empty, expected \"evpn\", \"ipv4\" or \"ipv6\"",
        ),
        (
            "\"198.18.0.100\"\n",
            "\"198.18.0.100\"\nfamilies = [\"ipv4\", \"ipv4\"]\n",
            "8:21: family ipv4 is there twice",
        ),
        // [underlay]
        (
            "[[bd]]",
            "[underlay]\nannounce = [\"198.18.0.1/24\"]\n[[bd]]",
            "10:13: announce is \"198.18.0.1/24\", expected a prefix such as 198.18.0.1/32, its host bits zero",
        ),
        (
            "[[bd]]",
            "[underlay]\nimport = []\n[[bd]]",
            "10:10: import is empty: remove the key to accept everything, or list prefixes",
        ),
        (
            "[[bd]]",
            "[underlay]\nimport = [\"198.18.0.0/16 le 15\"]\n[[bd]]",
            "10:11: import is \"198.18.0.0/16 le 15\", expected a prefix such as 0.0.0.0/0 or 198.18.0.0/16 le 32, its host bits zero",
        ),
        (
            "[[bd]]",
            "[underlay]\necmp = 0\n[[bd]]",
            "10:8: ecmp is 0, expected 1 to 64",
        ),
        (
            "[[bd]]",
            "[underlay]\ntable = 255\n[[bd]]",
            "10:9: table 255 is the kernel's own, expected 254 (main) or another",
        ),
        (
            "[[bd]]",
            "[underlay]\nmetric = 0\n[[bd]]",
            "10:10: metric is 0, expected 1 to 4294967295",
        ),
        (
            "[[bd]]",
            "[underlay]\nmultipath = true\n[[bd]]",
            "10:1: unknown key `multipath`, expected one of `announce`, `import`, `ecmp`, `multipath_relax`, `table`, `metric`",
        ),
        (
            "vni = 100",
            "vni = 100\nageing = -1",
            "12:10: ageing is -1, expected 0 to 4294967295",
        ),
        (
            "vni = 100",
            "vni = 100\nmax_macs_per_port = 0",
            "12:21: max_macs_per_port is 0, expected 1 to 4294967295",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(MINIMAL.contains(from), "{from}");
        let text = MINIMAL.replacen(from, to, 1);
        let error = parse(&text).map(|_| ()).unwrap_err();
        assert_eq!(error, format!("vtep.toml:{expected}"), "{to}");
    }
}
