use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{MAX_REQUEST, Reply, Request, access::Access};
use crate::core::{PIECE, Piece, Rows};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection may be silent, or refuse to take its reply.
const IDLE: Duration = Duration::from_secs(60);

/// What the daemon is asked, and where its answer goes. Each is one turn of its loop.
#[derive(Debug)]
pub enum Call {
    /// A request.
    Request(Request, oneshot::Sender<Result<Answer, String>>),
    /// What there is to say of some of the rows of an earlier answer.
    Piece(Rows, oneshot::Sender<Piece>),
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole(Value),
    /// Rows, to be asked for piece by piece.
    Rows(Rows),
    /// A reply without data, then one for each of these, for as long as the client listens.
    Lines(mpsc::Receiver<Value>),
}

/// The control socket, bound. Dropping it removes the socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    socket: SocketFile,
    access: Access,
}

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers on it.
    #[error("another agent is running on {}; stop it, or set another vtep.socket", .0.display())]
    InUse(PathBuf),
    /// Something else has that name; it is left alone.
    #[error("{} is there and no socket; remove it, or set another vtep.socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {}: {cause}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl Server {
    /// Listens on `path`, mode 0660, for root, our user, and a group: a name or a number, our own by
    /// default. A socket that nobody answers on is left over and replaced.
    ///
    /// # Errors
    ///
    /// Another agent answers there, the path cannot be used, or there is no such group.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, BindError> {
        let error = |cause| BindError::Io {
            path: path.to_owned(),
            cause,
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(error)?;
        }
        let listener = match UnixListener::bind(path) {
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
                remove_left_over(path, cause)?;
                UnixListener::bind(path)
            }
            other => other,
        }
        .map_err(error)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(error)?;
        let socket = SocketFile::new(path).map_err(error)?;
        let access = Access::of(path, group).map_err(error)?;
        Ok(Self {
            listener,
            socket,
            access,
        })
    }

    /// Serves until the other end of `calls` is gone.
    pub async fn run(self, calls: mpsc::Sender<Call>) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = calls.closed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors: they come back when connections end.
                    tracing::warn!("control socket {}: {error}", self.socket.path.display());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if let Err(refused) = self.access.check(&stream) {
                tracing::warn!("control socket: {refused}");
                tokio::spawn(refuse(stream, refused.to_string()));
                continue;
            }
            let calls = calls.clone();
            match slots.clone().try_acquire_owned() {
                Ok(slot) => tokio::spawn(async move {
                    serve(stream, calls).await;
                    drop(slot);
                }),
                Err(_) => {
                    let refusal = format!("more than {MAX_CONNECTIONS} connections, close some");
                    tokio::spawn(refuse(stream, refusal))
                }
            };
        }
    }
}

/// Removes a socket that nobody answers on; anything else that is there stays, and is the error
/// that `in_use` was.
fn remove_left_over(path: &Path, in_use: io::Error) -> Result<(), BindError> {
    let error = |cause| BindError::Io {
        path: path.to_owned(),
        cause,
    };
    let is_socket = fs::symlink_metadata(path).is_ok_and(|now| now.file_type().is_socket());
    if !is_socket {
        return Err(BindError::NoSocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(error)
        }
        Err(_) => Err(error(in_use)),
    }
}

/// Says why, and hangs up.
async fn refuse(stream: UnixStream, reason: String) {
    let (_, mut write) = stream.into_split();
    send(&mut write, Err(reason)).await;
}

/// One connection: replies come in the order of the requests.
async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let line = match timeout(IDLE, read_line(&mut read)).await {
            Err(_) | Ok(Line::End) => return,
            Ok(Line::TooLong) => {
                let refusal = format!("a request has at most {MAX_REQUEST} bytes");
                send(&mut write, Err(refusal)).await;
                return;
            }
            Ok(Line::Complete(line)) => line,
        };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match Request::parse(&line) {
            Ok(request) => ask(&calls, |answer| Call::Request(request, answer)).await,
            Err(error) => Some(Err(error.to_string())),
        };
        let sent = match answer {
            None => send(&mut write, Err("the agent is stopping".to_owned())).await,
            Some(Ok(Answer::Rows(rows))) => send_rows(&mut write, &calls, rows).await,
            Some(Ok(Answer::Lines(lines))) => {
                // Nothing else comes on this connection.
                return send_lines(&mut read, &mut write, lines).await;
            }
            Some(Ok(Answer::Whole(data))) => send(&mut write, Ok(data)).await,
            Some(Err(error)) => send(&mut write, Err(error)).await,
        };
        if !sent {
            return;
        }
    }
}

enum Line {
    Complete(Vec<u8>),
    TooLong,
    /// The client is gone, perhaps in the middle of a line.
    End,
}

async fn read_line(read: &mut BufReader<OwnedReadHalf>) -> Line {
    let mut line = Vec::new();
    let limit = MAX_REQUEST as u64;
    match read.take(limit).read_until(b'\n', &mut line).await {
        Ok(_) if line.last() == Some(&b'\n') => Line::Complete(line),
        Ok(length) if length == MAX_REQUEST => Line::TooLong,
        Ok(_) | Err(_) => Line::End,
    }
}

/// `None` when the daemon is stopping.
async fn ask<T>(
    calls: &mpsc::Sender<Call>,
    call: impl FnOnce(oneshot::Sender<T>) -> Call,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    calls.send(call(answer)).await.ok()?;
    answered.await.ok()
}

/// Until the client hangs up, which is all that it can say, or the daemon does.
async fn send_lines(
    read: &mut BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    mut lines: mpsc::Receiver<Value>,
) {
    if !send(write, Ok(Value::Null)).await {
        return;
    }
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = read.read_u8() => return,
        };
        let Some(line) = line else {
            return;
        };
        if !send(write, Ok(line)).await {
            return;
        }
    }
}

/// One reply, written as it comes; the daemon is asked for the next piece when the client has taken the
/// one before. Whether the client took it all.
async fn send_rows(write: &mut OwnedWriteHalf, calls: &mpsc::Sender<Call>, mut rows: Rows) -> bool {
    // On another thread: this one is the daemon's.
    let sorted = tokio::task::spawn_blocking(move || {
        rows.sort();
        rows
    });
    let Ok(mut rows) = sorted.await else {
        return false;
    };
    let sent = send_pieces(write, calls, &mut rows).await;
    // To let go of many keys takes its time, too.
    tokio::task::spawn_blocking(move || drop(rows));
    sent
}

async fn send_pieces(
    write: &mut OwnedWriteHalf,
    calls: &mpsc::Sender<Call>,
    rows: &mut Rows,
) -> bool {
    let mut text = br#"{"ok":true,"data":["#.to_vec();
    let mut first = true;
    while let Some(keys) = rows.take(PIECE) {
        let Some(piece) = ask(calls, |answer| Call::Piece(keys, answer)).await else {
            return false;
        };
        if let Err(error) = append(&mut text, &piece, &mut first) {
            tracing::error!("control reply: {error}");
            return false;
        }
        if !write_all(write, &text).await {
            return false;
        }
        text.clear();
    }
    text.extend(b"]}\n");
    write_all(write, &text).await
}

/// Adds rows to the elements of a JSON array.
fn append(text: &mut Vec<u8>, piece: &Piece, first: &mut bool) -> serde_json::Result<()> {
    let array = serde_json::to_vec(piece)?;
    let elements = array
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    let elements = elements.unwrap_or_default();
    if elements.is_empty() {
        return Ok(());
    }
    if !std::mem::take(first) {
        text.push(b',');
    }
    text.extend(elements);
    Ok(())
}

/// Whether the client took it.
async fn send(write: &mut OwnedWriteHalf, result: Result<Value, String>) -> bool {
    let mut line = match serde_json::to_vec(&Reply::from(result)) {
        Ok(line) => line,
        Err(error) => {
            tracing::error!("control reply: {error}");
            return false;
        }
    };
    line.push(b'\n');
    write_all(write, &line).await
}

async fn write_all(write: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
    matches!(timeout(IDLE, write.write_all(bytes)).await, Ok(Ok(())))
}

/// Removes the socket when dropped, unless another one has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            inode: fs::symlink_metadata(path)?.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|now| now.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}
