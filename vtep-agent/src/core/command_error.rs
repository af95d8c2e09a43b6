//! Why commands are refused, in one line each that says what to do.

use std::{fmt, net::IpAddr};

use vtep_common::abi::{MAX_BDS, MAX_PORTS, MAX_UPLINKS};

use crate::{
    config::XdpMode,
    types::{BdName, IfName, InvalidName, Mac, RouteDistinguisher, Vni},
};

/// Why a command was refused; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such bridge domain.
    #[error("no bridge domain {0}; make it with: vtep-agent bd add {0} --vni N")]
    UnknownBd(BdName),
    /// Commands don't change what the file owns.
    #[error("bridge domain {0} belongs to the configuration file; change it there and reload")]
    BdInFile(BdName),
    /// Another VNI.
    #[error(
        "bridge domain {name} has VNI {have}, not {want}; remove it first: vtep-agent bd del {name}"
    )]
    OtherVni {
        /// The bridge domain.
        name: BdName,
        /// What it has.
        have: Vni,
        /// What was requested.
        want: Vni,
    },
    /// Another VNI, and the file's.
    #[error(
        "bridge domain {name} has VNI {have} in the configuration file, not {want}; change it there and reload"
    )]
    OtherVniInFile {
        /// The bridge domain.
        name: BdName,
        /// What it has.
        have: Vni,
        /// What was requested.
        want: Vni,
    },
    /// The VNI is another one's.
    #[error("VNI {vni} belongs to bridge domain {owner}; choose another VNI for {name}")]
    VniTaken {
        /// The VNI.
        vni: Vni,
        /// Who has it.
        owner: BdName,
        /// Who wants it.
        name: BdName,
    },
    /// The RD is another one's.
    #[error("RD {rd} belongs to bridge domain {owner}; choose another RD for {name}")]
    RdTaken {
        /// The RD.
        rd: RouteDistinguisher,
        /// Who has it.
        owner: BdName,
        /// Who wants it.
        name: BdName,
    },
    /// Same name and VNI as in the file, other settings.
    #[error(
        "bridge domain {0} has other settings in the configuration file; change it there, then run \
         vtep-agent reload"
    )]
    OtherSettingsInFile(BdName),
    /// Same name and VNI, other settings.
    #[error("bridge domain {0} exists with other settings; remove it first: vtep-agent bd del {0}")]
    OtherSettings(BdName),
    /// Not a device name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The port is another bridge domain's.
    #[error("port {port} belongs to bridge domain {owner}, not {want}; remove it there first")]
    PortTaken {
        /// Device and VLAN.
        port: PortName,
        /// Who has it.
        owner: BdName,
        /// Who wants it.
        want: BdName,
    },
    /// Commands don't change what the file owns.
    #[error("port {port} belongs to bridge domain {bd}'s configuration; change it there")]
    PortInConfig {
        /// Device and VLAN.
        port: PortName,
        /// Whose it is.
        bd: BdName,
    },
    /// A device is one or the other.
    #[error("{0} is an uplink and cannot be a port; detach it first: vtep-agent detach {0}")]
    IsUplink(IfName),
    /// A device is one or the other.
    #[error(
        "{device} is a port of bridge domain {bd} and cannot be an uplink; remove it there first"
    )]
    IsPort {
        /// The device.
        device: IfName,
        /// Whose port it is.
        bd: BdName,
    },
    /// A group address or zero.
    #[error("{0} cannot be an endpoint's MAC; give a unicast address")]
    NotStation(Mac),
    /// Multicast, loopback, unspecified.
    #[error("{0} cannot be an endpoint's address; give a unicast address")]
    NotHost(IpAddr),
    /// Declared with other values.
    #[error(
        "endpoint {mac} is declared with {have}, not {want}; remove it first: vtep-agent port del {port} --mac {mac}"
    )]
    OtherEndpoint {
        /// The endpoint.
        mac: Mac,
        /// Its port.
        port: PortName,
        /// As declared.
        have: String,
        /// As requested.
        want: String,
    },
    /// Declared on another port.
    #[error(
        "endpoint {mac} is declared on port {have}, not {want}; remove it there first: vtep-agent port del {have} --mac {mac}"
    )]
    EndpointElsewhere {
        /// The endpoint.
        mac: Mac,
        /// Where it is.
        have: PortName,
        /// Where it was requested.
        want: PortName,
    },
    /// The address is another endpoint's.
    #[error("address {ip} is declared for endpoint {owner}, not {mac}; remove that one first")]
    AddressTaken {
        /// The address.
        ip: IpAddr,
        /// Who has it.
        owner: Mac,
        /// Who wants it.
        mac: Mac,
    },
    /// `attach` of what isn't there.
    #[error("no network device {0}; see: ip link")]
    NoDevice(IfName),
    /// The table is full.
    #[error("there are {MAX_BDS} bridge domains already, or nearly so; remove one first")]
    TooManyBds,
    /// The table is full.
    #[error("{MAX_PORTS} ports were added already; remove one first")]
    TooManyPorts,
    /// The table is full.
    #[error("{0} endpoints are declared already (vtep.max_macs); remove one first")]
    TooManyEndpoints(u32),
    /// The table is full.
    #[error("there are {MAX_UPLINKS} uplinks already; detach one first")]
    TooManyUplinks,
    /// Attached otherwise.
    #[error(
        "{name} is attached with --xdp {have}, not {want}; detach it first: vtep-agent detach {name}"
    )]
    OtherMode {
        /// The uplink.
        name: IfName,
        /// How it is attached.
        have: XdpModeName,
        /// How it was requested.
        want: XdpModeName,
    },
    /// No VM is behind it.
    #[error("lo cannot be a port; give the host's end of a VM's interface")]
    Loopback,
    /// Nothing comes from outside there.
    #[error("lo cannot be an uplink; give the NIC towards the other VTEPs")]
    LoopbackUplink,
    /// `drain` twice.
    #[error("the agent is draining already, for {0} more seconds; see: vtep-agent show status")]
    Draining(u64),
    /// `drain` after it was done.
    #[error("the agent is drained already; stop it, or restart it to take part again")]
    Drained,
    /// Nothing new comes to an agent that leaves.
    #[error("the agent is leaving (drain): nothing can be added; restart it to take part again")]
    Leaving,
    /// `reload` cannot change this.
    #[error("{0} cannot change while the agent runs; nothing was applied, restart the agent")]
    NeedsRestart(&'static str),
}

/// A port in messages, in the form of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortName {
    /// The device.
    pub device: IfName,
    /// VLAN on it.
    pub vlan: Option<u16>,
}

/// A mode in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpModeName(pub XdpMode);

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vlan {
            Some(vlan) => write!(f, "{} --vlan {vlan}", self.device),
            None => self.device.fmt(f),
        }
    }
}

impl fmt::Display for XdpModeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            XdpMode::Auto => "auto",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
            XdpMode::Off => "off",
        })
    }
}
