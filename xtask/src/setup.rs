//! `cargo xtask setup`: what builds, labs and tests need.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, find, is_root, line, output};

/// To build the agent, the BPF object and bpf-linker.
const BUILD_PACKAGES: &[&str] = &[
    "ca-certificates",
    "g++",
    "gcc",
    "libc6-dev",
    "libpolly-22-dev",
    "libxml2-dev",
    "libzstd-dev",
    "llvm-22",
    "llvm-22-dev",
    "pkg-config",
    "zlib1g-dev",
];

/// To run labs and tests.
const LAB_PACKAGES: &[&str] = &[
    "bird2",
    "bpftool",
    "dnsmasq-base",
    "dpkg-dev",
    "ethtool",
    "exabgp",
    "frr",
    "gobgpd",
    "iperf3",
    "iproute2",
    "iputils-arping",
    "iputils-ping",
    "isc-dhcp-client",
    "mount",
    "ndisc6",
    "procps",
    "tcpdump",
    "udhcpc",
];

/// Services that some of these packages start and enable; labs run their own.
const SERVICES: &[(&str, &str)] = &[
    ("frr", "frr"),
    ("gobgpd", "gobgpd"),
    ("bird2", "bird"),
    ("exabgp", "exabgp"),
];

const BPF_LINKER: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Installs what is missing, or only prints it.
pub(crate) fn run(print: bool) -> Result<()> {
    let steps = Steps::find()?;
    if steps.is_empty() {
        eprintln!("setup: nothing is missing");
        return Ok(());
    }
    steps.print();
    if print {
        return Ok(());
    }
    steps.take()
}

/// Installs those of these packages that are missing, for jobs that need more than the usual.
pub(crate) fn require(packages: &[&'static str]) -> Result<()> {
    if !is_debian() {
        bail!(
            "this needs Debian or Ubuntu, for the packages {}",
            packages.join(" ")
        );
    }
    let installed = installed_packages()?;
    let missing: Vec<_> = packages
        .iter()
        .copied()
        .filter(|package| !installed.iter().any(|name| name == package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("packages to install: {}", missing.join(" "));
    install(&missing)
}

/// What is missing.
struct Steps {
    packages: Vec<&'static str>,
    rust_src: bool,
    bpf_linker: bool,
}

impl Steps {
    fn find() -> Result<Self> {
        if !is_debian() {
            return Self::find_elsewhere();
        }
        let wanted = BUILD_PACKAGES.iter().chain(LAB_PACKAGES);
        let installed = installed_packages()?;
        Ok(Self {
            packages: wanted
                .copied()
                .filter(|package| !installed.iter().any(|name| name == package))
                .collect(),
            rust_src: !has_rust_src()?,
            bpf_linker: !has_bpf_linker(),
        })
    }

    /// On another distribution names differ: programs are looked for, and nothing is installed.
    fn find_elsewhere() -> Result<Self> {
        let programs = [
            "arping", "bird", "bpftool", "cc", "dhclient", "dnsmasq", "ethtool", "exabgp",
            "gobgpd", "ip", "iperf3", "mount", "ndisc6", "ping", "sysctl", "tcpdump", "udhcpc",
            "vtysh",
        ];
        let missing: Vec<_> = programs
            .into_iter()
            .filter(|name| find(name).is_none())
            .collect();
        let (rust_src, bpf_linker) = (!has_rust_src()?, !has_bpf_linker());
        if missing.is_empty() && !bpf_linker {
            return Ok(Self {
                packages: Vec::new(),
                rust_src,
                bpf_linker,
            });
        }
        let mut message = String::from("this is neither Debian nor Ubuntu; please install");
        if !missing.is_empty() {
            message += &format!("\n  the programs: {}", missing.join(" "));
        }
        if bpf_linker {
            message += &format!(
                "\n  LLVM 22 with its headers and static libraries, Polly, zlib, zstd and libxml2\
                 \n  bpf-linker: {}",
                line(&bpf_linker_command())
            );
        }
        message += &format!(
            "\n(on Debian these are the packages {} {})",
            BUILD_PACKAGES.join(" "),
            LAB_PACKAGES.join(" ")
        );
        bail!(message)
    }

    fn is_empty(&self) -> bool {
        self.packages.is_empty() && !self.rust_src && !self.bpf_linker
    }

    fn print(&self) {
        if !self.packages.is_empty() {
            eprintln!("setup: packages to install: {}", self.packages.join(" "));
        }
        if self.rust_src {
            eprintln!("setup: to add: rust-src, for the BPF target's core library");
        }
        if self.bpf_linker {
            eprintln!("setup: to build: bpf-linker {BPF_LINKER} (about a minute)");
        }
    }

    fn take(&self) -> Result<()> {
        if !self.packages.is_empty() {
            install(&self.packages)?;
        }
        if self.rust_src {
            let mut rustup = Command::new("rustup");
            shell::run(rustup.args(["component", "add", "rust-src"]))
                .context("rust-src is missing and rustup cannot add it")?;
        }
        if self.bpf_linker {
            shell::run(&mut bpf_linker_command())?;
        }
        Ok(())
    }
}

fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")))
        .any(|value| value.contains("debian") || value.contains("ubuntu"))
}

/// Names of installed packages.
fn installed_packages() -> Result<Vec<String>> {
    let mut query = Command::new("dpkg-query");
    let list = output(query.args(["-W", "-f", "${db:Status-Status} ${Package}\n"]))?;
    let names = list
        .lines()
        .filter_map(|line| line.strip_prefix("installed "));
    Ok(names.map(str::to_owned).collect())
}

fn has_rust_src() -> Result<bool> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
    Ok(Path::new(sysroot.trim()).join(core).is_file())
}

fn has_bpf_linker() -> bool {
    output(Command::new("bpf-linker").arg("--version"))
        .is_ok_and(|version| version.split_whitespace().any(|word| word == BPF_LINKER))
}

fn bpf_linker_command() -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX)
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked"])
        .args(["--no-default-features", "--features", "llvm-22"]);
    cargo
}

fn install(packages: &[&str]) -> Result<()> {
    if !is_root() {
        bail!(
            "installing packages takes root; run as root: apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    if packages.iter().any(|package| !is_available(package)) {
        shell::run(Command::new("apt-get").arg("update"))?;
    }
    let unknown: Vec<_> = packages
        .iter()
        .copied()
        .filter(|name| !is_available(name))
        .collect();
    if !unknown.is_empty() {
        bail!(
            "this release has no packages {}; Debian 12 with its security updates has them all",
            unknown.join(" ")
        );
    }
    let held_back = ServicesHeldBack::new()?;
    let attempt = shell::run(&mut apt_get_install(packages));
    let attempt = attempt.or_else(|_| {
        // Lists that are too old name files that are gone.
        shell::run(Command::new("apt-get").arg("update"))?;
        shell::run(&mut apt_get_install(packages))
    });
    drop(held_back);
    attempt?;
    disable_services(packages)
}

fn apt_get_install(packages: &[&str]) -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    apt_get
}

/// Whether apt knows a version to install.
fn is_available(package: &str) -> bool {
    output(Command::new("apt-cache").args(["policy", package])).is_ok_and(|policy| {
        policy.lines().any(|line| {
            let candidate = line.trim().strip_prefix("Candidate:");
            candidate.is_some_and(|version| version.trim() != "(none)")
        })
    })
}

/// Keeps packages from starting their services while it lives: Debian's policy-rc.d, unless the
/// machine has one of its own.
struct ServicesHeldBack {
    ours: bool,
}

impl ServicesHeldBack {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        if Path::new(Self::POLICY).exists() {
            return Ok(Self { ours: false });
        }
        // 101: "action forbidden by policy".
        fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n")
            .with_context(|| format!("cannot write {}", Self::POLICY))?;
        let held_back = Self { ours: true };
        fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(held_back)
    }
}

impl Drop for ServicesHeldBack {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(Self::POLICY)
        {
            eprintln!("cannot remove {}: {error}", Self::POLICY);
        }
    }
}

/// Keeps services of packages that we have just installed from starting with the machine.
fn disable_services(packages: &[&str]) -> Result<()> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    for (package, service) in SERVICES {
        if packages.contains(package) {
            let mut systemctl = Command::new("systemctl");
            shell::run(systemctl.args(["disable", "--now", "--quiet", service]))?;
        }
    }
    Ok(())
}
