//! BIRD 2.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{Daemon, Host, eventually, programs};

/// A BIRD on a host.
#[derive(Debug)]
pub struct Bird {
    host: Host,
    file: PathBuf,
    socket: PathBuf,
    daemon: Daemon,
}

impl Bird {
    /// Starts BIRD with a configuration. Router id and `protocol device` are there already.
    ///
    /// # Errors
    ///
    /// When BIRD is not installed, or refuses the configuration.
    pub fn start(host: &Host, protocols: &str) -> Result<Self> {
        let directory = host.lab().directory().join(format!("bird-{}", host.name()));
        fs::create_dir(&directory)?;
        let file = directory.join("bird.conf");
        fs::write(&file, conf(host, protocols))?;
        let socket = directory.join("bird.ctl");
        let bird = Self {
            host: host.clone(),
            daemon: spawn(host, &file, &socket, &[])?,
            file,
            socket,
        };
        bird.wait_running()?;
        Ok(bird)
    }

    /// Starts BIRD again after it was killed, with other protocols, as one that restarts gracefully
    /// (RFC 4724).
    ///
    /// # Errors
    ///
    /// When it refuses the configuration.
    pub fn restart(&mut self, protocols: &str) -> Result<()> {
        fs::write(&self.file, conf(&self.host, protocols))?;
        self.daemon = spawn(&self.host, &self.file, &self.socket, &["-R"])?;
        self.wait_running()
    }

    fn wait_running(&self) -> Result<()> {
        eventually(Duration::from_secs(30), || self.birdc("show status"))
            .with_context(|| format!("BIRD did not start: {}", self.daemon.log()))?;
        Ok(())
    }

    /// Runs a command of BIRD's shell and returns what it prints.
    ///
    /// # Errors
    ///
    /// When BIRD does not answer.
    pub fn birdc(&self, command: &str) -> Result<String> {
        let mut birdc = Command::new(programs::find("birdc")?);
        birdc.arg("-s").arg(&self.socket);
        programs::run(birdc.args(command.split_whitespace()))
    }

    /// The bird process, to stop or kill it.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

fn conf(host: &Host, protocols: &str) -> String {
    format!(
        "log stderr all;\nrouter id {};\nprotocol device {{ scan time 1; }}\n{protocols}",
        host.address()
    )
}

fn spawn(host: &Host, file: &Path, socket: &Path, arguments: &[&str]) -> Result<Daemon> {
    let mut command = host.ns().command(programs::find("bird")?);
    command.arg("-f").args(arguments);
    command.arg("-c").arg(file).arg("-s").arg(socket);
    Daemon::spawn(host.lab(), &format!("bird-{}", host.name()), command)
}
