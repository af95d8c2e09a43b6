//! Hash tables, written in batches: `BPF_MAP_UPDATE_BATCH` and `BPF_MAP_DELETE_BATCH`, which every
//! kernel that runs the programs has (5.6), save most of what an entry costs.

use std::io;

use aya::{
    Pod,
    maps::{HashMap, IterableMap as _, MapData, MapError},
};
use zerocopy::{Immutable, IntoBytes};

use super::{error, error::flat, sys};
use crate::reconcile::{Progress, TableError};

/// A hash table of the kernel.
pub(super) type Hash<K, V> = HashMap<MapData, K, V>;

/// Writes entries of a hash table. The one at which the batch stopped is tried again alone, for what the
/// kernel says of it, and what is after it goes on in the next one.
pub(super) fn insert<K, V, W>(
    map: &mut Hash<K, W>,
    entries: &[(K, V)],
    value: impl Fn(&V) -> W,
) -> Progress
where
    K: Pod + IntoBytes + Immutable,
    W: Pod + IntoBytes + Immutable,
{
    let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
    let values: Vec<_> = entries.iter().map(|(_, of)| value(of)).collect();
    let batch = |map: &mut Hash<K, W>, from: usize| match (keys.get(from..), values.get(from..)) {
        (Some(keys), Some(values)) => sys::update_batch(map.map().fd(), keys, values),
        _ => Ok(()),
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
    K: Pod + IntoBytes + Immutable,
    V: Pod,
{
    let batch = |map: &mut Hash<K, V>, from: usize| match keys.get(from..) {
        Some(keys) => sys::delete_batch(map.map().fd(), keys),
        None => Ok(()),
    };
    let single = |map: &mut Hash<K, V>, at: usize| match keys.get(at) {
        Some(key) => gone(map.remove(key)),
        None => Ok(()),
    };
    in_batches(map, keys.len(), batch, single)
}

fn in_batches<M>(
    map: &mut M,
    count: usize,
    batch: impl Fn(&mut M, usize) -> Result<(), (usize, io::Error)>,
    single: impl Fn(&mut M, usize) -> Result<(), TableError>,
) -> Progress {
    let mut done = 0;
    while done < count {
        let stopped = match count - done {
            1 => Some(0),
            _ => batch(map, done).err().map(|(more, _)| more),
        };
        done = stopped.map_or(count, |more| done + more);
        if stopped.is_some() {
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
