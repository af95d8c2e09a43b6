//! From the programs of an earlier run to those of this one.
//!
//! Programs are exchanged when the maps that the new ones use know what the old ones know. On the same
//! maps that is at once. New maps are filled first; when the old ones could not be read, with what
//! peers send, and the old programs forward until they have sent it and the paths to them are known.

use std::{
    collections::HashSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::Daemon;
use crate::{
    core::{Input, Output},
    dataplane::Inheritance,
};

/// How long the underlay's paths are waited for once peers have sent everything.
const PATHS_WITHIN: Duration = Duration::from_secs(10);

/// What the exchange waits for.
pub(super) struct Takeover {
    waits: Option<Wait>,
    /// What is to be done with devices then, in order.
    postponed: Vec<Output>,
}

/// On what the new maps do not know yet.
#[derive(Default)]
struct Wait {
    /// VTEPs whose paths have not been reported.
    without_paths: HashSet<IpAddr>,
    /// Peers have sent everything; paths are waited for until then.
    until: Option<Instant>,
}

impl Takeover {
    pub(super) fn new(inheritance: Inheritance) -> Self {
        Self {
            waits: (inheritance == Inheritance::Endpoints).then(Wait::default),
            postponed: Vec::new(),
        }
    }

    /// Nothing is attached yet, since too little is known.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits.is_some()
    }

    /// Keeps back what is to be done with devices while that is not to be.
    pub(super) fn passes(&mut self, output: Output) -> Option<Output> {
        let Some(wait) = &mut self.waits else {
            return Some(output);
        };
        match &output {
            Output::AttachPort(..)
            | Output::DetachPort(..)
            | Output::AttachUplink(..)
            | Output::DetachUplink(..) => {
                self.postponed.push(output);
                return None;
            }
            Output::Track(vtep) => drop(wait.without_paths.insert(*vtep)),
            Output::Untrack(vtep) => drop(wait.without_paths.remove(vtep)),
            Output::Settled => wait.until = Some(Instant::now() + PATHS_WITHIN),
            _ => {}
        }
        Some(output)
    }

    /// Takes note of what comes in.
    pub(super) fn sees(&mut self, input: &Input) {
        if let (Some(wait), Input::Paths(vtep, ..)) = (&mut self.waits, input) {
            wait.without_paths.remove(vtep);
        }
    }

    /// Everything is known that was waited for.
    pub(super) fn is_due(&self) -> bool {
        self.waits.as_ref().is_some_and(|wait| {
            wait.until
                .is_some_and(|until| wait.without_paths.is_empty() || until <= Instant::now())
        })
    }
}

impl Daemon {
    /// Exchanges the programs, and detaches what nobody wants any more.
    pub(super) fn take_over(&mut self) {
        // A round that was not enough for everything is due again at once.
        loop {
            self.reconcile();
            if self
                .reconciler
                .deadline()
                .is_none_or(|due| due > Instant::now())
            {
                break;
            }
        }
        self.takeover.waits = None;
        let postponed = std::mem::take(&mut self.takeover.postponed);
        let outputs = std::mem::take(&mut self.outputs);
        self.outputs = postponed.into_iter().chain(outputs).collect();
        self.settle();
        let with_xdp = !self.devices.without_xdp();
        if with_xdp && let Err(error) = self.dataplane.detach_overlay() {
            tracing::warn!("{error}");
        }
        if let Err(error) = self.dataplane.finish_takeover() {
            tracing::warn!("cannot remove what an earlier run left: {error}");
        }
        if with_xdp {
            self.tunnel.remove();
        }
    }
}
