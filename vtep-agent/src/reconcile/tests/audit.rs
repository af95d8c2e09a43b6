//! Maps that somebody else has written to.

use super::*;

/// A reconciler that has written some entries of two hash tables and two arrays.
fn written() -> (Reconciler, Fake, Intent, Instant) {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let mut intent = Intent::default();
    let now = Instant::now();
    for n in 1..=7 {
        intent.fdb.set(fdb(n), word(1));
        intent.sources.set(SourceKey(n.into()), 1);
    }
    for n in 1..=5 {
        properties::set(&mut intent, Key::Groups(n), 1);
        properties::set(&mut intent, Key::Ports(n), 7);
    }
    reconciler.apply(&mut intent, &mut fake, now);
    fake.log.clear();
    (reconciler, fake, intent, now)
}

/// Calls until an audit is complete.
fn audit(reconciler: &mut Reconciler, fake: &Fake, now: Instant) {
    let before = reconciler.audits();
    for _ in 0..100 {
        reconciler.audit(fake, now);
        if reconciler.audits() > before {
            return;
        }
    }
    panic!("it does not end");
}

fn differences(reconciler: &Reconciler) -> Vec<(Map, u64)> {
    let found = reconciler.differences();
    found.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn maps_as_they_were_written_have_no_difference() {
    let (mut reconciler, mut fake, mut intent, now) = written();
    audit(&mut reconciler, &fake, now);
    assert_eq!(differences(&reconciler), []);
    assert_eq!(reconciler.deadline(), None);
    reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(fake.log, []);
}

/// Changed, lost and foreign entries of hash tables and arrays are counted, said once, and made good by
/// exactly the operations that are needed.
#[test]
fn damage_is_counted_and_made_good() {
    let (mut reconciler, mut fake, mut intent, now) = written();
    let intact = fake.entries.clone();
    fake.entries
        .insert(Key::Fdb(fdb(2)), Entry::Fdb(fdb(2), word(9)));
    fake.entries.remove(&Key::Fdb(fdb(3)));
    fake.entries
        .insert(Key::Fdb(fdb(99)), Entry::Fdb(fdb(99), word(1)));
    fake.entries.remove(&Key::Sources(SourceKey(7)));
    fake.entries.remove(&Key::Groups(5));
    let foreign = PortEntry {
        ifindex: 1,
        ..PortEntry::default()
    };
    fake.entries.insert(Key::Ports(0), Entry::Ports(0, foreign));
    let text = logged(|| audit(&mut reconciler, &fake, now));
    for map in ["groups", "ports", "fdb", "sources"] {
        assert!(text.contains(&format!("\"{map}\"")), "{text}");
    }
    let expected = [
        (Map::Groups, 1),
        (Map::Ports, 1),
        (Map::Fdb, 3),
        (Map::Sources, 1),
    ];
    assert_eq!(differences(&reconciler), expected);
    assert_eq!(reconciler.deadline(), Some(now), "at once");

    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(
        (outcome.updated, outcome.deleted, outcome.pending),
        (4, 2, 0)
    );
    assert_eq!(fake.entries, intact);
    // Not found again.
    audit(&mut reconciler, &fake, now + AUDIT_EVERY);
    assert_eq!(differences(&reconciler), expected);
    assert_eq!(reconciler.deadline(), None);
}

/// A turn is bounded, and the next audit waits for its time.
#[test]
fn in_parts_and_not_all_the_time() {
    let (mut reconciler, fake, _, now) = written();
    let mut turns = 0;
    while reconciler.audits() == 0 {
        reconciler.audit(&fake, now);
        turns += 1;
    }
    // Maps in parts, so many in a turn; the last one sees that it is over.
    assert_eq!(turns, (14 * (BUCKETS / PART) + 1).div_ceil(8));
    for _ in 0..10 {
        reconciler.audit(&fake, now + AUDIT_EVERY - Duration::from_millis(1));
    }
    assert_eq!(reconciler.audits(), 1);
    audit(&mut reconciler, &fake, now + AUDIT_EVERY);
}

/// What is known not to be as wanted is no difference.
#[test]
fn a_write_that_failed_is_no_difference() {
    let (mut reconciler, mut fake, mut intent, now) = written();
    let key = Key::Fdb(fdb(1));
    fake.broken.insert(key);
    intent.fdb.set(fdb(1), word(2));
    intent.fdb.remove(fdb(2));
    fake.broken.insert(Key::Fdb(fdb(2)));
    assert_eq!(reconciler.apply(&mut intent, &mut fake, now).failed, 2);
    audit(&mut reconciler, &fake, now);
    assert_eq!(differences(&reconciler), []);
    fake.broken.clear();
    let later = now + RETRY_MAX;
    assert_eq!(reconciler.apply(&mut intent, &mut fake, later).pending, 0);
    audit(&mut reconciler, &fake, later);
    assert_eq!(differences(&reconciler), []);
}
