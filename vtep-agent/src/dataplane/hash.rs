//! Hash tables, written in batches: `BPF_MAP_UPDATE_BATCH` and `BPF_MAP_DELETE_BATCH`, which every
//! kernel that runs the programs has (5.6), save most of what an entry costs. Half of a large batch is
//! written by another thread: what is left of the cost is the kernel's, whose buckets have locks of
//! their own.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd as _, BorrowedFd},
    thread,
};

use aya::{
    Pod,
    maps::{HashMap, IterableMap as _, MapData, MapError},
};
use zerocopy::{Immutable, IntoBytes};

use super::{error, error::flat, sys};
use crate::reconcile::{Progress, TableError};

/// Entries from which on it pays to start a thread: writing them takes some ten times as long.
const SHARED: usize = 1024;

/// A hash table of the kernel.
pub(super) type Hash<K, V> = HashMap<MapData, K, V>;

/// Writes entries of a hash table. The one at which a batch stopped is tried again alone, for what the
/// kernel says of it, and what is after it goes on in the next one. Of what comes after a refused one
/// some may have been written.
pub(super) fn insert<K, V, W>(
    map: &mut Hash<K, W>,
    entries: &[(K, V)],
    value: impl Fn(&V) -> W,
) -> Progress
where
    K: Pod + IntoBytes + Immutable + Sync,
    W: Pod + IntoBytes + Immutable + Sync,
{
    let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
    let values: Vec<_> = entries.iter().map(|(_, of)| value(of)).collect();
    let batch = |map: BorrowedFd<'_>, range: Range<usize>| {
        let (Some(keys), Some(values)) = (keys.get(range.clone()), values.get(range)) else {
            return Ok(());
        };
        sys::update_batch(map, keys, values)
    };
    let single = |map: &mut Hash<K, W>, at: usize| match (keys.get(at), values.get(at)) {
        (Some(key), Some(value)) => map.insert(key, value, 0).map_err(refused),
        _ => Ok(()),
    };
    in_batches(map, entries.len(), batch, single)
}

/// Removes keys of a hash table, as [`insert`]. One that is gone already has been removed.
pub(super) fn remove<K, V>(map: &mut Hash<K, V>, keys: &[K]) -> Progress
where
    K: Pod + IntoBytes + Immutable + Sync,
    V: Pod + Sync,
{
    let batch = |map: BorrowedFd<'_>, range: Range<usize>| match keys.get(range) {
        Some(keys) => sys::delete_batch(map, keys),
        None => Ok(()),
    };
    let single = |map: &mut Hash<K, V>, at: usize| match keys.get(at) {
        Some(key) => gone(map.remove(key)),
        None => Ok(()),
    };
    in_batches(map, keys.len(), batch, single)
}

fn in_batches<K: Pod + Sync, V: Pod + Sync>(
    map: &mut Hash<K, V>,
    count: usize,
    batch: impl Fn(BorrowedFd<'_>, Range<usize>) -> Result<(), (usize, io::Error)> + Sync,
    single: impl Fn(&mut Hash<K, V>, usize) -> Result<(), TableError>,
) -> Progress {
    let done_of = |map: &Hash<K, V>, range: Range<usize>| {
        let stopped = batch(map.map().fd().as_fd(), range.clone()).err();
        stopped.map_or(range.len(), |(done, _)| done)
    };
    let mut done = match count {
        SHARED.. => in_halves(count, |range| done_of(map, range)),
        _ => 0,
    };
    while done < count {
        if count - done > 1 {
            done += done_of(map, done..count);
        }
        if done < count {
            if let Err(error) = single(map, done) {
                return Progress {
                    done,
                    refused: Some(error),
                };
            }
            done += 1;
        }
    }
    Progress {
        done,
        refused: None,
    }
}

/// How many of the first are done; without another thread none.
fn in_halves(count: usize, done_of: impl Fn(Range<usize>) -> usize + Sync) -> usize {
    let half = count / 2;
    thread::scope(|scope| {
        let second = thread::Builder::new().name("maps".to_owned());
        let Ok(second) = second.spawn_scoped(scope, || done_of(half..count)) else {
            return 0;
        };
        let first = done_of(0..half);
        // A thread that panicked has done nothing that is known.
        let second = second.join().unwrap_or(0);
        match first == half {
            true => first + second,
            false => first,
        }
    })
}

/// The error of a write as the reconciler wants it.
pub(super) fn refused(error: MapError) -> TableError {
    match error::errno(&error) {
        Some(libc::E2BIG | libc::ENOSPC) => TableError::Full,
        Some(number) => TableError::Refused(io::Error::from_raw_os_error(number)),
        None => TableError::Refused(io::Error::other(flat(&error))),
    }
}

/// A key that is gone already has been removed.
pub(super) fn gone(result: Result<(), MapError>) -> Result<(), TableError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(error) if error::errno(&error) == Some(libc::ENOENT) => Ok(()),
        other => other.map_err(refused),
    }
}
