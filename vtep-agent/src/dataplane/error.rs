//! What can go wrong, each with what to do about it in one line.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use aya::{
    EbpfError,
    programs::{ProgramError, links::LinkError},
};

/// Why the datapath does not do what was asked. The text is complete: no cause hides behind it.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The process may not use BPF.
    #[error(
        "no privilege to load BPF programs (missing {missing}): run as root, or with CAP_BPF, \
         CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Privilege {
        /// Names of the capabilities.
        missing: String,
    },
    /// VMs cannot be asked whether they are still there.
    #[error("cannot open a packet socket: {0}; run as root, or with CAP_NET_RAW")]
    PacketSocket(io::Error),
    /// The kernel is too old or was built without something.
    #[error("this kernel has no {feature}: Linux {since} or newer is needed")]
    Kernel {
        /// What is missing.
        feature: &'static str,
        /// First release that has it.
        since: &'static str,
    },
    /// There is no bpffs for the pins and none could be mounted.
    #[error(
        "cannot mount a bpffs at {}: {error}; mount one (`mount -t bpf bpf /sys/fs/bpf`) and set \
         pin_dir to a directory below it",
        path.display()
    )]
    Bpffs {
        /// Where it was tried.
        path: PathBuf,
        /// The kernel's answer.
        error: io::Error,
    },
    /// Another agent has the pin directory.
    #[error(
        "another agent{} runs with pin_dir {}: stop it, or set another pin_dir",
        process(*pid),
        path.display()
    )]
    Locked {
        /// The pin directory.
        path: PathBuf,
        /// Its process, if it can be seen from here.
        pid: Option<u32>,
    },
    /// Another agent has the uplink.
    #[error("another agent (process {pid}) has the uplink {device}: stop it, or detach it there")]
    Claimed {
        /// The uplink.
        device: String,
        /// Its process; 0 if it cannot be seen from here.
        pid: i32,
    },
    /// Whether another agent has the uplink cannot be known.
    #[error("cannot claim the uplink {device}: {error}")]
    Claim {
        /// The uplink.
        device: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// A file or directory of the pins cannot be used.
    #[error("{}: {error}", path.display())]
    Pin {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The embedded object is not what this agent was built for.
    #[error("the BPF object is unusable: {reason}")]
    Object {
        /// What is wrong with it.
        reason: String,
    },
    /// The verifier refused a program, or the kernel failed to take it.
    #[error("the kernel refused the BPF program {program}: {reason}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The kernel's answer and the verifier's last line.
        reason: String,
    },
    /// A map cannot be read.
    #[error("cannot access the BPF map {map}: {reason}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The kernel's answer.
        reason: String,
    },
    /// The device is not in this network namespace (any more).
    #[error("network device {device} does not exist")]
    NoDevice {
        /// Its name.
        device: String,
    },
    /// A program could not be attached.
    #[error("cannot attach {program} to {device}: {reason}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The device.
        device: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl DataplaneError {
    pub(super) fn pin(path: &Path, error: io::Error) -> Self {
        Self::Pin {
            path: path.to_owned(),
            error,
        }
    }

    pub(super) fn object(error: &EbpfError) -> Self {
        match errno(error) {
            Some(libc::EPERM) => Self::Privilege {
                missing: "the right to use bpf(2)".to_owned(),
            },
            _ => Self::Object {
                reason: flat(error),
            },
        }
    }

    pub(super) fn program(program: &'static str, error: &ProgramError) -> Self {
        let reason = match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                let log = format!("{verifier_log:?}");
                tracing::debug!(program, "verifier log: {log}");
                // The last line counts instructions, the one before it says what is wrong.
                let said = log
                    .lines()
                    .rev()
                    .map(str::trim)
                    .find(|line| !line.is_empty() && !line.starts_with("processed "));
                format!("{io_error}: {}", said.unwrap_or("no verifier log"))
            }
            error => flat(error),
        };
        Self::Program { program, reason }
    }

    pub(super) fn link(program: &'static str, device: &str, error: &LinkError) -> Self {
        Self::Attach {
            program,
            device: device.to_owned(),
            reason: flat(error),
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// The error and its causes on one line, each text once.
pub(super) fn flat(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The error number that the kernel gave, if one is behind the error.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(number) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return Some(number);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use aya::{maps::MapError, sys::SyscallError};

    use super::*;

    #[test]
    fn the_error_number_is_found_behind_wrappers() {
        let error = EbpfError::MapError(MapError::SyscallError(SyscallError {
            call: "bpf_map_create",
            io_error: io::Error::from_raw_os_error(libc::EPERM),
        }));
        assert_eq!(errno(&error), Some(libc::EPERM));
        assert!(matches!(
            DataplaneError::object(&error),
            DataplaneError::Privilege { .. }
        ));
        assert_eq!(flat(&error).matches("Operation not permitted").count(), 1);
    }
}
