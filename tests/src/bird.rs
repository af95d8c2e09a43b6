//! BIRD 2.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use crate::{Daemon, Host, eventually, programs};

/// A BIRD on a host.
#[derive(Debug)]
pub struct Bird {
    host: Host,
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
        let conf = format!(
            "log stderr all;\nrouter id {};\nprotocol device {{ scan time 1; }}\n{protocols}",
            host.address()
        );
        fs::write(&file, conf)?;
        let socket = directory.join("bird.ctl");
        let mut command = host.ns().command(programs::find("bird")?);
        command
            .arg("-f")
            .arg("-c")
            .arg(&file)
            .arg("-s")
            .arg(&socket);
        let daemon = Daemon::spawn(host.lab(), &format!("bird-{}", host.name()), command)?;
        let bird = Self {
            host: host.clone(),
            socket,
            daemon,
        };
        eventually(Duration::from_secs(30), || bird.birdc("show status"))
            .with_context(|| format!("BIRD did not start: {}", bird.daemon.log()))?;
        Ok(bird)
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
