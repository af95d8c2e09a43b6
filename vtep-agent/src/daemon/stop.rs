//! The end: forwarding goes on, or nothing is left.

use std::{mem, time::Instant};

use anyhow::Result;

use super::Daemon;
use crate::{bgp::fsm::Cease, config::OnStop, reconcile::Reconciler, recording::Recorded};

impl Daemon {
    pub(super) async fn stop(mut self) -> Result<()> {
        tracing::info!("stopping");
        self.service.stopping();
        // Before anything else goes silent.
        self.bfd.shutdown().await;
        // Whoever drained it wants nothing to stay.
        let drained = self.core.drain_state().has_begun();
        match self.core.config().vtep.on_stop {
            OnStop::Keep if !drained => {
                let cease = Cease::Restart("agent stopped, forwarding goes on".to_owned());
                self.sessions.shutdown(cease).await;
                tracing::info!("forwarding goes on without the agent");
                leave_to_the_kernel(self.core, self.reconciler);
                Ok(())
            }
            OnStop::Keep | OnStop::Clean => self.clean_up().await,
        }
    }

    /// Withdraws everything, detaches every program, and removes what the agent made.
    async fn clean_up(mut self) -> Result<()> {
        let outputs = self.core.shutdown(Instant::now());
        self.outputs.extend(outputs);
        for output in mem::take(&mut self.outputs) {
            self.carry_out(output);
        }
        let cease = Cease::Shutdown("agent stopped".to_owned());
        self.sessions.shutdown(cease).await;
        self.devices.release(self.dataplane)?;
        self.tunnel.remove();
        self.monitor.release()?;
        leave_to_the_kernel(self.core, self.reconciler);
        Ok(())
    }
}

/// The process ends, and these tables with it: to take a million routes apart one by one takes seconds.
fn leave_to_the_kernel(core: Recorded, reconciler: Reconciler) {
    core.leave();
    mem::forget(reconciler);
}
