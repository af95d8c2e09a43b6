//! One flow of numbered frames from a VM to a MAC of the fabric, of which each is looked for.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use vtep_tests::{Fabric, Host, PacketSocket, Station, VXLAN_PORT, Vm, parse_mac};

use crate::{rig, sys};

/// Between two frames.
const INTERVAL: Duration = Duration::from_millis(1);
/// How long the last frames may be on their way.
const LATE: Duration = Duration::from_millis(200);
/// Octets of a frame's number, at its end.
const NUMBER: usize = 8;

/// A frame every millisecond.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64>>,
    receivers: [JoinHandle<Result<u64>>; 2],
}

/// What became of the frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// That did not arrive.
    pub(super) lost: u64,
    /// That another VTEP got, too.
    pub(super) flooded: u64,
}

impl Traffic {
    /// From a VM to the first MAC of the first VTEP, which is on a host for the while, as is the second VTEP.
    pub(super) fn start(vm: &Vm, fabric: &Host) -> Result<Self> {
        let vteps = [1, 2].map(Fabric::vtep);
        let mut batch = String::new();
        for vtep in vteps {
            batch += &format!("addr add {vtep}/32 dev lo\n");
        }
        fabric.ns().ip(&batch)?;
        let stop = Arc::new(AtomicBool::new(false));
        let [here, elsewhere] = vteps.map(|vtep| receive(fabric, vtep, &stop));
        let to = Station {
            vtep: 1,
            bd: 1,
            number: 1,
        };
        let addresses = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 1, 0, 1)];
        let mut frame = rig::datagram(parse_mac(vm.mac())?, to.mac(), addresses);
        let socket = PacketSocket::open(vm.ns(), Vm::NIC)?;
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let (start, mut sent) = (Instant::now(), 0_u64);
            while !stopped.load(Ordering::Relaxed) {
                let number = frame.last_chunk_mut::<NUMBER>().context("a short frame")?;
                *number = sent.to_be_bytes();
                socket.send(&frame)?;
                sent += 1;
                let due = start + INTERVAL * u32::try_from(sent)?;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(sent)
        });
        Ok(Self {
            stop,
            sender,
            receivers: [here?, elsewhere?],
        })
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<Result<u64>>| {
            thread.join().map_err(|_| anyhow!("traffic panicked"))?
        };
        let sent = join(self.sender)?;
        let [here, elsewhere] = self.receivers.map(join);
        Ok(Counts {
            lost: sent - here?,
            flooded: elsewhere?,
        })
    }
}

/// Counts the frames that a VTEP gets, each once.
fn receive(host: &Host, vtep: Ipv4Addr, stop: &Arc<AtomicBool>) -> Result<JoinHandle<Result<u64>>> {
    let socket = host
        .ns()
        .enter(|| Ok(UdpSocket::bind((vtep, VXLAN_PORT))?))?;
    socket.set_read_timeout(Some(LATE))?;
    let stop = Arc::clone(stop);
    Ok(thread::spawn(move || {
        // So that none is lost here, however busy the processors are.
        sys::real_time(0, 1)?;
        let mut buffer = [0; 256];
        let mut seen = Vec::new();
        loop {
            let length = match socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(_) if stop.load(Ordering::Relaxed) => break,
                Err(_) => continue,
            };
            let number = buffer.get(..length).and_then(<[u8]>::last_chunk);
            let number = number.map(|number| u64::from_be_bytes(*number));
            let index = usize::try_from(number.context("a short frame")?)?;
            if seen.len() <= index {
                seen.resize(index + 1, false);
            }
            if let Some(seen) = seen.get_mut(index) {
                *seen = true;
            }
        }
        Ok(seen.iter().filter(|seen| **seen).count() as u64)
    }))
}
