//! What the agent says of itself.

use super::{AgentFacts, Finding, sessions};

/// Maps that are fuller than this, in percent, are worth a warning.
const FULL_PERCENT: u64 = 80;

/// Drops that an operator can do something about: reason, severity by whether tenants lose traffic
/// that they should not, and the remedy.
const DROPS: &[(&str, &str)] = &[
    (
        "unknown_vni",
        "another VTEP sends for a VNI that no bridge domain here has: add it, or remove this VTEP \
         from its flood list",
    ),
    (
        "unknown_vtep",
        "a sender is no next hop of any imported route: compare route targets, or set \
         `source_check`",
    ),
    (
        "too_big_silent",
        "VMs send IPv4 packets that may not fit the underlay: raise its MTU, or lower theirs",
    ),
    (
        "mac_limit",
        "raise `max_macs_per_port`, or look for a VM that makes up addresses",
    ),
    (
        "bum_rate",
        "a VM broadcasts more than its port may: look for a storm or a loop",
    ),
    (
        "source_spoofed",
        "a VM uses a MAC that is declared on another port, or sticky elsewhere",
    ),
    (
        "port_vlan",
        "frames with a VLAN tag (or without) that the port is in no bridge domain with",
    ),
];

pub(super) fn examine(agent: &AgentFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    sessions::examine(agent, &mut findings);
    devices(agent, &mut findings);
    tables(agent, &mut findings);
    for (reason, remedy) in DROPS {
        match agent.counters.drops.get(*reason) {
            None | Some(0) => {}
            Some(count) => findings.push(Finding::note(
                "drops",
                Some(reason),
                format!("{count} frames were dropped for this reason"),
                *remedy,
            )),
        }
    }
    findings
}

fn devices(agent: &AgentFacts, findings: &mut Vec<Finding>) {
    if agent.uplinks.is_empty() {
        findings.push(Finding::error(
            "uplink",
            None,
            "there is no uplink: no frame reaches another VTEP",
            "name one in `uplinks`, or `vtep-agent attach NIC`",
        ));
    }
    for uplink in &agent.uplinks {
        if let Some(problem) = state(&uplink.state) {
            findings.push(Finding::error(
                "uplink",
                Some(&uplink.name),
                problem,
                "create it, or bring it up: ip link set … up; if it is up, the agent's log says why \
                 it is not attached",
            ));
        }
    }
    for port in &agent.ports {
        if let Some(problem) = state(&port.state) {
            findings.push(Finding::warning(
                "port",
                Some(&port.name),
                problem,
                "start the VM, or remove the port from the bridge domain",
            ));
        }
    }
    for vtep in agent.vteps.iter().filter(|vtep| !vtep.reachable) {
        findings.push(Finding::error(
            "vtep",
            Some(&vtep.address.to_string()),
            format!("no path to it: {} MACs are out of reach", vtep.macs),
            "ip route get ADDRESS: is there a route, and does its next hop answer?",
        ));
    }
}

fn state(state: &str) -> Option<&'static str> {
    match state {
        "up" => None,
        "waiting" => Some("the device does not exist"),
        _ => Some("the device is down, or refuses the programs"),
    }
}

fn tables(agent: &AgentFacts, findings: &mut Vec<Finding>) {
    for (map, pending) in &agent.counters.unwritten {
        findings.push(Finding::error(
            "map",
            Some(map),
            format!("{pending} entries are not written"),
            "raise `max_macs` if it is full (the log says so), and restart the agent",
        ));
    }
    for (map, count) in &agent.counters.audit_differences {
        findings.push(Finding::warning(
            "audit",
            Some(map),
            format!("{count} entries were not as the agent wrote them, and were written again"),
            "find out what else writes to the maps below `pin_dir`: nothing but the agent should",
        ));
    }
    for (map, fill) in &agent.counters.maps {
        let percent = fill.entries * 100 / fill.capacity.max(1);
        // One that holds a single value is always full.
        let grows = fill.capacity > 1;
        if grows && percent >= FULL_PERCENT && !agent.counters.unwritten.contains_key(map) {
            findings.push(Finding::warning(
                "map",
                Some(map),
                format!("{} of {} entries are used", fill.entries, fill.capacity),
                "raise `max_macs` before it is full",
            ));
        }
    }
}
