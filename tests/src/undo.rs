//! What is to be undone when a lab goes, newest first.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// One thing that a lab made outside its own process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// A child process.
    Process(u32),
    /// A named network namespace.
    Namespace(String),
    /// A mounted file system.
    Mount(PathBuf),
    /// A directory.
    Directory(PathBuf),
}

/// The stack of things made. Shared by a lab and all that lives in it.
#[derive(Debug, Default)]
pub(crate) struct Undo(Mutex<Vec<Made>>);

impl Undo {
    pub(crate) fn push(&self, made: Made) {
        self.lock().push(made);
    }

    /// Forgets what its owner has removed itself.
    pub(crate) fn forget(&self, made: &Made) {
        self.lock().retain(|other| other != made);
    }

    /// Removes everything. Failures are printed: whoever calls this is on the way out.
    pub(crate) fn run(&self) {
        while let Some(made) = { self.lock().pop() } {
            if let Err(error) = made.remove() {
                eprintln!("lab: cannot remove {made:?}: {error}");
            }
        }
    }

    /// Shell commands that remove everything.
    pub(crate) fn script(&self) -> String {
        let made = self.lock();
        made.iter().rev().map(Made::shell).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        match self {
            Self::Process(pid) => {
                kill(*pid, libc::SIGKILL);
                Ok(())
            }
            Self::Namespace(name) => quiet(Command::new("ip").args(["netns", "del", name])),
            Self::Mount(path) => quiet(Command::new("umount").arg(path)),
            Self::Directory(path) => fs::remove_dir_all(path),
        }
    }

    fn shell(&self) -> String {
        match self {
            Self::Process(pid) => {
                // An agent that is asked nicely takes its programs with it.
                format!(
                    "kill {pid}; for i in $(seq 50); do kill -0 {pid} || break; sleep 0.1; done\n"
                )
            }
            Self::Namespace(name) => format!("ip netns del {name}\n"),
            Self::Mount(path) => format!("umount {}\n", path.display()),
            Self::Directory(path) => format!("rm -r {}\n", path.display()),
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn kill(pid: u32, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill(2) takes two integers.
        unsafe { libc::kill(pid, signal) };
    }
}

fn quiet(command: &mut Command) -> std::io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}
