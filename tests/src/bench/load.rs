//! Load that one processor can make and another one cannot bear: XDP live frames, sent from
//! `BPF_PROG_TEST_RUN` into one end of a veth pair.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow};
use vtep_tests::Namespace;

use crate::{
    device,
    sys::{self, Hook, PROGRAM_TC, PROGRAM_XDP},
};

/// Most frames of one system call.
const REPEAT: u32 = 1 << 20;
/// How long a call takes, seconds. Each waits for RCU grace periods, tens of milliseconds in all: a call
/// must be long beside that, or the receiver is idle meanwhile.
const CALL: f64 = 0.5;
/// Time between two bursts, or more.
const PAUSE: Duration = Duration::from_millis(8);
/// Frames between two flushes, as many as a driver takes at a time.
const BATCH: u32 = 64;
/// Flows that the frames are of.
const FLOWS: i32 = 16;

/// Frames to send.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// The frame.
    pub(crate) bytes: Vec<u8>,
    /// Offsets of bytes that tell the flows apart.
    pub(crate) flow: Vec<usize>,
    /// Numbers of which each frame has random ones.
    pub(crate) random: Vec<Random>,
}

/// Two bytes of a frame, in network byte order: from 1 to `most`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random {
    pub(crate) offset: usize,
    pub(crate) most: u16,
}

/// How fast frames come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as it goes.
    Full,
    /// About so many per second, or what is possible.
    Rate(f64),
    /// So many at once, and a pause.
    Bursts(u32),
}

/// Sends frames through a device until it is dropped.
#[derive(Debug)]
pub(crate) struct Generator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Generator {
    /// Starts on a processor of its own. The other end of the pair must have NAPI.
    pub(crate) fn start(
        ns: &Namespace,
        device: &str,
        template: &Template,
        pace: Pace,
        cpu: usize,
    ) -> Result<Self> {
        let ifindex = device::index(ns, device)?;
        let (idle, repeat) = match pace {
            Pace::Rate(rate) => {
                let repeat = ((rate * CALL) as u32).clamp(BATCH, REPEAT);
                (idle_turns(template, ifindex, rate)?, repeat)
            }
            Pace::Full => (0, REPEAT),
            Pace::Bursts(frames) => (0, frames),
        };
        let program = sys::load(PROGRAM_XDP, &sender(template, ifindex, idle)?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, ns, frame) = (Arc::clone(&stop), ns.clone(), template.bytes.clone());
        let thread = thread::spawn(move || {
            ns.enter(|| {
                sys::pin(0, cpu)?;
                sys::real_time(0, 1)?;
                while !stopped.load(Ordering::Relaxed) {
                    sys::run_live(&program, &frame, repeat, BATCH)?;
                    if let Pace::Bursts(_) = pace {
                        thread::sleep(PAUSE);
                    }
                }
                Ok(())
            })
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops, and tells whether it could send all the time.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread
                .join()
                .map_err(|_| anyhow!("the generator panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            eprintln!("{error:#}");
        }
    }
}

/// Counts what passes a device and takes it away: what arrives, in the driver or before the stack sees
/// it, or what leaves, before the queue.
#[derive(Debug)]
pub(crate) struct Sink {
    counter: OwnedFd,
    _links: Vec<OwnedFd>,
}

impl Sink {
    pub(crate) fn on(ns: &Namespace, device: &str, hook: Hook) -> Result<Self> {
        let ifindex = device::index(ns, device)?;
        let counter = sys::counter()?;
        let places: &[_] = match hook {
            // Not all that arrives passes the driver: TC may hand over what is in the stack already.
            Hook::Driver => &[
                (Hook::Driver, PROGRAM_XDP, XDP_DROP),
                (Hook::Ingress, PROGRAM_TC, TCX_DROP),
            ],
            Hook::Ingress | Hook::Egress => &[(hook, PROGRAM_TC, TCX_DROP)],
        };
        let attach = |&(hook, kind, verdict): &(Hook, u32, i32)| {
            let program = sys::load(kind, &swallower(&counter, verdict))?;
            ns.enter(|| sys::attach(&program, ifindex, hook))
        };
        let links = places.iter().map(attach).collect::<Result<_>>()?;
        Ok(Self {
            counter,
            _links: links,
        })
    }

    /// Frames so far.
    pub(crate) fn count(&self) -> Result<u64> {
        sys::count(&self.counter)
    }
}

const TCX_DROP: i32 = 2;
const XDP_DROP: i32 = 1;
const XDP_ABORTED: i32 = 0;
/// `XDP_PASS`, which TC takes for `TC_ACT_SHOT`: nobody sees the frame of a dry run.
const PASS: i32 = 2;
/// `bpf_map_lookup_elem`, `bpf_get_prandom_u32` and `bpf_redirect`.
const CALL_LOOKUP: u64 = call(1);
const CALL_RANDOM: u64 = call(7);
const CALL_REDIRECT: u64 = call(23);
const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R5: u8 = 5;
const R6: u8 = 6;
const R7: u8 = 7;
const R8: u8 = 8;
const R10: u8 = 10;

/// Idle turns that make the sender's program as slow as one frame of a rate takes.
fn idle_turns(template: &Template, ifindex: u32, rate: f64) -> Result<i32> {
    /// What the verifier follows in a fraction of a second.
    const MOST: i32 = 20_000;
    const MEASURED: i32 = 2000;
    const RUNS: u32 = 10_000;
    let time = |idle| -> Result<f64> {
        let program = sys::load(PROGRAM_XDP, &sender(template, ifindex, idle)?)?;
        Ok(sys::run_dry(&program, &template.bytes, RUNS)?.into())
    };
    let (busy, turn) = (time(0)?, time(MEASURED)? / f64::from(MEASURED));
    Ok((((1e9 / rate - busy) / turn) as i32).clamp(0, MOST))
}

/// A program that counts a frame and takes it.
fn swallower(counter: &OwnedFd, verdict: i32) -> [u64; 6] {
    /// `BPF_PSEUDO_MAP_VALUE`: the instruction loads the address of the map's value.
    const MAP_VALUE: u8 = 2;
    [
        instruction(0x18, R1, MAP_VALUE, 0, counter.as_raw_fd()), // r1 = &counter, in two halves
        instruction(0, 0, 0, 0, 0),
        mov(R2, 1),
        instruction(0xdb, R1, R2, 0, 0), // lock *(u64 *)r1 += r2
        mov(R0, verdict),
        EXIT,
    ]
}

/// A program that does nothing.
pub(crate) fn empty() -> [u64; 2] {
    [mov(R0, PASS), EXIT]
}

/// A program that looks a key of 8 bytes up in a hash map, and does nothing with it.
pub(crate) fn lookup(map: &OwnedFd) -> [u64; 9] {
    /// `BPF_PSEUDO_MAP_FD`: the instruction loads the map itself.
    const MAP: u8 = 1;
    [
        mov(R1, 0),
        instruction(0x7b, R10, R1, -8, 0), // *(u64 *)(r10 - 8) = r1
        instruction(0xbf, R2, R10, 0, 0),  // r2 = r10
        instruction(0x07, R2, 0, 0, -8),   // r2 += -8
        instruction(0x18, R1, MAP, 0, map.as_raw_fd()), // r1 = map, in two halves
        instruction(0, 0, 0, 0, 0),
        CALL_LOOKUP,
        mov(R0, PASS),
        EXIT,
    ]
}

/// A program that writes the whole frame and sends it: frames are recycled as the receiver left
/// them, with headers removed or overwritten.
///
/// Before that it does nothing for a number of turns.
fn sender(template: &Template, ifindex: u32, idle: i32) -> Result<Vec<u64>> {
    let length = template.bytes.len();
    let mut stores = Vec::new();
    let mut store = |offset: usize| -> Result<()> {
        let chunk = template.bytes.get(offset..).and_then(<[u8]>::first_chunk);
        let value = u64::from_ne_bytes(*chunk.ok_or_else(|| anyhow!("a frame of {length} bytes"))?);
        let (low, high) = (value as u32 as i32, (value >> 32) as i32);
        stores.push(instruction(0x18, R5, 0, 0, low)); // r5 = value, in two halves
        stores.push(instruction(0, 0, 0, 0, high));
        stores.push(instruction(0x7b, R2, R5, i16::try_from(offset)?, 0)); // *(u64 *)(r2 + offset) = r5
        Ok(())
    };
    for offset in (0..=length.saturating_sub(8)).step_by(8) {
        store(offset)?;
    }
    // The rest, overlapping.
    store(length.saturating_sub(8))?;
    for offset in &template.flow {
        // *(u8 *)(r2 + offset) = r0
        stores.push(instruction(0x73, R2, R0, i16::try_from(*offset)?, 0));
    }
    for random in &template.random {
        // r2 is a scratch register of the call; the frame is in r8 meanwhile.
        stores.extend([
            instruction(0xbf, R8, R2, 0, 0), // r8 = r2
            CALL_RANDOM,
            instruction(0xbf, R2, R8, 0, 0), // r2 = r8
            instruction(0x97, R0, 0, 0, i32::from(random.most)), // r0 %= most
            instruction(0x07, R0, 0, 0, 1),  // r0 += 1
            instruction(0xdc, R0, 0, 0, 16), // to big-endian
            // *(u16 *)(r2 + offset) = r0
            instruction(0x6b, R2, R0, i16::try_from(random.offset)?, 0),
        ]);
    }
    stores.extend([
        mov(R1, i32::try_from(ifindex)?),
        mov(R2, 0),
        CALL_REDIRECT,
        EXIT,
    ]);
    let past_stores = i16::try_from(stores.len())?;
    let mut code = vec![
        instruction(0xbf, R6, R1, 0, 0), // r6 = r1
        mov(R7, idle + 1),
        instruction(0x07, R7, 0, 0, -1), // r7 += -1
        instruction(0x55, R7, 0, -2, 0), // if r7 != 0 go back
        CALL_RANDOM,
        instruction(0x57, R0, 0, 0, FLOWS - 1), // r0 &= FLOWS - 1
        instruction(0x61, R2, R6, 0, 0),        // r2 = data
        instruction(0x61, R3, R6, 4, 0),        // r3 = data_end
        instruction(0xbf, R4, R2, 0, 0),        // r4 = r2
        instruction(0x07, R4, 0, 0, i32::try_from(length)?), // r4 += length
        instruction(0x2d, R4, R3, past_stores, 0), // if r4 > r3 goto abort
    ];
    code.append(&mut stores);
    code.extend([mov(R0, XDP_ABORTED), EXIT]);
    Ok(code)
}

/// `register = value`
const fn mov(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, 0, value)
}

const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

/// `struct bpf_insn` of a little-endian machine.
const fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> u64 {
    code as u64
        | (destination as u64) << 8
        | (source as u64) << 12
        | (offset as u16 as u64) << 16
        | (value as u32 as u64) << 32
}
