//! The control socket against those who must not use it, and those who use it too much.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use vtep_tests::{Agent, AgentConfig, Lab, Metrics, Pair, Random, eventually};

const REQUEST: &str = "{\"version\":1,\"command\":\"show\",\"what\":\"bgp\"}\n";
/// A loaded machine needs time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody is in this group but whom we put there.
const GROUP: libc::gid_t = 64_117;
/// Nobody.
const USER: libc::uid_t = 65_534;

/// Mode 0660 with the configured group; a member gets an answer, whether the group is its first or
/// not; a stranger gets none, not even when the socket's mode would let it.
#[test]
fn only_root_and_the_group_are_served() -> Result<()> {
    let lab = Lab::new("access")?;
    let underlay = lab.underlay()?;
    let host = underlay.host("h1")?;
    let config = AgentConfig::new(&host, Pair::ASN)
        .vtep("uplinks = []")
        .vtep(&format!("socket_group = \"{GROUP}\""));
    let mut agent = Agent::start(&host, &config)?;
    let socket = agent.socket().to_owned();
    let file = fs::metadata(&socket)?;
    ensure!(file.mode() & 0o777 == 0o660, "{:o}", file.mode());
    ensure!((file.uid(), file.gid()) == (0, GROUP), "{file:?}");
    // The way to it is open to all; the socket itself is what is tried.
    for directory in socket.ancestors().skip(1) {
        if directory.starts_with(lab.directory()) {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        }
    }

    for (group, groups) in [(GROUP, vec![]), (USER, vec![7, GROUP])] {
        let reply = ask_as(&socket, group, groups)?;
        ensure!(reply.contains("\"ok\":true"), "{reply}");
    }
    let stranger = ask_as(&socket, USER, vec![7]).expect_err("a stranger was served");
    ensure!(
        format!("{stranger:#}").contains("Permission denied"),
        "{stranger:#}"
    );
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
    let reply = ask_as(&socket, USER, vec![7])?;
    let expected =
        format!("user {USER} may not use this socket; run this as root or in group {GROUP}");
    ensure!(
        reply.contains("\"ok\":false") && reply.contains(&expected),
        "{reply}"
    );
    agent
        .daemon()
        .wait_for_log("may not use this socket", PATIENCE)?;
    agent.show("bgp").map(drop)
}

/// Asks with the rights of a user of these groups. The rights are those of a thread of its own.
fn ask_as(socket: &Path, group: libc::gid_t, groups: Vec<libc::gid_t>) -> Result<String> {
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            become_user(group, &groups)?;
            let stream = UnixStream::connect(socket)?;
            ask(&stream)
        });
        asked.join().map_err(|_| anyhow!("the thread panicked"))?
    })
}

/// Only for the calling thread: the system calls themselves, which libc's functions would make in
/// all threads.
fn become_user(group: libc::gid_t, groups: &[libc::gid_t]) -> Result<()> {
    // SAFETY: a live list of as many numbers as are said.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    // SAFETY: three numbers each.
    let set = [set, unsafe {
        libc::syscall(libc::SYS_setresgid, group, group, group)
    }];
    // SAFETY: as above.
    let user = unsafe { libc::syscall(libc::SYS_setresuid, USER, USER, USER) };
    ensure!(
        set == [0, 0] && user == 0,
        "{}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

fn ask(mut stream: &UnixStream) -> Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    // Who is refused may be refused before it has spoken.
    let _ = stream.write_all(REQUEST.as_bytes());
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply)?;
    Ok(reply)
}

/// Hundreds of connections with nothing, half requests, noise and too much: each gets an error or is
/// closed, the agent goes on, and gives back what they cost.
#[test]
fn a_flood_is_survived() -> Result<()> {
    let lab = Lab::new("flood-control")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start(&lab, &underlay)?;
    pair.pings()?;
    let before = pair.a1.daemon().descriptors()?;
    let socket = pair.a1.socket().to_owned();
    let mut held = Vec::new();
    for number in 0..400_usize {
        let mut stream = UnixStream::connect(&socket)?;
        // Who is refused may find the other end closed.
        let _ = match number % 5 {
            0 => Ok(()),
            1 => stream.write_all(b"{\"version\":1,"),
            2 => stream.write_all(&noise(number)),
            3 => stream.write_all(&vec![b'{'; 70_000]),
            _ => stream.write_all(&REQUEST.as_bytes().repeat(20)),
        };
        held.push(stream);
    }
    // Silent ones take the places that the others gave back. Then even a good request is refused, in
    // words, and nothing else suffers.
    let message = eventually(PATIENCE, || {
        held.push(UnixStream::connect(&socket)?);
        pair.a1.cli("show bgp")?.failed(1)
    })?;
    ensure!(message.contains("more than 64 connections"), "{message}");
    let metrics = Metrics::get(pair.h1.ns(), "/healthz")?;
    ensure!(metrics.0 == 200, "{metrics:?}");
    pair.pings()?;
    drop(held);
    eventually(PATIENCE, || pair.a1.show("bgp").map(drop))?;
    eventually(PATIENCE, || {
        let now = pair.a1.daemon().descriptors()?;
        ensure!(now <= before, "{now} descriptors, {before} before");
        Ok(())
    })?;

    // The same for HTTP, whose connections end by themselves.
    let mut answered = 0;
    for number in 0..64_usize {
        answered += usize::from(pair.h1.ns().enter(|| http(number))?);
    }
    ensure!(answered > 0);
    pair.a1.metrics()?;
    eventually(PATIENCE, || {
        let now = pair.a1.daemon().descriptors()?;
        ensure!(now <= before, "{now} descriptors, {before} before");
        Ok(())
    })?;
    pair.pings()
}

/// Says something that is no HTTP. Whether there was an answer.
fn http(number: usize) -> Result<bool> {
    let mut stream = std::net::TcpStream::connect(Metrics::ADDRESS)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let said = match number % 3 {
        0 => noise(number),
        1 => vec![b'A'; 20_000],
        _ => b"GET /metrics HTTP/9\r\n\r\n".to_vec(),
    };
    let _ = stream.write_all(&said);
    let _ = stream.write_all(b"\r\n\r\n");
    let mut answer = Vec::new();
    // A reset is an answer, too, if not one to count; after it there is nothing left to shut down.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    Ok(stream.read_to_end(&mut answer).is_ok() && !answer.is_empty())
}

/// A line of nothing, the same from run to run.
fn noise(seed: usize) -> Vec<u8> {
    let mut bytes = Random::new(seed as u64).noise(500);
    bytes.push(b'\n');
    bytes
}
