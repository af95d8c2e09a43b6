//! `cargo xtask dist`: the Debian package.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    setup,
    shell::{self, cargo, find, output, workspace},
};

const PACKAGE: &str = "vtep-agent";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const CONFFILE: &str = "etc/vtep/vtep.toml";

/// Files of the package and where they come from; directories are made as needed.
const FILES: &[(&str, &str)] = &[
    (
        "packaging/vtep-agent.service",
        "lib/systemd/system/vtep-agent.service",
    ),
    ("packaging/vtep.toml", CONFFILE),
    ("packaging/copyright", "usr/share/doc/vtep-agent/copyright"),
    ("LICENSE-APACHE", "usr/share/doc/vtep-agent/LICENSE-APACHE"),
    ("LICENSE-MIT", "usr/share/doc/vtep-agent/LICENSE-MIT"),
];
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

/// Builds the package from a release build, or from the given binary.
pub(crate) fn run(binary: Option<PathBuf>, out: &Path) -> Result<()> {
    let binary = match binary {
        Some(binary) => binary,
        None => build()?,
    };
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let package = out.join(format!("{PACKAGE}_{VERSION}_{}.deb", architecture.trim()));
    let staging = Staging::new(out)?;
    staging.fill(&binary)?;
    staging.control(architecture.trim())?;
    let mut dpkg_deb = Command::new("dpkg-deb");
    // Quiet: standard output is for the package's name.
    output(
        dpkg_deb
            .args(["--root-owner-group", "--build"])
            .args([&staging.root, &package]),
    )?;
    println!("{}", package.display());
    Ok(())
}

fn build() -> Result<PathBuf> {
    setup::run(false)?;
    shell::run(&mut cargo(["build", "--release", "--package=vtep-agent"])?)?;
    Ok(workspace()?.join("target/release").join(PACKAGE))
}

/// The tree that becomes the package. Removed when dropped.
struct Staging {
    root: PathBuf,
}

impl Staging {
    fn new(out: &Path) -> Result<Self> {
        let root = out.join(format!(".staging-{}", std::process::id()));
        fs::create_dir(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let staging = Self { root };
        set_mode(&staging.root, 0o755)?;
        Ok(staging)
    }

    fn fill(&self, binary: &Path) -> Result<()> {
        let program = self.copy(binary, "usr/bin/vtep-agent", 0o755)?;
        match find("strip") {
            Some(strip) => {
                // The embedded BPF object is data here, and keeps its BTF.
                output(Command::new(strip).arg("--strip-unneeded").arg(&program))?;
            }
            None => eprintln!("no `strip` here: the binary keeps its symbols"),
        }
        for (from, to) in FILES {
            self.copy(&workspace()?.join(from), to, 0o644)?;
        }
        self.changelog()?;
        self.documents()
    }

    /// What operators read: the README and everything below `docs/`.
    fn documents(&self) -> Result<()> {
        let readme = workspace()?.join("README.md");
        if readme.exists() {
            self.copy(&readme, "usr/share/doc/vtep-agent/README.md", 0o644)?;
        }
        let docs = workspace()?.join("docs");
        if docs.exists() {
            for entry in fs::read_dir(docs)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "md")
                    && let Some(name) = path.file_name()
                {
                    let to = Path::new("usr/share/doc/vtep-agent/docs").join(name);
                    self.copy(&path, &to, 0o644)?;
                }
            }
        }
        Ok(())
    }

    fn changelog(&self) -> Result<()> {
        let date = output(Command::new("date").arg("-R"))?;
        let text = format!(
            "{PACKAGE} ({VERSION}) unstable; urgency=medium\n\n  * See the release notes.\n\n \
             -- The vtep authors <vtep@localhost>  {date}"
        );
        let file = self.write("usr/share/doc/vtep-agent/changelog", &text, 0o644)?;
        output(Command::new("gzip").args(["-9n"]).arg(file))?;
        Ok(())
    }

    fn control(&self, architecture: &str) -> Result<()> {
        // Built against this machine's C library: an older one may lack symbols.
        let mut query = Command::new("dpkg-query");
        let libc = output(query.args(["-W", "-f", "${Version}", "libc6"]))?;
        let libc = libc.split('-').next().unwrap_or_default();
        let control = format!(
            "Package: {PACKAGE}\n\
             Version: {VERSION}\n\
             Architecture: {architecture}\n\
             Maintainer: The vtep authors <vtep@localhost>\n\
             Installed-Size: {}\n\
             Depends: libc6 (>= {libc}), libgcc-s1, mount\n\
             Section: net\n\
             Priority: optional\n\
             Description: EVPN VTEP for hypervisor hosts, with its forwarding plane in eBPF\n \
             Speaks BGP EVPN (RFC 7432, RFC 8365) and does VXLAN encapsulation, MAC lookup,\n \
             flooding and ARP/ND suppression in XDP and TC programs, without a bridge or\n \
             vxlan devices for each VNI on the host.\n",
            kibibytes(&self.root)?
        );
        self.write("DEBIAN/control", &control, 0o644)?;
        self.write("DEBIAN/conffiles", &format!("/{CONFFILE}\n"), 0o644)?;
        for script in SCRIPTS {
            let from = workspace()?.join("packaging").join(script);
            self.copy(&from, Path::new("DEBIAN").join(script), 0o755)?;
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: impl AsRef<Path>, mode: u32) -> Result<PathBuf> {
        let to = self.place(to.as_ref())?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        set_mode(&to, mode)?;
        Ok(to)
    }

    fn write(&self, to: &str, text: &str, mode: u32) -> Result<PathBuf> {
        let to = self.place(Path::new(to))?;
        fs::write(&to, text)?;
        set_mode(&to, mode)?;
        Ok(to)
    }

    /// The path in the tree, with its directories made, whatever the umask.
    fn place(&self, to: &Path) -> Result<PathBuf> {
        let path = self.root.join(to);
        let mut directory = self.root.clone();
        for part in to.parent().into_iter().flatten() {
            directory.push(part);
            if !directory.exists() {
                fs::create_dir(&directory)?;
                set_mode(&directory, 0o755)?;
            }
        }
        Ok(path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!("cannot remove {}: {error}", self.root.display());
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

/// Sum of the sizes of all files below a directory, in KiB, rounded up.
fn kibibytes(directory: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() {
            kibibytes(&entry.path())?
        } else {
            metadata.len().div_ceil(1024)
        };
    }
    Ok(total)
}
