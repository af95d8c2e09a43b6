//! Devices: their numbers, and the thread that receives on one.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use vtep_tests::{Namespace, Vm, eventually};

use crate::sys;

/// Interface index.
pub(crate) fn index(ns: &Namespace, device: &str) -> Result<u32> {
    let json = ns.run(&format!("ip -json link show dev {device}"))?;
    let links: serde_json::Value = serde_json::from_str(&json)?;
    let index = links[0]["ifindex"].as_u64().context("no ifindex")?;
    Ok(u32::try_from(index)?)
}

/// The kernel thread that does all work for what arrives on one device: threaded NAPI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver {
    thread: i32,
}

impl Receiver {
    /// Gives a veth NAPI (which GRO switches on) in a thread on one processor, ahead of all else
    /// there.
    pub(crate) fn on(ns: &Namespace, device: &str, cpu: usize) -> Result<Self> {
        ns.run(&format!("ethtool -K {device} gro on"))?;
        let prefix = format!("napi/{device}-");
        let before = threads(&prefix)?;
        // Unlike `setns`, `ip netns exec` shows the namespace's own devices in /sys.
        let status = Command::new("ip")
            .args(["netns", "exec", ns.name(), "sh", "-c"])
            .arg(format!("echo 1 > /sys/class/net/{device}/threaded"))
            .status()?;
        ensure!(status.success(), "{device} takes no threaded NAPI");
        let thread = eventually(Duration::from_secs(2), || {
            let after = threads(&prefix)?;
            let mut new = after.difference(&before);
            match (new.next(), new.next()) {
                (Some(thread), None) => Ok(*thread),
                _ => bail!("not one new thread {prefix}N: {before:?}, {after:?}"),
            }
        })?;
        sys::pin(thread, cpu)?;
        sys::real_time(thread, 1)?;
        Ok(Self { thread })
    }

    /// Has it run before the other receivers, whose work it completes: these do not stop by themselves as
    /// long as there is more to do.
    pub(crate) fn ahead(self) -> Result<Self> {
        sys::real_time(self.thread, 2)?;
        Ok(self)
    }

    /// Time that it has spent on its processor, nanoseconds.
    pub(crate) fn cpu_time(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.thread))?;
        let time = text.split_whitespace().next();
        Ok(time.context("an empty schedstat")?.parse()?)
    }
}

/// A thread of the lab that does all work for what a VM on a tap sends, on one processor and ahead of all
/// else there until this is dropped.
#[derive(Debug)]
pub(crate) struct Carrier(Receiver);

impl Carrier {
    pub(crate) fn of(vm: &Vm, cpu: usize) -> Result<Self> {
        let thread = vm.carrier().context("no tap")?;
        let carrier = Self(Receiver { thread });
        sys::pin(thread, cpu)?;
        sys::real_time(thread, 1)?;
        Ok(carrier)
    }

    pub(crate) fn receiver(&self) -> &Receiver {
        &self.0
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if let Err(error) = sys::ordinary(self.0.thread) {
            eprintln!("{error:#}");
        }
    }
}

fn threads(prefix: &str) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may have ended meanwhile.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(prefix) {
            found.insert(pid);
        }
    }
    Ok(found)
}
