//! Loading, and what keeps an agent from it.

use vtep_agent::dataplane::{Dataplane, DataplaneError};

use vtep_common::abi::ABI_VERSION;

use super::rig::*;

#[test]
fn without_privileges_nothing_is_touched() {
    isolated(|pins| {
        // SAFETY: the raw system call changes this thread only, and drops its capabilities.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(result, 0);
        let Err(error) = Dataplane::load(&options(pins)) else {
            panic!("loaded without privileges")
        };
        assert_eq!(
            error.to_string(),
            "no privilege to load BPF programs (missing CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON): run as \
             root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
        );
    });
}

#[test]
fn a_bpffs_is_mounted_where_there_is_none() {
    isolated(|pins| {
        run(&format!("umount {}", pins.parent().unwrap().display()));
        let mut dataplane = load(pins);
        let p0 = ifindex("p0");
        dataplane.attach_port(p0, "p0").unwrap();
        let mounted = run(&format!("stat -f -c %T {}", pins.display()));
        assert_eq!(mounted.trim(), "bpf_fs");
        assert_eq!(links(pins).len(), 1);
        dataplane.remove().unwrap();
        assert!(!pins.join(format!("v{ABI_VERSION}")).exists());
    });
}

#[test]
fn one_agent_for_one_pin_directory() {
    isolated(|pins| {
        let first = load(pins);
        let Err(error) = Dataplane::load(&options(pins)) else {
            panic!("loaded twice")
        };
        assert!(matches!(error, DataplaneError::Locked { .. }), "{error}");
        drop(first);
        load(pins).remove().unwrap();
    });
}
