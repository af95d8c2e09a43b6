//! TCP: as much as goes through, and one request after the other.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use vtep_tests::Iperf;

use super::{Effort, MICROSECOND, Times, Value};
use crate::{
    rig::{FAR, LOADER, NEAR, Rig, TESTED},
    sys,
};

/// Bytes of a request, and of its answer.
const MESSAGE: usize = 64;
/// Requests before those that count.
const WARM_UP: usize = 500;

/// iperf3 each way, with one flow and with eight.
pub(super) fn bulk(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    let (near, far) = (rig.near.ns(), rig.far.ns());
    let mut values = Vec::new();
    for (flows, names) in [
        (1, ["TCP 1 flow, wire to VM", "TCP 1 flow, VM to wire"]),
        (8, ["TCP 8 flows, wire to VM", "TCP 8 flows, VM to wire"]),
    ] {
        let iperf = Iperf::tcp(effort.tcp)
            .flows(flows)
            .processors(LOADER, TESTED);
        let received = iperf.run(&rig.lab, far, near, &NEAR.to_string())?;
        let sent = iperf.run(&rig.lab, near, far, &FAR.to_string())?;
        values.extend(
            names
                .into_iter()
                .zip([received, sent])
                .map(|(name, result)| Value::more(name, "Gbit/s", result.bits_per_second / 1e9)),
        );
    }
    Ok(values)
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
