use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::Shutdown,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::{
    config::XdpMode,
    core::{Command, DeclaredEndpoint, PIECE, Piece, Rows},
    view,
};

/// A server whose daemon answers with the request's debug text, and refuses `reload`.
struct Agent {
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Agent {
    /// Its thread ends with the test's process.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("run/agent.sock");
        let path = socket.clone();
        let (bound, wait) = std::sync::mpsc::channel();
        thread::spawn(move || {
            runtime().block_on(async {
                let (sender, mut calls) = mpsc::channel::<Call>(1);
                tokio::spawn(Server::bind(&path, None).unwrap().run(sender));
                bound.send(()).unwrap();
                while let Some(Call::Request(request, answer)) = calls.recv().await {
                    let result = match request {
                        Request::Reload => Err("no\nfile".to_owned()),
                        request => Ok(Answer::Whole(json!(format!("{request:?}")))),
                    };
                    let _ = answer.send(result);
                }
            });
        });
        wait.recv().unwrap();
        Self {
            socket,
            _directory: directory,
        }
    }

    fn connect(&self) -> Connection {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Connection(BufReader::new(stream))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

struct Connection(BufReader<UnixStream>);

impl Connection {
    fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
    }

    /// The next line; empty at the end.
    fn receive(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, line: &str) -> Value {
        self.send(&format!("{line}\n"));
        serde_json::from_str(&self.receive()).unwrap()
    }
}

fn parse(line: &str) -> Result<Request, String> {
    Request::parse(line.as_bytes()).map_err(|error| error.to_string())
}

fn change(line: &str) -> Command {
    match parse(line) {
        Ok(Request::Change(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn requests() {
    let text = |line: &str| format!("{:?}", parse(line).unwrap());
    assert_eq!(text(r#"{"version":1,"command":"reload"}"#), "Reload");
    assert_eq!(
        text(r#"{"version":1,"command":"show","what":"macs","bd":"blue"}"#),
        "Show(Macs, Some(blue))"
    );
    assert_eq!(
        text(r#"{"command":"show","what":"bgp","bd":null,"version":1}"#),
        "Show(Bgp, None)"
    );
    let attach = change(r#"{"version":1,"command":"attach","nic":"eth0","xdp":"native"}"#);
    assert!(
        matches!(attach, Command::Attach(nic, Some(XdpMode::Native)) if nic.as_str() == "eth0")
    );
    let detach = change(r#"{"version":1,"command":"detach","nic":"eth0"}"#);
    assert!(matches!(detach, Command::Detach(nic) if nic.as_str() == "eth0"));
    let add = change(r#"{"version":1,"command":"bd-add","name":"blue","vni":100}"#);
    assert!(matches!(add, Command::AddBd(bd) if bd.vni.get() == 100 && bd.suppress));
    let add = change(
        r#"{"version":1,"command":"bd-add","name":"blue","vni":100,
            "settings":{"suppress":false,"anycast":["10.0.0.1"]}}"#,
    );
    assert!(matches!(add, Command::AddBd(bd) if !bd.suppress && bd.anycast.len() == 1));
    let del = change(r#"{"version":1,"command":"bd-del","name":"blue"}"#);
    assert!(matches!(del, Command::DeleteBd(name) if name.as_str() == "blue"));
    let Command::AddPort { bd, port, endpoint } = change(
        r#"{"version":1,"command":"port-add","device":"tap1","bd":"blue","vlan":7,
            "mac":"02:00:00:00:00:0A","ips":["10.0.0.1","2001:db8::1"],"sticky":true}"#,
    ) else {
        panic!("port-add");
    };
    assert_eq!(
        (bd.as_str(), port.to_string()),
        ("blue", "tap1 (VLAN 7)".to_owned())
    );
    let expected = DeclaredEndpoint {
        mac: "02:00:00:00:00:0a".parse().unwrap(),
        ips: vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        sticky: true,
    };
    assert_eq!(endpoint, Some(expected));
    let port = change(r#"{"version":1,"command":"port-add","device":"tap1","bd":"blue"}"#);
    assert!(matches!(port, Command::AddPort { endpoint: None, .. }));
    let del =
        change(r#"{"version":1,"command":"port-del","device":"tap1","mac":"02:00:00:00:00:01"}"#);
    assert!(matches!(
        del,
        Command::DeletePort {
            vlan: None,
            mac: Some(_),
            ..
        }
    ));
}

/// Every request of the documentation is one, and every command is documented.
#[test]
fn documentation() {
    let text = include_str!("../../../docs/api.md");
    let requests: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("{\"version\""))
        .collect();
    assert!(requests.len() >= 5, "{requests:?}");
    for line in requests {
        parse(line).unwrap();
    }
    let unknown = parse(r#"{"version":1,"command":"?"}"#).unwrap_err();
    let (_, commands) = unknown.split_once("expected one of ").unwrap();
    for command in commands.split(", ") {
        assert!(text.contains(&format!("| {command} |")), "{command}");
    }
}

#[test]
fn bad_requests_are_named() {
    for (fields, expected) in [
        (
            r#""command":"fly""#,
            "unknown variant `fly`, expected one of `show`, `attach`",
        ),
        (r#""what":"macs""#, "missing field `command`"),
        (r#""command":"show""#, "missing field `what`"),
        (
            r#""command":"show","what":"fdb""#,
            "unknown variant `fdb`, expected one of `bgp`, `routes`",
        ),
        (
            r#""command":"show","what":"macs","vni":1"#,
            "unknown field `vni`, expected one of `what`, `bd`, `family`",
        ),
        (
            r#""command":"show","what":"macs","bd":"b d""#,
            "not a valid bridge domain name",
        ),
        (
            &format!(
                r#""command":"port-add","device":"t","bd":"b","mac":"02:00:00:00:00:01","ips":[{}]"#,
                ["\"10.0.0.1\""; 257].join(",")
            ),
            "257 ips, expected at most 256",
        ),
        (r#""command":"drain","time_s":3601"#, "time_s is 3601"),
        (r#""command":"reload","now":true"#, "unknown field `now`"),
        (
            r#""command":"clear","what":"counters","bd":"b""#,
            "counters are cleared as a whole",
        ),
        (
            r#""command":"attach","nic":"""#,
            "not a valid network device name",
        ),
        (
            r#""command":"attach","nic":"eth0","xdp":"fast""#,
            "unknown variant `fast`",
        ),
        (
            r#""command":"bd-add","name":"b","vni":0"#,
            "vni 0: not a usable VNI (expected 1 to 16777215)",
        ),
        (
            r#""command":"bd-add","name":"b","vni":-1"#,
            "invalid value: integer `-1`",
        ),
        (
            r#""command":"bd-add","name":"b","vni":16777216"#,
            "vni 16777216: not a usable VNI",
        ),
        (
            r#""command":"port-add","device":"tap*","bd":"b""#,
            "is a glob",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","vlan":0"#,
            "vlan is 0, expected 1 to 4094",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","vlan":4095"#,
            "vlan is 4095",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","sticky":true"#,
            "an endpoint needs a mac",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","ips":["10.0.0.1"]"#,
            "an endpoint needs a mac",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","mac":"x""#,
            "mac \"x\": not a MAC address",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","mac":"01:00:5e:00:00:01""#,
            "group address",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","mac":"00:00:00:00:00:00""#,
            "or zero",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","mac":"02:00:00:00:00:01","ips":["224.0.0.1"]"#,
            "ip 224.0.0.1 is not an address that a VM can have",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","mac":"02:00:00:00:00:01","ips":["::"]"#,
            "ip :: is not",
        ),
        (
            r#""command":"port-add","device":"t","bd":"b","mac":"02:00:00:00:00:01","ips":["x"]"#,
            "invalid IP address",
        ),
        (
            r#""command":"port-del","device":"t","vlan":4095"#,
            "vlan is 4095",
        ),
        (
            r#""command":"show","what":"macs","family":"ipv4""#,
            "only routes are by family",
        ),
        (
            r#""command":"show","what":"routes","family":"ipv4","bd":"blue""#,
            "routes of bridge domains are EVPN",
        ),
        (
            r#""command":"show","what":"routes","family":"vpn""#,
            "unknown variant `vpn`",
        ),
    ] {
        let error = parse(&format!("{{\"version\":1,{fields}}}")).unwrap_err();
        assert!(error.contains(expected), "{fields}: {error}");
    }
    for (line, expected) in [
        ("", "not a request: EOF"),
        ("[]", "not a request: invalid type: sequence"),
        ("{}", "bad request: missing field `version`, expected 1"),
        (
            r#"{"version":2,"command":"reload"}"#,
            "protocol version 2 is not supported, this agent speaks version 1",
        ),
        (
            r#"{"version":"1","command":"reload"}"#,
            "protocol version \"1\" is not supported",
        ),
        (
            r#"{"version":1,"command":"reload"} {}"#,
            "not a request: trailing characters",
        ),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.starts_with(expected), "{line}: {error}");
    }
}

/// Whatever the client can say, the server understands.
#[test]
fn client_and_server_agree() {
    let agent = Agent::start();
    let message = Message::PortAdd {
        device: "tap1".to_owned(),
        bd: "blue".to_owned(),
        vlan: Some(3),
        mac: Some("02:00:00:00:00:01".to_owned()),
        ips: vec!["10.0.0.1".parse().unwrap()],
        sticky: true,
    };
    let data = call(&agent.socket, &message).unwrap();
    let expected = format!("{:?}", Request::try_from(message).unwrap());
    assert_eq!(data, json!(expected));
    let show = Message::Show {
        what: Table::Macs,
        bd: None,
        family: None,
    };
    assert_eq!(
        call(&agent.socket, &show).unwrap(),
        json!("Show(Macs, None)")
    );
    let refusal = call(&agent.socket, &Message::Reload {}).unwrap_err();
    assert_eq!(refusal.to_string(), "no\nfile");
}

#[test]
fn several_requests_and_mistakes_on_one_connection() {
    let agent = Agent::start();
    let mut connection = agent.connect();
    let reply = connection.ask(r#"{"version":1,"command":"show","what":"vteps"}"#);
    assert_eq!(reply, json!({"ok": true, "data": "Show(Vteps, None)"}));
    let reply = connection.ask("not JSON");
    assert_eq!(reply["ok"], false);
    assert_eq!(reply.as_object().unwrap().len(), 2);
    let reply = connection.ask(r#"{"version":1,"command":"reload"}"#);
    assert_eq!(reply, json!({"ok": false, "error": "no\nfile"}));
    // Empty lines are nothing; two requests in one write are two.
    connection.send("\n\n{\"version\":1,\"command\":\"reload\"}\n{\"version\":3}\r\n");
    assert!(connection.receive().contains("no\\nfile"));
    assert!(connection.receive().contains("protocol version 3"));
    // Half a request is not one.
    connection.send("{\"version\":1,\"command\":\"reload\"}");
    connection.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(connection.receive(), "");
}

#[test]
fn longest_request() {
    let agent = Agent::start();
    let request = r#"{"version":1,"command":"show","what":"vteps"}"#;
    let mut connection = agent.connect();
    let padded = request.to_owned() + &" ".repeat(MAX_REQUEST - 1 - request.len());
    assert_eq!(connection.ask(&padded)["ok"], true);
    // The server hangs up at the limit, perhaps before all is written.
    connection.send(&format!("{padded} "));
    let refusal = connection.receive();
    assert!(
        refusal.contains("a request has at most 65536 bytes"),
        "{refusal}"
    );
    assert_eq!(connection.receive(), "");
}

#[test]
fn most_connections() {
    let agent = Agent::start();
    let mut open: Vec<_> = (0..64).map(|_| agent.connect()).collect();
    for connection in &mut open {
        let reply = connection.ask(r#"{"version":1,"command":"show","what":"bds"}"#);
        assert_eq!(reply["ok"], true);
    }
    let refusal = agent.connect().receive();
    assert!(refusal.contains("more than 64 connections"), "{refusal}");
    open.pop();
    // The server notices the end in its own time.
    let accepted = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(20));
        let show = Message::Show {
            what: Table::Bds,
            bd: None,
            family: None,
        };
        call(&agent.socket, &show).is_ok()
    });
    assert!(accepted);
}

#[test]
fn parallel_clients_get_their_own_answers() {
    let agent = Agent::start();
    thread::scope(|scope| {
        for client in 0..8 {
            let mut connection = agent.connect();
            scope.spawn(move || {
                for round in 0..50 {
                    let name = format!("bd-{client}-{round}");
                    let line =
                        format!(r#"{{"version":1,"command":"show","what":"macs","bd":"{name}"}}"#);
                    let expected = format!("Show(Macs, Some({name}))");
                    assert_eq!(connection.ask(&line)["data"], json!(expected));
                }
            });
        }
    });
}

/// 200,000 rows are asked for in pieces of bounded size, only as fast as the client reads; whoever asks
/// something else meanwhile waits for one piece at most. The reply is one line as any other.
#[test]
fn long_tables_in_pieces() {
    const ROWS: u32 = 200_000;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let path = socket.clone();
    let (bound, wait) = std::sync::mpsc::channel();
    let (turns, turn) = std::sync::mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async {
            let (sender, mut calls) = mpsc::channel::<Call>(1);
            tokio::spawn(Server::bind(&path, None).unwrap().run(sender));
            bound.send(()).unwrap();
            while let Some(call) = calls.recv().await {
                match call {
                    Call::Request(Request::Show(Table::Macs, _), answer) => {
                        let _ = answer.send(Ok(Answer::Rows(Rows::of_macs(ROWS))));
                    }
                    Call::Request(_, answer) => {
                        let _ = answer.send(Ok(Answer::Whole(Value::Null)));
                    }
                    Call::Piece(rows, answer) => {
                        turns.send(rows.len()).unwrap();
                        let row = view::Neighbor {
                            bd: "blue".to_owned(),
                            ip: [10, 0, 0, 1].into(),
                            mac: "02:00:00:00:00:01".to_owned(),
                            origin: "remote".to_owned(),
                            source: None,
                            lease_s: None,
                            router: false,
                            r#override: false,
                            immutable: false,
                            anycast: false,
                            duplicate: false,
                            duplicate_action: None,
                            moves: None,
                        };
                        // Some pieces have no rows any more.
                        let count = if rows.len() == PIECE { PIECE } else { 0 };
                        let _ = answer.send(Piece::Neighbors(vec![row; count]));
                    }
                }
            }
        });
    });
    wait.recv().unwrap();
    let connect = || {
        let stream = UnixStream::connect(&socket).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Connection(BufReader::new(stream))
    };
    let mut slow = connect();
    slow.send("{\"version\":1,\"command\":\"show\",\"what\":\"macs\"}\n");
    let mut work = vec![turn.recv_timeout(Duration::from_secs(60)).unwrap()];
    // It does not read, so it is not worked for; others are.
    let bds = r#"{"version":1,"command":"show","what":"bds"}"#;
    assert_eq!(connect().ask(bds), json!({"ok": true, "data": null}));
    work.extend(turn.try_iter());
    let pieces = (ROWS as usize).div_ceil(PIECE);
    assert!(work.len() < pieces / 2, "{} of {pieces}", work.len());

    // One that goes away is not worked for either.
    let mut gone = connect();
    gone.send("{\"version\":1,\"command\":\"show\",\"what\":\"macs\"}\n");
    let mut byte = [0];
    std::io::Read::read_exact(&mut gone.0, &mut byte).unwrap();
    drop(gone);
    assert_eq!(connect().ask(bds)["ok"], true);
    let before = work.len() + turn.try_iter().count();

    let reply: Value = serde_json::from_str(&slow.receive()).unwrap();
    assert_eq!(reply["ok"], true);
    let whole = ROWS as usize / PIECE * PIECE;
    assert_eq!(reply["data"].as_array().unwrap().len(), whole);
    let rest: Vec<_> = turn.try_iter().collect();
    assert!(before + rest.len() < 2 * pieces);
    work.extend(rest);
    assert!(work.iter().all(|keys| *keys <= PIECE));
    assert_eq!(slow.ask(bds)["ok"], true, "the connection goes on");
}

#[test]
fn socket_file() {
    let agent = Agent::start();
    let mode = fs::metadata(&agent.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    let runtime = runtime();
    let bind = |path: &Path| {
        let _entered = runtime.enter();
        Server::bind(path, None)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let error = bind(&agent.socket).unwrap_err();
    let expected = format!(
        "another agent is running on {}; stop it, or set another vtep.socket",
        agent.socket.display()
    );
    assert_eq!(error, expected);
    assert_eq!(agent.connect().ask("{}")["ok"], false);

    // Left over from an agent that was killed.
    let stale = agent.socket.with_file_name("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    bind(&stale).unwrap();
    assert!(!stale.exists(), "removed at the end");

    let file = agent.socket.with_file_name("file");
    fs::write(&file, "precious").unwrap();
    let error = bind(&file).unwrap_err();
    assert!(
        error.contains("is there and no socket; remove it"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn nobody_answers() {
    let error = call("/nonexistent/agent.sock".as_ref(), &Message::Reload {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot connect to /nonexistent/agent.sock: No such file or directory (os error 2); \
         is the agent running? start it with `vtep-agent run --config FILE`"
    );
}

#[test]
fn stops_with_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    runtime().block_on(async {
        let server = Server::bind(&socket, None).unwrap();
        let (sender, calls) = mpsc::channel::<Call>(1);
        let running = tokio::spawn(server.run(sender));
        drop(calls);
        tokio::time::timeout(Duration::from_secs(5), running)
            .await
            .unwrap()
            .unwrap();
    });
    assert!(!socket.exists());
}

/// A client that says nothing does not hold its slot for ever.
#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let server = Server::bind(&socket, None).unwrap();
    let (sender, _calls) = mpsc::channel::<Call>(1);
    tokio::spawn(server.run(sender));
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut byte)
        .await
        .unwrap();
    assert_eq!(read, 0);
    assert_eq!(started.elapsed().as_secs(), 60);
}
