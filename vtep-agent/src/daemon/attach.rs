//! Which devices have programs, and which are still to get them.

use std::collections::{BTreeMap, HashMap};

use crate::{
    config::XdpMode,
    dataplane::{AttachedMode, Dataplane, DataplaneError},
    kernel::{self, PortBefore},
    types::IfName,
};

/// What the core wants attached, and what became of it. A device that refuses is tried again every
/// second: it may be about to vanish, or another program about to leave it.
#[derive(Default)]
pub(super) struct Devices {
    uplinks: BTreeMap<IfName, Uplink>,
    ports: HashMap<u32, Port>,
}

struct Uplink {
    ifindex: u32,
    mode: XdpMode,
    state: Result<AttachedMode, String>,
}

struct Port {
    name: IfName,
    error: Option<String>,
    /// What to restore when it is released.
    before: Option<PortBefore>,
}

impl Devices {
    pub(super) fn attach_uplink(
        &mut self,
        dataplane: &mut Dataplane,
        ifindex: u32,
        name: IfName,
        mode: XdpMode,
    ) {
        let state = attach_uplink(dataplane, ifindex, &name, mode);
        match &state {
            Ok(attached) => tracing::info!(uplink = %name, xdp = attached.name(), "attached"),
            Err(error) => tracing::error!(uplink = %name, "cannot attach: {error}"),
        }
        self.uplinks.insert(
            name,
            Uplink {
                ifindex,
                mode,
                state,
            },
        );
    }

    pub(super) fn detach_uplink(&mut self, dataplane: &mut Dataplane, ifindex: u32, name: &IfName) {
        self.uplinks.remove(name);
        match dataplane.detach_uplink(ifindex) {
            Ok(()) => tracing::info!(uplink = %name, "detached"),
            Err(error) => tracing::warn!(uplink = %name, "cannot detach: {error}"),
        }
    }

    pub(super) fn attach_port(&mut self, dataplane: &mut Dataplane, ifindex: u32, name: IfName) {
        let mut port = Port {
            name,
            error: None,
            before: None,
        };
        port.attach(dataplane, ifindex);
        match &port.error {
            None => tracing::info!(port = %port.name, "attached"),
            Some(error) => tracing::error!(port = %port.name, "cannot attach: {error}"),
        }
        self.ports.insert(ifindex, port);
    }

    pub(super) fn detach_port(&mut self, dataplane: &mut Dataplane, ifindex: u32, name: &IfName) {
        match dataplane.detach_port(ifindex) {
            Ok(()) => tracing::info!(port = %name, "detached"),
            Err(error) => tracing::warn!(port = %name, "cannot detach: {error}"),
        }
        if let Some(port) = self.ports.remove(&ifindex) {
            port.restore();
        }
    }

    /// Detaches everything, and leaves devices and pins as they were before the agent was started.
    pub(super) fn release(self, dataplane: Dataplane) -> Result<(), DataplaneError> {
        let result = dataplane.remove();
        for port in self.ports.into_values() {
            port.restore();
        }
        result
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self, dataplane: &mut Dataplane) {
        for (name, uplink) in &mut self.uplinks {
            if uplink.state.is_err() {
                uplink.state = attach_uplink(dataplane, uplink.ifindex, name, uplink.mode);
                if let Ok(attached) = &uplink.state {
                    tracing::info!(uplink = %name, xdp = attached.name(), "attached at last");
                }
            }
        }
        for (&ifindex, port) in &mut self.ports {
            if port.error.is_some() {
                port.attach(dataplane, ifindex);
                if port.error.is_none() {
                    tracing::info!(port = %port.name, "attached at last");
                }
            }
        }
    }

    /// An uplink has only its TC half.
    pub(super) fn without_xdp(&self) -> bool {
        self.uplinks
            .values()
            .any(|uplink| uplink.state == Ok(AttachedMode::Off))
    }

    /// How the uplink's XDP half is attached; `None` when it is not an uplink, or refuses.
    pub(super) fn uplink_mode(&self, name: &str) -> Option<AttachedMode> {
        let (_, uplink) = self
            .uplinks
            .iter()
            .find(|(uplink, _)| uplink.as_str() == name)?;
        uplink.state.as_ref().ok().copied()
    }

    /// Why the uplink is not attached.
    pub(super) fn uplink_error(&self, name: &IfName) -> Option<&str> {
        self.uplinks
            .get(name)?
            .state
            .as_ref()
            .err()
            .map(String::as_str)
    }

    /// Why the port is not attached.
    pub(super) fn port_error(&self, ifindex: u32) -> Option<&str> {
        self.ports.get(&ifindex)?.error.as_deref()
    }

    /// A line for each device that refuses.
    pub(super) fn failures(&self) -> Vec<String> {
        let uplinks = self.uplinks.iter().filter_map(|(name, uplink)| {
            uplink
                .state
                .as_ref()
                .err()
                .map(|error| format!("uplink {name}: {error}"))
        });
        let ports = self.ports.values().filter_map(|port| {
            port.error
                .as_ref()
                .map(|error| format!("port {}: {error}", port.name))
        });
        uplinks.chain(ports).collect()
    }
}

fn attach_uplink(
    dataplane: &mut Dataplane,
    ifindex: u32,
    name: &IfName,
    mode: XdpMode,
) -> Result<AttachedMode, String> {
    dataplane
        .attach_uplink(ifindex, name.as_str(), mode)
        .map_err(|error| error.to_string())
}

impl Port {
    /// The access program passes nothing to the host, so IPv6 that stays on there is only noise
    /// towards the VM.
    fn attach(&mut self, dataplane: &mut Dataplane, ifindex: u32) {
        if self.before.is_none() {
            let prepared = dataplane.has_left_over(ifindex);
            match kernel::prepare_port(ifindex, &self.name, prepared) {
                Ok(before) => self.before = Some(before),
                Err(error) => tracing::warn!(port = %self.name, "{error}"),
            }
        }
        if let Ok(true) = kernel::has_ingress_filters(ifindex) {
            tracing::warn!(
                port = %self.name,
                "its ingress filters of others see no frame: the agent's program takes all"
            );
        }
        let attached = dataplane.attach_port(ifindex, self.name.as_str());
        self.error = attached.err().map(|error| error.to_string());
    }

    fn restore(&self) {
        if let Some(before) = &self.before
            && let Err(error) = kernel::restore_port(before)
        {
            tracing::warn!(port = %self.name, "{error}");
        }
    }
}
