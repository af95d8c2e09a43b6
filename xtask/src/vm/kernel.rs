//! Debian's kernels, downloaded and unpacked into `target/vm`, never installed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::Kernel;
use crate::shell::{self, output, workspace};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR: &str = "http://deb.debian.org";
/// Depends on the current kernel of its release.
const META_PACKAGE: &str = "linux-image-amd64";

/// An unpacked kernel.
pub(super) struct Unpacked {
    /// As `uname -r` prints it.
    pub(super) version: String,
    /// The image that boots.
    pub(super) image: PathBuf,
    /// `lib/modules/VERSION`.
    pub(super) modules: PathBuf,
    /// Where everything about this kernel is.
    pub(super) directory: PathBuf,
}

impl Kernel {
    /// Name of its directory.
    const fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// Lines of a sources.list.
    fn sources(self) -> String {
        let (suite, security) = match self {
            Self::V6_1 => ("bookworm", true),
            Self::V6_12 => ("trixie", true),
            Self::Newest => ("sid", false),
        };
        let line = |archive: &str, suite: &str| {
            format!("deb [arch=amd64 signed-by={KEYRING}] {MIRROR}/{archive} {suite} main\n")
        };
        let mut sources = line("debian", suite);
        if security {
            sources += &line("debian-security", &format!("{suite}-security"));
        }
        sources
    }
}

/// Downloads and unpacks the kernel, unless that was done before; removing its directory below
/// `target/vm` asks for the release's current one again.
pub(super) fn fetch(kernel: Kernel) -> Result<Unpacked> {
    let directory = workspace()?.join("target/vm").join(kernel.name());
    let root = directory.join("root");
    if !root.is_dir() {
        let package = download(kernel, &directory)?;
        // Renamed when complete: what is at `root` is usable.
        let unfinished = directory.join("unfinished");
        let mut dpkg = Command::new("dpkg-deb");
        shell::run(dpkg.arg("-x").args([&package, &unfinished]))?;
        // Packages of Debian 13 and later have nothing in /lib, which is a link there.
        let lib = unfinished.join("lib");
        if !lib.exists() {
            symlink("usr/lib", lib)?;
        }
        let version = version(&unfinished)?;
        let mut depmod = Command::new("busybox");
        shell::run(depmod.arg("depmod").arg("-b").arg(&unfinished).arg(version))?;
        fs::rename(&unfinished, &root)?;
        fs::remove_file(package)?;
    }
    let version = version(&root)?;
    Ok(Unpacked {
        image: root.join(format!("boot/vmlinuz-{version}")),
        modules: root.join("lib/modules").join(&version),
        directory,
        version,
    })
}

/// Gets the package by apt, with sources and state of its own: this machine may be another release.
fn download(kernel: Kernel, directory: &Path) -> Result<PathBuf> {
    let apt = directory.join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part))?;
    }
    let sources = apt.join("sources.list");
    fs::write(&sources, kernel.sources())?;
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(directory);
        for (name, value) in [
            ("Dir::Etc::SourceList", sources.as_path()),
            ("Dir::Etc::SourceParts", Path::new("-")),
            ("Dir::State::Lists", &apt.join("lists")),
            ("Dir::Cache", &apt.join("cache")),
            // apt's own user may not write below our directory.
            ("APT::Sandbox::User", Path::new("root")),
        ] {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        command
    };
    shell::run(command("apt-get").args(["--quiet", "update"]))?;
    let depends = output(command("apt-cache").args(["depends", META_PACKAGE]))?;
    let package = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("{META_PACKAGE} depends on no kernel:\n{depends}"))?
        .to_owned();
    shell::run(command("apt-get").args(["--quiet", "download", &package]))?;
    only_entry(directory, |name| {
        name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
    })
    .with_context(|| format!("apt-get has left no package {package}"))
}

fn version(root: &Path) -> Result<String> {
    let path = only_entry(&root.join("lib/modules"), |_| true)?;
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name
        .context("the kernel's version is not UTF-8")?
        .to_owned())
}

/// The one entry of a directory whose name is accepted.
fn only_entry(directory: &Path, accept: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        if accept(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    ensure!(
        found.len() == 1,
        "{} entries in {} where one was expected",
        found.len(),
        directory.display()
    );
    found.pop().context("no entry")
}
