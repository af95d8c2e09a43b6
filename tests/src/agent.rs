//! The agent under test: its configuration, its process, its command line.

use std::{
    env,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{Daemon, Host, Memory, Metrics, eventually};

/// The agent to test: `$VTEP_AGENT`, or `vtep-agent` beside the test's own executable.
///
/// # Errors
///
/// When there is none.
pub fn agent_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("VTEP_AGENT") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "VTEP_AGENT: {} is not a file",
            path.display()
        );
        return Ok(path);
    }
    let executable = env::current_exe()?;
    executable
        .ancestors()
        .skip(1)
        .map(|directory| directory.join("vtep-agent"))
        .find(|candidate| candidate.is_file())
        .context("no vtep-agent beside the tests: run `cargo build -p vtep-agent` first")
}

/// The agent with another version of the tables: `$VTEP_NEXT_AGENT`, or `vtep-agent-next` beside
/// [`agent_binary`].
///
/// # Errors
///
/// When there is none.
pub fn next_agent_binary() -> Result<PathBuf> {
    let path = match env::var_os("VTEP_NEXT_AGENT") {
        Some(path) => PathBuf::from(path),
        None => agent_binary()?.with_file_name("vtep-agent-next"),
    };
    ensure!(
        path.is_file(),
        "no {}: run `cargo build -p vtep-agent --features next-abi --bin vtep-agent-next` first",
        path.display()
    );
    Ok(path)
}

/// A configuration file in the making.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    directory: PathBuf,
    binary: Option<PathBuf>,
    recorded: bool,
    vtep: String,
    bgp: String,
    peers: String,
    bds: String,
}

impl AgentConfig {
    /// No peers and no bridge domains yet; paths of the host's own, so that agents of several
    /// hosts run on one machine.
    pub fn new(host: &Host, asn: u32) -> Self {
        let directory = host
            .lab()
            .directory()
            .join(format!("agent-{}", host.name()));
        let path = |name: &str| directory.join(name).display().to_string();
        let pins = host.lab().bpffs().join(host.name());
        let vtep = format!(
            "[vtep]\naddress = \"{}\"\npin_dir = \"{}\"\nstate_dir = \"{}\"\nsocket = \"{}\"\n\
             metrics = \"{}\"\n",
            host.address(),
            pins.display(),
            path("state"),
            path("agent.sock"),
            Metrics::ADDRESS,
        );
        Self {
            directory,
            binary: None,
            recorded: false,
            vtep,
            bgp: format!("[bgp]\nasn = {asn}\n"),
            peers: String::new(),
            bds: String::new(),
        }
        .vtep(&format!("uplinks = [\"{}\"]", Host::UPLINK))
    }

    /// Adds a line to `[vtep]`; it replaces an earlier one for the same key.
    #[must_use]
    pub fn vtep(mut self, line: &str) -> Self {
        set(&mut self.vtep, line);
        self
    }

    /// Adds a line to `[bgp]`; it replaces an earlier one for the same key.
    #[must_use]
    pub fn bgp(mut self, line: &str) -> Self {
        set(&mut self.bgp, line);
        self
    }

    /// Adds a peer.
    #[must_use]
    pub fn peer(self, address: Ipv4Addr, asn: u32) -> Self {
        self.peer_with(address, asn, "")
    }

    /// Adds a peer with more lines in its table.
    #[must_use]
    pub fn peer_with(mut self, address: Ipv4Addr, asn: u32, lines: &str) -> Self {
        // Writing into a String cannot fail.
        let _ = writeln!(
            self.peers,
            "[[bgp.peer]]\naddress = \"{address}\"\nasn = {asn}\n{lines}"
        );
        self
    }

    /// Adds a peer that is known by an interface, with more lines in its table.
    #[must_use]
    pub fn unnumbered(self, interface: &str, lines: &str) -> Self {
        self.tables(&format!(
            "[[bgp.peer]]\ninterface = \"{interface}\"\nasn = \"external\"\n{lines}"
        ))
    }

    /// Adds whole tables below `[bgp]`.
    #[must_use]
    pub fn tables(mut self, text: &str) -> Self {
        let _ = writeln!(self.peers, "{text}");
        self
    }

    /// Adds a bridge domain with untagged ports.
    #[must_use]
    pub fn bd(self, name: &str, vni: u32, ports: &[&str]) -> Self {
        self.bd_with(name, vni, &format!("ports = {ports:?}"))
    }

    /// Adds a bridge domain with any lines in its table.
    #[must_use]
    pub fn bd_with(mut self, name: &str, vni: u32, lines: &str) -> Self {
        let _ = writeln!(self.bds, "[[bd]]\nname = \"{name}\"\nvni = {vni}\n{lines}");
        self
    }

    /// Runs another binary than [`agent_binary`].
    #[must_use]
    pub fn binary(self, path: &Path) -> Self {
        Self {
            binary: Some(path.to_owned()),
            ..self
        }
    }

    /// Records what the agent decides on, see [`AgentConfig::recording`].
    #[must_use]
    pub fn recorded(self) -> Self {
        Self {
            recorded: true,
            ..self
        }
    }

    /// Where to.
    pub fn recording(&self) -> PathBuf {
        self.directory.join("recording")
    }

    /// The file.
    pub fn text(&self) -> String {
        [&self.vtep, &self.bgp, &self.peers, &self.bds]
            .map(String::as_str)
            .join("\n")
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }
}

/// Replaces the line with the same key in a table, or adds it.
fn set(table: &mut String, line: &str) {
    let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
    let kept = table.lines().filter(|other| key(other) != key(line));
    *table = kept.chain([line]).map(|line| format!("{line}\n")).collect();
}

/// What a command of the agent's binary did.
#[derive(Clone, Debug)]
pub struct CliOutput {
    /// Its exit status: 0 done, 1 failed, 2 usage.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl CliOutput {
    /// Runs a command to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Result<Self> {
        let output = command.output().context("cannot run vtep-agent")?;
        Ok(Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Standard output of a command that succeeded.
    ///
    /// # Errors
    ///
    /// When it did not.
    pub fn done(self) -> Result<String> {
        ensure!(self.status == Some(0), "{self:?}");
        Ok(self.stdout)
    }

    /// The message of a command that failed with a status, as the contract wants it: one line.
    ///
    /// # Errors
    ///
    /// When it did otherwise.
    pub fn failed(self, status: i32) -> Result<String> {
        ensure!(self.status == Some(status), "not status {status}: {self:?}");
        let message = self.stderr.trim_end();
        ensure!(
            !message.is_empty() && message.lines().count() == 1,
            "not one line on standard error: {self:?}"
        );
        Ok(message.to_owned())
    }
}

/// An agent that runs on a host.
#[derive(Debug)]
pub struct Agent {
    host: Host,
    daemon: Daemon,
    binary: PathBuf,
    config: PathBuf,
    socket: PathBuf,
}

impl Agent {
    /// Starts the agent and waits until its control socket answers.
    ///
    /// # Errors
    ///
    /// When it doesn't.
    pub fn start(host: &Host, config: &AgentConfig) -> Result<Self> {
        let mut agent = Self::spawn(host, config)?;
        eventually(Duration::from_secs(20), || {
            // An agent that has ended will never answer: report that at once.
            if agent.daemon.exit_status()?.is_some() {
                return Ok(());
            }
            agent.show("bgp").map(drop)
        })
        .with_context(|| format!("the agent does not answer:\n{}", agent.daemon.log()))?;
        agent.daemon.check()?;
        Ok(agent)
    }

    /// Starts the agent and waits for nothing.
    ///
    /// # Errors
    ///
    /// When the binary cannot be run.
    pub fn spawn(host: &Host, config: &AgentConfig) -> Result<Self> {
        fs::create_dir_all(&config.directory)?;
        let file = config.directory.join("vtep.toml");
        fs::write(&file, config.text())?;
        let binary = config.binary.clone().map_or_else(agent_binary, Ok)?;
        let mut command = host.ns().command(&binary);
        command.args(["run", "--config"]).arg(&file);
        if config.recorded {
            command.arg("--record").arg(config.recording());
        }
        let daemon = Daemon::spawn(host.lab(), &format!("agent-{}", host.name()), command)?;
        Ok(Self {
            host: host.clone(),
            daemon,
            binary,
            config: file,
            socket: config.socket(),
        })
    }

    /// Runs a command of the CLI against this agent.
    ///
    /// # Errors
    ///
    /// When the binary cannot be run; a command that fails is a result.
    pub fn cli(&self, line: &str) -> Result<CliOutput> {
        let mut command = self.host.ns().command(&self.binary);
        command.args(line.split_whitespace());
        CliOutput::of(command.arg("--socket").arg(&self.socket))
    }

    /// Runs a `show` command and reads its JSON.
    ///
    /// # Errors
    ///
    /// When it fails or prints something else.
    pub fn show(&self, what: &str) -> Result<Value> {
        let text = self.cli(&format!("show {what} --json"))?.done()?;
        serde_json::from_str(&text).with_context(|| format!("show {what} printed {text}"))
    }

    /// The first row of a `show` table in which all fields have the given values.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn row(&self, what: &str, fields: &[(&str, Value)]) -> Result<Value> {
        let table = self.show(what)?;
        let rows = table
            .as_array()
            .with_context(|| format!("show {what} is no list"))?;
        rows.iter()
            .find(|row| fields.iter().all(|(key, value)| row[key] == *value))
            .cloned()
            .with_context(|| format!("show {what} has no row with {fields:?}: {table}"))
    }

    /// Waits for such a row.
    ///
    /// # Errors
    ///
    /// When it does not come.
    pub fn wait_row(&self, what: &str, fields: &[(&str, Value)]) -> Result<Value> {
        eventually(Duration::from_secs(15), || self.row(what, fields))
    }

    /// Waits until all peers are established.
    ///
    /// # Errors
    ///
    /// When one is not.
    pub fn wait_established(&self) -> Result<()> {
        eventually(Duration::from_secs(30), || {
            let bgp = self.show("bgp")?;
            let peers = bgp["peers"].as_array().context("show bgp has no peers")?;
            if peers.iter().any(|peer| peer["state"] != "established") {
                bail!("not all established: {bgp}");
            }
            Ok(())
        })
    }

    /// What the metrics endpoint says.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::scrape(self.host.ns())
    }

    /// Replaces the configuration file and runs `reload`.
    ///
    /// # Errors
    ///
    /// When the binary cannot be run; a reload that is refused is a result.
    pub fn reload(&self, config: &AgentConfig) -> Result<CliOutput> {
        fs::write(&self.config, config.text())?;
        self.cli("reload")
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.daemon.terminate()
    }

    /// Its process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Memory of its process.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn memory(&self) -> Result<Memory> {
        self.daemon.memory()
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }
}
