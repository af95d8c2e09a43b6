//! Loading, attaching, pinning and taking over, on a real kernel. Needs root, iproute2 and bpftool.
//!
//! Each test runs in a thread with network and mount namespaces of its own, which go with it.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of a test fail by panicking, too"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TcAttachType};
use serde_json::Value;
use vtep_agent::{
    config::XdpMode,
    dataplane::{AttachedMode, BATCH, Dataplane, DataplaneError, LoadOptions},
    intent::Intent,
    reconcile::{Map, Reconciler},
};
use vtep_common::{
    Mac,
    abi::{
        BdEntry, BdFlags, BdId, BdRef, EventKind, FdbFlags, FdbKey, FdbWord, PortCounters,
        PortEntry, PortFlags, PortKey, PortRef, Settings,
    },
};

/// Runs `test` with a directory for pins and two veth pairs: `u0`–`u1` is the underlay, `p0`–`p1` a
/// VM port.
fn isolated(test: impl FnOnce(&Path) + Send + 'static) {
    // SAFETY: no arguments, no memory.
    assert_eq!(unsafe { libc::geteuid() }, 0, "this test needs root");
    let pins = tempfile::tempdir().unwrap();
    let path = pins.path().join("vtep");
    let result = thread::spawn(move || {
        // SAFETY: the thread gets namespaces of its own; nothing else of the process changes.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
        assert_eq!(left, 0, "{}", std::io::Error::last_os_error());
        run("mount --make-rprivate /");
        let mount = path.parent().unwrap();
        run(&format!("mount -t bpf bpf {}", mount.display()));
        run("ip link set lo up");
        run("ip link add u0 type veth peer name u1");
        run("ip link add p0 type veth peer name p1");
        for device in ["u0", "u1", "p0", "p1"] {
            run(&format!("ip link set {device} up"));
        }
        test(&path);
    })
    .join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn ifindex(device: &str) -> u32 {
    let links: Value = serde_json::from_str(&run(&format!("ip -j link show {device}"))).unwrap();
    links[0]["ifindex"].as_u64().unwrap() as u32
}

/// What hangs on a device: kind of hook and name to program id.
fn attached(device: &str) -> BTreeMap<String, u64> {
    let mut hooks = BTreeMap::new();
    let shown: Value =
        serde_json::from_str(&run(&format!("bpftool -j net show dev {device}"))).unwrap();
    for xdp in shown[0]["xdp"].as_array().unwrap() {
        let kind = format!("xdp {}", xdp["mode"].as_str().unwrap());
        hooks.insert(kind, xdp["id"].as_u64().unwrap());
    }
    for tc in shown[0]["tc"].as_array().unwrap() {
        let (kind, name) = (tc["kind"].as_str().unwrap(), tc["name"].as_str().unwrap());
        // Newer versions of bpftool know tcx, older ones don't.
        if kind.starts_with("clsact") {
            hooks.insert(format!("{kind} {name}"), tc["id"].as_u64().unwrap());
        }
    }
    for program in tcx_programs(device).unwrap_or_default() {
        let name = program.name_as_str().unwrap();
        hooks.insert(format!("tcx/ingress {name}"), program.id().into());
    }
    hooks
}

/// What is attached by tcx, in order; `None` when the kernel has none (before Linux 6.6).
fn tcx_programs(device: &str) -> Option<Vec<ProgramInfo>> {
    match SchedClassifier::query_tcx(device, TcAttachType::Ingress) {
        Ok((_, programs)) => Some(programs),
        Err(ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
        {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// How this kernel's TC hooks are listed with a program.
fn tc(program: &str) -> String {
    let kind = match tcx_programs("lo") {
        Some(_) => "tcx",
        None => "clsact",
    };
    format!("{kind}/ingress {program}")
}

/// Ids of the pinned links by hook; 0 for a clsact filter, which has a directory for a mark.
fn links(pins: &Path) -> BTreeMap<String, u64> {
    fs::read_dir(pins.join("v1/links"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                return (name, 0);
            }
            let shown = run(&format!("bpftool -j link show pinned {}", path.display()));
            let link: Value = serde_json::from_str(&shown).unwrap();
            (name, link["id"].as_u64().unwrap())
        })
        .collect()
}

fn hooks(device: &str) -> Vec<String> {
    attached(device).into_keys().collect()
}

fn load(pins: &Path) -> Dataplane {
    Dataplane::load(&options(pins)).unwrap_or_else(|error| panic!("{error}"))
}

fn options(pins: &Path) -> LoadOptions {
    LoadOptions::new(pins.to_owned(), 1024)
}

/// The TC half of an uplink.
fn underlay() -> String {
    tc("underlay_tc")
}

/// The program of a port.
fn access() -> String {
    tc("access_tc")
}

const NATIVE: &str = "xdp driver";
const GENERIC: &str = "xdp generic";

#[test]
fn attaches_and_leaves_nothing_behind() {
    isolated(|pins| {
        let mut dataplane = load(pins);
        let (u0, p0) = (ifindex("u0"), ifindex("p0"));
        assert_eq!(
            dataplane.attach_uplink(u0, "u0", XdpMode::Auto).unwrap(),
            AttachedMode::Native
        );
        dataplane.attach_port(p0, "p0").unwrap();
        assert_eq!(hooks("u0"), [&underlay(), NATIVE]);
        assert_eq!(hooks("p0"), [access()]);
        // Again is done.
        dataplane.attach_uplink(u0, "u0", XdpMode::Auto).unwrap();
        dataplane.attach_port(p0, "p0").unwrap();
        assert_eq!(hooks("p0"), [access()]);
        dataplane.detach_port(p0).unwrap();
        dataplane.detach_port(p0).unwrap();
        assert_eq!(hooks("p0"), Vec::<String>::new());
        dataplane.attach_port(p0, "p0").unwrap();
        let reports = dataplane.info();
        for name in [
            "underlay_xdp",
            "underlay_xdp_generic",
            "underlay_tc",
            "access_tc",
        ] {
            let report = reports.iter().find(|report| report.name == name).unwrap();
            println!("{report:?}");
            assert!(report.verified_instructions.unwrap() > 0);
        }
        dataplane.remove().unwrap();
        assert_eq!(hooks("u0"), Vec::<String>::new());
        assert_eq!(hooks("p0"), Vec::<String>::new());
        assert!(!pins.exists(), "pins are left");
    });
}

#[test]
fn xdp_modes() {
    isolated(|pins| {
        let mut dataplane = load(pins);
        // The loopback device has no native XDP.
        let refused = dataplane
            .attach_uplink(1, "lo", XdpMode::Native)
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot attach underlay_xdp to lo: the driver has no XDP in this mode"
        );
        assert_eq!(hooks("lo"), Vec::<String>::new(), "half attached");
        let mode = dataplane.attach_uplink(1, "lo", XdpMode::Auto).unwrap();
        assert_eq!((mode, hooks("lo")), (AttachedMode::Off, vec![underlay()]));
        let (u0, tc) = (ifindex("u0"), underlay());
        let tc = tc.as_str();
        for (mode, became, expected) in [
            (XdpMode::Generic, AttachedMode::Generic, vec![tc, GENERIC]),
            (XdpMode::Native, AttachedMode::Native, vec![tc, NATIVE]),
            (XdpMode::Off, AttachedMode::Off, vec![tc]),
            (XdpMode::Auto, AttachedMode::Native, vec![tc, NATIVE]),
        ] {
            assert_eq!(dataplane.attach_uplink(u0, "u0", mode).unwrap(), became);
            assert_eq!(hooks("u0"), expected);
        }
        // A mode that is refused leaves the old one.
        dataplane
            .attach_uplink(1, "lo", XdpMode::Native)
            .unwrap_err();
        assert_eq!(hooks("lo"), [underlay()]);
        dataplane.attach_uplink(1, "lo", XdpMode::Generic).unwrap();
        dataplane
            .attach_uplink(1, "lo", XdpMode::Native)
            .unwrap_err();
        assert_eq!(hooks("lo"), [&underlay(), GENERIC]);
        dataplane.remove().unwrap();
    });
}

#[test]
fn a_device_that_does_not_exist_is_named() {
    isolated(|pins| {
        let mut dataplane = load(pins);
        let error = dataplane.attach_port(9999, "tap9").unwrap_err();
        assert_eq!(error.to_string(), "network device tap9 does not exist");
        dataplane.remove().unwrap();
    });
}

#[test]
fn a_device_may_go_first() {
    isolated(|pins| {
        let mut dataplane = load(pins);
        let (u0, p0) = (ifindex("u0"), ifindex("p0"));
        dataplane.attach_uplink(u0, "u0", XdpMode::Auto).unwrap();
        dataplane.attach_port(p0, "p0").unwrap();
        run("ip link del u0");
        run("ip link del p0");
        dataplane.detach_uplink(u0).unwrap();
        dataplane.detach_port(p0).unwrap();
        dataplane.remove().unwrap();
        assert!(!pins.exists(), "pins are left");
    });
}

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
        assert!(!pins.join("v1").exists());
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

#[test]
fn a_foreign_xdp_program_is_respected() {
    isolated(|pins| {
        // A program of another agent, attached by another tool, stands for the foreign one.
        let mut other = load(&pins.join("foreign"));
        let (u0, p1) = (ifindex("u0"), ifindex("p1"));
        other.attach_uplink(p1, "p1", XdpMode::Native).unwrap();
        let program = attached("p1")[NATIVE];
        run(&format!("bpftool net attach xdpdrv id {program} dev u0"));
        let mut dataplane = load(&pins.join("ours"));
        let refused = dataplane
            .attach_uplink(u0, "u0", XdpMode::Native)
            .unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("another XDP program is attached"),
            "{refused}"
        );
        assert_eq!(hooks("u0"), [NATIVE], "half attached");
        assert_eq!(
            dataplane.attach_uplink(u0, "u0", XdpMode::Auto).unwrap(),
            AttachedMode::Off
        );
        assert_eq!(hooks("u0"), [&underlay(), NATIVE]);
        dataplane.remove().unwrap();
        assert_eq!(attached("u0"), [(NATIVE.to_owned(), program)].into());
        other.remove().unwrap();
    });
}

#[test]
fn the_next_run_takes_over() {
    isolated(|pins| {
        let (u0, p0, p1) = (ifindex("u0"), ifindex("p0"), ifindex("p1"));
        let mut first = load(pins);
        first.attach_uplink(u0, "u0", XdpMode::Auto).unwrap();
        first.attach_port(p0, "p0").unwrap();
        first.attach_port(p1, "p1").unwrap();
        let before = (attached("u0"), attached("p0"));
        let old_links = links(pins);
        assert_eq!(old_links.len(), 4);
        // A process that ends without a word leaves everything attached.
        drop(first);
        assert_eq!((attached("u0"), attached("p0")), before);

        let mut second = load(pins);
        assert_eq!(
            (attached("u0"), attached("p0")),
            before,
            "loading touches nothing"
        );
        second.attach_uplink(u0, "u0", XdpMode::Auto).unwrap();
        second.attach_port(p0, "p0").unwrap();
        let after = (attached("u0"), attached("p0"));
        // Other programs on the same links: exchanged, not attached again.
        assert_eq!(links(pins), old_links);
        for (old, new) in [
            (before.0[NATIVE], after.0[NATIVE]),
            (before.0[&underlay()], after.0[&underlay()]),
            (before.1[&access()], after.1[&access()]),
        ] {
            assert_ne!(old, new);
        }
        // The port that nobody wants any more goes last.
        assert_eq!(hooks("p1"), [access()]);
        second.finish_takeover().unwrap();
        assert_eq!(hooks("p1"), Vec::<String>::new());
        assert_eq!((attached("u0"), attached("p0")), after);
        drop(second);

        // Another XDP mode, and a device that is gone meanwhile.
        run("ip link del p0");
        let mut third = load(pins);
        third.attach_uplink(u0, "u0", XdpMode::Generic).unwrap();
        assert_eq!(hooks("u0"), [&underlay(), GENERIC]);
        third.finish_takeover().unwrap();
        third.remove().unwrap();
        assert_eq!(hooks("u0"), Vec::<String>::new());
        assert!(!pins.exists(), "pins are left");
    });
}

/// Pins of an older layout: the links are of use, the maps are not.
#[test]
fn the_next_version_takes_over() {
    isolated(|pins| {
        let p0 = ifindex("p0");
        let mut first = load(pins);
        first.attach_port(p0, "p0").unwrap();
        let old_links = links(pins);
        drop(first);
        fs::rename(pins.join("v1"), pins.join("v0")).unwrap();
        let mut second = load(pins);
        second.attach_port(p0, "p0").unwrap();
        second.finish_takeover().unwrap();
        assert_eq!(links(pins), old_links);
        assert_eq!(hooks("p0"), [access()]);
        assert!(!pins.join("v0").exists());
        second.remove().unwrap();
    });
}

#[test]
fn foreign_tcx_programs_run_first() {
    isolated(|pins| {
        let p0 = ifindex("p0");
        let order = || -> Option<Vec<u32>> {
            let programs = tcx_programs("p0")?;
            Some(programs.iter().map(ProgramInfo::id).collect())
        };
        let mut other = load(&pins.join("foreign"));
        let mut dataplane = load(&pins.join("ours"));
        other.attach_port(p0, "p0").unwrap();
        let Some(foreign) = order() else {
            // Nothing else is lost without tcx: a filter has taken its place.
            assert_eq!(hooks("p0"), ["clsact/ingress access_tc"]);
            other.remove().unwrap();
            return;
        };
        dataplane.attach_port(p0, "p0").unwrap();
        let both = order().unwrap();
        assert_eq!(both.len(), 2);
        assert_eq!(both[0], foreign[0]);
        dataplane.remove().unwrap();
        assert_eq!(order(), Some(foreign));
        other.remove().unwrap();
    });
}

#[test]
fn foreign_filters_run_first() {
    isolated(|pins| {
        let mut dataplane = Dataplane::load(&LoadOptions {
            tcx: false,
            ..options(&pins.join("ours"))
        })
        .unwrap();
        let (p0, p1) = (ifindex("p0"), ifindex("p1"));
        dataplane.attach_port(p1, "p1").unwrap();
        let program = attached("p1")["clsact/ingress access_tc"];
        let pin = pins.with_file_name("foreign");
        run(&format!("bpftool prog pin id {program} {}", pin.display()));
        run("tc qdisc add dev p0 clsact");
        run(&format!(
            "tc filter add dev p0 ingress pref 10 bpf direct-action object-pinned {}",
            pin.display()
        ));
        // In the order in which they run.
        let order = || -> Vec<u64> {
            let shown: Value =
                serde_json::from_str(&run("tc -json filter show dev p0 ingress")).unwrap();
            let filters = shown.as_array().unwrap().iter();
            filters
                .filter(|filter| filter["options"]["handle"].is_string())
                .map(|filter| filter["pref"].as_u64().unwrap())
                .collect()
        };
        assert_eq!(order(), [10]);
        dataplane.attach_port(p0, "p0").unwrap();
        assert_eq!(order(), [10, 0xfffe]);
        dataplane.remove().unwrap();
        assert_eq!(order(), [10]);
    });
}

/// The way before Linux 6.6.
#[test]
fn clsact_filters() {
    isolated(|pins| {
        let (u0, p0, p1) = (ifindex("u0"), ifindex("p0"), ifindex("p1"));
        let options = LoadOptions {
            tcx: false,
            ..options(pins)
        };
        let load = |tcx| {
            Dataplane::load(&LoadOptions {
                tcx,
                ..options.clone()
            })
            .unwrap()
        };
        let mut first = load(false);
        first.attach_uplink(u0, "u0", XdpMode::Auto).unwrap();
        first.attach_port(p0, "p0").unwrap();
        first.attach_port(p1, "p1").unwrap();
        assert_eq!(hooks("u0"), ["clsact/ingress underlay_tc", NATIVE]);
        assert_eq!(hooks("p0"), ["clsact/ingress access_tc"]);
        let before = attached("p0");
        drop(first);
        assert_eq!(attached("p0"), before);

        let mut second = load(false);
        second.attach_port(p0, "p0").unwrap();
        assert_eq!(hooks("p0"), ["clsact/ingress access_tc"]);
        assert_ne!(
            attached("p0"),
            before,
            "another program, in the same filter"
        );
        second.finish_takeover().unwrap();
        assert_eq!(hooks("p1"), Vec::<String>::new());
        assert_eq!(hooks("u0"), Vec::<String>::new());
        drop(second);

        // A kernel that has tcx now.
        let mut third = load(true);
        third.attach_port(p0, "p0").unwrap();
        assert_eq!(hooks("p0"), [access()]);
        third.detach_port(p0).unwrap();
        third.remove().unwrap();
        assert!(!pins.exists(), "pins are left");
    });
}

fn bd() -> BdRef {
    BdRef {
        bd: BdId(1),
        generation: 1,
    }
}

fn fdb(n: u8) -> FdbKey {
    FdbKey::new(BdId(1), Mac([2, 0, 0, 0, 0, n]))
}

/// A bridge domain with one port.
fn intent(port: u32) -> Intent {
    let mut intent = Intent::default();
    intent.settings.set(
        0,
        Settings {
            port_be: 4789_u16.to_be(),
            ..Settings::default()
        },
    );
    intent.ports.set(
        1,
        PortEntry {
            ifindex: port,
            flags: PortFlags::ACTIVE.with(PortFlags::REDIRECT_XDP),
            bd: bd(),
            ..PortEntry::default()
        },
    );
    intent.bds.set(
        1,
        BdEntry {
            vni: 100,
            generation: 1,
            flags: BdFlags::ACTIVE
                .with(BdFlags::LEARN)
                .with(BdFlags::FLOOD_BUM),
            ..BdEntry::default()
        },
    );
    intent
        .port_index
        .set(PortKey::new(port, 0), PortRef::new(bd(), 1));
    intent.vnis.set(100, bd());
    intent
}

fn dump(pins: &Path, map: &str) -> Vec<Value> {
    let path = pins.join(format!("v1/maps/{map}"));
    serde_json::from_str(&run(&format!(
        "bpftool -j map dump pinned {}",
        path.display()
    )))
    .unwrap()
}

#[test]
fn the_reconciler_fills_the_maps() {
    isolated(|pins| {
        let p0 = ifindex("p0");
        let mut dataplane = load(pins);
        let mut reconciler = Reconciler::new();
        let mut intent = intent(p0);
        let start = Instant::now();
        intent
            .fdb
            .set(fdb(1), FdbWord::new(bd(), 1, FdbFlags::LOCAL));
        intent
            .fdb
            .set(fdb(2), FdbWord::new(bd(), 7, FdbFlags::default()));
        let outcome = reconciler.apply(&mut intent, &mut dataplane, start);
        assert_eq!((outcome.updated, outcome.pending), (7, 0), "{outcome:?}");
        assert_eq!(dump(pins, "fdb").len(), 2);
        assert_eq!(dump(pins, "vnis").len(), 1);
        assert_eq!(dump(pins, "redirect").len(), 1);

        // Only the local MAC has an age, and a MAC that moves starts anew.
        dataplane
            .tick_epoch(start + Duration::from_secs(100))
            .unwrap();
        let idle = dataplane.idle().unwrap();
        assert_eq!(idle.len(), 1);
        assert_eq!(idle[0].0, fdb(1));
        assert!((99..=100).contains(&idle[0].1.as_secs()), "{idle:?}");
        intent
            .fdb
            .set(fdb(2), FdbWord::new(bd(), 1, FdbFlags::LOCAL));
        intent.fdb.remove(fdb(1));
        reconciler.apply(&mut intent, &mut dataplane, start);
        assert_eq!(dataplane.idle().unwrap(), [(fdb(2), Duration::ZERO)]);

        // The settings keep the epoch.
        intent.settings.set(0, Settings::default());
        reconciler.apply(&mut intent, &mut dataplane, start);
        dataplane
            .tick_epoch(start + Duration::from_secs(130))
            .unwrap();
        assert_eq!(dataplane.idle().unwrap()[0].1.as_secs(), 30);

        // The device map follows the port.
        intent.ports.remove(1);
        reconciler.apply(&mut intent, &mut dataplane, start);
        assert_eq!(dump(pins, "redirect").len(), 0);
        assert!(dataplane.read_counters().unwrap().ports.is_empty());
        dataplane.remove().unwrap();
    });
}

/// Two VLANs of one device share its entry in the device map.
#[test]
fn the_device_map_counts_its_users() {
    isolated(|pins| {
        let p0 = ifindex("p0");
        let mut dataplane = load(pins);
        let mut reconciler = Reconciler::new();
        let mut intent = intent(p0);
        let now = Instant::now();
        let tagged = PortEntry {
            vlan: 10,
            ..*intent.ports.get(1).unwrap()
        };
        intent.ports.set(2, tagged);
        reconciler.apply(&mut intent, &mut dataplane, now);
        assert_eq!(dump(pins, "redirect").len(), 1);
        intent.ports.remove(1);
        reconciler.apply(&mut intent, &mut dataplane, now);
        assert_eq!(dump(pins, "redirect").len(), 1);
        let by_tc = PortEntry {
            flags: PortFlags::ACTIVE,
            ..tagged
        };
        intent.ports.set(2, by_tc);
        reconciler.apply(&mut intent, &mut dataplane, now);
        assert_eq!(dump(pins, "redirect").len(), 0);

        // A device that the map refuses is served by TC, and tried again.
        let gone = PortEntry {
            ifindex: 9999,
            ..tagged
        };
        let written = |slot: usize| dump(pins, "ports")[slot]["formatted"]["value"].clone();
        for slot in [2, 3] {
            intent.ports.set(slot, gone);
            let outcome = reconciler.apply(&mut intent, &mut dataplane, now);
            assert_eq!((outcome.failed, outcome.pending), (1, 1), "{outcome:?}");
            assert_eq!(written(slot as usize)["ifindex"], 9999);
            intent.ports.remove(slot);
            let outcome = reconciler.apply(&mut intent, &mut dataplane, now);
            assert_eq!((outcome.failed, outcome.pending), (0, 0), "{outcome:?}");
            assert_eq!(written(slot as usize)["ifindex"], 0);
        }
        dataplane.remove().unwrap();
    });
}

#[test]
fn a_full_map_is_reported_and_recovers() {
    isolated(|pins| {
        let options = LoadOptions::new(pins.to_owned(), 8);
        let mut dataplane = Dataplane::load(&options).unwrap();
        let mut reconciler = Reconciler::new();
        let mut intent = Intent::default();
        let now = Instant::now();
        for n in 0..12 {
            intent
                .fdb
                .set(fdb(n), FdbWord::new(bd(), 1, FdbFlags::LOCAL));
        }
        let outcome = reconciler.apply(&mut intent, &mut dataplane, now);
        assert_eq!((outcome.updated, outcome.pending), (8, 4));
        assert_eq!(outcome.full.into_iter().collect::<Vec<_>>(), [Map::Fdb]);
        for n in 0..4 {
            intent.fdb.remove(fdb(n));
        }
        let outcome = reconciler.apply(&mut intent, &mut dataplane, now);
        assert_eq!((outcome.pending, outcome.full.len()), (0, 0), "{outcome:?}");
        assert_eq!(dump(pins, "fdb").len(), 8);
        dataplane.remove().unwrap();
    });
}

/// Sends frames out of a device: broadcast, each from a MAC of its own.
fn storm(device: u32, frames: u16) {
    // SAFETY: creates a descriptor.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
    assert!(socket >= 0);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: device as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff; 8],
    };
    for n in 0..frames {
        let mut frame = [0_u8; 60];
        frame[..6].fill(0xff);
        frame[6] = 2;
        frame[10..12].copy_from_slice(&n.to_be_bytes());
        // Local experimental EtherType (IEEE 802).
        frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
        // SAFETY: frame and address live through the call and have the sizes given.
        let sent = unsafe {
            libc::sendto(
                socket,
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(sent, 60, "{}", std::io::Error::last_os_error());
    }
    // SAFETY: opened above, closed once.
    unsafe { libc::close(socket) };
}

#[test]
fn a_storm_of_events_comes_in_batches() {
    isolated(|pins| {
        const FRAMES: u16 = 3000;
        let p0 = ifindex("p0");
        let mut dataplane = load(pins);
        Reconciler::new().apply(&mut intent(p0), &mut dataplane, Instant::now());
        dataplane.attach_port(p0, "p0").unwrap();
        storm(ifindex("p1"), FRAMES);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut events = dataplane.events().unwrap();
            let (mut batches, mut total) = (0, 0);
            while total < FRAMES.into() {
                let batch = tokio::time::timeout(Duration::from_secs(5), events.next());
                let batch = batch.await.expect("events are missing").unwrap();
                assert!((1..=BATCH).contains(&batch.len()));
                batches += 1;
                total += batch.len();
            }
            assert!(batches >= 3);
            // Drained, but awake: what comes now is seen.
            storm(ifindex("p1"), 1);
            let batch = tokio::time::timeout(Duration::from_secs(5), events.next());
            assert!(!batch.await.expect("asleep").unwrap().is_empty());
        });
        dataplane.remove().unwrap();
    });
}

#[test]
fn events_and_counters_arrive() {
    isolated(|pins| {
        let p0 = ifindex("p0");
        let mut dataplane = load(pins);
        let mut reconciler = Reconciler::new();
        let mut intent = intent(p0);
        reconciler.apply(&mut intent, &mut dataplane, Instant::now());
        dataplane.attach_port(p0, "p0").unwrap();
        // Any frame of the VM will do: ARP for an address that nobody has.
        run("ip link set p1 address 02:00:00:00:00:11");
        run("ip address add 10.0.0.1/24 dev p1");
        let ping = ["-c", "1", "-W", "1", "10.0.0.2"];
        Command::new("ping").args(ping).output().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let events = runtime.block_on(async {
            let mut events = dataplane.events().unwrap();
            assert!(dataplane.events().is_err(), "only once");
            let batch = tokio::time::timeout(Duration::from_secs(5), events.next());
            batch.await.expect("no event").unwrap()
        });
        let vm = Mac([2, 0, 0, 0, 0, 0x11]);
        assert!(
            events
                .iter()
                .any(|event| event.kind() == Some(EventKind::Mac)
                    && (event.slot, event.bd, event.mac) == (1, bd(), vm)),
            "{events:?}"
        );
        let counters = dataplane.read_counters().unwrap();
        assert!(counters.ports[&1].rx.packets > 0);
        assert!(counters.bds.contains_key(&BdId(1)));
        // The slot's next user starts at zero.
        dataplane.detach_port(p0).unwrap();
        let port = intent.ports.remove(1).unwrap();
        reconciler.apply(&mut intent, &mut dataplane, Instant::now());
        intent.ports.set(1, port);
        reconciler.apply(&mut intent, &mut dataplane, Instant::now());
        let counters = dataplane.read_counters().unwrap();
        assert_eq!(counters.ports[&1], PortCounters::default());
        dataplane.remove().unwrap();
    });
}
