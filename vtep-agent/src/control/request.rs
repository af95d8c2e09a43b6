use std::{net::IpAddr, str::FromStr, time::Duration};

use serde_json::Value;
use vtep_common::DropReason;

use super::{
    VERSION,
    message::{Clearable, Message, RouteFamily, Table},
};
use crate::{
    config::{BdConfig, MAX_DRAIN_TIME, PortPattern},
    core::{Command, DeclaredEndpoint},
    evpn::is_host_address,
    types::{BdName, IfName, Mac, Vni},
};

/// Most addresses of one endpoint.
const MAX_ADDRESSES: usize = 256;

/// Most frames per second of a trace.
pub const MAX_TRACE_RATE: u32 = 10_000;

/// Those that are told of if nobody says how many.
const TRACE_RATE: u32 = 100;

/// A request, checked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Wants a table, perhaps of one bridge domain. [`Table::Bgp`], [`Table::Counters`],
    /// [`Table::Uplinks`] and [`Table::Status`] are not by bridge domain and come whole.
    Show(Table, Option<BdName>),
    /// Wants the routes of a unicast family: [`RouteFamily::Evpn`] is [`Table::Routes`].
    ShowRoutes(RouteFamily),
    /// Wants something changed.
    Change(Command),
    /// Wants to hear what becomes of frames.
    Trace(TraceRequest),
    /// Wants what `show` counts to begin at 0.
    ClearCounters,
    /// Wants the configuration file read again.
    Reload,
}

/// Which frames somebody wants to hear of. All that is said has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// Of this bridge domain.
    pub bd: Option<BdName>,
    /// With this source or destination.
    pub mac: Option<Mac>,
    /// From or to this port.
    pub port: Option<IfName>,
    /// Dropped for this reason.
    pub reason: Option<DropReason>,
    /// Dropped.
    pub drops: bool,
    /// So many per second at most: 1 to [`MAX_TRACE_RATE`].
    pub rate: u32,
}

/// The request cannot be carried out, whatever the agent's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// No JSON object.
    #[error("not a request: {0}, expected a JSON object on one line")]
    Syntax(String),
    /// Not our version of the protocol.
    #[error("protocol version {0} is not supported, this agent speaks version {VERSION}")]
    Version(String),
    /// Not one of the commands, or not with these fields.
    #[error("bad request: {0}")]
    Shape(String),
    /// A field has a value that it cannot have.
    #[error("{0}")]
    Value(String),
}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// Names the field that is wrong.
    pub fn parse(line: &[u8]) -> Result<Self, InvalidRequest> {
        let mut object: serde_json::Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| InvalidRequest::Syntax(error.to_string()))?;
        match object.remove("version") {
            Some(version) if version == VERSION => {}
            Some(version) => return Err(InvalidRequest::Version(version.to_string())),
            None => {
                let message = format!("missing field `version`, expected {VERSION}");
                return Err(InvalidRequest::Shape(message));
            }
        }
        serde_json::from_value::<Message>(Value::Object(object))
            .map_err(|error| InvalidRequest::Shape(error.to_string()))?
            .try_into()
    }
}

impl TryFrom<Message> for Request {
    type Error = InvalidRequest;

    fn try_from(message: Message) -> Result<Self, InvalidRequest> {
        let command = match message {
            Message::Reload {} => return Ok(Self::Reload),
            Message::Trace {
                bd,
                mac,
                port,
                reason,
                drops,
                rate,
            } => {
                return Ok(Self::Trace(TraceRequest {
                    bd: bd.as_deref().map(value).transpose()?,
                    mac: mac.as_deref().map(any_mac).transpose()?,
                    port: port.as_deref().map(value).transpose()?,
                    reason: reason.as_deref().map(drop_reason).transpose()?,
                    drops,
                    rate: trace_rate(rate.unwrap_or(TRACE_RATE))?,
                }));
            }
            Message::Show { what, bd, family } => {
                let bd = bd.as_deref().map(value).transpose()?;
                return show(what, bd, family);
            }
            Message::Clear { what, bd } => match what {
                Clearable::Duplicates => {
                    Command::ClearDuplicates(bd.as_deref().map(value).transpose()?)
                }
                Clearable::Counters if bd.is_none() => return Ok(Self::ClearCounters),
                Clearable::Counters => {
                    let message = "counters are cleared as a whole: leave out the bd".to_owned();
                    return Err(InvalidRequest::Value(message));
                }
            },
            Message::Drain { time_s } => {
                if let Some(time) = time_s.filter(|time| *time > MAX_DRAIN_TIME) {
                    let message = format!("time_s is {time}, expected 0 to {MAX_DRAIN_TIME}");
                    return Err(InvalidRequest::Value(message));
                }
                Command::Drain(time_s.map(Duration::from_secs))
            }
            Message::Attach { nic, xdp } => Command::Attach(value(&nic)?, xdp),
            Message::Detach { nic } => Command::Detach(value(&nic)?),
            Message::BdAdd {
                name,
                vni,
                settings,
            } => {
                let vni = Vni::try_from(vni)
                    .map_err(|error| InvalidRequest::Value(format!("vni {vni}: {error}")))?;
                let bd = BdConfig::with_settings(value(&name)?, vni, &settings);
                Command::AddBd(Box::new(bd.map_err(InvalidRequest::Value)?))
            }
            Message::BdDel { name } => Command::DeleteBd(value(&name)?),
            Message::PortAdd {
                device,
                bd,
                vlan,
                mac,
                ips,
                sticky,
            } => Command::AddPort {
                bd: value(&bd)?,
                port: port(&device, vlan)?,
                endpoint: endpoint(mac.as_deref(), ips, sticky)?,
            },
            Message::PortDel { device, vlan, mac } => {
                check_vlan(vlan)?;
                Command::DeletePort {
                    device: value(&device)?,
                    vlan,
                    mac: mac.as_deref().map(station).transpose()?,
                }
            }
        };
        Ok(Self::Change(command))
    }
}

fn show(
    what: Table,
    bd: Option<BdName>,
    family: Option<RouteFamily>,
) -> Result<Request, InvalidRequest> {
    match (what, family) {
        (_, None) | (Table::Routes, Some(RouteFamily::Evpn)) => Ok(Request::Show(what, bd)),
        (Table::Routes, Some(_)) if bd.is_some() => Err(InvalidRequest::Value(
            "routes of bridge domains are EVPN: leave out the bd or the family".to_owned(),
        )),
        (Table::Routes, Some(family)) => Ok(Request::ShowRoutes(family)),
        (_, Some(_)) => Err(InvalidRequest::Value(
            "only routes are by family".to_owned(),
        )),
    }
}

fn port(device: &str, vlan: Option<u16>) -> Result<PortPattern, InvalidRequest> {
    let name: IfName = value(device)?;
    check_vlan(vlan)?;
    let port = PortPattern {
        pattern: name.into(),
        vlan,
    };
    if port.is_glob() {
        let message =
            format!("port {device:?} is a glob, which only the configuration file can have");
        return Err(InvalidRequest::Value(message));
    }
    Ok(port)
}

fn endpoint(
    mac: Option<&str>,
    ips: Vec<IpAddr>,
    sticky: bool,
) -> Result<Option<DeclaredEndpoint>, InvalidRequest> {
    let Some(mac) = mac else {
        return match ips.is_empty() && !sticky {
            true => Ok(None),
            false => Err(InvalidRequest::Value("an endpoint needs a mac".to_owned())),
        };
    };
    if ips.len() > MAX_ADDRESSES {
        let message = format!("{} ips, expected at most {MAX_ADDRESSES}", ips.len());
        return Err(InvalidRequest::Value(message));
    }
    if let Some(ip) = ips.iter().find(|ip| !is_host_address(**ip)) {
        let message = format!("ip {ip} is not an address that a VM can have");
        return Err(InvalidRequest::Value(message));
    }
    Ok(Some(DeclaredEndpoint {
        mac: station(mac)?,
        ips,
        sticky,
    }))
}

fn any_mac(text: &str) -> Result<Mac, InvalidRequest> {
    text.parse()
        .map_err(|error| InvalidRequest::Value(format!("mac {text:?}: {error}")))
}

fn drop_reason(text: &str) -> Result<DropReason, InvalidRequest> {
    let named = |reason: &&DropReason| reason.name() == text;
    let reason = DropReason::ALL.iter().find(named).copied();
    reason.ok_or_else(|| {
        let message = format!("{text:?} is no reason: `show counters` has their names");
        InvalidRequest::Value(message)
    })
}

fn trace_rate(rate: u32) -> Result<u32, InvalidRequest> {
    match rate {
        1..=MAX_TRACE_RATE => Ok(rate),
        _ => Err(InvalidRequest::Value(format!(
            "rate is {rate}, expected 1 to {MAX_TRACE_RATE}"
        ))),
    }
}

fn station(text: &str) -> Result<Mac, InvalidRequest> {
    let mac = any_mac(text)?;
    match mac.is_station() {
        true => Ok(mac),
        false => Err(InvalidRequest::Value(format!(
            "mac {mac} is a group address or zero, expected a station's"
        ))),
    }
}

fn check_vlan(vlan: Option<u16>) -> Result<(), InvalidRequest> {
    match vlan {
        None | Some(1..=4094) => Ok(()),
        Some(vlan) => Err(InvalidRequest::Value(format!(
            "vlan is {vlan}, expected 1 to 4094"
        ))),
    }
}

fn value<T: FromStr<Err: ToString>>(text: &str) -> Result<T, InvalidRequest> {
    text.parse()
        .map_err(|error: T::Err| InvalidRequest::Value(error.to_string()))
}
