//! The Debian package: built, installed into an empty root, and its agent started from there.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use vtep_tests::{Agent, AgentConfig, Lab, Pair, agent_binary};

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{command:?}: {}: {stdout}{stderr}",
        output.status
    );
    Ok(stdout.into_owned())
}

/// Packages the agent under test.
fn package(lab: &Lab) -> Result<PathBuf> {
    let out = lab.directory().join("dist");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut xtask = Command::new(cargo);
    xtask
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args([
            "run",
            "--quiet",
            "--package=xtask",
            "--",
            "dist",
            "--binary",
        ])
        .arg(agent_binary()?)
        .arg("--out")
        .arg(&out);
    let stdout = run(&mut xtask)?;
    Ok(PathBuf::from(stdout.trim()))
}

/// An empty root directory with a package database.
fn empty_root(lab: &Lab) -> Result<PathBuf> {
    let root = lab.directory().join("root");
    for directory in ["info", "updates", "triggers"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(directory))?;
    }
    fs::write(root.join("var/lib/dpkg/status"), "")?;
    fs::write(root.join("var/lib/dpkg/available"), "")?;
    Ok(root)
}

fn dpkg(root: &Path) -> Command {
    let mut dpkg = Command::new("dpkg");
    // Dependencies are not in the empty root, and neither is a shell.
    dpkg.arg("--root")
        .arg(root)
        .args(["--force-depends", "--force-script-chrootless"]);
    dpkg
}

#[test]
fn the_package_installs_and_its_agent_starts() -> Result<()> {
    let lab = Lab::new("package")?;
    let package = package(&lab)?;
    let info = run(Command::new("dpkg-deb").arg("--info").arg(&package))?;
    for field in [
        "Package: vtep-agent",
        "Version: ",
        "Architecture: ",
        "Depends: libc6",
    ] {
        ensure!(info.contains(field), "no {field:?} in {info}");
    }
    let contents = run(Command::new("dpkg-deb").arg("--contents").arg(&package))?;
    for line in contents.lines() {
        ensure!(line.contains("root/root"), "not owned by root: {line}");
    }

    let root = empty_root(&lab)?;
    run(dpkg(&root).arg("--install").arg(&package))?;
    for file in [
        "usr/bin/vtep-agent",
        "lib/systemd/system/vtep-agent.service",
        "etc/vtep/vtep.toml",
        "usr/share/doc/vtep-agent/copyright",
        "usr/share/doc/vtep-agent/changelog.gz",
    ] {
        ensure!(root.join(file).is_file(), "the package installed no {file}");
    }

    // The example is one that the agent itself understands.
    let program = root.join("usr/bin/vtep-agent");
    let example = root.join("etc/vtep/vtep.toml");
    run(Command::new(&program)
        .args(["check", "--config"])
        .arg(&example))?;

    // The installed binary serves.
    let host = lab.underlay()?.host("h1")?;
    let config = AgentConfig::new(&host, Pair::ASN)
        .bd("blue", 100, &["vnet-*"])
        .binary(&program);
    let mut agent = Agent::start(&host, &config)?;
    ensure!(agent.show("bds")?[0]["name"] == "blue");
    ensure!(agent.stop()?.success());

    // Removing leaves the configuration, purging does not.
    run(dpkg(&root).args(["--remove", "vtep-agent"]))?;
    ensure!(!program.exists() && example.exists());
    run(dpkg(&root).args(["--purge", "vtep-agent"]))?;
    ensure!(!example.exists());
    Ok(())
}

/// systemd reads the unit without a complaint, and what it starts is what the package installs.
#[test]
fn systemd_understands_the_unit() -> Result<()> {
    let lab = Lab::new("unit")?;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/vtep-agent.service");
    let text = fs::read_to_string(&unit)?;
    let start = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    ensure!(start == Some("/usr/bin/vtep-agent run --config /etc/vtep/vtep.toml"));

    // The program must exist for systemd-analyze, and /usr/bin is not ours.
    let agent = agent_binary()?;
    let copy = lab.directory().join("vtep-agent.service");
    fs::write(
        &copy,
        text.replace("/usr/bin/vtep-agent", &agent.to_string_lossy()),
    )?;
    run(Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&copy))?;
    Ok(())
}
