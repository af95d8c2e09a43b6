//! The guest: QEMU, its console, and its end.

use std::{
    io::{BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Accel, kernel::Unpacked};

/// Begins the last line of the guest, before the job's exit status.
const STATUS: &str = "vm: status ";

/// What happens at the end of the allotted time.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the guest to its end, showing its console, and fails as its job does.
pub(super) fn run(
    kernel: &Unpacked,
    initramfs: &Path,
    accel: Accel,
    limit: Duration,
) -> Result<()> {
    let mut qemu = command(kernel, initramfs, accel);
    eprintln!("+ {}", crate::shell::line(&qemu));
    // SAFETY: between fork and exec the closure makes one system call, which takes integers.
    unsafe { qemu.pre_exec(die_with_parent) };
    let mut guest = Guest(qemu.spawn().context("cannot run qemu-system-x86_64")?);
    let console = guest.0.stdout.take().context("QEMU has no console")?;
    let lines = lines(console);
    let deadline = Instant::now() + limit;
    let mut status = None;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(rest) = line.strip_prefix(STATUS) {
                    status = rest.trim().parse::<i32>().ok();
                }
                println!("{line}");
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => bail!(
                "the guest was not done after {} minutes and was stopped",
                limit.as_secs() / 60
            ),
        }
    }
    let status = status.context("the guest ended without a result")?;
    ensure!(status == 0, "tests failed on Linux {}", kernel.version);
    Ok(())
}

fn command(kernel: &Unpacked, initramfs: &Path, accel: Accel) -> Command {
    let accel = match accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg,thread=multi",
    };
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", accel, "-cpu", "max", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-device", "virtio-rng-pci"])
        .args([
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ]);
    // Two NICs on one wire.
    for nic in ["wire0", "wire1"] {
        qemu.arg("-netdev")
            .arg(format!("hubport,id={nic},hubid=0"))
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev={nic}"));
    }
    qemu.arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg("console=ttyS0 quiet loglevel=4 panic=-1 net.ifnames=0 mitigations=off")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    qemu
}

/// The console's lines, for as long as there is one.
fn lines(console: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn die_with_parent() -> std::io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal's number.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
