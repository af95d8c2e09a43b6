//! The rows: what is done in each, and what is counted.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use vtep_tests::{Host, Iperf, Namespace, PacketSocket, Vm};

use crate::{
    device::Receiver,
    load::{Generator, Pace, Sink, Template},
    rig::{FAR, LOADER, NEAR, Rig, Setup, TESTED, UNTOLD, Variant, mac},
    sys::{self, Hook},
};

/// How long a load runs before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long the receiver is flooded to see what it can take.
const PROBE: Duration = Duration::from_millis(200);
/// Broadcasts of one burst: the flood stays below what vtep lets a port broadcast per second.
const FLOOD_BURST: u32 = 64;
/// How long an ARP request may remain without an answer.
const ARP_TIMEOUT: Duration = Duration::from_millis(500);

/// A row of the benchmark, by its number on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    FromWire,
    FromVm,
    Tcp,
    Arp,
    Flood,
}

impl Row {
    pub(crate) const ALL: [Self; 5] = [
        Self::FromWire,
        Self::FromVm,
        Self::Tcp,
        Self::Arp,
        Self::Flood,
    ];

    /// Its number.
    pub(crate) fn number(self) -> usize {
        self as usize + 1
    }

    /// Whether it is measured in a setup.
    pub(crate) fn runs_in(self, setup: Setup) -> bool {
        self == Self::Tcp || setup == Setup::Veth
    }

    /// One measurement: a value for each of the row's lines.
    pub(crate) fn measure(self, rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
        match self {
            Self::FromWire => from_wire(rig, effort),
            Self::FromVm => from_vm(rig, effort),
            Self::Tcp => tcp(rig, effort),
            Self::Arp => arp(rig, effort),
            Self::Flood => flood(rig, effort),
        }
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Alternations.
    pub(crate) rounds: usize,
    /// Length of one measurement with small packets.
    pub(crate) packets: Duration,
    /// Length of one of TCP, seconds.
    pub(crate) tcp: u32,
    /// ARP requests of one measurement.
    pub(crate) requests: usize,
}

impl Effort {
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        packets: Duration::from_secs(1),
        tcp: 2,
        requests: 3000,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        packets: Duration::from_millis(300),
        tcp: 1,
        requests: 500,
    };
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// One number, and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) value: f64,
}

impl Value {
    fn more(what: &'static str, unit: &'static str, value: f64) -> Self {
        Self {
            what,
            unit,
            better: Better::More,
            value,
        }
    }

    fn less(what: &'static str, unit: &'static str, value: f64) -> Self {
        Self {
            better: Better::Less,
            ..Self::more(what, unit, value)
        }
    }
}

fn from_wire(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let mut path = Path {
        load: (rig.far_host.ns(), Host::UPLINK),
        template: rig.wire_datagrams()?,
        bursts: false,
        receiver: &rig.uplink,
        sink: (rig.near.ns(), Vm::NIC, Hook::Ingress),
    };
    let passed = path.measure(effort)?;
    let mut values = vec![
        Value::more("UDP 60 B, wire to VM", "Mpps/core", passed.per_core / 1e6),
        Value::more("  delivered", "Mpps", passed.per_second / 1e6),
    ];
    if rig.variant == Variant::Kernel {
        // What remains when nobody forwards: the driver, the frame's buffer, and GRO.
        path.sink = (rig.host.ns(), Host::UPLINK, Hook::Ingress);
        let floor = path.measure(effort)?.per_core / 1e6;
        values.push(Value::more("  dropped on the uplink", "Mpps/core", floor));
    }
    Ok(values)
}

fn from_vm(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let path = Path {
        load: (rig.near.ns(), Vm::NIC),
        template: rig.vm_datagrams()?,
        bursts: false,
        receiver: rig.port.as_ref().context("no veth")?,
        sink: (rig.host.ns(), Host::UPLINK, Hook::Egress),
    };
    let passed = path.measure(effort)?;
    Ok(vec![
        Value::more("UDP 60 B, VM to wire", "Mpps/core", passed.per_core / 1e6),
        Value::more("  delivered", "Mpps", passed.per_second / 1e6),
    ])
}

fn flood(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let path = Path {
        load: (rig.near.ns(), Vm::NIC),
        template: rig.broadcasts()?,
        bursts: true,
        receiver: rig.port.as_ref().context("no veth")?,
        sink: (rig.host.ns(), Host::UPLINK, Hook::Egress),
    };
    let passed = path.measure(effort)?;
    Ok(vec![Value::more(
        "flood to 64 VTEPs, copies",
        "M/s/core",
        passed.per_core / 1e6,
    )])
}

/// A way through the VTEP under test.
struct Path<'a> {
    load: (&'a Namespace, &'a str),
    template: Template,
    /// Whether to send bursts, instead of more than what can be forwarded.
    bursts: bool,
    receiver: &'a Receiver,
    sink: (&'a Namespace, &'a str, Hook),
}

/// What came through.
struct Passed {
    /// Frames per second of the receiving thread's processor time.
    per_core: f64,
    /// Frames per second.
    per_second: f64,
}

impl Path<'_> {
    fn measure(&self, effort: &Effort) -> Result<Passed> {
        if self.bursts {
            return self.under(Pace::Bursts(FLOOD_BURST), effort.packets);
        }
        // Frames that do not fit into the receiver's ring are freed under locks that it needs, too.
        // So it gets twice what it can take while it is flooded, and not all that can be made.
        let flooded = self.under(Pace::Full, PROBE)?;
        self.under(Pace::Rate(2.0 * flooded.per_second), effort.packets)
    }

    fn under(&self, pace: Pace, duration: Duration) -> Result<Passed> {
        let (ns, device, hook) = self.sink;
        let sink = Sink::on(ns, device, hook)?;
        let (load_ns, load_device) = self.load;
        let generator = Generator::start(load_ns, load_device, &self.template, pace, LOADER)?;
        thread::sleep(WARM_UP);
        let before = self.sample(&sink)?;
        thread::sleep(duration);
        let after = self.sample(&sink)?;
        generator.stop()?;
        let frames = (after.frames - before.frames) as f64;
        ensure!(frames > 1000.0, "only {frames} frames came through");
        Ok(Passed {
            per_core: frames * 1e9 / (after.cpu_time - before.cpu_time) as f64,
            per_second: frames / (after.time - before.time).as_secs_f64(),
        })
    }

    fn sample(&self, sink: &Sink) -> Result<Sample> {
        Ok(Sample {
            frames: sink.count()?,
            cpu_time: self.receiver.cpu_time()?,
            time: Instant::now(),
        })
    }
}

struct Sample {
    frames: u64,
    cpu_time: u64,
    time: Instant,
}

fn tcp(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let iperf = Iperf::tcp(effort.tcp).processors(LOADER, TESTED);
    let (near, far) = (rig.near.ns(), rig.far.ns());
    let received = iperf.run(&rig.lab, far, near, &NEAR.to_string())?;
    let sent = iperf.run(&rig.lab, near, far, &FAR.to_string())?;
    Ok(vec![
        Value::more(
            "TCP 1 flow, wire to VM",
            "Gbit/s",
            received.bits_per_second / 1e9,
        ),
        Value::more(
            "TCP 1 flow, VM to wire",
            "Gbit/s",
            sent.bits_per_second / 1e9,
        ),
    ])
}

fn arp(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    sys::pin(0, LOADER)?;
    let local = Latency::of(rig, FAR.octets(), effort)?;
    let overlay = Latency::of(rig, UNTOLD.octets(), effort)?;
    Ok(vec![
        Value::less("ARP answered locally, p50", "us", local.p50),
        Value::less("ARP answered locally, p99", "us", local.p99),
        Value::less("ARP over the overlay, p50", "us", overlay.p50),
        Value::less("ARP over the overlay, p99", "us", overlay.p99),
    ])
}

/// Times from request to answer, microseconds.
struct Latency {
    p50: f64,
    p99: f64,
}

impl Latency {
    fn of(rig: &Rig, target: [u8; 4], effort: &Effort) -> Result<Self> {
        const ARP: u16 = 0x0806;
        let socket = PacketSocket::receiving(rig.near.ns(), Vm::NIC, ARP)?;
        let request = arp_request(mac(rig.near.mac())?, target);
        let mut buffer = [0; 128];
        let mut times = Vec::with_capacity(effort.requests);
        for _ in 0..effort.requests {
            let start = Instant::now();
            socket.send(&request)?;
            loop {
                let length = socket
                    .receive(&mut buffer, start + ARP_TIMEOUT)?
                    .with_context(|| format!("no answer for {target:?}"))?;
                // Operation 2 and the sender's address.
                let frame = buffer.get(..length).unwrap_or_default();
                if frame.get(20..22) == Some(&[0, 2]) && frame.get(28..32) == Some(&target) {
                    break;
                }
            }
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        times.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let index = (times.len() as f64 * share) as usize;
            times.get(index).copied().context("no answers at all")
        };
        Ok(Self {
            p50: rank(0.5)?,
            p99: rank(0.99)?,
        })
    }
}

/// A broadcast request (RFC 826) from the near VM.
fn arp_request(source: [u8; 6], target: [u8; 4]) -> Vec<u8> {
    let arp = [0, 1, 0x08, 0, 6, 4, 0, 1];
    let mut frame = [&[0xff; 6][..], &source, &[0x08, 0x06], &arp, &source].concat();
    frame.extend(NEAR.octets());
    frame.extend([0; 6]);
    frame.extend(target);
    frame.resize(60, 0);
    frame
}
