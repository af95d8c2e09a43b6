//! 256 peers at once, of which one flaps, one reads nothing, and one sends garbage: the others must not
//! notice.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout, timeout_at},
};

use vtep_tests::Random;

use super::*;

const WELL_BEHAVED: u8 = 253;
/// Who has which last octet.
const FLAPPING: u8 = 253;
const DEAF: u8 = 254;
const GARBAGE: u8 = 255;

const HOLD_TIME: u16 = 9;
/// Between two KEEPALIVEs at most (RFC 4271 §4.4).
const INTERVAL: Duration = Duration::from_secs(3);
const LATE: Duration = Duration::from_secs(1);
/// How long the bad ones may try.
const TRIAL: Duration = Duration::from_secs(30);
/// Until all are there.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Routes that everybody is told, and that the deaf one asks for again and again.
const TABLE: u16 = 1000;
/// Routes that come and go with the flapping one.
const FLAP: u16 = 20;

/// Nothing has begun, the trial goes on, or it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Arrival,
    Trial,
    End,
}

/// A crowd of reflector clients from one prefix.
fn bench() -> Result<Bench> {
    let lab = Lab::new("crowd")?;
    let underlay = lab.underlay()?;
    let (dut, peer) = (underlay.host("dut")?, underlay.host("peer")?);
    let addresses = (0..=255).map(|n| format!("addr add {} dev lo\n", address(n)));
    peer.ns().ip(&addresses.collect::<String>())?;
    let via = peer.address();
    dut.ns()
        .ip(&format!("route add 198.19.0.0/24 via {via}\n"))?;
    let config = AgentConfig::new(&dut, ASN)
        .tables(
            "[bgp.group.crowd]\nasn = \"internal\"\nhold_time = 9\nroute_reflector_client = true\n\
             [[bgp.dynamic]]\nprefix = \"198.19.0.0/24\"\ngroup = \"crowd\"\nlimit = 300",
        )
        .bd("blue", 100, &["vnet-*"]);
    let agent = Agent::start(&dut, &config)?;
    Ok(Bench {
        agent,
        config,
        dut,
        peer,
    })
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 0, number)
}

async fn connect(number: u8, to: Ipv4Addr, buffer: Option<u32>) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(SocketAddr::from((address(number), 0)))?;
    Ok(socket.connect(SocketAddr::from((to, 179))).await?)
}

/// OPEN and KEEPALIVE, without waiting for the other side's.
async fn open(stream: &mut TcpStream, number: u8) -> Result<()> {
    let open = BgpMessage::open(ASN, HOLD_TIME, address(number));
    stream.write_all(&open.bytes()).await?;
    Ok(stream.write_all(&BgpMessage::keepalive().bytes()).await?)
}

/// Whole messages at the front of what was received: their types.
fn take_messages(buffer: &mut Vec<u8>) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some(&[high, low, kind]) = buffer.get(16..19) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > buffer.len() {
            break;
        }
        buffer.drain(..length);
        kinds.push(kind);
    }
    kinds
}

/// This many routes of a peer, in UPDATEs of a hundred.
fn table(number: u8, count: u16) -> Vec<u8> {
    let route = |at: u16| {
        let mut nlri = rt2(number);
        let [high, low] = at.to_be_bytes();
        // Into the MAC, and the peer into the RD.
        nlri[9] = number;
        (nlri[27], nlri[28]) = (high, low);
        nlri
    };
    let routes: Vec<_> = (0..count).map(route).collect();
    let updates = routes
        .chunks(100)
        .map(|routes| update(&[common(0), mp_reach(&routes.concat())].concat()).bytes());
    updates.flatten().collect()
}

/// Does what is proper, and answers the longest time in which it heard nothing during the trial.
async fn well_behaved(number: u8, to: Ipv4Addr, mut act: watch::Receiver<Act>) -> Result<Duration> {
    let mut stream = connect(number, to, None).await?;
    open(&mut stream, number).await?;
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    let mut alive = interval(Duration::from_secs(2));
    let mut established = false;
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        tokio::select! {
            read = stream.read(&mut chunk) => {
                let read = read?;
                ensure!(read > 0, "peer {number}: the session was closed");
                buffer.extend(chunk.iter().take(read));
                let kinds = take_messages(&mut buffer);
                ensure!(!kinds.contains(&BgpMessage::NOTIFICATION), "peer {number}: NOTIFICATION");
                if !established && kinds.contains(&BgpMessage::KEEPALIVE) {
                    established = true;
                    if number == 0 {
                        stream.write_all(&table(number, TABLE)).await?;
                    }
                }
                if !kinds.is_empty() {
                    if *act.borrow() == Act::Trial {
                        longest = longest.max(last.elapsed());
                    }
                    last = Instant::now();
                }
            }
            _ = alive.tick() => stream.write_all(&BgpMessage::keepalive().bytes()).await?,
            changed = act.changed() => {
                changed?;
                if *act.borrow() == Act::End {
                    ensure!(established, "peer {number}: no session");
                    return Ok(longest.max(last.elapsed()));
                }
            }
        }
    }
}

/// Comes, says something, and goes without a word: how often.
async fn flapping(to: Ipv4Addr, act: watch::Receiver<Act>) -> Result<u32> {
    let mut rounds = 0;
    while *act.borrow() == Act::Trial {
        let mut stream = connect(FLAPPING, to, None).await?;
        open(&mut stream, FLAPPING).await?;
        stream.write_all(&table(FLAPPING, FLAP)).await?;
        // Far enough to have been Established.
        let mut answer = [0; 256];
        let _ = timeout(LATE, stream.read(&mut answer)).await;
        sleep(Duration::from_millis(100)).await;
        if rounds % 2 == 0 {
            stream.set_zero_linger()?;
        }
        drop(stream);
        rounds += 1;
        sleep(Duration::from_millis(400)).await;
    }
    Ok(rounds)
}

/// Asks for everything again and again, and takes nothing: how many bytes lie in its window at last.
async fn deaf(to: Ipv4Addr, act: watch::Receiver<Act>) -> Result<usize> {
    let mut stream = connect(DEAF, to, Some(4096)).await?;
    open(&mut stream, DEAF).await?;
    let refresh = BgpMessage::new(BgpMessage::ROUTE_REFRESH, &[0, 25, 0, 70]);
    let words = [refresh.bytes(), BgpMessage::keepalive().bytes()].concat();
    while *act.borrow() == Act::Trial {
        stream.write_all(&words).await?;
        sleep(Duration::from_millis(500)).await;
    }
    let mut waiting = vec![0; 1 << 20];
    Ok(stream.read(&mut waiting).await?)
}

/// Sends what is no BGP, and what is hardly: how often it was thrown out.
async fn garbage(to: Ipv4Addr, act: watch::Receiver<Act>) -> Result<u32> {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let mut rounds = 0;
    while *act.borrow() == Act::Trial {
        let mut noise = random.noise(4000);
        let mut stream = connect(GARBAGE, to, None).await?;
        if rounds % 2 == 0 {
            open(&mut stream, GARBAGE).await?;
            // Whole messages of noise, the last of which can't be read.
            let part = |part: &[u8]| BgpMessage::new(BgpMessage::UPDATE, part).bytes();
            noise = noise.chunks(200).flat_map(part).collect();
        }
        // It may be thrown out before it is done.
        let _ = stream.write_all(&noise).await;
        let thrown_out = async {
            let mut answer = [0; 256];
            while stream.read(&mut answer).await.is_ok_and(|read| read > 0) {}
        };
        timeout(Duration::from_secs(5), thrown_out)
            .await
            .context("garbage is listened to")?;
        rounds += 1;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(rounds)
}

/// Whether the agent has this many sessions.
async fn wait_sessions(bench: &Bench, count: usize, end: Instant) -> Result<()> {
    loop {
        let bgp = bench.agent.show("bgp")?;
        let peers = bgp["peers"].as_array().context("no peers")?;
        let up = peers.iter().filter(|peer| peer["state"] == "established");
        let found = up.count();
        if found == count {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{found} sessions, not {count}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// The longest silences of those that behave, how often the others flapped, how much waits for the one
/// that reads nothing, and how often garbage was sent.
type Outcome = (Vec<Duration>, u32, usize, u32);

async fn trial(bench: &Bench) -> Result<Outcome> {
    let to = bench.dut.address();
    let (director, act) = watch::channel(Act::Arrival);
    let mut crowd = JoinSet::new();
    for number in 0..WELL_BEHAVED {
        crowd.spawn(well_behaved(number, to, act.clone()));
    }
    let arrived = wait_sessions(bench, WELL_BEHAVED.into(), Instant::now() + ARRIVAL);
    tokio::select! {
        arrived = arrived => arrived?,
        Some(left) = crowd.join_next() => bail!("before the trial: {left:?}"),
    }
    // What they are told at first is not what is tried here.
    sleep(INTERVAL).await;

    director.send(Act::Trial)?;
    let end = Instant::now() + TRIAL;
    let bad = async {
        tokio::try_join!(
            flapping(to, act.clone()),
            deaf(to, act.clone()),
            garbage(to, act.clone()),
        )
    };
    let watched = async {
        let left = timeout_at(end, crowd.join_next()).await;
        if let Ok(left) = left {
            bail!("during the trial: {left:?}");
        }
        Ok(director.send(Act::End)?)
    };
    let ((flaps, unread, thrown_out), ()) = tokio::try_join!(bad, watched)?;
    let mut silences = Vec::new();
    while let Some(silence) = crowd.join_next().await {
        silences.push(silence??);
    }
    Ok((silences, flaps, unread, thrown_out))
}

/// No KEEPALIVE is late by more than a second, and no session of the others ends.
#[test]
fn bad_peers_among_256_disturb_nobody() -> Result<()> {
    let bench = bench()?;
    let (mut silences, flaps, unread, thrown_out) = bench.peer.ns().enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(trial(&bench))
    })?;
    silences.sort_unstable();
    let longest = silences.last().copied().unwrap_or_default();
    println!(
        "{} sessions for {TRIAL:?}: silent for {longest:?} at most, median {:?}; {flaps} flaps, \
         {thrown_out} times garbage, {unread} bytes unread",
        silences.len(),
        silences[silences.len() / 2],
    );
    ensure!(silences.len() == usize::from(WELL_BEHAVED));
    ensure!(longest <= INTERVAL + LATE, "silent for {longest:?}");
    ensure!(
        flaps >= 20 && thrown_out >= 10,
        "{flaps} flaps, {thrown_out} times garbage"
    );
    ensure!(
        unread >= 2048,
        "the window of the deaf peer has room: {unread} bytes"
    );
    Ok(())
}
