//! Uplinks that take devices which not every machine has: bonds, VLANs, virtio NICs. `cargo xtask vm`
//! runs these tests on a kernel that has them all, in a guest with two NICs on one wire.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{Agent, Capture, Host, Lab, Pair, Ping, Underlay, VmSpec, Vxlan, eventually};

/// The device of a host that replaces its usual uplink.
const BOND: &str = "bond0";

/// Two hosts with a bond of two links each. With LACP the switch has bonds, too.
struct Bonded {
    pair: Pair,
    underlay: Underlay,
    lab: Lab,
}

impl Bonded {
    fn start(name: &str, bond: &str, switch_bonds: bool, xdp: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let hosts = [underlay.host("h1")?, underlay.host("h2")?];
        for host in &hosts {
            bond_up(&underlay, host, bond, switch_bonds)?;
        }
        let vms = [
            hosts[0].vm("vm1", &VmSpec::new(1))?,
            hosts[1].vm("vm2", &VmSpec::new(2))?,
        ];
        let xdp = format!("xdp = {xdp:?}");
        let pair = Pair::join(&lab, hosts, vms, |config| {
            config.vtep(&format!("uplinks = [{BOND:?}]")).vtep(&xdp)
        })?;
        Ok(Self {
            pair,
            underlay,
            lab,
        })
    }

    fn expect_mode(&self, mode: &str) -> Result<()> {
        for agent in [&self.pair.a1, &self.pair.a2] {
            agent.row("uplinks", &[("name", json!(BOND)), ("xdp", json!(mode))])?;
        }
        Ok(())
    }

    /// Takes one of the first host's links from it, and then the other instead.
    fn lose_either_link(&self) -> Result<()> {
        let vm1 = self.pair.vm1.ns();
        for (down, up) in [("to-h1", "also-h1"), ("also-h1", "to-h1")] {
            self.underlay
                .ns()
                .ip(&format!("link set {up} up\nlink set {down} down\n"))?;
            eventually(Duration::from_secs(15), || {
                Ping::to("10.0.0.2").count(5).all_answered(vm1)
            })
            .with_context(|| format!("without {down}"))?;
            let through = Capture::start(&self.lab, self.underlay.ns(), up, "udp port 4789")?;
            Ping::to("10.0.0.2").count(5).all_answered(vm1)?;
            let frames = through.stop()?;
            let tunnelled = frames.iter().filter_map(Vxlan::parse).count();
            ensure!(tunnelled >= 10, "{tunnelled} frames on {up}");
        }
        Ok(())
    }
}

/// Gives a host a second link, and makes a bond of both its uplink.
fn bond_up(underlay: &Underlay, host: &Host, bond: &str, switch_bonds: bool) -> Result<()> {
    let name = host.name();
    let ports = [format!("to-{name}"), format!("also-{name}")];
    underlay.link(host, "eth1", &ports[1])?;
    host.ns().ip(&format!(
        "link add {BOND} mtu 1600 type bond {bond}\n\
         addr flush dev eth0\n\
         link set eth0 down\n\
         link set eth1 down\n\
         link set eth0 master {BOND}\n\
         link set eth1 master {BOND}\n\
         link set {BOND} up\n\
         addr add {}/24 dev {BOND}\n",
        host.address()
    ))?;
    if switch_bonds {
        let bridge = Underlay::BRIDGE;
        let mut batch = format!("link add bond-{name} mtu 1600 type bond {bond}\n");
        for port in &ports {
            batch += &format!(
                "link set {port} nomaster\nlink set {port} down\nlink set {port} master bond-{name}\n"
            );
        }
        batch += &format!("link set bond-{name} master {bridge} up\n");
        underlay.ns().ip(&batch)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs bonding: cargo xtask vm"]
fn active_backup_bond() -> Result<()> {
    let bonded = Bonded::start("backup", "mode active-backup miimon 50", false, "auto")?;
    bonded.expect_mode("native")?;
    bonded.pair.pings()?;
    bonded.lose_either_link()
}

#[test]
#[ignore = "needs bonding: cargo xtask vm"]
fn active_backup_bond_without_xdp() -> Result<()> {
    let bonded = Bonded::start("backup", "mode active-backup miimon 50", false, "off")?;
    bonded.expect_mode("off")?;
    bonded.lose_either_link()
}

#[test]
#[ignore = "needs bonding: cargo xtask vm"]
fn lacp_bond() -> Result<()> {
    let lacp = "mode 802.3ad lacp_rate fast miimon 50 xmit_hash_policy layer3+4";
    let bonded = Bonded::start("lacp", lacp, true, "auto")?;
    bonded.expect_mode("native")?;
    bonded.pair.traffic()?;
    bonded.lose_either_link()
}

/// Moves a host's VTEP address to a VLAN of a device, which stays the uplink.
fn tag_underlay(host: &Host, device: &str, vlan: u16) -> Result<()> {
    host.ns().ip(&format!(
        "link add link {device} name {device}.{vlan} type vlan id {vlan}\n\
         addr flush dev {device}\n\
         link set {device}.{vlan} up\n\
         addr add {}/24 dev {device}.{vlan}\n",
        host.address()
    ))
}

/// The VLAN of a frame; `None` when it is not tagged.
fn vlan(frame: &[u8]) -> Option<u16> {
    let tag = frame.get(12..16)?;
    (tag[..2] == [0x81, 0x00]).then(|| u16::from_be_bytes([tag[2], tag[3]]) & 0xfff)
}

fn tagged_underlay(xdp: &str, mode: &str) -> Result<()> {
    let lab = Lab::new("tagged")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    for host in &hosts {
        tag_underlay(host, Host::UPLINK, 100)?;
    }
    let vms = [
        hosts[0].vm("vm1", &VmSpec::new(1))?,
        hosts[1].vm("vm2", &VmSpec::new(2))?,
    ];
    let xdp = format!("xdp = {xdp:?}");
    let pair = Pair::join(&lab, hosts, vms, |config| config.vtep(&xdp))?;
    for agent in [&pair.a1, &pair.a2] {
        agent.row(
            "uplinks",
            &[("name", json!(Host::UPLINK)), ("xdp", json!(mode))],
        )?;
    }
    pair.pings()?;
    let capture = Capture::start(&lab, underlay.ns(), "to-h1", "vlan 100 and udp port 4789")?;
    Ping::to("10.0.0.2").count(5).all_answered(pair.vm1.ns())?;
    let frames = capture.stop()?;
    ensure!(frames.len() >= 10, "{} tagged frames", frames.len());
    for frame in frames {
        ensure!(vlan(&frame.bytes) == Some(100), "{frame:02x?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs 8021q: cargo xtask vm"]
fn tagged_underlay_with_xdp() -> Result<()> {
    tagged_underlay("auto", "native")
}

#[test]
#[ignore = "needs 8021q: cargo xtask vm"]
fn tagged_underlay_without_xdp() -> Result<()> {
    tagged_underlay("off", "off")
}

/// A VLAN device of its own as the uplink: XDP cannot run there, TC does.
#[test]
#[ignore = "needs 8021q: cargo xtask vm"]
fn vlan_device_as_uplink() -> Result<()> {
    let lab = Lab::new("vlandev")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    for host in &hosts {
        tag_underlay(host, Host::UPLINK, 100)?;
    }
    let vms = [
        hosts[0].vm("vm1", &VmSpec::new(1))?,
        hosts[1].vm("vm2", &VmSpec::new(2))?,
    ];
    let pair = Pair::join(&lab, hosts, vms, |config| {
        config.vtep("uplinks = [\"eth0.100\"]")
    })?;
    pair.a1.row(
        "uplinks",
        &[("name", json!("eth0.100")), ("xdp", json!("off"))],
    )?;
    pair.pings()
}

/// The guest's NICs on one wire, each the uplink of a host.
#[test]
#[ignore = "needs two virtio NICs on one wire: cargo xtask vm"]
fn virtio_uplinks() -> Result<()> {
    let lab = Lab::new("virtio")?;
    let underlay = lab.underlay()?;
    let hosts = [underlay.host("h1")?, underlay.host("h2")?];
    for (nic, host) in ["eth0", "eth1"].iter().zip(&hosts) {
        let moved = std::process::Command::new("ip")
            .args([
                "link",
                "set",
                nic,
                "netns",
                host.ns().name(),
                "name",
                "wire0",
            ])
            .status()?;
        ensure!(moved.success(), "the guest has no NIC {nic}");
        host.ns().ip(&format!(
            "addr flush dev eth0\n\
             link set wire0 mtu 1600 up\n\
             addr add {}/24 dev wire0\n",
            host.address()
        ))?;
    }
    let vms = [
        hosts[0].vm("vm1", &VmSpec::new(1))?,
        hosts[1].vm("vm2", &VmSpec::new(2))?,
    ];
    let pair = Pair::join(&lab, hosts, vms, |config| {
        config.vtep("uplinks = [\"wire0\"]")
    })?;
    let agents: [&Agent; 2] = [&pair.a1, &pair.a2];
    for agent in agents {
        agent.row(
            "uplinks",
            &[("name", json!("wire0")), ("xdp", json!("native"))],
        )?;
    }
    pair.traffic()
}
