//! Metrics, health and counters: they say what happened.

use std::time::Duration;

use anyhow::{Result, ensure};
use vtep_tests::{Host, Lab, Metrics, PacketSocket, Pair, Ping, Vm, Vxlan, eventually, test_frame};

/// Every metric of the contract that a working pair must show.
const NAMES: [&str; 21] = [
    "vtep_build_info",
    "vtep_bgp_peer_up",
    "vtep_bgp_messages_total",
    "vtep_bgp_routes",
    "vtep_macs",
    "vtep_neighbors",
    "vtep_remote_vteps",
    "vtep_packets_total",
    "vtep_bytes_total",
    "vtep_port_packets_total",
    "vtep_port_bytes_total",
    "vtep_drops_total",
    "vtep_suppressed_total",
    "vtep_flood_copies_total",
    "vtep_map_entries",
    "vtep_map_capacity",
    "vtep_reconcile_operations_total",
    "vtep_reconcile_errors_total",
    "vtep_convergence_seconds_bucket",
    "vtep_events_limited_total",
    "vtep_events_lost_total",
];

#[test]
fn metrics_follow_the_traffic() -> Result<()> {
    let lab = Lab::new("metrics")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    // Learned here, and there.
    eventually(Duration::from_secs(10), || {
        let metrics = pair.a1.metrics()?;
        ensure!(metrics.value("vtep_macs", &["bd=\"blue\"", "origin=\"learned\""])? == 1.0);
        ensure!(metrics.value("vtep_macs", &["bd=\"blue\"", "origin=\"remote\""])? == 1.0);
        ensure!(metrics.value("vtep_remote_vteps", &["bd=\"blue\""])? == 1.0);
        ensure!(metrics.value("vtep_bgp_peer_up", &["peer=\"198.18.0.2\""])? == 1.0);
        Ok(())
    })?;

    let before = pair.a1.metrics()?;
    for name in NAMES {
        ensure!(before.has(name), "no {name} in:\n{}", before.text());
    }
    Ping::to("10.0.0.2")
        .count(100)
        .all_answered(pair.vm1.ns())?;
    let socket = PacketSocket::open(pair.vm1.ns(), Vm::NIC)?;
    for _ in 0..7 {
        socket.send(&test_frame([0xff; 6], [0x02, 0, 0, 0, 0, 0x01]))?;
    }
    eventually(Duration::from_secs(10), || {
        let now = pair.a1.metrics()?;
        let grown = |name: &str, labels: &[&str]| -> Result<f64> {
            Ok(now.value(name, labels)? - before.value(name, labels).unwrap_or(0.0))
        };
        for (direction, least) in [("rx", 100.0), ("tx", 107.0)] {
            let label = format!("direction=\"{direction}\"");
            let packets = grown("vtep_packets_total", &[&label])?;
            ensure!(
                (least..least + 60.0).contains(&packets),
                "{direction}: {packets}"
            );
            let bytes = grown("vtep_bytes_total", &[&label])?;
            // Echo requests are 98 bytes long.
            ensure!(bytes >= 9800.0, "{direction}: {bytes} bytes");
        }
        let port = ["port=\"vnet-vm1\"", "bd=\"blue\"", "direction=\"rx\""];
        ensure!(grown("vtep_port_packets_total", &port)? >= 107.0);
        ensure!(grown("vtep_flood_copies_total", &["bd=\"blue\""])? >= 7.0);
        Ok(())
    })?;
    // The counters of the command line are the same ones.
    let counters = pair.a1.show("counters")?;
    let tx = counters["tx"]["packets"].as_f64().unwrap_or_default();
    let metric = pair
        .a1
        .metrics()?
        .value("vtep_packets_total", &["direction=\"tx\""])?;
    ensure!(
        (metric - tx).abs() < 50.0,
        "show counters: {tx}, metric: {metric}"
    );
    Ok(())
}

/// A frame for a VNI that nobody has is dropped and counted by its reason.
#[test]
fn drops_are_counted_by_reason() -> Result<()> {
    let lab = Lab::new("drops")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    let read = || {
        pair.a1
            .metrics()?
            .value("vtep_drops_total", &["reason=\"unknown_vni\""])
    };
    let before = read()?;
    let inner = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, 0x09]);
    let frame = Vxlan::frame(&pair.h2, &pair.h1, 999, &inner)?;
    let socket = PacketSocket::open(pair.h2.ns(), Host::UPLINK)?;
    for _ in 0..5 {
        socket.send(&frame)?;
    }
    eventually(Duration::from_secs(5), || {
        let now = read()?;
        ensure!(now == before + 5.0, "{before} before, {now} now");
        Ok(())
    })
}

#[test]
fn health_is_served() -> Result<()> {
    let lab = Lab::new("health")?;
    let underlay = lab.underlay()?;
    let pair = Pair::start(&lab, &underlay)?;
    for path in ["/healthz", "/readyz"] {
        eventually(Duration::from_secs(10), || {
            let (status, body) = Metrics::get(pair.h1.ns(), path)?;
            ensure!(status == 200, "{path}: {status} {body}");
            Ok(())
        })?;
    }
    let (status, _) = Metrics::get(pair.h1.ns(), "/nonsense")?;
    ensure!(status == 404, "{status}");
    Ok(())
}

/// A peer that is gone shows as 0, within the hold time that its end tells at once.
#[test]
fn a_lost_peer_is_down() -> Result<()> {
    let lab = Lab::new("down")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start(&lab, &underlay)?;
    ensure!(pair.a2.stop()?.success());
    eventually(Duration::from_secs(10), || {
        let up = pair
            .a1
            .metrics()?
            .value("vtep_bgp_peer_up", &["peer=\"198.18.0.2\""])?;
        ensure!(up == 0.0, "{up}");
        Ok(())
    })
}
