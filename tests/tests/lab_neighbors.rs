//! Proxy ARP and ND between hosts, with the stacks of real VMs (RFC 9161).

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{Agent, Capture, Lab, Ping, Vm, VmSpec, eventually, mesh};

const PATIENCE: Duration = Duration::from_secs(60);
const SHARED: &str = "10.0.0.9";

fn neighbor(agent: &Agent, ip: &str) -> Result<Value> {
    agent.row("neighbors", &[("ip", json!(ip))])
}

/// PX-017: two VMs on two hosts with one address, each of which answers when it is asked whether it has it.
/// Both agents find out within moments, go on asking the owners instead of answering for them, and
/// believe the one that is left.
#[test]
fn px_017_one_address_on_two_hosts() -> Result<()> {
    let lab = Lab::new("dupip")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    let vm1 = hosts[0].vm("vm1", &VmSpec::new(1))?;
    let shared = |number| VmSpec {
        addresses: vec![format!("{SHARED}/24")],
        ..VmSpec::new(number)
    };
    let twins = [
        hosts[0].vm("vm5", &shared(5))?,
        hosts[1].vm("vm6", &shared(6))?,
    ];
    let agents = mesh(&hosts, "", |config| config)?;
    // Who wants to know another's address says its own. Answers may go to the other twin.
    for twin in &twins {
        Ping::to("10.0.0.1").count(2).run(twin.ns())?;
    }
    eventually(PATIENCE, || {
        for agent in &agents {
            let row = neighbor(agent, SHARED)?;
            ensure!(row["duplicate"] == true, "{row}");
            ensure!(row["duplicate_action"] == "block", "{row}");
        }
        Ok(())
    })?;
    for agent in &agents {
        let count = agent
            .metrics()?
            .value("vtep_duplicate_ips", &["bd=\"blue\""])?;
        ensure!(count == 1.0, "{count} duplicates");
    }
    // Questions reach both owners.
    let asked = Capture::start(&lab, twins[1].ns(), Vm::NIC, "arp[6:2] = 1")?;
    vm1.ns().ip("neigh flush all\n")?;
    Ping::to(SHARED).until_answered(vm1.ns())?;
    let asked = asked.stop()?;
    ensure!(!asked.is_empty(), "the other owner was not asked");

    twins[1].unplug()?;
    for agent in &agents {
        agent.cli("clear duplicates")?.done()?;
    }
    eventually(PATIENCE, || {
        twins[0].ns().ip("neigh flush all\n")?;
        Ping::to("10.0.0.1").count(1).run(twins[0].ns())?;
        for agent in &agents {
            let row = neighbor(agent, SHARED)?;
            let mac = row["mac"] == json!(twins[0].mac());
            ensure!(mac && row["duplicate"] == false, "{row}");
        }
        Ok(())
    })?;
    Ping::to(SHARED).until_answered(vm1.ns())
}

/// PX-015: a VM hears of an address on another host before it has asked: what is in its cache from an
/// earlier owner is replaced.
#[test]
fn px_015_caches_follow_an_address() -> Result<()> {
    let lab = Lab::new("told")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    let vm1 = hosts[0].vm("vm1", &VmSpec::new(1))?;
    let vm2 = hosts[1].vm("vm2", &VmSpec::new(2))?;
    // What VM 2 asks for does not get to VM 1.
    let agents = mesh(&hosts, "unknown_neighbors = \"drop\"", |config| config)?;
    vm1.ns().ip(&format!(
        "neigh replace {SHARED} lladdr 02:00:00:00:00:55 dev {} nud reachable\n",
        Vm::NIC
    ))?;
    vm2.ns()
        .ip(&format!("addr add {SHARED}/24 dev {}\n", Vm::NIC))?;
    let asks = format!("ping -c 1 -W 1 -I {SHARED} 10.0.0.78");
    ensure!(vm2.ns().run(&asks).is_err(), "10.0.0.78 answers");
    eventually(PATIENCE, || {
        let row = neighbor(&agents[0], SHARED)?;
        ensure!(row["mac"] == json!(vm2.mac()), "{row}");
        let cache = vm1.ns().run(&format!("ip neigh show {SHARED}"))?;
        ensure!(cache.contains(vm2.mac()), "{cache}");
        Ok(())
    })
}
