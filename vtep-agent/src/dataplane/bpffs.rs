//! The file system of the pins.

use std::{
    ffi::CString,
    fs::{self, File, TryLockError},
    io,
    mem::MaybeUninit,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::DataplaneError;

/// Where a bpffs usually is.
const USUAL: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC`
const MAGIC: u32 = 0xcafe_4a11;

/// The pin directory is ours while this lives.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, but for a child that is being forked just now and has the descriptor, too.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "pin directory not unlocked");
        }
    }
}

/// Makes `pin_dir` a directory on a bpffs; mounts one when there is none: at `/sys/fs/bpf` when the
/// directory is below it, at the directory itself otherwise. What is pinned on a bpffs that was
/// mounted here lives as long as the mount: in a mount namespace of our own, as long as we do.
pub(super) fn prepare(pin_dir: &Path) -> Result<(), DataplaneError> {
    if !is_below(pin_dir).map_err(|error| DataplaneError::pin(pin_dir, error))? {
        let target = mount_point(pin_dir);
        mount(&target).map_err(|error| DataplaneError::Bpffs {
            path: target.clone(),
            error,
        })?;
        tracing::warn!(
            path = %target.display(),
            "mounted a bpffs: pins survive a restart only if one is mounted before the agent starts"
        );
    }
    fs::create_dir_all(pin_dir).map_err(|error| DataplaneError::pin(pin_dir, error))
}

/// Takes the directory for this process. The lock is on the directory
/// itself: it goes with the pins, and there is no lock file that could be left over.
pub(super) fn lock(pin_dir: &Path) -> Result<Lock, DataplaneError> {
    let directory = File::open(pin_dir).map_err(|error| DataplaneError::pin(pin_dir, error))?;
    match directory.try_lock() {
        Ok(()) => Ok(Lock(directory)),
        Err(TryLockError::WouldBlock) => Err(DataplaneError::Locked {
            path: pin_dir.to_owned(),
            pid: holder(&directory),
        }),
        Err(TryLockError::Error(error)) => Err(DataplaneError::pin(pin_dir, error)),
    }
}

/// Whether a directory, or the nearest one above it that exists, is on a bpffs.
pub(super) fn is_below(path: &Path) -> io::Result<bool> {
    let existing = path.ancestors().find(|path| path.exists());
    is_bpffs(existing.unwrap_or(Path::new("/")))
}

/// The process that has the directory locked.
fn holder(directory: &File) -> Option<u32> {
    let metadata = directory.metadata().ok()?;
    let device = metadata.dev();
    let file = format!(
        "{:02x}:{:02x}:{}",
        libc::major(device),
        libc::minor(device),
        metadata.ino()
    );
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|lock| holder_of(lock, &file))
}

/// Reads `1: FLOCK  ADVISORY  WRITE 4711 00:1a:2 0 EOF`.
fn holder_of(lock: &str, file: &str) -> Option<u32> {
    let words: Vec<_> = lock.split_whitespace().collect();
    match words.as_slice() {
        [_, "FLOCK", _, _, pid, locked, ..] if *locked == file => {
            pid.parse().ok().filter(|pid| *pid != 0)
        }
        _ => None,
    }
}

fn mount_point(pin_dir: &Path) -> PathBuf {
    if pin_dir.starts_with(USUAL) {
        PathBuf::from(USUAL)
    } else {
        pin_dir.to_owned()
    }
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is a terminated string and `stat` has room for the answer.
    if unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, hence the kernel filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_type as u32 == MAGIC)
}

fn mount(target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: all pointers are terminated strings that outlive the call.
    let result = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            target.as_ptr(),
            c"bpf".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            c"mode=0700".as_ptr().cast(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_place_is_preferred() {
        assert_eq!(mount_point(Path::new("/sys/fs/bpf/vtep")), Path::new(USUAL));
        assert_eq!(
            mount_point(Path::new("/run/vtep/pins")),
            Path::new("/run/vtep/pins")
        );
    }

    #[test]
    fn a_directory_is_locked_once() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        let refused = lock(directory.path());
        let us = std::process::id();
        assert!(matches!(refused, Err(DataplaneError::Locked { pid: Some(pid), .. }) if pid == us));
        drop(first);
        lock(directory.path()).unwrap();
    }
}
