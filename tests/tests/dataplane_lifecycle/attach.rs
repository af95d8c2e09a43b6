//! Attaching and detaching.

use vtep_agent::{
    config::XdpMode,
    dataplane::{AttachedMode, Dataplane, LoadOptions},
};

use super::rig::*;

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
