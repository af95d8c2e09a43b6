//! What the reconciler writes into the maps.

use std::time::{Duration, Instant};

use vtep_agent::{
    dataplane::{Dataplane, LoadOptions},
    intent::Intent,
    reconcile::{Map, Reconciler},
};
use vtep_common::abi::{
    BdId, BdRef, FdbFlags, FdbWord, PortEntry, PortFlags, PortKey, PortRef, Settings, SourceKey,
};

use super::rig::*;

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

/// What changes, whether programs must be told, and how it is done.
type Change<'a> = (&'a str, bool, &'a dyn Fn(&mut Intent));

/// Programs are told of every change that makes wrong what they may remember, and of no other.
#[test]
fn programs_are_told_what_to_forget() {
    isolated(|pins| {
        let (start, p0) = (Instant::now(), ifindex("p0"));
        let revision = || {
            let settings = &dump(pins, "settings")[0];
            let found = settings["formatted"]["value"]["revision"].as_u64();
            found.unwrap_or_else(|| panic!("no revision in {settings}"))
        };
        let (local, remote) = (
            FdbWord::new(bd(), 1, FdbFlags::LOCAL),
            FdbWord::new(bd(), 7, FdbFlags::default()),
        );
        let source = SourceKey::from_parts(BdId(0), 7);
        let mut dataplane = load(pins);
        let mut reconciler = Reconciler::new();
        let mut intent = intent(p0);
        reconciler.apply(&mut intent, &mut dataplane, start);
        let mut before = revision();
        assert_ne!(before, 0);
        let changes: [Change<'_>; 12] = [
            ("a new VTEP", false, &|intent| intent.sources.set(source, 1)),
            ("one that is gone", true, &|intent| {
                _ = intent.sources.remove(source)
            }),
            ("a new MAC of ours", false, &|intent| {
                intent.fdb.set(fdb(1), local)
            }),
            ("one elsewhere", false, &|intent| {
                intent.fdb.set(fdb(2), remote)
            }),
            ("that moves here", false, &|intent| {
                intent.fdb.set(fdb(2), local)
            }),
            ("and back", true, &|intent| intent.fdb.set(fdb(2), remote)),
            ("and is gone", false, &|intent| {
                _ = intent.fdb.remove(fdb(2))
            }),
            ("ours is gone", true, &|intent| {
                _ = intent.fdb.remove(fdb(1))
            }),
            ("a new port", true, &|intent| {
                let port = PortRef::new(bd(), 2);
                intent.port_index.set(PortKey::new(p0, 7), port);
            }),
            ("that is gone", true, &|intent| {
                _ = intent.port_index.remove(PortKey::new(p0, 7));
            }),
            ("another bridge domain", true, &|intent| {
                intent.vnis.set(
                    100,
                    BdRef {
                        bd: BdId(2),
                        generation: 1,
                    },
                );
            }),
            ("other settings", true, &|intent| {
                intent.settings.set(
                    0,
                    Settings {
                        port_be: 1,
                        ..Settings::default()
                    },
                );
            }),
        ];
        for (what, told, change) in changes {
            change(&mut intent);
            let outcome = reconciler.apply(&mut intent, &mut dataplane, start);
            assert_eq!(
                (outcome.updated + outcome.deleted, outcome.pending),
                (1, 0),
                "{what}"
            );
            assert_eq!(revision() != before, told, "{what}");
            before = revision();
        }
        dataplane
            .tick_epoch(start + Duration::from_secs(9))
            .unwrap();
        assert_eq!(revision(), before, "the clock");

        // A run that has ended may have had no time to tell.
        dataplane.attach_port(p0, "p0").unwrap();
        drop(dataplane);
        let mut second = load(pins);
        second.tick_epoch(start + Duration::from_secs(10)).unwrap();
        assert_eq!(revision(), before + 1);
    });
}
