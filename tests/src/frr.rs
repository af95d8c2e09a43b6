//! FRR: zebra and bgpd with EVPN over the kernel's VTEP, and bfdd.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Daemon, Host, Memory, eventually, programs};

/// zebra's socket, in the directory of the host's daemons.
const ZEBRA_SOCKET: &str = "zserv";

/// zebra and bgpd on a host.
#[derive(Debug)]
pub struct Frr {
    host: Host,
    directory: PathBuf,
    // Dropped in this order: bgpd and bfdd talk to zebra.
    bgpd: Daemon,
    _bfdd: Option<Daemon>,
    zebra: Daemon,
}

impl Frr {
    /// Starts both daemons, with BGP EVPN sessions to the peers given by address and AS.
    ///
    /// # Errors
    ///
    /// When FRR is not installed or refuses to start.
    pub fn start(host: &Host, asn: u32, peers: &[(Ipv4Addr, u32)]) -> Result<Self> {
        Self::start_with(host, &bgpd_conf(host, asn, peers))
    }

    /// Starts both daemons with a bgpd configuration of your own.
    ///
    /// # Errors
    ///
    /// When FRR is not installed or refuses to start.
    pub fn start_with(host: &Host, bgpd_conf: &str) -> Result<Self> {
        Self::start_daemons(host, bgpd_conf, false)
    }

    /// Starts bfdd too, for neighbors with `bfd`.
    ///
    /// # Errors
    ///
    /// When FRR is not installed or refuses to start.
    pub fn start_with_bfd(host: &Host, bgpd_conf: &str) -> Result<Self> {
        Self::start_daemons(host, bgpd_conf, true)
    }

    fn start_daemons(host: &Host, bgpd_conf: &str, bfd: bool) -> Result<Self> {
        let directory = host.lab().directory().join(format!("frr-{}", host.name()));
        fs::create_dir(&directory)?;
        fs::write(directory.join("zebra.conf"), "")?;
        fs::write(directory.join("bgpd.conf"), bgpd_conf)?;
        fs::write(directory.join("bfdd.conf"), "")?;
        fs::write(directory.join("vtysh.conf"), "")?;
        let (uid, gid) = frr_user()?;
        chown(&directory, Some(uid), Some(gid))?;
        for file in ["zebra.conf", "bgpd.conf", "bfdd.conf", "vtysh.conf"] {
            chown(directory.join(file), Some(uid), Some(gid))?;
        }
        let zebra = zebra(host, &directory)?;
        let bfdd = bfd.then(|| daemon(host, &directory, "bfdd")).transpose()?;
        let bgpd = daemon(host, &directory, "bgpd")?;
        let frr = Self {
            host: host.clone(),
            directory,
            bgpd,
            _bfdd: bfdd,
            zebra,
        };
        eventually(Duration::from_secs(10), || frr.vtysh("show bgp summary"))
            .with_context(|| format!("bgpd did not start: {}", frr.bgpd.log()))?;
        Ok(frr)
    }

    /// Runs commands of FRR's shell, one on each line, and returns what they print.
    ///
    /// # Errors
    ///
    /// When the daemons don't answer.
    pub fn vtysh(&self, commands: &str) -> Result<String> {
        let mut command = Command::new(programs::find("vtysh")?);
        command
            .arg("--vty_socket")
            .arg(&self.directory)
            .arg("--config_dir")
            .arg(&self.directory);
        for line in commands.lines() {
            command.args(["-c", line]);
        }
        programs::run(&mut command)
    }

    /// Runs one `show … json` command.
    ///
    /// # Errors
    ///
    /// When it prints no JSON.
    pub fn show(&self, command: &str) -> Result<Value> {
        let text = self.vtysh(command)?;
        serde_json::from_str(&text).with_context(|| format!("{command} printed {text}"))
    }

    /// What `show evpn mac vni N json` says about a MAC.
    ///
    /// # Errors
    ///
    /// When it is not listed.
    pub fn mac(&self, vni: u32, mac: &str) -> Result<Value> {
        let table = self.show(&format!("show evpn mac vni {vni} json"))?;
        let entry = &table["macs"][mac];
        ensure!(entry.is_object(), "FRR does not know {mac}: {table}");
        Ok(entry.clone())
    }

    /// What `show evpn arp-cache vni N json` says about an address.
    ///
    /// # Errors
    ///
    /// When it is not listed.
    pub fn neighbor(&self, vni: u32, address: &str) -> Result<Value> {
        let table = self.show(&format!("show evpn arp-cache vni {vni} json"))?;
        let entry = &table[address];
        ensure!(entry.is_object(), "FRR does not know {address}: {table}");
        Ok(entry.clone())
    }

    /// Waits until the session with a peer is established.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn wait_established(&self, peer: Ipv4Addr) -> Result<()> {
        eventually(Duration::from_secs(30), || {
            let summary = self.show("show bgp l2vpn evpn summary json")?;
            let state = &summary["peers"][peer.to_string()]["state"];
            ensure!(state == "Established", "FRR has {peer} in state {state}");
            Ok(())
        })
    }

    /// Starts bgpd again after it was stopped or killed.
    ///
    /// # Errors
    ///
    /// When it refuses to start.
    pub fn restart_bgpd(&mut self) -> Result<()> {
        self.bgpd = daemon(&self.host, &self.directory, "bgpd")?;
        eventually(Duration::from_secs(10), || self.vtysh("show bgp summary"))
            .with_context(|| format!("bgpd did not start again: {}", self.bgpd.log()))?;
        Ok(())
    }

    /// Kills both daemons as a crash would, and starts them again; waits for neither.
    ///
    /// # Errors
    ///
    /// When zebra refuses to start.
    pub fn crash(&mut self) -> Result<()> {
        self.bgpd.kill()?;
        self.zebra.kill()?;
        fs::remove_file(self.directory.join(ZEBRA_SOCKET))?;
        self.zebra = zebra(&self.host, &self.directory)?;
        self.bgpd = daemon(&self.host, &self.directory, "bgpd")?;
        Ok(())
    }

    /// The bgpd process, to stop or kill it.
    pub fn bgpd(&mut self) -> &mut Daemon {
        &mut self.bgpd
    }

    /// Fails when zebra or bgpd has ended.
    ///
    /// # Errors
    ///
    /// Says which one, and how.
    pub fn check(&mut self) -> Result<()> {
        self.zebra.check()?;
        self.bgpd.check()
    }

    /// Memory of both daemons.
    ///
    /// # Errors
    ///
    /// When one has ended.
    pub fn memory(&self) -> Result<Memory> {
        let (bgpd, zebra) = (self.bgpd.memory()?, self.zebra.memory()?);
        Ok(Memory {
            resident: bgpd.resident + zebra.resident,
            peak: bgpd.peak + zebra.peak,
        })
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// zebra, with its socket for the others.
fn zebra(host: &Host, directory: &Path) -> Result<Daemon> {
    let zebra = daemon(host, directory, "zebra")?;
    let socket = directory.join(ZEBRA_SOCKET);
    eventually(Duration::from_secs(10), || {
        ensure!(socket.exists(), "zebra did not start: {}", zebra.log());
        Ok(())
    })?;
    Ok(zebra)
}

fn daemon(host: &Host, directory: &Path, program: &str) -> Result<Daemon> {
    let mut command = host.ns().command(programs::find(program)?);
    command
        // FRR insists on a user that is in its own group.
        .args([
            "-u",
            "frr",
            "-g",
            "frr",
            "-A",
            "127.0.0.1",
            "--log",
            "stdout",
            "-f",
        ])
        .arg(directory.join(format!("{program}.conf")))
        .arg("-i")
        .arg(directory.join(format!("{program}.pid")))
        .arg("-z")
        .arg(directory.join(ZEBRA_SOCKET))
        .arg("--vty_socket")
        .arg(directory);
    match program {
        // Its other socket would be shared by all namespaces.
        "bfdd" => {
            command.arg("--bfdctl").arg(directory.join("bfdd.sock"));
        }
        // The netlink buffer that distributions give it.
        "zebra" => {
            command.args(["-s", "90000000"]);
        }
        _ => {}
    }
    Daemon::spawn(host.lab(), &format!("{program}-{}", host.name()), command)
}

fn bgpd_conf(host: &Host, asn: u32, peers: &[(Ipv4Addr, u32)]) -> String {
    let mut conf = format!(
        "router bgp {asn}\n bgp router-id {}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n",
        host.address()
    );
    let mut family = String::new();
    for (address, peer_asn) in peers {
        // Writing into a String cannot fail.
        let _ = writeln!(conf, " neighbor {address} remote-as {peer_asn}");
        let _ = writeln!(conf, " neighbor {address} timers connect 1");
        let _ = writeln!(conf, " neighbor {address} advertisement-interval 0");
        let _ = writeln!(family, "  neighbor {address} activate");
    }
    conf + " address-family l2vpn evpn\n" + &family + "  advertise-all-vni\n exit-address-family\n"
}

/// User and group id of FRR's user.
fn frr_user() -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&"frr"))
        .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
        .context("there is no user `frr`: FRR is not installed; run `cargo xtask setup`")
}
