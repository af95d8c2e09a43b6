//! Sizes: jumbo frames, and what does not fit.

use anyhow::{Result, ensure};
use vtep_tests::{Iperf, Lab, Pair, Ping, UnderlayOptions, VmSpec};

use crate::{dropped, wait_dropped};

/// An underlay of 9000 bytes carries VMs of 8950, in every mode; multi-buffer frames too, which XDP
/// leaves to the TC half.
#[test]
fn jumbo_frames() -> Result<()> {
    for (xdp, tx_checksum) in [
        ("native", false),
        ("native", true),
        ("generic", false),
        ("off", false),
        ("off", true),
    ] {
        let lab = Lab::new(&format!("jumbo-{xdp}"))?;
        let underlay = lab.underlay_with(&UnderlayOptions {
            mtu: 9000,
            tx_checksum,
        })?;
        let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
        let vms = [
            h1.vm("vm1", &VmSpec::new(1).mtu(8950))?,
            h2.vm("vm2", &VmSpec::new(2).mtu(8950))?,
        ];
        let line = format!("xdp = \"{xdp}\"");
        let pair = Pair::join(&lab, [h1, h2], vms, |config| config.vtep(&line))?;
        let (vm1, vm2) = (pair.vm1.ns(), pair.vm2.ns());
        for address in ["10.0.0.2", "fd00::2"] {
            Ping::to(address).until_answered(vm1)?;
            let headers = if address.contains(':') { 48 } else { 28 };
            // Around what fits into one page of an XDP buffer, and up to the MTU.
            for packet in [1500, 3400, 3500, 3600, 4096, 8950] {
                Ping::to(address)
                    .count(3)
                    .size(packet - headers)
                    .dont_fragment()
                    .all_answered(vm1)
                    .map_err(|error| error.context(format!("{xdp} {tx_checksum} {packet}")))?;
            }
            for iperf in [Iperf::tcp(1), Iperf::tcp(1).reverse()] {
                let tcp = iperf.run(&lab, vm1, vm2, address)?;
                ensure!(tcp.bits_per_second > 1e7, "{xdp} {address}: {tcp:?}");
            }
        }
        for agent in [&pair.a1, &pair.a2] {
            for reason in ["helper", "truncated", "outer_header", "inner_header"] {
                let count = dropped(agent, reason)?;
                ensure!(count == 0.0, "{xdp} {tx_checksum}: {count} {reason}");
            }
        }
    }
    Ok(())
}

/// VMs with an MTU that the underlay cannot carry: the sender learns what it can, with and without
/// segmentation offload, and streams flow.
#[test]
fn too_big_is_told_to_the_sender() -> Result<()> {
    let lab = Lab::new("big")?;
    // 1450 bytes are left for packets of VMs.
    let underlay = lab.underlay_with(&UnderlayOptions {
        mtu: 1500,
        ..UnderlayOptions::default()
    })?;
    let pair = Pair::start(&lab, &underlay)?;
    let (vm1, vm2) = (pair.vm1.ns(), pair.vm2.ns());
    for address in ["10.0.0.2", "fd00::2"] {
        Ping::to(address).until_answered(vm1)?;
        let headers = if address.contains(':') { 48 } else { 28 };
        // The first is refused, and its sender told; the next is not even sent.
        Ping::to(address)
            .size(1450 - headers)
            .dont_fragment()
            .all_answered(vm1)?;
        let before = dropped(&pair.a1, "too_big")?;
        Ping::to(address)
            .count(1)
            .size(1451 - headers)
            .dont_fragment()
            .never_answered(vm1)?;
        wait_dropped(&pair.a1, "too_big", before, 1.0)?;
        let route = vm1.run(&format!("ip route get {address}"))?;
        ensure!(route.contains("mtu 1450"), "{route}");
        flush(&pair)?;
        for offload in ["on", "off"] {
            for vm in [vm1, vm2] {
                for feature in ["tso", "gso"] {
                    vm.run(&format!("ethtool -K eth0 {feature} {offload}"))?;
                }
            }
            for iperf in [Iperf::tcp(1), Iperf::tcp(1).reverse()] {
                let tcp = iperf.run(&lab, vm1, vm2, address)?;
                ensure!(
                    tcp.bits_per_second > 1e7,
                    "offload {offload}, {address}: {tcp:?}"
                );
                flush(&pair)?;
            }
        }
    }
    // Without DF nobody is told: RFC 1191 is the sender's choice.
    let before = dropped(&pair.a1, "too_big_silent")?;
    vm1.sysctl("net/ipv4/ip_no_pmtu_disc", "1")?;
    Ping::to("10.0.0.2")
        .count(3)
        .size(1472)
        .never_answered(vm1)?;
    wait_dropped(&pair.a1, "too_big_silent", before, 3.0)
}

/// Forgets what the VMs have learned of the path.
fn flush(pair: &Pair) -> Result<()> {
    for vm in [&pair.vm1, &pair.vm2] {
        vm.ns().run("ip route flush cache")?;
        vm.ns().run("ip -6 route flush cache")?;
    }
    Ok(())
}
