//! `cargo xtask vm`: the tests that depend on the kernel, on another kernel than this machine's.
//!
//! A Debian kernel boots under QEMU with this machine's root file system, shared read-only and with
//! a writable layer in memory on top: the very test binaries of `target/debug` run there, with the
//! programs that labs need.

mod guest;
mod initramfs;
mod kernel;
mod suite;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::{
    setup,
    shell::{self, cargo, is_root},
};

/// What QEMU and the initramfs take beyond `setup`.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "debian-archive-keyring",
    "qemu-system-x86",
];

/// How `cargo xtask vm` is called.
#[derive(Args)]
pub(crate) struct Options {
    /// Debian's kernel to boot
    #[arg(long, default_value = "6.1", value_enum)]
    kernel: Kernel,
    /// Minutes until the guest is stopped
    #[arg(long, value_name = "MINUTES", default_value_t = 20)]
    timeout: u64,
    /// `kvm` where the machine has it
    #[arg(long, default_value = "tcg", value_enum)]
    accel: Accel,
    /// A test target and arguments for it, instead of the usual ones: `lab_agents --exact NAME`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    test: Vec<String>,
}

/// A kernel, by the name that Debian's users know it under.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13
    #[value(name = "6.12")]
    V6_12,
    /// Debian unstable
    Newest,
}

/// How QEMU runs the guest's instructions.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Accel {
    Kvm,
    Tcg,
}

/// Boots the kernel, runs the tests in it and fails when one of them does.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        is_root(),
        "the guest reads this machine's root file system as the user who runs this: run it as root"
    );
    setup::require(PACKAGES)?;
    shell::run(&mut cargo(["build", "--workspace"])?)?;
    let job = suite::script(options.kernel, &options.test)?;
    let kernel = kernel::fetch(options.kernel)?;
    let initramfs = initramfs::build(&kernel, &job)?;
    let minutes = Duration::from_secs(60 * options.timeout);
    guest::run(&kernel, &initramfs, options.accel, minutes)
}
