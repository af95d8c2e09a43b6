//! GoBGP as a route reflector.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{Daemon, Host, eventually, programs};

/// A route reflector (RFC 4456) for L2VPN EVPN, which waits for its clients to connect.
#[derive(Debug)]
pub struct RouteReflector {
    host: Host,
    daemon: Daemon,
    file: PathBuf,
    options: GoBgpOptions,
}

/// What a GoBGP has for all its clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoBgpOptions {
    /// TCP MD5 key (RFC 2385).
    pub password: Option<&'static str>,
    /// Graceful restart (RFC 4724) for all families, both roles.
    pub graceful_restart: bool,
    /// Route target constraint (RFC 4684).
    pub rt_constraint: bool,
    /// Most paths to a route that it sends (RFC 7911); 0: the best alone, without an identifier.
    pub paths: u8,
}

impl RouteReflector {
    /// Starts gobgpd on a host, with clients in the same AS.
    ///
    /// # Errors
    ///
    /// When GoBGP is not installed or refuses to start.
    pub fn start(host: &Host, asn: u32, clients: &[Ipv4Addr]) -> Result<Self> {
        Self::start_with(host, asn, clients, GoBgpOptions::default())
    }

    /// Starts gobgpd with more than it has by default.
    ///
    /// # Errors
    ///
    /// When GoBGP is not installed or refuses to start.
    pub fn start_with(
        host: &Host,
        asn: u32,
        clients: &[Ipv4Addr],
        options: GoBgpOptions,
    ) -> Result<Self> {
        let graceful = json!({ "config": { "enabled": options.graceful_restart } });
        let names = match options.rt_constraint {
            true => &["l2vpn-evpn", "rtc"][..],
            false => &["l2vpn-evpn"],
        };
        let families = names.iter().map(|name| {
            json!({
                "config": { "afi-safi-name": name },
                "mp-graceful-restart": graceful,
                "add-paths": { "config": { "send-max": options.paths } },
            })
        });
        let families: Vec<Value> = families.collect();
        let neighbors = clients.iter().map(|client| {
            json!({
                "config": {
                    "neighbor-address": client,
                    "peer-as": asn,
                    "auth-password": options.password.unwrap_or_default(),
                },
                "transport": { "config": { "passive-mode": true } },
                "route-reflector": { "config": {
                    "route-reflector-client": true,
                    "route-reflector-cluster-id": host.address(),
                } },
                "graceful-restart": { "config": {
                    "enabled": options.graceful_restart,
                    "restart-time": 120,
                } },
                "afi-safis": families,
            })
        });
        let config = json!({
            "global": { "config": { "as": asn, "router-id": host.address() } },
            "neighbors": neighbors.collect::<Vec<_>>(),
        });
        let file = host
            .lab()
            .directory()
            .join(format!("gobgpd-{}.json", host.name()));
        fs::write(&file, config.to_string())?;
        let reflector = Self {
            host: host.clone(),
            daemon: spawn(host, &file, &[])?,
            file,
            options,
        };
        reflector.wait_running()?;
        Ok(reflector)
    }

    /// Starts gobgpd again after it was stopped or killed; with graceful restart, it tells its peers
    /// that it did.
    ///
    /// # Errors
    ///
    /// When it refuses to start.
    pub fn restart(&mut self) -> Result<()> {
        let restarting: &[&str] = match self.options.graceful_restart {
            true => &["--graceful-restart"],
            false => &[],
        };
        self.daemon = spawn(&self.host, &self.file, restarting)?;
        self.wait_running()
    }

    fn wait_running(&self) -> Result<()> {
        eventually(Duration::from_secs(10), || self.gobgp("neighbor"))
            .with_context(|| format!("gobgpd did not start: {}", self.daemon.log()))?;
        Ok(())
    }

    /// Runs a `gobgp` command with JSON output.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn gobgp(&self, arguments: &str) -> Result<Value> {
        let text = self.host.ns().run(&format!("gobgp -j {arguments}"))?;
        serde_json::from_str(&text).with_context(|| format!("gobgp {arguments} printed {text}"))
    }

    /// Runs a `gobgp` command that prints nothing that matters.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn command(&self, arguments: &str) -> Result<()> {
        self.host.ns().run(&format!("gobgp {arguments}")).map(drop)
    }

    /// Waits until a number of clients are established.
    ///
    /// # Errors
    ///
    /// When they are not.
    pub fn wait_established(&self, clients: usize) -> Result<()> {
        /// `PeerState.SessionState.ESTABLISHED` of GoBGP's API.
        const ESTABLISHED: u64 = 6;
        eventually(Duration::from_secs(30), || {
            let neighbors = self.gobgp("neighbor")?;
            let states = neighbors.as_array().into_iter().flatten();
            let up = states.filter(|n| n["state"]["session_state"] == ESTABLISHED);
            ensure!(
                up.count() == clients,
                "GoBGP has other than {clients} clients established: {neighbors}"
            );
            Ok(())
        })
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The gobgpd process, to stop or kill it.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

fn spawn(host: &Host, file: &Path, arguments: &[&str]) -> Result<Daemon> {
    let mut command = host.ns().command(programs::find("gobgpd")?);
    command
        .args(arguments)
        .args(["-t", "json", "--api-hosts", "127.0.0.1:50051", "-f"])
        .arg(file);
    Daemon::spawn(host.lab(), &format!("gobgpd-{}", host.name()), command)
}
