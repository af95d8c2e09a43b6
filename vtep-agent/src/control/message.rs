use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{BdSettings, XdpMode};

/// A request as it is on the wire, beside `"version"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Message {
    /// Prints a table.
    Show {
        /// Which one.
        what: Table,
        /// Only this bridge domain, where the table is by bridge domain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bd: Option<String>,
        /// Routes of this family; EVPN by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        family: Option<RouteFamily>,
    },
    /// Attaches an uplink.
    Attach {
        /// The device, which must exist.
        nic: String,
        /// The configured mode by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        xdp: Option<XdpMode>,
    },
    /// Detaches an uplink.
    Detach {
        /// The device.
        nic: String,
    },
    /// Makes a bridge domain.
    BdAdd {
        /// Its name.
        name: String,
        /// Its VNI.
        vni: u32,
        /// Other keys of `[[bd]]` but `ports`, as in the configuration file.
        #[serde(default, skip_serializing_if = "BdSettings::is_empty")]
        settings: BdSettings,
    },
    /// Removes a bridge domain.
    BdDel {
        /// Its name.
        name: String,
    },
    /// Adds a port to a bridge domain, or an endpoint to a port.
    PortAdd {
        /// The device, which may not exist yet.
        device: String,
        /// The bridge domain.
        bd: String,
        /// VLAN on the port; untagged by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vlan: Option<u16>,
        /// Declares an endpoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
        /// The endpoint's addresses.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ips: Vec<IpAddr>,
        /// The endpoint never moves.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sticky: bool,
    },
    /// Removes a port, or one endpoint of it.
    PortDel {
        /// The device.
        device: String,
        /// VLAN on the port; untagged by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vlan: Option<u16>,
        /// Only this endpoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
    },
    /// Clears what has been noted.
    Clear {
        /// What.
        what: Clearable,
        /// Only of this bridge domain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bd: Option<String>,
    },
    /// Tells what becomes of frames as it happens, a line each, until the client hangs up.
    Trace {
        /// Only of this bridge domain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bd: Option<String>,
        /// Only with this source or destination.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
        /// Only from or to this port.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
        /// Only those that are dropped for this reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Only those that are dropped.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        drops: bool,
        /// Frames per second; 100 by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<u32>,
    },
    /// Reads the configuration file again.
    Reload {},
    /// Withdraws everything, and detaches every device some time later.
    Drain {
        /// Seconds of forwarding that are left; the configured time by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_s: Option<u64>,
    },
}

/// What `clear` can clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Clearable {
    /// Duplicate MACs and addresses: they are as all others again.
    Duplicates,
    /// Counters of `show counters` and `show ports`: they begin at 0 again; metrics go on.
    Counters,
}

/// Routes of which family `show routes` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RouteFamily {
    /// What bridge domains are made of.
    Evpn,
    /// Routes of the host.
    Ipv4,
    /// Routes of the host.
    Ipv6,
}

/// What `show` can print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Our AS and the peers.
    Bgp,
    /// Routes, received and our own.
    Routes,
    /// Bridge domains.
    Bds,
    /// VM ports.
    Ports,
    /// MAC addresses.
    Macs,
    /// IP to MAC.
    Neighbors,
    /// Other VTEPs.
    Vteps,
    /// Receivers of broadcast, unknown unicast and multicast.
    Flood,
    /// Packets, bytes and drops by reason.
    Counters,
    /// Underlay NICs.
    Uplinks,
    /// Whether the agent takes part, and does all that it should.
    Status,
}

impl Table {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bgp => "bgp",
            Self::Routes => "routes",
            Self::Bds => "bds",
            Self::Ports => "ports",
            Self::Macs => "macs",
            Self::Neighbors => "neighbors",
            Self::Vteps => "vteps",
            Self::Flood => "flood",
            Self::Counters => "counters",
            Self::Uplinks => "uplinks",
            Self::Status => "status",
        }
    }
}
