//! A lab: a directory, a bpffs, and the namespaces made in it.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result};

use crate::{
    Namespace, Underlay, UnderlayOptions, programs,
    undo::{Made, Undo},
};

/// Begins the names of all namespaces and directories of a lab; the process's id follows.
const PREFIX: &str = "vtl";
/// The same for labs that outlive their process.
const KEPT_PREFIX: &str = "vtep-kept";

static LABS: AtomicU32 = AtomicU32::new(0);

/// A lab. Clones are the same lab, which is undone when the last of them and of what lives in it is
/// dropped.
#[derive(Clone, Debug)]
pub struct Lab(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    prefix: String,
    directory: PathBuf,
    undo: Undo,
    kept: bool,
    shows_logs: AtomicBool,
    serial: AtomicU32,
}

impl Lab {
    /// An empty lab.
    ///
    /// # Errors
    ///
    /// Without root, `ip` or `mount`.
    pub fn new(name: &str) -> Result<Self> {
        let serial = LABS.fetch_add(1, Ordering::Relaxed);
        Self::with_prefix(format!("{PREFIX}{}.{serial}-{name}", process::id()), false)
    }

    /// A lab that stays when this process ends; [`Lab::removal_script`] tells how to get rid of it.
    ///
    /// # Errors
    ///
    /// Those of [`Lab::new`].
    pub fn kept(name: &str) -> Result<Self> {
        Self::with_prefix(format!("{KEPT_PREFIX}{}-{name}", process::id()), true)
    }

    fn with_prefix(prefix: String, kept: bool) -> Result<Self> {
        programs::require_root()?;
        sweep();
        let directory = env::temp_dir().join(&prefix);
        let undo = Undo::default();
        fs::create_dir(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        undo.push(Made::Directory(directory.clone()));
        // From here on, dropping the lab removes what there is.
        let lab = Self(Arc::new(Inner {
            prefix,
            directory,
            undo,
            kept,
            shows_logs: AtomicBool::new(!kept),
            serial: AtomicU32::new(0),
        }));
        // FRR gives up root and must still reach its own directory.
        fs::set_permissions(lab.directory(), fs::Permissions::from_mode(0o755))?;
        let bpffs = lab.bpffs();
        fs::create_dir(&bpffs)?;
        let mount = programs::find("mount")?;
        programs::run(Command::new(mount).args(["-t", "bpf", "bpf"]).arg(&bpffs))?;
        lab.undo().push(Made::Mount(bpffs));
        Ok(lab)
    }

    /// A network namespace without links.
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&format!("{}-{name}", self.0.prefix), self.undo())
    }

    /// An underlay with MTU 1600, whose hosts fill in checksums themselves.
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn underlay(&self) -> Result<Underlay> {
        self.underlay_with(&UnderlayOptions::default())
    }

    /// An underlay as you like it.
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn underlay_with(&self, options: &UnderlayOptions) -> Result<Underlay> {
        Underlay::create(self, options)
    }

    /// Keeps daemons from printing their logs.
    pub fn hide_logs(&self) {
        self.0.shows_logs.store(false, Ordering::Relaxed);
    }

    /// Removes everything at once, with no regard for those who still use it.
    pub fn remove(&self) {
        self.undo().run();
    }

    /// Shell commands that remove everything.
    pub fn removal_script(&self) -> String {
        self.undo().script()
    }

    /// A directory for files of this lab.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// A bpffs of this lab's own.
    pub fn bpffs(&self) -> PathBuf {
        self.directory().join("bpf")
    }

    pub(crate) fn undo(&self) -> &Undo {
        &self.0.undo
    }

    /// A number that this lab has not used for a name yet.
    pub(crate) fn serial(&self) -> u32 {
        self.0.serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.0.kept
    }

    pub(crate) fn shows_logs(&self) -> bool {
        self.0.shows_logs.load(Ordering::Relaxed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.kept {
            self.undo.run();
        }
    }
}

/// Removes what labs of killed processes left behind.
fn sweep() {
    for name in entries(Path::new("/run/netns")).filter(|name| is_orphan(name)) {
        // Another test may be sweeping too.
        let _ = Made::Namespace(name).remove();
    }
    for name in entries(&env::temp_dir()).filter(|name| is_orphan(name)) {
        let directory = env::temp_dir().join(name);
        let _ = Made::Mount(directory.join("bpf")).remove();
        let _ = Made::Directory(directory).remove();
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Whether a name is one of a lab whose process is gone.
fn is_orphan(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('.'))
        .and_then(|(pid, _)| pid.parse::<u32>().ok())
        .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}
