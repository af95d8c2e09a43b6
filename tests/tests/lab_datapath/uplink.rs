//! Uplinks: several of them, and what was on them before.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Host, Iperf, Lab, Pair, Ping, Underlay, Vm, VmSpec, Vxlan,
    eventually,
};

use crate::{
    foreign::{Foreign, Place},
    tc_programs,
};

const ADDRESSES: [&str; 2] = ["203.0.113.1", "203.0.113.2"];

/// Gives a host a second uplink, its VTEP address, and a route over both uplinks to the other's.
fn two_uplinks(underlay: &Underlay, host: &Host, own: usize) -> Result<()> {
    underlay.link(host, "eth1", &format!("to-{}b", host.name()))?;
    let ns = host.ns();
    // Each uplink speaks for its own addresses only.
    ns.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
    ns.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
    let other = 1 - own;
    ns.ip(&format!(
        "addr add {}/32 dev lo\naddr add 198.19.0.{}/24 dev eth1\n\
         route add {}/32 src {} nexthop via 198.18.0.{n} dev eth0 nexthop via 198.19.0.{n} dev eth1\n",
        ADDRESSES[own],
        own + 1,
        ADDRESSES[other],
        ADDRESSES[own],
        n = other + 1,
    ))
}

/// Flows spread over the paths of a multipath route, each on one of them; without one of the paths
/// all go by the other.
#[test]
fn flows_spread_over_two_uplinks() -> Result<()> {
    let lab = Lab::new("ecmp")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    two_uplinks(&underlay, &h1, 0)?;
    two_uplinks(&underlay, &h2, 1)?;
    let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
    let vm2 = h2.vm("vm2", &VmSpec::new(2))?;
    let config = |here: &Host, own: usize| -> Result<AgentConfig> {
        Ok(AgentConfig::new(here, Pair::ASN)
            .vtep(&format!("address = \"{}\"", ADDRESSES[own]))
            .vtep("uplinks = [\"eth0\", \"eth1\"]")
            .peer(ADDRESSES[1 - own].parse()?, Pair::ASN)
            .bd("blue", 100, &["vnet-*"]))
    };
    let a1 = Agent::start(&h1, &config(&h1, 0)?)?;
    let a2 = Agent::start(&h2, &config(&h2, 1)?)?;
    a1.wait_established()?;
    for agent in [&a1, &a2] {
        for uplink in ["eth0", "eth1"] {
            agent.row(
                "uplinks",
                &[("name", json!(uplink)), ("state", json!("up"))],
            )?;
        }
    }
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;

    let both = || -> Result<()> {
        let [first, second] = spread(&lab, &underlay, [&vm1, &vm2])?;
        ensure!(first > 0 && second > 0, "{first} and {second} flows");
        Ok(())
    };
    eventually(Duration::from_secs(10), both)?;

    // The near end of one path goes down, then the far end of the other.
    for (host, down, far) in [(&h1, "eth1", 0), (&h2, "eth0", 1)] {
        host.ns().ip(&format!("link set {down} down\n"))?;
        // The kernel asks a neighbour that says nothing for a while before it gives it up.
        eventually(Duration::from_secs(60), || {
            let flows = spread(&lab, &underlay, [&vm1, &vm2])?;
            ensure!(
                flows[1 - far] == 0,
                "{flows:?} with {down} of {} down",
                host.name()
            );
            Ok(())
        })?;
        host.ns().ip(&format!("link set {down} up\n"))?;
        // The kernel does not restore a route whose nexthop went down with its device for good.
        let other = if host.name() == "h1" { 1 } else { 0 };
        let own = 1 - other;
        host.ns().ip(&format!(
            "route replace {}/32 src {} nexthop via 198.18.0.{n} dev eth0 nexthop via 198.19.0.{n} dev eth1\n",
            ADDRESSES[other],
            ADDRESSES[own],
            n = other + 1,
        ))?;
        eventually(Duration::from_secs(20), both)?;
    }
    Ok(())
}

/// Sixteen flows of one datagram each; how many leave by each uplink of the first host. All arrive.
fn spread(lab: &Lab, underlay: &Underlay, [from, to]: [&Vm; 2]) -> Result<[usize; 2]> {
    let captures = ["to-h1", "to-h1b"]
        .map(|port| Capture::start_received(lab, underlay.ns(), port, "udp port 4789"));
    let server = to.ns().enter(|| Ok(UdpSocket::bind("10.0.0.2:0")?))?;
    server.set_read_timeout(Some(Duration::from_secs(1)))?;
    let address = server.local_addr()?;
    for _ in 0..16 {
        let client = from.ns().enter(|| Ok(UdpSocket::bind("10.0.0.1:0")?))?;
        client.send_to(b"flow", address)?;
        server.recv(&mut [0; 8]).context("a datagram is lost")?;
    }
    let mut flows = [0; 2];
    for (flows, capture) in flows.iter_mut().zip(captures) {
        let frames = capture?.stop()?;
        let datagrams = frames.iter().filter_map(Vxlan::parse);
        *flows = datagrams
            .filter(|vxlan| vxlan.inner.ends_with(b"flow"))
            .count();
    }
    ensure!(
        flows[0] + flows[1] == 16,
        "{flows:?}: not one frame for each flow"
    );
    Ok(flows)
}

/// Another XDP program on the uplink: `auto` does without XDP and says why; `native` is an error
/// until the other one has gone.
#[test]
fn another_xdp_program_keeps_the_uplink() -> Result<()> {
    let lab = Lab::new("foreign")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vms = [
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    ];
    let foreign = Foreign::attach(h1.ns(), "eth0", Place::Xdp)?;
    let mut pair = Pair::join(&lab, [h1, h2], vms, |config| config)?;
    let uplink = |mode: &str| [("name", json!("eth0")), ("xdp", json!(mode))];
    pair.a1.row("uplinks", &uplink("off"))?;
    pair.a2.row("uplinks", &uplink("native"))?;
    pair.a1
        .daemon()
        .wait_for_log("another XDP program is attached", Duration::from_secs(1))?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    for address in ["10.0.0.2", "fd00::2"] {
        Ping::to(address).until_answered(pair.vm1.ns())?;
        for iperf in [Iperf::tcp(1), Iperf::tcp(1).reverse()] {
            let tcp = iperf.run(&lab, pair.vm1.ns(), pair.vm2.ns(), address)?;
            ensure!(tcp.bits_per_second > 1e7, "{address}: {tcp:?}");
        }
    }

    // Asked for, it is an error until the other program goes.
    pair.a1
        .reload(&pair.config1().vtep("xdp = \"native\""))?
        .done()?;
    pair.a1
        .daemon()
        .wait_for_log("cannot attach", Duration::from_secs(5))?;
    drop(foreign);
    pair.a1.wait_row("uplinks", &uplink("native"))?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())
}

/// A qdisc and a program that were on an uplink before go on working, in every mode, and are left
/// as they were.
#[test]
fn what_was_on_an_uplink_stays() -> Result<()> {
    for xdp in ["auto", "off"] {
        let lab = Lab::new(&format!("uplink-{xdp}"))?;
        let underlay = lab.underlay()?;
        let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
        let vms = [
            h1.vm("vm1", &VmSpec::new(1))?,
            h2.vm("vm2", &VmSpec::new(2))?,
        ];
        h1.ns()
            .run("tc qdisc replace dev eth0 root tbf rate 20mbit burst 64kb latency 100ms")?;
        h1.ns().run("tc qdisc add dev eth0 clsact")?;
        let _foreign = Foreign::attach(h1.ns(), "eth0", Place::Tcx)?;
        let qdiscs = h1.ns().run("tc qdisc show dev eth0")?;
        let line = format!("xdp = \"{xdp}\"");
        let mut pair = Pair::join(&lab, [h1, h2], vms, |config| config.vtep(&line))?;
        let (vm1, vm2) = (pair.vm1.ns(), pair.vm2.ns());
        Ping::to("10.0.0.2").until_answered(vm1)?;
        for result in [
            Iperf::tcp(2).run(&lab, vm1, vm2, "10.0.0.2")?,
            Iperf::udp(2, "100M").run(&lab, vm1, vm2, "10.0.0.2")?,
        ] {
            ensure!(
                (1e7..2.4e7).contains(&result.bits_per_second),
                "xdp {xdp}: {result:?}"
            );
        }
        ensure!(tc_programs(pair.h1.ns(), "eth0")? == ["", "underlay_tc"]);
        pair.a1.stop()?;
        ensure!(pair.h1.ns().run("tc qdisc show dev eth0")? == qdiscs);
        ensure!(tc_programs(pair.h1.ns(), "eth0")? == [""]);
    }
    Ok(())
}
