//! Unnumbered peers: the one neighbour behind a device is found by its router advertisements, and
//! finds us by ours (RFC 4861). It is what FRR's `neighbor IFNAME interface` does.
//!
//! Our advertisements have the lifetime 0: they say that we are there, and make us nobody's default
//! router. The first few go out in quick succession, with a solicitation each as long as nobody
//! is known; then there is one every ten seconds, and one for every solicitation.

mod advertisement;
mod device;
mod icmp6;

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    advertisement::{ADVERTISE, ALL_NODES, ALL_ROUTERS, Meaning, SOLICIT},
    icmp6::Icmp6,
};
use crate::types::IfName;

/// How often is looked whether there is something to do: a device that is new, a message that is due.
const TICK: Duration = Duration::from_secs(1);

/// Time between advertisements (RFC 4861 §6.2.1 allows 4 to 1800 s).
const INTERVAL: Duration = Duration::from_secs(10);

/// Advertisements that go out with every tick, at the beginning and when somebody new is there (RFC
/// 4861 §10: MAX_INITIAL_RTR_ADVERTISEMENTS).
const INITIAL: u8 = 3;

/// Least time between two advertisements.
const LEAST: Duration = Duration::from_millis(500);

/// A neighbour that was replaced has to be silent for so long before it may be the neighbour again:
/// two of them on one link must not take turns.
const FORMER: Duration = Duration::from_secs(60);

/// Where the neighbour is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// This link-local address on the device of this number.
    At(Ipv6Addr, u32),
    /// It is not known, for this reason.
    Unknown(String),
}

/// Looks for the neighbour behind a device, until it is dropped.
#[derive(Debug)]
pub(super) struct Lookout {
    sighting: watch::Receiver<Sighting>,
    /// Ended when dropped.
    _task: JoinSet<()>,
}

impl Lookout {
    /// Begins. The device may appear later, or again with another number.
    pub(super) fn start(device: IfName) -> Self {
        let unknown = Sighting::Unknown(format!("nothing is known about {device} yet"));
        let (sender, mut sighting) = watch::channel(unknown);
        sighting.mark_changed();
        let mut task = JoinSet::new();
        task.spawn(look(device, sender));
        Self {
            sighting,
            _task: task,
        }
    }

    /// The latest sighting, once there is one that was not given yet. Cancel-safe.
    pub(super) async fn next(&mut self) -> Sighting {
        if self.sighting.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.sighting.borrow_and_update().clone()
    }
}

/// The device on which a link-local address counts, by its scope id.
pub(super) fn device_of(address: &SocketAddrV6) -> Option<IfName> {
    let link_local = address.ip().is_unicast_link_local();
    device::name(address.scope_id()).filter(|_| link_local)
}

async fn look(device: IfName, found: watch::Sender<Sighting>) {
    loop {
        let trouble = match device::index(&device) {
            None => format!("there is no interface {device}"),
            Some(ifindex) => match Icmp6::open(&device, ifindex) {
                Err(error) => format!("no neighbour discovery on {device}: {error}"),
                Ok(socket) => {
                    see(&found, Sighting::Unknown(silence(&device)));
                    match serve(&socket, &device, ifindex, &found).await {
                        Ok(()) => format!("interface {device} is gone"),
                        Err(error) => format!("neighbour discovery on {device}: {error}"),
                    }
                }
            },
        };
        see(&found, Sighting::Unknown(trouble));
        sleep(TICK).await;
    }
}

/// Returns when the device is gone, or has another number.
async fn serve(
    socket: &Icmp6,
    device: &IfName,
    ifindex: u32,
    found: &watch::Sender<Sighting>,
) -> io::Result<()> {
    let mut neighbour = Neighbour::default();
    let mut schedule = Schedule::new(Instant::now());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            meaning = socket.receive() => match meaning? {
                Meaning::Solicitation => schedule.answer(),
                Meaning::Router(address) if is_own(address, ifindex) => {}
                Meaning::Router(address) => match neighbour.heard(address, Instant::now()) {
                    Heard::Known => {}
                    Heard::New => {
                        tracing::info!(interface = %device, %address, "neighbour found");
                        see(found, Sighting::At(address, ifindex));
                        schedule.hurry();
                    }
                    Heard::Rival(current) => tracing::warn!(
                        interface = %device, %current, other = %address,
                        "two routers advertise themselves, an unnumbered peer needs a link of its own"
                    ),
                },
            },
            _ = ticks.tick() => {
                if device::index(device) != Some(ifindex) {
                    return Ok(());
                }
            }
        }
        if schedule.due(Instant::now()) {
            if neighbour.current.is_none() {
                send(socket, &SOLICIT, ALL_ROUTERS);
            }
            send(socket, &ADVERTISE, ALL_NODES);
        }
    }
}

/// A device that is down, or has no address yet, takes nothing: the next message may have luck.
fn send(socket: &Icmp6, message: &[u8], to: Ipv6Addr) {
    if let Err(error) = socket.send(message, to) {
        tracing::debug!(%to, %error, "router discovery");
    }
}

/// Tells it if it is new.
fn see(found: &watch::Sender<Sighting>, sighting: Sighting) {
    found.send_if_modified(|known| {
        let new = *known != sighting;
        *known = sighting;
        new
    });
}

fn silence(device: &IfName) -> String {
    format!("no router advertisement was received on {device}")
}

/// Whether another program on this host advertises itself: the address from which the kernel
/// reaches it is its own.
fn is_own(address: Ipv6Addr, ifindex: u32) -> bool {
    let source = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        // Any port: nothing is sent.
        socket.connect(SocketAddrV6::new(address, 9, 0, ifindex))?;
        socket.local_addr()
    };
    source().is_ok_and(|source: std::net::SocketAddr| source.ip() == address)
}

/// Who is on the link.
#[derive(Debug, Default)]
struct Neighbour {
    current: Option<Ipv6Addr>,
    former: Option<Former>,
}

#[derive(Debug)]
struct Former {
    address: Ipv6Addr,
    heard: Instant,
    complained: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Known,
    New,
    /// Another one than this, which stays. Said once.
    Rival(Ipv6Addr),
}

impl Neighbour {
    fn heard(&mut self, address: Ipv6Addr, now: Instant) -> Heard {
        if self.current == Some(address) {
            return Heard::Known;
        }
        if let (Some(current), Some(former)) = (self.current, &mut self.former)
            && former.address == address
            && now.saturating_duration_since(former.heard) < FORMER
        {
            former.heard = now;
            return match std::mem::replace(&mut former.complained, true) {
                true => Heard::Known,
                false => Heard::Rival(current),
            };
        }
        self.former = self.current.replace(address).map(|address| Former {
            address,
            heard: now,
            complained: false,
        });
        Heard::New
    }
}

/// When to advertise ourselves.
#[derive(Debug)]
struct Schedule {
    /// How many more go out in quick succession.
    quick: u8,
    last: Option<Instant>,
    next: Instant,
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self {
            quick: INITIAL,
            last: None,
            next: now,
        }
    }

    /// Somebody asked.
    fn answer(&mut self) {
        if let Some(last) = self.last {
            self.next = self.next.min(last + LEAST);
        }
    }

    /// Somebody new should know us soon.
    fn hurry(&mut self) {
        self.quick = INITIAL;
        self.answer();
    }

    /// Whether it is time; then the next one is some time away.
    fn due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.last = Some(now);
            self.next = match self.quick {
                0 => now + INTERVAL,
                _ => now + LEAST,
            };
            self.quick = self.quick.saturating_sub(1);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa);
    const B: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xb);

    /// A new address is the neighbour at once; two that alternate are not.
    #[test]
    fn the_neighbour_changes_but_does_not_alternate() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut neighbour = Neighbour::default();
        assert_eq!(neighbour.heard(A, at(0)), Heard::New);
        assert_eq!(neighbour.heard(A, at(10)), Heard::Known);
        assert_eq!(neighbour.heard(B, at(11)), Heard::New);
        assert_eq!(neighbour.heard(A, at(20)), Heard::Rival(B));
        assert_eq!(neighbour.heard(B, at(21)), Heard::Known);
        assert_eq!(neighbour.heard(A, at(30)), Heard::Known);
        assert_eq!(neighbour.current, Some(B));
        // A minute of silence.
        assert_eq!(neighbour.heard(A, at(95)), Heard::New);
    }

    /// RFC 4861 §6.2.4 and §6.2.6, faster: a few in quick succession, then at intervals, and when
    /// somebody asks.
    #[test]
    fn the_schedule_of_advertisements() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let sent = |schedule: &mut Schedule, from: u64, to: u64| {
            (from..to)
                .filter(|second| schedule.due(start + Duration::from_secs(*second)))
                .collect::<Vec<_>>()
        };
        assert_eq!(sent(&mut schedule, 0, 30), [0, 1, 2, 3, 13, 23]);
        schedule.answer();
        assert_eq!(sent(&mut schedule, 30, 45), [30, 40]);
        schedule.hurry();
        assert_eq!(sent(&mut schedule, 45, 60), [45, 46, 47, 48, 58]);
    }

    #[tokio::test]
    async fn a_device_that_is_not_there_is_named() {
        let mut lookout = Lookout::start("no-such-dev".parse().unwrap());
        loop {
            let Sighting::Unknown(reason) = lookout.next().await else {
                panic!()
            };
            if reason == "there is no interface no-such-dev" {
                break;
            }
        }
    }
}
