//! Peers that are known by an interface: sessions over link-local addresses that nobody configured.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{
    Agent, AgentConfig, Frr, Host, Lab, LinuxBd, UnderlayOptions, VmSpec, eventually, pings,
};

const VNI: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// The one peer in `show bgp`.
fn peer(agent: &Agent) -> Result<Value> {
    let bgp = agent.show("bgp")?;
    bgp["peers"].get(0).cloned().context("no peer")
}

/// The session over the uplink is up, with this address at its other end.
fn wait_up(agent: &Agent, address: &str) -> Result<()> {
    eventually(PATIENCE, || {
        let peer = peer(agent)?;
        ensure!(
            peer["state"] == "established"
                && peer["interface"] == Host::UPLINK
                && peer["address"] == address,
            "{peer}"
        );
        Ok(())
    })
}

/// The link-local address of the uplink.
fn link_local(host: &Host) -> Result<String> {
    eventually(PATIENCE, || {
        let text = host.ns().run(&format!(
            "ip -6 -oneline address show dev {} scope link",
            Host::UPLINK
        ))?;
        let address = text
            .split_whitespace()
            .find(|word| word.starts_with("fe80"));
        let (address, _) = address
            .and_then(|word| word.split_once('/'))
            .context(text.clone())?;
        Ok(address.to_owned())
    })
}

fn config(host: &Host, asn: u32, lines: &str) -> AgentConfig {
    AgentConfig::new(host, asn)
        .unnumbered(Host::UPLINK, lines)
        .bd("blue", VNI, &["vnet-*"])
}

/// BGP-031 (RFC 8950, RFC 7432 §9.2.1, RFC 4861 §6): both ends find each other, the next hop stays the
/// VTEP's address, and whoever has another address afterwards has another session. Signed (RFC
/// 2385), and from a neighbour only (RFC 5082).
#[test]
fn bgp_031_two_agents_find_each_other() -> Result<()> {
    let lab = Lab::new("unnum")?;
    let [h1, h2] = lab.cable(["h1", "h2"], &UnderlayOptions::default())?;
    let vms = [
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    ];
    let lines = "password = \"s3cret\"\nttl_security = 1\n";
    let a1 = Agent::start(&h1, &config(&h1, 65001, lines))?;
    let waiting = eventually(PATIENCE, || {
        let peer = peer(&a1)?;
        ensure!(peer["last_error"].is_string(), "{peer}");
        Ok(peer)
    })?;
    ensure!(
        waiting["state"] == "idle" && waiting["address"].is_null(),
        "{waiting}"
    );
    let reason = format!("no router advertisement was received on {}", Host::UPLINK);
    eventually(PATIENCE, || {
        let peer = peer(&a1)?;
        ensure!(peer["last_error"] == reason, "{peer}");
        Ok(())
    })?;

    let a2 = Agent::start(&h2, &config(&h2, 65002, lines))?;
    wait_up(&a1, &link_local(&h2)?)?;
    wait_up(&a2, &link_local(&h1)?)?;
    let [vm1, vm2] = &vms;
    pings(vm1, vm2)?;
    let from_h2 = json!(h2.address().to_string());
    a1.wait_row(
        "routes",
        &[("type", json!(3)), ("next_hop", from_h2.clone())],
    )?;
    a1.wait_row("routes", &[("type", json!(2)), ("next_hop", from_h2)])?;
    let metric = a1.metrics()?;
    ensure!(
        metric.value("vtep_bgp_peer_up", &[&format!("peer=\"{}\"", Host::UPLINK)])? == 1.0,
        "the peer is not up in metrics"
    );

    let moved = "fe80::2:2";
    h2.ns().ip(&format!(
        "addr flush dev {0} scope link\naddr add {moved}/64 dev {0} scope link\n",
        Host::UPLINK
    ))?;
    wait_up(&a1, moved)?;
    pings(vm1, vm2)
}

/// BGP-031 with FRR's `neighbor IFNAME interface`: each learns the other from its router
/// advertisements, and next hops are those of the VTEPs.
#[test]
fn bgp_031_frr_finds_us_and_we_find_frr() -> Result<()> {
    let lab = Lab::new("unnumfrr")?;
    let [h1, h2] = lab.cable(["h1", "h2"], &UnderlayOptions::default())?;
    let (vm1, vm2) = (
        h1.vm("vm1", &VmSpec::new(1))?,
        h2.vm("vm2", &VmSpec::new(2))?,
    );
    LinuxBd::create(&h2, VNI)?.plug(&vm2)?;
    let frr = Frr::start_with(
        &h2,
        &format!(
            "router bgp 65002\n bgp router-id {}\n no bgp ebgp-requires-policy\n \
             no bgp default ipv4-unicast\n neighbor {uplink} interface remote-as external\n \
             neighbor {uplink} timers connect 1\n neighbor {uplink} advertisement-interval 0\n \
             address-family l2vpn evpn\n  neighbor {uplink} activate\n  advertise-all-vni\n \
             exit-address-family\n",
            h2.address(),
            uplink = Host::UPLINK
        ),
    )?;
    let agent = Agent::start(&h1, &config(&h1, 65001, ""))?;
    wait_up(&agent, &link_local(&h2)?)?;
    eventually(PATIENCE, || {
        let summary = frr.show("show bgp l2vpn evpn summary json")?;
        let state = &summary["peers"][Host::UPLINK]["state"];
        ensure!(state == "Established", "{summary}");
        Ok(())
    })?;
    pings(&vm1, &vm2)?;
    agent.wait_row(
        "vteps",
        &[
            ("address", json!(h2.address().to_string())),
            ("reachable", json!(true)),
        ],
    )?;
    eventually(PATIENCE, || {
        let mac = frr.mac(VNI, vm1.mac())?;
        ensure!(mac["remoteVtep"] == h1.address().to_string(), "{mac}");
        Ok(())
    })
}
