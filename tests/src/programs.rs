//! What a lab needs from the machine.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Directories that a non-login shell's `PATH` often lacks.
const SYSTEM: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/lib/frr"];

/// Finds a program, or says how to get it.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM.iter().map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| is_file(candidate))
        .with_context(|| {
            format!("the lab needs `{program}`, which is not installed: run `cargo xtask setup`")
        })
}

/// Fails unless we may create network namespaces.
pub(crate) fn require_root() -> Result<()> {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    let uid = unsafe { libc::geteuid() };
    ensure!(
        uid == 0,
        "the lab makes network namespaces and loads BPF programs: run this test as root"
    );
    Ok(())
}

/// Runs a command to its end and returns what it wrote to its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", describe(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}{}",
            describe(command),
            output.status,
            stdout,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(stdout)
}

/// The command line, for error messages.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .map(|word| format!("{word} "))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn is_file(path: &Path) -> bool {
    path.is_file()
}
