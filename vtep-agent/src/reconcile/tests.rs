mod audit;
mod properties;
mod restrictions;

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    sync::{Arc, Mutex},
};

use vtep_common::{
    Mac,
    abi::{
        AddressEntry, AddressKey, ArpKey, BdEntry, BdId, BdRef, EndpointEntry, EndpointKey,
        FdbFlags, FdbKey, FdbWord, FloodMember, GuardEntry, GuardFlags, GuardKey, NeighborEntry,
        NeighborFlags, NhGroup, PortEntry, PortFlags, PortKey, PortRef, Settings, SourceKey,
        VtepEntry,
    },
};

use super::*;

/// Maps that remember what was done to them and fail on request.
#[derive(Default)]
struct Fake {
    entries: HashMap<Key, Entry>,
    log: Vec<Op>,
    /// Refuses every operation on these keys; every other one takes effect nevertheless.
    broken: HashSet<Key>,
    refused: u32,
    /// Capacity of hash tables; none: no limit.
    limit: Option<usize>,
}

/// As in the kernel, an entry keeps its place whatever else comes and goes.
const BUCKETS: u64 = 16;
/// Buckets of one part.
const PART: u64 = 4;
/// Indices that each array has.
const INDICES: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Update(Key),
    Delete(Key),
}

impl Fake {
    /// Whether the operation takes effect, and what is said of it.
    fn judge(&mut self, op: Op, key: Key) -> (bool, Result<(), TableError>) {
        self.log.push(op);
        if !self.broken.contains(&key) {
            return (true, Ok(()));
        }
        self.refused += 1;
        let error = io::Error::from_raw_os_error(libc::ENOMEM);
        (self.refused.is_multiple_of(2), Err(error.into()))
    }

    /// An entry of an array.
    fn at(&self, key: Key, zero: Entry) -> Entry {
        self.entries.get(&key).copied().unwrap_or(zero)
    }

    fn maps(&mut self) -> Vec<(bool, Map)> {
        self.log
            .drain(..)
            .map(|op| match op {
                Op::Update(key) => (true, key.map()),
                Op::Delete(key) => (false, key.map()),
            })
            .collect()
    }
}

impl Tables for Fake {
    fn update(&mut self, entry: Entry) -> Result<(), TableError> {
        let key = entry.key();
        let (done, said) = self.judge(Op::Update(key), key);
        let full = self.limit.is_some_and(|limit| {
            let there = self.entries.keys().filter(|other| other.map() == key.map());
            there.count() >= limit
        });
        if full && !key.map().is_array() && !self.entries.contains_key(&key) {
            return Err(TableError::Full);
        }
        if done {
            self.entries.insert(key, entry);
        }
        said
    }

    fn delete(&mut self, key: Key) -> Result<(), TableError> {
        let (done, said) = self.judge(Op::Delete(key), key);
        if done {
            self.entries.remove(&key);
        }
        said
    }

    fn capacity(&self, _map: Map) -> u32 {
        self.limit.map_or(u32::MAX, |limit| limit as u32)
    }
}

impl Contents for Fake {
    fn read(
        &self,
        map: Map,
        from: Option<Position>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Option<Position>, TableError> {
        let mut entries: Vec<_> = match map {
            Map::Groups => indices(|n| self.at(Key::Groups(n), Entry::Groups(n, default()))),
            Map::Ports => indices(|n| self.at(Key::Ports(n), Entry::Ports(n, default()))),
            _ => self.entries.values().copied().collect(),
        };
        let start = from.map_or(0, u64::from_ne_bytes);
        let next = start + PART;
        entries.retain(|entry| {
            let mut hasher = DefaultHasher::new();
            entry.key().hash(&mut hasher);
            entry.map() == map && (start..next).contains(&(hasher.finish() % BUCKETS))
        });
        entries.into_iter().for_each(each);
        Ok((next < BUCKETS).then_some(next.to_ne_bytes()))
    }
}

fn default<V: Default>() -> V {
    V::default()
}

fn indices(entry: impl Fn(u32) -> Entry) -> Vec<Entry> {
    (0..INDICES).map(entry).collect()
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

fn word(target: u32) -> FdbWord {
    FdbWord::new(bd(), target, FdbFlags::default())
}

/// One entry in every table.
fn everything() -> Intent {
    let mut intent = Intent::default();
    let neighbor = NeighborEntry::new(BdId(1), Mac([2; 6]), NeighborFlags::default());
    intent.vnis.set(100, bd());
    intent
        .endpoints
        .set(EndpointKey::new(100, Mac([2; 6])), EndpointEntry::default());
    let address = AddressKey::new(100, std::net::Ipv4Addr::LOCALHOST.into());
    intent.addresses.set(address, AddressEntry::default());
    intent
        .port_index
        .set(PortKey::new(7, 0), PortRef::new(bd(), 1));
    intent.sources.set(SourceKey(1), 1);
    intent.guards.set(
        GuardKey::of_mac(1, Mac([2; 6])),
        GuardEntry::new(1, Mac([2; 6]), GuardFlags::default()),
    );
    intent.arp.set(ArpKey(1), neighbor);
    intent.nd.set(
        vtep_common::abi::NdKey::new(BdId(1), std::net::Ipv6Addr::LOCALHOST),
        neighbor,
    );
    intent.fdb.set(fdb(1), word(1));
    intent.bds.set(
        1,
        BdEntry {
            vni: 100,
            ..BdEntry::default()
        },
    );
    intent.flood.set(
        0,
        FloodMember {
            target: 1,
            ..FloodMember::default()
        },
    );
    intent.ports.set(
        1,
        PortEntry {
            ifindex: 7,
            ..PortEntry::default()
        },
    );
    intent.groups.set(
        1,
        NhGroup {
            count: 1,
            ..NhGroup::default()
        },
    );
    intent.vteps.set(
        1,
        VtepEntry {
            count: 1,
            ..VtepEntry::default()
        },
    );
    intent.settings.set(
        0,
        Settings {
            port_be: 1,
            ..Settings::default()
        },
    );
    intent
}

#[test]
fn pointed_at_is_written_first_and_removed_last() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let mut intent = everything();
    let now = Instant::now();
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!((outcome.updated, outcome.pending), (15, 0));
    let mut expected = vec![
        Map::Settings,
        Map::Vteps,
        Map::Groups,
        Map::Guards,
        Map::Ports,
        Map::Flood,
        Map::Bds,
        Map::Endpoints,
        Map::Addresses,
        Map::Fdb,
        Map::Arp,
        Map::Nd,
        Map::Sources,
        Map::PortIndex,
        Map::Vnis,
    ];
    let written: Vec<_> = expected.iter().map(|&map| (true, map)).collect();
    assert_eq!(fake.maps(), written);

    for key in fake.entries.keys() {
        match *key {
            Key::Settings(key) => intent.settings.remove(key).map(drop),
            Key::Vteps(key) => intent.vteps.remove(key).map(drop),
            Key::Groups(key) => intent.groups.remove(key).map(drop),
            Key::Ports(key) => intent.ports.remove(key).map(drop),
            Key::Flood(key) => intent.flood.remove(key).map(drop),
            Key::Bds(key) => intent.bds.remove(key).map(drop),
            Key::Fdb(key) => intent.fdb.remove(key).map(drop),
            Key::Arp(key) => intent.arp.remove(key).map(drop),
            Key::Nd(key) => intent.nd.remove(key).map(drop),
            Key::Sources(key) => intent.sources.remove(key).map(drop),
            Key::Guards(key) => intent.guards.remove(key).map(drop),
            Key::PortIndex(key) => intent.port_index.remove(key).map(drop),
            Key::Vnis(key) => intent.vnis.remove(key).map(drop),
            Key::Endpoints(key) => intent.endpoints.remove(key).map(drop),
            Key::Addresses(key) => intent.addresses.remove(key).map(drop),
        };
    }
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!((outcome.deleted, outcome.pending), (15, 0));
    expected.reverse();
    // Hash tables make room first.
    expected.sort_by_key(|map| goes_last(*map));
    let deleted: Vec<_> = expected.iter().map(|&map| (false, map)).collect();
    assert_eq!(fake.maps(), deleted);
    assert!(fake.entries.is_empty());
}

#[test]
fn hash_tables_shrink_before_anything_is_written() {
    let (mut reconciler, mut fake) = (
        Reconciler::new(),
        Fake {
            limit: Some(1),
            ..Fake::default()
        },
    );
    let mut intent = Intent::default();
    let now = Instant::now();
    intent.fdb.set(fdb(1), word(1));
    reconciler.apply(&mut intent, &mut fake, now);
    intent.fdb.remove(fdb(1));
    intent.fdb.set(fdb(2), word(1));
    intent.groups.set(1, NhGroup::default());
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!((outcome.failed, outcome.pending), (0, 0));
    assert_eq!(
        fake.log[1..],
        [
            Op::Delete(Key::Fdb(fdb(1))),
            Op::Update(Key::Groups(1)),
            Op::Update(Key::Fdb(fdb(2)))
        ]
    );
}

#[test]
fn only_differences_are_written() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let mut intent = everything();
    let now = Instant::now();
    reconciler.apply(&mut intent, &mut fake, now);
    fake.log.clear();
    // Touched and back again, and set and removed between two rounds: nothing to do.
    intent.fdb.set(fdb(1), word(9));
    intent.fdb.set(fdb(1), word(1));
    intent.fdb.set(fdb(2), word(1));
    intent.fdb.remove(fdb(2));
    assert_eq!(
        reconciler.apply(&mut intent, &mut fake, now),
        Outcome::default()
    );
    assert_eq!(fake.log, []);
    assert_eq!(reconciler.deadline(), None);
}

/// What an earlier run has left and is wanted as it is costs no operation; the rest goes in the usual
/// order.
#[test]
fn what_is_adopted_is_not_written_again() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let now = Instant::now();
    let mut installed = everything();
    installed.fdb.set(fdb(2), word(1));
    installed.fdb.set(fdb(3), word(1));
    reconciler.apply(&mut installed.clone(), &mut fake, now);
    fake.log.clear();

    let mut reconciler = Reconciler::new();
    reconciler.adopt(&mut installed);
    let mut intent = everything();
    intent.fdb.set(fdb(3), word(7));
    intent.fdb.set(fdb(4), word(1));
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(
        (outcome.updated, outcome.deleted, outcome.pending),
        (2, 1, 0)
    );
    assert_eq!(fake.log[0], Op::Delete(Key::Fdb(fdb(2))));
    let entries: HashMap<_, _> = reconciler.entries().collect();
    assert_eq!(entries[&Map::Fdb], 3);
    assert_eq!(
        reconciler.apply(&mut intent, &mut fake, now),
        Outcome::default()
    );
}

#[test]
fn failures_are_retried_with_backoff() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let mut intent = Intent::default();
    let start = Instant::now();
    let key = Key::Fdb(fdb(1));
    fake.broken.insert(key);
    intent.fdb.set(fdb(1), word(1));
    intent.fdb.set(fdb(2), word(1));
    let outcome = reconciler.apply(&mut intent, &mut fake, start);
    assert_eq!(
        (outcome.updated, outcome.failed, outcome.pending),
        (1, 1, 1)
    );
    assert!(outcome.full.is_empty());
    fake.log.clear();

    let mut now = start;
    let mut delays = Vec::new();
    for _ in 0..11 {
        let due = reconciler.deadline().unwrap();
        // Not before it is due.
        reconciler.apply(&mut intent, &mut fake, due - Duration::from_millis(1));
        assert_eq!(fake.log, []);
        delays.push((due - now).as_millis());
        now = due;
        reconciler.apply(&mut intent, &mut fake, now);
        assert_eq!(std::mem::take(&mut fake.log), [Op::Update(key)]);
    }
    assert_eq!(
        delays,
        [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000
        ]
    );

    fake.broken.clear();
    let due = reconciler.deadline().unwrap();
    let outcome = reconciler.apply(&mut intent, &mut fake, due);
    assert_eq!((outcome.updated, outcome.pending), (1, 0));
    assert_eq!(reconciler.deadline(), None);
    assert_eq!(reconciler.totals().errors, 12);
}

/// A refused operation may have taken effect: what is wanted then is done, whatever was there.
#[test]
fn after_a_refusal_nothing_is_taken_for_granted() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let mut intent = Intent::default();
    let now = Instant::now();
    let key = Key::Fdb(fdb(1));
    // Refused, written nevertheless, and unwanted before the retry.
    fake.refused = 1;
    fake.broken.insert(key);
    intent.fdb.set(fdb(1), word(1));
    assert_eq!(reconciler.apply(&mut intent, &mut fake, now).failed, 1);
    assert!(fake.entries.contains_key(&key));
    fake.broken.clear();
    intent.fdb.remove(fdb(1));
    assert_eq!(reconciler.apply(&mut intent, &mut fake, now).deleted, 1);
    assert!(fake.entries.is_empty());
    // The other way round.
    intent.fdb.set(fdb(1), word(1));
    reconciler.apply(&mut intent, &mut fake, now);
    fake.refused = 1;
    fake.broken.insert(key);
    intent.fdb.remove(fdb(1));
    assert_eq!(reconciler.apply(&mut intent, &mut fake, now).failed, 1);
    assert!(fake.entries.is_empty());
    fake.broken.clear();
    intent.fdb.set(fdb(1), word(1));
    assert_eq!(reconciler.apply(&mut intent, &mut fake, now).updated, 1);
    assert!(fake.entries.contains_key(&key));
}

#[test]
fn a_full_map_is_named_and_filled_as_soon_as_there_is_room() {
    let (mut reconciler, mut fake) = (
        Reconciler::new(),
        Fake {
            limit: Some(3),
            ..Fake::default()
        },
    );
    let mut intent = Intent::default();
    let now = Instant::now();
    for n in 0..10 {
        intent.fdb.set(fdb(n), word(1));
    }
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(
        (outcome.updated, outcome.failed, outcome.pending),
        (3, 1, 7)
    );
    assert_eq!(outcome.full, BTreeSet::from([Map::Fdb]));
    assert_eq!(fake.log.len(), 4, "one refusal is enough to know");
    // An entry that is there can still change.
    let (&there, _) = fake.entries.iter().next().unwrap();
    let Key::Fdb(there) = there else {
        unreachable!()
    };
    intent.fdb.set(there, word(2));
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!((outcome.updated, outcome.failed), (1, 0));
    assert_eq!(
        outcome.full,
        BTreeSet::from([Map::Fdb]),
        "the episode goes on"
    );
    // One goes, one of the waiting comes, at once.
    intent.fdb.remove(there);
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!(
        (outcome.deleted, outcome.updated, outcome.pending),
        (1, 1, 6)
    );
    // All others are gone: over.
    for n in 0..10 {
        if !fake.entries.contains_key(&Key::Fdb(fdb(n))) {
            intent.fdb.remove(fdb(n));
        }
    }
    let outcome = reconciler.apply(&mut intent, &mut fake, now);
    assert_eq!((outcome.pending, outcome.full.len()), (0, 0));
    assert_eq!(
        reconciler
            .entries()
            .map(|(_, entries)| entries)
            .sum::<usize>(),
        3
    );
}

/// What is logged while `run` runs.
fn logged(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_episode_is_logged_once() {
    let text = logged(|| {
        let mut reconciler = Reconciler::new();
        let mut fake = Fake {
            limit: Some(1),
            ..Fake::default()
        };
        fake.broken.insert(Key::Groups(1));
        let mut intent = Intent::default();
        let mut now = Instant::now();
        intent.groups.set(1, NhGroup::default());
        for n in 0..3 {
            intent.fdb.set(fdb(n), word(1));
        }
        for _ in 0..5 {
            assert!(reconciler.apply(&mut intent, &mut fake, now).pending > 0);
            now += RETRY_MAX;
        }
        fake.broken.clear();
        fake.limit = None;
        assert_eq!(reconciler.apply(&mut intent, &mut fake, now).pending, 0);
    });
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("map is full"), 1, "{text}");
    assert_eq!(count("map write failed"), 1, "{text}");
    assert_eq!(count("map is complete again"), 2, "{text}");
}

#[test]
fn a_round_is_bounded_and_order_holds_across_rounds() {
    let (mut reconciler, mut fake) = (Reconciler::new(), Fake::default());
    let mut intent = Intent::default();
    let now = Instant::now();
    let many = ROUND_MAX as u32 + 100;
    for n in 0..many {
        intent.sources.set(SourceKey(n.into()), 1);
        intent.groups.set(n, NhGroup::default());
    }
    let mut rounds = 0;
    while rounds == 0 || reconciler.deadline() == Some(now) {
        fake.log.clear();
        let outcome = reconciler.apply(&mut intent, &mut fake, now);
        assert!(fake.log.len() <= ROUND_MAX);
        let left = 2 * many as usize - fake.entries.len();
        assert_eq!((outcome.failed, outcome.pending), (0, left));
        // What points waits for all that is pointed at.
        let count = |map| fake.entries.keys().filter(|key| key.map() == map).count();
        assert!(count(Map::Sources) == 0 || count(Map::Groups) == many as usize);
        rounds += 1;
    }
    assert_eq!(rounds, 3);
    assert_eq!(reconciler.deadline(), None);
}
