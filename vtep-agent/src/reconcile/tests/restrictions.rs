//! What a port may not send, while that changes: nothing is dropped that is allowed before and after.

use super::*;

const SLOT: u32 = 3;

/// The last declared endpoint of a port goes: there is no moment in which the port is judged and nothing
/// is allowed.
#[test]
fn a_port_is_free_before_its_guards_go() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let (mut intent, now) = (Intent::default(), Instant::now());
    let guard = GuardKey::of_mac(SLOT, Mac([2; 6]));
    intent.ports.set(SLOT, entry(PortFlags::GUARDED));
    intent.guards.set(guard, GuardEntry::default());
    reconciler.apply(&mut intent, &mut fake, now);
    let (update, delete) = (Op::Update, Op::Delete);
    assert_eq!(
        fake.log,
        [update(Key::Guards(guard)), update(Key::Ports(SLOT))]
    );
    fake.log.clear();
    intent.ports.set(SLOT, entry(PortFlags::default()));
    intent.guards.remove(guard);
    reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(
        fake.log,
        [update(Key::Ports(SLOT)), delete(Key::Guards(guard))]
    );
    // And the first one comes.
    fake.log.clear();
    intent.ports.set(SLOT, entry(PortFlags::GUARDED));
    intent.guards.set(guard, GuardEntry::default());
    reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(
        fake.log,
        [update(Key::Guards(guard)), update(Key::Ports(SLOT))]
    );
}

/// A MAC leaves a full port, and may be new there with its next frame: there is room before the FDB does
/// not know it any more. The MAC that fills the port is in the FDB before others are refused.
#[test]
fn a_port_has_room_before_a_mac_goes_and_is_full_after_one_came() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let (mut intent, now) = (Intent::default(), Instant::now());
    intent.ports.set(SLOT, entry(PortFlags::ACTIVE));
    reconciler.apply(&mut intent, &mut fake, now);
    let (update, delete) = (Op::Update, Op::Delete);
    let full = PortFlags::ACTIVE.with(PortFlags::MAC_LIMIT);
    fake.log.clear();
    intent.ports.set(SLOT, entry(full));
    intent.fdb.set(fdb(1), word(SLOT));
    reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(
        fake.log,
        [update(Key::Fdb(fdb(1))), update(Key::Ports(SLOT))]
    );
    fake.log.clear();
    intent.ports.set(SLOT, entry(PortFlags::ACTIVE));
    intent.fdb.remove(fdb(1));
    reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(
        fake.log,
        [update(Key::Ports(SLOT)), delete(Key::Fdb(fdb(1)))]
    );
}

/// One restriction goes and another comes: the entry is written twice.
#[test]
fn what_eases_and_restricts_does_one_after_the_other() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let (mut intent, now) = (Intent::default(), Instant::now());
    let guard = GuardKey::of_mac(SLOT, Mac([2; 6]));
    intent.ports.set(SLOT, entry(PortFlags::MAC_LIMIT));
    reconciler.apply(&mut intent, &mut fake, now);
    fake.log.clear();
    intent.ports.set(SLOT, entry(PortFlags::GUARDED));
    intent.guards.set(guard, GuardEntry::default());
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!((outcome.updated, outcome.pending), (3, 0));
    let ports = Op::Update(Key::Ports(SLOT));
    assert_eq!(fake.log, [ports, Op::Update(Key::Guards(guard)), ports]);
    let written = fake.entries[&Key::Ports(SLOT)];
    assert_eq!(written, Entry::Ports(SLOT, entry(PortFlags::GUARDED)));
}

/// In another bridge domain the port is another one: what was allowed there is not here.
#[test]
fn a_port_that_moves_is_restricted_at_once() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let (mut intent, now) = (Intent::default(), Instant::now());
    let guard = GuardKey::of_mac(SLOT, Mac([2; 6]));
    intent.ports.set(SLOT, entry(PortFlags::ACTIVE));
    reconciler.apply(&mut intent, &mut fake, now);
    fake.log.clear();
    let moved = PortEntry {
        bd: bd(),
        ..entry(PortFlags::GUARDED)
    };
    intent.ports.set(SLOT, moved);
    intent.guards.set(guard, GuardEntry::default());
    reconciler.apply(&mut intent, &mut fake, now);
    let (guards, ports) = (Op::Update(Key::Guards(guard)), Op::Update(Key::Ports(SLOT)));
    assert_eq!(fake.log, [guards, ports]);
}

/// A refused write is tried again as a whole.
#[test]
fn a_restriction_outlives_a_refusal() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let (mut intent, mut now) = (Intent::default(), Instant::now());
    intent.ports.set(SLOT, entry(PortFlags::MAC_LIMIT));
    reconciler.apply(&mut intent, &mut fake, now);
    fake.broken.insert(Key::Ports(SLOT));
    intent.ports.set(SLOT, entry(PortFlags::GUARDED));
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!((outcome.failed, outcome.pending), (1, 1));
    fake.broken.clear();
    now += RETRY_MAX;
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!((outcome.failed, outcome.pending), (0, 0));
    let written = fake.entries[&Key::Ports(SLOT)];
    assert_eq!(written, Entry::Ports(SLOT, entry(PortFlags::GUARDED)));
}

fn entry(flags: PortFlags) -> PortEntry {
    PortEntry {
        ifindex: 11,
        flags,
        ..PortEntry::default()
    }
}
