//! Names of what is pinned, and what an earlier run left there.
//!
//! ```text
//! PIN_DIR/v<ABI_VERSION>/maps/<map>
//! PIN_DIR/v<ABI_VERSION>/links/<hook>-<ifindex>-<network namespace>
//! ```
//!
//! A bpffs has no regular files, so that a clsact filter, which is no object that could be pinned, is
//! remembered by an empty directory of that name.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapInfo};
use vtep_common::abi::ABI_VERSION;

use super::{DataplaneError, error::flat};

/// Where a program is attached, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP on socket buffers.
    XdpGeneric,
    /// tcx link of the underlay program.
    UnderlayTcx,
    /// tcx link of the access program.
    AccessTcx,
    /// tcx link of the overlay program.
    OverlayTcx,
    /// clsact filter of the underlay program.
    UnderlayFilter,
    /// clsact filter of the access program.
    AccessFilter,
    /// clsact filter of the overlay program.
    OverlayFilter,
}

/// One hook of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) hook: Hook,
    pub(super) ifindex: u32,
}

/// The pin directory.
pub(super) struct Pins {
    root: PathBuf,
    /// Inode of the network namespace: device indices mean nothing without it.
    namespace: u64,
    /// Links of an earlier run on devices of this namespace that nobody has claimed yet.
    inherited: HashMap<Place, PathBuf>,
    /// What else an earlier run left.
    leftover: Vec<PathBuf>,
}

impl Hook {
    const ALL: [Self; 8] = [
        Self::XdpNative,
        Self::XdpGeneric,
        Self::UnderlayTcx,
        Self::AccessTcx,
        Self::OverlayTcx,
        Self::UnderlayFilter,
        Self::AccessFilter,
        Self::OverlayFilter,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp_native",
            Self::XdpGeneric => "xdp_generic",
            Self::UnderlayTcx => "underlay_tcx",
            Self::AccessTcx => "access_tcx",
            Self::OverlayTcx => "overlay_tcx",
            Self::UnderlayFilter => "underlay_filter",
            Self::AccessFilter => "access_filter",
            Self::OverlayFilter => "overlay_filter",
        }
    }
}

impl Pins {
    /// Reads what is there. The directory exists.
    pub(super) fn open(root: &Path) -> Result<Self, DataplaneError> {
        let namespace = Path::new("/proc/thread-self/ns/net");
        let namespace = fs::metadata(namespace)
            .map_err(|error| DataplaneError::pin(namespace, error))?
            .ino();
        let mut pins = Self {
            root: root.to_owned(),
            namespace,
            inherited: HashMap::new(),
            leftover: Vec::new(),
        };
        for version in list(root)?.into_iter().filter(|path| is_version(path)) {
            for path in list(&version.join("links"))? {
                match parse(&path) {
                    Some((place, of)) if of == namespace => {
                        pins.inherited.insert(place, path);
                    }
                    _ => pins.leftover.push(path),
                }
            }
            if version != pins.version() {
                pins.leftover.extend(list(&version.join("maps"))?);
                pins.leftover.extend(list(&version)?);
                pins.leftover.push(version);
            }
        }
        for directory in [pins.maps(), pins.links()] {
            fs::create_dir_all(&directory)
                .map_err(|error| DataplaneError::pin(&directory, error))?;
        }
        Ok(pins)
    }

    /// Pins a map in place of the one that an earlier run pinned under this name.
    pub(super) fn pin_map(&self, name: &str, map: &MapData) -> Result<(), DataplaneError> {
        let path = self.maps().join(name);
        let failed = |error: &dyn std::error::Error| {
            DataplaneError::pin(&path, io::Error::other(flat(error)))
        };
        if let Ok(old) = MapInfo::from_pin(&path) {
            let new = map.info().map_err(|error| failed(&error))?;
            if let Some(difference) = difference(&old, &new) {
                tracing::info!(
                    map = name,
                    "layout differs from the earlier run's: {difference}"
                );
            }
        }
        remove(&path)?;
        map.pin(&path).map_err(|error| failed(&error))
    }

    /// The pinned link of an earlier run at this place. Whoever asks becomes responsible for it.
    pub(super) fn claim(&mut self, place: Place) -> Option<PathBuf> {
        self.inherited.remove(&place)
    }

    /// Everything that an earlier run attached and nobody has claimed.
    pub(super) fn unclaimed(&self) -> Vec<Place> {
        self.inherited.keys().copied().collect()
    }

    /// Where the link at this place is pinned.
    pub(super) fn link(&self, place: Place) -> PathBuf {
        let Place { hook, ifindex } = place;
        self.links()
            .join(format!("{}-{ifindex}-{}", hook.name(), self.namespace))
    }

    /// Removes what an earlier run left and nobody can claim: pins of other ABI versions, and of
    /// other network namespaces, which is safe since the lock says that no agent is using them.
    pub(super) fn sweep(&mut self) -> Result<(), DataplaneError> {
        // Children come before their parents.
        for path in std::mem::take(&mut self.leftover) {
            remove(&path)?;
        }
        Ok(())
    }

    /// Removes the maps' pins and the directories that are empty then.
    pub(super) fn clear(&mut self) -> Result<(), DataplaneError> {
        self.sweep()?;
        for path in list(&self.maps())? {
            remove(&path)?;
        }
        for directory in [self.maps(), self.links(), self.version()] {
            remove(&directory)?;
        }
        // It may be a mount point, or hold what others pinned.
        if let Err(error) = fs::remove_dir(&self.root) {
            tracing::debug!(path = %self.root.display(), %error, "pin directory stays");
        }
        Ok(())
    }

    fn version(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    fn links(&self) -> PathBuf {
        self.version().join("links")
    }
}

/// Removes a pin or an empty directory; one that is gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), DataplaneError> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DataplaneError::pin(path, error))
        }
        _ => Ok(()),
    }
}

/// A directory `v<number>`: the root of a bpffs has files of the kernel's own beside ours.
fn is_version(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix('v'))
        .is_some_and(|version| version.parse::<u32>().is_ok())
}

/// Place and network namespace from a pin's name.
fn parse(path: &Path) -> Option<(Place, u64)> {
    let mut parts = path.file_name()?.to_str()?.split('-');
    let name = parts.next()?;
    let place = Place {
        hook: Hook::ALL.into_iter().find(|hook| hook.name() == name)?,
        ifindex: parts.next()?.parse().ok()?,
    };
    let namespace = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((place, namespace))
}

/// The directory's entries; none when it does not exist.
fn list(directory: &Path) -> Result<Vec<PathBuf>, DataplaneError> {
    let failed = |error| DataplaneError::pin(directory, error);
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| Ok(entry.map_err(failed)?.path()))
            .collect(),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(failed(error)),
    }
}

/// In what the layouts of two maps differ.
fn difference(old: &MapInfo, new: &MapInfo) -> Option<String> {
    let kind = |info: &MapInfo| info.map_type().map_or(0, |kind| kind as u32);
    [
        ("type", kind(old), kind(new)),
        ("key size", old.key_size(), new.key_size()),
        ("value size", old.value_size(), new.value_size()),
        ("max_entries", old.max_entries(), new.max_entries()),
    ]
    .into_iter()
    .find(|(_, old, new)| old != new)
    .map(|(what, old, new)| format!("{what} was {old}, is {new}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let pins = Pins {
            root: PathBuf::from("/pins"),
            namespace: 4_026_531_840,
            inherited: HashMap::new(),
            leftover: Vec::new(),
        };
        for hook in Hook::ALL {
            let place = Place { hook, ifindex: 7 };
            let path = pins.link(place);
            assert_eq!(parse(&path), Some((place, 4_026_531_840)));
            // A bpffs refuses names with a dot.
            assert!(!path.to_str().unwrap().contains('.'));
        }
        for name in [
            "xdp_native",
            "xdp_native-7",
            "xdp_native-7-1-1",
            "other-7-1",
        ] {
            assert_eq!(parse(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn links_of_an_earlier_run_are_found_and_sorted_out() {
        // An ordinary file system will do: empty files stand for links.
        let root = tempfile::tempdir().unwrap();
        let namespace = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        for path in [
            format!("v{ABI_VERSION}/links/xdp_native-7-{namespace}"),
            format!("v0/links/access_tcx-8-{namespace}"),
            "v0/links/access_tcx-9-1".to_owned(),
            "v0/maps/fdb".to_owned(),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut pins = Pins::open(root.path()).unwrap();
        let old = Place {
            hook: Hook::AccessTcx,
            ifindex: 8,
        };
        assert_eq!(pins.unclaimed().len(), 2);
        fs::remove_file(pins.claim(old).unwrap()).unwrap();
        assert_eq!(pins.claim(old), None);
        assert_eq!(pins.unclaimed().len(), 1);
        pins.sweep().unwrap();
        assert!(!root.path().join("v0").exists());
        assert!(root.path().join(format!("v{ABI_VERSION}/links")).exists());
    }
}
