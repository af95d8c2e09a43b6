//! The host's vxlan device: there while an uplink has no XDP half, so that inner TCP is merged all the
//! same.

use crate::{
    config::{UnknownVni, VtepConfig},
    core::Input,
    dataplane::Dataplane,
    kernel,
};

/// What became of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody needs it.
    Absent,
    /// Inner TCP goes through it.
    Used {
        ifindex: u32,
        /// The notice of that has come, behind those of its creation.
        up: bool,
    },
    /// It cannot be had, or is out of order: TCP is decapsulated like everything else.
    Failed,
}

/// The device of this agent.
pub(super) struct Tunnel {
    port: u16,
    name: String,
    /// Not where the host may have a vxlan device of its own on the port.
    allowed: bool,
    state: State,
}

impl Tunnel {
    pub(super) fn new(config: &VtepConfig) -> Self {
        Self {
            port: config.port,
            name: kernel::tunnel_name(config.port),
            allowed: config.unknown_vni == UnknownVni::Drop,
            state: State::Absent,
        }
    }

    /// Makes or removes the device as the uplinks need it.
    pub(super) fn settle(&mut self, dataplane: &mut Dataplane, needed: bool) {
        match (needed && self.allowed, self.state) {
            (true, State::Absent) => self.create(dataplane),
            (false, State::Used { .. } | State::Failed) => {
                self.release(dataplane);
                self.remove();
                self.state = State::Absent;
            }
            _ => {}
        }
    }

    /// Removes the device, whoever made it: an earlier run of this agent, if not this one. Its
    /// program is detached already.
    pub(super) fn remove(&self) {
        if let Err(error) = kernel::remove_tunnel(self.port) {
            tracing::warn!("{error}");
        }
    }

    /// Whether this is about the device, which is no business of the core: a glob for ports must not
    /// take it. Without a working device TCP goes the other way.
    pub(super) fn takes(&mut self, dataplane: &mut Dataplane, input: &Input) -> bool {
        match input {
            Input::Link(link) if link.name.as_str() == self.name => {
                match self.state {
                    State::Used { ifindex, up: false } => {
                        let up = link.up;
                        self.state = State::Used { ifindex, up };
                    }
                    State::Used { .. } if !link.up => self.fail(dataplane, "it is down"),
                    // Back in order: the next `settle` takes it.
                    State::Failed if link.up => self.state = State::Absent,
                    _ => {}
                }
                true
            }
            Input::LinkGone(gone) if matches!(self.state, State::Used { ifindex, .. } if ifindex == *gone) =>
            {
                tracing::warn!(device = self.name, "somebody removed the vxlan device");
                self.release(dataplane);
                self.state = State::Absent;
                true
            }
            _ => false,
        }
    }

    fn create(&mut self, dataplane: &mut Dataplane) {
        let attached = kernel::create_tunnel(self.port)
            .map_err(|error| error.to_string())
            .and_then(|ifindex| {
                dataplane
                    .attach_overlay(ifindex, &self.name)
                    .map_err(|error| error.to_string())?;
                Ok(ifindex)
            });
        match attached {
            Ok(ifindex) => {
                tracing::info!(device = self.name, "inner TCP goes through a vxlan device");
                self.state = State::Used { ifindex, up: false };
            }
            Err(error) => {
                self.fail(dataplane, &error);
                self.remove();
            }
        }
    }

    fn fail(&mut self, dataplane: &mut Dataplane, reason: &str) {
        tracing::warn!(
            device = self.name,
            "no vxlan device for inner TCP, which is slower without: {reason}"
        );
        self.release(dataplane);
        self.state = State::Failed;
    }

    fn release(&self, dataplane: &mut Dataplane) {
        if let Err(error) = dataplane.detach_overlay() {
            tracing::warn!("{error}");
        }
    }
}
