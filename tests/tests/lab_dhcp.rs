//! Addresses from a DHCP server, with real clients and a real server.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{
    Agent, Capture, Dhcpv6Client, Host, Lab, Vm, VmSpec, dhcp_client, dhcp_server, eventually, mesh,
};

const PATIENCE: Duration = Duration::from_secs(60);
const CLIENT1: &str = "10.0.0.101";
const CLIENT2: &str = "10.0.0.102";

/// A VM without an IPv4 address.
fn client(host: &Host, number: u8) -> Result<Vm> {
    let spec = VmSpec {
        addresses: vec![format!("fe80::1:{number:x}/64")],
        ..VmSpec::new(number)
    };
    host.vm(&format!("vm{number}"), &spec)
}

fn neighbor(agent: &Agent, ip: &str) -> Result<Value> {
    agent.row("neighbors", &[("ip", json!(ip))])
}

/// The agent has the binding from DHCP, and the other one by a route.
fn wait_bound(here: &Agent, there: &Agent, ip: &str, mac: &str) -> Result<()> {
    eventually(PATIENCE, || {
        let row = neighbor(here, ip)?;
        ensure!(row["source"] == "dhcp" && row["mac"] == json!(mac), "{row}");
        ensure!(row["lease_s"].as_u64() > Some(3000), "{row}");
        let row = neighbor(there, ip)?;
        ensure!(
            row["origin"] == "remote" && row["mac"] == json!(mac),
            "{row}"
        );
        Ok(())
    })
}

fn wait_gone(agents: &[Agent], ip: &str) -> Result<()> {
    eventually(PATIENCE, || {
        for agent in agents {
            let rows = agent.show("neighbors")?;
            let rows = rows.as_array().context("no table")?;
            ensure!(rows.iter().all(|row| row["ip"] != ip), "{ip} is known");
        }
        Ok(())
    })
}

/// Who has the address, as a VM that asks for it hears; IPv4 only.
fn asks(vm: &Vm, ip: &str, mac: &str) -> Result<()> {
    eventually(PATIENCE, || {
        let answer = vm
            .ns()
            .run(&format!("arping -c 1 -w 2 -I {} {ip}", Vm::NIC))?;
        ensure!(answer.to_lowercase().contains(mac), "{answer}");
        Ok(())
    })
}

/// The server is on one host, the clients are on that and on another. Both agents know each client as
/// soon as it has its lease, and answer for it: the first client never takes its address and never
/// says any ARP. The second one asks for broadcast answers, and gives its address back.
#[test]
fn leases_are_known_everywhere() -> Result<()> {
    let lab = Lab::new("dhcp")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    let server_vm = hosts[0].vm("vm9", &VmSpec::new(9))?;
    let asking = [
        hosts[1].vm("vm3", &VmSpec::new(3))?,
        hosts[0].vm("vm4", &VmSpec::new(4))?,
    ];
    let clients = [client(&hosts[0], 1)?, client(&hosts[1], 2)?];
    let agents = mesh(&hosts, "", |config| config)?;
    let _server = dhcp_server(&lab, &server_vm)?;

    let first_arp = Capture::start(
        &lab,
        clients[0].ns(),
        Vm::NIC,
        "arp and ether src 02:00:00:00:00:01",
    )?;
    let _first = dhcp_client(&lab, &clients[0], false, &[])?;
    wait_bound(&agents[0], &agents[1], CLIENT1, clients[0].mac())?;
    asks(&asking[0], CLIENT1, clients[0].mac())?;
    let said = first_arp.stop()?;
    ensure!(said.is_empty(), "the client has said {} ARPs", said.len());

    let mut second = dhcp_client(&lab, &clients[1], true, &["-B", "-R"])?;
    wait_bound(&agents[1], &agents[0], CLIENT2, clients[1].mac())?;
    asks(&asking[1], CLIENT2, clients[1].mac())?;
    second.terminate()?;
    // The address is still there, and would answer.
    eventually(PATIENCE, || {
        let released = agents[1].metrics()?.value(
            "vtep_dhcp_bindings_total",
            &["bd=\"blue\"", "event=\"released\""],
        )?;
        ensure!(released == 1.0, "{released} released");
        Ok(())
    })?;
    for agent in &agents {
        let metrics = agent.metrics()?;
        let labels = ["bd=\"blue\"", "event=\"bound\""];
        let bound = metrics.value("vtep_dhcp_bindings_total", &labels)?;
        ensure!(bound == 1.0, "{bound} bound");
        let lost = metrics.value("vtep_events_lost_total", &[])?;
        ensure!(lost == 0.0, "{lost} lost");
    }
    Ok(())
}

/// The same with DHCPv6. The client never takes its address, and gives it back at the end.
#[test]
fn dhcpv6_leases_are_known_everywhere() -> Result<()> {
    let lab = Lab::new("dhcp6")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    let server_vm = hosts[0].vm("vm9", &VmSpec::new(9))?;
    let vm = client(&hosts[1], 2)?;
    let agents = mesh(&hosts, "", |config| config)?;
    let _server = dhcp_server(&lab, &server_vm)?;
    let mut client = Dhcpv6Client::start(&lab, &vm, &[])?;
    let mut address = String::new();
    eventually(PATIENCE, || {
        address = client.address()?;
        Ok(())
    })?;
    wait_bound(&agents[1], &agents[0], &address, vm.mac())?;
    client.daemon().terminate()?;
    let _release = Dhcpv6Client::start(&lab, &vm, &["-r"])?;
    wait_gone(&agents, &address)
}
