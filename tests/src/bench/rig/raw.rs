//! No overlay: the uplink itself in the VM's bridge.

use anyhow::Result;
use vtep_tests::{Host, Vm};

const BRIDGE: &str = "br0";

/// A bridge of the uplink and a VM's port that knows both VMs.
pub(super) fn bridge(host: &Host, vm: &Vm, remote: &Vm) -> Result<()> {
    let (uplink, port) = (Host::UPLINK, vm.port());
    host.ns().ip(&format!(
        "link add {BRIDGE} type bridge mcast_snooping 0 ageing_time 0\n\
         link set {BRIDGE} addrgenmode none up\n\
         link set {uplink} master {BRIDGE}\nlink set {port} master {BRIDGE}\n"
    ))?;
    host.ns().bridge(&format!(
        "fdb replace {} dev {uplink} master static\nfdb replace {} dev {port} master static\n",
        remote.mac(),
        vm.mac(),
    ))
}
