//! Small packets, in more than can be forwarded.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use vtep_tests::{Host, Namespace, Vm, eventually};

use super::{Effort, Value};
use crate::{
    device::{Carrier, Receiver},
    load::{Generator, Pace, Sink, Template},
    rig::{DOMAIN_SIZES, Domains, LOADER, Rig, Setup, TESTED, Variant},
    sys::Hook,
};

/// How long the first frame may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a load runs before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long the receiver is flooded to see what it can take.
const PROBE: Duration = Duration::from_millis(200);
/// Broadcasts of one burst: the flood stays below what vtep lets a port broadcast per second.
const FLOOD_BURST: u32 = 64;

pub(super) fn from_wire(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let sink = match rig.setup {
        Setup::VmXdp => (rig.near.ns(), Vm::NIC, Hook::Driver),
        // Behind a tap there is a program, which is not what is measured.
        Setup::Tap => (rig.host.ns(), rig.near.port(), Hook::Egress),
        _ => (rig.near.ns(), Vm::NIC, Hook::Ingress),
    };
    let receivers = [&rig.uplink].into_iter().chain(&rig.nic);
    let mut path = Path {
        load: (rig.far_host.ns(), Host::UPLINK),
        template: rig.wire_datagrams()?,
        bursts: false,
        receivers: receivers.collect(),
        sink,
    };
    let [passed, overload] = path.measure(effort)?;
    let mut values = vec![
        Value::more("UDP 60 B, wire to VM", "Mpps/core", passed.per_core / 1e6),
        Value::more("  delivered", "Mpps", passed.per_second / 1e6),
        Value::more("  under all load", "Mpps", overload.per_second / 1e6),
    ];
    if rig.variant == Variant::Kernel && rig.setup == Setup::Veth {
        // What remains when nobody forwards: the driver, the frame's buffer, and GRO.
        path.sink = (rig.host.ns(), Host::UPLINK, Hook::Ingress);
        let [dropped, _] = path.measure(effort)?;
        let floor = dropped.per_core / 1e6;
        values.push(Value::more("  dropped on the uplink", "Mpps/core", floor));
    }
    Ok(values)
}

pub(super) fn from_vm(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let carrier = match rig.port {
        Some(_) => None,
        None => Some(Carrier::of(&rig.near, TESTED)?),
    };
    let carrier = carrier.as_ref().map(Carrier::receiver);
    let mut path = Path {
        load: (rig.near.ns(), Vm::NIC),
        template: rig.vm_datagrams()?,
        bursts: false,
        receivers: rig.port.iter().chain(carrier).collect(),
        sink: (rig.host.ns(), Host::UPLINK, Hook::Egress),
    };
    let [passed, overload] = path.measure(effort)?;
    let mut values = vec![
        Value::more("UDP 60 B, VM to wire", "Mpps/core", passed.per_core / 1e6),
        Value::more("  delivered", "Mpps", passed.per_second / 1e6),
        Value::more("  under all load", "Mpps", overload.per_second / 1e6),
    ];
    if rig.variant == Variant::Kernel {
        // What remains when nobody forwards: who brings the frame, and its buffer.
        path.sink = (rig.host.ns(), rig.near.port(), Hook::Ingress);
        let [dropped, _] = path.measure(effort)?;
        let floor = dropped.per_core / 1e6;
        values.push(Value::more("  dropped on the port", "Mpps/core", floor));
    }
    Ok(values)
}

/// Between two VMs of one host: what a bridge does.
pub(super) fn between_vms(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let path = Path {
        load: (rig.near.ns(), Vm::NIC),
        template: rig.neighbor_datagrams()?,
        bursts: false,
        receivers: rig.port.iter().collect(),
        sink: (rig.neighbor()?.ns(), Vm::NIC, Hook::Ingress),
    };
    let [passed, _] = path.measure(effort)?;
    Ok(vec![
        Value::more("UDP 60 B, VM to VM", "Mpps/core", passed.per_core / 1e6),
        Value::more("  delivered", "Mpps", passed.per_second / 1e6),
    ])
}

/// To each number of VTEPs, from the VM that is there for it.
pub(super) fn flood(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    rig.flooders
        .iter()
        .map(|flooder| {
            let path = Path {
                load: (flooder.vm.ns(), Vm::NIC),
                template: flooder.broadcasts()?,
                bursts: true,
                receivers: vec![&flooder.port],
                sink: (rig.host.ns(), Host::UPLINK, Hook::Egress),
            };
            let [passed, _] = path.measure(effort)?;
            let copies = passed.per_core / 1e6;
            Ok(Value::more(flooder.size.name, "M/s/core", copies))
        })
        .collect()
}

/// Unicast from VMs whose bridge domains have more and more MACs, to all of them at random.
pub(super) fn tables(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    rig.tables
        .iter()
        .map(|table| {
            let path = Path {
                load: (table.vm.ns(), Vm::NIC),
                template: table.datagrams()?,
                bursts: false,
                receivers: vec![&table.port],
                sink: (rig.host.ns(), Host::UPLINK, Hook::Egress),
            };
            let [passed, _] = path.measure(effort)?;
            let frames = passed.per_core / 1e6;
            Ok(Value::more(table.size.name, "Mpps/core", frames))
        })
        .collect()
}

/// From the wire to the VMs of more and more bridge domains.
pub(super) fn domains(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    DOMAIN_SIZES
        .into_iter()
        .map(|size| {
            let path = Path {
                load: (rig.far_host.ns(), Host::UPLINK),
                template: rig.domain_datagrams(size)?,
                bursts: false,
                receivers: vec![&rig.uplink],
                sink: (rig.host.ns(), Domains::BELOW, Hook::Egress),
            };
            let [passed, _] = path.measure(effort)?;
            let frames = passed.per_core / 1e6;
            Ok(Value::more(size.name, "Mpps/core", frames))
        })
        .collect()
}

/// Answers per second that the VTEP gives to requests of the VM.
pub(super) fn answers(rig: &Rig, effort: &Effort, request: &[u8]) -> Result<f64> {
    let path = Path {
        load: (rig.near.ns(), Vm::NIC),
        template: Template {
            bytes: request.to_vec(),
            flow: Vec::new(),
            random: Vec::new(),
        },
        bursts: false,
        receivers: rig.port.iter().collect(),
        sink: (rig.near.ns(), Vm::NIC, Hook::Ingress),
    };
    let [passed, _] = path.measure(effort)?;
    Ok(passed.per_core)
}

/// A way through the VTEP under test.
struct Path<'a> {
    load: (&'a Namespace, &'a str),
    template: Template,
    /// Whether to send bursts, instead of more than what can be forwarded.
    bursts: bool,
    /// Who forwards.
    receivers: Vec<&'a Receiver>,
    sink: (&'a Namespace, &'a str, Hook),
}

/// What came through.
#[derive(Clone, Copy)]
struct Passed {
    /// Frames per second of the receiving thread's processor time.
    per_core: f64,
    /// Frames per second.
    per_second: f64,
}

impl Path<'_> {
    /// Under twice the load that it can take, and under all that can be made.
    fn measure(&self, effort: &Effort) -> Result<[Passed; 2]> {
        if self.bursts {
            let passed = self.under(Pace::Bursts(FLOOD_BURST), effort.packets)?;
            return Ok([passed; 2]);
        }
        // Frames that do not fit into the receiver's ring are freed under locks that it needs, too.
        // So it gets twice what it can take while it is flooded, and not all that can be made.
        let flooded = self.under(Pace::Full, PROBE)?;
        let passed = self.under(Pace::Rate(2.0 * flooded.per_second), effort.packets)?;
        Ok([passed, flooded])
    }

    fn under(&self, pace: Pace, duration: Duration) -> Result<Passed> {
        let (ns, device, hook) = self.sink;
        let sink = Sink::on(ns, device, hook)?;
        let (load_ns, load_device) = self.load;
        let generator = Generator::start(load_ns, load_device, &self.template, pace, LOADER)?;
        eventually(PATIENCE, || {
            ensure!(sink.count()? > 0, "nothing comes through");
            Ok(())
        })?;
        thread::sleep(WARM_UP);
        let before = self.sample(&sink)?;
        thread::sleep(duration);
        let after = self.sample(&sink)?;
        generator.stop()?;
        let frames = (after.frames - before.frames) as f64;
        ensure!(frames > 100.0, "only {frames} frames came through");
        Ok(Passed {
            per_core: frames * 1e9 / (after.cpu_time - before.cpu_time) as f64,
            per_second: frames / (after.time - before.time).as_secs_f64(),
        })
    }

    fn sample(&self, sink: &Sink) -> Result<Sample> {
        let times = self.receivers.iter().map(|receiver| receiver.cpu_time());
        Ok(Sample {
            frames: sink.count()?,
            cpu_time: times.sum::<Result<_>>()?,
            time: Instant::now(),
        })
    }
}

struct Sample {
    frames: u64,
    cpu_time: u64,
    time: Instant,
}
