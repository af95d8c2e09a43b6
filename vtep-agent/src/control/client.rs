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
    let stream = connect(socket)?;
    let reply =
        ask(&mut BufReader::new(&stream), message).map_err(|cause| ClientError::Broken {
            socket: socket.to_owned(),
            cause,
        })?;
    data_of(socket, &reply)
}

/// Sends one request and hands on what comes, for as long as it is wanted.
///
/// # Errors
///
/// The agent is not there, refuses, or ends.
pub fn listen(
    socket: &Path,
    message: &Message,
    mut each: impl FnMut(Value) -> bool,
) -> Result<(), ClientError> {
    let stream = connect(socket)?;
    let broken = |cause| ClientError::Broken {
        socket: socket.to_owned(),
        cause,
    };
    let mut replies = BufReader::new(&stream);
    data_of(socket, &ask(&mut replies, message).map_err(broken)?)?;
    // The next frame may be long in coming.
    stream.set_read_timeout(None).map_err(broken)?;
    loop {
        let reply = read_reply(&mut replies).map_err(broken)?;
        if !each(data_of(socket, &reply)?) {
            return Ok(());
        }
    }
}

fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket).map_err(|cause| ClientError::Connect {
        socket: socket.to_owned(),
        cause,
    })
}

fn data_of(socket: &Path, reply: &[u8]) -> Result<Value, ClientError> {
    let protocol = |reason: String| ClientError::Protocol {
        socket: socket.to_owned(),
        reason,
    };
    let reply: Reply =
        serde_json::from_slice(reply).map_err(|error| protocol(error.to_string()))?;
    match reply {
        Reply { ok: true, data, .. } => Ok(data.unwrap_or(Value::Null)),
        Reply {
            error: Some(error), ..
        } => Err(ClientError::Refused(error)),
        _ => Err(protocol("a refusal without a reason".to_owned())),
    }
}

/// The reply to a request. An agent that refuses the connection says why and hangs up without having
/// read anything, perhaps before the request is written.
fn ask(replies: &mut BufReader<&UnixStream>, message: &Message) -> io::Result<Vec<u8>> {
    match request(replies.get_ref(), message) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            read_reply(replies).map_err(|_| error)
        }
        written => written.and_then(|()| read_reply(replies)),
    }
}

fn request(mut stream: &UnixStream, message: &Message) -> io::Result<()> {
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
    stream.write_all(&line)
}

fn read_reply(replies: &mut BufReader<&UnixStream>) -> io::Result<Vec<u8>> {
    let mut reply = Vec::new();
    replies.read_until(b'\n', &mut reply)?;
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::control::message::Table;

    /// Who is refused before it has asked learns the reason all the same.
    #[test]
    fn a_refusal_before_the_request() {
        let show = Message::Show {
            what: Table::Bds,
            bd: None,
            family: None,
        };
        let refused = |reply: &[u8]| {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(reply).unwrap();
            drop(theirs);
            ask(&mut BufReader::new(&ours), &show)
        };
        assert_eq!(refused(b"no\n").unwrap(), b"no\n");
        let silent = refused(b"").unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::BrokenPipe);
    }
}
