//! Long-running children, their logs and their end.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    Lab, programs,
    undo::{self, Made},
};

/// How long a daemon may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// Lines of a log that are shown from its beginning and from its end.
const LOG_HEAD: usize = 40;
const LOG_TAIL: usize = 160;

/// A process of a lab, with its output in a log file. Dropping it ends it and prints the log.
///
/// It also ends when the thread that started it does, so that a killed test leaves nothing running;
/// therefore start daemons on the test's own thread. Daemons of a kept lab outlive it instead.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    lab: Lab,
    status: Option<ExitStatus>,
}

impl Daemon {
    /// Starts a command under a name that is unique in the lab; its log is `NAME.log` in the lab's
    /// directory. Output is appended, so that a daemon started again continues its log.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn spawn(lab: &Lab, name: &str, mut command: Command) -> Result<Self> {
        let log = lab.directory().join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C is for the test, which ends its daemons in order.
            .process_group(0);
        if !lab.is_kept() {
            // SAFETY: between fork and exec the closure makes one system call with integers.
            unsafe { command.pre_exec(end_with_parent) };
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", programs::describe(&command)))?;
        lab.undo().push(Made::Process(child.id()));
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            lab: lab.clone(),
            status: None,
        })
    }

    /// Waits until a line of the log contains a text.
    ///
    /// # Errors
    ///
    /// When the process ends first or the time is up.
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.log().contains(text) {
            self.check()?;
            if start.elapsed() > timeout {
                bail!("{} did not log {text:?}:\n{}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Fails if the process has ended, with its log.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.exit_status()? {
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.log()),
            None => Ok(()),
        }
    }

    /// Its exit status, once it has ended.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
            if self.status.is_some() {
                self.lab.undo().forget(&Made::Process(self.child.id()));
            }
        }
        Ok(self.status)
    }

    /// Sends a signal, unless it has ended.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for.
    pub fn signal(&mut self, signal: i32) -> Result<()> {
        if self.exit_status()?.is_none() {
            undo::kill(self.child.id(), signal);
        }
        Ok(())
    }

    /// Asks the process to end, waits, and kills it when it doesn't.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        match self.wait(GRACE)? {
            Some(status) => Ok(status),
            None => {
                self.kill()?;
                bail!("{} did not end within {GRACE:?} of SIGTERM", self.name)
            }
        }
    }

    /// Kills the process without a chance to clean up, as a crash would.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        self.wait(GRACE)?;
        Ok(())
    }

    /// Waits for the process to end by itself; `None` when it is still running.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            let status = self.exit_status()?;
            if status.is_some() || start.elapsed() > timeout {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("no log: {error}"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Where it is written to.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// File descriptors that the process has open.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn descriptors(&self) -> Result<usize> {
        let list = fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .with_context(|| format!("{} has ended", self.name))?;
        Ok(list.count())
    }

    /// Memory that the process has now, and had at most.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .with_context(|| format!("{} has ended", self.name))?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            number.with_context(|| format!("{} has no {key} any more", self.name))
        };
        Ok(Memory {
            resident: kib("VmRSS:")? * 1024,
            peak: kib("VmHWM:")? * 1024,
        })
    }
}

/// Resident memory of a process, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Now (`VmRSS`).
    pub resident: u64,
    /// The most so far (`VmHWM`).
    pub peak: u64,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.lab.is_kept() {
            return;
        }
        if let Err(error) = self.terminate() {
            println!("{error:#}");
        }
        if self.lab.shows_logs() {
            // Captured by the test harness, which shows it when the test failed.
            println!("--- {} ---\n{}", self.name, excerpt(&self.log()));
        }
    }
}

/// The beginning and the end of a long log: what failed is not to be searched for among thousands of
/// lines.
fn excerpt(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let left_out = lines.len().saturating_sub(LOG_HEAD + LOG_TAIL);
    if left_out == 0 {
        return log.to_owned();
    }
    let (head, rest) = lines.split_at(LOG_HEAD);
    let (head, tail) = (head.join("\n"), rest[left_out..].join("\n"));
    format!("{head}\n({left_out} lines)\n{tail}\n")
}

fn end_with_parent() -> std::io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
