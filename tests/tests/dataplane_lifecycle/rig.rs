//! What the tests share: namespaces, devices, and a look at what is attached and pinned.

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread};

use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TcAttachType};
use serde_json::Value;
use vtep_agent::{
    dataplane::{Dataplane, LoadOptions},
    intent::Intent,
};
use vtep_common::{
    Mac,
    abi::{
        ABI_VERSION, BdEntry, BdFlags, BdId, BdRef, FdbKey, PortEntry, PortFlags, PortKey, PortRef,
        Settings,
    },
};

/// Runs `test` with a directory for pins and two veth pairs: `u0`–`u1` is the underlay, `p0`–`p1` a
/// VM port.
pub fn isolated(test: impl FnOnce(&Path) + Send + 'static) {
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

pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn ifindex(device: &str) -> u32 {
    let links: Value = serde_json::from_str(&run(&format!("ip -j link show {device}"))).unwrap();
    links[0]["ifindex"].as_u64().unwrap() as u32
}

/// What hangs on a device: kind of hook and name to program id.
pub fn attached(device: &str) -> BTreeMap<String, u64> {
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
pub fn tcx_programs(device: &str) -> Option<Vec<ProgramInfo>> {
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
pub fn tc(program: &str) -> String {
    let kind = match tcx_programs("lo") {
        Some(_) => "tcx",
        None => "clsact",
    };
    format!("{kind}/ingress {program}")
}

/// Ids of the pinned links by hook; 0 for a clsact filter, which has a directory for a mark.
pub fn links(pins: &Path) -> BTreeMap<String, u64> {
    fs::read_dir(pins.join(format!("v{ABI_VERSION}/links")))
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

pub fn hooks(device: &str) -> Vec<String> {
    attached(device).into_keys().collect()
}

pub fn load(pins: &Path) -> Dataplane {
    Dataplane::load(&options(pins)).unwrap_or_else(|error| panic!("{error}"))
}

pub fn options(pins: &Path) -> LoadOptions {
    LoadOptions::new(pins.to_owned(), 1024)
}

/// The TC half of an uplink.
pub fn underlay() -> String {
    tc("underlay_tc")
}

/// The program of a port.
pub fn access() -> String {
    tc("access_tc")
}

pub const NATIVE: &str = "xdp driver";

pub const GENERIC: &str = "xdp generic";

pub fn bd() -> BdRef {
    BdRef {
        bd: BdId(1),
        generation: 1,
    }
}

pub fn fdb(n: u8) -> FdbKey {
    FdbKey::new(BdId(1), Mac([2, 0, 0, 0, 0, n]))
}

/// A bridge domain with one port.
pub fn intent(port: u32) -> Intent {
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

pub fn dump(pins: &Path, map: &str) -> Vec<Value> {
    let path = pins.join(format!("v{ABI_VERSION}/maps/{map}"));
    serde_json::from_str(&run(&format!(
        "bpftool -j map dump pinned {}",
        path.display()
    )))
    .unwrap()
}
