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

use super::{MAX_REQUEST, Reply, Request};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection may be silent, or refuse to take its reply.
const IDLE: Duration = Duration::from_secs(60);

/// A request on its way to the daemon, and where its answer goes.
pub type Call = (Request, oneshot::Sender<Result<Value, String>>);

/// The control socket, bound. Dropping it removes the socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    socket: SocketFile,
}

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers on it.
    #[error("another agent is running on {}; stop it, or set another vtep.socket", .0.display())]
    InUse(PathBuf),
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
    /// Listens on `path`, mode 0660. A socket that nobody answers on is left over and replaced.
    ///
    /// # Errors
    ///
    /// Another agent answers there, or the path cannot be used.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
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
        Ok(Self { listener, socket })
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
            let calls = calls.clone();
            match slots.clone().try_acquire_owned() {
                Ok(slot) => tokio::spawn(async move {
                    serve(stream, calls).await;
                    drop(slot);
                }),
                Err(_) => tokio::spawn(async move {
                    let (_, mut write) = stream.into_split();
                    let refusal = format!("more than {MAX_CONNECTIONS} connections, close some");
                    send(&mut write, Err(refusal)).await;
                }),
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
        return Err(error(in_use));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(error)
        }
        Err(_) => Err(error(in_use)),
    }
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
        let result = match Request::parse(&line) {
            Ok(request) => ask(&calls, request).await,
            Err(error) => Err(error.to_string()),
        };
        if !send(&mut write, result).await {
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

async fn ask(calls: &mpsc::Sender<Call>, request: Request) -> Result<Value, String> {
    let (answer, answered) = oneshot::channel();
    let stopping = || "the agent is stopping".to_owned();
    calls
        .send((request, answer))
        .await
        .map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())?
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
    matches!(timeout(IDLE, write.write_all(&line)).await, Ok(Ok(())))
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
