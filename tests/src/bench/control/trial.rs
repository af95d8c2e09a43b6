//! One side at work, and the speaker that tells it of a fabric.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use vtep_tests::{
    BgpMessage, Fabric, Host, Lab, ScriptedPeer, Station, UnderlayOptions, Vm, VmSpec,
};

use super::{
    look::Look,
    side::{Side, Speaker},
};

/// How long one table may take; FRR needs minutes for the large ones.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long a start may take: zebra first reads what an earlier run has left in the kernel.
const SLOW_START: Duration = Duration::from_secs(120);
/// Long enough for a peer that is busy with the table.
const HOLD_TIME: u16 = 240;

/// A side on a host of its own, with an established session to a speaker beside it.
pub(super) struct Trial {
    pub(super) side: Side,
    pub(super) peer: ScriptedPeer,
    pub(super) reflector: Host,
    pub(super) fabric: Fabric,
    /// In the first bridge domain, if there is one.
    pub(super) vm: Option<Vm>,
    open: BgpMessage,
}

impl Trial {
    /// With all bridge domains of the fabric, which is told nothing yet.
    pub(super) fn start(speaker: Speaker, fabric: Fabric) -> Result<Self> {
        Self::with(speaker, fabric, false)
    }

    /// The same with a VM, and a speaker that knows graceful restart (RFC 4724).
    pub(super) fn with_vm(speaker: Speaker, fabric: Fabric) -> Result<Self> {
        Self::with(speaker, fabric, true)
    }

    fn with(speaker: Speaker, fabric: Fabric, has_vm: bool) -> Result<Self> {
        let lab = Lab::new("control")?;
        lab.hide_logs();
        let [host, reflector] = lab.cable(["h1", "rr"], &UnderlayOptions::default())?;
        Fabric::route(&host, &reflector)?;
        let mut open = BgpMessage::open(Fabric::ASN, HOLD_TIME, reflector.address());
        let mut vm = None;
        if has_vm {
            // For L2VPN EVPN, 120 s, with the forwarding state kept.
            open = open.with_capability(64, &[0, 120, 0, 25, 70, 0x80]);
            vm = Some(host.vm("vm1", &VmSpec::new(1).silent())?);
        }
        let side = Side::start(speaker, &host, &reflector, &fabric, vm.as_ref())?;
        let peer = establish(&reflector, &open)?;
        Ok(Self {
            side,
            peer,
            reflector,
            fabric,
            vm,
            open,
        })
    }

    /// Resets the session, as when the reflector's process is gone, and is there again for the next one.
    pub(super) fn flap(self) -> Result<Self> {
        self.peer.reset()?;
        Ok(Self {
            peer: establish(&self.reflector, &self.open)?,
            ..self
        })
    }

    /// Kills the side's processes and starts them again; the session is there anew.
    pub(super) fn crash(&mut self) -> Result<()> {
        self.side.crash()?;
        self.peer = establish(&self.reflector, &self.open)?;
        Ok(())
    }

    /// Its tables.
    pub(super) fn look(&self) -> Result<Look> {
        self.side.look(&self.fabric)
    }

    /// Waits until a number of MACs, or none, are in the tables that forward, and returns how long that
    /// took: until the beginning of the look that found them. One MAC tells when it is worth counting them,
    /// which must come and go last: whoever counts all the time slows down what is measured.
    pub(super) fn until(&mut self, start: Instant, last: Station, macs: usize) -> Result<Duration> {
        let mut tables = self.look()?;
        let mut alive = Instant::now();
        loop {
            self.side.check()?;
            let look = Instant::now();
            if tables.has(last)? == (macs > 0) {
                let installed = self.side.installed()?;
                if installed == macs {
                    return Ok(look - start);
                }
                ensure!(
                    start.elapsed() < PATIENCE,
                    "{installed} MACs instead of {macs} after {PATIENCE:?}"
                );
            }
            ensure!(start.elapsed() < PATIENCE, "not done after {PATIENCE:?}");
            thread::sleep(look.elapsed().max(Duration::from_millis(5)));
            if alive.elapsed() > Duration::from_secs(20) {
                self.peer.send(&BgpMessage::keepalive())?;
                alive = Instant::now();
            }
        }
    }
}

fn establish(reflector: &Host, open: &BgpMessage) -> Result<ScriptedPeer> {
    let start = Instant::now();
    let mut peer = loop {
        match ScriptedPeer::accept(reflector) {
            Err(_) if start.elapsed() < SLOW_START => {}
            peer => break peer?,
        }
    };
    peer.establish(open)?;
    Ok(peer)
}
