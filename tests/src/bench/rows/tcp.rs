//! TCP: as much as goes through, and one request after the other.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use vtep_tests::{Iperf, IperfResult, Vm};

use super::{Effort, MICROSECOND, Times, Value};
use crate::{
    rig::{FAR, LOADER, NEAR, Rig, Setup, TESTED},
    sys,
};

/// Lines of the table.
const NAMES: [&str; 2] = ["TCP 1 flow, wire to VM", "TCP 1 flow, VM to wire"];
const NAMES_OF_EIGHT: [&str; 2] = ["TCP 8 flows, wire to VM", "TCP 8 flows, VM to wire"];
const NAMES_PLAIN: [&str; 2] = ["  offloads off, wire to VM", "  offloads off, VM to wire"];
/// Bytes of a request, and of its answer.
const MESSAGE: usize = 64;
/// Requests before those that count.
const WARM_UP: usize = 500;

/// iperf3 each way, with one flow and with eight, and with one for a VM without offloads.
pub(super) fn bulk(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let mut values = Vec::from(both_ways(rig, effort, 1, NAMES)?);
    values.extend(both_ways(rig, effort, 8, NAMES_OF_EIGHT)?);
    if rig.setup != Setup::VethTso {
        let _plain = Plain::make(rig)?;
        values.extend(both_ways(rig, effort, 1, NAMES_PLAIN)?);
    }
    Ok(values)
}

fn both_ways(
    rig: &Rig,
    effort: &Effort,
    flows: u32,
    names: [&'static str; 2],
) -> Result<[Value; 2]> {
    let (near, far) = (rig.near.ns(), rig.far.ns());
    let iperf = Iperf::tcp(effort.tcp)
        .flows(flows)
        .processors(LOADER, TESTED);
    let received = iperf.run(&rig.lab, far, near, &NEAR.to_string())?;
    let sent = iperf.run(&rig.lab, near, far, &FAR.to_string())?;
    let [to_vm, to_wire] = names;
    let value =
        |name, result: IperfResult| Value::more(name, "Gbit/s", result.bits_per_second / 1e9);
    Ok([value(to_vm, received), value(to_wire, sent)])
}

/// The VM under test has neither checksum nor segmentation offload, and gets none of its host, until this
/// is dropped.
struct Plain<'a>(&'a Rig);

impl<'a> Plain<'a> {
    fn make(rig: &'a Rig) -> Result<Self> {
        let plain = Self(rig);
        plain.set("off")?;
        Ok(plain)
    }

    fn set(&self, to: &str) -> Result<()> {
        let (vm, host) = (&self.0.near, &self.0.host);
        for (ns, device) in [(vm.ns(), Vm::NIC), (host.ns(), vm.port())] {
            ns.run(&format!("ethtool -K {device} tx {to} tso {to}"))?;
        }
        Ok(())
    }
}

impl Drop for Plain<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set("on") {
            eprintln!("{error:#}");
        }
    }
}

/// One request at a time from the far VM, of which the next follows the answer.
pub(super) fn transactions(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let listener = rig.near.ns().enter(|| Ok(TcpListener::bind((NEAR, 0))?))?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || answer(&listener));
    let port = rig.port.as_ref().context("no veth")?;
    let cpu_time = || -> Result<u64> { Ok(rig.uplink.cpu_time()? + port.cpu_time()?) };
    let count = effort.requests * 3;
    let (times, used) = rig.far.ns().enter(|| {
        sys::pin(0, LOADER)?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut message = [0x5a; MESSAGE];
        let mut ask = || -> Result<_> {
            let start = Instant::now();
            stream.write_all(&message)?;
            stream.read_exact(&mut message)?;
            Ok(start.elapsed())
        };
        for _ in 0..WARM_UP {
            ask()?;
        }
        let before = cpu_time()?;
        let times = (0..count).map(|_| ask()).collect::<Result<Vec<_>>>()?;
        Ok((times, cpu_time()? - before))
    })?;
    server
        .join()
        .map_err(|_| anyhow!("the server panicked"))??;
    let rate = count as f64 / times.iter().sum::<std::time::Duration>().as_secs_f64();
    let times = Times::new(times);
    let of = |share| times.quantile(share, MICROSECOND);
    let processor = used as f64 / 1e3 / count as f64;
    Ok(vec![
        Value::more("TCP transactions", "1/s", rate),
        Value::less("  p50", "us", of(0.5)),
        Value::less("  p99", "us", of(0.99)),
        Value::less("  p99.9", "us", of(0.999)),
        Value::less("  forwarding, CPU time", "us", processor),
    ])
}

/// Answers what comes on one connection, until it is closed.
fn answer(listener: &TcpListener) -> Result<()> {
    sys::pin(0, TESTED)?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message)?;
    }
    Ok(())
}
