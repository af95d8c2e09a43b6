//! Names of what is pinned, and what an earlier run left there.
//!
//! ```text
//! PIN_DIR/v<ABI_VERSION>/maps/<map>
//! PIN_DIR/v<ABI_VERSION>/next/<map>
//! PIN_DIR/v<ABI_VERSION>/moving
//! PIN_DIR/v<ABI_VERSION>/links/<hook>-<ifindex>-<network namespace>
//! ```
//!
//! `next` has the new maps while those of an earlier run are still in use; they take their places
//! when all programs use them. While they do, there is `moving`: a run that ends in the middle of that
//! leaves the rest to the next one, and one that ends while it makes the new maps leaves nothing of use.
//!
//! A bpffs has no regular files, so that a clsact filter, which is no object that could be pinned, is
//! remembered by an empty directory of that name, and `moving` is one, too.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use vtep_common::abi::ABI_VERSION;

use super::{
    DataplaneError,
    layout::{Fit, Layouts},
};

/// What of an earlier run's maps is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inheritance {
    /// Nothing: there was none, or it has ended in order.
    Nothing,
    /// The maps themselves.
    Maps,
    /// What is in them, since their sizes are others.
    Content,
    /// Only who was behind our ports, since the version is another.
    Endpoints,
}

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
    /// Those that did not take a new program: they go on with the old one.
    kept: HashMap<Place, PathBuf>,
    /// What else an earlier run left.
    leftover: Vec<PathBuf>,
    /// New maps are in `next`, and the old ones still pinned.
    staged: bool,
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
            kept: HashMap::new(),
            leftover: Vec::new(),
            staged: false,
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
                for maps in ["maps", "next"] {
                    pins.leftover.extend(list(&version.join(maps))?);
                }
                pins.leftover.extend(list(&version)?);
                pins.leftover.push(version);
            }
        }
        for directory in [pins.maps(), pins.links()] {
            fs::create_dir_all(&directory)
                .map_err(|error| DataplaneError::pin(&directory, error))?;
        }
        pins.settle_next()?;
        Ok(pins)
    }

    /// Judges the maps of an earlier run. Without its programs they are worth nothing: nobody knows
    /// which devices they speak of.
    pub(super) fn inheritance(&self, layouts: &Layouts) -> Inheritance {
        if self.inherited.is_empty() {
            return Inheritance::Nothing;
        }
        match layouts.compare(&self.maps()) {
            Fit::Same => Inheritance::Maps,
            Fit::Size(difference) => {
                tracing::info!("the maps are made anew: {difference}");
                Inheritance::Content
            }
            Fit::Other(difference) => {
                tracing::warn!(
                    "the maps of an earlier run cannot be taken over: {difference}; its programs \
                     forward until peers have sent all routes"
                );
                Inheritance::Endpoints
            }
        }
    }

    /// Directories of maps, this version's first.
    pub(super) fn versions(&self) -> Result<Vec<PathBuf>, DataplaneError> {
        let mut versions: Vec<_> = list(&self.root)?
            .into_iter()
            .filter(|path| is_version(path) && *path != self.version())
            .map(|version| version.join("maps"))
            .collect();
        versions.sort_unstable();
        versions.reverse();
        versions.insert(0, self.maps());
        Ok(versions)
    }

    /// Where the loader is to find the maps that are taken over, and to pin those that are not.
    pub(super) fn place_for_maps(
        &mut self,
        inheritance: Inheritance,
    ) -> Result<PathBuf, DataplaneError> {
        match inheritance {
            Inheritance::Maps => Ok(self.maps()),
            Inheritance::Nothing => {
                for path in list(&self.maps())? {
                    remove(&path)?;
                }
                Ok(self.maps())
            }
            Inheritance::Content | Inheritance::Endpoints => {
                let next = self.next();
                fs::create_dir_all(&next).map_err(|error| DataplaneError::pin(&next, error))?;
                self.staged = true;
                Ok(next)
            }
        }
    }

    /// The maps of an earlier run are not needed any more: the new ones take their places.
    pub(super) fn commit(&mut self) -> Result<(), DataplaneError> {
        if !self.staged {
            return Ok(());
        }
        let moving = self.moving();
        match fs::create_dir(&moving) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(DataplaneError::pin(&moving, error));
            }
            _ => {}
        }
        for path in list(&self.next())? {
            if let Some(name) = path.file_name() {
                let place = self.maps().join(name);
                fs::rename(&path, &place).map_err(|error| DataplaneError::pin(&place, error))?;
            }
        }
        self.staged = false;
        remove(&self.next())?;
        remove(&moving)
    }

    /// What became of `next` in a run that did not get to its end.
    fn settle_next(&mut self) -> Result<(), DataplaneError> {
        self.staged = true;
        match self.moving().exists() {
            true => self.commit(),
            false => self.abandon(),
        }
    }

    /// Removes new maps that nobody uses.
    fn abandon(&mut self) -> Result<(), DataplaneError> {
        if !std::mem::take(&mut self.staged) {
            return Ok(());
        }
        for path in list(&self.next())? {
            remove(&path)?;
        }
        remove(&self.next())
    }

    /// The pinned link of an earlier run at this place. Whoever asks becomes responsible for it.
    pub(super) fn claim(&mut self, place: Place) -> Option<PathBuf> {
        let kept = self.kept.remove(&place);
        kept.or_else(|| self.inherited.remove(&place))
    }

    /// The claim came to nothing, and the link is as it was. It is still somebody's, for a later claim.
    pub(super) fn give_back(&mut self, place: Place, path: PathBuf) {
        self.kept.insert(place, path);
    }

    /// Nobody wants the links any more that go on with the old program.
    pub(super) fn abandon_kept(&mut self) {
        self.inherited.extend(self.kept.drain());
    }

    /// Whether there is a link to claim at this place.
    pub(super) fn is_left(&self, place: Place) -> bool {
        self.kept.contains_key(&place) || self.inherited.contains_key(&place)
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
        self.abandon()?;
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

    /// Where the maps in use are pinned.
    pub(super) fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    fn next(&self) -> PathBuf {
        self.version().join("next")
    }

    fn moving(&self) -> PathBuf {
        self.version().join("moving")
    }

    fn links(&self) -> PathBuf {
        self.version().join("links")
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = self.abandon() {
            tracing::warn!("{error}");
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let pins = Pins {
            root: PathBuf::from("/pins"),
            namespace: 4_026_531_840,
            inherited: HashMap::new(),
            kept: HashMap::new(),
            leftover: Vec::new(),
            staged: false,
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

    /// A start that is killed while it makes new maps must not have them taken for those in use.
    #[test]
    fn new_maps_are_used_when_all_of_them_are_meant_to_be() {
        for (moving, expected) in [(false, "old"), (true, "new")] {
            let root = tempfile::tempdir().unwrap();
            let version = root.path().join(format!("v{ABI_VERSION}"));
            for (directory, text) in [("maps", "old"), ("next", "new")] {
                fs::create_dir_all(version.join(directory)).unwrap();
                fs::write(version.join(directory).join("endpoints"), text).unwrap();
            }
            if moving {
                fs::create_dir(version.join("moving")).unwrap();
            }
            let pins = Pins::open(root.path()).unwrap();
            let endpoints = pins.maps().join("endpoints");
            assert_eq!(fs::read_to_string(endpoints).unwrap(), expected);
            assert!(!pins.next().exists() && !pins.moving().exists());
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
