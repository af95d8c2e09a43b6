//! Which devices have programs, and which are still to get them.

use std::collections::{BTreeMap, HashMap};

use crate::{
    config::XdpMode,
    dataplane::{AttachedMode, Dataplane},
    kernel,
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
        let error = attach_port(dataplane, ifindex, &name).err();
        match &error {
            None => tracing::info!(port = %name, "attached"),
            Some(error) => tracing::error!(port = %name, "cannot attach: {error}"),
        }
        self.ports.insert(ifindex, Port { name, error });
    }

    pub(super) fn detach_port(&mut self, dataplane: &mut Dataplane, ifindex: u32, name: &IfName) {
        self.ports.remove(&ifindex);
        match dataplane.detach_port(ifindex) {
            Ok(()) => tracing::info!(port = %name, "detached"),
            Err(error) => tracing::warn!(port = %name, "cannot detach: {error}"),
        }
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
                port.error = attach_port(dataplane, ifindex, &port.name).err();
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

/// The access program passes nothing to the host, so IPv6 that stays on there is only noise towards
/// the VM.
fn attach_port(dataplane: &mut Dataplane, ifindex: u32, name: &IfName) -> Result<(), String> {
    if let Err(error) = kernel::prepare_port(ifindex, name) {
        tracing::warn!(port = %name, "{error}");
    }
    if let Ok(true) = kernel::has_ingress_filters(ifindex) {
        tracing::warn!(port = %name, "its ingress filters of others see no frame: the agent's program takes all");
    }
    dataplane
        .attach_port(ifindex, name.as_str())
        .map_err(|error| error.to_string())
}
