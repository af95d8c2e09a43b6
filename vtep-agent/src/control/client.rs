use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use super::{Reply, VERSION, message::Message};

/// How long the agent may take: a reload of a big file is the slowest.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The agent did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("cannot connect to {}: {cause}; {}", socket.display(), remedy(cause))]
    Connect {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The connection broke.
    #[error("no answer from the agent at {}: {cause}", socket.display())]
    Broken {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It answered something that is no reply.
    #[error("{} does not speak the agent's protocol: {reason}", socket.display())]
    Protocol {
        /// The control socket.
        socket: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

/// Sends one request and waits for the reply's data.
///
/// # Errors
///
/// The agent is not there, or refuses.
pub fn call(socket: &Path, message: &Message) -> Result<Value, ClientError> {
    let stream = UnixStream::connect(socket).map_err(|cause| ClientError::Connect {
        socket: socket.to_owned(),
        cause,
    })?;
    let reply = exchange(&stream, message).map_err(|cause| ClientError::Broken {
        socket: socket.to_owned(),
        cause,
    })?;
    let protocol = |reason: String| ClientError::Protocol {
        socket: socket.to_owned(),
        reason,
    };
    let reply: Reply =
        serde_json::from_slice(&reply).map_err(|error| protocol(error.to_string()))?;
    match reply {
        Reply { ok: true, data, .. } => Ok(data.unwrap_or(Value::Null)),
        Reply {
            error: Some(error), ..
        } => Err(ClientError::Refused(error)),
        _ => Err(protocol("a refusal without a reason".to_owned())),
    }
}

fn exchange(mut stream: &UnixStream, message: &Message) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Versioned<'a> {
        version: u32,
        #[serde(flatten)]
        message: &'a Message,
    }

    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_vec(&Versioned {
        version: VERSION,
        message,
    })?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut reply)?;
    match reply.last() {
        Some(b'\n') => Ok(reply),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection was closed",
        )),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as root or in the socket's group",
        _ => "is the agent running? start it with `vtep-agent run --config FILE`",
    }
}
