//! Leaving the fabric: nothing is announced any more, forwarding goes on until peers have moved their
//! traffic, and only then are programs detached.
//!
//! EVPN routes are withdrawn at once instead of announced with the lowest preference first (RFC 8326):
//! that makes way for another path to the same destination, which a MAC behind one VTEP does not have.
//! Routes of the host itself stay. Its VMs may be leaving over them, and it has to be reachable.

use std::time::{Duration, Instant};

use super::{Command, CommandError, Core, Start};

/// How far the agent has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// It takes part.
    #[default]
    Off,
    /// Everything is withdrawn, and forwarding goes on until this moment.
    Draining(Instant),
    /// No device has a program.
    Drained,
}

impl Drain {
    /// What has begun does not end before the agent was stopped in order and is started again.
    pub fn has_begun(self) -> bool {
        self != Self::Off
    }

    /// Time until programs are detached; `None` when it is not draining.
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        match self {
            Self::Draining(until) => Some(until.saturating_duration_since(now)),
            Self::Off | Self::Drained => None,
        }
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Draining(until) => Some(until),
            Self::Off | Self::Drained => None,
        }
    }
}

impl Core {
    /// How far the agent has left.
    pub fn drain_state(&self) -> Drain {
        self.drain
    }

    /// Withdraws everything; the devices follow after this time, or after the configured one.
    pub(super) fn begin_drain(
        &mut self,
        time: Option<Duration>,
        now: Instant,
    ) -> Result<(), CommandError> {
        match self.drain {
            Drain::Off => {}
            Drain::Draining(until) => {
                let left = until.saturating_duration_since(now).as_secs();
                return Err(CommandError::Draining(left));
            }
            Drain::Drained => return Err(CommandError::Drained),
        }
        let time = time.unwrap_or(self.config.vtep.drain_time);
        let macs = self.bds.values().map(|bd| bd.macs().census());
        let local: u64 = macs.map(|macs| macs.learned + macs.declared).sum();
        if local > 0 {
            tracing::warn!(
                macs = local,
                "draining with VMs here: they are cut off unless they move"
            );
        }
        tracing::info!(
            seconds = time.as_secs(),
            "draining: everything is withdrawn"
        );
        self.leave(now + time);
        self.state.draining = true;
        self.state_dirty = true;
        Ok(())
    }

    /// An earlier run crashed while it was leaving: that goes on. What is still forwarding does so for
    /// the whole time again, since nobody knows how much of it had passed; nothing comes back.
    pub(super) fn resume_drain(&mut self, start: Start, now: Instant) {
        if !self.state.draining {
            return;
        }
        let time = match start.forwarding_preserved {
            true => self.config.vtep.drain_time,
            false => Duration::ZERO,
        };
        tracing::warn!(
            seconds = time.as_secs(),
            "the last run ended while draining, which goes on; stop the agent and start it again to \
             take part"
        );
        self.leave(now + time);
    }

    /// The end of it is the end of the process, in order.
    pub(super) fn forget_drain(&mut self) {
        self.state_dirty |= std::mem::take(&mut self.state.draining);
    }

    fn leave(&mut self, until: Instant) {
        self.adj_out.leave();
        self.drain = Drain::Draining(until);
    }

    /// Detaches every device when it is time.
    pub(super) fn finish_drain(&mut self, now: Instant) {
        if self.drain.deadline().is_none_or(|until| until > now) {
            return;
        }
        self.drain = Drain::Drained;
        self.sync_ports(now);
        self.sync_uplinks();
        tracing::info!("drained: programs are detached");
    }

    /// Refuses what would bring something back.
    pub(super) fn check_takes_part(&self, command: &Command) -> Result<(), CommandError> {
        let adds = matches!(
            command,
            Command::Reload(_) | Command::Attach(..) | Command::AddBd(_) | Command::AddPort { .. }
        );
        match adds && self.drain.has_begun() {
            true => Err(CommandError::Leaving),
            false => Ok(()),
        }
    }
}
