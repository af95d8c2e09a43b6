//! What an earlier run left is taken over.

use std::{fs, time::Instant};

use vtep_agent::{
    config::XdpMode,
    dataplane::{Dataplane, Inheritance, LoadOptions},
    reconcile::{Outcome, Reconciler},
};
use vtep_common::abi::{ABI_VERSION, FdbFlags, FdbWord};

use super::rig::*;

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

/// The maps are those of the run before, content, stamps and counters included: there is nothing to
/// write.
#[test]
fn maps_of_the_same_layout_are_taken_over() {
    isolated(|pins| {
        let p0 = ifindex("p0");
        let now = Instant::now();
        let mut first = load(pins);
        assert_eq!(first.inheritance(), Inheritance::Nothing);
        let mut wanted = intent(p0);
        wanted
            .fdb
            .set(fdb(1), FdbWord::new(bd(), 1, FdbFlags::LOCAL));
        Reconciler::new().apply(&mut wanted, &mut first, now);
        first.attach_port(p0, "p0").unwrap();
        first
            .tick_epoch(now + std::time::Duration::from_secs(40))
            .unwrap();
        drop(first);

        let mut second = load(pins);
        assert_eq!(second.inheritance(), Inheritance::Maps);
        let mut installed = second.take_installed();
        assert!((39..=40).contains(&installed.idle[&fdb(1)].as_secs()));
        let mut reconciler = Reconciler::new();
        reconciler.adopt(&mut installed.tables);
        let outcome = reconciler.apply(&mut wanted, &mut second, now);
        assert_eq!(outcome, Outcome::default());
        // The clock of the stamps goes on.
        assert!((39..=40).contains(&second.idle().unwrap()[0].1.as_secs()));
        assert_eq!(second.read_counters().unwrap().ports.len(), 1);
        drop(second);

        // Another size: new maps beside the old ones, until they take their places.
        let mut third = Dataplane::load(&LoadOptions::new(pins.to_owned(), 2048)).unwrap();
        assert_eq!(third.inheritance(), Inheritance::Content);
        assert!(pins.join(format!("v{ABI_VERSION}/next/fdb")).exists());
        assert_eq!(dump(pins, "fdb").len(), 1, "the old one is in use");
        assert_eq!(third.take_installed().tables.fdb.len(), 1);
        third.attach_port(p0, "p0").unwrap();
        third.finish_takeover().unwrap();
        assert!(!pins.join(format!("v{ABI_VERSION}/next")).exists());
        assert_eq!(dump(pins, "fdb").len(), 0);
        third.remove().unwrap();
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
        fs::rename(pins.join(format!("v{ABI_VERSION}")), pins.join("v0")).unwrap();
        let mut second = load(pins);
        second.attach_port(p0, "p0").unwrap();
        second.finish_takeover().unwrap();
        assert_eq!(links(pins), old_links);
        assert_eq!(hooks("p0"), [access()]);
        assert!(!pins.join("v0").exists());
        second.remove().unwrap();
    });
}
