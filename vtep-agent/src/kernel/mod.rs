//! The kernel's view of the network: devices, addresses, and underlay paths to other VTEPs.
//!
//! Everything here speaks netlink, in the network namespace of the thread that opens it, and nothing
//! outside does. [`Monitor`] turns notifications into [`Input`](crate::core::Input)s of the core:
//!
//! ```text
//! rtnetlink groups ─┐                ┌─ links   ── Link, LinkGone
//! netdev group ─────┴─ Monitor::next ┤
//! track, untrack ──────────────────> ├─ tracker ── Paths   (asks for routes, owns neighbours)
//! host_route ──────────────────────> └─ host_routes        (owns routes of our protocol number)
//! ```

mod features;
mod filters;
mod genetlink;
mod host_routes;
mod links;
mod message;
mod monitor;
mod neighbours;
mod nic;
mod ports;
mod routes;
mod socket;
mod tracker;
mod tunnel;

use std::{io, net::IpAddr};

use self::{
    message::Request,
    socket::{RequestError, Requests},
};
use crate::types::IfName;

pub use filters::has_ingress_filters;
pub use host_routes::HostRouteCounts;
pub use monitor::Monitor;
pub use nic::{Nic, nic};
pub use ports::{PortBefore, prepare_port, restore_port};
pub use tunnel::{create_tunnel, remove_tunnel, tunnel_name};

/// What can fail. Every message is one line that names the cause.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(io::Error),
    /// `CAP_NET_ADMIN` is missing.
    #[error("no CAP_NET_ADMIN in this network namespace: run as root or grant the capability")]
    Privilege,
    /// The kernel did not answer a question that it must.
    #[error("cannot read {what} from the kernel: {cause}")]
    Request {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        cause: io::Error,
    },
    /// The socket for notifications broke.
    #[error("cannot read notifications from the kernel: {0}")]
    Notifications(io::Error),
    /// IPv6 is still on.
    #[error(
        "cannot turn IPv6 off on port {port}: {cause}; set net.ipv6.conf.{port}.disable_ipv6=1"
    )]
    Port {
        /// The port.
        port: IfName,
        /// Why not.
        cause: io::Error,
    },
    /// IPv6 stays off.
    #[error("cannot turn IPv6 on again on {port}, which was a port: {cause}")]
    Restore {
        /// The port.
        port: IfName,
        /// Why not.
        cause: io::Error,
    },
    /// Renamed or deleted meanwhile.
    #[error("{port} is not the name of device {ifindex} any more")]
    NotThePort {
        /// The name.
        port: IfName,
        /// The device that had it.
        ifindex: u32,
    },
    /// The vxlan device cannot be made or removed.
    #[error("vxlan device {name}: {cause}")]
    Tunnel {
        /// Its name.
        name: String,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// The vxlan device's name belongs to something else.
    #[error("{name} is not the agent's vxlan device: rename or remove it")]
    TunnelName {
        /// The name.
        name: String,
    },
}

/// Every address of this network namespace.
///
/// # Errors
///
/// No netlink socket, or no answer.
pub fn local_addresses() -> Result<Vec<IpAddr>, KernelError> {
    let mut requests = Requests::open(libc::NETLINK_ROUTE as isize).map_err(KernelError::Open)?;
    let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; 8]);
    requests
        .dump(&request, |message| {
            // On a point-to-point link IFA_ADDRESS is the other end's.
            let (_, attributes) = message.split::<8>()?;
            let local = attributes.find(libc::IFA_LOCAL);
            local.or_else(|| attributes.find(libc::IFA_ADDRESS))?.ip()
        })
        .map_err(failed("addresses"))
}

/// A question that the kernel must be able to answer.
fn failed(what: &'static str) -> impl Fn(RequestError) -> KernelError {
    move |error| KernelError::Request {
        what,
        cause: error.into_io(),
    }
}
