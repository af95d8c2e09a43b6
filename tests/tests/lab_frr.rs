//! Interoperation with FRR over Linux's bridge and vxlan, directly and through GoBGP as a route
//! reflector.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Capture, Frr, Host, Iperf, Lab, LinuxBd, PacketSocket, Pair, Ping,
    RouteReflector, Vm, VmSpec, count, eventually, pings, test_frame, wait_flood,
};

const ASN: u32 = Pair::ASN;
const VNI: u32 = 100;

/// An agent with VM 1 on one host, FRR with VM 2 on another.
struct Mixed {
    agent: Agent,
    frr: Frr,
    vm1: Vm,
    vm2: Vm,
    lab: Lab,
}

impl Mixed {
    /// Starts both with their peers by address and AS, the agent's first.
    fn start(
        [h1, h2]: [&Host; 2],
        [agent_asn, frr_asn]: [u32; 2],
        [agent_peer, frr_peer]: [(Ipv4Addr, u32); 2],
    ) -> Result<Self> {
        let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
        let vm2 = h2.vm("vm2", &VmSpec::new(2))?;
        LinuxBd::create(h2, VNI)?.plug(&vm2)?;
        let frr = Frr::start(h2, frr_asn, &[frr_peer])?;
        let config = AgentConfig::new(h1, agent_asn)
            .peer(agent_peer.0, agent_peer.1)
            .bd("blue", VNI, &["vnet-*"]);
        // GoBGP drops routes with a community that it does not know, as that of RFC 9047.
        let config = match agent_peer.0 == h2.address() {
            true => config,
            false => config.bgp("arp_nd_flags = false"),
        };
        let agent = Agent::start(h1, &config)?;
        agent.wait_established()?;
        frr.wait_established(frr_peer.0)?;
        Ok(Self {
            agent,
            frr,
            vm1,
            vm2,
            lab: h1.lab().clone(),
        })
    }

    /// Traffic both ways, and both sides' tables.
    fn check(&self) -> Result<()> {
        let (vm1, vm2) = (self.vm1.ns(), self.vm2.ns());
        pings(&self.vm1, &self.vm2)?;
        for iperf in [Iperf::tcp(1), Iperf::tcp(1).reverse()] {
            let tcp = iperf.run(&self.lab, vm1, vm2, "10.0.0.2")?;
            ensure!(tcp.bits_per_second > 1e7, "{iperf:?}: {tcp:?}");
        }
        for iperf in [Iperf::udp(1, "20M"), Iperf::udp(1, "20M").reverse()] {
            let udp = iperf.run(&self.lab, vm1, vm2, "10.0.0.2")?;
            ensure!(
                udp.bits_per_second > 1e7 && udp.loss < 0.2,
                "{iperf:?}: {udp:?}"
            );
        }
        self.check_tables()?;
        self.check_broadcast()
    }

    fn check_tables(&self) -> Result<()> {
        let (h1, h2) = (self.agent.host().address(), self.frr.host().address());
        eventually(Duration::from_secs(20), || {
            // An IPv6 address is learned from an advertisement, and those are sent when asked for.
            self.vm2.ns().run("ndisc6 -1 -q fd00::1 eth0")?;
            let mac = self.frr.mac(VNI, self.vm1.mac())?;
            ensure!(
                mac["type"] == "remote" && mac["remoteVtep"] == h1.to_string(),
                "{mac}"
            );
            for address in ["10.0.0.1", "fd00::1"] {
                let neighbor = self.frr.neighbor(VNI, address)?;
                ensure!(neighbor["mac"] == self.vm1.mac(), "{address}: {neighbor}");
                ensure!(
                    neighbor["remoteVtep"] == h1.to_string(),
                    "{address}: {neighbor}"
                );
            }
            Ok(())
        })?;
        self.agent.wait_row(
            "macs",
            &[
                ("bd", json!("blue")),
                ("mac", json!(self.vm2.mac())),
                ("origin", json!("remote")),
                ("vtep", json!(h2.to_string())),
            ],
        )?;
        self.agent.wait_row(
            "vteps",
            &[
                ("address", json!(h2.to_string())),
                ("reachable", json!(true)),
            ],
        )?;
        Ok(())
    }

    /// A broadcast crosses once, each way.
    fn check_broadcast(&self) -> Result<()> {
        for (number, from, to) in [(1, &self.vm1, &self.vm2), (2, &self.vm2, &self.vm1)] {
            let frame = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, number]);
            let capture = Capture::start_received(&self.lab, to.ns(), Vm::NIC, "")?;
            let socket = PacketSocket::open(from.ns(), Vm::NIC)?;
            for _ in 0..5 {
                socket.send(&frame)?;
            }
            let seen = count(&capture.stop()?, &frame);
            ensure!(seen == 5, "{seen} of 5 broadcasts from {}", from.name());
        }
        Ok(())
    }
}

#[test]
fn frr_as_an_ibgp_peer() -> Result<()> {
    let lab = Lab::new("ibgp")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    Mixed::start(
        [&h1, &h2],
        [ASN; 2],
        [(h2.address(), ASN), (h1.address(), ASN)],
    )?
    .check()
}

/// Route targets of the two sides differ in their AS: `*:VNI` matches both.
#[test]
fn frr_as_an_ebgp_peer() -> Result<()> {
    let lab = Lab::new("ebgp")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let asns = [65001, 65002];
    Mixed::start(
        [&h1, &h2],
        asns,
        [(h2.address(), 65002), (h1.address(), 65001)],
    )?
    .check()
}

/// AS numbers that don't fit into two octets (RFC 6793).
#[test]
fn frr_with_four_octet_as_numbers() -> Result<()> {
    let lab = Lab::new("as4")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let asns = [4_200_000_001, 4_200_000_002];
    let peers = [(h2.address(), asns[1]), (h1.address(), asns[0])];
    let mixed = Mixed::start([&h1, &h2], asns, peers)?;
    Ping::to("10.0.0.2").until_answered(mixed.vm1.ns())?;
    Ping::to("10.0.0.2")
        .count(20)
        .all_answered(mixed.vm1.ns())?;
    mixed.check_tables()
}

#[test]
fn frr_behind_a_route_reflector() -> Result<()> {
    let lab = Lab::new("rr")?;
    let underlay = lab.underlay()?;
    let (h1, h2, rr) = (
        underlay.host("h1")?,
        underlay.host("h2")?,
        underlay.host("rr")?,
    );
    let _reflector = RouteReflector::start(&rr, ASN, &[h1.address(), h2.address()])?;
    Mixed::start([&h1, &h2], [ASN; 2], [(rr.address(), ASN); 2])?.check()
}

/// Two agents and FRR behind one reflector: everybody reaches everybody, broadcasts arrive once.
#[test]
fn two_agents_and_frr_behind_a_route_reflector() -> Result<()> {
    let lab = Lab::new("three")?;
    let underlay = lab.underlay()?;
    let (h1, h2, rr, h3) = (
        underlay.host("h1")?,
        underlay.host("h2")?,
        underlay.host("rr")?,
        underlay.host("h3")?,
    );
    let clients = [&h1, &h2, &h3].map(Host::address);
    let _reflector = RouteReflector::start(&rr, ASN, &clients)?;
    let mixed = Mixed::start([&h1, &h2], [ASN; 2], [(rr.address(), ASN); 2])?;
    let vm3 = h3.vm("vm3", &VmSpec::new(3))?;
    let config = AgentConfig::new(&h3, ASN)
        .peer(rr.address(), ASN)
        .bd("blue", VNI, &["vnet-*"]);
    let a3 = Agent::start(&h3, &config)?;
    for agent in [&mixed.agent, &a3] {
        wait_flood(agent, "blue", 2)?;
    }
    let vms = [&mixed.vm1, &mixed.vm2, &vm3];
    for (number, from) in (1..).zip(vms) {
        for target in (1..=3).filter(|target| *target != number) {
            let ping = Ping::to(&format!("10.0.0.{target}"));
            ping.until_answered(from.ns())?;
            ping.count(20).all_answered(from.ns())?;
        }
    }
    let frame = test_frame([0xff; 6], [0x02, 0, 0, 0, 0, 0x01]);
    let captures = [&mixed.vm2, &vm3].map(|vm| Capture::start_received(&lab, vm.ns(), Vm::NIC, ""));
    PacketSocket::open(mixed.vm1.ns(), Vm::NIC)?.send(&frame)?;
    for capture in captures {
        let seen = count(&capture?.stop()?, &frame);
        ensure!(seen == 1, "{seen} copies of one broadcast");
    }
    Ok(())
}

/// FRR forgets our endpoints when the agent stops, and the agent FRR's when bgpd does.
#[test]
fn routes_go_with_their_speaker() -> Result<()> {
    let lab = Lab::new("withdraw")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let peers = [(h2.address(), ASN), (h1.address(), ASN)];
    let mut mixed = Mixed::start([&h1, &h2], [ASN; 2], peers)?;
    Ping::to("10.0.0.2").until_answered(mixed.vm1.ns())?;
    mixed.check_tables()?;

    mixed.frr.bgpd().terminate()?;
    eventually(Duration::from_secs(10), || {
        let row = mixed.agent.row("macs", &[("origin", json!("remote"))]);
        ensure!(row.is_err(), "{row:?}");
        wait_flood(&mixed.agent, "blue", 0)
    })
}

#[test]
fn frr_forgets_a_stopped_agent() -> Result<()> {
    let lab = Lab::new("forget")?;
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let peers = [(h2.address(), ASN), (h1.address(), ASN)];
    let mut mixed = Mixed::start([&h1, &h2], [ASN; 2], peers)?;
    Ping::to("10.0.0.2").until_answered(mixed.vm1.ns())?;
    mixed.check_tables()?;
    ensure!(mixed.agent.stop()?.success());
    eventually(Duration::from_secs(10), || {
        let mac = mixed.frr.mac(VNI, mixed.vm1.mac());
        ensure!(mac.is_err(), "{mac:?}");
        Ok(())
    })
}
