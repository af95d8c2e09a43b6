//! Random histories.

use proptest::{collection::vec, prelude::*};

use super::*;

/// A step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8, u32),
    Remove(u8, u8),
    Break(u8, u8),
    Mend,
    Apply(u16),
    /// A turn of the audit.
    Audit,
    /// Somebody else removes an entry.
    Lose(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let table = 0..5_u8;
    let key = 0..6_u8;
    prop_oneof![
        4 => (table.clone(), key.clone(), 1..4_u32).prop_map(|(t, k, v)| Step::Set(t, k, v)),
        3 => (table.clone(), key.clone()).prop_map(|(t, k)| Step::Remove(t, k)),
        1 => (table, key).prop_map(|(t, k)| Step::Break(t, k)),
        1 => Just(Step::Mend),
        2 => any::<u16>().prop_map(Step::Apply),
        3 => Just(Step::Audit),
        1 => (0..5_u8, 0..6_u8).prop_map(|(t, k)| Step::Lose(t, k)),
    ]
}

/// Two arrays and three hash tables.
fn key(table: u8, key: u8) -> Key {
    match table {
        0 => Key::Groups(key.into()),
        1 => Key::Ports(key.into()),
        2 => Key::Fdb(fdb(key)),
        3 => Key::Vnis(key.into()),
        _ => Key::Sources(SourceKey(key.into())),
    }
}

pub(super) fn set(intent: &mut Intent, key: Key, value: u32) {
    match key {
        Key::Groups(key) => {
            intent.groups.set(
                key,
                NhGroup {
                    count: value as u16,
                    ..NhGroup::default()
                },
            );
        }
        Key::Ports(key) => {
            intent.ports.set(
                key,
                PortEntry {
                    ifindex: value,
                    ..PortEntry::default()
                },
            );
        }
        Key::Fdb(key) => intent.fdb.set(key, word(value)),
        Key::Vnis(key) => intent.vnis.set(key, BdRef::from_bits(value)),
        Key::Sources(key) => intent.sources.set(key, value),
        _ => unreachable!(),
    }
}

fn remove(intent: &mut Intent, key: Key) {
    match key {
        Key::Groups(key) => drop(intent.groups.remove(key)),
        Key::Ports(key) => drop(intent.ports.remove(key)),
        Key::Fdb(key) => drop(intent.fdb.remove(key)),
        Key::Vnis(key) => drop(intent.vnis.remove(key)),
        Key::Sources(key) => drop(intent.sources.remove(key)),
        _ => unreachable!(),
    }
}

fn wanted(intent: &Intent) -> HashMap<Key, Entry> {
    let groups = intent.groups.iter().map(|(k, v)| Entry::Groups(k, *v));
    let ports = intent.ports.iter().map(|(k, v)| Entry::Ports(k, *v));
    let fdb = intent.fdb.iter().map(|(k, v)| Entry::Fdb(k, *v));
    let vnis = intent.vnis.iter().map(|(k, v)| Entry::Vnis(k, *v));
    let sources = intent.sources.iter().map(|(k, v)| Entry::Sources(k, *v));
    groups
        .chain(ports)
        .chain(fdb)
        .chain(vnis)
        .chain(sources)
        .map(|entry| (entry.key(), entry))
        .collect()
}

/// Once nothing fails any more and nobody else writes: the tables are the intent, nothing is pending,
/// and the number of rounds is bounded. How many differences audits have found until then.
fn settle(steps: Vec<Step>, limit: Option<usize>, damage: bool) -> Result<u64, TestCaseError> {
    let mut intent = Intent::default();
    let mut reconciler = Reconciler::new();
    let mut fake = Fake {
        limit,
        ..Fake::default()
    };
    let mut now = Instant::now();
    for step in steps {
        match step {
            Step::Set(t, k, value) => set(&mut intent, key(t, k), value),
            Step::Remove(t, k) => remove(&mut intent, key(t, k)),
            Step::Break(t, k) => drop(fake.broken.insert(key(t, k))),
            Step::Mend => fake.broken.clear(),
            Step::Lose(t, k) if damage => drop(fake.entries.remove(&key(t, k))),
            Step::Lose(..) => {}
            Step::Audit => reconciler.audit(&fake, now),
            Step::Apply(milliseconds) => {
                now += Duration::from_millis(milliseconds.into());
                let outcome = reconciler.apply(&mut intent, &mut fake, now);
                prop_assert_eq!(outcome.pending == 0, reconciler.deadline().is_none());
            }
        }
    }
    fake.broken.clear();
    fake.limit = None;
    if damage {
        // One that goes on, and one that sees everything.
        let before = reconciler.audits();
        while reconciler.audits() < before + 2 {
            now += AUDIT_EVERY;
            reconciler.audit(&fake, now);
        }
    }
    reconciler.apply(&mut intent, &mut fake, now);
    if let Some(due) = reconciler.deadline() {
        prop_assert!(due <= now + RETRY_MAX);
        now += RETRY_MAX;
        reconciler.apply(&mut intent, &mut fake, now);
    }
    prop_assert_eq!(reconciler.deadline(), None);
    prop_assert_eq!(&fake.entries, &wanted(&intent));
    let entries: usize = reconciler.entries().map(|(_, entries)| entries).sum();
    prop_assert_eq!(entries, fake.entries.len());
    Ok(reconciler.differences().map(|(_, count)| count).sum())
}

proptest! {
    /// Whatever changed and failed on the way; and no audit between any two steps took a write of the
    /// reconciler's own for somebody else's.
    #[test]
    fn converges(steps in vec(step(), 0..120), limit in prop::option::of(1..6_usize)) {
        prop_assert_eq!(settle(steps, limit, false)?, 0);
    }

    /// Whatever somebody else removed.
    #[test]
    fn heals(steps in vec(step(), 0..120), limit in prop::option::of(1..6_usize)) {
        settle(steps, limit, true)?;
    }
}
