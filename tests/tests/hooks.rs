//! The libvirt hook of docs/hooks: what it makes of a domain.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

const DOMAIN: &str = r#"<domain type="kvm">
  <name>web</name>
  <metadata>
    <vtep:ports xmlns:vtep="https://vtep.invalid/libvirt/1">
      <vtep:port mac="02:00:00:00:00:01" bd="blue">
        <vtep:ip address="10.0.0.1"/>
        <vtep:ip address="fd00::1"/>
      </vtep:port>
      <vtep:port mac="02:00:00:00:00:02" bd="red" vlan="10"/>
    </vtep:ports>
  </metadata>
  <devices>
    <interface type="ethernet">
      <mac address="02:00:00:00:00:01"/>
      <target dev="tap-web0" managed="no"/>
    </interface>
    <interface type="ethernet">
      <mac address="02:00:00:00:00:02"/>
      <target dev="tap-web1" managed="no"/>
    </interface>
    <interface type="network">
      <mac address="02:00:00:00:00:03"/>
      <target dev="vnet7"/>
    </interface>
  </devices>
</domain>"#;

/// Runs the hook with an agent that writes down how it was called, and fails with `status`. The
/// answer is those calls.
fn run(operation: &str, phase: &str, domain: &str, status: u8) -> Result<Vec<String>> {
    let directory = tempfile::tempdir()?;
    let (agent, calls) = (
        directory.path().join("agent"),
        directory.path().join("calls"),
    );
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {}\nexit {status}\n",
        calls.display()
    );
    fs::write(&agent, script)?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hooks/libvirt-qemu");
    let mut child = Command::new(hook)
        .args(["web", operation, phase, "-"])
        .env("VTEP_AGENT", &agent)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // The hook need not read it.
    let _ = stdin.write_all(domain.as_bytes());
    drop(stdin);
    ensure!(child.wait()?.success(), "a hook that fails stops the VM");
    let calls = fs::read_to_string(calls).unwrap_or_default();
    Ok(calls.lines().map(str::to_owned).collect())
}

const ADDED: [&str; 2] = [
    "port add tap-web0 --bd blue --mac 02:00:00:00:00:01 --ip 10.0.0.1 --ip fd00::1",
    "port add tap-web1 --bd red --mac 02:00:00:00:00:02 --vlan 10",
];

#[test]
fn ports_come_and_go_with_the_domain() -> Result<()> {
    for operation in ["started", "reconnect"] {
        assert_eq!(run(operation, "begin", DOMAIN, 0)?, ADDED);
    }
    for operation in ["stopped", "release"] {
        let removed = ["port del tap-web0", "port del tap-web1 --vlan 10"];
        assert_eq!(run(operation, "end", DOMAIN, 0)?, removed);
    }
    Ok(())
}

/// The new host declares a port when the VM runs there, not before: until then the old one has it.
#[test]
fn other_phases_change_nothing() -> Result<()> {
    for (operation, phase) in [
        ("prepare", "begin"),
        ("start", "begin"),
        ("migrate", "begin"),
    ] {
        assert!(run(operation, phase, DOMAIN, 0)?.is_empty());
    }
    Ok(())
}

#[test]
fn an_agent_that_is_away_stops_no_vm() -> Result<()> {
    assert_eq!(run("started", "begin", DOMAIN, 1)?, ADDED);
    Ok(())
}

#[test]
fn what_is_no_domain_does_nothing() -> Result<()> {
    for domain in ["", "<domain", "<domain/>"] {
        assert!(run("started", "begin", domain, 0)?.is_empty());
    }
    let option = DOMAIN.replace("tap-web0", "--socket");
    assert!(run("started", "begin", &option, 0)?.is_empty());
    Ok(())
}
