//! A BFD speaker that says what a test tells it to, and notes what it hears.
//!
//! It follows RFC 5880 as far as a session needs it to come up and stay so, and shares no code with
//! the agent.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::Host;

/// UDP port of single hop sessions (RFC 5881 §4).
const PORT: u16 = 3784;
/// Our intervals, in microseconds.
const INTERVAL: u32 = 100_000;
/// How often we send.
const PACE: Duration = Duration::from_millis(90);
/// Longest time between looks at the socket.
const GLANCE: Duration = Duration::from_millis(5);

/// A packet as it was heard: the fields that tests look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdPacket {
    /// 0 AdminDown, 1 Down, 2 Init, 3 Up.
    pub state: u8,
    /// Diagnostic code.
    pub diagnostic: u8,
    /// Detect Mult.
    pub multiplier: u8,
    /// My Discriminator.
    pub discriminator: u32,
    /// Desired Min TX Interval, microseconds.
    pub desired_min_tx: u32,
    /// Required Min RX Interval, microseconds.
    pub required_min_rx: u32,
    /// UDP source port.
    pub source_port: u16,
}

/// Single hop BFD with one other speaker, on a thread of its own.
#[derive(Debug)]
pub struct BfdSpeaker {
    script: Arc<Mutex<Script>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Script {
    /// Our state, by the rules.
    state: u8,
    /// What we say instead.
    forced: Option<u8>,
    silent: bool,
    ttl: u32,
    heard: Vec<BfdPacket>,
    /// When the last packet left.
    sent: Instant,
}

impl BfdSpeaker {
    /// Begins to send from a host to an address.
    ///
    /// # Errors
    ///
    /// When the host's port is taken.
    pub fn start(on: &Host, to: Ipv4Addr) -> Result<Self> {
        let from = on.address();
        let (listener, sender) = on.ns().enter(|| {
            let listener = UdpSocket::bind(SocketAddrV4::new(from, PORT))?;
            listener.set_nonblocking(true)?;
            Ok((listener, UdpSocket::bind(SocketAddrV4::new(from, 49_500))?))
        })?;
        sender.connect(SocketAddrV4::new(to, PORT))?;
        let script = Arc::new(Mutex::new(Script {
            state: 1,
            forced: None,
            silent: false,
            ttl: 255,
            heard: Vec::new(),
            sent: Instant::now(),
        }));
        let end = Arc::new(AtomicBool::new(false));
        let thread = {
            let (script, end) = (Arc::clone(&script), Arc::clone(&end));
            thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    turn(&script, &listener, &sender);
                    thread::sleep(GLANCE);
                }
            })
        };
        Ok(Self {
            script,
            end,
            thread: Some(thread),
        })
    }

    /// Says this state from now on, whatever is heard; `None`: the right one.
    pub fn force(&self, state: Option<u8>) {
        self.script().forced = state;
    }

    /// Sends nothing any more. Returns when the last packet left.
    pub fn fall_silent(&self) -> Instant {
        let mut script = self.script();
        script.silent = true;
        script.sent
    }

    /// Sends with another TTL than 255.
    pub fn set_ttl(&self, ttl: u8) {
        self.script().ttl = ttl.into();
    }

    /// Sends again, as after a restart.
    pub fn speak(&self) {
        let mut script = self.script();
        script.silent = false;
        script.state = 1;
    }

    /// The last packet heard.
    pub fn last(&self) -> Option<BfdPacket> {
        self.script().heard.last().copied()
    }

    /// Everything heard.
    pub fn heard(&self) -> Vec<BfdPacket> {
        self.script().heard.clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }
}

impl Drop for BfdSpeaker {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported there.
            let _ = thread.join();
        }
    }
}

fn turn(script: &Mutex<Script>, listener: &UdpSocket, sender: &UdpSocket) {
    let mut script = lock(script);
    let mut poll = false;
    let mut buffer = [0; 64];
    while let Ok((length, from)) = listener.recv_from(&mut buffer) {
        let Some((packet, polled)) = read(&buffer, length, from.port()) else {
            continue;
        };
        poll |= polled;
        // RFC 5880 §6.8.6.
        script.state = match (script.state, packet.state) {
            (_, 0) | (3, 1) => 1,
            (1, 1) => 2,
            (1, 2) | (2, 2 | 3) => 3,
            (state, _) => state,
        };
        script.heard.push(packet);
    }
    if script.silent || (!poll && script.sent.elapsed() < PACE) {
        return;
    }
    let state = script.forced.unwrap_or(script.state);
    let your = script.heard.last().map_or(0, |heard| heard.discriminator);
    let poll_final = if poll { 0x10 } else { 0 };
    let mut octets = vec![0x20, state << 6 | poll_final, 3, 24];
    for word in [0x5eed, your, INTERVAL, INTERVAL, 0] {
        octets.extend(word.to_be_bytes());
    }
    // The network may be cut on purpose.
    let _ = sender
        .set_ttl(script.ttl)
        .and_then(|()| sender.send(&octets));
    script.sent = Instant::now();
}

/// The packet, and whether it is a poll.
fn read(buffer: &[u8], length: usize, source_port: u16) -> Option<(BfdPacket, bool)> {
    let packet = buffer.get(..length)?;
    let word = |index: usize| {
        let octets = packet.get(4 * index..)?.first_chunk()?;
        Some(u32::from_be_bytes(*octets))
    };
    let [first, flags, multiplier, 24] = *packet.first_chunk()? else {
        return None;
    };
    let packet = BfdPacket {
        state: flags >> 6,
        diagnostic: first & 0x1f,
        multiplier,
        discriminator: word(1)?,
        desired_min_tx: word(3)?,
        required_min_rx: word(4)?,
        source_port,
    };
    Some((packet, flags & 0x20 != 0))
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}
