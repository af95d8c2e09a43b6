//! ExaBGP, which announces what it is told to.

use std::{
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{Daemon, Host, programs};

/// What Debian's package is for.
const PYTHON: &str = "/usr/bin/python3";

/// An ExaBGP on a host, with one peer and the L2VPN EVPN family. It keeps nothing of what it hears.
#[derive(Debug)]
pub struct ExaBgp {
    host: Host,
    directory: PathBuf,
    daemon: Daemon,
}

impl ExaBgp {
    /// Starts ExaBGP with an internal peer, which it connects to, and more lines for the peer's
    /// section. It asks for 120 seconds to restart in (RFC 4724).
    ///
    /// # Errors
    ///
    /// When ExaBGP is not installed.
    pub fn start(host: &Host, asn: u32, peer: Ipv4Addr, lines: &str) -> Result<Self> {
        Self::start_with(host, asn, peer, lines, "l2vpn evpn;")
    }

    /// Starts ExaBGP with the families of this list instead; `ipv4 rtc` is one, too (RFC 4684).
    ///
    /// # Errors
    ///
    /// When ExaBGP is not installed.
    pub fn start_with(
        host: &Host,
        asn: u32,
        peer: Ipv4Addr,
        lines: &str,
        families: &str,
    ) -> Result<Self> {
        let directory = host
            .lab()
            .directory()
            .join(format!("exabgp-{}", host.name()));
        fs::create_dir(&directory)?;
        let api = directory.join("api");
        // Ends with ExaBGP, which may have been killed.
        let script = format!(
            "#!/bin/sh\ncd {}\nexec 3<&0\ncat <&3 >>events &\n\
             exec tail --pid=$PPID -n +1 -f commands\n",
            directory.display()
        );
        fs::write(&api, script)?;
        fs::set_permissions(&api, fs::Permissions::from_mode(0o755))?;
        let conf = format!(
            // Its events of ROUTE-REFRESH are not asked for: they are not JSON.
            "process lab {{ run {api}; encoder json; }}\n\
             neighbor {peer} {{\n router-id {address};\n local-address {address};\n local-as {asn};\n \
             peer-as {asn};\n hold-time 90;\n {lines}\n family {{ {families} }}\n \
             capability {{ route-refresh enable; graceful-restart 120; }}\n api {{\n  processes [ lab ];\n  \
             neighbor-changes;\n  receive {{ parsed; update; notification; }}\n }}\n}}\n",
            api = api.display(),
            address = host.address(),
        );
        fs::write(directory.join("exabgp.conf"), conf)?;
        fs::write(directory.join("evpn.py"), include_str!("exabgp/evpn.py"))?;
        Ok(Self {
            daemon: spawn(host, &directory)?,
            host: host.clone(),
            directory,
        })
    }

    /// Starts ExaBGP again after it was stopped or killed, with nothing to announce. It says that it
    /// restarted, and that it preserved its forwarding.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon = spawn(&self.host, &self.directory)?;
        Ok(())
    }

    /// Gives it a command of its text API, or one of those that `exabgp/evpn.py` adds to it.
    ///
    /// # Errors
    ///
    /// When it cannot be written down.
    pub fn command(&self, line: &str) -> Result<()> {
        let file = File::options()
            .append(true)
            .open(self.directory.join("commands"));
        writeln!(file?, "{line}").context("no command to ExaBGP")
    }

    /// What it has reported so far: sessions and the messages that it received.
    ///
    /// # Errors
    ///
    /// When it has not started its API, or reported something else than JSON.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.directory.join("events"))
            .with_context(|| format!("no events from ExaBGP: {}", self.daemon.log()))?;
        // The last line may be incomplete.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// The exabgp process, to stop or kill it.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

/// Starts the process, without any commands yet.
fn spawn(host: &Host, directory: &Path) -> Result<Daemon> {
    File::create(directory.join("commands"))?;
    let mut command = host.ns().command(PYTHON);
    command
        .env("exabgp.daemon.user", "root")
        .env("exabgp.log.destination", "stdout")
        .env("exabgp.api.cli", "false")
        .env("exabgp.api.ack", "false")
        .arg(directory.join("evpn.py"))
        .arg(programs::find("exabgp")?)
        .arg(directory.join("exabgp.conf"));
    Daemon::spawn(host.lab(), &format!("exabgp-{}", host.name()), command)
}
