//! The kernel's own VTEP, with everything in its tables that FRR would put there.

use std::net::Ipv4Addr;

use anyhow::Result;
use vtep_tests::{Host, LinuxBd, Vm, mac_text};

use super::{
    Domains, FAR, FAR6, Flooder, Table, VNI,
    domains::{Domain, without_ipv6},
};

/// A bridge for a VM, and the way to a remote one.
pub(super) fn bridge(host: &Host, vm: &Vm, remote: &Vm, remote_host: &Host) -> Result<LinuxBd> {
    let bd = LinuxBd::create(host, VNI)?;
    plug(host, &bd, vm)?;
    bd.add_mac(remote.mac(), remote_host)?;
    bd.add_flood(remote_host)?;
    fix(host, remote.mac(), &bd.vxlan())?;
    let bridge = bd.bridge();
    host.ns()
        .run(&format!("ip link set {bridge} type bridge ageing_time 0"))?;
    Ok(bd)
}

/// Puts a VM into a bridge that knows it.
pub(super) fn plug(host: &Host, bd: &LinuxBd, vm: &Vm) -> Result<()> {
    bd.plug(vm)?;
    fix(host, vm.mac(), vm.port())
}

fn fix(host: &Host, mac: &str, device: &str) -> Result<()> {
    let line = format!("bridge fdb replace {mac} dev {device} master static");
    host.ns().run(&line).map(drop)
}

/// What `neigh_suppress` answers from.
pub(super) fn tell(host: &Host, bd: &LinuxBd, far: &Vm) -> Result<()> {
    let (mac, bridge) = (far.mac(), bd.bridge());
    let replace = |address: &str| {
        format!("neigh replace {address} lladdr {mac} dev {bridge} nud permanent\n")
    };
    host.ns()
        .ip(&(replace(&FAR.to_string()) + &replace(&FAR6.to_string())))
}

/// A bridge that floods to all of a VM's VTEPs.
pub(super) fn flood(host: &Host, flooder: &Flooder) -> Result<()> {
    let bd = LinuxBd::create(host, flooder.vni)?;
    plug(host, &bd, &flooder.vm)?;
    let append = |vtep: Ipv4Addr| {
        format!(
            "fdb append 00:00:00:00:00:00 dev {} dst {vtep} self\n",
            bd.vxlan()
        )
    };
    host.ns()
        .bridge(&flooder.vteps().map(append).collect::<String>())
}

/// A bridge with all MACs of a table.
pub(super) fn table(host: &Host, table: &Table) -> Result<()> {
    let bd = LinuxBd::create(host, table.vni())?;
    plug(host, &bd, &table.vm)?;
    let vxlan = bd.vxlan();
    let add = |(mac, vtep): ([u8; 6], Ipv4Addr)| {
        let mac = mac_text(mac);
        format!(
            "fdb add {mac} dev {vxlan} dst {vtep} self\nfdb add {mac} dev {vxlan} master static\n"
        )
    };
    host.ns().bridge(&table.macs().map(add).collect::<String>())
}

/// A bridge and a vxlan device for each of the domains.
pub(super) fn domains(host: &Host) -> Result<()> {
    let vnis: Vec<_> = Domains::all().map(Domain::vni).collect();
    without_ipv6(host, || LinuxBd::create_all(host, &vnis))?;
    let (mut links, mut entries) = (String::new(), String::new());
    for domain in Domains::all() {
        let (vni, port, mac) = (domain.vni(), domain.port(), mac_text(domain.mac()));
        links += &format!(
            "link set {port} master br{vni}\nlink set br{vni} type bridge ageing_time 0\n"
        );
        entries += &format!("fdb replace {mac} dev {port} master static\n");
    }
    host.ns().ip(&links)?;
    host.ns().bridge(&entries)
}
