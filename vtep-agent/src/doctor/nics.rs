//! Devices: XDP, offloads, MTU.

use super::{Facts, Finding};
use crate::kernel::Nic;

/// Outer Ethernet is not in an MTU, inner Ethernet is: 14 + 8 + 8 + 20.
const VXLAN_OVERHEAD: u32 = 50;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let uplinks: Vec<(&str, &Nic, Option<&str>)> = match &facts.agent {
        Ok(agent) => {
            let nic = |name: &String| facts.nics.get(name)?.as_ref();
            let uplinks = agent.uplinks.iter();
            uplinks
                .filter_map(|uplink| Some((&*uplink.name, nic(&uplink.name)?, Some(&*uplink.xdp))))
                .collect()
        }
        Err(_) => {
            for name in facts.nics.iter().filter(|(_, nic)| nic.is_none()) {
                findings.push(missing(name.0));
            }
            let there = facts.nics.iter();
            there
                .filter_map(|(name, nic)| Some((&**name, nic.as_ref()?, None)))
                .collect()
        }
    };
    for &(name, nic, xdp) in &uplinks {
        uplink(name, nic, xdp, &mut findings);
    }
    let room = uplinks.iter().map(|(_, nic, _)| nic.mtu).min();
    if let (Ok(agent), Some(room)) = (&facts.agent, room) {
        for port in &agent.ports {
            if let Some(Some(nic)) = facts.nics.get(&port.name) {
                mtu(&port.name, nic, room, &mut findings);
            }
        }
    }
    findings
}

fn missing(name: &str) -> Finding {
    Finding::warning(
        "uplink",
        Some(name),
        "there is no such device",
        "correct `uplinks`, or create the device; the agent waits for it",
    )
}

fn uplink(name: &str, nic: &Nic, xdp: Option<&str>, findings: &mut Vec<Finding>) {
    let on = |offload: &str| nic.offloads.as_ref().map(|on| on.contains(offload));
    if xdp == Some("off") || xdp.is_none() && nic.native_xdp == Some(false) {
        let (problem, remedy) = match nic.native_xdp {
            Some(false) => (
                "its driver has no native XDP: frames are decapsulated in TC",
                "nothing, or a NIC whose driver has it, for the highest packet rates",
            ),
            _ => (
                "no XDP program is attached: frames are decapsulated in TC",
                "if that is not meant (`xdp`), the agent's log says why at the attachment",
            ),
        };
        findings.push(Finding::note("xdp", Some(name), problem, remedy));
    }
    if on("rx-lro") == Some(true) {
        findings.push(Finding::warning(
            "lro",
            Some(name),
            "LRO is on, which native XDP does not allow and which merges packets for good",
            format!("ethtool -K {name} lro off"),
        ));
    }
    if on("rx-gro") == Some(false) {
        findings.push(Finding::warning(
            "gro",
            Some(name),
            "GRO is off: bulk TCP to VMs is several times slower",
            format!("ethtool -K {name} gro on"),
        ));
    }
    if on("rx-vlan-hw-parse") == Some(true) && xdp == Some("native") {
        findings.push(Finding::note(
            "vlan_strip",
            Some(name),
            "the NIC takes VLAN tags off before XDP sees them: on a tagged underlay all frames \
             take the slower way",
            format!("on a tagged underlay: ethtool -K {name} rxvlan off"),
        ));
    }
}

fn mtu(port: &str, nic: &Nic, room: u32, findings: &mut Vec<Finding>) {
    let needed = nic.mtu + VXLAN_OVERHEAD;
    if needed > room {
        findings.push(Finding::warning(
            "mtu",
            Some(port),
            format!(
                "its MTU is {}, which takes {needed} bytes on an uplink that has {room}: larger \
                 packets are answered with ICMP or lost",
                nic.mtu
            ),
            format!(
                "raise the MTU of the uplinks and of the underlay between all VTEPs to {needed}, or \
                 lower that of the VM to {}",
                room.saturating_sub(VXLAN_OVERHEAD)
            ),
        ));
    }
}
