//! The traps of the datapath, each on real traffic.

mod closed;
mod foreign;
mod limits;
mod offload;
mod port;
mod size;
mod uplink;

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use vtep_tests::{Agent, Iperf, Namespace, Pair, eventually};

/// Frames from the overlay that were delivered by one path.
fn received(agent: &Agent, path: &str) -> Result<f64> {
    let path = format!("path=\"{path}\"");
    agent
        .metrics()?
        .value("vtep_packets_total", &["direction=\"rx\"", &path])
}

/// Frames that were dropped for one reason.
fn dropped(agent: &Agent, reason: &str) -> Result<f64> {
    let reason = format!("reason=\"{reason}\"");
    agent.metrics()?.value("vtep_drops_total", &[&reason])
}

/// Waits until so many more frames were dropped for a reason than before.
fn wait_dropped(agent: &Agent, reason: &str, before: f64, more: f64) -> Result<()> {
    eventually(Duration::from_secs(5), || {
        let now = dropped(agent, reason)?;
        ensure!(now - before >= more, "{reason}: {before}, then {now}");
        Ok(())
    })
}

/// Sends datagrams from VM 1 to VM 2 for two seconds; gives the share that reached VM 2, in which
/// those count that its socket had no room for: on a busy machine that is up to a third.
fn datagrams_arrive(pair: &Pair, address: &str, rate: &str) -> Result<f64> {
    let (sender, receiver) = (pair.vm1.ns(), pair.vm2.ns());
    let [out, delivered, full] = if address.contains(':') {
        ["Udp6OutDatagrams", "Udp6InDatagrams", "Udp6RcvbufErrors"]
    } else {
        ["Udp OutDatagrams", "Udp InDatagrams", "Udp RcvbufErrors"]
    };
    let counts = || -> Result<[f64; 2]> {
        let sent = protocol_counter(sender, out)?;
        let received = protocol_counter(receiver, delivered)? + protocol_counter(receiver, full)?;
        Ok([sent, received])
    };
    let before = counts()?;
    Iperf::udp(2, rate).run(&pair.lab, sender, receiver, address)?;
    let after = counts()?;
    let sent = after[0] - before[0];
    ensure!(sent > 1000.0, "{sent} datagrams sent");
    Ok((after[1] - before[1]) / sent)
}

/// A counter of a namespace's IP stack: `Protocol Name` for IPv4, `ProtocolName` for IPv6.
fn protocol_counter(ns: &Namespace, name: &str) -> Result<f64> {
    let file = if name.contains(' ') { "snmp" } else { "snmp6" };
    let text = ns.enter(|| Ok(fs::read_to_string(format!("/proc/thread-self/net/{file}"))?))?;
    let value = match name.split_once(' ') {
        // Two lines for each protocol, names and values.
        Some((protocol, name)) => {
            let prefix = format!("{protocol}: ");
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
            let names = lines.next().unwrap_or_default().split_whitespace();
            let values = lines.next().unwrap_or_default().split_whitespace();
            names
                .zip(values)
                .find(|(found, _)| *found == name)
                .map(|(_, value)| value)
        }
        None => text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim),
    };
    let value = value.with_context(|| format!("no counter {name}"))?;
    Ok(value.parse()?)
}

/// TC programs at a device's ingress, in the order in which they run. One that has no name is
/// foreign.
fn tc_programs(ns: &Namespace, device: &str) -> Result<Vec<String>> {
    ns.enter(|| {
        let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress)?;
        let names = programs.iter();
        Ok(names
            .map(|program| program.name_as_str().unwrap_or_default().to_owned())
            .collect())
    })
}
