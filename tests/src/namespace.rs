//! Network namespaces.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    programs,
    undo::{Made, Undo},
};

/// Bytes of commands that an error shows.
const SHOWN: usize = 2000;

/// A network namespace. Clones are the same namespace; it goes with its lab.
///
/// Commands enter it by `setns` and keep the mount namespace of the test, unlike those of
/// `ip netns exec`: a bpffs mounted by the lab stays visible. The price is that `/sys/class/net`
/// shows the devices of the test's own namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    file: Arc<File>,
}

impl Namespace {
    pub(crate) fn create(name: &str, undo: &Undo) -> Result<Self> {
        programs::run(Command::new(programs::find("ip")?).args(["netns", "add", name]))?;
        undo.push(Made::Namespace(name.to_owned()));
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let namespace = Self {
            name: name.to_owned(),
            file: Arc::new(file),
        };
        // Duplicate address detection would hold back every IPv6 address for a second.
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in the namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let fd = self.file.as_raw_fd();
        let file = Arc::clone(&self.file);
        let enter = move || {
            // The closure owns the file, so that the descriptor is open when the child enters.
            let _ = &file;
            enter(fd)
        };
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a command line, split at white space, and returns its standard output.
    ///
    /// # Errors
    ///
    /// When the program is missing or exits with another status than 0.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        programs::run(self.command(programs::find(program)?).args(words))
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Runs `ip` commands, one on each line.
    ///
    /// # Errors
    ///
    /// When one of them fails; the later ones are not run.
    pub fn ip(&self, batch: &str) -> Result<()> {
        self.batch("ip", batch)
    }

    /// Runs `bridge` commands, one on each line.
    ///
    /// # Errors
    ///
    /// When one of them fails; the later ones are not run.
    pub fn bridge(&self, batch: &str) -> Result<()> {
        self.batch("bridge", batch)
    }

    fn batch(&self, program: &str, batch: &str) -> Result<()> {
        let mut child = self
            .command(programs::find(program)?)
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let mut input = child
            .stdin
            .take()
            .with_context(|| format!("{program} has no standard input"))?;
        // One that fails does not read the rest; its status says so.
        let written = input.write_all(batch.as_bytes());
        drop(input);
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{program} failed in namespace {}: {}\n{}",
            self.name,
            String::from_utf8_lossy(&output.stderr).trim_end(),
            batch.get(..SHOWN).unwrap_or(batch)
        );
        written.with_context(|| format!("{program} does not read its commands"))
    }

    /// Calls a function on a thread that is in the namespace. Sockets made there stay there.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered, the function fails or panics.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let fd = self.file.as_raw_fd();
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(fd).context("cannot enter the namespace")?;
                    function()
                })
                .join()
                .map_err(|_| anyhow!("panic on a thread in namespace {}", self.name))?
        })
    }

    /// Writes a value below `/proc/sys`; the key has slashes.
    ///
    /// # Errors
    ///
    /// When there is no such key or the value is refused.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{key}");
        self.enter(|| fs::write(&path, value).with_context(|| format!("cannot write {path}")))
    }

    /// A counter of TCP in the namespace, for example `TCPTimeouts`: retransmission timeouts (RFC 6298).
    ///
    /// # Errors
    ///
    /// When the kernel has none of that name.
    pub fn tcp_counter(&self, name: &str) -> Result<u64> {
        let text = self.run("cat /proc/net/netstat")?;
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = lines.next().zip(lines.next()).context("no TcpExt")?;
        let mut columns = names.split_whitespace().zip(values.split_whitespace());
        let column = columns.find(|(column, _)| *column == name);
        let (_, value) = column.with_context(|| format!("no {name}"))?;
        Ok(value.parse()?)
    }

    /// The programs on its devices: XDP, then traffic control, two lists in JSON.
    ///
    /// # Errors
    ///
    /// When bpftool fails.
    pub fn attached(&self) -> Result<String> {
        let net = self.run("bpftool --json net show")?;
        let net: serde_json::Value = serde_json::from_str(&net)?;
        Ok(format!("{} {}", net[0]["xdp"], net[0]["tc"]))
    }

    /// Names of the network devices, in the kernel's order.
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn links(&self) -> Result<Vec<String>> {
        let json = self.run("ip -json link show")?;
        let links: Vec<serde_json::Value> = serde_json::from_str(&json)?;
        let name = |link: &serde_json::Value| link["ifname"].as_str().map(str::to_owned);
        Ok(links.iter().filter_map(name).collect())
    }
}

fn enter(fd: RawFd) -> std::io::Result<()> {
    // SAFETY: setns(2) takes two integers; a descriptor that is not a namespace is an error.
    match unsafe { libc::setns(fd, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
