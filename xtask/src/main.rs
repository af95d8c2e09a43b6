//! `cargo xtask`: the jobs of a developer and of CI.

mod bench;
mod chaos;
mod conformance;
mod demo;
mod dist;
mod ebpf;
mod fuzz;
mod lint;
mod setup;
mod shell;
mod test;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, test, demo and packaging jobs of vtep.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Installs what builds, labs and tests need and this machine lacks
    Setup {
        /// Only prints what would be done
        #[arg(long)]
        print: bool,
    },
    /// Builds everything and runs every test, those in network namespaces included
    Test {
        /// Passed to `cargo test`, for example `-p vtep-agent` or a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Checks formatting, lints, and the BPF object
    Lint,
    /// Two hypervisors and their VMs in network namespaces, with a ping across
    Demo {
        /// Leaves it running
        #[arg(long)]
        keep: bool,
        /// Makes the second hypervisor FRR with Linux's bridge and vxlan
        #[arg(long)]
        frr: bool,
    },
    /// Runs the tests that depend on the kernel on another kernel, under QEMU
    Vm {
        #[command(flatten)]
        options: vm::Options,
    },
    /// Measures vtep against the kernel's own bridge and vxlan
    Bench(bench::Options),
    /// Attacks the codec, the session state machine and the frame parser with libFuzzer
    Fuzz {
        /// Only this target; may be repeated
        #[arg(long, value_name = "NAME")]
        target: Vec<String>,
        /// How long, for each target
        #[arg(long, value_name = "N", default_value_t = 5)]
        minutes: u64,
        /// Adds inputs that reach something new to the corpus in the tree
        #[arg(long)]
        keep: bool,
    },
    /// Runs the labs that take many minutes: an agent is killed again and again under traffic
    Chaos,
    /// Builds the Debian package
    Dist {
        /// Packages this binary instead of a release build
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        /// Where the package goes
        #[arg(long, value_name = "DIR", default_value = "dist")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(job: Job) -> Result<()> {
    match job {
        Job::Setup { print } => setup::run(print),
        Job::Test { arguments } => test::run(&arguments),
        Job::Lint => lint::run(),
        Job::Demo { keep, frr } => demo::run(keep, frr),
        Job::Vm { options } => vm::run(&options),
        Job::Bench(options) => bench::run(&options),
        Job::Fuzz {
            target,
            minutes,
            keep,
        } => fuzz::run(&target, minutes, keep),
        Job::Chaos => chaos::run(),
        Job::Dist { binary, out } => dist::run(binary, &out),
    }
}
