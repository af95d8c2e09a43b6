//! Programs and filters of others.

use aya::programs::ProgramInfo;
use serde_json::Value;
use vtep_agent::{
    config::XdpMode,
    dataplane::{AttachedMode, Dataplane, LoadOptions},
};

use super::rig::*;

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
