//! What the service manager hears of an agent, and of one whose loop stands still.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use vtep_tests::{Agent, AgentConfig, Host, Lab, Metrics, Pair, agent_binary, stays};

/// A loaded machine needs time.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the agent is told in `WATCHDOG_USEC`: it pings twice in that time.
const LIMIT: Duration = Duration::from_secs(2);

/// A service manager's end of the notification socket.
struct Manager(UnixDatagram);

impl Manager {
    fn bind(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        Ok(Self(socket))
    }

    /// The next message, if one comes in time.
    fn next(&self, within: Duration) -> Result<Option<String>> {
        self.0.set_read_timeout(Some(within))?;
        let mut buffer = [0; 4096];
        match self.0.recv(&mut buffer) {
            Ok(length) => {
                let message = buffer.get(..length).unwrap_or_default();
                Ok(Some(String::from_utf8_lossy(message).trim().to_owned()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads until a message has this in it.
    fn wait(&self, text: &str) -> Result<()> {
        let start = Instant::now();
        let mut heard = Vec::new();
        while start.elapsed() < PATIENCE {
            if let Some(message) = self.next(LIMIT)? {
                if message.contains(text) {
                    return Ok(());
                }
                heard.push(message);
            }
        }
        bail!("no {text:?}: {heard:?}")
    }

    /// Reads until nothing has come for longer than the watchdog would wait.
    fn wait_silent(&self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.next(2 * LIMIT)?.is_none() {
                return Ok(());
            }
        }
        bail!("it goes on to ping")
    }
}

/// READY, STATUS, pings and STOPPING; no ping from an agent whose loop waits for something, although
/// its sessions go on.
#[test]
fn a_loop_that_stands_still_does_not_ping() -> Result<()> {
    let lab = Lab::new("watchdog")?;
    let underlay = lab.underlay()?;
    let (host, other) = (underlay.host("h1")?, underlay.host("h2")?);
    let socket = lab.directory().join("notify");
    let manager = Manager::bind(&socket)?;
    let wrapper = lab.directory().join("agent");
    let script = format!(
        "#!/bin/sh\nexport NOTIFY_SOCKET={} WATCHDOG_USEC={}\nexec {} \"$@\"\n",
        socket.display(),
        LIMIT.as_micros(),
        agent_binary()?.display(),
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let config = |here: &Host, there: &Host| {
        AgentConfig::new(here, Pair::ASN)
            .peer_with(there.address(), Pair::ASN, "hold_time = 6")
            .bd("blue", 100, &["vnet-*"])
    };
    let other_config = config(&other, &host);
    let config = config(&host, &other).binary(&wrapper);
    let mut agent = Agent::start(&host, &config)?;
    manager.wait("READY=1")?;
    manager.wait("STATUS=running, not ready: BGP peer 198.18.0.2 is ")?;
    let (status, _) = Metrics::get(host.ns(), "/readyz")?;
    ensure!(status == 503, "{status}");
    for _ in 0..3 {
        manager.wait("WATCHDOG=1")?;
    }
    let peer = Agent::start(&other, &other_config)?;
    peer.wait_established()?;
    manager.wait("STATUS=running, ready")?;
    let (status, reasons) = Metrics::get(host.ns(), "/readyz")?;
    ensure!(status == 200, "{reasons}");

    // The loop reads its configuration, and nobody writes any.
    let text = fs::read_to_string(agent.config())?;
    let pipe = agent.config().to_owned();
    fs::remove_file(&pipe)?;
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    agent.daemon().signal(libc::SIGHUP)?;
    manager.wait_silent()?;
    ensure!(Metrics::get(host.ns(), "/healthz").is_err());
    // Silent for longer than the hold time, if keepalives came from there.
    stays(Duration::from_secs(8), || {
        let bgp = peer.show("bgp")?;
        ensure!(bgp["peers"][0]["state"] == "established", "{bgp}");
        Ok(())
    })?;
    fs::write(&pipe, text)?;
    manager.wait("WATCHDOG=1")?;
    agent.show("bgp")?;
    agent.stop()?;
    manager.wait("STOPPING=1")
}
