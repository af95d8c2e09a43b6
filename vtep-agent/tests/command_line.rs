//! The binary as its users meet it: exit status, one line on stderr, JSON on stdout.
#![expect(
    clippy::expect_used,
    reason = "helpers of tests are not known as such to clippy"
)]

use std::{
    io::Read as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};
use vtep_agent::control::{Answer, Call, Request, Server};

const CONFIG: &str = r#"
[vtep]
address = "198.18.0.1"
uplinks = ["eth0"]
[bgp]
asn = 65000
[[bgp.peer]]
address = "198.18.0.100"
asn = "internal"
[[bd]]
name = "blue"
vni = 100
"#;

fn vtep_agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    command
        .args(arguments)
        .env_remove("VTEP_LOG")
        .env_remove("RUST_LOG");
    command
}

/// Runs it, and checks what holds for every command: status 0 and silence, or one line of error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = vtep_agent(arguments).output().expect("the binary runs");
    let stdout = String::from_utf8(stdout).expect("UTF-8");
    let stderr = String::from_utf8(stderr).expect("UTF-8");
    let status = status.code().expect("no signal");
    match status {
        0 => assert_eq!(stderr, "", "{arguments:?}"),
        _ => {
            assert!(
                stderr.starts_with("vtep-agent: "),
                "{arguments:?}: {stderr}"
            );
            assert_eq!(stderr.matches('\n').count(), 1, "{arguments:?}: {stderr}");
            assert_eq!(stdout, "", "{arguments:?}");
        }
    }
    (status, stdout, stderr)
}

/// Serves `reply` on `socket` until the process ends: what a daemon would say to each request.
fn serve(socket: &Path, reply: impl Fn(Request) -> Result<Value, String> + Send + 'static) {
    let socket = socket.to_owned();
    let (bound, wait) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let server = Server::bind(&socket, None).expect("a free socket");
            let (sender, mut calls) = tokio::sync::mpsc::channel::<Call>(1);
            tokio::spawn(server.run(sender));
            bound.send(()).expect("somebody waits");
            while let Some(Call::Request(request, answer)) = calls.recv().await {
                // A client that is gone needs no answer.
                let _ = answer.send(reply(request).map(Answer::Whole));
            }
        });
    });
    wait.recv().expect("the server is bound");
}

#[test]
fn help_and_version() {
    let (status, stdout, _) = run(&["--version"]);
    assert_eq!(
        (status, stdout),
        (0, format!("vtep-agent {}\n", env!("CARGO_PKG_VERSION")))
    );
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["check", "--help"],
        &["attach", "--help"],
        &["detach", "--help"],
        &["bd", "--help"],
        &["bd", "add", "--help"],
        &["bd", "del", "--help"],
        &["port", "add", "--help"],
        &["port", "del", "--help"],
        &["show", "--help"],
        &["reload", "--help"],
    ] {
        let (status, stdout, _) = run(arguments);
        assert_eq!(status, 0, "{arguments:?}");
        assert!(
            stdout.contains("--socket <PATH>"),
            "{arguments:?}: {stdout}"
        );
    }
}

#[test]
fn check() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("vtep.toml");
    let path = file.to_str().expect("UTF-8");

    std::fs::write(&file, CONFIG).expect("written");
    let (status, stdout, _) = run(&["check", "--config", path]);
    assert_eq!(status, 0);
    assert!(stdout.contains("Bridge domain blue, VNI 100\n"), "{stdout}");
    let (status, stdout, _) = run(&["check", "--config", path, "--json"]);
    let json: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(
        (status, &json["bds"][0]["rt_export"]),
        (0, &json!(["65000:100"]))
    );

    std::fs::write(&file, CONFIG.replace("vni", "vnii")).expect("written");
    for command in ["check", "run"] {
        let (status, _, stderr) = run(&[command, "--config", path]);
        assert_eq!(status, 1);
        let expected = format!("vtep-agent: {path}:12:1: unknown key `vnii`, expected one of");
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
    let (status, _, stderr) = run(&["check", "--config", "/nonexistent"]);
    assert_eq!(status, 1);
    assert_eq!(
        stderr,
        "vtep-agent: /nonexistent: cannot read the configuration: \
         No such file or directory (os error 2)\n"
    );
}

#[test]
fn usage() {
    for arguments in [
        &[][..],
        &["fly"],
        &["check", "--config"],
        &["bd"],
        &["bd", "add", "blue", "--vni", "16777216"],
        &["bd", "add", "b d", "--vni", "1"],
        &["port", "add", "tap1"],
        &[
            "port",
            "add",
            "tap1",
            "--bd",
            "blue",
            "--mac",
            "01:00:5e:00:00:01",
        ],
        &["show"],
        &["run", "--log-level", "loud"],
        &["run", "--log-format", "xml"],
    ] {
        assert_eq!(run(arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn no_agent() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("agent.sock");
    let path = socket.to_str().expect("UTF-8");
    for arguments in [
        &["show", "macs"][..],
        &["attach", "eth0"],
        &["detach", "eth0"],
        &["bd", "add", "blue", "--vni", "1"],
        &["port", "del", "tap1"],
        &["reload"],
    ] {
        let (status, _, stderr) = run(&[arguments, &["--socket", path]].concat());
        assert_eq!(status, 1, "{arguments:?}");
        let expected = format!("vtep-agent: cannot connect to {path}: No such file or directory");
        assert!(stderr.starts_with(&expected), "{stderr}");
        assert!(stderr.contains("is the agent running?"), "{stderr}");
    }
}

#[test]
fn agent_answers() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("agent.sock");
    let path = socket.to_str().expect("UTF-8");
    serve(&socket, |request| match request {
        Request::Show(..) => Ok(json!([{"address": "198.18.0.2", "bds": ["blue"], "macs": 1,
            "metric": 20, "reachable": true, "added_later": 1}])),
        Request::ShowRoutes(_) => Ok(json!([{"prefix": "198.18.0.2/32", "next_hop": "192.0.2.1",
            "peer": "192.0.2.1", "best": false, "installed": true, "stale": false, "reason": null,
            "attributes": {"as_path": "65101 65002", "local_pref": null, "med": null,
            "origin": "igp"}}])),
        Request::Change(_) | Request::ClearCounters => Ok(Value::Null),
        Request::Trace(_) => Err("another trace is running: end it first".to_owned()),
        Request::Reload => Err("vtep.toml:1:1: missing key `vtep`".to_owned()),
    });
    let (status, _, stderr) = run(&["trace", "--bd", "blue", "--socket", path]);
    assert_eq!(status, 1);
    assert!(stderr.contains("another trace"), "{stderr}");
    let (status, _, stderr) = run(&["trace", "--reason", "bad_luck", "--socket", path]);
    assert_eq!(status, 2);
    assert!(stderr.contains("no reason"), "{stderr}");
    let (status, stdout, _) = run(&["show", "vteps", "--socket", path]);
    assert_eq!(status, 0);
    assert_eq!(
        stdout,
        "VTEP        REACHABLE  METRIC  MACS  BDS\n198.18.0.2  yes            20     1  blue\n"
    );
    let (status, stdout, _) = run(&["show", "vteps", "--json", "--socket", path]);
    let json: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((status, &json[0]["added_later"]), (0, &json!(1)));
    let ipv4 = ["show", "routes", "--family", "ipv4", "--socket", path];
    let (status, stdout, _) = run(&ipv4);
    assert_eq!(status, 0);
    assert!(
        stdout.ends_with(
            "    PREFIX         NEXT HOP   PEER       AS PATH      REASON\n \
             >  198.18.0.2/32  192.0.2.1  192.0.2.1  65101 65002  -\n"
        ),
        "{stdout}"
    );
    let (status, stdout, _) = run(&["bd", "add", "blue", "--vni", "1", "--socket", path]);
    assert_eq!((status, stdout.as_str()), (0, ""));
    let (status, _, stderr) = run(&["reload", "--socket", path]);
    assert_eq!(status, 1);
    assert_eq!(stderr, "vtep-agent: vtep.toml:1:1: missing key `vtep`\n");
}

/// `show macs | head`: many MACs, and a reader that leaves early.
#[test]
fn big_tables_and_closed_pipes() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("agent.sock");
    let path = socket.to_str().expect("UTF-8");
    serve(&socket, |_| {
        let mac = json!({"bd": "blue", "vni": 100, "mac": "02:00:00:00:00:02", "origin": "remote",
            "port": null, "vtep": "198.18.0.2", "esi": null, "seq": 0, "sticky": false,
            "duplicate": false, "age_s": 3});
        Ok(vec![mac; 20_000].into())
    });
    let (status, stdout, _) = run(&["show", "macs", "--socket", path]);
    assert_eq!((status, stdout.lines().count()), (0, 20_001));

    let mut child = vtep_agent(&["show", "macs", "--json", "--socket", path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 100]).expect("output");
    drop(stdout);
    let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(String::from_utf8_lossy(&stderr), "");
}
