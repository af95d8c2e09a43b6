//! What the process may do and what the kernel can do, asked before anything is touched.

use std::fs;

use aya::{
    maps::MapType,
    programs::{ProgramType, SchedClassifier, TcAttachType},
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};

use super::DataplaneError;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Helpers that make a kernel too old when they are missing, by program type, with the first release
/// that has them.
const HELPERS: &[(ProgramType, BpfHelper, &str, &str)] = &[
    (
        ProgramType::SchedClassifier,
        BpfHelper::BPF_FUNC_ringbuf_output,
        "BPF ring buffer helper",
        "5.8",
    ),
    (
        ProgramType::SchedClassifier,
        BpfHelper::BPF_FUNC_redirect_peer,
        "bpf_redirect_peer",
        "5.10",
    ),
    (
        ProgramType::SchedClassifier,
        BpfHelper::BPF_FUNC_loop,
        "bpf_loop",
        "5.17",
    ),
    (
        ProgramType::Xdp,
        BpfHelper::BPF_FUNC_xdp_load_bytes,
        "multi-buffer XDP",
        "5.18",
    ),
];

/// The capabilities that loading takes.
pub(super) fn privileges() -> Result<(), DataplaneError> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    match missing_capabilities(&status) {
        Some(missing) if !missing.is_empty() => Err(DataplaneError::Privilege { missing }),
        // Without /proc nobody can tell; the kernel will.
        _ => Ok(()),
    }
}

/// What the programs need of the kernel: asked for by feature, since distributions backport.
pub(super) fn kernel() -> Result<(), DataplaneError> {
    let lacks = |feature, since| Err(DataplaneError::Kernel { feature, since });
    for (program, feature) in [
        (ProgramType::Xdp, "XDP"),
        (ProgramType::SchedClassifier, "BPF for traffic control"),
    ] {
        // An error of the probe itself is no answer; loading gives one.
        if let Ok(false) = is_program_supported(program) {
            return lacks(feature, "4.8");
        }
    }
    for (map, feature, since) in [
        (MapType::RingBuf, "BPF ring buffer", "5.8"),
        (MapType::DevMapHash, "XDP redirect by device hash", "5.4"),
    ] {
        if let Ok(false) = is_map_supported(map) {
            return lacks(feature, since);
        }
    }
    for &(program, helper, feature, since) in HELPERS {
        if let Ok(false) = is_helper_supported(program, helper) {
            return lacks(feature, since);
        }
    }
    Ok(())
}

/// Whether the kernel has tcx links (6.6): older ones refuse to be asked what is attached.
pub(super) fn tcx() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

/// Names of what `CapEff` in `/proc/thread-self/status` lacks, or `None` when the line is not there.
fn missing_capabilities(status: &str) -> Option<String> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(line.trim(), 16).ok()?;
    let has = |capability: u32| effective >> capability & 1 == 1;
    let admin = has(CAP_SYS_ADMIN);
    let missing: Vec<_> = [
        (has(CAP_BPF) || admin, "CAP_BPF"),
        (has(CAP_NET_ADMIN), "CAP_NET_ADMIN"),
        (has(CAP_PERFMON) || admin, "CAP_PERFMON"),
    ]
    .into_iter()
    .filter(|(there, _)| !there)
    .map(|(_, name)| name)
    .collect();
    Some(missing.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_proc() {
        let status =
            |mask: u64| format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{mask:016x}\nCapBnd:\t0\n");
        let missing = |mask| missing_capabilities(&status(mask)).unwrap();
        assert_eq!(missing(0x1ff_ffff_ffff), "");
        assert_eq!(missing(0), "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
        assert_eq!(missing(1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN), "");
        assert_eq!(missing(1 << CAP_BPF | 1 << CAP_PERFMON), "CAP_NET_ADMIN");
        assert_eq!(missing_capabilities("Name:\tx\n"), None);
    }
}
