//! The machine: kernel, privileges, file systems, clock.

use super::{Finding, HostFacts};

pub(super) fn examine(host: &HostFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(error) = &host.configuration {
        findings.push(Finding::error(
            "configuration",
            None,
            format!("the configuration file cannot be used: {error}"),
            "correct it; `vtep-agent check --config FILE` explains what a file does",
        ));
    }
    for obstacle in &host.obstacles {
        findings.push(Finding::error(
            "kernel",
            None,
            obstacle,
            "run as root, or with the capabilities of the packaged unit, on Linux 6.1 or later",
        ));
    }
    if let Some(error) = &host.signatures {
        findings.push(Finding::error(
            "tcp_ao",
            None,
            error,
            "until then the agent neither starts nor reloads with this configuration",
        ));
    }
    if !host.tcx && host.obstacles.is_empty() {
        findings.push(Finding::note(
            "tcx",
            None,
            "the kernel has no tcx links (Linux 6.6): clsact filters are used",
            "nothing; programs of others on the same devices run by priority, not by order",
        ));
    }
    if host.jit == Some(false) {
        findings.push(Finding::warning(
            "jit",
            None,
            "BPF programs are interpreted, which is several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ));
    }
    if !host.bpffs {
        findings.push(Finding::warning(
            "bpffs",
            None,
            format!(
                "{} is not on a bpffs: the agent mounts one for itself, and forwarding may not \
                 survive its restart",
                host.pin_dir.display()
            ),
            "mount -t bpf bpf /sys/fs/bpf, and have it in /etc/fstab",
        ));
    }
    if host.clock_synchronised == Some(false) {
        findings.push(Finding::note(
            "clock",
            None,
            "nothing keeps the clock in step: times in logs can't be compared between hosts",
            "run chrony or systemd-timesyncd; forwarding and BGP do not depend on it",
        ));
    }
    findings
}
