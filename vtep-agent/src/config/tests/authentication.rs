//! `password`, `tcp_ao`, and which of them can be for the same address.

use super::*;

/// Master keys with ids, and no more to say of them.
fn keys(ids: &[(u8, u8)], text: &str) -> Authentication {
    let keys = ids.iter().map(|&(send_id, recv_id)| AoKey {
        send_id,
        recv_id,
        algorithm: AoAlgorithm::HmacSha1,
        key: text.to_owned().into(),
    });
    Authentication::Ao(AoKeys::new(keys.collect()).unwrap())
}

fn with_peer(lines: &str) -> String {
    MINIMAL.replacen(
        "\"198.18.0.100\"\n",
        &format!("\"198.18.0.100\"\n{lines}\n"),
        1,
    )
}

#[test]
fn tcp_ao() {
    let text = with_peer(
        "tcp_ao = [{ send_id = 7, key = \"s3cret\" }, { send_id = 1, recv_id = 2, \
         algorithm = \"aes-128-cmac-96\", key = \"other\" }, \
         { send_id = 3, algorithm = \"hmac-sha-256-128\", key = \"third\" }]",
    );
    let config = config(&text);
    let Some(Authentication::Ao(keys)) = &config.bgp.peers[0].authentication else {
        panic!("{:?}", config.bgp.peers[0].authentication);
    };
    let keys: Vec<_> = keys
        .iter()
        .map(|key| (key.send_id, key.recv_id, key.algorithm, key.key.expose()))
        .collect();
    assert_eq!(
        keys,
        [
            (7, 7, AoAlgorithm::HmacSha1, "s3cret"),
            (1, 2, AoAlgorithm::Aes128Cmac, "other"),
            (3, 3, AoAlgorithm::HmacSha256, "third"),
        ]
    );
    let explained = Explanation::new(&config, &[]);
    assert!(explained.to_string().contains(", TCP-AO"), "{explained}");
    for shown in [
        explained.to_string(),
        serde_json::to_string(&explained).unwrap(),
        format!("{config:?}"),
    ] {
        for secret in ["s3cret", "other\"", "third"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

/// A peer's password replaces its group's keys, and the other way round.
#[test]
fn authentication_of_groups() {
    let config = config(&MINIMAL.replacen(
        "[[bd]]",
        "[bgp.group.g]\nasn = 1\ntcp_ao = [{ send_id = 1, key = \"k\" }]\n\
         [[bgp.peer]]\naddress = \"198.18.0.101\"\ngroup = \"g\"\n\
         [[bgp.peer]]\naddress = \"198.18.0.102\"\ngroup = \"g\"\npassword = \"p\"\n[[bd]]",
        1,
    ));
    assert_eq!(
        config.bgp.peers[1].authentication,
        Some(keys(&[(1, 1)], "k"))
    );
    assert_eq!(config.bgp.peers[2].authentication, md5("p"));
}

#[test]
fn bad_keys() {
    for (lines, expected) in [
        ("tcp_ao = []", "8:10: tcp_ao is empty, expected keys"),
        (
            "tcp_ao = [{ send_id = 256, key = \"k\" }]",
            "8:23: send_id is 256, expected 0 to 255",
        ),
        (
            "tcp_ao = [{ send_id = 1 }]",
            "8:11: key without key and key_file, expected one of them",
        ),
        (
            "tcp_ao = [{ send_id = 1, key = \"\" }]",
            "8:32: key has 0 bytes, expected 1 to 80",
        ),
        (
            "tcp_ao = [{ send_id = 1, key = \"k\", algorithm = \"md5\" }]",
            "8:49: algorithm \"md5\", expected one of hmac-sha-1-96, aes-128-cmac-96, hmac-sha-256-128",
        ),
        (
            "tcp_ao = [{ send_id = 1, key = \"k\" }, { send_id = 2, recv_id = 1, key = \"l\" }]",
            "8:39: tcp_ao has an id twice: a key has send_id 2, recv_id 1, another one send_id 1, recv_id 1",
        ),
        (
            "password = \"p\"\ntcp_ao = [{ send_id = 1, key = \"k\" }]",
            "9:10: tcp_ao and a password exclude each other",
        ),
    ] {
        let error = parse(&with_peer(lines)).map(|_| ()).unwrap_err();
        assert_eq!(error, format!("vtep.toml:{expected}"), "{lines}");
    }
}

/// The kernel finds keys by address and id (RFC 5925 §3.1).
#[test]
fn keys_of_a_prefix() {
    let error = |peer: &str, prefix: &str, group: &str| {
        let text = with_peer(peer).replacen(
            "[[bd]]",
            &format!(
                "[bgp.group.g]\nasn = 1\n{group}\n[[bgp.dynamic]]\nprefix = \"{prefix}\"\n\
                 group = \"g\"\n[[bd]]"
            ),
            1,
        );
        parse(&text).err().unwrap_or_default()
    };
    let (one, two) = (
        "tcp_ao = [{ send_id = 1, key = \"k\" }]",
        "tcp_ao = [{ send_id = 2, key = \"k\" }]",
    );
    let md5 = "password = \"p\"";
    for (peer, prefix, group, expected) in [
        (one, "198.18.0.0/24", two, ""),
        (one, "198.19.0.0/24", one, ""),
        (md5, "198.18.0.0/24", md5, ""),
        (
            one,
            "198.18.0.0/24",
            one,
            "prefix 198.18.0.0/24 and peer 198.18.0.100 share addresses, and peer 198.18.0.100 has \
             a key with an id of send_id 1, recv_id 1 (RFC 5925 §3.1)",
        ),
        (
            md5,
            "198.18.0.0/24",
            one,
            "peer 198.18.0.100 has a password, where this has tcp_ao",
        ),
        (
            one,
            "198.18.0.0/24",
            md5,
            "peer 198.18.0.100 has tcp_ao, where this has a password",
        ),
        (
            "",
            "0.0.0.0/0",
            one,
            "prefix 0.0.0.0/0 has tcp_ao, for which it must be longer than 0",
        ),
    ] {
        let error = error(peer, prefix, group);
        assert!(error.ends_with(expected), "{error}");
        assert_eq!(error.is_empty(), expected.is_empty(), "{error}");
    }
}

/// A session goes on as long as it keeps a key, and no id begins to mean another one.
#[test]
fn changes_of_keys() {
    let change = |old: &Authentication, new: &Authentication| {
        old.ao().unwrap().can_become(new.ao().unwrap())
    };
    let old = keys(&[(1, 1)], "k");
    assert!(change(&old, &keys(&[(1, 1), (2, 2)], "k")));
    assert!(change(
        &keys(&[(1, 1), (2, 2)], "k"),
        &keys(&[(2, 2), (1, 1)], "k")
    ));
    assert!(change(&keys(&[(1, 1), (2, 2)], "k"), &keys(&[(2, 2)], "k")));
    assert!(!change(&old, &keys(&[(2, 2)], "k")));
    assert!(!change(&old, &keys(&[(1, 1)], "other")));
    assert!(!change(
        &keys(&[(1, 1), (2, 2)], "k"),
        &keys(&[(1, 1), (2, 3)], "k")
    ));
}

#[test]
fn password_file_is_looked_for_beside_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vtep.toml");
    fs::write(directory.path().join("key"), "s3cret\n").unwrap();
    let text = |name: &str| {
        MINIMAL.replace(
            "asn = 65000\n[[bd]]",
            &format!("asn = 65000\npassword_file = \"{name}\"\n[[bd]]"),
        )
    };
    fs::write(&file, text("key")).unwrap();
    let (config, _) = Config::load(&file).unwrap();
    assert_eq!(config.bgp.peers[0].authentication, md5("s3cret"));

    fs::write(&file, text("missing")).unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    let missing = directory.path().join("missing");
    let expected = format!(
        "{}:9:17: password_file: cannot read {}: No such file or directory (os error 2)",
        file.display(),
        missing.display()
    );
    assert_eq!(error, expected);

    fs::write(directory.path().join("key"), "\n").unwrap();
    fs::write(&file, text("key")).unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    assert!(
        error.ends_with("password_file has 0 bytes, expected 1 to 80"),
        "{error}"
    );
}
