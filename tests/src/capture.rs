//! Frames on a link, captured by tcpdump.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{Daemon, Lab, Namespace, programs};

/// Time for frames on their way to reach tcpdump.
const SETTLE: Duration = Duration::from_millis(150);
/// Options for whole frames. The buffer holds few of them at a time.
const WHOLE: &[&str] = &["-s", "0"];

/// A capture that goes on until [`Capture::stop`].
#[derive(Debug)]
pub struct Capture {
    tcpdump: Daemon,
    file: PathBuf,
}

/// A captured frame, from its destination MAC on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it was seen, since the epoch.
    pub time: Duration,
    /// Its bytes. VLAN tags are where they belong.
    pub bytes: Vec<u8>,
}

impl Capture {
    /// Starts capturing on a device what a pcap filter expression selects; empty for everything.
    ///
    /// # Errors
    ///
    /// When there is no such device or the filter is wrong.
    pub fn start(lab: &Lab, ns: &Namespace, device: &str, filter: &str) -> Result<Self> {
        Self::start_with(lab, ns, device, filter, "inout", WHOLE)
    }

    /// The same for frames that the device receives: those it sends are left out.
    ///
    /// # Errors
    ///
    /// Those of [`Capture::start`].
    pub fn start_received(lab: &Lab, ns: &Namespace, device: &str, filter: &str) -> Result<Self> {
        Self::start_with(lab, ns, device, filter, "in", WHOLE)
    }

    /// The same for bursts of thousands of frames, of which only the first bytes are kept.
    ///
    /// # Errors
    ///
    /// Those of [`Capture::start`].
    pub fn start_burst(lab: &Lab, ns: &Namespace, device: &str, filter: &str) -> Result<Self> {
        Self::start_with(lab, ns, device, filter, "in", &["-s", "256", "-B", "16384"])
    }

    fn start_with(
        lab: &Lab,
        ns: &Namespace,
        device: &str,
        filter: &str,
        direction: &str,
        size: &[&str],
    ) -> Result<Self> {
        let name = format!("tcpdump-{}", lab.serial());
        let file = lab.directory().join(format!("{name}.pcap"));
        let mut command = ns.command(programs::find("tcpdump")?);
        command
            // Root all along: the lab's directory is closed to tcpdump's own user.
            .args(["-Z", "root", "-n", "--immediate-mode", "-U"])
            .args(size)
            .args(["-Q", direction, "-i", device, "-w"])
            .arg(&file)
            .arg(filter);
        let mut tcpdump = Daemon::spawn(lab, &name, command)?;
        tcpdump.wait_for_log("listening on", Duration::from_secs(5))?;
        Ok(Self { tcpdump, file })
    }

    /// Waits for frames on their way, ends the capture and returns all of it.
    ///
    /// # Errors
    ///
    /// When tcpdump failed.
    pub fn stop(mut self) -> Result<Vec<Frame>> {
        std::thread::sleep(SETTLE);
        self.tcpdump.terminate()?;
        let bytes = fs::read(&self.file).context("tcpdump wrote no file")?;
        read_pcap(&bytes)
    }

    /// What was captured so far.
    ///
    /// # Errors
    ///
    /// When tcpdump failed.
    pub fn so_far(&mut self) -> Result<Vec<Frame>> {
        self.tcpdump.check()?;
        read_pcap(&fs::read(&self.file).context("tcpdump wrote no file")?)
    }
}

/// Reads a capture file as tcpdump writes it on this machine: classic format, microseconds, native
/// byte order. A last frame that is not complete yet is left out.
fn read_pcap(file: &[u8]) -> Result<Vec<Frame>> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const ETHERNET: u32 = 1;
    let Some((header, mut rest)) = file.split_at_checked(24) else {
        ensure!(file.is_empty(), "a capture file of {} bytes", file.len());
        return Ok(Vec::new());
    };
    let (magic, link_type) = (word(header, 0), word(header, 20));
    if magic != Some(MAGIC) || link_type != Some(ETHERNET) {
        bail!("not a capture of Ethernet frames: magic {magic:x?}, link type {link_type:?}");
    }
    let mut frames = Vec::new();
    while let Some((record, data)) = rest.split_at_checked(16) {
        let (Some(seconds), Some(micros), Some(length)) =
            (word(record, 0), word(record, 4), word(record, 8))
        else {
            break;
        };
        let Some((bytes, next)) = data.split_at_checked(length as usize) else {
            break;
        };
        frames.push(Frame {
            time: Duration::new(seconds.into(), micros.saturating_mul(1000)),
            bytes: bytes.to_vec(),
        });
        rest = next;
    }
    Ok(frames)
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
