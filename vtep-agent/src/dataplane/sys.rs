//! System calls that aya and std lack.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::Path,
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `enum bpf_cmd`
const BPF_OBJ_GET: libc::c_long = 7;
/// `enum bpf_cmd`, since Linux 5.6
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
/// `enum bpf_cmd`, since Linux 5.6
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
/// `enum bpf_cmd`, since Linux 5.6
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;
/// `enum bpf_cmd`, since Linux 5.9
const BPF_LINK_DETACH: libc::c_long = 34;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
#[derive(Default)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_DETACH` reads.
#[repr(C)]
#[derive(Default)]
struct LinkDetach {
    link_fd: u32,
}

/// The part of `union bpf_attr` that the `BPF_MAP_*_BATCH` commands read and write.
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Entries that are read with one system call.
const BATCH: usize = 4096;

/// All entries of a hash table or an array, which only the caller adds to and removes from. `K` and
/// `V` have the sizes of its keys and values.
pub(super) fn read_map<K: FromBytes, V: FromBytes>(map: impl AsFd) -> io::Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    let mut position = None;
    loop {
        position = read_part(&map, position, |key, value| entries.push((key, value)))?;
        if position.is_none() {
            return Ok(entries);
        }
    }
}

/// Hands out at most [`BATCH`] entries, from a position on or from the start, and says where to go on,
/// unless that was all. `K` and `V` have the sizes of the map's keys and values. Positions have four
/// bytes for the kinds of maps that we have.
pub(super) fn read_part<K: FromBytes, V: FromBytes>(
    map: impl AsFd,
    from: Option<[u8; 8]>,
    mut each: impl FnMut(K, V),
) -> io::Result<Option<[u8; 8]>> {
    let mut keys = vec![0_u8; BATCH * size_of::<K>()];
    let mut values = vec![0_u8; BATCH * size_of::<V>()];
    let mut next = [0_u8; 8];
    let mut batch = Batch {
        in_batch: from.as_ref().map_or(0, |from| from.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: BATCH as u32,
        map_fd: map.as_fd().as_raw_fd() as u32,
        ..Batch::default()
    };
    // SAFETY: `batch` is what the command reads and writes; the buffers have room for that many keys
    // and values, and they and the positions live through the call.
    let end = match unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut batch) } {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    let keys = keys.chunks_exact(size_of::<K>());
    let values = values.chunks_exact(size_of::<V>());
    for (key, value) in keys.zip(values).take(batch.count as usize) {
        if let (Ok(key), Ok(value)) = (K::read_from_bytes(key), V::read_from_bytes(value)) {
            each(key, value);
        }
    }
    Ok((!end && batch.count > 0).then_some(next))
}

/// Writes entries of a hash table in their order, up to the first that is refused: how many, and why
/// not the next. `K` and `V` have the sizes of its keys and values; there are as many of both.
pub(super) fn update_batch<K, V>(
    map: impl AsFd,
    keys: &[K],
    values: &[V],
) -> Result<(), (usize, io::Error)>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    let count = keys.len().min(values.len());
    let values = values.as_bytes().as_ptr();
    operate(
        map,
        BPF_MAP_UPDATE_BATCH,
        keys.as_bytes().as_ptr(),
        values,
        count,
    )
}

/// Removes keys of a hash table in their order, up to the first that is refused, as one is that is not
/// there: how many, and why not the next. `K` has the size of its keys.
pub(super) fn delete_batch<K>(map: impl AsFd, keys: &[K]) -> Result<(), (usize, io::Error)>
where
    K: IntoBytes + Immutable,
{
    let none = std::ptr::null();
    operate(
        map,
        BPF_MAP_DELETE_BATCH,
        keys.as_bytes().as_ptr(),
        none,
        keys.len(),
    )
}

fn operate(
    map: impl AsFd,
    command: libc::c_long,
    keys: *const u8,
    values: *const u8,
    count: usize,
) -> Result<(), (usize, io::Error)> {
    let mut batch = Batch {
        keys: keys as u64,
        values: values as u64,
        count: count as u32,
        map_fd: map.as_fd().as_raw_fd() as u32,
        ..Batch::default()
    };
    // SAFETY: `batch` is what the command reads and writes; the callers' slices have that many keys
    // and values, which are only read, and live through the call.
    let result = unsafe { bpf(command, &mut batch) };
    // Where the kernel refuses the whole call, it may leave the number that it was given.
    let done = usize::try_from(batch.count).ok();
    let done = done.filter(|done| *done < count).unwrap_or(0);
    result.map(drop).map_err(|error| (done, error))
}

/// The process that listens at the other end, or that did when it began to.
pub(super) fn peer(stream: &UnixStream) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` has the size that is given, and both live through the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(peer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Detaches the link that is pinned at `pin`, now. Removing the pin alone detaches some time later:
/// the kernel drops the last reference of an unlinked pin in a work queue.
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut get = ObjGet {
        pathname: path.as_ptr() as u64,
        ..ObjGet::default()
    };
    // SAFETY: `get` is what the command reads, and the path lives through the call.
    let link = unsafe { bpf(BPF_OBJ_GET, &mut get) }?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows it.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let mut detach = LinkDetach {
        link_fd: link.as_raw_fd() as u32,
    };
    // SAFETY: `detach` is what the command reads.
    unsafe { bpf(BPF_LINK_DETACH, &mut detach) }.map(drop)
}

/// # Safety
///
/// `attr` is the part of `union bpf_attr` for `command`, and pointers in it are valid.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the caller's promise; the kernel touches no more than the size that it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    match result {
        0.. => Ok(result as libc::c_int),
        _ => Err(io::Error::last_os_error()),
    }
}
