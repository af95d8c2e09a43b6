//! The demo: two hypervisors, a VM on each, BGP EVPN between them, and a ping across.
//!
//! Started by `cargo xtask demo`, which builds the agent first.

mod interrupt;

use std::{env, fs, os::unix::fs::PermissionsExt as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use vtep_tests::{Agent, AgentConfig, Frr, Host, Lab, LinuxBd, Ping, Vm, VmSpec, eventually};

const ASN: u32 = 65000;
const VNI: u32 = 100;

/// Metrics that tell the story of a ping.
const METRICS: [&str; 7] = [
    "vtep_bgp_peer_up",
    "vtep_bgp_routes",
    "vtep_macs",
    "vtep_neighbors",
    "vtep_packets_total",
    "vtep_suppressed_total",
    "vtep_flood_copies_total",
];

#[derive(Default)]
struct Options {
    keep: bool,
    frr: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            interrupt::give_way();
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut options = Options::default();
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--keep" => options.keep = true,
            "--frr" => options.frr = true,
            other => bail!("unknown argument {other}; known are --keep and --frr"),
        }
    }
    let lab = if options.keep {
        Lab::kept("demo")?
    } else {
        Lab::new("demo")?
    };
    lab.hide_logs();
    interrupt::remove_on_interrupt(&lab)?;
    let shown = show(&lab, &options);
    if shown.is_err() {
        interrupt::give_way();
        print_logs(&lab);
    }
    // Dropping the lab would not do: whoever waits for an interrupt holds it too.
    if shown.is_err() || !options.keep {
        lab.remove();
    }
    shown
}

/// The demo itself.
fn show(lab: &Lab, options: &Options) -> Result<()> {
    title("Two hypervisors on an underlay of MTU 1600, a VM on each");
    let underlay = lab.underlay()?;
    let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
    let vm1 = h1.vm("vm1", &VmSpec::new(1))?;
    let vm2 = h2.vm("vm2", &VmSpec::new(2))?;
    let second = if options.frr { "FRR" } else { "vtep-agent" };
    for (host, vm, software) in [(&h1, &vm1, "vtep-agent"), (&h2, &vm2, second)] {
        println!(
            "{} {:<13} {software:<11} {} {} on port {}",
            host.name(),
            host.address(),
            vm.name(),
            vm.mac(),
            vm.port()
        );
    }

    title("The configuration of h1");
    let config = |here: &Host, there: &Host| {
        AgentConfig::new(here, ASN)
            .peer(there.address(), ASN)
            .bd("blue", VNI, &["vnet-*"])
    };
    let configuration = config(&h1, &h2);
    println!("{}", configuration.text().trim_end());
    let agent = Agent::start(&h1, &configuration)?;
    let other = if options.frr {
        LinuxBd::create(&h2, VNI)?.plug(&vm2)?;
        Other::Frr(Frr::start(&h2, ASN, &[(h1.address(), ASN)])?)
    } else {
        Other::Agent(Agent::start(&h2, &config(&h2, &h1))?)
    };
    agent.wait_established()?;

    title("vm1 pings vm2");
    Ping::to("10.0.0.2").until_answered(vm1.ns())?;
    print!("{}", vm1.ns().run("ping -n -c 5 -i 0.2 10.0.0.2")?);
    print!("{}", vm1.ns().run("ping -n -c 3 -i 0.2 fd00::2")?);
    if options.frr {
        title("vm2 pings vm1");
        print!("{}", vm2.ns().run("ping -n -c 5 -i 0.2 10.0.0.1")?);
    }

    for table in ["bgp", "macs", "neighbors", "flood"] {
        title(&format!("h1: vtep-agent show {table}"));
        println!(
            "{}",
            agent.cli(&format!("show {table}"))?.done()?.trim_end()
        );
    }
    if let Other::Frr(frr) = &other {
        title("h2: show evpn mac vni 100, by FRR");
        eventually(Duration::from_secs(10), || frr.mac(VNI, vm1.mac()))?;
        println!("{}", frr.vtysh("show evpn mac vni 100")?.trim_end());
    }
    title("h1: from the metrics endpoint");
    print_metrics(&agent)?;

    if options.keep {
        keep(lab, &agent, &[&h1, &h2], &[&vm1, &vm2])?;
        // Their processes stay.
        return Ok(());
    }
    stop(agent, other)
}

enum Other {
    Agent(Agent),
    Frr(Frr),
}

/// Ends the agents as an operator would, and looks whether anything is left on the hosts.
fn stop(mut agent: Agent, other: Other) -> Result<()> {
    title("Clean stop");
    let mut agents = vec![&mut agent];
    let mut second = match other {
        Other::Agent(agent) => Some(agent),
        Other::Frr(_) => None,
    };
    agents.extend(&mut second);
    for agent in agents {
        let status = agent.stop()?;
        ensure!(
            status.success(),
            "the agent of {} ended with {status}",
            agent.host().name()
        );
        let links = agent.host().ns().run("ip -details link show")?;
        ensure!(!links.contains("prog/xdp"), "a program is left: {links}");
        println!(
            "{}: stopped, no program left on its links",
            agent.host().name()
        );
    }
    Ok(())
}

fn print_metrics(agent: &Agent) -> Result<()> {
    let metrics = agent.metrics()?;
    let told = |line: &&str| METRICS.iter().any(|name| line.starts_with(name));
    for line in metrics.text().lines().filter(told) {
        println!("{line}");
    }
    Ok(())
}

/// Prints how to look around and how to remove everything.
fn keep(lab: &Lab, agent: &Agent, hosts: &[&Host], vms: &[&Vm]) -> Result<()> {
    let script = lab.directory().join("remove");
    fs::write(&script, format!("#!/bin/sh\n{}", lab.removal_script()))
        .context("cannot write the removal script")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    title("It stays. To look around:");
    for vm in vms {
        println!(
            "nsenter --net=/run/netns/{} ping 10.0.0.1   # {}",
            vm.ns().name(),
            vm.name()
        );
    }
    for host in hosts {
        println!(
            "nsenter --net=/run/netns/{} bash   # {}",
            host.ns().name(),
            host.name()
        );
    }
    println!(
        "{} show macs --socket {}",
        vtep_tests::agent_binary()?.display(),
        agent.socket().display()
    );
    println!(
        "ls {}   # logs and configurations",
        lab.directory().display()
    );
    println!("\nTo remove it:\n{}", script.display());
    Ok(())
}

fn print_logs(lab: &Lab) {
    for entry in fs::read_dir(lab.directory())
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log")
            && let Ok(log) = fs::read_to_string(&path)
        {
            eprintln!("--- {} ---\n{log}", path.display());
        }
    }
}

fn title(text: &str) {
    println!("\n== {text}");
}
