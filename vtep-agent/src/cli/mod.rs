//! The command line. Exit status 0: done; 1: failed; 2: usage. Errors are one line on stderr.

mod args;
mod replay;
mod tables;
mod usage;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Parser as _;
use serde_json::Value;

use crate::{
    config::{DEFAULT_CONFIG, DEFAULT_SOCKET, Explanation, Source},
    control::{self, Message, Request, RouteFamily, Table},
    daemon::{self, RecordTo},
    doctor::{self, Facts, Severity},
    observe,
    view::Status,
};
use args::{Args, BdCommand, Command, PortCommand};

/// Between two questions whether the agent is drained.
const DRAIN_POLL: Duration = Duration::from_millis(100);

/// Why a command ends otherwise than well.
enum Failure {
    /// Exit status 1.
    Failed(anyhow::Error),
    /// Exit status 2.
    Usage(String),
}

type Outcome = Result<(), Failure>;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let outcome = match Args::try_parse() {
        Ok(args) => run(args),
        Err(error) if !error.use_stderr() => print(&error.render().to_string()),
        Err(error) => Err(Failure::Usage(usage::one_line(&error))),
    };
    let (message, status) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => (format!("{error:#}"), 1),
        Err(Failure::Usage(message)) => (message, 2),
    };
    // Whoever closed stderr does not want to know.
    let _ = writeln!(io::stderr(), "vtep-agent: {}", message.replace('\n', "; "));
    ExitCode::from(status)
}

fn run(Args { command, socket }: Args) -> Outcome {
    let message = match command {
        Command::Run {
            config,
            log_level,
            log_format,
            record,
            record_limit,
        } => {
            observe::init_logs(log_level.as_deref(), log_format)
                .map_err(|error| Failure::Usage(error.to_string()))?;
            let limit = record_limit;
            let record = record.map(|file| RecordTo { file, limit });
            return Ok(run_daemon(config, socket, record)?);
        }
        Command::Replay {
            file,
            until,
            show,
            bd,
            turns,
            force,
            json,
        } => {
            let show = show.map(|table| (table, bd));
            let wanted = replay::Wanted {
                until,
                show,
                turns,
                json,
            };
            return replay::replay(&file, &wanted, force);
        }
        Command::Check { config, json } => return check(config, socket, json),
        Command::Show {
            what,
            bd,
            family,
            json,
        } => {
            let bd = bd.map(String::from);
            let message = Message::Show { what, bd, family };
            return show(&socket_path(socket), &message, json);
        }
        Command::Attach { nic, xdp } => Message::Attach {
            nic: nic.into(),
            xdp,
        },
        Command::Detach { nic } => Message::Detach { nic: nic.into() },
        Command::Bd(BdCommand::Add {
            name,
            vni,
            settings,
        }) => Message::BdAdd {
            name: name.into(),
            vni: vni.get(),
            settings: settings.into_iter().collect(),
        },
        Command::Bd(BdCommand::Del { name }) => Message::BdDel { name: name.into() },
        Command::Port(PortCommand::Add {
            device,
            bd,
            vlan,
            mac,
            ips,
            sticky,
        }) => Message::PortAdd {
            device: device.into(),
            bd: bd.into(),
            vlan,
            mac: mac.map(|mac| mac.to_string()),
            ips,
            sticky,
        },
        Command::Port(PortCommand::Del { device, vlan, mac }) => Message::PortDel {
            device: device.into(),
            vlan,
            mac: mac.map(|mac| mac.to_string()),
        },
        Command::Clear { what, bd } => Message::Clear {
            what,
            bd: bd.map(String::from),
        },
        Command::Reload => Message::Reload {},
        Command::Drain { time_s, no_wait } => {
            return drain(&socket_path(socket), time_s, no_wait);
        }
        Command::Trace {
            bd,
            mac,
            port,
            reason,
            drops,
            rate,
            count,
            json,
        } => {
            let message = Message::Trace {
                bd: bd.map(String::from),
                mac: mac.map(|mac| mac.to_string()),
                port: port.map(String::from),
                reason,
                drops,
                rate: Some(rate),
            };
            return trace(&socket_path(socket), &message, count, json);
        }
        Command::Doctor { config, json } => return doctor(config, &socket_path(socket), json),
    };
    call(&socket_path(socket), &message).map(drop)
}

fn run_daemon(
    file: PathBuf,
    socket: Option<PathBuf>,
    record: Option<RecordTo>,
) -> anyhow::Result<()> {
    let source = Source { file, socket };
    let (config, warnings) = source.load()?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    daemon::run(config, source, record)
}

fn check(file: PathBuf, socket: Option<PathBuf>, json: bool) -> Outcome {
    let (config, warnings) = Source { file, socket }.load()?;
    let explanation = Explanation::new(&config, &warnings);
    match json {
        true => print_json(&serde_json::to_value(explanation)?),
        false => print(&explanation.to_string()),
    }
}

fn show(socket: &Path, message: &Message, json: bool) -> Outcome {
    let data = call(socket, message)?;
    match message {
        _ if json => print_json(&data),
        Message::Show {
            family: Some(RouteFamily::Ipv4 | RouteFamily::Ipv6),
            ..
        } => print(&tables::unicast_routes(data)?),
        Message::Show { what, .. } => print(&tables::render(*what, data)?),
        _ => Ok(()),
    }
}

fn doctor(config: Option<PathBuf>, socket: &Path, json: bool) -> Outcome {
    let usual = Path::new(DEFAULT_CONFIG);
    let config = config.or_else(|| usual.exists().then(|| usual.to_owned()));
    let findings = doctor::examine(&Facts::gather(config.as_deref(), socket));
    match json {
        true => print_json(&serde_json::to_value(&findings)?)?,
        false if findings.is_empty() => print("no problems found\n")?,
        false => findings
            .iter()
            .try_for_each(|finding| print(&format!("{finding}\n")))?,
    }
    let errors = findings.iter().filter(|f| f.severity == Severity::Error);
    match errors.count() {
        0 => Ok(()),
        1 => Err(anyhow::anyhow!("1 error found").into()),
        count => Err(anyhow::anyhow!("{count} errors found").into()),
    }
}

/// Returns when no program is attached any more.
fn drain(socket: &Path, time_s: Option<u64>, no_wait: bool) -> Outcome {
    call(socket, &Message::Drain { time_s })?;
    if no_wait {
        return Ok(());
    }
    loop {
        let what = Table::Status;
        let (bd, family) = (None, None);
        let data = call(socket, &Message::Show { what, bd, family })?;
        let status: Status = serde_json::from_value(data)?;
        if status.state == "drained" {
            return Ok(());
        }
        let left = Duration::from_secs(status.remaining_s.unwrap_or_default());
        thread::sleep(left.clamp(DRAIN_POLL, Duration::from_secs(1)));
    }
}

/// A line for each frame, until there were enough of them or the reader goes away.
fn trace(socket: &Path, message: &Message, count: Option<u64>, json: bool) -> Outcome {
    Request::try_from(message.clone()).map_err(|error| Failure::Usage(error.to_string()))?;
    let (mut left, mut outcome) = (count, Ok(()));
    if left == Some(0) {
        return Ok(());
    }
    control::listen(socket, message, |frame| {
        let line = match json {
            true => format!("{frame}\n"),
            false => tables::traced(&frame),
        };
        let printed = io::stdout().write_all(line.as_bytes());
        left = left.map(|left| left.saturating_sub(1));
        let more = printed.is_ok() && left != Some(0);
        outcome = printed;
        more
    })?;
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot print").into())
        }
        _ => Ok(()),
    }
}

/// Asks the agent. A request that no agent could carry out is not even sent.
fn call(socket: &Path, message: &Message) -> Result<Value, Failure> {
    Request::try_from(message.clone()).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(control::call(socket, message)?)
}

fn socket_path(socket: Option<PathBuf>) -> PathBuf {
    socket.unwrap_or_else(|| DEFAULT_SOCKET.into())
}

fn print_json(value: &Value) -> Outcome {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// A reader that went away (`| head`) has seen enough.
fn print(text: &str) -> Outcome {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot print").into())
        }
        _ => Ok(()),
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests;
