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

/// What a kernel's package may consist of.
const PARTS: &[&str] = &["linux-binary-", "linux-modules-"];

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
        let packages = download(kernel, &directory)?;
        // Renamed when complete: what is at `root` is usable.
        let unfinished = directory.join("unfinished");
        for package in &packages {
            let mut dpkg = Command::new("dpkg-deb");
            shell::run(dpkg.arg("-x").args([package, &unfinished]))?;
        }
        // Packages of Debian 13 and later have nothing in /lib, which is a link there.
        let lib = unfinished.join("lib");
        if !lib.exists() {
            symlink("usr/lib", lib)?;
        }
        let version = version(&unfinished)?;
        let mut depmod = Command::new("busybox");
        shell::run(depmod.arg("depmod").arg("-b").arg(&unfinished).arg(version))?;
        fs::rename(&unfinished, &root)?;
        for package in packages {
            fs::remove_file(package)?;
        }
    }
    let version = version(&root)?;
    let modules = root.join("lib/modules").join(&version);
    // The second place is Debian 14's.
    let images = [
        root.join(format!("boot/vmlinuz-{version}")),
        modules.join("vmlinuz"),
    ];
    Ok(Unpacked {
        image: images
            .into_iter()
            .find(|image| image.is_file())
            .with_context(|| format!("there is no kernel image below {}", root.display()))?,
        modules,
        directory,
        version,
    })
}

/// Gets the packages by apt, with sources and state of its own: this machine may be another release.
fn download(kernel: Kernel, directory: &Path) -> Result<Vec<PathBuf>> {
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
    let depends = |package: &str| -> Result<Vec<String>> {
        let listed = output(command("apt-cache").args(["depends", package]))?;
        let names = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    };
    let mut images = depends(META_PACKAGE)?;
    images.retain(|package| package.starts_with("linux-image-"));
    let image = images
        .pop()
        .with_context(|| format!("{META_PACKAGE} depends on no kernel"))?;
    // Debian 14 has the image and the modules in packages of their own.
    let mut packages = depends(&image)?;
    packages.retain(|package| PARTS.iter().any(|part| package.starts_with(part)));
    packages.push(image);
    shell::run(
        command("apt-get")
            .args(["--quiet", "download"])
            .args(&packages),
    )?;
    packages
        .iter()
        .map(|package| {
            only_entry(directory, |name| {
                name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
            })
        })
        .collect()
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
