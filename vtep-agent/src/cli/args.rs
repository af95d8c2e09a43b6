use std::{net::IpAddr, path::PathBuf};

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::{
    config::{DEFAULT_CONFIG, MAX_DRAIN_TIME, XdpMode, setting},
    control::{Clearable, MAX_TRACE_RATE, RouteFamily, Table},
    observe::LogFormat,
    recording::MIN_LIMIT,
    types::{BdName, IfName, Mac, Vni},
};

/// EVPN VTEP agent: BGP EVPN in, BPF maps out.
#[derive(Debug, Parser)]
#[command(name = "vtep-agent", version, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,

    /// Control socket of the agent [default: /run/vtep/agent.sock; for run: vtep.socket]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent in the foreground
    Run {
        /// Configuration file
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// What is logged, e.g. debug or info,vtep_agent::bgp=debug
        /// [default: VTEP_LOG, RUST_LOG or info]
        #[arg(long, value_name = "LEVEL")]
        log_level: Option<String>,
        /// How log lines look
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        log_format: LogFormat,
        /// Record all that the agent decides on to this file, for `replay`; secrets are left out, and
        /// one of that name becomes FILE.1
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// Size at which the recording ends, in bytes or with K, M or G
        #[arg(long, value_name = "SIZE", requires = "record", default_value = "1G",
              value_parser = size)]
        record_limit: u64,
    },
    /// Check a configuration and explain what it does; touches nothing
    Check {
        /// Configuration file
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Attach an uplink NIC
    Attach {
        /// The NIC
        nic: IfName,
        /// How: the configured mode by default
        #[arg(long, value_name = "MODE")]
        xdp: Option<XdpMode>,
    },
    /// Detach an uplink NIC
    Detach {
        /// The NIC
        nic: IfName,
    },
    /// Make and remove bridge domains
    #[command(subcommand, subcommand_required = true, arg_required_else_help = false)]
    Bd(BdCommand),
    /// Add and remove VM ports and their endpoints
    #[command(subcommand, subcommand_required = true, arg_required_else_help = false)]
    Port(PortCommand),
    /// Show the agent's tables
    Show {
        /// Which table
        #[arg(value_name = "TABLE")]
        what: Table,
        /// Only this bridge domain; bgp, counters, status and uplinks come whole
        #[arg(long, value_name = "NAME")]
        bd: Option<BdName>,
        /// Routes of this family: evpn, or ipv4 and ipv6 for those of the host itself
        #[arg(long, value_name = "FAMILY")]
        family: Option<RouteFamily>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Clear what the agent has noted
    Clear {
        /// What
        #[arg(value_name = "WHAT")]
        what: Clearable,
        /// Only duplicates of this bridge domain
        #[arg(long, value_name = "NAME")]
        bd: Option<BdName>,
    },
    /// Read the configuration file again and apply the difference
    Reload,
    /// Leave the fabric: withdraw everything, forward until peers have moved their traffic, then
    /// detach; returns when that is done
    Drain {
        /// Seconds of forwarding after everything is withdrawn [default: vtep.drain_time]
        #[arg(long = "time", value_name = "SECONDS",
              value_parser = clap::value_parser!(u64).range(0..=MAX_DRAIN_TIME))]
        time_s: Option<u64>,
        /// Return at once; `show status` says how far it is
        #[arg(long)]
        no_wait: bool,
    },
    /// Tell what becomes of frames as it happens: path, lookup and drop reason, until interrupted
    Trace {
        /// Only this bridge domain
        #[arg(long, value_name = "NAME")]
        bd: Option<BdName>,
        /// Only frames from or to this MAC
        #[arg(long, value_name = "MAC")]
        mac: Option<Mac>,
        /// Only frames from or to this port
        #[arg(long, value_name = "DEV")]
        port: Option<IfName>,
        /// Only frames that are dropped for this reason, e.g. unknown_vni
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// Only frames that are dropped
        #[arg(long)]
        drops: bool,
        /// Frames per second at most
        #[arg(long, value_name = "N", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TRACE_RATE)))]
        rate: u32,
        /// End after so many frames
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Print a JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Do again what was recorded by `run --record`, and compare: no root, no network, no kernel;
    /// exit status 1 if anything differs
    Replay {
        /// The recording
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Stop after this turn; what the agent started with is turn 0
        #[arg(long, value_name = "TURN")]
        until: Option<u64>,
        /// Show a table as it is then, instead of the summary
        #[arg(long, value_name = "TABLE")]
        show: Option<Table>,
        /// With --show: only this bridge domain
        #[arg(long, value_name = "NAME", requires = "show")]
        bd: Option<BdName>,
        /// Print every turn as a JSON object a line, with what went in and what came out
        #[arg(long, conflicts_with = "show")]
        turns: bool,
        /// Replay what another version or architecture has recorded, as far as that goes
        #[arg(long)]
        force: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for problems of kernel, NICs, MTU, maps and BGP, and say what to do; exit status 1 if
    /// traffic does not flow as configured
    Doctor {
        /// Configuration file, for an agent that does not run
        /// [default: /etc/vtep/vtep.toml if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `1048576`, `512M`.
fn size(text: &str) -> Result<u64, String> {
    let unit = |power: u32| 1_u64 << (10 * power);
    let (number, unit) = match text.char_indices().next_back() {
        Some((end, 'K' | 'k')) => (&text[..end], unit(1)),
        Some((end, 'M' | 'm')) => (&text[..end], unit(2)),
        Some((end, 'G' | 'g')) => (&text[..end], unit(3)),
        _ => (text, 1),
    };
    let bytes = number.parse::<u64>().ok();
    bytes
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| *bytes >= MIN_LIMIT)
        .ok_or_else(|| "expected 1M or more, such as 512M or 4G".to_owned())
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(super) enum BdCommand {
    /// Make a bridge domain
    Add {
        /// Its name
        name: BdName,
        /// Its VNI, 1 to 16777215
        #[arg(long, value_name = "N")]
        vni: Vni,
        /// Another key of [[bd]] as in the configuration file, e.g. learning=false or
        /// rt_import='["65000:100"]'; may be given several times
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, Value)>,
    },
    /// Remove a bridge domain
    Del {
        /// Its name
        name: BdName,
    },
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(super) enum PortCommand {
    /// Add a port, or declare another endpoint of it
    Add {
        /// The device; one that does not exist yet is waited for
        #[arg(value_name = "DEV")]
        device: IfName,
        /// Bridge domain
        #[arg(long, value_name = "NAME")]
        bd: BdName,
        /// VLAN on the port, 1 to 4094; untagged by default
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4094))]
        vlan: Option<u16>,
        /// MAC of an endpoint behind the port
        #[arg(long, value_name = "MAC")]
        mac: Option<Mac>,
        /// Its IP address; may be given several times
        #[arg(long = "ip", value_name = "IP", requires = "mac")]
        ips: Vec<IpAddr>,
        /// The endpoint never moves
        #[arg(long, requires = "mac")]
        sticky: bool,
    },
    /// Remove a port, or one endpoint of it
    Del {
        /// The device
        #[arg(value_name = "DEV")]
        device: IfName,
        /// VLAN on the port, 1 to 4094; untagged by default
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4094))]
        vlan: Option<u16>,
        /// Only this endpoint
        #[arg(long, value_name = "MAC")]
        mac: Option<Mac>,
    },
}
