//! DHCP servers and clients in VMs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use crate::{Daemon, Lab, Vm, programs};

/// dnsmasq in a VM that has 10.0.0.9/24 and fd00::9/64 or the like: VM number N gets 10.0.0.(100 + N)
/// and some address of fd00::100 to fd00::1ff, for an hour.
///
/// # Errors
///
/// When dnsmasq is not installed or does not start.
pub fn dhcp_server(lab: &Lab, vm: &Vm) -> Result<Daemon> {
    let mut command = vm.ns().command(programs::find("dnsmasq")?);
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--port=0",
        "--user=root",
        "--log-facility=-",
        "--log-dhcp",
        "--no-ping",
        "--dhcp-authoritative",
        "--leasefile-ro",
        "--pid-file",
        "--dhcp-range=10.0.0.100,10.0.0.150,255.255.255.0,1h",
        "--dhcp-range=fd00::100,fd00::1ff,64,1h",
        &format!("--interface={}", Vm::NIC),
    ]);
    for number in 1..9 {
        command.arg(format!(
            "--dhcp-host=02:00:00:00:00:{number:02x},10.0.0.{}",
            100 + number
        ));
    }
    let mut daemon = Daemon::spawn(lab, "dnsmasq", command)?;
    daemon.wait_for_log("DHCP, IP range", Duration::from_secs(60))?;
    Ok(daemon)
}

/// udhcpc in a VM. `configure`: the VM takes the address that it gets, without which it cannot give it
/// back at its end (option `-R`).
///
/// # Errors
///
/// When udhcpc is not installed.
pub fn dhcp_client(lab: &Lab, vm: &Vm, configure: bool, options: &[&str]) -> Result<Daemon> {
    let text = match configure {
        true => "[ -n \"$ip\" ] && ip addr replace \"$ip/24\" dev \"$interface\"",
        false => "",
    };
    let script = script(lab, vm, text)?;
    let mut command = vm.ns().command(programs::find("udhcpc")?);
    command
        .args(["-f", "-t", "60", "-T", "1", "-i", Vm::NIC, "-s"])
        .arg(script)
        .args(options);
    Daemon::spawn(lab, &format!("udhcpc-{}", vm.name()), command)
}

/// dhclient in a VM, for DHCPv6. The VM never takes the address that it gets.
#[derive(Debug)]
pub struct Dhcpv6Client {
    daemon: Daemon,
    leases: PathBuf,
}

impl Dhcpv6Client {
    /// Starts it. With `-r` it gives back what an earlier one of the VM got.
    ///
    /// # Errors
    ///
    /// When dhclient is not installed.
    pub fn start(lab: &Lab, vm: &Vm, options: &[&str]) -> Result<Self> {
        let file = |kind: &str| {
            lab.directory()
                .join(format!("dhclient-{}.{kind}", vm.name()))
        };
        let leases = file("leases");
        let mut command = vm.ns().command(programs::find("dhclient")?);
        command
            .args(["-6", "-d", "-v", "-cf", "/dev/null", "-sf"])
            .arg(script(lab, vm, "")?)
            .arg("-pf")
            .arg(file("pid"))
            .arg("-lf")
            .arg(&leases)
            .args(options)
            .arg(Vm::NIC);
        let daemon = Daemon::spawn(lab, &format!("dhclient-{}", vm.name()), command)?;
        Ok(Self { daemon, leases })
    }

    /// The address that it has.
    ///
    /// # Errors
    ///
    /// When it has none yet.
    pub fn address(&self) -> Result<String> {
        let text = fs::read_to_string(&self.leases).context("no leases yet")?;
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("iaaddr "));
        let (address, _) = line
            .and_then(|line| line.split_once(' '))
            .context("no lease yet")?;
        Ok(address.to_owned())
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

/// What a client runs when something happens.
fn script(lab: &Lab, vm: &Vm, text: &str) -> Result<PathBuf> {
    let path = lab.directory().join(format!("dhcp-{}", vm.name()));
    fs::write(&path, format!("#!/bin/sh\n{text}\nexit 0\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
