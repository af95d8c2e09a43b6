//! Compiles the BPF object and leaves it in `OUT_DIR`, where `dataplane` embeds it.
//!
//! `VTEP_EBPF_OBJECT=/path` uses a finished object instead (packagers).

use std::{env, ffi::OsString, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, anyhow, ensure};

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=VTEP_EBPF_OBJECT");
    let object = match env::var_os("VTEP_EBPF_OBJECT") {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo:rerun-if-changed={}", path.display());
            path
        }
        None => build()?,
    };
    let embedded = PathBuf::from(variable("OUT_DIR")?).join("vtep");
    fs::copy(&object, &embedded).with_context(|| format!("cannot copy {}", object.display()))?;
    Ok(())
}

/// Builds `vtep-ebpf` with the agent's own toolchain, into a target directory of its own: one cache
/// for all profiles, and a lock that the outer cargo does not hold.
fn build() -> Result<PathBuf> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?)
        .parent()
        .context("the agent's crate has no parent directory")?
        .to_owned();
    for input in ["vtep-ebpf", "vtep-common", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let arch = arch
        .to_str()
        .context("CARGO_CFG_TARGET_ARCH is not UTF-8")?;
    let flags = [
        &format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2",
        "-Ctarget-cpu=v3",
        "-Clink-arg=--btf",
    ]
    .join("\x1f");
    // Beside the tables that everybody has, those of `next-abi`, in a cache of their own.
    let (target, features) = match env::var_os("CARGO_FEATURE_NEXT_ABI") {
        Some(_) => ("target/ebpf-next", "next-abi"),
        None => ("target/ebpf", ""),
    };
    let target = workspace.join(target);
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(&workspace)
        .args([
            "build",
            "--release",
            "--package=vtep-ebpf",
            "--bins",
            "-Zbuild-std=core",
        ])
        .args(["--features", features])
        .args(["--target=bpfel-unknown-none", "--quiet", "--target-dir"])
        .arg(&target)
        // aya-ebpf needs unstable inline assembly. Only the inner cargo may see this: build scripts
        // of host crates would turn on nightly features.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        // Incremental builds split programs into parts whose stacks the verifier adds up.
        .env_remove("CARGO_INCREMENTAL")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS");
    let status = cargo
        .status()
        .context("cannot run cargo for the BPF object")?;
    ensure!(
        status.success(),
        "the BPF object did not build; `cargo xtask setup` installs rust-src and bpf-linker"
    );
    Ok(target.join("bpfel-unknown-none/release/vtep"))
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).ok_or_else(|| anyhow!("cargo did not set {name}"))
}
