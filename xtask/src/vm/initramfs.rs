//! The initramfs: busybox, the modules that reach this machine's files, and what to do then.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::kernel::Unpacked;

/// Modules for this machine's files; the others are loaded from there when somebody needs them.
/// Those that a kernel has built in are not missed.
const MODULES: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// Files with which modprobe finds modules.
const INDEXES: &[&str] = &["modules.dep", "modules.alias", "modules.symbols"];

/// Process 1.
const INIT: &str = include_str!("init.sh");

/// Writes the archive. `job` is a script that runs on this machine's root file system.
pub(super) fn build(kernel: &Unpacked, job: &str) -> Result<PathBuf> {
    let root = kernel.directory.join("initramfs");
    if root.is_dir() {
        fs::remove_dir_all(&root)?;
    }
    let modules = Path::new("lib/modules").join(&kernel.version);
    for directory in [
        "bin", "dev", "host", "proc", "root", "sbin", "scratch", "sys",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = crate::shell::find("busybox").context("there is no busybox")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    std::os::unix::fs::symlink("/bin/busybox", root.join("sbin/modprobe"))?;
    std::os::unix::fs::symlink("/bin/busybox", root.join("bin/sh"))?;
    for file in with_dependencies(&kernel.modules)? {
        copy(
            &kernel.modules.join(&file),
            &root.join(&modules).join(&file),
        )?;
    }
    for index in INDEXES {
        copy(
            &kernel.modules.join(index),
            &root.join(&modules).join(index),
        )?;
    }
    let values = format!(
        "modules={}\nlibrary=/lib/modules/{}\n",
        kernel.modules.display(),
        kernel.version
    );
    fs::write(root.join("values"), values)?;
    fs::write(root.join("job"), job)?;
    fs::write(root.join("init"), INIT)?;
    set_executable(&root.join("init"))?;
    let archive = kernel.directory.join("initramfs.cpio");
    pack(&root, &archive)?;
    Ok(archive)
}

/// Files of the modules and of those that they need, relative to the modules' directory.
fn with_dependencies(modules: &Path) -> Result<BTreeSet<String>> {
    let index = modules.join("modules.dep");
    let index = fs::read_to_string(&index).with_context(|| index.display().to_string())?;
    let mut files = BTreeSet::new();
    for line in index.lines() {
        let Some((file, dependencies)) = line.split_once(':') else {
            continue;
        };
        if MODULES.contains(&module(file)) {
            files.insert(file.to_owned());
            files.extend(dependencies.split_whitespace().map(str::to_owned));
        }
    }
    Ok(files)
}

/// The module's name from its file's: `kernel/fs/9p/9p.ko.xz`.
fn module(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file without directory")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn set_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// Writes a directory as the archive that the kernel unpacks.
fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut names = Vec::new();
    list(root, root, &mut names)?;
    let mut cpio = Command::new("busybox")
        .args(["cpio", "-o", "-H", "newc", "-F"])
        .arg(archive)
        .current_dir(root)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run busybox")?;
    let mut input = cpio.stdin.take().context("cpio has no standard input")?;
    input.write_all(names.join("\n").as_bytes())?;
    drop(input);
    ensure!(cpio.wait()?.success(), "cannot write {}", archive.display());
    Ok(())
}

/// Names below a directory, each directory before what is in it.
fn list(root: &Path, directory: &Path, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        names.push(path.strip_prefix(root)?.display().to_string());
        if entry.file_type()?.is_dir() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}
